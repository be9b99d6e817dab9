"""Probability ratios: how far the policy has moved from the one that sampled.

``logprobs_t`` carry the gradient; everything compared with them is a constant. Ratios use
:func:`~agent_rl.algorithms.layout.tamed_exp`: exact up to a log ratio of 80, finite and with a
gradient beyond.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from agent_rl.algorithms.layout import (
    AlgorithmError,
    tamed_exp,
    trajectory_lengths,
    trajectory_sum,
)


def token_ratio(logprobs_t: Tensor, old_logprobs_t: Tensor) -> Tensor:
    """``pi / pi_old`` per token, ``[T]`` (Schulman et al. 2017, arXiv:1707.06347, section 3)."""
    return tamed_exp(logprobs_t - old_logprobs_t.detach())


def sequence_ratio(logprobs_t: Tensor, old_logprobs_t: Tensor, trajectory_t: Tensor) -> Tensor:
    """GSPO: the geometric mean of a trajectory's token ratios, at each of its tokens.

    Value: ``s_i = exp(mean_t log ratio)`` (Zheng et al. 2025, arXiv:2507.18071, equation 7).
    Gradient: the token form of section 4.3, ``s_{i,t} = sg[s_i] * pi_t / sg[pi_t]``: each token
    carries the sequence's ratio and the gradient of its own logprob. With one advantage per
    trajectory and the ``sequence`` aggregation its gradient is that of ``s_i`` itself (1/T per
    token); unlike it, it also takes an advantage per turn or token.

    Args:
        logprobs_t: ``[T]``.
        old_logprobs_t: ``[T]``.
        trajectory_t: ``[T]`` long. A trajectory must not be cut over micro-batches: the mean needs
            all of its tokens.

    Returns:
        ``[T]``; empty for empty.
    """
    if not logprobs_t.numel():
        return logprobs_t
    n = int(trajectory_t.max()) + 1
    gaps_t = logprobs_t.detach() - old_logprobs_t.detach()
    lengths_n = trajectory_lengths(trajectory_t, n).clamp(min=1)
    means_n = trajectory_sum(gaps_t, trajectory_t, n) / lengths_n
    return tamed_exp(means_n)[trajectory_t] * (logprobs_t - logprobs_t.detach()).exp()


def importance_weight(
    train_logprobs_t: Tensor,
    sampler_logprobs_t: Tensor,
    cap: float | None,
    mode: Literal["token", "sequence"] = "token",
    *,
    trajectory_t: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Truncated importance sampling: ``min(pi_train / pi_sampler, cap)``, a constant.

    Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training".
    Corrects the gap between the engine that sampled and the learner's forward pass with the SAME
    weights. It multiplies a ratio taken against that forward pass, so that the two telescope to
    pi / pi_sampler. A ratio taken against the sampler's own logprobs has corrected the gap already:
    then the two arguments are equal and the weight is 1.

    Args:
        train_logprobs_t: ``[T]``, the learner's logprobs before the first update on this batch.
        sampler_logprobs_t: ``[T]``, recorded while sampling.
        cap: Upper bound of the weight; None measures only and returns ones.
        mode: One ratio per token (biased, low variance), or the product over the trajectory
            (the sequence's true weight).
        trajectory_t: ``[T]`` long, needed for ``"sequence"``.

    Returns:
        Weights ``[T]``, and the mean and maximum of the untruncated ratio, the share over the
        cap and the mean absolute logprob gap, over the tokens of this call.
    """
    gaps_t = train_logprobs_t.detach() - sampler_logprobs_t.detach()
    logs_t = gaps_t
    if mode == "sequence":
        if trajectory_t is None:
            raise AlgorithmError("importance_weight in sequence mode needs trajectory_t")
        n = int(trajectory_t.max()) + 1 if trajectory_t.numel() else 0
        logs_t = trajectory_sum(gaps_t, trajectory_t, n)[trajectory_t]
    raw_t = tamed_exp(logs_t)
    bound = float("inf") if cap is None else cap
    diagnostics = {
        "importance_mean": average(raw_t),
        "importance_max": raw_t.max() if raw_t.numel() else raw_t.sum(),
        "importance_capped": average((raw_t > bound).to(raw_t.dtype)),
        "sampler_gap": average(gaps_t.abs()),
    }
    return torch.ones_like(raw_t) if cap is None else raw_t.clamp(max=cap), diagnostics


def average(values_t: Tensor) -> Tensor:
    """The mean, a constant; 0 for no tokens."""
    return values_t.detach().sum() / max(values_t.numel(), 1)
