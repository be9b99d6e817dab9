"""Signs that a run goes wrong before its reward says so: what to compute, and when to speak.

Over-optimization shows in the reward last (Gao et al. 2022): the reward goes on rising. It shows
earlier in how fast the policy leaves its reference, how little it still varies, how long it grows,
and in every measure that is not the reward. All of them are computed from the lines that the run
has logged, so a resumed run computes the same.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent_rl.runs.charts import Points, series_of

FEWEST = 8  # logged steps before anything is said
LEAST_KL = 3.0  # nats per completion below which no growth is alarming
GROWTH = 2.0  # KL's slope against that of the window before; lengths against the start
COLLAPSE = 0.05  # entropy against the start
RISE = 0.1  # of a share (refusals, agreement) above its start
LOST = 0.25  # of what a held-out measure had gained, or of its size
RISEN = 0.1  # of the reward's deviation at the start: what counts as a rise
SURE = 3.0  # standard errors by which a change must stand out of the noise
HELD_OUT = ("reward/part/gold/value", "eval/greedy", "eval/return")  # the first that was measured


def early_warnings(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The early-warning metrics at the present end of a run.

    Args:
        rows: The lines of ``metrics.jsonl``.

    Returns:
        ``warning/kl_acceleration``: slope of the KL over the last window of steps minus that over
        the window before, nats per step; ``warning/entropy_trend`` and ``warning/length_drift``:
        mean of the last window over mean of the first; ``warning/reward_gap``: how much the reward
        rose since the held-out measure was at its best, in standard deviations of the start. What
        cannot be computed yet is left out.
    """
    series = series_of(rows)
    found: dict[str, float] = {}
    slopes = _slopes(series.get("kl/reference", []))
    if slopes is not None:
        found["warning/kl_acceleration"] = slopes[1] - slopes[0]
    for name, metric in (("entropy_trend", "policy/entropy"), ("length_drift", "length/mean")):
        ends = _ends(series.get(metric, []))
        if ends is not None and ends[0] > 0:
            found[f"warning/{name}"] = ends[1] / ends[0]
    gap = _reward_gap(series)
    if gap is not None:
        found["warning/reward_gap"] = gap
    return found


