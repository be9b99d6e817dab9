"""Which verifier: a name, a YAML file, a function of the user's, or an environment's own."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import rl_verifiers
from agent_rl.errors import UserError
from rl_verifiers import Verifier
from rl_verifiers.targets import run_file

COMBINATORS = ("weighted", "all_of", "any_of", "gate", "length_penalty")
_SUFFIXES = (".yaml", ".yml")
_registered_in: dict[str, list[str]] = {}
"""The verifiers that a module of a user's file registered, by the module's name."""


@dataclass(frozen=True)
class VerifierSpec:
    """What a worker builds its verifier from; plain data.

    Attributes:
        word: What stands behind ``--verifier``.
        options: Of the verifier, or of the environment.
        digest: Changes with the word, the options, the file it names and our own verifiers; not
            with what that file imports.
    """

    word: str
    options: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""


def specify(word: str, options: Mapping[str, Any]) -> VerifierSpec:
    """The specification of a verifier, with its digest.

    Raises:
        UserError: It names a file that cannot be read.
    """
    parts: list[Any] = [word, options, _sources()]
    path = _file(word)
    if path is not None:
        try:
            parts.append(hashlib.blake2b(path.read_bytes()).hexdigest())
        except OSError as error:
            raise UserError(f"--verifier: cannot read {path}: {error.strerror}") from error
    text = json.dumps(parts, sort_keys=True, default=str)
    return VerifierSpec(word, dict(options), hashlib.blake2b(text.encode()).hexdigest()[:32])


def build(spec: VerifierSpec) -> Verifier:
    """The verifier.

    Raises:
        UserError: A configuration that is none, or a file without such a function.
        VerifierError: No such verifier or option.
        DataError: No such environment or option.
    """
    word, options = spec.word, spec.options
    path = _file(word)
    if path is not None and path.suffix in _SUFFIXES:
        return _from_config(path, options)
    if path is not None:
        return _from_file(path, word.rpartition(":")[2] if ".py:" in word else "", options)
    if "/" in word and word not in rl_verifiers.names():
        import rl_envs  # noqa: PLC0415 - it imports gymnasium

        env = rl_envs.make(word, **options)
        return env.judging
    return rl_verifiers.make(word, **options)


def from_tree(tree: Any, where: str) -> Verifier:
    """A verifier from plain data.

    ``math``; ``{name: math, strict: false}`` (a name is whatever :func:`build` takes); or a
    combination, ``{weighted: {format: {name:
    format, tags: [think, answer], weight: 0.2}, answer: {name: math, weight: 0.8}}}``.

    Args:
        tree: The data.
        where: Its dotted name, for messages.

    Raises:
        UserError: It is none of these.
        VerifierError: No such verifier or option.
    """
    if isinstance(tree, str):
        return build(VerifierSpec(tree))
    if not isinstance(tree, Mapping):
        raise UserError(f"{where} is {tree!r:.60}; it must be a verifier's name or a mapping")
    combinator = [key for key in COMBINATORS if key in tree]
    if combinator and len(tree) == 1:
        return _combined(combinator[0], tree[combinator[0]], f"{where}.{combinator[0]}")
    if not isinstance(tree.get("name"), str):
        raise UserError(f"{where} needs name, or only one of {', '.join(COMBINATORS)}")
    options = {key: value for key, value in tree.items() if key != "name"}
    return build(VerifierSpec(tree["name"], options))


def _combined(kind: str, tree: Any, where: str) -> Verifier:
    if not isinstance(tree, Mapping):
        raise UserError(f"{where} must be a mapping")
    if kind == "length_penalty":
        options = {key: value for key, value in tree.items() if key != "verifier"}
        inner = from_tree(tree.get("verifier"), f"{where}.verifier")
        return _called(rl_verifiers.length_penalty, where, inner, **options)
    if kind == "gate":
        parts = {key: from_tree(tree.get(key), f"{where}.{key}") for key in ("condition", "then")}
        if set(tree) != set(parts):
            raise UserError(f"{where} takes condition and then, and nothing else")
        return _called(rl_verifiers.gate, where, **parts)
    if kind != "weighted":
        built = {str(name): from_tree(part, f"{where}.{name}") for name, part in tree.items()}
        return _called(getattr(rl_verifiers, kind), where, built)
    weights = {}
    for name, part in tree.items():
        if not isinstance(part, Mapping) or not isinstance(part.get("weight"), int | float):
            raise UserError(f"{where}.{name} needs a weight, such as weight: 0.5")
        rest = {key: value for key, value in part.items() if key != "weight"}
        weights[str(name)] = (from_tree(rest, f"{where}.{name}"), float(part["weight"]))
    return _called(rl_verifiers.weighted, where, weights)


def _called(function: Callable[..., Verifier], where: str, *given: Any, **named: Any) -> Verifier:
    try:
        inspect.signature(function).bind(*given, **named)
    except TypeError as error:
        raise UserError(f"{where}: {error}") from None
    return function(*given, **named)


def _from_config(path: Path, options: Mapping[str, Any]) -> Verifier:
    from agent_rl.loading import read  # noqa: PLC0415 - it imports the settings of all stages

    tree = read(str(path))
    if options:
        tree = {**tree, **options}
    return from_tree(tree, str(path))


def _from_file(path: Path, name: str, options: Mapping[str, Any]) -> Verifier:
    """A function ``(completion, row)``, a verifier, or a factory of one, in a file."""
    module = _module(path)
    registered = _registered_in[module.__name__]
    own = {
        key: value
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
        if not key.startswith("_") and not isinstance(value, type)
    }
    if not name and len(registered) == 1:
        return rl_verifiers.make(registered[0], **options)
    if not name and len(own) != 1:
        raise UserError(f"{path}: name one, as in {path}:NAME; it has {', '.join(own) or 'none'}")
    name = name or next(iter(own))
    found = getattr(module, name, None)
    if name in rl_verifiers.names() and found is None:
        return rl_verifiers.make(name, **options)
    if not callable(found):
        raise UserError(f"{path} has no function {name!r}; it has {', '.join(own) or 'none'}")
    return _as_verifier(found, f"{path}:{name}", options)


def _as_verifier(found: Any, where: str, options: Mapping[str, Any]) -> Verifier:
    if hasattr(found, "ascore"):
        return found
    try:
        inspect.signature(found).bind("", {})
    except TypeError:
        pass
    else:
        if options:
            raise UserError(f"{where} is a verifier itself and takes no options")
        return rl_verifiers.as_verifier(found)
    return _called(found, where, **options)


def _module(path: Path) -> ModuleType:
    """The module of a file, and what it registered when it was run."""
    before = set(rl_verifiers.names())
    module = run_file(str(path.resolve()))
    if module.__name__ not in _registered_in:
        _registered_in[module.__name__] = sorted(set(rl_verifiers.names()) - before)
    return module


def _file(word: str) -> Path | None:
    if word.endswith((".py", *_SUFFIXES)):
        return Path(word)
    return Path(word.rpartition(":")[0]) if ".py:" in word else None


@cache
def _sources() -> str:
    """Changes with our own verifiers, whatever the version says."""
    folder = Path(rl_verifiers.__file__).parent
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def option_tree(overrides: Sequence[str]) -> dict[str, Any]:
    """``--verifier.a.b value`` words as a tree of options.

    Raises:
        UserError: A word that is not an option of the verifier.
    """
    from agent_rl.overrides import parse_overrides, put  # noqa: PLC0415

    options: dict[str, Any] = {}
    for key, value in parse_overrides(overrides):
        name = key.removeprefix("verifier.")
        if name == key:
            raise UserError(f"no option --{key}; options of the verifier are --verifier.{key} ...")
        put(options, name.replace("-", "_"), value)
    return options
