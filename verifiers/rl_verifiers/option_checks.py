"""Checks of a verifier's options: one clear line, with the closest name where one was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

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
            raise VerifierError(
                f"{verifier}: {option} is {value!r:.40}; it must be true or false"
            )


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
