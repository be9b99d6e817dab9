"""The equations that an :class:`Algorithm` names, looked up in tables and composed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from agent_rl.algorithms import advantages as adv
from agent_rl.algorithms.kl import k3
from agent_rl.algorithms.losses import cispo, clip_fractions, ppo_clip, reinforce, unclipped
from agent_rl.algorithms.presets import Algorithm
from agent_rl.algorithms.ratios import average, importance_weight, sequence_ratio, token_ratio


@dataclass(frozen=True)
class _Rewards:
    """What advantages are made of; see :func:`estimate_advantages`."""

    rewards_t: Tensor
    discounts_t: Tensor
    trajectory_t: Tensor
    turn_t: Tensor
    group_n: Tensor
    values_t: Tensor | None
    bootstrap_n: Tensor | None

    @cached_property
    def returns_t(self) -> Tensor:
        return adv.returns_to_go(
            self.rewards_t, self.discounts_t, self.trajectory_t, bootstrap_n=self.bootstrap_n
        )

    @cached_property
    def returns_n(self) -> Tensor:
        return adv.episode_returns(self.returns_t, self.trajectory_t, len(self.group_n))

    def over_tokens(self, advantages_n: Tensor) -> tuple[Tensor, Tensor]:
        return adv.spread_over_tokens(advantages_n, self.trajectory_t), self.returns_t


_Estimate = tuple[Tensor, Tensor]


def _group(algorithm: Algorithm, data: _Rewards) -> _Estimate:
    return data.over_tokens(adv.group_relative(data.returns_n, data.group_n, scale=algorithm.scale))


def _leave_one_out(algorithm: Algorithm, data: _Rewards) -> _Estimate:
    return data.over_tokens(adv.leave_one_out(data.returns_n, data.group_n))


def _max_likelihood(algorithm: Algorithm, data: _Rewards) -> _Estimate:
    return data.over_tokens(adv.max_likelihood(data.returns_n, data.group_n))


def _none(algorithm: Algorithm, data: _Rewards) -> _Estimate:
    return data.returns_t, data.returns_t


def _batch(algorithm: Algorithm, data: _Rewards) -> _Estimate:
    returns_t = data.returns_t
    return adv.whiten(returns_t, scale=algorithm.scale == "batch"), returns_t


def _turn(algorithm: Algorithm, data: _Rewards) -> _Estimate:
    advantages_t = adv.turn_relative(
        data.rewards_t,
        data.discounts_t,
        data.trajectory_t,
        data.turn_t,
        data.group_n,
        scale="std" if algorithm.scale == "std" else "none",
        bootstrap_n=data.bootstrap_n,
    )
    return advantages_t, data.returns_t


def _gae(algorithm: Algorithm, data: _Rewards) -> _Estimate:
    assert data.values_t is not None
    assert algorithm.gae_lambda is not None
    return adv.gae(
        data.rewards_t,
        data.values_t,
        data.discounts_t,
        data.trajectory_t,
        lam=algorithm.gae_lambda,
        bootstrap_n=data.bootstrap_n,
    )


_ADVANTAGES: Mapping[str, Callable[[Algorithm, _Rewards], _Estimate]] = {
    "group": _group,
    "leave_one_out": _leave_one_out,
    "max_likelihood": _max_likelihood,
    "none": _none,
    "batch": _batch,
    "turn": _turn,
    "gae": _gae,
}


def estimate_advantages(
    algorithm: Algorithm,
    rewards_t: Tensor,
    discounts_t: Tensor,
    trajectory_t: Tensor,
    *,
    turn_t: Tensor,
    group_n: Tensor,
    values_t: Tensor | None = None,
    bootstrap_n: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The advantages the algorithm asks for, over the WHOLE batch, before it is cut or thinned.

    Faulty samples are left out by the caller, with their trajectories renumbered: they must not
    enter a group's mean.

    Args:
        algorithm: Its whiten_rewards, advantage, scale, gae_lambda and whiten_advantages decide,
            in this order.
        rewards_t: ``[T]``, a turn's reward on its last token, KL penalties already taken off.
        discounts_t: ``[T]``, see :func:`~agent_rl.algorithms.advantages.returns_to_go`.
        trajectory_t: ``[T]`` long.
        turn_t: ``[T]`` long.
        group_n: ``[N]`` long.
        values_t: ``[T]``, for ``gae``.
        bootstrap_n: ``[N]``, value after the last token of truncated trajectories, 0 for others.

    Returns:
        Advantages ``[T]`` and returns ``[T]`` (with ``gae`` the value head's targets).
    """
    if algorithm.whiten_rewards:
        rewards_t = adv.scale_rewards(rewards_t)
    data = _Rewards(rewards_t, discounts_t, trajectory_t, turn_t, group_n, values_t, bootstrap_n)
    advantages_t, returns_t = _ADVANTAGES[algorithm.advantage](algorithm, data)
    return (adv.whiten(advantages_t) if algorithm.whiten_advantages else advantages_t), returns_t


