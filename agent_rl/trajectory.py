"""What an episode leaves behind: the ids exactly as sampled, and what they earned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rl_envs.types import Message
from rl_verifiers.score import Score


@dataclass(frozen=True, slots=True)
class Turn:
    """One action of the policy.

    Attributes:
        prompt_ids: Everything the policy saw, in tokens.
        completion_ids: What it sampled, its end-of-sequence token included.
        logprobs: Of each sampled token, under the distribution it was drawn from.
        text: The completion as the environment read it.
        reward: What the environment paid for this action.
        finish_reason: "stop" or "length".
        policy_version: Version of the weights that sampled it.
        seat: Who took it, where an environment has several seats.
        rewards: What it earned every seat, where there are several.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    reward: float
    finish_reason: str
    policy_version: int = 0
    seat: int = 0
    rewards: tuple[float, ...] = ()


@dataclass(slots=True)
class Trajectory:
    """One episode.

    Attributes:
        env: Id of the environment.
        task_id: Id of the task within it.
        group: Number of the task within the batch; episodes of one task share it.
        sample: Number of the episode within its group.
        opening: The messages of the reset.
        turns: In time order.
        answers: The messages with which the environment answered each turn.
        discount: The environment's discount per turn.
        terminated: The task ended (a value of 0 follows).
        truncated: A limit of the environment ended it (a value may follow: bootstrap).
        cut: The last completion ran into the token limit, and the episode ended there.
        late: The episode's own deadline passed, and it was truncated there.
        final_prompt_ids: What the policy would have seen next, when truncated.
        score: The verifier's last word, if there was one.
        error: Our own failure; the episode is left out of training and counted.
        failures: What went wrong in each try that was thrown away; the last is ``error`` where no
            try was left.
        tools: The counts that a tool environment keeps of the episode (calls, malformed, errors,
            timeouts, ...); empty without tools.
        seat: Whose trajectory it is, where an environment has several seats.
        scores: The last word on each seat, where there are several.
        definitions: The tools that the chat template tells, as the reset gave them; None for none.
    """

    env: str
    task_id: str
    group: int
    sample: int
    opening: tuple[Message, ...] = ()
    turns: list[Turn] = field(default_factory=list)
    answers: list[tuple[Message, ...]] = field(default_factory=list)
    discount: float = 1.0
    terminated: bool = False
    truncated: bool = False
    cut: bool = False
    late: bool = False
    final_prompt_ids: tuple[int, ...] = ()
    score: Score | None = None
    error: str | None = None
    failures: list[str] = field(default_factory=list)
    tools: Mapping[str, int] = field(default_factory=dict)
    seat: int = 0
    scores: tuple[Score, ...] = ()
    definitions: list[dict[str, Any]] | None = None

    @property
    def comparison(self) -> tuple[int, int]:
        """Group and seat: the returns of episodes that agree in both are compared."""
        return self.group, self.seat

    @property
    def total_reward(self) -> float:
        """Undiscounted sum of the rewards of all turns."""
        return sum(turn.reward for turn in self.turns)

    @property
    def n_sampled(self) -> int:
        """Number of tokens the policy sampled."""
        return sum(len(turn.completion_ids) for turn in self.turns)

    @property
    def n_inserted(self) -> int:
        """Number of tokens the policy read after its first turn and did not sample itself.

        Tool results, messages of a user, and what the template writes around them.
        """
        seen: tuple[int, ...] = ()
        inserted = 0
        for number, turn in enumerate(self.turns):
            known = len(seen) if turn.prompt_ids[: len(seen)] == seen else 0
            inserted += len(turn.prompt_ids) - known if number else 0
            seen = turn.prompt_ids + turn.completion_ids
        return inserted

    @property
    def passed(self) -> bool:
        """Whether the task counts as solved: the verifier's word, else a positive total reward."""
        return self.score.passed if self.score is not None else self.total_reward > 0


@dataclass(frozen=True, slots=True)
class Segment:
    """One context as the model reads it: ids, and which of them the policy sampled.

    Attributes:
        ids: The whole sequence.
        sampled: Positions in ``ids`` that the policy sampled, ascending, none of them 0.
        prompt_length: Number of ids before the first sampled one (all, when none is sampled).
    """

    ids: tuple[int, ...]
    sampled: tuple[int, ...]
    prompt_length: int


def segments(trajectory: Trajectory) -> list[Segment]:
    """The trajectory as sequences: turns that extend one another share one, others start anew.

    Two turns share a sequence if and only if the second's context starts with the first's context
    and sampled ids; a template that rewrites history, or an environment whose policy sees only the
    last observation, so gives several. Nothing is tokenized here.
    """
    out: list[Segment] = []
    ids: tuple[int, ...] = ()
    sampled: list[int] = []
    start = 0
    for turn in trajectory.turns:
        if sampled and turn.prompt_ids[: len(ids)] != ids:
            out.append(Segment(ids, tuple(sampled), start))
            sampled = []
        if not sampled:
            start = len(turn.prompt_ids)
        first = len(turn.prompt_ids)
        ids = turn.prompt_ids + turn.completion_ids
        sampled.extend(range(first, len(ids)))
    if sampled:
        out.append(Segment(ids, tuple(sampled), start))
    return out
