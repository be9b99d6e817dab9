"""Preference pairs: a model answers each task several times, and a labeller compares the answers.

The labeller is the environment's reward, a reward model, or a judge that is asked in both orders
(InstructGPT, arXiv 2203.02155; constitutional AI, arXiv 2212.08073).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agent_rl.config import PairsConfig
from agent_rl.errors import UserError
from agent_rl.generating import assignments_of, load_engine, sample_tasks, to_sampling
from agent_rl.preferences.making import Labelling, Sample, label, paired
from agent_rl.preferences.pairs import Pair
from agent_rl.preflight import check_env, check_model, located
from agent_rl.rollout import Assignment, seed_of
from agent_rl.runs import Console, RunFolder
from agent_rl.runs.files import append_line, read_json_lines, to_json, write_atomically
from agent_rl.trajectory import Trajectory
from rl_envs import make
from rl_envs.judges import resolve_verifier
from rl_envs.types import Message
from rl_verifiers import score_many

LABEL_SEED = 50_021  # mixed into the seeds of label noise
CHUNKS = "chunks.jsonl"  # a line per finished chunk, until the data is whole
COUNTED = ("made", "ties", "same", "empty", "failed", "flipped")

Gaps = Callable[[Sequence[tuple[Sample, Sample]], Sequence[Assignment]], list[float | None]]
Rewards = Callable[[Sequence[Trajectory]], list[float]]


@dataclass(frozen=True)
class Labeller:
    """Who compares.

    Attributes:
        rewards: A reward of each episode, one that is NaN where only pairs are compared.
        gaps: By how much the first of each pair is better; None: that failed by our fault.
        name: The column of its rewards; empty where it gives none.
    """

    rewards: Rewards
    gaps: Gaps
    name: str = "reward"


def check(config: PairsConfig, unborn: Collection[str] = ()) -> None:
    """What can be known to fail before the first sample.

    Raises:
        UserError: One line that names the setting.
    """
    check_model(config.model, unborn)
    with located("env"):
        check_env(config.env)
        turns = make(config.env.id, **config.env.options).max_turns
        if turns > 1:
            raise UserError(
                f"{config.env.id} has up to {turns} turns, and pairs compare single answers; "
                "give it max_turns: 1 or take another one"
            )
    with located("judge"):
        if config.judge is not None:
            judge = _judge(config.judge)
            if hasattr(judge, "prepare"):
                judge.prepare()
    if config.reward_model_path not in (None, *unborn):
        from agent_rl.reward_models.folder import check_folder  # noqa: PLC0415

        with located("reward_model_path"):
            check_folder(str(config.reward_model_path))


def run(
    config: PairsConfig, folder: RunFolder, show: Console, *, resume: bool = False
) -> dict[str, Any]:
    """Sample, label, and leave ``data.jsonl`` and a summary in ``folder``.

    Args:
        config: All settings.
        folder: Where everything goes.
        show: What the person at the terminal sees.
        resume: Go on after the last whole chunk in ``folder``.

    Returns:
        The summary, as in ``summary.json``.
    """
    chunks = folder.path / CHUNKS
    finished = _finished_chunks(chunks) if resume else []
    done = finished[-1]["tasks"] if finished else 0
    seconds = finished[-1]["seconds"] if finished else 0.0
    counts = Counter(finished[-1]["counts"]) if finished else Counter()
    if resume:
        folder.truncate_after(done)
    assignments = assignments_of(config.env, config.tasks, config.run.seed)
    rows = [row for chunk in finished for row in chunk["rows"]]
    if done < len(assignments):
        engine, chat = load_engine(config.model, config.run.seed)
        labeller = labeller_of(config)
        show.start(len(assignments), done=done)
        started = time.perf_counter() - seconds
        for groups in sample_tasks(
            engine,
            chat,
            assignments,
            samples=config.samples,
            sampling=to_sampling(config.sampling),
            seed=config.run.seed,
            on_truncation=config.on_truncation,
            tasks_at_once=config.tasks_at_once,
            skip=done,
        ):
            made, counted = _labelled(config, labeller, groups, assignments[done:], done)
            done += len(groups)
            counts.update(counted)
            seconds = time.perf_counter() - started
            new = [pair.row() for pair in made]
            rows += new
            state = {"tasks": done, "seconds": seconds, "counts": counts, "rows": new}
            append_line(chunks, to_json(state))
            metrics = _metrics(groups, counts)
            folder.log(done, metrics, stage="pairs")
            show.step(done, metrics)
        show.stop()
    _refuse_nothing(rows, counts)
    write_atomically(folder.path / config.result, "".join(to_json(row) + "\n" for row in rows))
    summary = {
        "stage": "pairs",
        "seed": config.run.seed,
        "train_seconds": seconds,
        "tasks": done,
        "pairs": len(rows),
        **{name: counts[name] for name in COUNTED},
    }
    folder.write_summary({**summary, "finished": True})
    chunks.unlink(missing_ok=True)
    return summary


def _finished_chunks(path: Path) -> list[dict[str, Any]]:
    """The whole chunks of a stopped stage; a half-written last line is removed."""
    finished = read_json_lines(path)
    if path.exists():
        write_atomically(path, "".join(to_json(chunk) + "\n" for chunk in finished))
    return finished


def labeller_of(config: PairsConfig) -> Labeller:
    """Who compares, by the settings.

    Raises:
        UserError: A reward model that cannot be loaded.
    """
    if config.judge is not None:
        judge = _judge(config.judge)
        return Labeller(
            lambda played: [float("nan")] * len(played),
            lambda pairs, tasks: _judged(judge, pairs, tasks),
            "",
        )
    if config.reward_model_path is None:
        return Labeller(lambda played: [t.total_reward for t in played], _reward_gaps)
    from agent_rl.reward_models import load_reward_model  # noqa: PLC0415

    model = load_reward_model(config.reward_model_path)

    def rewards(played: Sequence[Trajectory]) -> list[float]:
        said = [(*t.opening, Message(role="assistant", content=t.turns[0].text)) for t in played]
        return [float(score) for score in model.score(said)] if said else []

    return Labeller(rewards, _reward_gaps)


def _judge(options: dict[str, Any]) -> Any:
    mode = options.get("mode", "pairwise")
    if mode != "pairwise" or "against" in options:
        raise UserError("mode must be pairwise, and against is not for pairs; remove them")
    given = {"name": "judge", **options, "mode": "pairwise", "against": "reference"}
    return resolve_verifier(given)


def _reward_gaps(
    pairs: Sequence[tuple[Sample, Sample]], tasks: Sequence[Assignment]
) -> list[float | None]:
    return [a.reward - b.reward for a, b in pairs]


def _judged(
    judge: Any, pairs: Sequence[tuple[Sample, Sample]], tasks: Sequence[Assignment]
) -> list[float | None]:
    """1, -1 or 0 for each pair; the judge is asked in both orders, and 0 where they disagree."""
    rows = [
        {**task.env.tasks[task.index].row(), "prompt": list(a.prompt), "reference": b.text}
        for (a, b), task in zip(pairs, tasks, strict=True)
    ]
    scores = score_many(judge, [a.text for a, _ in pairs], rows)
    failed = [score.reason for score in scores if score.status == "error"]
    if failed and len(failed) == len(scores):
        raise UserError(f"judge: all {len(failed)} pairs failed, the first with: {failed[0]}")
    return [None if s.status == "error" else 2 * s.value - 1 for s in scores]


def _labelled(
    config: PairsConfig,
    labeller: Labeller,
    groups: Sequence[Sequence[Trajectory]],
    assignments: Sequence[Assignment],
    first: int,
) -> tuple[list[Pair], Counter[str]]:
    """The pairs of a chunk of tasks, and what became of all that were possible."""
    counts: Counter[str] = Counter()
    usable = [[t for t in group if t.error is None and t.turns] for group in groups]
    counts["failed"] = sum(map(len, groups)) - sum(map(len, usable))
    rewards = iter(labeller.rewards([t for group in usable for t in group]))
    candidates: list[tuple[Sample, Sample]] = []
    places: list[int] = []
    for place, group in enumerate(usable):
        samples = [_sample(t, next(rewards), labeller.name) for t in group]
        new = paired(samples, config.pairing)
        candidates += new
        places += [place] * len(new)
    gaps = labeller.gaps(candidates, [assignments[place] for place in places])
    how = Labelling(
        config.min_gap, config.noise, config.temperature, config.flip, config.ties == "keep"
    )
    pairs = []
    rngs = [
        np.random.default_rng(seed_of(LABEL_SEED, config.run.seed, first + place))
        for place in range(len(groups))
    ]
    for (a, b), gap, place in zip(candidates, gaps, places, strict=True):
        if gap is None:
            counts["failed"] += 1
            continue
        pair = label(a, b, gap, how, rngs[place], counts)
        pairs += [] if pair is None else [pair]
    return pairs, counts


def _sample(trajectory: Trajectory, reward: float, name: str) -> Sample:
    own = {name: reward} if name else {}
    if not name or reward != trajectory.total_reward:
        own["env_reward"] = trajectory.total_reward
    shared = {"env": trajectory.env, "task_id": trajectory.task_id}
    return Sample(trajectory.opening, trajectory.turns[0].text, reward, shared, own)


def _metrics(groups: Sequence[Sequence[Trajectory]], counts: Counter[str]) -> dict[str, float]:
    played = [t for group in groups for t in group if t.error is None]
    mean = sum(t.total_reward for t in played) / max(1, len(played))
    return {"reward/mean": mean, **{f"pairs/{name}": float(counts[name]) for name in COUNTED}}


def _refuse_nothing(rows: Sequence[Any], counts: Counter[str]) -> None:
    if not rows:
        found = ", ".join(f"{counts[name]} {name}" for name in COUNTED if counts[name])
        raise UserError(
            f"no pair was made ({found or 'nothing to compare'}); take more samples or tasks, a "
            "higher temperature, or a smaller min_gap"
        )
