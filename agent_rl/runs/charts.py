"""Which curves a report draws, and their points: from lines of ``metrics.jsonl`` to series."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
Points = list[tuple[int, float]]

NOT_METRICS = ("step", "stage", "non_finite")
MAX_POINTS = 1000


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart of the report.

    Attributes:
        title: What it shows.
        unit: Of the vertical axis.
        series: (metric, label); a metric that ends with ``/`` stands for all that start so.
        band: Metrics of the lower and upper end of an interval around the first series.
        stacked: Whether the series add up to a whole.
        distinct: Leave out a series that equals an earlier one.
    """

    title: str
    unit: str
    series: tuple[tuple[str, str], ...]
    band: tuple[str, str] | None = None
    stacked: bool = False
    distinct: bool = False


CHARTS = (
    Chart(
        "Reward",
        "mean per episode",
        (
            ("reward/mean", "reward"),
            ("reward/penalised", "return, penalties included"),
            ("reward/part/gold/value", "gold, never paid"),
        ),
        distinct=True,
    ),
    Chart(
        "Held-out accuracy",
        "share of tasks",
        (("eval/greedy", "greedy, 95 % interval"), ("eval/sampled", "sampled")),
        band=("eval/greedy_low", "eval/greedy_high"),
    ),
    Chart("Loss", "nats per token", (("loss/train", "training"), ("loss/eval", "held-out"))),
    Chart(
        "Reward model accuracy",
        "share of comparisons or labels",
        (("rm/accuracy_train", "training batch"), ("rm/accuracy_eval", "held-out")),
    ),
    Chart(
        "Pairs told apart",
        "share, by the implicit reward",
        (("pref/accuracy", "training"), ("pref/accuracy_eval", "held-out")),
    ),
    Chart(
        "Implicit reward",
        "nats, mean per answer",
        (("pref/chosen_reward", "chosen"), ("pref/rejected_reward", "rejected")),
    ),
    Chart("KL to the reference", "nats per completion", (("kl/reference", "KL"),)),
    Chart(
        "Completion length",
        "tokens",
        (("length/mean", "training"), ("eval/length", "held-out, greedy")),
    ),
    Chart("Entropy", "nats per token", (("policy/entropy", "entropy"),)),
    Chart("Clip fraction", "share of tokens", (("policy/clip_fraction", "clipped"),)),
    Chart("Gradient norm", "before clipping", (("optim/grad_norm", "norm"),)),
    Chart(
        "Sampler gap",
        "nats, engine against trainer",
        (("policy/sampler_gap_mean", "mean"), ("policy/sampler_gap_max", "largest")),
    ),
    Chart(
        "Groups and samples",
        "share",
        (
            ("groups/zero_spread", "groups of equal reward"),
            ("samples/zero_advantage", "samples without advantage"),
            ("samples/truncated", "cut at a limit"),
            ("samples/error", "not judged (our failure)"),
        ),
    ),
    Chart("Parts of the reward", "mean per episode", (("reward/part/", ""),)),
    Chart(
        "Held-out return",
        "mean per episode",
        (("eval/return", "greedy"), ("eval/sampled_return", "sampled")),
    ),
    Chart(
        "Learned reward of segments",
        "against the sealed true one",
        (("segments/accuracy", "right order"), ("segments/correlation", "correlation")),
    ),
    Chart("Explained variance", "of the value head", (("value/explained_variance", "explained"),)),
    Chart(
        "Time of a step",
        "seconds",
        (
            ("time/generate", "generate"),
            ("time/reference", "score"),
            ("time/credit", "credit"),
            ("time/train", "train"),
            ("time/sync", "sync"),
        ),
        stacked=True,
    ),
    Chart("Speed", "tokens per second", (("speed/tokens_per_s", "tokens"),)),
    Chart(
        "Best of n",
        "expected score, by n",
        (("best_of_n/gold", "gold"), ("best_of_n/proxy", "proxy")),
        distinct=True,
    ),
    Chart(
        "Feedback",
        "share of prompts",
        (
            ("feedback/kept", "kept"),
            ("feedback/tie", "ties"),
            ("feedback/consistent", "both orders agree"),
            ("feedback/error", "our failures"),
        ),
    ),
)


def series_of(rows: Sequence[Row]) -> dict[str, Points]:
    """Every metric's (step, value) in order; a step that was logged twice keeps the later value."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        step = row.get("step")
        for name, value in row.items():
            if name not in NOT_METRICS and is_number(value) and isinstance(step, int):
                found.setdefault(name, {})[step] = float(value)
    return {name: sorted(points.items()) for name, points in found.items()}


def draw(rows: Sequence[Row]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The charts of a stage as the page's script reads them.

    Returns:
        The charts of ``CHARTS`` that have data, and one chart for every other metric.
    """
    series = series_of(rows)
    main = [_draw(chart, series) for chart in CHARTS]
    shown = {name for chart in CHARTS for name in _names(chart, series)}
    others = [
        _draw(Chart(name, "", ((name, name),)), series)
        for name in sorted(series)
        if name not in shown
    ]
    seen: list[Points] = []
    kept = []
    for chart in main:
        points = [line["points"] for line in chart["series"]]
        if any(p not in seen for p in points):  # with 0/1 rewards the return is the accuracy
            kept.append(chart)
        seen += points
    return kept, others


def count_non_finite(rows: Sequence[Row]) -> dict[str, int]:
    """How often each metric was NaN or infinite."""
    counts: dict[str, int] = {}
    for row in rows:
        names = row.get("non_finite")
        for name in names if isinstance(names, list) else []:
            counts[str(name)] = counts.get(str(name), 0) + 1
    return counts


def thin(points: Points, limit: int = MAX_POINTS) -> Points:
    """At most about ``limit`` points: of each stretch its lowest and highest, so spikes stay."""
    if len(points) <= limit:
        return points
    buckets = limit // 2
    edges = [i * len(points) // buckets for i in range(buckets + 1)]
    kept: Points = []
    for start, end in itertools.pairwise(edges):
        stretch = points[start:end]
        ends = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
        kept += sorted(ends)
    return kept


def is_number(value: Any) -> bool:
    """Whether a value from a file is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _names(chart: Chart, series: Mapping[str, Points]) -> list[str]:
    """All metrics that a chart speaks for."""
    names: list[str] = list(chart.band or ())
    for metric, _ in chart.series:
        names += [name for name in series if name == metric or _is_part(name, metric)]
    return names


def _is_part(name: str, metric: str) -> bool:
    return metric.endswith("/") and name.startswith(metric)


def _draw(chart: Chart, series: Mapping[str, Points]) -> dict[str, Any]:
    lines: list[dict[str, Any]] = []
    for metric, label in chart.series:
        names = [name for name in series if name == metric or _is_part(name, metric)]
        for name in names:
            points = thin(series[name])
            if not chart.distinct or all(points != line["points"] for line in lines):
                label_of = label or name.removeprefix(metric)
                lines.append({"metric": name, "label": label_of, "points": points})
    low, high = (dict(series.get(name, [])) for name in chart.band or ("", ""))
    return {
        "title": chart.title,
        "unit": chart.unit,
        "stacked": chart.stacked,
        "series": lines,
        "band": [(step, low[step], high[step]) for step in low if step in high],
    }
