"""The judge's options that are more than a number or a name. All raise VerifierError."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rl_verifiers.registry import make
from rl_verifiers.score import Verifier, VerifierError


def named_of(name: str, given: Any) -> dict[str, str]:
    """Texts by name; those of a list are ``1``, ``2``, ..."""
    if isinstance(given, list | tuple):
        given = {f"{name[:-1]}_{number}": text for number, text in enumerate(given, start=1)}
    usable = isinstance(given, Mapping) and given
    texts = [*given, *given.values()] if usable else []
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise VerifierError(f"judge: {name} must be texts by name, at least one")
    if any("." in key or "\n" in key for key in given):
        raise VerifierError(f"judge: a name of {name} has no full stop and no line break")
    return dict(given)


def scale_of(scale: Any) -> tuple[float, float]:
    """The lowest and the highest score; by default 1 and 10."""
    low, high = (1, 10) if scale is None else scale if _is_pair(scale) else (1, 1)
    numbers = all(
        isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n)
        for n in (low, high)
    )
    if not numbers or not low < high:
        raise VerifierError(
            f"judge: scale is {scale!r:.40}; it must be two numbers such as [1, 10]"
        )
    return float(low), float(high)


def _is_pair(scale: object) -> bool:
    return isinstance(scale, list | tuple) and len(scale) == 2


def columns_of(columns: object) -> tuple[str, ...]:
    """The names of columns."""
    names = [columns] if isinstance(columns, str) else columns
    if not isinstance(names, list | tuple) or not all(isinstance(each, str) for each in names):
        raise VerifierError(f"judge: columns is {columns!r:.40}; it must be a list of names")
    return tuple(names)


def first_of(first: str | Mapping[str, Any] | None) -> Verifier | None:
    """The verifier whose pass needs no judge."""
    if first is None:
        return None
    options = {"name": first} if isinstance(first, str) else first
    usable = isinstance(options, Mapping) and all(isinstance(key, str) for key in options)
    if not usable or not isinstance(options.get("name"), str):
        raise VerifierError(f"judge: first is {first!r:.60}; it must be a verifier's name")
    return make(**options)
