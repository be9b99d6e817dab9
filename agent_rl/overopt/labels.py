"""Preferences as a noisy labeler gives them: pairs of samples, labelled by their gold reward."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np

from agent_rl.errors import UserError
from agent_rl.overopt.samples import Sample, Sampler

PAIRS = 2  # set these samples apart from other draws of the same seed
LABELS = 40_127
SPARE = 1.25  # pairs drawn for each that is wanted: equal answers are left out


def draw_pairs(sampler: Sampler, count: int, scale: float, seed: int) -> list[dict[str, Any]]:
    """``count`` labelled pairs of the policy's own samples, two to each prompt, as TRL's rows.

    Raises:
        UserError: The policy gives the same answer twice too often.
    """
    tasks = sampler.tasks("train", math.ceil(count * SPARE) + 8)
    drawn = chain.from_iterable(sampler.draw(tasks, 2, PAIRS))
    rows: list[dict[str, Any]] = []
    for row in labelled(drawn, scale, seed):
        rows.append(row)
        if len(rows) == count:
            return rows
    raise UserError(
        f"only {len(rows)} of {len(tasks)} pairs of samples differ, {count} are wanted: the "
        "starting policy repeats itself; train it on more diverse answers (sft), or for fewer steps"
    )


def labelled(drawn: Iterable[list[Sample]], scale: float, seed: int) -> Iterable[dict[str, Any]]:
    """A row for every pair of different answers; label ``i`` depends on the seed and ``i`` alone.

    The first is preferred with probability ``sigmoid(scale x (gold first - gold second))``
    (Bradley & Terry 1952).
    """
    for number, pair in enumerate(drawn):
        if len(pair) < 2 or pair[0].text == pair[1].text:
            continue
        first, second = pair
        gap = scale * (first.gold - second.gold)
        probability = 1.0 / (1.0 + math.exp(-max(-700.0, min(700.0, gap))))
        uniform = np.random.default_rng((seed, LABELS, number)).random()
        chosen, rejected = (first, second) if uniform < probability else (second, first)
        yield {
            "prompt": first.prompt,
            "chosen": [{"role": "assistant", "content": chosen.text}],
            "rejected": [{"role": "assistant", "content": rejected.text}],
            "gold_chosen": chosen.gold,
            "gold_rejected": rejected.gold,
        }