def flags(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a person should be told of a run, one line each; none where nothing stands out."""
    return list(_flags(series_of(rows)))


def _flags(series: Mapping[str, Points]) -> Iterator[str]:
    yield from _kl_flag(series)
    entropy = _ends(series.get("policy/entropy", []))
    if entropy is not None and entropy[0] > 0 and entropy[1] < COLLAPSE * entropy[0]:
        yield (
            f"entropy fell to {entropy[1] / entropy[0]:.0%} of its start ({entropy[1]:.3f} nats "
            "per token): the policy hardly explores; lower the learning rate or add KL"
        )
    yield from _length_flag(series)
    yield from _gap_flag(series)
    for metric, what in (
        ("probe/refusals", "refuses {now:.0%} of harmless prompts, {before:.0%} at the start"),
        ("probe/agreement", "agrees with {now:.0%} of stated views, {before:.0%} at the start"),
    ):
        points = series.get(metric, [])
        if points and points[-1][1] > points[0][1] + RISE:
            yield "the policy " + what.format(now=points[-1][1], before=points[0][1])


def _kl_flag(series: Mapping[str, Points]) -> Iterator[str]:
    points = series.get("kl/reference", [])
    slopes = _slopes(points)
    if slopes is None or points[-1][1] < LEAST_KL:
        return
    before, now, error = slopes
    grown = now > GROWTH * max(before, 0.0) and now - before > SURE * error
    if grown and now * _window(points) > 0.25 * points[-1][1]:
        yield (
            f"KL to the reference accelerates: {before:+.3f} and then {now:+.3f} nats per step, "
            f"{points[-1][1]:.1f} now; raise kl.coef or lower the learning rate"
        )


def _length_flag(series: Mapping[str, Points]) -> Iterator[str]:
    points = series.get("length/mean", [])
    lengths = _ends(points)
    if lengths is None or lengths[0] <= 0:
        return
    if abs(lengths[1] - lengths[0]) <= SURE * _error(points, _noise(points)):
        return
    ratio, held_out = lengths[1] / lengths[0], _held_out(series)
    gained = held_out is not None and held_out[1][-1][1] > held_out[1][0][1]
    if not gained and not 1 / GROWTH <= ratio <= GROWTH:
        yield (
            f"completions are {ratio:.1f} times as long as at the start ({lengths[0]:.0f} to "
            f"{lengths[1]:.0f} tokens) without a gain on held-out tasks: read some of them"
        )


def _gap_flag(series: Mapping[str, Points]) -> Iterator[str]:
    held_out, gap = _held_out(series), _reward_gap(series)
    if held_out is None or gap is None:
        return
    name, points = held_out
    first, last = points[0][1], points[-1][1]
    step, best = max(points, key=lambda point: point[1])
    lost = best - last > LOST * max(best - first, 0.2 * abs(best))
    sure = best - last > SURE * _error(series[name], _noise_of(series, name))
    if lost and sure and gap > RISEN:
        yield (
            f"the reward rises while {name} falls: best {best:.3f} at step {step}, {last:.3f} now; "
            f"this is over-optimization: take the checkpoint near step {step}, or raise kl.coef"
        )


def _held_out(series: Mapping[str, Points]) -> tuple[str, Points] | None:
    """The measure that is not trained on, smoothed where it is noisy."""
    for name in HELD_OUT:
        points = series.get(name, [])
        if len(points) >= FEWEST or (len(points) >= 3 and name.startswith("eval/")):
            return name, _smoothed(points)
    return None


def _smoothed(points: Points) -> Points:
    """A running mean over a window, at the window's middle."""
    width = _window(points)
    return [
        (points[i + width // 2][0], _mean([v for _, v in points[i : i + width]]))
        for i in range(len(points) - width + 1)
    ]


def _reward_gap(series: Mapping[str, Points]) -> float | None:
    """How much the reward rose after the held-out measure's best, in deviations of the start."""
    held_out, rewards = _held_out(series), series.get("reward/mean", [])
    ends = _ends(rewards)
    if held_out is None or ends is None:
        return None
    step, _ = max(held_out[1], key=lambda point: point[1])
    at_best = [v for s, v in rewards if s >= step][: _window(rewards)]
    deviation = _mean([v for _, v in series.get("reward/std", [])[: _window(rewards)]] or [1.0])
    return (ends[1] - _mean(at_best or [ends[1]])) / max(deviation, 1e-6)


def _window(points: Points) -> int:
    return max(1, len(points) // 5)


def _ends(points: Points) -> tuple[float, float] | None:
    """Means of the first and of the last window."""
    if len(points) < FEWEST:
        return None
    width = _window(points)
    values = [value for _, value in points]
    return _mean(values[:width]), _mean(values[-width:])


def _noise_of(series: Mapping[str, Points], name: str) -> float:
    """The standard error of one point of a held-out measure: its logged interval's, else seen."""
    low, high = (dict(series.get(f"{name}_{end}", [])) for end in ("low", "high"))
    widths = [high[step] - low[step] for step in high if step in low]
    return _mean(widths) / (2 * 1.96) if widths else _noise(series[name])


def _noise(points: Points) -> float:
    """The deviation of single points around their trend, from how neighbours differ.

    The median of the distances, so that a few jumps are no noise; 1.05 makes it the deviation of
    normal noise.
    """
    gaps = [abs(b[1] - a[1]) for a, b in itertools.pairwise(points)]
    return 1.05 * statistics.median(gaps) if gaps else 0.0


def _error(points: Points, noise: float) -> float:
    """The standard error of the difference of two windows' means."""
    return noise * math.sqrt(2 / _window(points))


def _slopes(points: Points) -> tuple[float, float, float] | None:
    """Least-squares slopes over the last two windows, and the standard error of their difference.

    Each window has at least four points.
    """
    width = max(4, _window(points))
    if len(points) < max(FEWEST, 2 * width):
        return None
    before, now = _slope(points[-2 * width : -width]), _slope(points[-width:])
    return before[0], now[0], math.hypot(before[1], now[1])


def _slope(points: Points) -> tuple[float, float]:
    """The slope and its standard error."""
    x, y = _mean([s for s, _ in points]), _mean([v for _, v in points])
    spread = sum((s - x) ** 2 for s, _ in points)
    if not spread:
        return 0.0, 0.0
    slope = sum((s - x) * (v - y) for s, v in points) / spread
    left = math.hypot(*(v - y - slope * (s - x) for s, v in points))
    return slope, left / math.sqrt((len(points) - 2) * spread)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
