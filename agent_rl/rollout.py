"""Groups of episodes, all at once over one engine: retries, shared set-ups, group verdicts."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from agent_rl.chat import Chat
from agent_rl.engines import Engine, Sampling
from agent_rl.episode import (
    NO_DEADLINES,
    Assignment,
    Deadlines,
    EpisodeFailed,
    OnTruncation,
    Player,
    note,
    outside,
    seed_of,
)
from agent_rl.errors import UserError
from agent_rl.group_setup import GroupSetup, shares
from agent_rl.self_play import refuse_group_verifier, seats_apart, seats_of
from agent_rl.trajectory import Trajectory
from rl_verifiers import Score, score_group

__all__ = [
    "Assignment",
    "Deadlines",
    "EpisodeFailed",
    "OnTruncation",
    "play_groups",
    "play_with",
    "refuse_if_all_failed",
    "seed_of",
]

TRIES = 2  # of what fails by our fault: an episode, a set-up, a group's verdict


async def play_groups(
    engine: Engine,
    chat: Chat,
    assignments: Sequence[Assignment],
    *,
    group_size: int,
    sampling: Sampling,
    seed: int,
    on_truncation: OnTruncation = "zero",
    deadlines: Deadlines = NO_DEADLINES,
    first_group: int = 0,
    concurrency: int = 0,
    on_done: Callable[[Trajectory], None] | None = None,
    opponent: Engine | None = None,
) -> list[Trajectory]:
    """Play every assignment ``group_size`` times, all at once; groups come back in order.

    An episode that fails by our fault is played once more from the start, on a new copy of its
    environment and with the same seeds; after that it comes back with its ``error``. Cancelling the
    call ends every episode and closes every environment before it returns.

    Args:
        engine: Where completions come from.
        chat: The policy's chat template.
        assignments: One per group.
        group_size: Episodes of each.
        sampling: As every turn is sampled; its seed is replaced.
        seed: Fixes every sample: none depends on which others are in the batch.
        on_truncation: What a completion cut at the token limit means.
        deadlines: How long an answer and an episode may take.
        first_group: Number of the first group.
        concurrency: Most episodes at once; 0 for all.
        on_done: Called with every episode as it ends.
        opponent: Who takes all seats but one of environments with several (``agent_rl.self_play``);
            None: ``engine`` takes them all. Each seat of the engine's gives a trajectory.

    Raises:
        UserError: When a prompt is longer than the context, a reward is no number, or an
            environment with several seats has a group verifier.
    """
    return await play_with(
        Player(engine, chat, sampling, on_truncation, deadlines, opponent),
        assignments,
        group_size=group_size,
        seed=seed,
        first_group=first_group,
        concurrency=concurrency,
        on_done=on_done,
    )


async def play_with(
    player: Player,
    assignments: Sequence[Assignment],
    *,
    group_size: int,
    seed: int,
    first_group: int = 0,
    concurrency: int = 0,
    on_done: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """``play_groups`` by a player of one's own."""
    _build_once(assignments)
    setups = [_setup(player, task, group_size) for task in assignments]

    async def one(number: int, task: Assignment, sample: int) -> Trajectory:
        group = first_group + number
        drawn = seed_of(seed, group, sample)
        trajectory = Trajectory(task.name, str(task.index), group, sample)
        setup = setups[number]
        for _ in range(TRIES):
            try:
                shared = None if setup is None else await setup.get()
                await player.play(task, shared, drawn, trajectory)
                break
            except EpisodeFailed as error:
                trajectory = _failed(trajectory, str(error))
        if setup is not None:
            await setup.leave()
        if on_done is not None:
            on_done(trajectory)
        return trajectory

    jobs = [(n, task, s) for n, task in enumerate(assignments) for s in range(group_size)]
    waiting = iter(enumerate(jobs))
    results: dict[int, Trajectory] = {}

    async def play_on() -> None:
        for place, job in waiting:
            results[place] = await one(*job)

    try:
        await _together([play_on() for _ in range(min(concurrency or len(jobs), len(jobs)))])
    finally:
        for setup in setups:
            if setup is not None:
                await setup.close()
    played = [results[place] for place in range(len(jobs))]
    for number, task in enumerate(assignments):
        if task.env.group_verifier is not None:
            await _score_group(task, played[number * group_size : (number + 1) * group_size])
    seats = [seats_of(task.env) for _, task, _ in jobs]
    frozen, mask_cut = player.opponent is not None, player.on_truncation == "mask"
    return seats_apart(played, seats, frozen=frozen, mask_cut=mask_cut)


def _build_once(assignments: Sequence[Assignment]) -> None:
    """Load tasks and build judges on the prototypes, so that their copies share them."""
    for env, name in {id(task.env): (task.env, task.name) for task in assignments}.values():
        refuse_group_verifier(env, name)
        _ = env.tasks
        if env.verifier is not None:
            _ = env.judging


def _setup(player: Player, task: Assignment, members: int) -> GroupSetup | None:
    """What the members of a group will share; None where the environment shares nothing."""
    if not shares(task.env):
        return None

    async def make() -> Any:
        with outside:
            made = task.env.set_up_group(task.env.tasks[task.index])
            return await player.answer(made) if inspect.isawaitable(made) else made

    return GroupSetup(make, members, task.name, TRIES)


def _failed(trajectory: Trajectory, error: str) -> Trajectory:
    """The episode without anything that was played of it."""
    return Trajectory(
        trajectory.env,
        trajectory.task_id,
        trajectory.group,
        trajectory.sample,
        opening=trajectory.opening,
        error=error,
        failures=[*trajectory.failures, error],
    )


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


def _over_limit(trajectory: Trajectory) -> bool:
    """Whether a limit ended it before it gave an answer; its last text is none."""
    score = trajectory.score
    over = trajectory.truncated and score is not None and score.status == "over_limit"
    return trajectory.cut or over


async def _score_group(task: Assignment, members: Sequence[Trajectory]) -> None:
    """Let the group verifier see all completions of a task; its verdicts are the last rewards."""
    judged = [t for t in members if t.turns and not t.error and not _over_limit(t)]
    texts = [t.turns[-1].text for t in judged]
    scores: list[Score] = []
    for _ in range(TRIES):
        try:
            with outside:
                row = task.env.tasks[task.index].row()
                scores = await score_group(task.env.group_verifier, texts, [row] * len(texts))
        except EpisodeFailed as error:
            scores = [Score.failed(f"the group verifier raised {error}")] * len(texts)
        if not any(score.is_error for score in scores):
            break
    for trajectory, score in zip(judged, scores, strict=True):
        note(trajectory, {"score": score})
        trajectory.turns[-1] = replace(trajectory.turns[-1], reward=score.value)
