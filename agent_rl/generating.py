"""Samples of a model on an environment's tasks, outside a training step: whole tasks, in chunks.

The stages that make data from a policy (rejection sampling, preference pairs, AI feedback) and
those that compare policies play with this. A chunk is a pure function of the seed and the task, so
a stage that was stopped goes on after its last whole chunk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import nn

from agent_rl import models
from agent_rl.chat import Chat
from agent_rl.config import EnvConfig, ModelConfig, SamplingConfig
from agent_rl.engines import Engine, Sampling, TorchEngine
from agent_rl.episode import NO_DEADLINES
from agent_rl.errors import UserError
from agent_rl.rollout import (
    Assignment,
    Deadlines,
    OnTruncation,
    play_groups,
    refuse_if_all_failed,
    seed_of,
)
from agent_rl.trajectory import Trajectory
from rl_envs import make
from rl_verifiers import Score, Verifier, score_many

TASK_SEED = 40_009  # mixed into the seeds of episodes, so that none equals one of evaluation


def load_engine(config: ModelConfig, seed: int) -> tuple[TorchEngine, Chat]:
    """A model that generates, and its chat template.

    Raises:
        UserError: When it cannot be loaded.
    """
    model, chat = models.load(config, seed)
    return engine_of(model, chat, config), chat


def engine_of(model: nn.Module, chat: Chat, config: ModelConfig) -> TorchEngine:
    """The engine that samples from a loaded model."""
    return TorchEngine(
        model,
        eos_token_ids=models.end_token_ids(model, chat),
        tokenizer=chat.tokenizer,
        dtype=models.DTYPES.get(config.generation or ""),
    )


def assignments_of(env: EnvConfig, tasks: int, seed: int) -> list[Assignment]:
    """The first ``tasks`` tasks of an environment in its split (0: all), each with its seed.

    Raises:
        UserError: A setting that cannot work.
        DataError: An environment that cannot be used, or endless tasks and no number of them.
    """
    played = make(env.id, **env.options)
    played.prepare()
    size = played.tasks.size
    if size is None and tasks == 0:
        raise UserError(f"{env.id} has endless tasks; say how many with tasks: N")
    count = tasks if size is None else min(size, tasks or size)
    return [Assignment(played, env.id, i, seed_of(seed, TASK_SEED, i)) for i in range(count)]


def split_assignments(env: EnvConfig, split: str, tasks: int, seed: int) -> list[Assignment]:
    """``assignments_of`` another split of the environment."""
    return assignments_of(in_split(env, split), tasks, seed)


def in_split(env: EnvConfig, split: str) -> EnvConfig:
    """The environment with the option ``split``."""
    return replace(env, options={**env.options, "split": split})


def to_sampling(config: SamplingConfig) -> Sampling:
    """The engine's form of the settings."""
    return Sampling(
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        min_p=config.min_p,
        stop=config.stop,
    )


def sample_tasks(
    engine: Engine,
    chat: Chat,
    assignments: Sequence[Assignment],
    *,
    samples: int,
    sampling: Sampling,
    seed: int,
    on_truncation: OnTruncation = "zero",
    deadlines: Deadlines = NO_DEADLINES,
    tasks_at_once: int = 16,
    skip: int = 0,
) -> Iterator[list[list[Trajectory]]]:
    """Play each task ``samples`` times; yields a chunk of tasks at a time, each a list of episodes.

    Args:
        engine: Where completions come from.
        chat: The model's chat template.
        assignments: The tasks.
        samples: Episodes of each.
        sampling: How completions are drawn.
        seed: Fixes every sample, whatever the chunks are.
        on_truncation: What a completion cut at the token limit means.
        deadlines: How long an answer and an episode may take.
        tasks_at_once: Tasks in a chunk.
        skip: How many tasks were done before (a resumed stage): they are left out.

    Raises:
        UserError: When every episode of a chunk failed by our own fault.
    """
    for start in range(skip, len(assignments), tasks_at_once):
        chunk = assignments[start : start + tasks_at_once]
        played = asyncio.run(  # no loop is kept between chunks: a caller may leave us there
            play_groups(
                engine,
                chat,
                chunk,
                group_size=samples,
                sampling=sampling,
                seed=seed,
                on_truncation=on_truncation,
                deadlines=deadlines,
                first_group=start,
            )
        )
        refuse_if_all_failed(played)
        yield [played[i * samples : (i + 1) * samples] for i in range(len(chunk))]


def verdicts(
    name: str,
    verifier: Verifier,
    groups: Sequence[Sequence[Trajectory]],
    assignments: Sequence[Assignment],
    *,
    on_truncation: OnTruncation = "score",
) -> list[list[Score]]:
    """What a verifier says of the last answer of every episode.

    Args:
        name: What the verifier is for, for messages.
        verifier: Who judges.
        groups: The episodes of each task.
        assignments: The tasks.
        on_truncation: ``zero``: a completion cut at the token limit is worth 0, and is not judged.

    Returns:
        A score per episode; an error where the episode or the verifier failed us.

    Raises:
        UserError: The verifier failed on every completion.
    """
    pairs = [(t, task) for group, task in zip(groups, assignments, strict=True) for t in group]
    fixed = [_unjudged(t, on_truncation) for t, _ in pairs]
    asked = [pair for pair, score in zip(pairs, fixed, strict=True) if score is None]
    rows = [task.env.tasks[task.index].row() for _, task in asked]
    said = score_many(verifier, [t.turns[-1].text for t, _ in asked], rows)
    failed = [score.error for score in said if score.is_error]
    if failed and len(failed) == len(said):
        raise UserError(
            f"{name}: the verifier failed on all {len(said)} completions, the first with: "
            f"{failed[0]}; mend it, then --resume"
        )
    fresh = iter(said)
    scores = iter([next(fresh) if score is None else score for score in fixed])
    return [[next(scores) for _ in group] for group in groups]


def _unjudged(trajectory: Trajectory, on_truncation: OnTruncation) -> Score | None:
    """The score of an episode that no verifier needs to see; None for another one."""
    if trajectory.error is not None:
        return Score.failed(trajectory.error)
    if not trajectory.turns:
        return Score.failed("the episode has no turn")
    if trajectory.cut and on_truncation == "zero":
        return Score.wrong("cut at the token limit", status="over_limit")
    return None
