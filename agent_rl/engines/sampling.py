"""Logits to tokens: temperature, truncation, and draws that no batch can change.

The draw for a token is one uniform number per (seed of the request, index of the token), from a
counter-based generator, put through the inverse of the cumulative distribution. So a request
samples the same tokens alone, in a batch, and in any order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MASK = (1 << 64) - 1
_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def stream_key(seed: int) -> int:
    """Spread a seed (any integer) over 64 bits, so that neighbouring seeds share nothing."""
    return int(_mix(np.array([seed & _MASK], dtype=np.uint64) ^ np.uint64(0x5851F42D4C957F2D))[0])


def uniforms(keys: NDArray[np.uint64], index: NDArray[Any]) -> NDArray[np.float32]:
    """One number in [0, 1), a multiple of 2^-24, for every (stream, index).

    Args:
        keys: [N] uint64, from ``stream_key``.
        index: [N] non-negative integers, the number of the token within its completion.

    Returns:
        [N] float32.
    """
    bits = _mix(keys + (index.astype(np.uint64) + np.uint64(1)) * _GAMMA)
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def truncate(scaled: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor) -> Tensor:
    """Set to -inf what top-k, top-p and min-p cut, in that order.

    Of equal logits at the border of top-k, as many as fit are kept. The most likely token always
    stays.

    Args:
        scaled: [N, V] float32 logits, already divided by the temperature.
        top_k: [N] integers, 0 keeps all.
        top_p: [N] float32 in (0, 1] (Holtzman et al. 2020).
        min_p: [N] float32 in [0, 1] (Nguyen et al. 2024).

    Returns:
        [N, V] float32.
    """
    vocabulary = scaled.shape[-1]
    k = torch.where(top_k > 0, top_k, vocabulary).clamp(max=vocabulary)
    logits, order = scaled.topk(int(k.max()), dim=-1)
    rank = torch.arange(logits.shape[-1], device=scaled.device)
    logits = logits.masked_fill(rank >= k[:, None], -torch.inf)
    probabilities = logits.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    keep = (before < top_p[:, None]) & (probabilities >= min_p[:, None] * probabilities[:, :1])
    keep |= (top_p[:, None] >= 1) & (min_p[:, None] <= 0)  # the sum may round past 1
    kept = logits.masked_fill(~keep, -torch.inf)
    return torch.full_like(scaled, -torch.inf).scatter_(-1, order, kept)


def draw(
    logits: Tensor,
    uniform: Tensor,
    *,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
) -> tuple[Tensor, Tensor]:
    """Sample one token per row.

    Args:
        logits: [N, V] float32.
        uniform: [N] float32 in [0, 1).
        temperature: [N] float32; 0 takes the most likely token, reported under temperature 1.
        top_k: [N] integers, 0 keeps all.
        top_p: [N] float32, 1 keeps all.
        min_p: [N] float32, 0 keeps all.

    Returns:
        Token ids [N] and the log-probabilities [N] they were drawn with.
    """
    greedy = temperature == 0
    scaled = logits / torch.where(greedy, 1.0, temperature)[:, None]
    cut = ((top_k > 0) | (top_p < 1) | (min_p > 0)) & ~greedy
    if bool(cut.any()):
        rows = cut.nonzero()[:, 0]
        scaled[rows] = truncate(scaled[rows], top_k[rows], top_p[rows], min_p[rows])
    logprobs = scaled.log_softmax(-1)
    ids = logits.argmax(-1) if bool(greedy.all()) else _invert(logprobs.exp(), uniform)
    if bool(greedy.any()):
        ids = torch.where(greedy, logits.argmax(-1), ids)
    return ids, logprobs.gather(-1, ids[:, None])[:, 0]


def _invert(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """The first token whose cumulative probability exceeds ``uniform``; its own is never 0."""
    cumulative = probabilities.cumsum(-1)
    total = cumulative[:, -1:]
    below = torch.nextafter(total, torch.zeros_like(total))
    target = torch.minimum(uniform[:, None] * total, below)
    ids = torch.searchsorted(cumulative, target, right=True)[:, 0]
    return ids.clamp_(max=probabilities.shape[-1] - 1)  # NaN logits: the caller reports them
