"""Reinforcement learning from comparisons of segments: Christiano et al. 2017 (arXiv 1706.03741).

One step: play, seal the true rewards, ask which of two segments is better, fit the learned reward
to all answers so far, let it pay for what was played, and move the policy as the stage ``rl`` does.
The true reward is opened by the synthetic labeler and by the measurements that a report shows;
nothing that moves a weight can read it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agent_rl import models
from agent_rl.clock import Clock
from agent_rl.config import TrajectoryPreferencesConfig
from agent_rl.errors import UserError
from agent_rl.measure import rollout_metrics, rollout_rows
from agent_rl.preflight import located
from agent_rl.rollout import refuse_if_all_failed, seed_of
from agent_rl.runs import Console, RunFolder
from agent_rl.runs.files import to_json, write_atomically
from agent_rl.segment_rewards.asking import (
    FileLabeler,
    Labeler,
    SyntheticLabeler,
    chosen_queries,
    drawn_pairs,
    labels_due,
    sign_of,
)
from agent_rl.segment_rewards.clips import Clip, Features, clips_of
from agent_rl.segment_rewards.ensemble import RewardEnsemble, preference_loss
from agent_rl.segment_rewards.paying import correlation, improve, paid, turns_of
from agent_rl.segment_rewards.sealed import opened, seal
from agent_rl.segment_rewards.stream import refuse_unstreamable, streams
from agent_rl.stages import rl
from agent_rl.stages.alphabet import refuse_unknown
from agent_rl.stages.evaluate import held_out
from agent_rl.stages.rl_state import State, restore, save, set_up
from agent_rl.trajectory import Trajectory
from rl_envs import make

QUESTION = "Which of these two clips is better? Each line is what was seen → what was done."
MEASURED = 8  # one trajectory in so many is never asked about, but measures the learned reward
MEASURED_PAIRS = 200


@dataclass(slots=True)
class Asked:
    """What has been asked and answered so far.

    Attributes:
        features: [2, k, F] of each query.
        labels: The share of preference of each first clip.
        rows: As ``preferences.jsonl`` has them.
    """

    features: list[Tensor] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)


def check(config: TrajectoryPreferencesConfig, unborn: Collection[str] = ()) -> None:
    """What can be known to fail before the first step.

    Raises:
        UserError: One line that names the setting.
    """
    rl.check(config, unborn)
    for number, env in enumerate(config.envs if config.stream else ()):
        with located(f"envs.{number} ({env.id})"):
            refuse_unstreamable(make(env.id, **env.options))


def run(
    config: TrajectoryPreferencesConfig, folder: RunFolder, show: Console, *, resume: bool = False
) -> dict[str, Any]:
    """Train, and leave ``model/``, ``preferences.jsonl``, metrics and a summary in ``folder``.

    Args:
        config: All settings.
        folder: Where everything goes.
        show: What the person at the terminal sees.
        resume: Go on from the newest checkpoint in ``folder``.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        UserError: A setting that cannot work, or queries that wait for a person's answers.
    """
    test = held_out(config)
    state = set_up(config)
    if config.stream:
        if config.end_steps:
            refuse_unknown(state.chat, [config.end_text], "end_text", "it is")
        state.mixture = streams(
            state.mixture,
            config.run.seed,
            steps=config.stream,
            end_text=config.end_text,
            end_steps=config.end_steps,
            end_penalty=config.end_penalty,
        )
    loop_state = Learner(config, state, folder)
    if resume:
        loop_state.restore()
    show.start(config.steps, done=state.step)
    with asyncio.Runner() as loop:
        if test and not state.before:
            state.before = rl.evaluate(state, test, loop, folder, show)
        state.after = state.after or state.before
        while state.step < config.steps:
            started = time.perf_counter()
            metrics = loop_state.train_step(loop)
            state.step += 1
            state.seconds += time.perf_counter() - started
            folder.log(state.step, metrics, stage="trajectory_preferences")
            show.step(state.step, metrics)
            if test and rl.is_due(state.step, config.evaluation.every, config.steps):
                state.after = rl.evaluate(state, test, loop, folder, show)
            if rl.is_due(state.step, config.run.checkpoint_every, config.steps):
                loop_state.save()
    show.stop()
    models.save(state.policy.model, state.chat, folder.model)
    return finish(config, state, folder, loop_state.asked)


def finish(
    config: TrajectoryPreferencesConfig, state: State, folder: RunFolder, asked: Asked
) -> dict[str, Any]:
    """Write the summary."""
    summary: dict[str, Any] = {
        "stage": "trajectory_preferences",
        "envs": [env.id for env in config.envs],
        "steps": state.step,
        "seed": config.run.seed,
        "train_seconds": state.seconds,
        "labels": len(asked.labels),
        "ties": sum(label == 0.5 for label in asked.labels),
    }
    rows = folder.read_metrics()
    for name in ("accuracy", "correlation"):
        values = [row[f"segments/{name}"] for row in rows if f"segments/{name}" in row]
        summary[f"reward_{name}"] = float(np.mean(values)) if values else None
    before, after = state.before.get("metrics", {}), state.after.get("metrics", {})
    for name in ("return", "sampled_return"):
        if f"eval/{name}" in after:
            summary[f"{name}_before"] = before.get(f"eval/{name}")
            summary[f"{name}_after"] = after[f"eval/{name}"]
    folder.write_summary({**summary, "finished": True})
    return summary


class Learner:
    """The policy's state, the learned reward, and the answers that it was fitted to.

    Args:
        config: All settings.
        state: Of the stage ``rl``.
        folder: Where everything goes.
    """

    def __init__(
        self, config: TrajectoryPreferencesConfig, state: State, folder: RunFolder
    ) -> None:
        self.config, self.state, self.folder = config, state, folder
        sizes = config.reward
        self.features = Features(len(state.chat.tokenizer), sizes.buckets, sizes.seen, sizes.done)
        self.ensemble = RewardEnsemble(sizes, config.run.seed)
        self.asked = Asked()
        self.labeler = self._labeler()

    def train_step(self, loop: asyncio.Runner) -> dict[str, float]:
        """Play, seal, ask, fit, pay, improve. Returns the metrics."""
        config, state, clock, step = self.config, self.state, Clock(), self.state.step + 1
        start = state.mixture.state_dict()
        with clock("generate"):
            played, kept = loop.run(rl.collect(config, state))
        refuse_if_all_failed(played)
        sealed = [seal(trajectory) for trajectory in kept]
        del played, kept
        try:
            with clock("reward"):
                metrics = self._ask_and_fit(sealed, step)
        except UserError:  # a person is asked: this very batch is played again on --resume
            state.mixture.load_state_dict(start)
            self.save()
            raise
        steps = self.features.of(turns_of(sealed))
        earned = paid(sealed, self.ensemble.normalised(steps))
        metrics |= rollout_metrics(earned, earned, clock.seconds["generate"])
        moved, learned = improve(config, state, earned, clock)
        if rl.is_due(step, config.run.rollouts_every):
            self.folder.save_rollouts(step, rollout_rows(earned, learned, state.chat, step))
        return {**metrics, **moved, **clock.metrics()}

    def _ask_and_fit(self, sealed: Sequence[Trajectory], step: int) -> dict[str, float]:
        """Ask what is due, fit, and measure on trajectories that are never asked about."""
        config = self.config
        rng = np.random.default_rng(seed_of(config.run.seed, 7, step))
        shown = [t for n, t in enumerate(sealed) if n % MEASURED != MEASURED - 1]
        unseen = sealed[MEASURED - 1 :: MEASURED]
        cut = partial(
            clips_of, length=config.segment, features=self.features, chat=self.state.chat, rng=rng
        )
        metrics = self._ask(cut(shown), step, rng)
        metrics |= measure(self.ensemble, cut(unseen), rng)
        rewards = [r for t in sealed for r in opened(turn.reward for turn in t.turns)]
        return {**metrics, "segments/true_reward": float(np.mean(rewards))}

    def _ask(self, clips: Sequence[Clip], step: int, rng: np.random.Generator) -> dict[str, float]:
        config, asked = self.config, self.asked
        due = labels_due(
            step,
            config.labels_until or config.steps,
            total=config.labels,
            first=config.labels_first,
            half_life=config.labels_half_life,
        )
        wanted = max(0, due - len(asked.labels))
        informed = config.choice == "disagreement" and self.ensemble.rounds > 0
        candidates = drawn_pairs(clips, wanted * (config.candidates if informed else 1), rng)
        queries = chosen_queries(candidates, wanted, self.ensemble.chances if informed else None)
        labels = self.labeler(queries, rng) if queries else []
        for query, label in zip(queries, labels, strict=True):
            asked.features.append(query.features)
            asked.labels.append(label)
            clip_texts = {"first": query.first.text, "second": query.second.text}
            asked.rows.append({"step": step, "label": label, **clip_texts})
        if queries:
            write_preferences(self.folder, asked.rows)
        metrics: dict[str, float] = {"segments/labels": len(asked.labels)}
        if queries:
            metrics |= self.fit()
        return metrics

    def fit(self) -> dict[str, float]:
        """Fit the ensemble to all answers. Returns its losses."""
        uniform = self.config.uniform
        fitted = self.ensemble.fit(
            torch.stack(self.asked.features),
            torch.tensor(self.asked.labels),
            lambda rewards, labels: preference_loss(rewards.sum(-1), labels, uniform),
        )
        losses = {"segments/loss": fitted.loss, "segments/loss_held_out": fitted.held_out}
        return {name: value for name, value in losses.items() if math.isfinite(value)}

    def save(self) -> None:
        """A checkpoint: the policy, the learned reward, and every answer."""
        asked = self.asked
        save(
            self.config,
            self.state,
            self.folder,
            preferences={
                "ensemble": self.ensemble.state_dict(),
                "features": torch.stack(asked.features) if asked.features else None,
                "labels": asked.labels,
                "rows": asked.rows,
            },
        )

    def restore(self) -> None:
        """Go on where the newest checkpoint was made."""
        content = restore(self.state, self.folder).get("preferences")
        if content is None:
            return
        self.ensemble.load_state_dict(content["ensemble"])
        features = [] if content["features"] is None else list(content["features"])
        self.asked = Asked(features, content["labels"], content["rows"])
        write_preferences(self.folder, self.asked.rows)

    def _labeler(self) -> Labeler:
        if self.config.labeler == "synthetic":
            return SyntheticLabeler(self.config.label_noise)
        answers = self.config.labels_path or self.folder.path / "labels.jsonl"
        return FileLabeler(self.folder.path / "queries.jsonl", Path(answers), QUESTION)


def write_preferences(folder: RunFolder, rows: Sequence[dict[str, Any]]) -> None:
    """``preferences.jsonl``: every query and its answer."""
    write_atomically(
        folder.path / "preferences.jsonl", "".join(to_json(row) + "\n" for row in rows)
    )


def measure(
    ensemble: RewardEnsemble, clips: Sequence[Clip], rng: np.random.Generator
) -> dict[str, float]:
    """How well the learned reward orders clips as the true one does. Trains nothing.

    Args:
        ensemble: The learned reward.
        clips: Nothing of which was asked about.
        rng: Draws pairs.
    """
    if ensemble.rounds == 0 or not clips:
        return {}
    learned = ensemble.rewards(torch.stack([clip.features for clip in clips]).flatten(0, 1))
    learned = learned.mean(0).view(len(clips), -1).sum(1)
    true = torch.tensor([sum(opened(clip.sealed)) for clip in clips])
    metrics = {"segments/correlation": correlation(learned, true)}
    numbers = {id(clip): n for n, clip in enumerate(clips)}
    right = []
    for query in drawn_pairs(clips, MEASURED_PAIRS, rng):
        sign = sign_of(query)
        if sign:
            gap = learned[numbers[id(query.first)]] - learned[numbers[id(query.second)]]
            right.append(float(gap * sign > 0))
    if right:
        metrics["segments/accuracy"] = float(np.mean(right))
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
