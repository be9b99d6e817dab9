"""Best-of-n: what the best of n samples is worth, and how far it is from the policy.

The policy draws n completions of a prompt and keeps the one that a proxy scores highest; of tied
ones, each is kept with equal probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from agent_rl.algorithms.layout import AlgorithmError


def kl_bound(n: int) -> float:
    """``log n - (n - 1) / n`` nats: KL(best-of-n || policy) where no two samples tie.

    Exact where every draw has a score of its own (Stiennon et al. 2020, appendix G.3; Hilton 2023).
    With ties, and so with any policy over finitely many completions, it is an upper bound
    (Beirami et al. 2024, theorem 1); :func:`kl_of_levels` is exact then.

    Args:
        n: Samples drawn, at least 1.

    Raises:
        AlgorithmError: n below 1.
    """
    if n < 1:
        raise AlgorithmError(f"best-of-n needs n of at least 1, not {n}")
    return math.log(n) - (n - 1) / n


def kl_of_levels(masses_l: Tensor, n: int) -> Tensor:
    """KL(best-of-n || policy) in nats where scores take few values.

    Within a level the kept sample is distributed as the policy is, so only the levels' masses
    change: level l gets ``F_l^n - F_{l-1}^n``, with F the cumulative mass.

    Args:
        masses_l: [L] what the policy gives each distinct score, ascending by score; sums to 1.
        n: Samples drawn.

    Returns:
        A scalar of float64, at most ``kl_bound(n)`` up to rounding.

    Raises:
        AlgorithmError: n below 1.
    """
    if n < 1:
        raise AlgorithmError(f"best-of-n needs n of at least 1, not {n}")
    masses_l = masses_l.double()
    masses_l = masses_l[masses_l > 0] / masses_l.sum()
    above_l = masses_l.cumsum(0).clamp(max=1.0)
    above_l[-1] = 1.0
    below_l = torch.cat([above_l.new_zeros(1), above_l[:-1]])
    kept_l = above_l.pow(n) - below_l.pow(n)
    ratio_l = (kept_l / masses_l).clamp(min=torch.finfo(torch.float64).tiny)
    return (kept_l * ratio_l.log()).sum().clamp(min=0.0)


def expected_best(proxy_m: Tensor, gold_m: Tensor, ns: Sequence[int]) -> Tensor:
    """Unbiased estimates of the gold value of best-of-n by the proxy, from one pool of samples.

    The mean over all subsets of n of the M samples of what the proxy's choice among them is worth
    (Nakano et al. 2021, appendix I; Gao et al. 2023): sorted by proxy, the i-th is the best of
    ``C(i - 1, n - 1)`` of ``C(M, n)`` subsets. Samples that tie share their subsets equally.

    Args:
        proxy_m: [M] what chooses, for M samples of one prompt.
        gold_m: [M] what is wanted; give the proxy itself for its own expected maximum.
        ns: Each at least 1 and at most M.

    Returns:
        [len(ns)] float64.

    Raises:
        AlgorithmError: An n outside 1..M, different lengths, or a score that is no number.
    """
    size = len(proxy_m)
    if len(gold_m) != size or not all(1 <= n <= size for n in ns):
        raise AlgorithmError(
            f"best-of-n needs 1 <= n <= M and as many values as scores, not n in {list(ns)} "
            f"with {size} scores and {len(gold_m)} values"
        )
    proxy_m, gold_m = proxy_m.double(), gold_m.double()
    if not bool(torch.isfinite(proxy_m).all() & torch.isfinite(gold_m).all()):
        raise AlgorithmError("best-of-n: a score is NaN or infinite; leave such samples out")
    _, level_m, count_l = proxy_m.unique(sorted=True, return_inverse=True, return_counts=True)
    gold_l = torch.zeros(len(count_l), dtype=torch.float64).index_add_(0, level_m, gold_m)
    gold_l /= count_l
    end_l = count_l.cumsum(0)
    shares = [_subsets_below(end_l, n, size).diff(prepend=end_l.new_zeros(1).double()) for n in ns]
    return torch.stack([(share_l * gold_l).sum() for share_l in shares])


def _subsets_below(counts_l: Tensor, n: int, size: int) -> Tensor:
    """[L] the share ``C(k, n) / C(size, n)`` of subsets within the first k samples."""
    k_l = counts_l.double()
    factors = torch.arange(n, dtype=torch.float64)
    return ((k_l[:, None] - factors) / (size - factors)).clamp(min=0.0).prod(dim=1)


def plug_in_kl(proxy_m: Tensor, n: int) -> Tensor:
    """:func:`kl_of_levels` with the masses that a pool of samples shows.

    Where scores tie seldom it nears ``kl_bound(n)`` from below as M grows; it needs M well above n.

    Args:
        proxy_m: [M] what chooses, for M samples of one prompt.
        n: Samples drawn.

    Returns:
        A scalar of float64.
    """
    _, counts_l = proxy_m.double().unique(sorted=True, return_counts=True)
    return kl_of_levels(counts_l.double(), n)
