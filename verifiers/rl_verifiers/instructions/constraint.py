"""What a constraint is: its id, its arguments, the sentence that states it, and its check."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from rl_verifiers.instructions.response import Response
from rl_verifiers.shown import shown


class UnusableError(Exception):
    """A constraint of a row cannot be checked: an unknown id, or arguments it does not take."""


@dataclass(frozen=True)
class Whole:
    """A whole number; ``6.0`` counts as one, for data that went through a float column."""

    minimum: int = 0

    def read(self, value: object) -> int:
        """The number, or ValueError."""
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise ValueError("a whole number")
        if value < self.minimum:
            raise ValueError(f"at least {self.minimum}")
        return int(value)


@dataclass(frozen=True)
class Percent:
    """A number from 0 to 100."""

    def read(self, value: object) -> float:
        """The number, or ValueError."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
            raise ValueError("a number from 0 to 100")
        return value


@dataclass(frozen=True)
class Text:
    """A text that is not blank."""

    def read(self, value: object) -> str:
        """The text, or ValueError."""
        if not isinstance(value, str) or not value.strip():
            raise ValueError("a text that is not blank")
        return value


@dataclass(frozen=True)
class Texts:
    """A list of texts, none of them blank."""

    def read(self, value: object) -> tuple[str, ...]:
        """The texts, or ValueError."""
        if not isinstance(value, list | tuple) or not value:
            raise ValueError("a list of texts")
        return tuple(Text().read(item) for item in value)


@dataclass(frozen=True)
class Letter:
    """One character that is not white space."""

    def read(self, value: object) -> str:
        """The character in lower case, or ValueError."""
        if not isinstance(value, str) or len(value.strip()) != 1:
            raise ValueError("one character")
        return value.strip().lower()


@dataclass(frozen=True)
class OneOf:
    """One of a few texts; the values are how a sentence names them."""

    names: Mapping[str, str]

    def read(self, value: object) -> str:
        """The text, or ValueError."""
        if not isinstance(value, str) or value not in self.names:
            raise ValueError(f"one of {', '.join(self.names)}")
        return value


RELATION = OneOf({"less than": "less than", "at least": "at least"})
Argument = Whole | Percent | Text | Texts | Letter | OneOf
Check = Callable[..., bool]
C = TypeVar("C", bound=Check)


@dataclass(frozen=True)
class Constraint:
    """One verifiable constraint.

    Attributes:
        id: Such as ``count:word_count_range``.
        meaning: The sentence that states it, with its arguments in braces.
        arguments: What it takes, by name; all are required.
        check: ``check(response, **arguments) -> bool``.
        needs: Distributions that the check imports; see :mod:`rl_verifiers.instructions.language`.
        order: Two whole arguments of which the first may not exceed the second.
    """

    id: str
    meaning: str
    arguments: Mapping[str, Argument]
    check: Check
    needs: tuple[str, ...] = ()
    order: tuple[str, str] | None = None

    def read(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the check takes them; None values count as absent.

        Raises:
            UnusableError: One is missing, unknown or of the wrong kind.
        """
        given = {name: value for name, value in kwargs.items() if value is not None}
        for name in given:
            if name not in self.arguments:
                takes = ", ".join(self.arguments) or "no arguments"
                raise UnusableError(
                    f"{self.id}: unknown argument {shown(name, 60)}; it takes {takes}"
                )
        read: dict[str, Any] = {}
        for name, kind in self.arguments.items():
            if name not in given:
                raise UnusableError(f"{self.id}: argument {name!r} is missing")
            try:
                read[name] = kind.read(given[name])
            except (ValueError, OverflowError) as error:
                raise UnusableError(
                    f"{self.id}: {name} must be {error}, not {shown(given[name], 60)}"
                ) from None
        if self.order is not None and read[self.order[0]] > read[self.order[1]]:
            raise UnusableError(f"{self.id}: {self.order[0]} must not exceed {self.order[1]}")
        return read

    def describe(self, kwargs: Mapping[str, Any]) -> str:
        """The constraint as an English sentence."""
        shown = {name: _shown(self.arguments[name], v) for name, v in self.read(kwargs).items()}
        return self.meaning.format(**shown)


def _shown(kind: Argument, value: Any) -> str:
    if isinstance(kind, Texts):
        return ", ".join(f'"{item}"' for item in value)
    if isinstance(kind, OneOf):
        return kind.names[str(value)]
    return f"{value:g}" if isinstance(value, float) else str(value)


_known: dict[str, Constraint] = {}


def constraint(
    name: str,
    meaning: str,
    *,
    needs: tuple[str, ...] = (),
    order: tuple[str, str] | None = None,
    **arguments: Argument,
) -> Callable[[C], C]:
    """Register a function as the check of the constraint ``name``."""

    def register(check: C) -> C:
        if name in _known:
            raise ValueError(f"constraint {name} is defined twice")
        _known[name] = Constraint(name, meaning, arguments, check, needs, order)
        return check

    return register


def known() -> Mapping[str, Constraint]:
    """Every constraint defined so far, by id."""
    return _known


def find(name: object) -> Constraint:
    """The constraint of that id.

    Raises:
        UnusableError: There is none; the message names the closest ones.
    """
    if isinstance(name, str) and name in _known:
        return _known[name]
    close = difflib.get_close_matches(shown(name, 100), _known, n=3, cutoff=0.5)
    hint = f"; the closest are {', '.join(close)}" if close else ""
    raise UnusableError(f"unknown constraint {shown(name, 100)}{hint}")


__all__ = ["RELATION", "Constraint", "Response", "UnusableError", "constraint", "find", "known"]
