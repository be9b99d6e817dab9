"""Policy and value objectives, one loss per token (to be minimized).

``ratio_t``, ``logprobs_t`` and ``advantages_t`` are ``[T]``; so is what is returned. Summing
with weights is the business of ``aggregation``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agent_rl.algorithms.ratios import average


def reinforce(logprobs_t: Tensor, advantages_t: Tensor) -> Tensor:
    """``-A log pi`` (Williams 1992, section 4): right only for samples of the current policy."""
    return -advantages_t * logprobs_t


def unclipped(ratio_t: Tensor, advantages_t: Tensor) -> Tensor:
    """``-ratio * A``, the importance-weighted gradient (Schulman et al. 2017, equation 6)."""
    return -ratio_t * advantages_t


def ppo_clip(
    ratio_t: Tensor,
    advantages_t: Tensor,
    low: float,
    high: float,
    dual: float | None = None,
) -> Tensor:
    """``-min(ratio A, clip(ratio, 1 - low, 1 + high) A)``.

    Schulman et al. 2017, arXiv:1707.06347, equation 7; low < high is DAPO's clip-higher (Yu et al.
    2025, equation 10). ``dual`` bounds the loss of bad samples that became likely: for A < 0 the
    objective is at least ``dual * A`` (dual-clip, Ye et al. 2020, arXiv:1912.09729, equation 5).

    The gradient is 0 where ratio > 1 + high and A > 0, where ratio < 1 - low and A < 0, and where
    ratio > dual and A < 0; elsewhere it is ``-ratio A grad log pi``.

    Args:
        ratio_t: ``[T]``.
        advantages_t: ``[T]``.
        low: Distance of the lower bound from 1.
        high: Distance of the upper bound from 1.
        dual: Greater than 1, or None.
    """
    clipped_t = ratio_t.clamp(1 - low, 1 + high)
    objective_t = torch.minimum(ratio_t * advantages_t, clipped_t * advantages_t)
    if dual is not None:
        bounded_t = torch.maximum(objective_t, dual * advantages_t)
        objective_t = torch.where(advantages_t < 0, bounded_t, objective_t)
    return -objective_t


def cispo(
    ratio_t: Tensor, logprobs_t: Tensor, advantages_t: Tensor, high: float, low: float
) -> Tensor:
    """``-sg[clip(ratio, 1 - low, 1 + high)] A log pi``.

    MiniMax-M1 (Chen et al. 2025, arXiv:2506.13585, equations 4 and 5). The weight is clipped and
    constant; every token keeps its gradient, the clipped ones too. The paper sets no lower
    bound: ``low >= 1``.
    """
    weight_t = ratio_t.detach().clamp(1 - low, 1 + high)
    return -weight_t * advantages_t * logprobs_t


def value_loss(
    values_t: Tensor, old_values_t: Tensor, returns_t: Tensor, clip: float | None = None
) -> Tensor:
    """``max((V - R)^2, (clip(V, V_old +- clip) - R)^2) / 2``, ``[T]``.

    PPO's clipped value loss (Schulman et al. 2017's reference code; Huang et al. 2024,
    arXiv:2403.17031). The bounds are around the values at sampling time, from which ``returns_t``
    were made; the gradient is 0 where the value has left them and come closer to the return.

    Args:
        values_t: ``[T]``, with gradient.
        old_values_t: ``[T]``, at sampling time.
        returns_t: ``[T]``, advantages before whitening + old values.
        clip: None does not clip.
    """
    old_values_t, returns_t = old_values_t.detach(), returns_t.detach()
    error_t = (values_t - returns_t) ** 2
    if clip is None:
        return error_t / 2
    clipped_t = torch.clamp(values_t, old_values_t - clip, old_values_t + clip)
    return torch.maximum(error_t, (clipped_t - returns_t) ** 2) / 2


def entropy(logits_tv: Tensor) -> Tensor:
    """Entropy in nats of each row's distribution: ``[T, V]`` logits to ``[T]``.

    A logit of -inf (a forbidden token) has probability 0 and contributes 0; a row needs one that
    is finite.
    """
    logprobs_tv = logits_tv.log_softmax(-1)
    return -(logprobs_tv.exp() * logprobs_tv.masked_fill(logprobs_tv.isneginf(), 0)).sum(-1)


def clip_fractions(
    ratio_t: Tensor, advantages_t: Tensor | None, low: float, high: float
) -> dict[str, Tensor]:
    """Shares of tokens on which the clip acts; over the tokens of this call, 0 if there are none.

    With advantages as :func:`ppo_clip` acts: ``clip_low`` where ratio < 1 - low and A < 0,
    ``clip_high`` where ratio > 1 + high and A > 0. Without (None) as :func:`cispo` does: at any A.
    """
    signs_t = torch.zeros_like(ratio_t) if advantages_t is None else advantages_t.sign()
    anyway = advantages_t is None
    low_t = (ratio_t < 1 - low) & ((signs_t < 0) | anyway)
    high_t = (ratio_t > 1 + high) & ((signs_t > 0) | anyway)
    dtype = ratio_t.dtype
    return {"clip_low": average(low_t.to(dtype)), "clip_high": average(high_t.to(dtype))}
