"""The distribution of rewards in constant space: exact sums, exact counts while they are few."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Self

MAX_DISTINCT = 64
"""Different values that are counted one by one; with more, all values go to bins."""

BINS_PER_UNIT = 32
N_BINS = 2 * BINS_PER_UNIT + 2
"""Below -1; bins 1/32 wide, closed on the left, the last one on both sides; above 1."""

_SHIFT = 1074  # every finite double is a whole multiple of 2**-1074


@dataclass(slots=True)
class ExactSum:
    """A sum of floats without rounding, so that no order of adding or merging changes it."""

    scaled: int = 0  # of 2**-1074

    def add(self, value: float, times: int = 1) -> None:
        """Add ``value``, ``times`` times."""
        over, under = value.as_integer_ratio()
        self.scaled += (over * times) << (_SHIFT - under.bit_length() + 1)

    @property
    def value(self) -> Fraction:
        """The sum itself."""
        return Fraction(self.scaled, 1 << _SHIFT)


@dataclass(slots=True)
class Rewards:
    """Count, exact mean and variance, extremes and histogram of finite numbers.

    Up to ``MAX_DISTINCT`` different values are kept with their counts. When one more turns up, all
    of them go to ``N_BINS`` bins, for good. What two of these say together does not depend on the
    order of adding or merging.

    Attributes:
        counts: How often each value was seen, as long as they are few; then empty.
        bins: The counts of the bins once the values are many; before, empty.
        total: Sum of the values that are in bins.
        squares: Sum of their squares (each square rounded to a float first).
        low: The least value; ``inf`` without any.
        high: The greatest value; ``-inf`` without any.
    """

    counts: dict[float, int] = field(default_factory=dict)
    bins: list[int] = field(default_factory=list)
    total: ExactSum = field(default_factory=ExactSum)
    squares: ExactSum = field(default_factory=ExactSum)
    low: float = math.inf
    high: float = -math.inf

    def add(self, value: float, times: int = 1) -> None:
        """Count ``value``."""
        if value in self.counts:
            self.counts[value] += times
            return
        self.low, self.high = min(self.low, value), max(self.high, value)
        if self.bins:
            self._put(value, times)
            return
        self.counts[value + 0.0] = times  # -0.0 is 0.0
        if len(self.counts) > MAX_DISTINCT:
            self._spill()

    def merge(self, other: Rewards) -> None:
        """Take in what another one saw."""
        if not other.n:
            return
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        if other.bins and not self.bins:
            self._spill()
        for value, times in other.counts.items():
            self.add(value, times)
        if other.bins:
            self.bins = [a + b for a, b in zip(self.bins, other.bins, strict=True)]
            self.total.scaled += other.total.scaled
            self.squares.scaled += other.squares.scaled

    @property
    def n(self) -> int:
        """How many values."""
        return sum(self.counts.values()) + sum(self.bins)

    @property
    def mean(self) -> float:
        """The mean, rounded once; NaN without values."""
        return float(self._sum() / self.n) if self.n else math.nan

    @property
    def standard_error(self) -> float:
        """Of the mean, the samples taken as independent; NaN for fewer than two values."""
        n = self.n
        if n < 2:
            return math.nan
        squares = ExactSum(self.squares.scaled)
        for value, times in self.counts.items():
            squares.add(_square(value), times)
        spread = max(Fraction(0), squares.value - self._sum() ** 2 / n) / (n - 1)
        return math.sqrt(float(spread / n))

    def histogram(self, most: int = 12) -> list[tuple[float, float, int]]:
        """Bars as (from, to, count): a value of its own has ``from == to``.

        Args:
            most: With more different values or bins than this, neighbours are put together.
        """
        if self.counts and len(self.counts) <= most:
            return [(value, value, self.counts[value]) for value in sorted(self.counts)]
        bins = self.bins or _binned(self.counts)
        filled = [i for i in range(1, N_BINS - 1) if bins[i]]
        inner = range(filled[0], filled[-1] + 1) if filled else range(0)
        width = next(w for w in (1, 2, 4, 8, 16, 32, 64) if _bars(inner, w) <= most)
        bars: dict[int, int] = {}
        for i in inner:
            bars[(i - 1) // width] = bars.get((i - 1) // width, 0) + bins[i]
        edge = width / BINS_PER_UNIT
        found = [(bar * edge - 1, (bar + 1) * edge - 1, count) for bar, count in bars.items()]
        below = [(self.low, -1.0, bins[0])] if bins[0] else []
        above = [(1.0, self.high, bins[-1])] if bins[-1] else []
        return below + found + above

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "counts": sorted(self.counts.items()),
            "bins": self.bins,
            "total": hex(self.total.scaled),
            "squares": hex(self.squares.scaled),
            "low": None if self.low == math.inf else self.low,
            "high": None if self.high == -math.inf else self.high,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` gave."""
        return cls(
            {float(value): int(count) for value, count in data["counts"]},
            list(data["bins"]),
            ExactSum(int(data["total"], 16)),
            ExactSum(int(data["squares"], 16)),
            math.inf if data["low"] is None else float(data["low"]),
            -math.inf if data["high"] is None else float(data["high"]),
        )

    def _sum(self) -> Fraction:
        total = ExactSum(self.total.scaled)
        for value, times in self.counts.items():
            total.add(value, times)
        return total.value

    def _spill(self) -> None:
        counts, self.counts = self.counts, {}
        self.bins = [0] * N_BINS
        for value, times in counts.items():
            self._put(value, times)

    def _put(self, value: float, times: int) -> None:
        self.bins[_bin(value)] += times
        self.total.add(value, times)
        self.squares.add(_square(value), times)


def _square(value: float) -> float:
    return min(value * value, 1e308)  # a reward of 1e200 is a finite float, too


def _bin(value: float) -> int:
    if value < -1.0:
        return 0
    if value > 1.0:
        return N_BINS - 1
    return 1 + min(int((value + 1.0) * BINS_PER_UNIT), N_BINS - 3)


def _binned(counts: Mapping[float, int]) -> list[int]:
    bins = [0] * N_BINS
    for value, times in counts.items():
        bins[_bin(value)] += times
    return bins


def _bars(inner: Iterable[int], width: int) -> int:
    return len({(i - 1) // width for i in inner})
