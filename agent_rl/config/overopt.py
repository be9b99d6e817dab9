"""The settings of ``agent-rl overopt``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from agent_rl.config.shared import EnvConfig, RunConfig, SamplingConfig


@dataclass(frozen=True)
class OveroptConfig:
    """The over-optimization laboratory: a known reward, its proxies, what optimizing them does.

    Args:
        env: The environment whose own reward is the known ("gold") one; its episodes have one turn.
        sft: Settings of the stage ``sft`` that makes the starting policy; its data are the
            environment's demonstrations, unless ``data.path`` is given.
        reward_model: Settings of the stage ``reward_model``; its data are the labelled pairs.
        rl: Settings of the stage ``rl``; model, environments, sampling, evaluation and the KL
            coefficient are the laboratory's.
        sampling: How all completions are drawn: pairs, training, measurements, best-of-N.
        labels: Numbers of labels. Each makes a proxy, trained on so many pairs; a larger number's
            pairs hold a smaller one's.
        label_temperature: Of the labels' noise, in gold rewards: the better of two samples is
            preferred with probability sigmoid(gap / label_temperature).
        kl_coefs: Coefficients of the KL penalty; RL runs once with each against each proxy.
        measure_every: Steps between two measurements of gold, proxy and KL.
        measure_samples: Fresh completions of each measurement, on tasks of the test split.
        best_of_n: The N of best-of-N; 1 among them, from which gains are counted.
        pool_tasks: Tasks of the test split on which best-of-N is measured.
        pool_samples: Completions of each of them, from which every N is estimated; at least the
            largest N, better several times that.
        seeds: The whole laboratory is run with each.
        run: Folder and threads; ``run.seed`` stays 0, seeds are ``seeds``.
    """

    env: EnvConfig
    sft: dict[str, Any]
    reward_model: dict[str, Any]
    rl: dict[str, Any]
    sampling: SamplingConfig = SamplingConfig()
    labels: tuple[int, ...] = (250, 1000, 2000)
    label_temperature: float = 1.0
    kl_coefs: tuple[float, ...] = (0.0, 0.3, 1.0)
    measure_every: int = 5
    measure_samples: int = 256
    best_of_n: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    pool_tasks: int = 8
    pool_samples: int = 2048
    seeds: tuple[int, ...] = (0,)
    run: RunConfig = field(default_factory=lambda: RunConfig(dir="runs/overopt"))

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        yield from self._problems_of_lists()
        if not self.label_temperature > 0:
            yield "label_temperature", f"is {self.label_temperature:g}; it must be above 0"
        if "split" in self.env.options:
            yield "env.options.split", "is set by the laboratory: RL on train, measured on test"
        if self.env.weight != 1.0:
            yield "env.weight", "does nothing here: there is one environment; leave it out"
        if self.sampling.temperature != 1.0:
            yield "sampling.temperature", "must be 1: KL is measured of the policy as it samples"
        if (self.sampling.top_p, self.sampling.top_k, self.sampling.min_p) != (1.0, 0, 0.0):
            yield "sampling", "must have top_p, top_k and min_p off: they are not the policy"
        if self.run.seed != 0:
            yield "run.seed", "does nothing here; set seeds"

    def _problems_of_lists(self) -> Iterator[tuple[str, str]]:
        folders = tuple(f"{coef:g}" for coef in self.kl_coefs)  # each names one
        for name, lowest in (("labels", 2), ("kl_coefs", 0), ("seeds", 0), ("best_of_n", 1)):
            values = getattr(self, name)
            if not values:
                yield name, "is empty"
            named = folders if name == "kl_coefs" else values
            if len(set(named)) < len(named):
                yield name, f"names {_twice(named)} twice"
            low = [value for value in values if value < lowest]
            if low:
                yield name, f"holds {low[0]:g}; each must be at least {lowest}"
        if not all(map(math.isfinite, self.kl_coefs)):
            yield "kl_coefs", "holds what is not finite"
        if self.best_of_n and 1 not in self.best_of_n:
            yield "best_of_n", "lacks 1, the start from which gains are counted; add it"
        if max(self.best_of_n, default=0) > self.pool_samples:
            yield (
                "pool_samples",
                f"is {self.pool_samples}, but the best of {max(self.best_of_n)} is wanted; "
                "set it to at least that",
            )


def _twice(values: tuple[Any, ...]) -> Any:
    return next(value for n, value in enumerate(values) if value in values[:n])
