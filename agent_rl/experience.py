"""A batch of episodes as flat tensors, and the credit that each sampled token gets.

The layout is flat over sampled tokens (T of them), without padding: token t belongs to trajectory
``trajectory_t[t]`` and stands in time order within it. Faulty episodes (our error, or cut and
masked) are left out before any group statistic is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agent_rl import algorithms
from agent_rl.algorithms import Algorithm
from agent_rl.trajectory import Segment, Trajectory, segments


@dataclass(frozen=True, slots=True)
class Experience:
    """T sampled tokens of N trajectories in G groups, and B states after a truncation.

    Attributes:
        trajectories: The N episodes, groups together.
        segments: Their sequences in order, then B sequences without samples (bootstrap states).
        segment_trajectory: For each segment the trajectory it belongs to.
        trajectory_t: [T] long, segment_t: [T] long, turn_t: [T] long.
        group_n: [N] long, 0..G-1: episodes of one task, and of one seat where there are several.
        rewards_t: [T] the environment's reward on the last token of each turn, 0 elsewhere.
        discounts_t: [T] the environment's discount on the last token of each turn, 1 elsewhere.
        sampler_logprobs_t: [T] as the engine reported them.
        bootstrap_of: For each of the B states its trajectory.
    """

    trajectories: list[Trajectory]
    segments: list[Segment]
    segment_trajectory: list[int]
    trajectory_t: Tensor
    segment_t: Tensor
    turn_t: Tensor
    group_n: Tensor
    rewards_t: Tensor
    discounts_t: Tensor
    sampler_logprobs_t: Tensor
    bootstrap_of: list[int]

    @property
    def n_tokens(self) -> int:
        """T."""
        return len(self.trajectory_t)

    @property
    def n_sampled_segments(self) -> int:
        """Segments that hold sampled tokens; the bootstrap states follow them."""
        return len(self.segments) - len(self.bootstrap_of)


def gather(
    trajectories: Sequence[Trajectory],
    *,
    overlong_buffer: int = 0,
    max_tokens: int = 0,
    missing_eos_penalty: float = 0.0,
    bootstrap: bool = False,
) -> Experience:
    """Lay episodes out flat.

    Args:
        trajectories: Groups together, faulty ones already left out.
        overlong_buffer: DAPO's soft punishment in the last tokens before the limit; 0 for none.
        max_tokens: That limit.
        missing_eos_penalty: Taken off the last reward of an episode that this limit cut.
        bootstrap: Add the state after each truncated episode, so that its value can be asked for.
    """
    parts: list[Segment] = []
    owner: list[int] = []
    columns: dict[str, list[float]] = {k: [] for k in ("n", "s", "k", "r", "d", "lp")}
    for n, trajectory in enumerate(trajectories):
        for segment in segments(trajectory):
            columns["s"].extend([len(parts)] * len(segment.sampled))
            parts.append(segment)
            owner.append(n)
        for k, turn in enumerate(trajectory.turns):
            size = len(turn.completion_ids)
            reward = turn.reward + _overlong(size, max_tokens, overlong_buffer)
            columns["n"].extend([n] * size)
            columns["k"].extend([k] * size)
            if trajectory.cut and turn is trajectory.turns[-1]:
                reward -= missing_eos_penalty
            columns["r"].extend([0.0] * (size - 1) + [reward])
            columns["d"].extend([1.0] * (size - 1) + [trajectory.discount])
            columns["lp"].extend(turn.logprobs)
    ends = [n for n, t in enumerate(trajectories) if bootstrap and t.final_prompt_ids]
    for n in ends:
        ids = trajectories[n].final_prompt_ids
        parts.append(Segment(ids, (), len(ids)))
        owner.append(n)
    numbers = {g: i for i, g in enumerate(dict.fromkeys(t.comparison for t in trajectories))}
    return Experience(
        trajectories=list(trajectories),
        segments=parts,
        segment_trajectory=owner,
        trajectory_t=torch.tensor(columns["n"], dtype=torch.long),
        segment_t=torch.tensor(columns["s"], dtype=torch.long),
        turn_t=torch.tensor(columns["k"], dtype=torch.long),
        group_n=torch.tensor([numbers[t.comparison] for t in trajectories], dtype=torch.long),
        rewards_t=torch.tensor(columns["r"]),
        discounts_t=torch.tensor(columns["d"]),
        sampler_logprobs_t=torch.tensor(columns["lp"]),
        bootstrap_of=ends,
    )


def _overlong(size: int, limit: int, buffer: int) -> float:
    return float(algorithms.overlong_penalty(torch.tensor(size), limit=limit, buffer=buffer))


@dataclass(frozen=True, slots=True)
class Credit:
    """What the policy gradient needs of the rewards.

    Attributes:
        advantages_t: [T].
        returns_t: [T] what each token has still to come; with a value head its targets.
        returns_n: [N] what each episode earned, discounted, KL in the reward included.
    """

    advantages_t: Tensor
    returns_t: Tensor
    returns_n: Tensor


def assign_credit(
    algorithm: Algorithm, batch: Experience, rewards_t: Tensor, values: Tensor | None
) -> Credit:
    """Advantages of every sampled token.

    Args:
        algorithm: Which advantage, which scale.
        batch: Whose tokens.
        rewards_t: [T] rewards, the KL penalty already in them when it belongs there.
        values: [T + B] values of the states before each token, then of the states after a
            truncation; None without a value head.
    """
    bootstrap_n = torch.zeros(len(batch.trajectories))
    if values is not None and batch.bootstrap_of:
        bootstrap_n[batch.bootstrap_of] = values[batch.n_tokens :]
    advantages_t, returns_t = algorithms.estimate_advantages(
        algorithm,
        rewards_t,
        batch.discounts_t,
        batch.trajectory_t,
        turn_t=batch.turn_t,
        group_n=batch.group_n,
        values_t=None if values is None else values[: batch.n_tokens],
        bootstrap_n=bootstrap_n,
    )
    to_go_t = algorithms.returns_to_go(rewards_t, batch.discounts_t, batch.trajectory_t)
    returns_n = algorithms.episode_returns(to_go_t, batch.trajectory_t, len(batch.trajectories))
    return Credit(advantages_t, returns_t, returns_n)
