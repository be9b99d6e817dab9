"""Advantages: how much better a trajectory, a turn or a token did than expected.

Flat layout, see ``layout``. Everything returned is a constant: no gradient flows through it.
Returns and rewards must be finite (``AlgorithmError`` otherwise): a sample whose grader failed is
left out before this, never given a reward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from agent_rl.algorithms.layout import (
    AlgorithmError,
    discounted_sum,
    group_sizes,
    group_sum,
    has_spread,
    last_tokens,
    require_finite,
)

Scale = Literal["std", "none", "batch"]


def _group_std(centred_n: Tensor, group_n: Tensor) -> Tensor:
    variance = group_sum(centred_n**2, group_n) / (group_sizes(group_n, centred_n) - 1).clamp(min=1)
    return variance.sqrt()


def _batch_std(centred_n: Tensor, group_n: Tensor) -> Tensor:
    return ((centred_n**2).sum() / max(centred_n.numel() - 1, 1)).sqrt()


_DEVIATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "std": _group_std,
    "batch": _batch_std,
}


def group_relative(
    returns_n: Tensor, group_n: Tensor, *, scale: Scale = "std", eps: float = 1e-4
) -> Tensor:
    """Group-relative advantage: ``(r - mean(group)) / (std + eps)``.

    GRPO (Shao et al. 2024, arXiv:2402.03300, section 4.1.2) scales by the group's deviation.
    Dr. GRPO (Liu et al. 2025, arXiv:2503.20783) does not (``scale="none"``). ``scale="batch"``
    divides by the deviation of the centred returns of the whole batch, as REINFORCE++ with
    baseline does (Hu et al. 2025, arXiv:2501.03262).

    The deviation is the sample deviation (n - 1), which is ``torch.std``'s default and what TRL
    and the published GRPO code run; DeepSeekMath does not say. With 0/1 rewards and 8 members it
    is 7 % larger than the population deviation.

    Args:
        returns_n: ``[N]`` (or ``[N, K]``: each column by itself, ``scale`` not ``"batch"``).
        group_n: ``[N]`` long.
        scale: What to divide by.
        eps: Added to the deviation.

    Returns:
        Advantages, shape of ``returns_n``; exactly 0 for a group of one or of equal returns.
    """
    require_finite(returns_n, "returns")
    returns_n = returns_n.detach()
    centred_n = returns_n - group_sum(returns_n, group_n) / group_sizes(group_n, returns_n)
    if scale != "none":
        centred_n = centred_n / (_DEVIATIONS[scale](centred_n, group_n) + eps)
    return centred_n.masked_fill(~has_spread(returns_n, group_n), 0)


def leave_one_out(returns_n: Tensor, group_n: Tensor) -> Tensor:
    """RLOO: ``r_i - mean(r_j, j != i)`` over the group.

    Kool et al. 2019; Ahmadian et al. 2024, arXiv:2402.14740, equation 8. Equal to n/(n-1) times
    the centred return, and unbiased, because the baseline does not contain the sample's own return.

    Args:
        returns_n: ``[N]``.
        group_n: ``[N]`` long.

    Returns:
        ``[N]``; exactly 0 for a group of equal returns and for a group of one. (A lone sample,
        say the survivor of a group whose other graders failed, has no baseline; 0 leaves it
        out instead of silently training it without one.)
    """
    require_finite(returns_n, "returns")
    returns_n = returns_n.detach()
    others_n = (group_sizes(group_n, returns_n) - 1).clamp(min=1)
    baseline_n = (group_sum(returns_n, group_n) - returns_n) / others_n
    return (returns_n - baseline_n).masked_fill(~has_spread(returns_n, group_n), 0)


def max_likelihood(returns_n: Tensor, group_n: Tensor) -> Tensor:
    """MaxRL: ``(r - mean) / mean`` over the group, 0 where nobody succeeded.

    Tajwar et al. 2026, arXiv:2602.02710, algorithm 1. With 0/1 rewards and K successes of n the
    mean over the group of this times the score is ``(1/K) sum r_i S_i - (1/n) sum S_i``, whose
    expectation is the gradient of log pass rate, ``-sum_k (1-p)^k / k``, truncated at k = n - 1.

    Args:
        returns_n: ``[N]``, not negative (0/1 in the paper).
        group_n: ``[N]`` long.

    Returns:
        ``[N]``, within [-1, n - 1]; exactly 0 for a group of one or of equal returns.

    Raises:
        AlgorithmError: for a negative return, which has no likelihood.
    """
    require_finite(returns_n, "returns")
    if bool((returns_n < 0).any()):
        raise AlgorithmError("max_likelihood needs returns >= 0 (0/1 rewards); got a negative one")
    returns_n = returns_n.detach()
    mean_n = group_sum(returns_n, group_n) / group_sizes(group_n, returns_n)
    spread_n = has_spread(returns_n, group_n)
    return ((returns_n - mean_n) / mean_n.masked_fill(~spread_n, 1)).masked_fill(~spread_n, 0)


def whiten(values_t: Tensor, *, scale: bool = True) -> Tensor:
    """``(x - mean) / std`` over all elements, once, before any micro-batch is cut.

    REINFORCE++ (Hu et al. 2025, arXiv:2501.03262, equation 10) and PPO for language models
    (Ziegler et al. 2019). The population deviation (n), so that the result's variance is 1.

    Args:
        values_t: ``[T]``, sampled tokens only: there is no padding here to leak in.
        scale: False only centres.

    Returns:
        ``[T]``; zeros where all values are equal; empty for empty.
    """
    require_finite(values_t, "values")
    if not values_t.numel():
        return values_t
    whole = torch.zeros_like(values_t, dtype=torch.long)
    centred_t = values_t.detach() - values_t.detach().mean()
    spread_t = has_spread(values_t.detach(), whole)
    deviation = (centred_t**2).mean().sqrt() if scale else centred_t.new_ones(())
    return (centred_t / deviation.masked_fill(~spread_t[0], 1)).masked_fill(~spread_t, 0)


def scale_rewards(rewards_t: Tensor, *, eps: float = 1e-8) -> Tensor:
    """``r / sqrt(var(r) + eps)`` over the rewards of all tokens of the batch, zeros included.

    The reward whitening of Ziegler et al. 2019's code (Huang et al. 2024, arXiv:2403.17031), which
    is ``(r - mean) / std + mean``: it keeps the mean of a token's reward, and by that pays every
    token ``mean * (1 - 1 / std)`` for being there, a price on length. Here rewards are only scaled,
    which leaves the order of all policies as it was.

    Args:
        rewards_t: ``[T]``, sampled tokens only: there is no padding here to leak in.
        eps: Added to the population variance.

    Returns:
        ``[T]``; rewards without spread come back as they are.
    """
    require_finite(rewards_t, "rewards")
    rewards_t = rewards_t.detach()
    if not rewards_t.numel() or not has_spread(rewards_t, torch.zeros_like(rewards_t).long())[0]:
        return rewards_t
    return rewards_t / (rewards_t.var(unbiased=False) + eps).sqrt()


def _after_last(bootstrap_n: Tensor | None, trajectory_t: Tensor, like_t: Tensor) -> Tensor:
    """The value that follows each trajectory's last token, at that token; 0 elsewhere."""
    if bootstrap_n is None:
        return torch.zeros_like(like_t)
    following_t = bootstrap_n.detach()[trajectory_t].to(like_t.dtype)
    return following_t.masked_fill(~last_tokens(trajectory_t), 0)


