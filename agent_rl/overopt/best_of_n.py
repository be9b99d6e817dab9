"""Best-of-N from a fixed pool of samples: what it earns, and how far it moves the policy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def best_of_n(scores_m: Floats, values_m: Floats, n: int) -> float:
    """The expected value of the highest-scored of ``n`` samples, unbiased, from a pool of M.

    The mean over all subsets of size n of the pool, in closed form: the sample of rank r (ascending,
    from 1) is the best of ``C(r - 1, n - 1)`` of the ``C(M, n)`` subsets (Nakano et al. 2021,
    WebGPT, appendix I; Gao et al. 2022, appendix). Samples with equal scores share their subsets
    evenly: a tie is broken at random.

    Args:
        scores_m: [M] what selects.
        values_m: [M] what is wanted of the selected one; ``scores_m`` itself for the proxy.
        n: Samples of which the best is taken, at most M.

    Raises:
        ValueError: ``n`` is not within 1..M.
    """
    size = len(scores_m)
    if not 1 <= n <= size:
        raise ValueError(f"best of {n} from a pool of {size}: n must be within 1..{size}")
    _, group_m, counts_g = np.unique(scores_m, return_inverse=True, return_counts=True)
    means_g = np.bincount(group_m, weights=values_m) / counts_g
    cumulative_g = _all_within(size, n)[np.cumsum(counts_g)]
    return float(np.diff(cumulative_g, prepend=0.0) @ means_g)


def _all_within(size: int, n: int) -> Floats:
    """[M + 1] the probability that all of n samples of M are among the first c: C(c, n)/C(M, n)."""
    found = np.zeros(size + 1)
    larger = np.arange(size, n, -1, dtype=float)  # C(c - 1, n) / C(c, n) = (c - n) / c
    found[n:] = np.exp(np.cumsum(np.log((larger - n) / larger), dtype=float))[::-1].tolist() + [1.0]
    return found


def kl_of_best(n: int) -> float:
    """KL of best-of-n to the policy it samples from, in nats: ``log n - (n - 1) / n``.

    Exact where no two completions have the same score, an upper bound where some do (Beirami et
    al. 2024).
    """
    return math.log(n) - (n - 1) / n


def kl_with_ties(probabilities_g: Floats, n: int) -> float:
    """KL of best-of-n where completions fall into groups of equal score, in nats, exactly.

    Group g (ascending score) is selected with probability ``P_g = F_g^n - F_{g-1}^n``, and within it
    the policy stays as it was: ``sum_g P_g log(P_g / p_g)``.

    Args:
        probabilities_g: [G] the policy's probability of each group, all above 0.
        n: Samples of which the best is taken.
    """
    cumulative_g = np.minimum(np.cumsum(probabilities_g), 1.0)
    chosen_g = np.diff(cumulative_g**n, prepend=0.0)
    kept = chosen_g > 0
    return float(np.sum(chosen_g[kept] * np.log(chosen_g[kept] / probabilities_g[kept])))


def ties(scores_m: Floats) -> float:
    """The share of a pool whose score another sample has as well."""
    _, counts_g = np.unique(scores_m, return_counts=True)
    return float(counts_g[counts_g > 1].sum() / len(scores_m))
