"""pass@k and maj@k over groups of completions of one task, at constant memory.

Every span leaves a file of votes. At the end the records of each group are brought together, one
share of the groups at a time.
"""

from __future__ import annotations

import itertools
import math
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agent_rl.runs import statistics
from agent_rl.scoring.rewards import Rewards
from agent_rl.scoring.votes import ERROR, PASSED, RECORD, Records, load

AT_ONCE = 2_000_000
"""Records in memory at a time: 42 MB, and as much again for sorting."""

MOST_RESAMPLED = 10_000
"""Up to as many groups, intervals are a bootstrap's; above, the normal distribution's."""

MAX_DRAWN_COUNTS = 400_000_000
"""Answers counted in drawn subsets, over all groups and all k: some seconds."""
LEAST_DRAWN = 20

Profile = tuple[tuple[int, int], ...]
"""How a group voted: (votes, how many of them passed) of each answer, sorted; first, with the
count negated, those without an answer."""


class Point(NamedTuple):
    """One k: the mean over groups, its 95 % interval, and over how many groups."""

    k: int
    value: float
    low: float
    high: float
    groups: int


@dataclass(frozen=True, slots=True)
class Groups:
    """What the votes of a job say; samples that we failed to judge are in no group.

    Attributes:
        groups: How many have at least one completion.
        size: The commonest number of completions in a group; of several, the greatest.
        sizes: The least and the greatest number.
        pass_at: pass@k for k = 1, 2, 4, ... up to ``size``, and ``size`` itself, each over the
            groups with at least k completions.
        majority_at: maj@k, likewise; empty where no completion had an answer to vote for.
    """

    groups: int = 0
    size: int = 0
    sizes: tuple[int, int] = (0, 0)
    pass_at: Sequence[Point] = ()
    majority_at: Sequence[Point] = ()


