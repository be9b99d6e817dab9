"""Values of Gymnasium spaces as short text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rl_envs.tasks import DataError

CODES = "0123456789abcdefghijklmnopqrstuvwxyz"
"""The character for each bin, lowest first."""

Bins = int | Sequence[Sequence[float]]
"""A number of equal bins for every value, or the inner edges for each value of a Box in turn."""


def describe(space: Space[Any], value: Any, bins: Bins | None = None) -> str:
    """A value as text.

    Discrete and MultiDiscrete give integers, MultiBinary digits, Text itself, Tuple its parts
    joined by ``|``, Dict ``key=part`` joined by ``|``, Box numbers to three figures or, with
    ``bins``, one character per number. Other spaces give ``str(value)``.

    Args:
        space: The space.
        value: A member of it.
        bins: How to bin the numbers of a Box into ``CODES``.

    Raises:
        DataError: The bins do not fit a Box.
    """
    if isinstance(space, spaces.Tuple):
        parts = zip(space.spaces, value, strict=True)
        return "|".join(describe(part, item, bins) for part, item in parts)
    if isinstance(space, spaces.Dict):
        return "|".join(
            f"{key}={describe(part, value[key], bins)}" for key, part in space.spaces.items()
        )
    if isinstance(space, spaces.Box):
        return _numbers(value) if bins is None else _codes(space, value, bins)
    if isinstance(space, spaces.MultiBinary):
        return "".join(str(int(bit)) for bit in np.ravel(value))
    if isinstance(space, spaces.MultiDiscrete):
        return " ".join(str(int(number)) for number in np.ravel(value))
    return str(int(value)) if isinstance(space, spaces.Discrete) else str(value)


def _numbers(value: Any) -> str:
    return " ".join(f"{float(number):.3g}" for number in np.ravel(value))


def _codes(space: spaces.Box, value: Any, bins: Bins) -> str:
    numbers = np.ravel(value)
    edges = _equal_edges(space, bins) if isinstance(bins, int) else bins
    if len(edges) != len(numbers):
        raise DataError(f"bins has edges for {len(edges)} values; the Box has {len(numbers)}")
    if any(len(inner) >= len(CODES) for inner in edges):
        raise DataError(f"more than {len(CODES)} bins: there is no character for them")
    places = (
        int(np.searchsorted(inner, number, side="right"))
        for inner, number in zip(edges, numbers, strict=True)
    )
    return "".join(CODES[place] for place in places)


def _equal_edges(space: spaces.Box, count: int) -> list[Sequence[float]]:
    if not space.is_bounded():
        raise DataError(f"{space} has no finite bounds to divide into {count} bins: give the edges")
    bounds = zip(np.ravel(space.low), np.ravel(space.high), strict=True)
    return [np.linspace(low, high, count + 1)[1:-1].tolist() for low, high in bounds]
