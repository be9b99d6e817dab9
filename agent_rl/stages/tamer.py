"""Learning from a person's word on single actions: TAMER (Knox & Stone 2009).

A person says of some actions whether they were good. A network learns what they would say of any
action (Deep TAMER, Warnell et al. 2018, fits it by squared error as well), and the policy takes the
action of which they would say the best: there is no return and no discount, since a person's word
on an action already weighs what follows from it. The policy is a text model, so instead of an
argmax over listed actions it is moved by the policy gradient of the predicted word, discount 0.
The true reward plays no part at all.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agent_rl.config import TamerConfig
from agent_rl.errors import UserError
from agent_rl.preflight import located
from agent_rl.rollout import seed_of
from agent_rl.runs import Console, RunFolder
from agent_rl.runs.files import read_json_lines, to_json, write_atomically
from agent_rl.segment_rewards.asking import labels_due
from agent_rl.segment_rewards.clips import Clip, clips_of
from agent_rl.segment_rewards.learner import QUERIES, Learner, train
from agent_rl.segment_rewards.sealed import opened
from agent_rl.segment_rewards.stream import refuse_unstreamable, streams
from agent_rl.stages import rl
from agent_rl.stages.rl_state import set_up
from agent_rl.trajectory import Trajectory
from rl_envs import DataError, content_id, make

MEASURED = 8  # one trajectory in so many is never asked about, but measures the model


def check(config: TamerConfig, unborn: Collection[str] = ()) -> None:
    """What can be known to fail before the first step.

    Raises:
        UserError: One line that names the setting.
    """
    rl.check(config, unborn)
    for number, entry in enumerate(config.envs):
        with located(f"envs.{number} ({entry.id})"):
            env = make(entry.id, **entry.options)
            refuse_unstreamable(env)
            if config.labeler == "synthetic":
                env.reset(seed=0, options={"index": 0})
                try:
                    env.expert(np.random.default_rng(0))
                except DataError as error:
                    raise UserError(f"{error}; set labeler: file") from error
                finally:
                    env.close()


def run(
    config: TamerConfig, folder: RunFolder, show: Console, *, resume: bool = False
) -> dict[str, Any]:
    """Train, and leave ``model/``, ``feedback.jsonl``, metrics and a summary in ``folder``.

    Args:
        config: All settings.
        folder: Where everything goes.
        show: What the person at the terminal sees.
        resume: Go on from the newest checkpoint in ``folder``.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        UserError: A setting that cannot work, or actions that wait for a person's word.
    """
    state = set_up(config)
    judged = "expert" if config.labeler == "synthetic" else "reward"
    state.mixture = streams(state.mixture, config.run.seed, steps=config.stream, judged=judged)
    return train(config, FeedbackLearner(config, state, folder), show, resume=resume)


class FeedbackLearner(Learner):
    """A model of what a person says of an action."""

    kind = "tamer"
    file = "feedback.jsonl"
    discount = 0.0
    config: TamerConfig

    def ask_and_fit(self, sealed: Sequence[Trajectory], step: int) -> dict[str, float]:
        """Ask about some actions of this batch, fit, and measure on others."""
        config, asked = self.config, self.asked
        rng = np.random.default_rng(seed_of(config.run.seed, 7, step))
        shown = [t for n, t in enumerate(sealed) if n % MEASURED != MEASURED - 1]
        actions = clips_of(shown, 1, self.features, self.state.chat, rng)
        due = labels_due(
            step,
            config.labels_until or config.steps,
            total=config.labels,
            first=config.labels_first,
            half_life=config.labels_half_life,
        )
        count = min(max(0, due - len(asked.labels)), len(actions))
        chosen = [actions[n] for n in sorted(rng.choice(len(actions), count, replace=False))]
        for action, word in zip(chosen, self._words(chosen, step, rng), strict=True):
            row = {"step": step, "feedback": int(word), "action": action.text}
            asked.add(action.features[0], word, row)
        metrics: dict[str, float] = {"segments/labels": len(asked.labels)}
        if chosen:
            self.write()
            metrics |= self._fit()
        return metrics | self._measure(sealed[MEASURED - 1 :: MEASURED])

    def rewards(self, features: Tensor) -> Tensor:
        """[S] what the person is expected to say, from -1 to 1."""
        return self.ensemble.rewards(features).mean(0).clamp(-1.0, 1.0)

    def summary(self) -> dict[str, Any]:
        """How often the model's sign was right, mean over steps."""
        rows = self.folder.read_metrics()
        values = [row["segments/accuracy"] for row in rows if "segments/accuracy" in row]
        return {"reward_accuracy": float(np.mean(values)) if values else None}

    def _words(self, actions: Sequence[Clip], step: int, rng: np.random.Generator) -> list[float]:
        """1 or -1 for each action."""
        if self.config.labeler == "synthetic":
            true = [opened(action.sealed)[0] for action in actions]
            flips = rng.random(len(actions)) < self.config.label_noise
            return [-word if flip else word for word, flip in zip(true, flips, strict=True)]
        return answers_of(actions, step, self.answers, self.folder.path / QUERIES)

    def _fit(self) -> dict[str, float]:
        fitted = self.ensemble.fit(
            torch.stack(self.asked.features),
            torch.tensor(self.asked.labels),
            lambda words, labels: (words - labels).square(),
        )
        return fitted.metrics()

    def _measure(self, unseen: Sequence[Trajectory]) -> dict[str, float]:
        """How often the model says what the oracle would have, without its noise."""
        turns = [turn for trajectory in unseen for turn in trajectory.turns]
        if self.config.labeler != "synthetic" or not turns or not self.ensemble.rounds:
            return {}
        said = self.rewards(self.features.of(turns))
        true = torch.tensor(opened(turn.reward for turn in turns))
        return {
            "segments/accuracy": float((said * true > 0).float().mean()),
            "segments/true_reward": float(true.mean()),
        }


def answers_of(actions: Sequence[Clip], step: int, answers: Path, queries: Path) -> list[float]:
    """What people said of some actions.

    Args:
        actions: Clips of one step.
        step: They are asked about once for each step.
        answers: JSON Lines with ``id`` and ``feedback``; of several words the last counts.
        queries: Where those are written that have no answer. A word that was filled in there is
            read as well, and kept.

    Raises:
        UserError: Some have none yet, or one is neither 1 nor -1.
    """
    filled = _words_in(queries)
    known = filled | _words_in(answers)
    names = [content_id(action.text, step) for action in actions]
    rows = {
        name: {"id": name, "action": action.text, "feedback": None}
        for name, action in zip(names, actions, strict=True)
        if name not in known
    }
    if rows:
        kept = [row for row in read_json_lines(queries) if str(row.get("id")) in filled]
        text = "".join(to_json(row) + "\n" for row in [*kept, *rows.values()])
        write_atomically(queries, text)
        raise UserError(
            f"{len(rows)} actions wait for a word: add the rows of {queries} to {answers} with "
            "feedback 1 (good) or -1 (bad), then go on with --resume"
        )
    return [known[name] for name in names]


def _words_in(path: Path) -> dict[str, float]:
    """By the id of the action; the last word where there are several."""
    known: dict[str, float] = {}
    for number, row in enumerate(read_json_lines(path), start=1):
        word = row.get("feedback")
        if word is None:
            continue
        if isinstance(word, bool) or word not in (1, -1):
            raise UserError(
                f"{path}, row {number}: feedback is {word!r}; it must be 1 (good) or -1 (bad)"
            )
        known[str(row.get("id"))] = float(word)
    return known
