"""Reinforcement learning from comparisons of segments: Christiano et al. 2017 (arXiv 1706.03741).

One step: play, seal the true rewards, ask which of two segments is better, fit the learned reward
to all answers so far, let it pay for what was played, and move the policy as the stage ``rl`` does.
The true reward is opened by the synthetic labeler and by the measurements that a report shows;
nothing that moves a weight can read it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agent_rl.config import TrajectoryPreferencesConfig
from agent_rl.errors import UserError
from agent_rl.preflight import located
from agent_rl.rollout import seed_of
from agent_rl.runs import Console, RunFolder
from agent_rl.segment_rewards.asking import (
    FileLabeler,
    Labeler,
    SyntheticLabeler,
    chosen_queries,
    drawn_pairs,
    labels_due,
    sign_of,
)
from agent_rl.segment_rewards.clips import Clip, clips_of
from agent_rl.segment_rewards.ensemble import RewardEnsemble, preference_loss
from agent_rl.segment_rewards.learner import QUERIES, Learner, train
from agent_rl.segment_rewards.paying import correlation
from agent_rl.segment_rewards.sealed import opened
from agent_rl.segment_rewards.stream import refuse_unstreamable, streams
from agent_rl.stages import rl
from agent_rl.stages.alphabet import refuse_unknown
from agent_rl.stages.rl_state import State, set_up
from agent_rl.trajectory import Trajectory
from rl_envs import make

QUESTION = "Which of these two clips is better? Each line is what was seen → what was done."
MEASURED = 8  # one trajectory in so many is never asked about, but measures the learned reward
MEASURED_PAIRS = 200
TIE = 0.5


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
    return train(config, PreferenceLearner(config, state, folder), show, resume=resume)


class PreferenceLearner(Learner):
    """A reward from comparisons of segments.

    Args:
        config: All settings.
        state: Of the stage ``rl``, its environments as streams already.
        folder: Where everything goes.
    """

    kind = "trajectory_preferences"
    file = "preferences.jsonl"
    config: TrajectoryPreferencesConfig

    def __init__(
        self, config: TrajectoryPreferencesConfig, state: State, folder: RunFolder
    ) -> None:
        super().__init__(config, state, folder)
        self.labeler = self._labeler()

    def ask_and_fit(self, sealed: Sequence[Trajectory], step: int) -> dict[str, float]:
        """Ask what is due, fit, and measure on trajectories that are never asked about."""
        config = self.config
        rng = np.random.default_rng(seed_of(config.run.seed, 7, step))
        shown = [t for n, t in enumerate(sealed) if n % MEASURED != MEASURED - 1]
        unseen = sealed[MEASURED - 1 :: MEASURED]
        cut = partial(
            clips_of, length=config.segment, features=self.features, chat=self.state.chat, rng=rng
        )
        metrics = self._ask(cut(shown), step, rng)
        if not self.asked.labels:
            raise UserError(
                f"segment: no two different clips of {config.segment} steps were played; "
                "set it lower"
            )
        rewards = [r for t in sealed for r in opened(turn.reward for turn in t.turns)]
        metrics["segments/true_reward"] = float(np.mean(rewards))
        return metrics | measure(self.ensemble, cut(unseen), rng)

    def rewards(self, features: Tensor) -> Tensor:
        """[S] mean 0 over the batch, in units of the deviation over all labelled steps."""
        labelled = torch.stack(self.asked.features).flatten(0, -2)
        return self.ensemble.normalised(features, self.ensemble.scales(labelled))

    def summary(self) -> dict[str, Any]:
        """Ties, and how the learned reward compared with the true one, mean over steps."""
        found: dict[str, Any] = {"ties": sum(label == TIE for label in self.asked.labels)}
        rows = self.folder.read_metrics()
        for name in ("accuracy", "correlation"):
            values = [row[f"segments/{name}"] for row in rows if f"segments/{name}" in row]
            found[f"reward_{name}"] = float(np.mean(values)) if values else None
        return found

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
            row = {"first": query.first.text, "second": query.second.text}
            asked.add(query.features, label, {"step": step, "label": label, **row})
        metrics: dict[str, float] = {"segments/labels": len(asked.labels)}
        if queries:
            self.write()
            metrics |= self._fit()
        return metrics

    def _fit(self) -> dict[str, float]:
        """Fit the ensemble to all answers. Returns its losses."""
        uniform = self.config.uniform
        fitted = self.ensemble.fit(
            torch.stack(self.asked.features),
            torch.tensor(self.asked.labels),
            lambda rewards, labels: preference_loss(rewards.sum(-1), labels, uniform),
        )
        return fitted.metrics()

    def _labeler(self) -> Labeler:
        if self.config.labeler == "synthetic":
            return SyntheticLabeler(self.config.label_noise)
        return FileLabeler(self.folder.path / QUERIES, self.answers, QUESTION)


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
