"""Several environments in one stream of tasks, with weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from rl_envs.core import TextEnv
from rl_envs.registry import make
from rl_envs.tasks import DataError

EntrySpec = tuple[str, float, Mapping[str, Any]]
"""``(env_id, weight, options)``."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One environment of a mixture.

    Attributes:
        env_id: An id or a path, as ``rl_envs.make`` takes.
        weight: Its share of the draws, relative to the others.
        options: Constructor options.
    """

    env_id: str
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def env(self) -> TextEnv:
        """The environment, made on first use; it holds the tasks that the clones share."""
        return make(self.env_id, **self.options)

    def make(self) -> TextEnv:
        """Another instance, for another episode at the same time."""
        return self.env.clone()


class Mixture:
    """Draws tasks from environments in proportion to their weights.

    Draw ``k`` goes to the entry that is furthest behind its share, so every prefix of the stream
    has each share to within one draw. A finite source is walked by a new shuffled permutation per
    epoch, so nothing repeats before everything was seen; an endless one by a counter. All of it is
    a function of the seed and the number of draws: one count per entry is the whole state.

    Args:
        entries: ``(env_id, weight, options)`` each, or ``Entry``.
        seed: Orders the permutations.

    Raises:
        DataError: No entries, or a weight that is not positive.
    """

    def __init__(self, entries: Sequence[EntrySpec | Entry], seed: int = 0) -> None:
        self.entries = [
            entry if isinstance(entry, Entry) else Entry(entry[0], float(entry[1]), dict(entry[2]))
            for entry in entries
        ]
        if not self.entries:
            raise DataError("a mixture needs at least one environment")
        for entry in self.entries:
            if not entry.weight > 0:
                raise DataError(f"{entry.env_id}: weight {entry.weight}; it must be above 0")
        total = sum(entry.weight for entry in self.entries)
        self._shares = [entry.weight / total for entry in self.entries]
        self._seed = seed
        self._counts = [0] * len(self.entries)
        self._orders: dict[int, tuple[int, np.ndarray]] = {}  # entry: (epoch, permutation)

    def draw(self, n: int) -> list[tuple[Entry, int]]:
        """The next ``n`` tasks: an entry and an index for ``reset(options={"index": ...})``."""
        return [self._next() for _ in range(n)]

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` needs to go on exactly here; plain JSON."""
        return {"envs": [entry.env_id for entry in self.entries], "counts": list(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken.

        Raises:
            DataError: The state is another mixture's.
        """
        names = [entry.env_id for entry in self.entries]
        if list(state["envs"]) != names:
            raise DataError(f"the saved mixture is of {state['envs']}, this one of {names}")
        self._counts = [int(count) for count in state["counts"]]

    def _next(self) -> tuple[Entry, int]:
        drawn = sum(self._counts) + 1
        behind = [
            share * drawn - count for share, count in zip(self._shares, self._counts, strict=True)
        ]
        place = behind.index(max(behind))
        index = self._index(place, self._counts[place])
        self._counts[place] += 1
        return self.entries[place], index

    def _index(self, place: int, count: int) -> int:
        size = self.entries[place].env.tasks.size
        if size is None:
            return count
        epoch, position = divmod(count, size)
        if self._orders.get(place, (-1,))[0] != epoch:
            rng = np.random.default_rng((self._seed, place, epoch))
            self._orders[place] = (epoch, rng.permutation(size))
        return int(self._orders[place][1][position])


def levels(
    env_id: str, weights: Mapping[Any, float], *, option: str = "difficulty", **options: Any
) -> list[EntrySpec]:
    """Entries for one environment at several difficulties.

    ``levels("text/Arithmetic-v0", {1: 0.7, 2: 0.3})`` is a mixture of seven easy tasks to three
    harder ones.
    """
    return [(env_id, weight, {**options, option: level}) for level, weight in weights.items()]
