"""Verifiers by name: ``register`` one, ``make`` one, list ``names``."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, TypeVar, overload

from rl_verifiers.score import Verifier, VerifierError

ENTRY_POINT_GROUP = "agent_rl.verifiers"

Factory = Callable[..., Verifier]
F = TypeVar("F", bound=Factory)

_BUILT_IN = {
    "choice": "rl_verifiers.text:choice",
    "code": "rl_verifiers.code:code_verifier",
    "contains": "rl_verifiers.text:contains",
    "exact": "rl_verifiers.text:exact",
    "f1": "rl_verifiers.overlap:token_f1",
    "format": "rl_verifiers.format:tag_format",
    "fuzzy": "rl_verifiers.overlap:fuzzy",
    "instructions": "rl_verifiers.instructions:instructions_verifier",
    "json": "rl_verifiers.text:json_equal",
    "json_schema": "rl_verifiers.schema:json_schema",
    "judge": "rl_verifiers.judge:judge",
    "language": "rl_verifiers.language:language_share",
    "length": "rl_verifiers.length:length_reward",
    "math": "rl_verifiers.math:math_verifier",
    "quotes": "rl_verifiers.quotes:quotes_verifier",
    "regex": "rl_verifiers.text:regex",
    "repetition": "rl_verifiers.repetition:repetition_penalty",
    # A text, no import: the layers stay as they are, and a listing needs no torch.
    "reward_model": "agent_rl.reward_models.verifier:reward_model",
    "rouge": "rl_verifiers.overlap:rouge",
    "sql": "rl_verifiers.sql:sql_verifier",
    "remote": "rl_verifiers.remote:remote",
    "steps": "rl_verifiers.process:process_steps",
    "tool_call": "rl_verifiers.tool_calls:tool_call",
    "trl": "rl_verifiers.interop_trl:trl_verifier",
    "verl": "rl_verifiers.interop_verl:verl_verifier",
}
_registered: dict[str, str | Factory] = dict(_BUILT_IN)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing: a verifier's name, its one-line description and its signature."""

    name: str
    description: str
    signature: str


@overload
def register(name: str, target: str) -> None: ...
@overload
def register(name: str, target: None = None) -> Callable[[F], F]: ...
def register(name: str, target: str | None = None) -> Callable[[F], F] | None:
    """Register a factory, a callable whose keyword options give a verifier.

    Call it as ``register("mine", "my_package.module:factory")``, which imports nothing until the
    verifier is made, or use it as a decorator, ``@register("mine")``. A distribution can instead
    declare an entry point in the group ``agent_rl.verifiers``.

    Raises:
        VerifierError: The name is taken by another target, or the target is not ``module:attr``.
    """
    if target is None:

        def decorate(factory: F) -> F:
            _add(name, factory)
            return factory

        return decorate
    if target.count(":") != 1 or not all(target.split(":")):
        raise VerifierError(f"verifier {name!r}: target {target!r} is not of the form module:attr")
    _add(name, target)
    return None


def make(name: str, **options: Any) -> Verifier:
    """Build the verifier registered as ``name``.

    Raises:
        VerifierError: No such name, an option that it does not take, or a target that cannot be
            imported.
    """
    factory = _factory(name)
    parameters = inspect.signature(factory).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    unknown = [option for option in options if option not in parameters and not takes_any]
    if unknown:
        listed = ", ".join(parameters) or "none"
        raise VerifierError(
            f"verifier {name!r}: no option {unknown[0]!r}{_meant(unknown[0], parameters)} "
            f"its options: {listed}"
        )
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        raise VerifierError(
            f"verifier {name!r}: {error}; it takes {name}{inspect.signature(factory)}"
        ) from None
    return factory(**options)


def _meant(wrong: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ";"


def names() -> list[str]:
    """Every name that :func:`make` knows, sorted, entry points of installed packages included."""
    return sorted({**_entry_points(), **_registered})


def describe(name: str) -> Entry:
    """What a listing shows of ``name``; imports its module."""
    factory = _factory(name)
    lines = (inspect.getdoc(factory) or "").splitlines()
    return Entry(name, lines[0] if lines else "", f"{name}{inspect.signature(factory)}")


def _add(name: str, target: str | Factory) -> None:
    if _registered.get(name, target) != target:
        raise VerifierError(f"verifier {name!r} is registered already; choose another name")
    _registered[name] = target


@cache
def _entry_points() -> dict[str, str]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - it costs a third of our import

    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}


def _factory(name: str) -> Factory:
    target = _registered.get(name) or _entry_points().get(name)
    if target is None:
        known = names()
        listed = ", ".join(known)
        raise VerifierError(f"unknown verifier {name!r}{_meant(name, known)} known: {listed}")
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    try:
        factory: Factory = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise VerifierError(f"verifier {name!r}: cannot import {target!r}: {error}") from error
    return factory