def _ones(logprobs_t: Tensor, old_logprobs_t: Tensor, trajectory_t: Tensor) -> Tensor:
    return torch.ones_like(logprobs_t)


def _token(logprobs_t: Tensor, old_logprobs_t: Tensor, trajectory_t: Tensor) -> Tensor:
    return token_ratio(logprobs_t, old_logprobs_t)


_RATIOS: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "token": _token,
    "sequence": sequence_ratio,
    "none": _ones,
}


def _ppo(algorithm: Algorithm, ratio_t: Tensor, logprobs_t: Tensor, a_t: Tensor) -> Tensor:
    low, high = _bounds(algorithm)
    return ppo_clip(ratio_t, a_t, low, high, algorithm.dual_clip)


def _cispo(algorithm: Algorithm, ratio_t: Tensor, logprobs_t: Tensor, a_t: Tensor) -> Tensor:
    low, high = _bounds(algorithm)
    return cispo(ratio_t, logprobs_t, a_t, high, low)


def _unclipped(algorithm: Algorithm, ratio_t: Tensor, logprobs_t: Tensor, a_t: Tensor) -> Tensor:
    return unclipped(ratio_t, a_t)


def _reinforce(algorithm: Algorithm, ratio_t: Tensor, logprobs_t: Tensor, a_t: Tensor) -> Tensor:
    return reinforce(logprobs_t, a_t)


_OBJECTIVES: Mapping[tuple[str, str], Callable[[Algorithm, Tensor, Tensor, Tensor], Tensor]] = {
    ("token", "ppo"): _ppo,
    ("sequence", "ppo"): _ppo,
    ("token", "cispo"): _cispo,
    ("token", "none"): _unclipped,
    ("sequence", "none"): _unclipped,
    ("none", "none"): _reinforce,
}


def _bounds(algorithm: Algorithm) -> tuple[float, float]:
    """The clip range; infinite where the algorithm has none."""
    low, high = algorithm.clip_low, algorithm.clip_high
    return (torch.inf if low is None else low), (torch.inf if high is None else high)


def policy_loss(
    algorithm: Algorithm,
    logprobs_t: Tensor,
    old_logprobs_t: Tensor,
    advantages_t: Tensor,
    trajectory_t: Tensor,
    *,
    sampler_logprobs_t: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The policy objective of each token.

    Args:
        algorithm: Its ratio, clip, clip range, dual_clip and importance_cap decide.
        logprobs_t: ``[T]``, with gradient.
        old_logprobs_t: ``[T]``, the policy's that the ratio is taken against.
        advantages_t: ``[T]``.
        trajectory_t: ``[T]`` long.
        sampler_logprobs_t: ``[T]``, as recorded by the engine, where ``old_logprobs_t`` was
            computed anew by the learner; the gap of the two is corrected by a weight of at most
            ``importance_cap``. None: ``old_logprobs_t`` are the sampler's own, and the ratio
            already corrects the gap.

    Returns:
        Losses ``[T]`` and diagnostics: 0-dim means over the tokens of this call (weigh them by
        token count when adding micro-batches up; ``*_max`` are maxima). ``kl_old`` is k3 for
        KL(old || pi).
    """
    advantages_t = advantages_t.detach()
    ratio_t = _RATIOS[algorithm.ratio](logprobs_t, old_logprobs_t, trajectory_t)
    objective = _OBJECTIVES[algorithm.ratio, algorithm.clip]
    loss_t = objective(algorithm, ratio_t, logprobs_t, advantages_t)
    signs_t = None if algorithm.clip == "cispo" else advantages_t
    moved_t = token_ratio(logprobs_t.detach(), old_logprobs_t)
    diagnostics = {
        "ratio_mean": average(moved_t),
        "ratio_max": moved_t.max() if moved_t.numel() else average(moved_t),
        "kl_old": average(k3(old_logprobs_t.detach() - logprobs_t.detach())),
        **clip_fractions(ratio_t.detach(), signs_t, *_bounds(algorithm)),
    }
    if sampler_logprobs_t is not None:
        weight_t, measured = importance_weight(
            old_logprobs_t, sampler_logprobs_t, algorithm.importance_cap
        )
        loss_t, diagnostics = weight_t * loss_t, diagnostics | measured
    return loss_t, diagnostics
