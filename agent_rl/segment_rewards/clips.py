"""Clips of trajectories: a few steps of what was seen and done, to be shown and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agent_rl.chat import Chat
from agent_rl.trajectory import Trajectory, Turn


@dataclass(frozen=True, slots=True)
class Clip:
    """Consecutive steps of one trajectory.

    Attributes:
        text: One line per step: what was seen, an arrow, what was done. A person reads this.
        features: [k, F] long, see ``Features``. The learned reward reads this.
        sealed: k sealed rewards. Only ``sealed.opened`` reads these.
    """

    text: str
    features: Tensor
    sealed: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Features:
    """A step as a bag of tokens, each with its position: any text, no knowledge of the task.

    The observation is counted from its end and the action from its start, so that both stand still
    when texts of other lengths come before or after. (position, token) gets a number of its own as
    long as ``buckets`` suffice; beyond that several share one (hashing).

    Args:
        vocabulary: Number of tokens.
        buckets: How many different features there can be.
        seen: Tokens of the observation that count, from its end.
        done: Tokens of the action that count, from its start.
    """

    vocabulary: int
    buckets: int = 4096
    seen: int = 32
    done: int = 8

    def of(self, turns: Sequence[Turn]) -> Tensor:
        """[S, seen + done] long; ``buckets`` stands where there is no token."""
        rows = np.full((len(turns), self.seen + self.done), -1, dtype=np.int64)
        for row, turn in zip(rows, turns, strict=True):
            observation = turn.prompt_ids[: -self.seen - 1 : -1]
            action = turn.completion_ids[: self.done]
            row[: len(observation)] = observation
            row[self.seen : self.seen + len(action)] = action
        slots = np.arange(self.seen + self.done)
        places = np.concatenate([slots[self.seen :], slots[: self.seen]])  # actions never collide
        order = np.argsort(places)
        numbers = (order * self.vocabulary + rows) % self.buckets
        return torch.from_numpy(np.where(rows < 0, self.buckets, numbers))


def clips_of(
    trajectories: Sequence[Trajectory],
    length: int,
    features: Features,
    chat: Chat,
    rng: np.random.Generator,
) -> list[Clip]:
    """Clips of ``length`` steps without overlap, from a random offset in each trajectory.

    A trajectory shorter than that gives none: clips of one length are compared, so that their
    length cannot speak.

    Args:
        trajectories: Sealed.
        length: Steps of a clip.
        features: How the learned reward sees a step.
        chat: Decodes what was seen.
        rng: Draws the offsets.
    """
    clips = []
    for trajectory in trajectories:
        turns, texts = trajectory.turns, _observations(trajectory, chat)
        spare = len(turns) % length
        start = int(rng.integers(spare + 1))
        for first in range(start, len(turns) - length + 1, length):
            part = turns[first : first + length]
            shown = zip(texts[first : first + length], part, strict=True)
            lines = [f"{seen} → {turn.text or '(nothing)'}" for seen, turn in shown]
            sealed = tuple(turn.reward for turn in part)
            clips.append(Clip("\n".join(lines), features.of(part), sealed))
    return clips


def _observations(trajectory: Trajectory, chat: Chat) -> list[str]:
    """What the environment said before each turn."""
    opening = [m for m in trajectory.opening if m["role"] != "system"]
    said = [opening, *trajectory.answers]
    return [
        " ".join(str(m.get("content") or "") for m in messages).strip()
        or chat.decode(turn.prompt_ids)
        for messages, turn in zip(said, trajectory.turns, strict=False)
    ]
