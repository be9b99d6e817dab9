"""Learned rewards in the place of the sealed ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from agent_rl.trajectory import Trajectory, Turn


def turns_of(trajectories: Sequence[Trajectory]) -> list[Turn]:
    """All turns, in order."""
    return [turn for trajectory in trajectories for turn in trajectory.turns]


def paid(
    trajectories: Sequence[Trajectory], rewards: Tensor, *, discount: float | None = None
) -> list[Trajectory]:
    """Copies that earned these rewards, and hold nothing of the sealed ones.

    Args:
        trajectories: Sealed.
        rewards: [S] for each turn in order.
        discount: The discount that they are to have; None keeps theirs.
    """
    left = iter(rewards.tolist())
    return [
        replace(
            trajectory,
            turns=[replace(turn, reward=next(left)) for turn in trajectory.turns],
            discount=trajectory.discount if discount is None else discount,
        )
        for trajectory in trajectories
    ]


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's; NaN where either does not vary."""
    pair = torch.stack([one.double(), other.double()])
    if (pair.std(1, unbiased=False) < 1e-9).any():
        return float("nan")
    return float(torch.corrcoef(pair)[0, 1])
