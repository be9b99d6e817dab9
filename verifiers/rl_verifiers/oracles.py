"""Who decides about values: rational arithmetic, as far as that goes.

Evaluation and algebra, for the rest, are in :mod:`rl_verifiers.numeric`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from rl_verifiers.expressions import Node, NotExactError, exact

MAX_PLACES = 1_000
"""Most places of a decimal that stands for the irrational number it rounds."""
EXACT_DIGITS = 10
"""A decimal with so many significant digits stands for the irrational number it rounds."""
ROUNDED_DIGITS = 3
"""The same when ``strict`` is off."""
_FLOAT_DIGITS = range(15, 18)
_FLOAT_ERROR = Fraction(1, 2**51)
"""Two units in the last place of a float, relative to its value."""


class NeedsNumericError(ValueError):
    """Exact arithmetic cannot decide: numeric evaluation must."""


class Oracle(Protocol):
    """Decides about values."""

    def equal(self, left: Node, right: Node) -> bool:
        """Whether two expressions have the same value, for all values of their symbols."""
        ...

    def order(self, left: Node, right: Node) -> int:
        """-1, 0 or 1 as ``left`` is less than, equal to or greater than ``right``."""
        ...

    def ratio_sign(self, left: Node, right: Node) -> int:
        """The sign of the constant c where ``left = c right`` everywhere; 0 without such a c."""
        ...


@dataclass(frozen=True)
class Comparison:
    """What a rule of :mod:`rl_verifiers.answers` compares with.

    Attributes:
        oracle: Decides about values.
        same: Decides about answers: a reference and an answer to it.
    """

    oracle: Oracle
    same: Callable[[Node, Node], bool]


Rule = Callable[[Node, Node, Comparison], "bool | None"]
"""Decides about a reference and an answer, or gives None where it does not apply."""


@dataclass(frozen=True)
class ExactOracle:
    """Decides by rational arithmetic, or raises :class:`NeedsNumericError`."""

    digits: int = EXACT_DIGITS

    def equal(self, left: Node, right: Node) -> bool:
        """See :class:`Oracle`."""
        if left == right:
            return True
        return same_number(*self._values(left, right), self.digits)

    def order(self, left: Node, right: Node) -> int:
        """See :class:`Oracle`."""
        one, other = self._values(left, right)
        return (one > other) - (one < other)

    def ratio_sign(self, left: Node, right: Node) -> int:
        """See :class:`Oracle`."""
        if left == right:
            return 1
        raise NeedsNumericError

    def _values(self, left: Node, right: Node) -> tuple[Fraction, Fraction]:
        try:
            return exact(left), exact(right)
        except NotExactError:
            raise NeedsNumericError from None


def same_number(left: Fraction, right: Fraction, digits: int) -> bool:
    """Whether two numbers are equal, or one rounds the other to ``digits`` digits or more.

    The other is then no finite decimal itself: 0.50000000001 is not one half.
    """
    if left == right:
        return True
    for decimal, value in ((left, right), (right, left)):
        slack = rounding_slack(decimal, digits)
        if slack is not None and decimal_places(value) is None:
            return abs(decimal - value) <= slack
    return False


def rounding_slack(value: Fraction, digits: int) -> Fraction | None:
    """How far a decimal fraction may be from the number it rounds; None where it rounds none.

    Half a unit of its last place; from ten digits on a whole one, and with as many as a float has
    the error of one: such decimals come from floating point arithmetic.
    """
    places = decimal_places(value, MAX_PLACES)
    if not places:
        return None
    count = len(str(abs(value.numerator * 10**places // value.denominator)))
    unit = Fraction(1, 10**places)
    if count in _FLOAT_DIGITS:
        return max(unit, abs(value) * _FLOAT_ERROR)
    return None if count < digits else unit if count >= EXACT_DIGITS else unit / 2


def decimal_places(value: Fraction, most: int = 60) -> int | None:
    """How many digits ``value`` has after the point; None where they do not end within ``most``."""
    rest, fives = value.denominator, 0
    while rest % 5 == 0 and fives <= most:
        rest, fives = rest // 5, fives + 1
    twos = rest.bit_length() - 1
    places = max(twos, fives)
    is_short = value.numerator.bit_length() <= max(400, 4 * most)
    return places if rest == 1 << twos and places <= most and is_short else None
