"""Evaluation on a split that training never sees: accuracy, pass@k, majority@k, intervals."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent_rl import models
from agent_rl.chat import Chat
from agent_rl.config import EnvConfig, EvalConfig, RLConfig
from agent_rl.engines import Engine, Sampling
from agent_rl.errors import UserError
from agent_rl.generating import engine_of, to_sampling
from agent_rl.measure import episode_row
from agent_rl.rollout import (
    Assignment,
    Deadlines,
    OnTruncation,
    play_groups,
    refuse_if_all_failed,
    seed_of,
)
from agent_rl.runs import statistics
from agent_rl.self_play import seats_of
from agent_rl.trajectory import Trajectory
from rl_envs import Task, make
from rl_verifiers import extract

EVAL_SEED = 20_011  # mixed into every evaluation seed, so that none equals a training seed


EXAMPLES = 3  # completions shown before and after
LOOKED_AT = 256  # held-out tasks that are looked for among those of training
MOST_LOOKED_AT = 20_000


@dataclass(frozen=True, slots=True)
class Measurement:
    """Metrics ``eval/...``, and the first few greedy episodes as rows."""

    metrics: dict[str, float]
    examples: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Fixed tasks and seeds: every measurement plays the same episodes.

    Attributes:
        assignments: The tasks.
        sampling: How completions are drawn; greedy measurement sets the temperature to 0.
        samples: Sampled episodes per task.
        seed: Of the samples.
        on_truncation: What a completion cut at the token limit means.
        concurrency: Most episodes at once; 0 for all.
        on_done: Called with every finished episode.
        deadlines: How long an answer and an episode may take.
    """

    assignments: list[Assignment]
    sampling: Sampling
    samples: int
    seed: int
    on_truncation: OnTruncation
    concurrency: int = 0
    on_done: Callable[[Trajectory], None] | None = None
    deadlines: Deadlines = Deadlines()  # noqa: RUF009 - frozen

    async def play(self, engine: Engine, chat: Chat, *, greedy: bool) -> list[Trajectory]:
        """Every task once (greedy) or ``samples`` times; what we failed to judge is left out."""
        played = await play_groups(
            engine,
            chat,
            self.assignments,
            group_size=1 if greedy else self.samples,
            sampling=replace(self.sampling, temperature=0.0) if greedy else self.sampling,
            seed=self.seed,
            on_truncation=self.on_truncation,
            concurrency=self.concurrency,
            on_done=self.on_done,
            deadlines=self.deadlines,
        )
        refuse_if_all_failed(played)
        return [t for t in played if t.error is None]

    async def measure(self, engine: Engine, chat: Chat) -> Measurement:
        """Greedy accuracy with its 95 % Wilson interval, sampled accuracy, returns."""
        greedy = await self.play(engine, chat, greedy=True)
        drawn = await self.play(engine, chat, greedy=False) if self.samples else []
        asked = len(self.assignments) * (1 + self.samples)
        metrics = {
            "eval/errors": 1.0 - (len(greedy) + len(drawn)) / asked,
            "eval/return": _mean([t.total_reward for t in greedy]),
            "eval/length": _mean([t.n_sampled for t in greedy]),
        }
        if drawn:
            metrics["eval/sampled_return"] = _mean([t.total_reward for t in drawn])
        if any(
            t.score is not None for t in [*greedy, *drawn]
        ):  # a game has a return, not an accuracy
            low, high = statistics.wilson_interval(sum(t.passed for t in greedy), len(greedy))
            metrics |= {
                "eval/greedy": _mean([t.passed for t in greedy]),
                "eval/greedy_low": low,
                "eval/greedy_high": high,
            }
            metrics |= {"eval/sampled": _mean([t.passed for t in drawn])} if drawn else {}
        return Measurement(metrics, [episode_row(t, chat) for t in greedy[:EXAMPLES]])


