"""Labelled pairs of samples: which are compared, who wins, and how noise is added."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from agent_rl.preferences.pairs import Pair
from rl_envs.types import Message

Pairing = Literal["all", "extremes", "disjoint"]
Noise = Literal["none", "bradley_terry", "flip"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion of a task, and what it is worth.

    Attributes:
        prompt: What it answers.
        text: The completion.
        reward: By whoever labels; NaN where a judge compares instead.
        info: Columns that both samples of a pair share.
        own: Columns of this sample, which get ``_chosen`` or ``_rejected`` at their end.
    """

    prompt: tuple[Message, ...]
    text: str
    reward: float
    info: Mapping[str, Any]
    own: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Labelling:
    """How rewards become labels.

    Attributes:
        min_gap: Rewards that differ by less are a tie; equal ones always are.
        noise: What may swap a label.
        temperature: Of ``bradley_terry``, in rewards.
        flip: Probability of a swap, of ``flip``.
        keep_ties: Whether ties come out, marked.
    """

    min_gap: float = 0.0
    noise: Noise = "none"
    temperature: float = 1.0
    flip: float = 0.1
    keep_ties: bool = False


def paired(samples: Sequence[Sample], how: Pairing) -> list[tuple[Sample, Sample]]:
    """Which samples of a task are compared.

    Args:
        samples: Of one task.
        how: ``all``; ``extremes``: the first best and the first worst; ``disjoint``: neighbours.
    """
    if len(samples) < 2:
        return []
    if how == "all":
        return list(combinations(samples, 2))
    if how == "disjoint":
        return list(zip(samples[::2], samples[1::2], strict=False))
    best = max(samples, key=lambda s: s.reward)
    return [(best, min(samples, key=lambda s: s.reward))]


def label(
    a: Sample, b: Sample, gap: float, how: Labelling, rng: np.random.Generator, counts: Counter[str]
) -> Pair | None:
    """The pair of two samples, or None; ``counts`` is told why.

    With noise the pair has no margin: a margin would tell what the label hides.

    Args:
        a: One sample.
        b: The other one.
        gap: By how much ``a`` is better.
        how: Ties and noise.
        rng: Decides about the noise, by one draw for every pair.
        counts: Gets one more ``made``, ``ties``, ``same``, ``empty`` or ``failed`` (the gap is no
            finite number), and ``flipped``.
    """
    draw = float(rng.random())
    if a.text == b.text:
        counts["same"] += 1
        return None
    if not a.text.strip() or not b.text.strip():
        counts["empty"] += 1
        return None
    if not math.isfinite(gap):
        counts["failed"] += 1
        return None
    if gap == 0 or abs(gap) < how.min_gap:
        counts["ties"] += 1
        return _pair(a, b, None, tie=True) if how.keep_ties else None
    better, worse = (a, b) if gap > 0 else (b, a)
    counts["made"] += 1
    if draw < _swap_probability(abs(gap), how):
        counts["flipped"] += 1
        better, worse = worse, better
    margin = abs(gap) if how.noise == "none" and math.isfinite(a.reward) else None
    return _pair(better, worse, margin, tie=False)


def _swap_probability(gap: float, how: Labelling) -> float:
    """Bradley & Terry (1952): the worse wins with 1 - sigmoid(gap / temperature)."""
    if how.noise == "flip":
        return how.flip
    if how.noise == "bradley_terry":
        return 1.0 / (1.0 + math.exp(min(gap / how.temperature, 700.0)))
    return 0.0


def _pair(chosen: Sample, rejected: Sample, margin: float | None, *, tie: bool) -> Pair:
    info = dict(chosen.info)
    for side, sample in (("chosen", chosen), ("rejected", rejected)):
        info |= {f"{name}_{side}": value for name, value in sample.own.items()}
    pair = Pair(chosen.prompt, chosen.text, rejected.text, margin, "", info, tie)
    return Pair(chosen.prompt, chosen.text, rejected.text, margin, pair.item, info, tie)
