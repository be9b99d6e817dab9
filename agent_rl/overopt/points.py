"""Measured points, and what they say: peaks, fits, how far each policy went."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from agent_rl.algorithms.best_of_n import expected_best, kl_bound
from agent_rl.overopt.fits import FORMULAS, Fit, fit

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and standard deviation of a reward over the starting policy's samples."""

    mean: float
    std: float

    @classmethod
    def of(cls, values: Floats) -> Scale:
        """That of some values; a constant keeps its unit."""
        return cls(float(values.mean()), float(values.std()) if np.ptp(values) > 0 else 1.0)

    def around(self, values: Floats) -> Scale:
        """The same unit above the mean of other samples: on other tasks the start is elsewhere."""
        return Scale(float(values.mean()), self.std)

    def standard(self, value: Any) -> Any:
        """In standard deviations above the mean."""
        return (value - self.mean) / self.std


@dataclass(frozen=True, slots=True)
class Point:
    """One policy, measured.

    Attributes:
        policy: ``rl`` or ``best_of_n``.
        labels: How many labels its proxy was trained on.
        seed: Seed of the laboratory.
        kl: KL to the starting policy, in nats per completion.
        gold: The known reward, in the environment's units.
        gold_std: The same in standard deviations above the mean of the starting policy's samples.
        proxy: The proxy's reward in standard deviations above the mean of those samples.
        kl_se: Standard error of ``kl``; 0 where it is exact. So for the others.
        gold_se: Of ``gold``.
        proxy_se: Of ``proxy``.
        coef: The KL coefficient (rl).
        step: The training step (rl); 0 is the start.
        n: Samples of which the best is taken (best_of_n).
        samples: Completions that were measured.
        distinct: Different completions among them, as a share.
        ties: Share of the pool's scores that occur more than once (best_of_n).
    """

    policy: str
    labels: int
    seed: int
    kl: float
    gold: float
    gold_std: float
    proxy: float
    kl_se: float = 0.0
    gold_se: float = 0.0
    proxy_se: float = 0.0
    coef: float | None = None
    step: int | None = None
    n: int | None = None
    samples: int = 0
    distinct: float | None = None
    ties: float | None = None

    def row(self) -> dict[str, Any]:
        """As in ``points.jsonl``: with ``sqrt_kl``, without what does not apply."""
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        return {**fields, "sqrt_kl": self.sqrt_kl}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Point:
        """From a row of ``points.jsonl``."""
        return cls(**{name: value for name, value in row.items() if name != "sqrt_kl"})

    @property
    def sqrt_kl(self) -> float:
        """What Gao et al. plot against; an estimate below 0 counts as 0."""
        return math.sqrt(max(0.0, self.kl))

    @property
    def curve(self) -> tuple[str, int, float]:
        """Which curve it lies on, whatever the seed."""
        return self.policy, self.labels, -1.0 if self.coef is None else self.coef

    @property
    def place(self) -> int:
        """Where on its curve: the step, or N."""
        return int((self.step if self.n is None else self.n) or 0)


def best_of_n_points(
    gold: Floats,
    proxy: Floats,
    tasks: Floats,
    ns: Sequence[int],
    scales: tuple[Scale, Scale],
    *,
    labels: int,
    seed: int,
) -> list[Point]:
    """Best-of-N against a proxy for several N, from one pool of samples for each task.

    Args:
        gold: [M] the known reward of each sample.
        proxy: [M] the proxy's score.
        tasks: [M] the number of its task.
        ns: The N.
        scales: Of the gold reward and of the proxy.
        labels: What the proxy was trained on.
        seed: Of the laboratory.
    """
    pools = [np.flatnonzero(tasks == task) for task in np.unique(tasks)]
    tied = float(np.mean([ties(proxy[pool]) for pool in pools]))
    points = []
    for n in ns:
        # A pool may lack what we failed to play
        wanted = [pool for pool in pools if len(pool) >= n]
        if not wanted:
            continue
        golds = np.array([_best(proxy[pool], gold[pool], n) for pool in wanted])
        bests = np.array([_best(proxy[pool], proxy[pool], n) for pool in wanted])
        points.append(
            Point(
                policy="best_of_n",
                labels=labels,
                seed=seed,
                kl=kl_bound(n),
                gold=float(golds.mean()),
                gold_std=float(scales[0].standard(golds.mean())),
                gold_se=standard_error(golds),
                proxy=float(scales[1].standard(bests.mean())),
                proxy_se=standard_error(bests) / scales[1].std,
                n=n,
                samples=sum(map(len, wanted)),
                ties=tied,
            )
        )
    return points


