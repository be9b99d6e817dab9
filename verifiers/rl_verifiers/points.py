"""Where expressions with symbols are evaluated, to tell them apart."""

from __future__ import annotations

import random
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from rl_verifiers.expressions import Node, parts, symbols

_POINTS = 24


class UndecidedError(ValueError):
    """The two expressions are not both defined at enough points to tell."""


class Point(NamedTuple):
    """Where to evaluate: the values of the symbols, and whether only real numbers may occur."""

    coordinates: Mapping[str, Fraction] = {}
    is_real: bool = False


NOWHERE = Point()


def points(left: Node, right: Node) -> tuple[Point, ...]:
    """Points with fixed pseudo-random coordinates: positive ones first, then of either sign.

    Unless i occurs, all is real: a point where a root or logarithm is not lies outside the domain.
    """
    is_real = not any(part == Node("const", value="i") for x in (left, right) for part in parts(x))
    return points_of(symbols(left) | symbols(right), is_real=is_real)


@lru_cache(maxsize=256)
def points_of(symbols: frozenset[str], *, is_real: bool) -> tuple[Point, ...]:
    """:func:`points` for expressions with these symbols."""
    names = sorted(symbols)
    generator = random.Random(20_260_101)
    found = []
    for index in range(_POINTS):
        sizes = (3, 12) if index % 3 else (1, 1)
        coordinates = {}
        for name in names:
            value = Fraction(generator.randrange(1, 10**6) * sizes[1], sizes[0] * 10**6)
            is_positive = index % 4 < 2 or generator.random() < 0.5
            coordinates[name] = value if is_positive else -value
        found.append(Point(coordinates, is_real))
    return tuple(found)
