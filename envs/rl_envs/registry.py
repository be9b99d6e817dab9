"""Environments by id, kept in Gymnasium's own registry."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, overload

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from rl_envs.core import TextEnv
from rl_envs.tasks import DataError

ENTRY_POINT_GROUP = "agent_rl.envs"
"""A package lists its environments here as ``"text/Name-v0" = "package.module:Class"``."""

_FILE_NAMESPACE = "file/"  # classes made from a file that registers nothing

EnvClass = TypeVar("EnvClass", bound=Callable[..., TextEnv])

_ids: dict[str, str | Callable[..., TextEnv]] = {}  # in order of registration


@overload
def register(id: str, entry: None = None, **kwargs: Any) -> Callable[[EnvClass], EnvClass]: ...
@overload
def register(id: str, entry: str | Callable[..., TextEnv], **kwargs: Any) -> None: ...
def register(id: str, entry: Any = None, **kwargs: Any) -> Any:  # noqa: A002  # Gymnasium's name
    """Registers an environment, as a class decorator or by a call.

    ``@register("text/Name-v0", option=value)`` above a class, or
    ``register("text/Name-v0", "package.module:Class", option=value)``, which imports nothing.

    Args:
        id: ``namespace/Name-vN``.
        entry: ``module:attribute`` or a class; None gives the decorator.
        kwargs: Options that the environment is made with unless ``make`` is told otherwise.
    """
    if entry is None:

        def decorate(cls: EnvClass) -> EnvClass:
            register(id, cls, **kwargs)
            return cls

        return decorate
    where = entry if isinstance(entry, str) else _import_string(entry)
    if _ids.get(id) == where and gymnasium.registry[id].kwargs == kwargs:
        return None  # the same module read again, as a notebook does
    gymnasium.register(id=id, entry_point=where, kwargs=kwargs)
    _ids[id] = where
    return None


def _import_string(cls: Callable[..., TextEnv]) -> str | Callable[..., TextEnv]:
    """``module:name`` for a top-level class, so that a spec pickles; else the class itself."""
    name = cls.__qualname__
    return f"{cls.__module__}:{name}" if "." not in name else cls


@cache
def _read_entry_points() -> None:
    """Registers what installed packages offer; imports none of them."""
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name not in _ids:
            register(point.name, point.value)


def ids() -> list[str]:
    """Every registered id, sorted."""
    _read_entry_points()
    return sorted(env_id for env_id in _ids if not env_id.startswith(_FILE_NAMESPACE))


def make(id_or_path: str, **options: Any) -> TextEnv:
    """The bare environment of an id or of a Python file; no Gymnasium wrapper around it.

    Args:
        id_or_path: ``text/Name-v0``; or ``path/to/file.py:Class``; or ``path/to/file.py``, which
            must register exactly one environment or define exactly one ``TextEnv``.
        options: Constructor options.

    Raises:
        DataError: No such id, file, class or option.
    """
    env_id = _id_of_file(id_or_path) if _is_file(id_or_path) else id_or_path
    _read_entry_points()
    spec = gymnasium.registry.get(env_id)
    if spec is None or env_id not in _ids:
        folded = {known.casefold(): known for known in _ids}
        near = difflib.get_close_matches(env_id.casefold(), folded, n=3, cutoff=0.4)
        close = [folded[name] for name in near]
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(ids())}"
        raise DataError(f"no environment {env_id!r}; {hint}")
    options = {**spec.kwargs, **options}
    creator = _creator(spec)
    _check_options(env_id, creator, options)
    env = creator(**options)
    env.spec = EnvSpec(
        id=spec.id,
        entry_point=spec.entry_point,
        nondeterministic=spec.nondeterministic,
        order_enforce=False,
        disable_env_checker=True,
        kwargs=options,
    )
    return env


def _creator(spec: EnvSpec) -> Callable[..., TextEnv]:
    if not isinstance(spec.entry_point, str):
        return spec.entry_point  # type: ignore[return-value]
    try:
        return load_env_creator(spec.entry_point)  # type: ignore[return-value]
    except (ImportError, AttributeError) as error:
        raise DataError(f"{spec.id}: cannot load {spec.entry_point}: {error}") from error


def option_names(creator: Callable[..., TextEnv]) -> dict[str, Any]:
    """The constructor options of an environment and their defaults, base classes included."""
    found: dict[str, Any] = {}
    for cls in getattr(creator, "__mro__", (creator,)):
        init = vars(cls).get("__init__") if isinstance(cls, type) else cls
        if not inspect.isfunction(init):
            continue
        parameters = inspect.signature(init).parameters.values()
        for parameter in parameters:
            if parameter.name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
                found.setdefault(parameter.name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return found


def _check_options(env_id: str, creator: Callable[..., TextEnv], options: dict[str, Any]) -> None:
    known = option_names(creator)
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(known))}"
            raise DataError(f"{env_id} has no option {name!r}; {hint}")


def _is_file(id_or_path: str) -> bool:
    return id_or_path.endswith(".py") or ".py:" in id_or_path


def _id_of_file(place: str) -> str:
    """The id of the environment in a file, registering it where the file did not."""
    path, _, class_name = place.rpartition(":") if ".py:" in place else (place, "", "")
    module = _import_file(Path(path))
    classes = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, TextEnv)
        if value.__module__ == module.__name__
    }
    registered = {
        env_id: where
        for env_id, where in _ids.items()
        if (where.split(":")[0] if isinstance(where, str) else where.__module__) == module.__name__
        if not env_id.startswith(_FILE_NAMESPACE)
    }
    if class_name:
        if class_name not in classes:
            raise DataError(f"{path} has no environment class {class_name!r}: {_names(classes)}")
    elif len(registered) == 1:
        return next(iter(registered))
    elif len(classes) != 1:
        raise DataError(f"{path}: name one, as in {path}:ClassName: {_names(classes)}")
    name = class_name or next(iter(classes))
    where = f"{module.__name__}:{name}"
    env_id = next(
        (key for key, value in registered.items() if value == where), f"{_FILE_NAMESPACE}{name}-v0"
    )
    if _ids.get(env_id) != where:
        gymnasium.registry.pop(env_id, None)  # another file's class of the same name
        register(env_id, where)
    return env_id


def _names(classes: dict[str, type]) -> str:
    return f"it has {', '.join(classes)}" if classes else "it defines no TextEnv"


def _import_file(path: Path) -> ModuleType:
    """The module of a file, imported once per resolved path."""
    if not path.is_file():
        raise DataError(f"no file {path}")
    digest = hashlib.blake2b(str(path.resolve()).encode(), digest_size=4).hexdigest()
    name = f"rl_envs_file_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a .py file always has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, SyntaxError):  # it names the file that was read, or one it imports
            where = f"{error.filename or path}, line {error.lineno or 1}"
            raise DataError(f"{where}: no valid Python: {error.msg}") from error
        raise
    return module


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a listing.

    Attributes:
        id: The registered id.
        description: The first line of the class's docstring, or why it could not be made.
        turns: Actions per episode at most.
        verifier: What judges.
        source: Where tasks come from.
        size: Tasks in the train split; ``endless``; ``on load`` where reading data would be needed.
        splits: The splits.
    """

    id: str
    description: str
    turns: int = 0
    verifier: str = ""
    source: str = ""
    size: str = ""
    splits: tuple[str, ...] = ()


def listing() -> list[Listed]:
    """Every registered environment with what it is, without reading any data set."""
    return [_listed(env_id) for env_id in ids()]


def _listed(env_id: str) -> Listed:
    try:
        env = make(env_id)
        size = "on load" if env.reads_data else str(env.tasks.size or "endless")
    except Exception as error:  # one broken plug-in must not hide the others
        return Listed(env_id, f"cannot be made: {error}")
    lines = (inspect.getdoc(type(env)) or "").splitlines()
    judge = env.verifier
    if judge is None:
        verifier = "its own"
    else:
        name = judge.get("name") if isinstance(judge, dict) else judge
        verifier = name if isinstance(name, str) else getattr(name, "__name__", type(name).__name__)
    return Listed(
        id=env_id,
        description=lines[0] if lines else "",
        turns=env.max_turns,
        verifier=verifier,
        source=env.source,
        size=size,
        splits=env.splits,
    )
