"""Episodes: an engine speaks, an environment answers, the ids are kept exactly as sampled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from agent_rl.chat import Chat
from agent_rl.engines import Engine, PromptTooLong, Sampling
from agent_rl.errors import UserError
from agent_rl.trajectory import Trajectory, Turn
from rl_envs import TextEnv
from rl_verifiers import Score, score_group

OnTruncation = Literal["zero", "score", "mask"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """One task to be played by a group.

    Attributes:
        env: A prototype; every episode plays on a copy of its own.
        name: Id of the environment.
        index: The task within it.
        seed: Fixes the episode's start; all members of the group share it.
    """

    env: TextEnv
    name: str
    index: int
    seed: int


def seed_of(*parts: int) -> int:
    """A 63-bit seed that depends on every part and on their order."""
    return int(np.random.SeedSequence(list(parts)).generate_state(1, np.uint64)[0] >> 1)


async def play_groups(
    engine: Engine,
    chat: Chat,
    assignments: Sequence[Assignment],
    *,
    group_size: int,
    sampling: Sampling,
    seed: int,
    on_truncation: OnTruncation = "zero",
    first_group: int = 0,
    concurrency: int = 0,
    on_done: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Play every assignment ``group_size`` times, all at once; groups come back in order.

    Args:
        engine: Where completions come from.
        chat: The policy's chat template.
        assignments: One per group.
        group_size: Episodes of each.
        sampling: As every turn is sampled; its seed is replaced.
        seed: Fixes every sample: none depends on which others are in the batch.
        on_truncation: What a completion cut at the token limit means.
        first_group: Number of the first group.
        concurrency: Most episodes at once; 0 for all.
        on_done: Called with every episode as it ends.

    Raises:
        UserError: When a prompt is longer than the context.
    """
    gate = asyncio.Semaphore(concurrency or len(assignments) * group_size or 1)

    async def one(number: int, task: Assignment, sample: int) -> Trajectory:
        async with gate:
            trajectory = Trajectory(task.name, str(task.index), first_group + number, sample)
            drawn = seed_of(seed, first_group + number, sample)
            await _play(
                engine, chat, task, replace(sampling, seed=drawn), trajectory, on_truncation
            )
        if on_done is not None:
            on_done(trajectory)
        return trajectory

    jobs = [one(n, task, s) for n, task in enumerate(assignments) for s in range(group_size)]
    played = await asyncio.gather(*jobs)
    for number, task in enumerate(assignments):
        if task.env.group_verifier is not None:
            await _score_group(task, played[number * group_size : (number + 1) * group_size])
    return played


async def _play(
    engine: Engine,
    chat: Chat,
    task: Assignment,
    sampling: Sampling,
    trajectory: Trajectory,
    on_truncation: OnTruncation,
) -> None:
    """One episode, turn by turn."""
    env = task.env.clone()
    observation, info = await env.areset(seed=task.seed, options={"index": task.index})
    trajectory.task_id, trajectory.discount = str(info["task_id"]), env.discount
    trajectory.opening = observation
    prompt = chat.prompt_ids(observation)
    try:
        while not (trajectory.terminated or trajectory.truncated or trajectory.error):
            turn_seed = seed_of(sampling.seed or 0, len(trajectory.turns))
            completion = await engine.generate(prompt, replace(sampling, seed=turn_seed))
            text = chat.decode(completion.token_ids)
            turn = Turn(
                tuple(prompt),
                tuple(completion.token_ids),
                tuple(completion.logprobs),
                text,
                0.0,
                completion.finish_reason,
                completion.policy_version,
            )
            if completion.finish_reason == "length" and on_truncation != "score":
                _cut(trajectory, turn, sampling.max_tokens)
                return
            observation, reward, terminated, truncated, info = await env.astep(text)
            trajectory.turns.append(replace(turn, reward=float(reward)))
            trajectory.terminated, trajectory.truncated = terminated, truncated
            _note_score(trajectory, info)
            if terminated or not observation:  # nothing follows that could be seen
                prompt = []
            elif env.memory == "last":
                prompt = chat.prompt_ids([*_system(trajectory), *observation])
            else:
                prompt = chat.next_prompt_ids(prompt, completion.token_ids, observation)
        if trajectory.truncated and len(prompt) <= engine.context_length:
            trajectory.final_prompt_ids = tuple(prompt)  # else no value can be asked for there
    except PromptTooLong as error:
        if not trajectory.turns:
            raise UserError(
                f"{task.name}, task {trajectory.task_id}: {error}; "
                "take a model with a longer context, or shorter tasks"
            ) from error
        trajectory.truncated = True  # the conversation outgrew the context: a limit, not an end
        trajectory.final_prompt_ids = ()
    finally:
        env.close()


def _system(trajectory: Trajectory) -> list[Any]:
    return [m for m in trajectory.opening if m["role"] == "system"]


def _cut(trajectory: Trajectory, turn: Turn, limit: int) -> None:
    """The completion ran into the token limit: the episode ends here, unpaid."""
    trajectory.turns.append(turn)
    trajectory.cut = True
    trajectory.score = Score.wrong(f"cut at {limit} tokens", status="over_limit")


def _note_score(trajectory: Trajectory, info: dict[str, Any]) -> None:
    score = info.get("score")
    if isinstance(score, Score):
        trajectory.score = score
        if score.is_error:
            trajectory.error = score.error


async def _score_group(task: Assignment, members: Sequence[Trajectory]) -> None:
    """Let the group verifier see all completions of a task; its verdicts are the last rewards."""
    judged = [t for t in members if t.turns and not t.error and not t.cut]
    texts = [t.turns[-1].text for t in judged]
    row = task.env.tasks[task.index].row()
    scores = await score_group(task.env.group_verifier, texts, [row] * len(texts))
    for trajectory, score in zip(judged, scores, strict=True):
        _note_score(trajectory, {"score": score})
        trajectory.turns[-1] = replace(trajectory.turns[-1], reward=score.value)