def _best(scores: Floats, values: Floats, n: int) -> float:
    return float(expected_best(torch.from_numpy(scores), torch.from_numpy(values), [n])[0])


def ties(scores: Floats) -> float:
    """The share of a pool whose score another sample has as well; best-of-N's KL is exact at 0."""
    _, counts = np.unique(scores, return_counts=True)
    return float(counts[counts > 1].sum() / len(scores))


def standard_error(values: Floats) -> float:
    """Of the mean; 0 for fewer than two values."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Curve:
    """One policy's way, the mean over seeds at every step or N.

    Attributes:
        policy: ``rl`` or ``best_of_n``.
        labels: Labels of its proxy.
        coef: KL coefficient; None for best-of-N.
        place: Step or N of each point.
        d: sqrt(KL).
        gold: The gold reward.
        gold_std: In the start's standard deviations.
        proxy: In the start's standard deviations.
        seeds: How many seeds each point has.
    """

    policy: str
    labels: int
    coef: float | None
    place: list[int]
    d: list[float]
    gold: list[float]
    gold_std: list[float]
    proxy: list[float]
    seeds: int

    def fitted(self) -> Fit | None:
        """Gao et al.'s form of the gold reward above the start's, in the environment's units."""
        return fit(self.policy, self.d, [value - self.gold[0] for value in self.gold])

    def figures(self) -> dict[str, Any]:
        """What the curve says, as plain values.

        A fitted peak beyond the last point is none: it would be an extrapolation.
        """
        best = int(np.argmax(self.gold))
        found: dict[str, Any] = {
            "policy": self.policy,
            "labels": self.labels,
            "seeds": self.seeds,
            **({} if self.coef is None else {"coef": self.coef}),
            "gold_start": self.gold[0],
            "gold_peak": self.gold[best],
            "gold_end": self.gold[-1],
            "kl_at_peak": self.d[best] ** 2,
            ("step_at_peak" if self.policy == "rl" else "n_at_peak"): self.place[best],
            "kl_end": self.d[-1] ** 2,
            "proxy_end": self.proxy[-1],
            "overoptimized": self.gold[-1] < self.gold[0],
        }
        fitted = self.fitted()
        if fitted is not None:
            seen = fitted.peak_d if fitted.is_seen else None
            found["fit"] = {
                "form": f"R(d) = {FORMULAS[self.policy]}",
                "alpha": fitted.alpha,
                "beta": fitted.beta,
                "rmse": fitted.rmse,
                "points": fitted.points,
                "kl_at_peak": None if seen is None else seen**2,
                "gold_peak": None if seen is None else self.gold[0] + fitted.gain(seen),
            }
        return found


def curves(points: Iterable[Point]) -> list[Curve]:
    """The curves, in the order in which they came; only places that every seed has."""
    found: dict[tuple[str, int, float], dict[int, list[Point]]] = defaultdict(dict)
    for point in points:
        found[point.curve].setdefault(point.place, []).append(point)
    return [_curve(key, places) for key, places in found.items()]


def _curve(key: tuple[str, int, float], places: dict[int, list[Point]]) -> Curve:
    seeds = max(map(len, places.values()))
    kept = sorted(place for place, points in places.items() if len(points) == seeds)

    def mean(name: str) -> list[float]:
        return [float(np.mean([getattr(p, name) for p in places[place]])) for place in kept]

    policy, labels, coef = key
    d = [math.sqrt(max(0.0, kl)) for kl in mean("kl")]
    return Curve(
        policy,
        labels,
        None if policy == "best_of_n" else coef,
        kept,
        d,
        mean("gold"),
        mean("gold_std"),
        mean("proxy"),
        seeds,
    )