def held_out(config: RLConfig) -> HeldOut | None:
    """The held-out tasks of a training run, shared out over its environments; None when off.

    Raises:
        UserError: When a held-out split is the training split.
    """
    wanted = config.evaluation
    if wanted.tasks == 0:
        return None
    assignments: list[Assignment] = []
    for env in config.envs:
        _refuse_training_tasks(env, wanted.split)
        share = max(1, wanted.tasks // len(config.envs))
        assignments += _assignments(env, wanted.split, share, seed_of(EVAL_SEED, config.run.seed))
    return HeldOut(
        assignments,
        to_sampling(config.sampling),
        wanted.samples,
        seed_of(EVAL_SEED, config.run.seed, 1),
        config.on_truncation,
        deadlines=Deadlines(config.turn_timeout_s, config.episode_timeout_s),
    )


def _refuse_training_tasks(env: EnvConfig, split: str) -> None:
    """Raise when the held-out split is the training split, by its name or by its tasks.

    A hundredth may be the same: data sets found in the wild hold some problems twice.
    """
    trained = env.options.get("split", "train")
    if trained == split:
        raise UserError(f"evaluation.split: {env.id} trains on {split!r} itself")
    train, test = (make(env.id, **{**env.options, "split": s}).tasks for s in (trained, split))
    seen = {_content(train[i]) for i in range(min(train.size or LOOKED_AT, MOST_LOOKED_AT))}
    shown = min(test.size or LOOKED_AT, LOOKED_AT)
    known = [test[i].id for i in range(shown) if _content(test[i]) in seen]
    if len(known) > shown // 100:
        raise UserError(
            f"evaluation.split: {env.id} has {len(known)} of {shown} tasks of {split!r} in "
            f"{trained!r} too (such as {known[0]}): the same tasks; let its load_tasks(split) give "
            "two sets (rl_envs.hash_split), or set evaluation.tasks=0"
        )


def _content(task: Task) -> str:
    """What makes a task the task it is, whatever a file calls it.

    Free columns (a row number, the name of the split) count only where nothing else tells.
    """
    asked = bool(task.prompt) and task.answer is not None
    return repr((task.prompt, task.answer, None if asked else task.info))


def run(
    config: EvalConfig, on_row: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Evaluate a model on environments.

    Args:
        config: All settings.
        on_row: Called with the row of every finished episode (progress, saving as it goes).

    Returns:
        ``{"results": [one dict per environment], "rows": [one dict per episode]}``.

    Raises:
        UserError: A model, environment or setting that cannot work.
    """
    if not config.greedy and config.samples == 0:
        raise UserError("nothing to measure: greedy is off and samples is 0")
    drawn = _tasks(config)
    model, chat = models.load(config.model, config.seed)
    engine = engine_of(model, chat, config.model)
    on_done = None if on_row is None else lambda t: on_row(episode_row(t, chat))
    results, rows = [], []
    for env, assignments in zip(config.envs, drawn, strict=True):
        test = HeldOut(
            assignments,
            to_sampling(config.sampling),
            config.samples,
            seed_of(EVAL_SEED, config.seed, 1),
            config.on_truncation,
            config.concurrency,
            on_done,
            Deadlines(config.turn_timeout_s, config.episode_timeout_s),
        )
        result, played = asyncio.run(_judge(config, test, engine, chat))
        results.append({"env": env.id, "split": config.split, **result})
        rows += [episode_row(t, chat) for t in played]
    return {"results": results, "rows": rows}


def n_episodes(config: EvalConfig) -> int:
    """How many episodes ``run`` plays.

    Raises:
        UserError: An environment with endless tasks, and no number of them.
        DataError: An environment or data that cannot be used.
    """
    tasks = sum(map(len, _tasks(config)))
    return tasks * (int(config.greedy) + config.samples)


def _tasks(config: EvalConfig) -> list[list[Assignment]]:
    """The tasks of each environment."""
    seed = seed_of(EVAL_SEED, config.seed)
    return [_assignments(env, config.split, config.tasks, seed) for env in config.envs]


async def _judge(
    config: EvalConfig, test: HeldOut, engine: Engine, chat: Chat
) -> tuple[dict[str, Any], list[Trajectory]]:
    greedy = await test.play(engine, chat, greedy=True) if config.greedy else []
    drawn = await test.play(engine, chat, greedy=False) if config.samples else []
    asked = len(test.assignments) * (int(config.greedy) + config.samples)
    result: dict[str, Any] = {
        "tasks": len(test.assignments),
        "errors": asked - len(greedy) - len(drawn),
    }
    if greedy:
        passed = sum(t.passed for t in greedy)
        result["greedy"] = passed / len(greedy)
        result["greedy_interval"] = statistics.wilson_interval(passed, len(greedy))
        result["return"] = _mean([t.total_reward for t in greedy])
        result["cut"] = _mean([t.cut for t in greedy])
        result["tokens"] = _mean([t.n_sampled for t in greedy])
    if drawn:
        result |= _sampled_figures(drawn, config.samples, config.seed)
    return result, [*greedy, *drawn]


def _sampled_figures(drawn: Sequence[Trajectory], samples: int, seed: int) -> dict[str, Any]:
    """pass@k and majority@k for k = 1, 2, 4, ... and ``samples``, intervals over tasks."""
    by_task: dict[int, list[Trajectory]] = defaultdict(list)
    for trajectory in drawn:
        by_task[trajectory.group].append(trajectory)
    whole = [group for group in by_task.values() if len(group) == samples]
    ks = sorted({2**i for i in range(samples.bit_length()) if 2**i <= samples} | {samples})
    figures: dict[str, Any] = {"samples": samples, "sampled": _mean([t.passed for t in drawn])}
    for k in ks if whole else []:
        passes = [statistics.pass_at_k(samples, sum(t.passed for t in g), k) for g in whole]
        figures[f"pass@{k}"] = _mean(passes)
        figures[f"pass@{k}_interval"] = statistics.bootstrap_interval(passes, seed=seed)
        votes = [
            statistics.majority_at_k([answer_of(t) for t in g], [t.passed for t in g], k, seed=seed)
            for g in whole
        ]
        figures[f"majority@{k}"] = _mean(votes)
        figures[f"majority@{k}_interval"] = statistics.bootstrap_interval(votes, seed=seed)
    return figures


def answer_of(trajectory: Trajectory) -> str | None:
    """What a completion votes for: its final answer, else its whole text; None when it was cut."""
    if trajectory.cut or not trajectory.turns:
        return None
    text = trajectory.turns[-1].text
    found = extract.final_answer(text)
    return text.strip() if found is None else found.text


def _assignments(env: EnvConfig, split: str, tasks: int, seed: int) -> list[Assignment]:
    """The first ``tasks`` tasks of a split (0: all), each with a seed of its own."""
    played = make(env.id, **{**env.options, "split": split})
    played.prepare()
    if seats_of(played) > 1:
        raise UserError(
            f"{env.id} plays against itself in the split {split!r}, which measures nothing; give "
            f"that split an opponent, such as opponent: {{train: self, {split}: minimax}}"
        )
    size = played.tasks.size
    if size is None and tasks == 0:
        raise UserError(f"{env.id} has endless tasks; say how many to evaluate with tasks=N")
    count = tasks if size is None else min(size, tasks or size)
    return [Assignment(played, env.id, i, seed_of(seed, i)) for i in range(count)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
