"""The commonest texts of a stream in constant space, with a bound on what was missed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

CAPACITY = 256


@dataclass(slots=True)
class Frequent:
    """The texts that occur most, by the summary of Misra and Gries (1982).

    Where there are more than ``2 * CAPACITY`` different texts, the count of the one at place
    ``CAPACITY + 1`` is taken from all, and those that fall to nothing are forgotten. A true count
    lies between the one given and ``missed`` more; ``missed`` is at most n / CAPACITY for n texts,
    also after merging (Agarwal et al. 2012, "Mergeable summaries"). With few texts all is exact.

    Attributes:
        counts: Text and how often, at least.
        missed: How much too low any count may be; 0 where they are exact.
    """

    counts: dict[str, int] = field(default_factory=dict)
    missed: int = 0

    def add(self, text: str, times: int = 1) -> None:
        """Count a text."""
        self.counts[text] = self.counts.get(text, 0) + times
        if len(self.counts) > 2 * CAPACITY:
            self._cut()

    def merge(self, other: Frequent) -> None:
        """Take in what another one saw. The order of merging may matter once texts were many."""
        for text, times in other.counts.items():
            self.counts[text] = self.counts.get(text, 0) + times
        self.missed += other.missed
        if len(self.counts) > 2 * CAPACITY:
            self._cut()

    def top(self, n: int) -> list[tuple[str, int]]:
        """The ``n`` commonest, the commonest first; equal counts by the text."""
        return sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))[:n]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"counts": list(self.counts.items()), "missed": self.missed}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` gave."""
        return cls({str(text): int(count) for text, count in data["counts"]}, int(data["missed"]))

    def _cut(self) -> None:
        taken = sorted(self.counts.values(), reverse=True)[CAPACITY]
        self.counts = {text: n - taken for text, n in self.counts.items() if n > taken}
        self.missed += taken