def evaluate(paths: Sequence[Path], *, scratch: Path | None = None, seed: int = 0) -> Groups:
    """Bring the votes of all spans together.

    Args:
        paths: Votes files, in any order.
        scratch: The folder for temporary files where there are more than ``AT_ONCE`` votes; they
            are removed. None takes the system's.
        seed: Of drawn subsets and of the bootstrap.
    """
    with _shares(paths, scratch) as shares:
        counted: Counter[tuple[int, int]] = Counter()
        for share in shares:
            counted.update(_counted(share))
        if not counted:
            return Groups()
        sizes: Counter[int] = Counter()
        for (n, _), count in counted.items():
            sizes[n] += count
        size = max(sizes, key=lambda n: (sizes[n], n))
        ks = sorted({2**i for i in range(size.bit_length())} | {size})
        majority = {k: _Mean(seed) for k in ks}
        work = MAX_DRAWN_COUNTS // (sum(sizes.values()) * len(ks))
        voted = False
        for share in shares:
            for profile, count in _profiles(share).items():
                n = sum(abs(votes) for votes, _ in profile)
                voted = voted or any(votes > 0 for votes, _ in profile)
                for k in ks:
                    if k <= n:
                        drawn = min(statistics.MAX_SUBSETS, max(LEAST_DRAWN, work // len(profile)))
                        majority[k].add(majority_at_k(profile, k, seed, drawn), count)
    passes = {k: _Mean(seed) for k in ks}
    for (n, c), count in sorted(counted.items()):
        for k in ks:
            if k <= n:
                passes[k].add(statistics.pass_at_k(n, c, k), count)
    return Groups(
        groups=sum(sizes.values()),
        size=size,
        sizes=(min(sizes), max(sizes)),
        pass_at=[passes[k].point(k) for k in ks],
        majority_at=[majority[k].point(k) for k in ks] if voted else [],
    )


@lru_cache(maxsize=200_000)
def majority_at_k(
    profile: Profile, k: int, seed: int = 0, drawn: int = statistics.MAX_SUBSETS
) -> float:
    """Probability that the commonest answer among k completions of a group is a right one.

    What :func:`agent_rl.runs.statistics.majority_at_k` says: over all subsets of k, or over
    ``drawn`` ones where there are more than 2000; ties are shared out, no answer is no vote. It
    depends on how many voted for what only, so the order of completions makes no difference.
    """
    counts = [abs(votes) for votes, _ in profile]
    if k == 1:
        return sum(right for votes, right in profile if votes > 0) / sum(counts)
    if math.comb(sum(counts), k) <= statistics.MAX_SUBSETS:
        answers: list[int | None] = []
        passed: list[bool] = []
        for number, (votes, right) in enumerate(profile):
            answers += [number if votes > 0 else None] * abs(votes)
            passed += [i < right for i in range(abs(votes))]
        return statistics.majority_at_k(answers, passed, k)
    rng = np.random.default_rng([seed, k, zlib.crc32(repr(profile).encode())])
    subsets = rng.multivariate_hypergeometric(counts, k, size=drawn, method="marginals")
    credit = np.array([max(0, right) / abs(votes) for votes, right in profile])
    votes_for = np.where(np.array([votes > 0 for votes, _ in profile]), subsets, 0)
    most = votes_for.max(axis=1, keepdims=True)
    wins = (votes_for == most) & (most > 0)
    shared = (wins * credit).sum(axis=1) / np.maximum(1, wins.sum(axis=1))
    return float(shared.mean())


@dataclass(slots=True)
class _Mean:
    """A mean over groups and its interval; the order of adding makes no difference."""

    seed: int
    values: Rewards = field(default_factory=Rewards)
    few: Counter[float] | None = field(default_factory=Counter)
    n: int = 0

    def add(self, value: float, times: int) -> None:
        self.values.add(value, times)
        self.n += times
        if self.few is not None:
            self.few[value] += times
            if self.n > MOST_RESAMPLED:
                self.few = None

    def point(self, k: int) -> Point:
        mean = self.values.mean
        if self.few is not None:
            values = [value for value in sorted(self.few) for _ in range(self.few[value])]
            low, high = statistics.bootstrap_interval(values, seed=self.seed)
        else:
            spread = 1.96 * self.values.standard_error
            low, high = max(0.0, mean - spread), min(1.0, mean + spread)
        return Point(k, mean, low, high, self.n)


@contextmanager
def _shares(paths: Sequence[Path], scratch: Path | None) -> Iterator[Iterable[Records]]:
    """All judged records, in shares that hold whole groups; can be gone through repeatedly."""
    total = sum(path.stat().st_size for path in paths) // RECORD.itemsize
    if total <= AT_ONCE:
        parts = [_judged(load(path)) for path in paths]
        yield [np.concatenate(parts)] if parts else []
        return
    with tempfile.TemporaryDirectory(dir=scratch, prefix="votes-") as folder:
        n = -(-total // (AT_ONCE // 2))
        files = [Path(folder, str(number)) for number in range(n)]
        for path in paths:
            records = _judged(load(path))
            share = records["group"] % n
            for number in np.unique(share):
                with files[number].open("ab") as file:
                    file.write(records[share == number].tobytes())
        yield _Files([file for file in files if file.exists()])


@dataclass(frozen=True, slots=True)
class _Files:
    paths: Sequence[Path]

    def __iter__(self) -> Iterator[Records]:
        return (load(path) for path in self.paths)


def _judged(records: Records) -> Records:
    return records[records["verdict"] != ERROR]


def _counted(records: Records) -> Counter[tuple[int, int]]:
    """How many groups have n completions of which c passed, by (n, c)."""
    if not len(records):
        return Counter()
    _, group, n = np.unique(records["group"], return_inverse=True, return_counts=True)
    c = np.bincount(group, weights=records["verdict"] == PASSED).astype(int)
    pairs, counts = np.unique(np.stack([n, c], axis=1), axis=0, return_counts=True)
    found = zip(pairs.tolist(), counts.tolist(), strict=True)
    return Counter({(n_, c_): count for (n_, c_), count in found})


def _profiles(records: Records) -> Counter[Profile]:
    """How many groups voted in each way."""
    if not len(records):
        return Counter()
    records = records[np.lexsort((records["vote"], records["group"]))]
    group, vote = records["group"], records["vote"]
    new_group = np.r_[True, group[1:] != group[:-1]]
    starts = np.flatnonzero(new_group | np.r_[True, vote[1:] != vote[:-1]])
    votes = np.diff(np.r_[starts, len(records)])
    right = np.add.reduceat((records["verdict"] == PASSED).astype(int), starts)
    votes = np.where(vote[starts] == 0, -votes, votes)
    edges = [*np.flatnonzero(new_group[starts]).tolist(), len(starts)]
    pairs = list(zip(votes.tolist(), right.tolist(), strict=True))
    return Counter(tuple(sorted(pairs[a:b])) for a, b in itertools.pairwise(edges))
