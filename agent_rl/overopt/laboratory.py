"""A seed of the laboratory: every piece once, kept when finished, so that a stopped run goes on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from agent_rl import checkpoint
from agent_rl.config import DATA, StageConfig, stage_kind
from agent_rl.errors import UserError
from agent_rl.loading import Recipe, stage_tree
from agent_rl.overopt import samples
from agent_rl.overopt.plan import Plan
from agent_rl.overopt.points import Floats, Point, Scale, best_of_n_points, standard_error, ties
from agent_rl.overopt.samples import Sample, Sampler
from agent_rl.preflight import check_stage
from agent_rl.recipe import check_resumable, finished, is_run
from agent_rl.reward_models import RewardModel, load_reward_model
from agent_rl.runs import Console, RunFolder
from agent_rl.runs.files import read_json_lines, to_json, write_atomically

START, POOL, MEASURED, ORDER = 1, 2, 3, 4  # set draws of one seed apart


class SeedRun:
    """One seed of the laboratory: what there is of it is kept, the rest is made.

    Args:
        plan: Its stages and where they go.
        say: Told what was done, one line each.

    Attributes:
        proxies: What ``summary.json`` says of each proxy, after ``run``.
    """

    def __init__(self, plan: Plan, say: Any = print) -> None:
        self.plan, self.config, self._say = plan, plan.config, say
        self.proxies: list[dict[str, Any]] = []
        self._sampler: Sampler | None = None

    def run(self) -> list[Point]:
        """Every point of this seed."""
        plan = self.plan
        plan.dir.mkdir(parents=True, exist_ok=True)
        self._stage("starting policy", plan.sft_stage())
        start, pool = self._start(), self._pool()
        self._pairs()
        points: list[Point] = []
        for labels in self.config.labels:
            self._stage(f"proxy of {labels} labels", plan.proxy_stage(labels))
            points += self._against(labels, start, pool)
        return points

    def _against(self, labels: int, start: Sequence[Sample], pool: Sequence[Sample]) -> list[Point]:
        """All that is optimized against one proxy."""
        proxy = load_reward_model(self.plan.proxy(labels))
        scores = samples.score(proxy, pool)
        golds, tasks = np.array([s.gold for s in pool]), np.array([s.task for s in pool])
        scales = (
            Scale.of(np.array([s.gold for s in start])),
            Scale.of(samples.score(proxy, start)),
        )
        own = (scales[0].around(golds), scales[1].around(scores))
        self.proxies.append(self._proxy_figures(labels, pool, scores))
        points = best_of_n_points(
            golds, scores, tasks, self.config.best_of_n, own, labels=labels, seed=self.plan.seed
        )
        for coef in self.config.kl_coefs:
            name = f"RL against the proxy of {labels} labels, KL coefficient {coef:g}"
            self._stage(name, self.plan.rl_stage(labels, coef))
            points += self._measured(labels, coef, start, proxy, scales)
        return points

    def _proxy_figures(self, labels: int, pool: Sequence[Sample], scores: Floats) -> dict[str, Any]:
        """How good a proxy is where it was trained: on the starting policy's samples."""
        rows = read_json_lines(self.plan.pairs(labels))
        golds = np.array([s.gold for s in pool])
        wrong = [row["reward_chosen"] < row["reward_rejected"] for row in rows]
        tasks = np.array([s.task for s in pool])
        same = tasks[1:] == tasks[:-1]  # neighbours that answer the same prompt
        better, liked = np.diff(golds)[same], np.diff(scores)[same]
        right = (better * liked > 0)[better != 0]
        vary = np.ptp(golds) > 0 and np.ptp(scores) > 0
        return {
            "labels": labels,
            "seed": self.plan.seed,
            "label_noise": float(np.mean(wrong)),
            "accuracy": float(np.mean(right)) if len(right) else None,
            "correlation": float(np.corrcoef(golds, scores)[0, 1]) if vary else None,
            "ties": ties(scores),
        }

    def _measured(
        self,
        labels: int,
        coef: float,
        start: Sequence[Sample],
        proxy: RewardModel,
        scales: tuple[Scale, Scale],
    ) -> list[Point]:
        """The points of one RL run, one for each checkpoint."""
        folder = self.plan.rl_dir(labels, coef)
        path = folder / "points.jsonl"
        known = {point.place: point for point in map(Point.of, read_json_lines(path))}
        saved = sorted((folder / "checkpoints").glob("step-*"))
        for step, at in [(0, None), *((int(p.name.removeprefix("step-")), p) for p in saved)]:
            if step in known:
                continue
            drawn = start if at is None else self._moved(at, step, labels, coef)
            values = samples.score(proxy, drawn)
            known[step] = _point(drawn, values, scales, labels, coef, step, self.plan.seed)
            rows = [known[place].row() for place in sorted(known)]
            write_atomically(path, "".join(to_json(row) + "\n" for row in rows))
        return [known[step] for step in sorted(known)]

    def _moved(self, at: Path, step: int, labels: int, coef: float) -> list[Sample]:
        """Fresh samples of the policy of a checkpoint."""
        sampler = self._drawing()
        sampler.load(checkpoint.load(at)["model"])
        tasks = sampler.tasks("test", self.config.measure_samples)
        part = (MEASURED, step, labels, round(1000 * coef))
        return [s for chunk in sampler.draw(tasks, 1, *part, moved=True) for t in chunk for s in t]

    def _start(self) -> list[Sample]:
        """The starting policy's samples, on the tasks of every measurement."""
        return self._drawn("start.jsonl", self.config.measure_samples, 1, START)

    def _pool(self) -> list[Sample]:
        """The starting policy's many samples of a few tasks, of which best-of-N takes the best."""
        return self._drawn("pool.jsonl", self.config.pool_tasks, self.config.pool_samples, POOL)

    def _drawn(self, name: str, tasks: int, each: int, part: int) -> list[Sample]:
        path = self.plan.dir / name
        if path.exists():
            return samples.read(path)
        began, sampler = time.perf_counter(), self._drawing()
        chunks = sampler.draw(sampler.tasks("test", tasks), each, part)
        drawn = [s for chunk in chunks for task in chunk for s in task]
        samples.write(path, drawn)
        self._say(f"{path}: {len(drawn)} samples ({time.perf_counter() - began:.0f} s)")
        return drawn

    def _pairs(self) -> None:
        """The labelled pairs; the proxy of n labels gets n of them, a larger one the same and more.

        Raises:
            UserError: There are fewer pairs than the largest proxy wants.
        """
        missing = [n for n in self.config.labels if not self.plan.pairs(n).exists()]
        if not missing:
            return
        stage, made = self.plan.pairs_stage(), self.plan.pairs_dir
        self._stage("labelled pairs", stage)
        rows = read_json_lines(made / DATA)
        if len(rows) < max(missing):
            before, now = RunFolder.open(made).read_config(), stage_tree(stage)
            if any(before[name] != now[name] for name in ("tasks", "samples")):
                raise UserError(
                    f"labels: {max(missing)} are wanted, but {made} was made for fewer; start anew "
                    "with another --run.dir"
                )
            raise UserError(
                f"labels: {max(missing)} are wanted, but only {len(rows)} pairs of samples differ "
                "in text and in gold reward; the starting policy repeats itself: train it on more "
                "diverse answers (sft), or for fewer steps"
            )
        order = np.random.default_rng((self.plan.seed, ORDER)).permutation(len(rows))
        for n in missing:
            text = "".join(to_json(rows[place]) + "\n" for place in order[:n])
            write_atomically(self.plan.pairs(n), text)

    def _drawing(self) -> Sampler:
        """The sampler; with the starting policy's weights in it until a checkpoint is loaded."""
        if self._sampler is None:
            config = self.config
            self._sampler = Sampler(self.plan.start, config.env, config.sampling, self.plan.seed)
        return self._sampler

    def _stage(self, name: str, config: StageConfig) -> None:
        """A stage of the project in its own run folder, from where it stands."""
        path = config.run.dir
        recipe = Recipe("overopt", path, (("", config),))
        if finished(recipe):
            return
        began, resume = time.perf_counter(), is_run(Path(path))
        check_resumable(config, recipe, resume)
        check_stage(config)
        tree = {"name": "overopt", **stage_tree(config)}
        folder = RunFolder.resume(path) if resume else RunFolder.create(path, tree)
        folder.write_config(tree)
        stage = import_module(f"agent_rl.stages.{stage_kind(config)}")
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            show = Console(name, file=None if sys.stdout.isatty() else nowhere)
            with show:
                stage.run(config, folder, show, resume=resume)
        self._say(f"{name} in {path} ({time.perf_counter() - began:.0f} s)")


def _point(
    drawn: Sequence[Sample],
    values: Any,
    scales: tuple[Scale, Scale],
    labels: int,
    coef: float,
    step: int,
    seed: int,
) -> Point:
    golds, ratios = (np.array([getattr(s, name) for s in drawn]) for name in ("gold", "log_ratio"))
    standard = scales[1].standard(values)
    return Point(
        policy="rl",
        labels=labels,
        seed=seed,
        kl=float(ratios.mean()),
        kl_se=standard_error(ratios),
        gold=float(golds.mean()),
        gold_std=float(scales[0].standard(golds.mean())),
        gold_se=standard_error(golds),
        proxy=float(standard.mean()),
        proxy_se=standard_error(standard),
        coef=coef,
        step=step,
        samples=len(drawn),
        distinct=len({s.text for s in drawn}) / len(drawn),
    )
