"""How sure a measured accuracy is: intervals, pass@k, majority@k. Pure functions."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

MAX_SUBSETS = 2000


def wilson_interval(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The score interval of a proportion (Wilson 1927), good for small n and near 0 and 1.

    Args:
        successes: How many of ``n``.
        n: How many tries; with none, everything is possible: (0, 1).
        z: Quantile of the normal distribution; 1.96 for 95 %.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in 0..n, not {successes} of {n}")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    scale = 1 + z * z / n
    middle = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else (middle - spread) / scale
    high = 1.0 if successes == n else (middle + spread) / scale
    return low, high


def pass_at_k(n: int, c: int, k: int) -> float:
    """Probability that at least one of k samples passes, without bias (Chen et al. 2021, eq. 1).

    ``1 - C(n-c, k) / C(n, k)``, as a product, so that no large number appears.

    Args:
        n: Samples drawn.
        c: How many of them passed.
        k: Samples allowed, at most ``n``.
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n, not n={n}, c={c}, k={k}")
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def majority_at_k(
    answers: Sequence[Hashable], passed: Sequence[bool], k: int, *, seed: int = 0
) -> float:
    """Probability that the commonest answer among k of the samples is a correct one.

    Self-consistency (Wang et al. 2022), averaged over all subsets of k samples, or over 2000 drawn
    ones where there are more. Ties are shared out equally. A sample without an answer (None) does
    not vote; a subset without a vote is wrong.

    Args:
        answers: What each sample votes for.
        passed: Whether each sample passed; where equal answers disagree, their share counts.
        k: Size of the vote.
        seed: Of the drawn subsets.
    """
    n = len(answers)
    if len(passed) != n or not 1 <= k <= n:
        raise ValueError(f"majority@k needs 1 <= k <= n, not k={k} of {n} and {len(passed)}")
    right: Counter[Hashable] = Counter()
    for answer, good in zip(answers, passed, strict=True):
        right[answer] += bool(good)
    given = Counter(answers)
    credit = {answer: right[answer] / count for answer, count in given.items()}
    votes = [_vote([answers[i] for i in chosen], credit) for chosen in _subsets(n, k, seed)]
    return sum(votes) / len(votes)


def _subsets(n: int, k: int, seed: int) -> Iterable[Sequence[int]]:
    if math.comb(n, k) <= MAX_SUBSETS:
        return itertools.combinations(range(n), k)
    rng = random.Random(seed)
    return (rng.sample(range(n), k) for _ in range(MAX_SUBSETS))


def _vote(answers: Sequence[Hashable], credit: dict[Hashable, float]) -> float:
    counts = Counter(answer for answer in answers if answer is not None)
    if not counts:
        return 0.0
    most = max(counts.values())
    winners = [answer for answer, count in counts.items() if count == most]
    return sum(credit[answer] for answer in winners) / len(winners)


def bootstrap_interval(
    values: Sequence[float], *, seed: int = 0, level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Percentile interval of a mean over tasks (Efron 1979).

    Args:
        values: One value per task; samples of one task are no independent draws, so average first.
        seed: Of the resampling.
        level: Probability of the interval.
        resamples: How many.
    """
    if not len(values):
        raise ValueError("a bootstrap interval needs at least one value")
    data = np.asarray(values, dtype=float)
    rng = np.random.default_rng(seed)
    means = [data[rng.integers(len(data), size=len(data))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
