"""Checks of a verifier's options: one clear line, with the closest name where one was meant."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import cast

from rl_verifiers.score import VerifierError


def check_one_of(verifier: str, option: str, value: object, known: Iterable[str]) -> None:
    """Check that a value is one of some names.

    Raises:
        VerifierError: It is not; names the closest.
    """
    names = list(known)
    if isinstance(value, str) and value in names:
        return
    close = difflib.get_close_matches(str(value)[:100].lower(), names, 1)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    raise VerifierError(
        f"{verifier}: {option} is {value!r:.40}; it must be one of {', '.join(names)}{meant}"
    )


def check_flags(verifier: str, **flags: object) -> None:
    """Check that options are true or false: a text such as "no" would count as true.

    Raises:
        VerifierError: One is neither.
    """
    for option, value in flags.items():
        if not isinstance(value, bool):
            raise VerifierError(f"{verifier}: {option} is {value!r:.40}; it must be true or false")


def check_whole(verifier: str, least: int = 1, **numbers: object) -> None:
    """Check that options are whole numbers from ``least``.

    Raises:
        VerifierError: One is not.
    """
    for option, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise VerifierError(
                f"{verifier}: {option} is {value!r:.40}; it must be a whole number from {least}"
            )


def check_number(
    verifier: str,
    option: str,
    value: object,
    *,
    least: float = 0.0,
    most: float = math.inf,
    above: bool = False,
) -> None:
    """Check that an option is a finite number within a range.

    Args:
        verifier: The verifier's name, for the message.
        option: The option's name.
        value: What was given.
        least: The least number allowed.
        most: The greatest one.
        above: Whether ``least`` itself is refused.

    Raises:
        VerifierError: It is no number, NaN, infinite or outside.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and _within(cast("float", value), least, most, above=above):
        return
    limits = f"above {least:g}" if above else f"from {least:g}"
    limits += f" to {most:g}" if most < math.inf else ""
    raise VerifierError(f"{verifier}: {option} is {value!r:.40}; it must be a number {limits}")


def _within(value: float, least: float, most: float, *, above: bool) -> bool:
    return abs(value) < math.inf and value <= most and (value > least if above else value >= least)