def returns_to_go(
    rewards_t: Tensor,
    discounts_t: Tensor,
    trajectory_t: Tensor,
    *,
    bootstrap_n: Tensor | None = None,
) -> Tensor:
    """``G_t = r_t + discount_t * G_{t+1}`` within the trajectory.

    Sutton and Barto 2018, equation 3.9, with a discount per step.

    Args:
        rewards_t: ``[T]``; a turn's reward lies on its last token.
        discounts_t: ``[T]``, applied between token t and the next: 1 inside a turn, the
            environment's discount on a turn's last token.
        trajectory_t: ``[T]`` long.
        bootstrap_n: ``[N]``, the value after the last token: of the state in which a *truncated*
            episode was cut off, 0 for a *terminated* one. None is 0 for all.

    Returns:
        ``[T]``.
    """
    require_finite(rewards_t, "rewards")
    rewards_t = rewards_t.detach()
    ends_t = rewards_t + discounts_t * _after_last(bootstrap_n, trajectory_t, rewards_t)
    return discounted_sum(ends_t, discounts_t, trajectory_t)


def episode_returns(returns_t: Tensor, trajectory_t: Tensor, n_trajectories: int) -> Tensor:
    """The return-to-go at each trajectory's first token, ``[N]``; 0 for one without tokens."""
    first_t = last_tokens(trajectory_t.flip(0)).flip(0)
    returns_n = returns_t.new_zeros(n_trajectories)
    return returns_n.index_put((trajectory_t[first_t],), returns_t[first_t])


