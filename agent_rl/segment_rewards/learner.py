"""What stages with a learned reward share: loop, checkpoints, the step from play to weights.

One step: play, seal the true rewards, ask and fit (a stage's own), let the learned reward pay for
what was played, and move the policy as the stage ``rl`` does.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agent_rl import models
from agent_rl.clock import Clock
from agent_rl.config import TamerConfig, TrajectoryPreferencesConfig
from agent_rl.errors import UserError
from agent_rl.measure import rollout_metrics, rollout_rows
from agent_rl.rollout import refuse_if_all_failed
from agent_rl.runs import Console, RunFolder
from agent_rl.runs.files import to_json, write_atomically
from agent_rl.segment_rewards.clips import Features
from agent_rl.segment_rewards.ensemble import RewardEnsemble
from agent_rl.segment_rewards.paying import paid, turns_of
from agent_rl.segment_rewards.sealed import seal
from agent_rl.stages import rl
from agent_rl.stages.evaluate import held_out
from agent_rl.stages.rl_state import State, restore, save
from agent_rl.trajectory import Trajectory

QUERIES = "queries.jsonl"  # in the run folder: what people are asked
Config = TrajectoryPreferencesConfig | TamerConfig


@dataclass(slots=True)
class Asked:
    """What has been asked and answered so far.

    Attributes:
        features: Of each item: [2, k, F] of a query, [F] of an action.
        labels: The answers.
        rows: As the run folder's file has them.
    """

    features: list[Tensor] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, features: Tensor, label: float, row: dict[str, Any]) -> None:
        """One more answer."""
        self.features.append(features)
        self.labels.append(label)
        self.rows.append(row)


def answers_path(config: Config, folder: RunFolder) -> Path:
    """Where people's answers are.

    Raises:
        UserError: In the file of the questions, each of which would be an answer to itself.
    """
    path = Path(config.labels_path or folder.path / "labels.jsonl")
    if path.resolve() == (folder.path / QUERIES).resolve():
        raise UserError(
            f"labels_path is {path}, where the stage writes its questions; name another file"
        )
    return path


class Learner(ABC):
    """The policy's state, the learned reward, and the answers that it was fitted to.

    Args:
        config: All settings.
        state: Of the stage ``rl``, its environments as streams already.
        folder: Where everything goes.
    """

    kind: str
    file: str
    discount: float | None = None

    def __init__(self, config: Any, state: State, folder: RunFolder) -> None:
        self.config, self.state, self.folder = config, state, folder
        sizes = config.reward
        vocabulary = len(state.chat.tokenizer)
        self.features = Features(vocabulary, sizes.buckets, sizes.seen, sizes.done)
        self.ensemble = RewardEnsemble(sizes, config.run.seed)
        self.asked = Asked()
        self.answers = answers_path(config, folder)

    @abstractmethod
    def ask_and_fit(self, sealed: Sequence[Trajectory], step: int) -> dict[str, float]:
        """Ask what is due, fit the learned reward, measure it. Returns metrics."""

    @abstractmethod
    def rewards(self, features: Tensor) -> Tensor:
        """[S] what the learned reward pays for [S, F] steps."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """What the stage adds to ``summary.json``."""

    def train_step(self, loop: asyncio.Runner) -> dict[str, float]:
        """Play, seal, ask, fit, pay, improve. Returns the metrics."""
        config, state, clock, step = self.config, self.state, Clock(), self.state.step + 1
        start = state.mixture.state_dict()
        with clock("generate"):
            played, kept = loop.run(rl.collect(config, state))
        refuse_if_all_failed(played)
        if not kept and not self.asked.labels:
            raise UserError(
                f"no episode is left to ask about: all {len(played)} failed or were cut at "
                f"{config.sampling.max_tokens} tokens; raise sampling.max_tokens, or set "
                "on_truncation: score"
            )
        sealed = [seal(trajectory) for trajectory in kept]
        del played, kept  # from here on nothing holds a true reward that could be read
        try:
            with clock("reward"):
                metrics = self.ask_and_fit(sealed, step) if sealed else {}
        except UserError:  # a person is asked: this very batch is played again on --resume
            state.mixture.load_state_dict(start)
            self.save()
            raise
        earned: list[Trajectory] = []
        if sealed:
            steps = self.features.of(turns_of(sealed))
            earned = paid(sealed, self.rewards(steps), discount=self.discount)
        metrics |= rollout_metrics(earned, earned, clock.seconds["generate"])
        moved, learned = rl.improve(config, state, earned, clock)
        if rl.is_due(step, config.run.rollouts_every):
            self.folder.save_rollouts(step, rollout_rows(earned, learned, state.chat, step))
        return {**metrics, **moved, **clock.metrics()}

    def write(self) -> None:
        """Every question and its answer, into the run folder."""
        text = "".join(to_json(row) + "\n" for row in self.asked.rows)
        write_atomically(self.folder.path / self.file, text)

    def save(self) -> None:
        """A checkpoint: the policy, the learned reward, and every answer."""
        asked = self.asked
        learned = {
            "ensemble": self.ensemble.state_dict(),
            "features": torch.stack(asked.features) if asked.features else None,
            "labels": asked.labels,
            "rows": asked.rows,
        }
        save(self.config, self.state, self.folder, learned=learned)

    def restore(self) -> None:
        """Go on where the newest checkpoint was made."""
        content = restore(self.state, self.folder).get("learned")
        if content is None:
            return
        self.ensemble.load_state_dict(content["ensemble"])
        features = [] if content["features"] is None else list(content["features"])
        self.asked = Asked(features, content["labels"], content["rows"])
        self.write()


def train(
    config: Config, learner: Learner, show: Console, *, resume: bool = False
) -> dict[str, Any]:
    """The loop of a stage; leaves ``model/``, the answers, metrics and a summary.

    Args:
        config: All settings.
        learner: What is trained.
        show: What the person at the terminal sees.
        resume: Go on from the newest checkpoint.

    Returns:
        The summary, as in ``summary.json``.
    """
    state, folder, test = learner.state, learner.folder, held_out(config)
    if resume:
        learner.restore()
    show.start(config.steps, done=state.step)
    with asyncio.Runner() as loop:
        if test and not state.before:
            state.before = rl.evaluate(state, test, loop, folder, show)
        state.after = state.after or state.before
        while state.step < config.steps:
            started = time.perf_counter()
            metrics = learner.train_step(loop)
            state.step += 1
            state.seconds += time.perf_counter() - started
            folder.log(state.step, metrics, stage=learner.kind)
            show.step(state.step, metrics)
            if test and rl.is_due(state.step, config.evaluation.every, config.steps):
                state.after = rl.evaluate(state, test, loop, folder, show)
            if rl.is_due(state.step, config.run.checkpoint_every, config.steps):
                learner.save()
    show.stop()
    models.save(state.policy.model, state.chat, folder.model)
    summary: dict[str, Any] = {
        "stage": learner.kind,
        "envs": [env.id for env in config.envs],
        "steps": state.step,
        "seed": config.run.seed,
        "train_seconds": state.seconds,
        "labels": len(learner.asked.labels),
        **learner.summary(),
    }
    before, after = state.before.get("metrics", {}), state.after.get("metrics", {})
    for name in ("return", "sampled_return"):
        if f"eval/{name}" in after:
            summary[f"{name}_before"] = before.get(f"eval/{name}")
            summary[f"{name}_after"] = after[f"eval/{name}"]
    folder.write_summary({**summary, "finished": True})
    return summary
