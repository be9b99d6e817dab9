"""What people name in text: a verifier by name and options, a function by where it stands."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from rl_verifiers.registry import make
from rl_verifiers.score import Verifier, VerifierError


def built(verifier: object, options: Mapping[str, Any]) -> Verifier:
    """The verifier that is meant: by name, as ``{"name": ..., **options}``, or the object itself.

    Raises:
        VerifierError: It is none of these, options are given for an object, or as for
            :func:`~rl_verifiers.registry.make`.
    """
    if isinstance(verifier, Mapping):
        options = {**verifier, **options}
        verifier = options.pop("name", None)
    if isinstance(verifier, str):
        return make(verifier, **options)
    if not callable(verifier):
        raise VerifierError(
            f"a verifier is a registered name, {{'name': ..., **options}} or a callable, "
            f"not {verifier!r:.80}"
        )
    if options:
        raise VerifierError(
            f"options ({', '.join(options)}) belong to a verifier that is given by name; "
            f"{verifier!r:.80} has its own already"
        )
    return verifier


@cache
def load_target(target: str) -> Any:
    """What stands at ``module:attribute`` or ``path/to/file.py:attribute``.

    The attribute may be dotted. A file is run once in a process.

    Raises:
        VerifierError: The text has another form, or nothing is there; lists what is.
    """
    place, _, attribute = target.rpartition(":") if isinstance(target, str) else ("", "", "")
    if not place or not attribute:
        raise VerifierError(f"target {target!r} is not of the form module:attribute or file.py:...")
    found: Any = run_file(place) if place.endswith(".py") else _import(place)
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise VerifierError(f"target {target!r}: {_missing(found, name)}")
        found = getattr(found, name)
    return found


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise VerifierError(
            f"cannot import {name!r}: {type(error).__name__}: {error}; is it installed, or in a "
            "folder of PYTHONPATH?"
        ) from error


@cache
def run_file(path: str) -> ModuleType:
    """The module of a Python file, run once in a process.

    Raises:
        VerifierError: No such file, no Python, or what it raised.
    """
    file = Path(path).resolve()
    digest = hashlib.sha256(str(file).encode("utf-8", "surrogatepass")).hexdigest()
    name = f"_rl_verifiers_target_{digest[:12]}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise VerifierError(f"no Python file {path!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        if isinstance(error, SyntaxError):
            where = f"{path}, line {error.lineno or 1}"
            raise VerifierError(f"{where}: no Python: {error.msg}") from error
        raise VerifierError(f"{path}: {type(error).__name__}: {error}") from error
    return module


def _missing(owner: Any, name: str) -> str:
    where = getattr(owner, "__name__", type(owner).__name__)
    names = [known for known in dir(owner) if not known.startswith("_")]
    return f"{where.removeprefix('_rl_verifiers_target_')} has no {name!r}{close_to(name, names)}"


def close_to(name: str, names: Sequence[str]) -> str:
    """``; did you mean ...?`` where a known name is like it; else the names that there are."""
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are {', '.join(names[:20])}" if names else ""


def plain(value: Any) -> Any:
    """A copy of options in dicts and lists, where a configuration library has its own types."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return value
