"""One step of reinforcement learning in which learned rewards stand in for the sealed ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from agent_rl.clock import Clock
from agent_rl.config import RLConfig
from agent_rl.measure import Learned, credit_metrics
from agent_rl.stages import rl
from agent_rl.stages.rl_state import State
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


def improve(
    config: RLConfig, state: State, earned: list[Trajectory], clock: Clock
) -> tuple[dict[str, float], Learned]:
    """From episodes to new weights, as ``rl.train_step`` goes on after play."""
    with clock("reference"):
        batch = rl.experience_of(config, state, earned)
        before = rl.score_before_update(config, state, batch)
    with clock("credit"):
        credit = rl.credit_of(config, state, batch, before)
    with clock("train"):
        metrics = rl.learn(config, state, batch, before, credit)
    learned = Learned(batch, credit, before.gap_t)
    metrics |= credit_metrics(learned, before.values)
    metrics["kl/coef"] = state.kl.coef
    if before.gap_t is not None:
        state.kl.update(metrics["kl/reference"], len(earned))
    with clock("sync"):
        state.engine.load_weights(None)
        if state.reference and rl.is_due(state.step + 1, config.reference_refresh):
            state.reference.refresh(state.policy)
    return metrics, learned


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's; NaN where either does not vary."""
    pair = torch.stack([one.double(), other.double()])
    if (pair.std(1, unbiased=False) < 1e-9).any():
        return float("nan")
    return float(torch.corrcoef(pair)[0, 1])
