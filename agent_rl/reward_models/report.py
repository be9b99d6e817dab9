"""How good a reward model is: accuracy against the length alone, calibration, where it fails."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent_rl.reward_models.data import Item
from agent_rl.runs.statistics import wilson_interval

BINS = 10
MARGIN_EDGES = (0.25, 0.5, 1.0, 2.0)
LENGTH_EDGES = (0.1, 0.25, 0.5)
MOST_CATEGORIES = 30
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One comparison of two answers, or one label, as the model saw it.

    Attributes:
        gap: Reward of the better answer less that of the worse; of a label, the log-odds that the
            model gives to the truth. The model is right where it is above 0.
        lengths: Characters of the better and of the worse answer; of a label, of its answer and 0.
        category: As the row says.
        label: Of the kinds with labels.
    """

    gap: float
    lengths: tuple[int, int]
    category: str = ""
    label: float = 1.0

    @property
    def credit(self) -> float:
        """1 where the model is right, one half where it cannot tell."""
        return 0.5 if self.gap == 0 else float(self.gap > 0)


def verdicts(items: Sequence[Item], outputs: Sequence[Sequence[float]]) -> list[Verdict]:
    """Every comparison, answer or step of the items, in their order.

    Args:
        items: What was judged.
        outputs: The head's outputs: of each answer, or of each step.
    """
    found = []
    for item, said in zip(items, outputs, strict=True):
        for (better, worse), category in zip(item.pairs, item.categories, strict=False):
            lengths = (len(item.answers[better]), len(item.answers[worse]))
            found.append(Verdict(said[better] - said[worse], lengths, category))
        for answer, logit, label in zip(item.answers, said, item.labels, strict=False):
            truth = logit if label >= 0.5 else -logit
            found.append(Verdict(truth, (len(answer), 0), item.categories[0], label))
    return found


def accuracy(seen: Sequence[Verdict]) -> float:
    """Share that the model has right; NaN of none."""
    return sum(v.credit for v in seen) / len(seen) if seen else math.nan


def calibration_error(confidence: Sequence[float], right: Sequence[float], low: float) -> float:
    """Expected calibration error (Guo et al. 2017, equation 3), ``BINS`` bins from ``low`` to 1."""
    places = [min(BINS - 1, int((p - low) / (1 - low) * BINS)) for p in confidence]
    total = 0.0
    for number in range(BINS):
        here = [i for i, place in enumerate(places) if place == number]
        total += abs(sum(confidence[i] - right[i] for i in here))
    return total / len(confidence) if confidence else math.nan


def length_baseline(train: Sequence[Item]) -> tuple[str, Callable[[Verdict], float]]:
    """The rule on lengths alone that has more of the training pairs right, and its credit."""
    signs = [
        np.sign(len(item.answers[better]) - len(item.answers[worse]))
        for item in train
        for better, worse in item.pairs
    ]
    name, sign = ("longer wins", 1) if sum(signs) >= 0 else ("shorter wins", -1)
    return name, lambda v: 0.5 + 0.5 * float(np.sign(sign * (v.lengths[0] - v.lengths[1])))


def label_baseline(train: Sequence[Item]) -> tuple[str, Callable[[Verdict], float]]:
    """Always the label that is more frequent in training, and its credit."""
    labels = [label for item in train for label in item.labels]
    common = sum(label >= 0.5 for label in labels) >= len(labels) / 2
    name = f"always {'right' if common else 'wrong'}"
    return name, lambda v: float((v.label >= 0.5) == common)


def figures(train: Sequence[Item], seen: Sequence[Verdict]) -> Row:
    """The figures of held-out verdicts for the summary; see docs/reward_models.md.

    Args:
        train: The training items; they choose the baseline.
        seen: The held-out verdicts.
    """
    n = len(seen)
    compares = any(item.pairs for item in train)
    name, credit = (length_baseline if compares else label_baseline)(train)
    right = sum(v.credit for v in seen)
    baseline = sum(credit(v) for v in seen)
    confidence = [1 / (1 + math.exp(-min(700.0, abs(v.gap)))) for v in seen]
    low, high = wilson_interval(math.floor(right), n)
    return {
        "held_out": n,
        "accuracy": right / n,
        "accuracy_low": low,
        "accuracy_high": high,
        "baseline": name,
        "baseline_accuracy": baseline / n,
        "baseline_low": wilson_interval(math.floor(baseline), n)[0],
        "baseline_high": wilson_interval(math.floor(baseline), n)[1],
        "calibration_error": calibration_error(confidence, [v.credit for v in seen], 0.5),
        "mean_margin": sum(v.gap for v in seen) / n,
    }


def tables(found: Mapping[str, Any], seen: Sequence[Verdict]) -> dict[str, list[Row]]:
    """The figures as tables: model and baseline, then accuracy by margin, length and category."""
    interval = f"{found['accuracy_low']:.3f} to {found['accuracy_high']:.3f}"
    other = f"{found['baseline_low']:.3f} to {found['baseline_high']:.3f}"
    compares = any(v.lengths[1] for v in seen)
    out = {
        "Held-out accuracy": [
            {"by": "reward model", "accuracy": found["accuracy"], "95 %": interval, "n": len(seen)},
            {
                "by": found["baseline"],
                "accuracy": found["baseline_accuracy"],
                "95 %": other,
                "n": len(seen),
            },
        ],
        "Accuracy by size of the margin": _buckets(
            seen, lambda v: abs(v.gap), MARGIN_EDGES, "margin"
        ),
    }
    if compares:
        out["Accuracy by difference in length"] = _buckets(
            seen,
            _longer_by,
            (*(-e for e in reversed(LENGTH_EDGES)), 0.0, *LENGTH_EDGES),
            "chosen longer by, share of the longer",
        )
    categories = sorted({v.category for v in seen} - {""})
    if categories:
        out["Accuracy by category"] = [
            _bucket("category", name, [v for v in seen if v.category == name])
            for name in categories[:MOST_CATEGORIES]
        ]
    return out


def _longer_by(verdict: Verdict) -> float:
    better, worse = verdict.lengths
    return (better - worse) / max(better, worse, 1)


def _buckets(
    seen: Sequence[Verdict], of: Callable[[Verdict], float], edges: Sequence[float], name: str
) -> list[Row]:
    ends = [-math.inf, *edges, math.inf]
    rows = []
    for low, high in itertools.pairwise(ends):
        here = [v for v in seen if low <= of(v) < high]
        if here:
            rows.append(_bucket(name, _range(low, high), here))
    return rows


def _range(low: float, high: float) -> str:
    if low == -math.inf:
        return f"below {high:g}"
    return f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"


def _bucket(name: str, value: str, here: Sequence[Verdict]) -> Row:
    right = sum(v.credit for v in here)
    low, high = wilson_interval(math.floor(right), len(here))
    return {
        name: value,
        "accuracy": right / len(here),
        "95 %": f"{low:.3f} to {high:.3f}",
        "mean margin": sum(v.gap for v in here) / len(here),
        "n": len(here),
    }