def turn_relative(
    rewards_t: Tensor,
    discounts_t: Tensor,
    trajectory_t: Tensor,
    turn_t: Tensor,
    group_n: Tensor,
    *,
    scale: Literal["std", "none"] = "std",
    eps: float = 1e-4,
    bootstrap_n: Tensor | None = None,
) -> Tensor:
    """Group baseline per turn, for environments that reward steps.

    ``A_{i,k} = (G_{i,k} - mean_j G_{j,k}) / (std_j G_{j,k} + eps)``, where ``G_{i,k}`` is the
    return-to-go from the start of turn k (process supervision with group statistics, Shao et al.
    2024, section 4.1.3, with returns-to-go). The mean runs over ALL members of the group; one that
    has ended counts as 0, for it earns nothing more. Averaging only those still playing would let a
    turn's baseline depend on who survived, and so on earlier actions. Without scale the expected
    gradient is (n-1)/n times the true one at every turn alike, as for the group mean of GRPO;
    the leave-one-out form differs by that factor only.

    Args:
        rewards_t: ``[T]``.
        discounts_t: ``[T]``, see :func:`returns_to_go`.
        trajectory_t: ``[T]`` long.
        turn_t: ``[T]`` long, from 0, non-decreasing within a trajectory.
        group_n: ``[N]`` long.
        scale: Divide by the deviation (n - 1) of the same values, or not.
        eps: Added to the deviation.
        bootstrap_n: ``[N]``, see :func:`returns_to_go`.

    Returns:
        ``[T]``, the same for all tokens of a turn. For single-turn episodes exactly
        :func:`group_relative`. A trajectory without tokens counts as 0 at every turn.
    """
    returns_t = returns_to_go(rewards_t, discounts_t, trajectory_t, bootstrap_n=bootstrap_n)
    if not returns_t.numel():
        return returns_t
    n, turns = group_n.numel(), int(turn_t.max()) + 1
    # The first token at or after each (trajectory, turn), if that trajectory has one.
    place = torch.arange(n * turns, device=turn_t.device)
    token = torch.searchsorted(trajectory_t * turns + turn_t, place).clamp(max=len(turn_t) - 1)
    ended = (trajectory_t[token] != place // turns) | (turn_t[token] < place % turns)
    returns_nk = returns_t[token].masked_fill(ended, 0).reshape(n, turns)
    return group_relative(returns_nk, group_n, scale=scale, eps=eps)[trajectory_t, turn_t]


def gae(
    rewards_t: Tensor,
    values_t: Tensor,
    discounts_t: Tensor,
    trajectory_t: Tensor,
    *,
    lam: float,
    bootstrap_n: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation over the policy's own tokens.

    Schulman et al. 2016, arXiv:1506.02438, equations 11 and 16:
    ``delta_t = r_t + discount_t V_{t+1} - V_t`` and ``A_t = delta_t + discount_t lam A_{t+1}``.
    The next token is the next *sampled* one: what the environment wrote in between is not
    there, so nothing decays through it.

    Args:
        rewards_t: ``[T]``.
        values_t: ``[T]``, the value before each token, as of sampling time.
        discounts_t: ``[T]``, see :func:`returns_to_go`.
        trajectory_t: ``[T]`` long.
        lam: In [0, 1].
        bootstrap_n: ``[N]``, the value after the last token: for truncated trajectories that of the
            cut-off state, 0 for terminated ones. None is 0 for all.

    Returns:
        Advantages ``[T]`` and returns ``[T] = advantages + values``, the value head's target, taken
        before any whitening.
    """
    require_finite(rewards_t, "rewards")
    rewards_t, values_t = rewards_t.detach(), values_t.detach()
    next_t = torch.cat([values_t[1:], values_t[:1]]).masked_fill(last_tokens(trajectory_t), 0)
    next_t = next_t + _after_last(bootstrap_n, trajectory_t, values_t)
    deltas_t = rewards_t + discounts_t * next_t - values_t
    advantages_t = discounted_sum(deltas_t, discounts_t * lam, trajectory_t)
    return advantages_t, advantages_t + values_t


def spread_over_tokens(advantages_n: Tensor, trajectory_t: Tensor) -> Tensor:
    """Every token of a trajectory gets the trajectory's advantage: ``[N]`` to ``[T]``."""
    return advantages_n[trajectory_t]


def overlong_penalty(lengths_n: Tensor, *, limit: int, buffer: int) -> Tensor:
    """Soft overlong punishment, to be added to the reward.

    DAPO (Yu et al. 2025, arXiv:2503.14476, equation 13): 0 up to ``limit - buffer`` tokens, then
    falling linearly to -1 at ``limit``, and -1 beyond.

    Args:
        lengths_n: ``[N]`` tokens sampled.
        limit: The budget of tokens.
        buffer: Tokens before the limit at which the punishment starts; 0 turns it off.

    Returns:
        ``[N]`` float32 within [-1, 0].
    """
    if not buffer:
        return torch.zeros_like(lengths_n, dtype=torch.float32)
    return ((limit - buffer - lengths_n) / buffer).clamp(min=-1, max=0)
