"""Index arithmetic of the flat layout that every equation here shares.

The sampled tokens of one optimizer batch lie in one row without padding: ``T`` tokens, ``N``
trajectories, ``G`` groups. ``trajectory_t [T]`` (long, non-decreasing) says whose token it is,
``group_n [N]`` (long) which task a trajectory played. A name's suffix is its axis.
"""

from __future__ import annotations

import torch
from torch import Tensor


class AlgorithmError(ValueError):
    """A choice or an input that has no meaning; the message is one line that says what to do."""


def require_finite(values: Tensor, name: str) -> None:
    """Refuse NaN and infinity: a failed grader must be masked out before the mathematics.

    Raises:
        AlgorithmError: naming the first position that is not finite.
    """
    bad = (~torch.isfinite(values)).nonzero()
    if bad.numel():
        position = bad[0].tolist()
        raise AlgorithmError(
            f"{name} at {position} is {values[tuple(position)].item()}; leave failed samples out"
        )


def trajectory_lengths(trajectory_t: Tensor, n_trajectories: int) -> Tensor:
    """Tokens of each trajectory, ``[N]`` long; 0 for one without tokens."""
    return torch.bincount(trajectory_t, minlength=n_trajectories)


def last_tokens(trajectory_t: Tensor) -> Tensor:
    """Whether a token is the last of its trajectory, ``[T]`` bool."""
    last_t = torch.ones_like(trajectory_t, dtype=torch.bool)
    last_t[:-1] = trajectory_t[1:] != trajectory_t[:-1]
    return last_t


def trajectory_sum(values_t: Tensor, trajectory_t: Tensor, n_trajectories: int) -> Tensor:
    """Sum over each trajectory's tokens, ``[N]``."""
    return values_t.new_zeros(n_trajectories).index_add(0, trajectory_t, values_t)


def group_count(group_n: Tensor) -> int:
    """Number of group slots: the largest group index plus one."""
    return int(group_n.max()) + 1 if group_n.numel() else 0


def group_sum(values_n: Tensor, group_n: Tensor) -> Tensor:
    """Sum over each trajectory's whole group, given back to every member; ``[N, ...]``."""
    sums = values_n.new_zeros((group_count(group_n), *values_n.shape[1:]))
    return sums.index_add(0, group_n, values_n)[group_n]


def group_sizes(group_n: Tensor, like: Tensor) -> Tensor:
    """Members of each trajectory's group as a float that divides ``like [N, ...]``."""
    sizes_n = torch.bincount(group_n)[group_n].to(like.dtype)
    return sizes_n.reshape(-1, *[1] * (like.dim() - 1))


def has_spread(values_n: Tensor, group_n: Tensor) -> Tensor:
    """Whether the members of a trajectory's group differ by more than rounding.

    The same reward summed in another order differs in its last bits; dividing by the deviation
    of such a residue would turn it into an advantage. Values closer than 16 units of rounding
    of their largest magnitude are therefore equal.

    Args:
        values_n: ``[N, ...]``; the comparison is per trailing column.
        group_n: ``[N]``.

    Returns:
        Bool, shape of ``values_n``; False for a group of one.
    """
    index = group_n.reshape(-1, *[1] * (values_n.dim() - 1)).expand_as(values_n)
    empty = values_n.new_zeros((group_count(group_n), *values_n.shape[1:]))
    high = empty.scatter_reduce(0, index, values_n, "amax", include_self=False)
    low = empty.scatter_reduce(0, index, values_n, "amin", include_self=False)
    rounding = 16 * torch.finfo(values_n.dtype).eps * torch.maximum(high.abs(), low.abs())
    return (high - low > rounding)[group_n]


def discounted_sum(terms_t: Tensor, decays_t: Tensor, trajectory_t: Tensor) -> Tensor:
    """``x_t = terms_t + decays_t * x_{t+1}`` within each trajectory, ``x = 0`` after its end.

    The recurrence is solved by doubling (Hillis and Steele 1986): after step ``k`` an element
    covers ``2**k`` tokens, so 16,000 tokens take 14 vector operations and no division.

    Args:
        terms_t: ``[T]``.
        decays_t: ``[T]``, the factor between token t and the next one; the last token's is unused.
        trajectory_t: ``[T]``.
    """
    sums_t = terms_t
    decays_t = decays_t.masked_fill(last_tokens(trajectory_t), 0)
    step = 1
    while step < terms_t.numel():
        # Past the end nothing is added; a decay window that reaches it holds the last token's 0.
        sums_t = torch.cat([sums_t[:-step] + decays_t[:-step] * sums_t[step:], sums_t[-step:]])
        decays_t = torch.cat([decays_t[:-step] * decays_t[step:], decays_t[-step:]])
        step *= 2
    return sums_t


def tamed_exp(x: Tensor) -> Tensor:
    """``exp(x)`` up to 80 and its tangent beyond, so that float32 neither overflows nor goes flat.

    A clamp would silence the gradient of exactly the tokens that have gone wrong; infinity
    would make NaN of a zero advantage. Both precisions use the same bound.
    """
    return x.clamp(max=80).exp() * (1 + (x - 80).clamp(min=0))
