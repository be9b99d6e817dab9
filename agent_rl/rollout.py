"""Episodes: an engine speaks, an environment answers, the ids are kept exactly as sampled."""

from __future__ import annotations

import asyncio
import math
import warnings
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from agent_rl.chat import Chat
from agent_rl.engines import Engine, PromptTooLong, Sampling
from agent_rl.errors import UserError
from agent_rl.trajectory import Trajectory, Turn
from rl_envs import DataError, TextEnv
from rl_verifiers import Score, VerifierError, score_group

OnTruncation = Literal["zero", "score", "mask"]
TRIES = 2  # of an episode that fails by our fault
ERROR_CHARS = 500


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
        UserError: When a prompt is longer than the context, or a reward is no number.
    """

    async def one(number: int, task: Assignment, sample: int) -> Trajectory:
        group = first_group + number
        drawn = replace(sampling, seed=seed_of(seed, group, sample))
        for _ in range(TRIES):
            trajectory = Trajectory(task.name, str(task.index), group, sample)
            try:
                await _play(engine, chat, task, drawn, trajectory, on_truncation)
                break
            except EpisodeFailed as error:
                trajectory.turns, trajectory.answers = [], []
                trajectory.error = str(error)
        if on_done is not None:
            on_done(trajectory)
        return trajectory

    jobs = [(n, task, s) for n, task in enumerate(assignments) for s in range(group_size)]
    waiting = iter(enumerate(jobs))
    results: dict[int, Trajectory] = {}

    async def player() -> None:
        for place, job in waiting:
            results[place] = await one(*job)

    await _together([player() for _ in range(min(concurrency or len(jobs), len(jobs)))])
    played = [results[place] for place in range(len(jobs))]
    for number, task in enumerate(assignments):
        if task.env.group_verifier is not None:
            await _score_group(task, played[number * group_size : (number + 1) * group_size])
    return played


def refuse_if_all_failed(played: Sequence[Trajectory]) -> None:
    """Stop when no episode could be judged: nothing would be learned, however long it ran."""
    errors = [t.error for t in played if t.error is not None]
    if errors and len(errors) == len(played):
        raise UserError(
            f"all {len(played)} episodes failed by our own fault, the first of {played[0].env} "
            f"with: {errors[0]}; mend it, then --resume"
        )


async def _together(players: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run them all; what stops one ends the others, so that every environment is closed."""
    tasks = [asyncio.ensure_future(player) for player in players]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


class EpisodeFailed(Exception):  # noqa: N818 - what happened, never seen by a user
    """Something of ours broke in an episode: it is tried again, then left out and counted."""


@contextmanager
def _outside() -> Iterator[None]:
    """Around what an environment or a verifier runs. Errors that a user can act on pass through."""
    try:
        yield
    except (UserError, DataError, VerifierError):
        raise
    except Exception as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise EpisodeFailed(line[:ERROR_CHARS]) from error


async def _play(
    engine: Engine,
    chat: Chat,
    task: Assignment,
    sampling: Sampling,
    trajectory: Trajectory,
    on_truncation: OnTruncation,
) -> None:
    """One episode, turn by turn.

    Raises:
        EpisodeFailed: The environment, the verifier or the engine's queue failed us.
        UserError: A prompt that does not fit the context, or a reward that is no number.
    """
    with _outside():
        env = task.env.clone()
    prompt: list[int] = []
    try:
        with _outside():
            observation, info = await env.areset(seed=task.seed, options={"index": task.index})
            trajectory.task_id, trajectory.discount = str(info["task_id"]), env.discount
            trajectory.opening = observation
            prompt = chat.prompt_ids(observation)
        while not (trajectory.terminated or trajectory.truncated or trajectory.error):
            turn = await _speak(engine, chat, prompt, sampling, len(trajectory.turns))
            if turn.finish_reason == "length" and on_truncation != "score":
                _cut(trajectory, turn, sampling.max_tokens)
                return
            with _outside():
                observation, reward, terminated, truncated, info = await env.astep(turn.text)
            if not math.isfinite(reward):
                raise UserError(
                    f"{task.name}, task {trajectory.task_id}: the reward is {reward}; "
                    "a reward must be a finite number"
                )
            trajectory.turns.append(replace(turn, reward=float(reward)))
            trajectory.answers.append(observation)
            trajectory.terminated, trajectory.truncated = terminated, truncated
            _note_score(trajectory, info)
            if not terminated:
                with _outside():  # a malformed message is the environment's failure too
                    prompt = _next_prompt(env, chat, trajectory, prompt)
        if trajectory.truncated:
            trajectory.final_prompt_ids = _last_state(trajectory, prompt, engine.context_length)
    except PromptTooLong as error:
        if not trajectory.turns:
            raise UserError(
                f"{task.name}, task {trajectory.task_id}: {error}; "
                "take a model with a longer context, or shorter tasks"
            ) from error
        trajectory.truncated = True  # the conversation outgrew the context: a limit, not an end
        trajectory.final_prompt_ids = _last_state(trajectory, prompt, engine.context_length)
    finally:
        _close(env, task.name)


def _close(env: TextEnv, name: str) -> None:
    """Close an environment; what was played stands, and so does what is being raised."""
    try:
        with _outside():
            env.close()
    except Exception as error:
        warnings.warn(f"{name}: close() raised {error}", RuntimeWarning, stacklevel=2)


async def _speak(
    engine: Engine, chat: Chat, prompt: Sequence[int], sampling: Sampling, turn: int
) -> Turn:
    """One completion; its reward is not known yet."""
    completion = await engine.generate(
        prompt, replace(sampling, seed=seed_of(sampling.seed or 0, turn))
    )
    if completion.finish_reason == "abort":
        raise EpisodeFailed("the engine gave the request up")
    return Turn(
        tuple(prompt),
        tuple(completion.token_ids),
        tuple(completion.logprobs),
        chat.decode(completion.token_ids),
        0.0,
        completion.finish_reason,
        completion.policy_version,
    )


def _next_prompt(env: TextEnv, chat: Chat, trajectory: Trajectory, prompt: list[int]) -> list[int]:
    """What the policy sees next. An environment may answer nothing: then it sees what it saw."""
    observation = trajectory.answers[-1]
    if env.memory == "last":
        return chat.prompt_ids([*_system(trajectory), *observation]) if observation else prompt
    return chat.next_prompt_ids(prompt, trajectory.turns[-1].completion_ids, observation)


def _last_state(trajectory: Trajectory, prompt: Sequence[int], context: int) -> tuple[int, ...]:
    """The state whose value stands for what a truncation cut off.

    It is what the policy would have seen next; where that no longer fits the context, the state
    after its last token.
    """
    if len(prompt) <= context:
        return tuple(prompt)
    last = trajectory.turns[-1]
    return last.prompt_ids + last.completion_ids


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
    scores: list[Score] = []
    for _ in range(TRIES):
        try:
            with _outside():
                row = task.env.tasks[task.index].row()
                scores = await score_group(task.env.group_verifier, texts, [row] * len(texts))
        except EpisodeFailed as error:
            scores = [Score.failed(f"the group verifier raised {error}")] * len(texts)
        if not any(score.is_error for score in scores):
            break
    for trajectory, score in zip(judged, scores, strict=True):
        _note_score(trajectory, {"score": score})
        trajectory.turns[-1] = replace(trajectory.turns[-1], reward=score.value)
