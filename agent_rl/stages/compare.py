"""Several policies on the same tasks and seeds: rewards, KL, and who beats whom.

A policy is measured against the one before it by its win rate: the share of (task, sample) pairs in
which its completion is paid more, a tie counting half. Intervals are bootstrapped over tasks, since
samples of one task are no independent draws.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

from agent_rl import models
from agent_rl.chat import Chat
from agent_rl.config import CompareConfig, Contestant, ModelConfig
from agent_rl.generating import engine_of, sample_tasks, split_assignments, to_sampling
from agent_rl.measure import episode_row
from agent_rl.packing import pack
from agent_rl.policy import Policy
from agent_rl.preflight import check_env, check_model, located
from agent_rl.rollout import Assignment, seed_of
from agent_rl.runs import Console, RunFolder, statistics
from agent_rl.runs.files import read_json_lines, to_json, write_atomically
from agent_rl.runs.tables import with_interval
from agent_rl.trajectory import Trajectory, segments
from rl_envs.judges import VerifierSpec, check_verifier, resolve_verifier
from rl_verifiers import score_many

RESULTS = "comparison.json"
MICRO_TOKENS = 8192


def check(config: CompareConfig, unborn: Collection[str] = ()) -> None:
    """What can be known to fail before anything is played.

    Raises:
        UserError: One line that names the setting.
    """
    for number, contestant in enumerate(config.models):
        with located(f"models.{number}"):
            check_model(ModelConfig(path=contestant.path), unborn)
    with located(f"env ({config.env.id})"):
        check_env(config.env)
    for name in ("verifier", "choose_by"):
        spec = getattr(config, name)
        with located(name):
            check_verifier("compare", spec)


def run(
    config: CompareConfig, folder: RunFolder, show: Console, *, resume: bool = False
) -> dict[str, Any]:
    """Play every policy, and leave ``comparison.json`` and all samples in ``folder``.

    Args:
        config: All settings.
        folder: Where everything goes.
        show: What the person at the terminal sees.
        resume: Keep the policies that were played whole.

    Returns:
        The summary, as in ``summary.json``; ``comparison`` has a row per policy.
    """
    started = time.perf_counter()
    assignments = split_assignments(config.env, config.split, config.tasks, config.run.seed)
    show.start(len(config.models))
    (folder.path / "samples").mkdir(exist_ok=True)
    played: list[list[dict[str, Any]]] = []
    for number, contestant in enumerate(config.models):
        path = folder.path / "samples" / f"{number:02d}.jsonl"
        if not (resume and path.exists()):
            rows = _play(config, contestant, assignments)
            write_atomically(path, "".join(f"{to_json(row)}\n" for row in rows))
        played.append(read_json_lines(path))
        row = _row(config, number, played)
        folder.log(number + 1, _metrics(row), stage="compare")
        show.step(number + 1, _metrics(row))
    show.stop()
    comparison = [_row(config, number, played) for number in range(len(played))]
    title = f"{config.env.id} ({config.split}): {len(assignments)} tasks x {config.samples}"
    shown = [_shown(row) for row in comparison]
    show.table(shown, title=title)
    write_atomically(folder.path / RESULTS, to_json(comparison, indent=2) + "\n")
    summary = {
        "stage": "compare",
        "seed": config.run.seed,
        "tasks": len(assignments),
        "comparison": comparison,
        "tables": {title: shown},
        "train_seconds": time.perf_counter() - started,
        "finished": True,
    }
    folder.write_summary(summary)
    return summary


def _play(
    config: CompareConfig, contestant: Contestant, assignments: Sequence[Assignment]
) -> list[dict[str, Any]]:
    """One row per task and kept sample: what was said, what it earned, its KL to the first."""
    settings = ModelConfig(path=contestant.path, generation=config.generation)
    model, chat = models.load(settings, config.run.seed)
    chunks = sample_tasks(
        engine_of(model, chat, settings),
        chat,
        assignments,
        samples=config.samples * contestant.best_of,
        sampling=to_sampling(config.sampling),
        seed=seed_of(config.run.seed, 1),
        on_truncation=config.on_truncation,
    )
    groups = [group for chunk in chunks for group in chunk]
    judged = _scores(config.verifier, groups, assignments)
    wishes = judged
    if contestant.best_of > 1 and config.choose_by is not None:
        wishes = _scores(config.choose_by, groups, assignments)
    rows, kept = [], []
    for group, rewards, wished in zip(groups, judged, wishes, strict=True):
        for sample in range(config.samples):
            best = _best(contestant.best_of, sample, rewards, wished)
            if best is not None:  # else it is our failure, and left out
                kept.append(group[best])
                row = episode_row(group[best], chat)
                rows.append({**row, "sample": sample, "reward": rewards[best]})
    kl = _kl(config, contestant, model, chat, kept)
    return [{**row, "kl": value} for row, value in zip(rows, kl, strict=True)]


def _best(
    n: int, sample: int, rewards: Sequence[float | None], wished: Sequence[float | None]
) -> int | None:
    """The best of the ``sample``-th n episodes of a group, among those that could be judged."""
    pool = range(sample * n, (sample + 1) * n)
    fair = [(wished[i], -i) for i in pool if rewards[i] is not None and wished[i] is not None]
    return -max(fair)[1] if fair else None


def _scores(
    verifier: VerifierSpec | None,
    groups: Sequence[Sequence[Trajectory]],
    assignments: Sequence[Assignment],
) -> list[list[float | None]]:
    """What every episode earned, by the environment or by a verifier; None where we failed."""
    if verifier is None:
        return [[None if t.error else t.total_reward for t in group] for group in groups]
    pairs = [
        (t.turns[-1].text if t.turns else "", task.env.tasks[task.index].row(), t.error)
        for group, task in zip(groups, assignments, strict=True)
        for t in group
    ]
    judge = resolve_verifier(verifier)
    scores = iter(score_many(judge, [p[0] for p in pairs], [p[1] for p in pairs]))
    errors = iter(p[2] for p in pairs)
    return [
        [
            None if next(errors) or score.is_error else score.value
            for score in (next(scores) for _ in group)
        ]
        for group in groups
    ]


def _kl(
    config: CompareConfig,
    contestant: Contestant,
    model: nn.Module,
    chat: Chat,
    kept: Sequence[Trajectory],
) -> list[float | None]:
    """The KL of each completion to the first policy, in nats: a sample of log pi - log first.

    Best-of-n adds the exact ``log n - (n - 1) / n`` of its choice (an upper bound where scores tie:
    Beirami et al. 2024, theorem 1). Policies of other tokens have none.
    """
    n = contestant.best_of
    chosen = math.log(n) - (n - 1) / n
    if contestant.path == config.models[0].path:
        return [chosen] * len(kept)
    first, first_chat = models.load(ModelConfig(path=config.models[0].path), config.run.seed)
    if first_chat.tokenizer.get_vocab() != chat.tokenizer.get_vocab():
        return [None] * len(kept)
    temperature = config.sampling.temperature or 1.0
    policy, base = (Policy(m, temperature=temperature) for m in (model, first))
    found: list[float | None] = []
    for trajectory in kept:
        micros = pack(segments(trajectory), micro_tokens=MICRO_TOKENS)
        gap_t = policy.score_all(micros)[0] - base.score_all(micros)[0]
        found.append(float(gap_t.sum()) + chosen)
    return found


def _row(
    config: CompareConfig, number: int, played: Sequence[Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """The figures of one policy, and its win rate over the one before."""
    contestant, rows = config.models[number], played[number]
    rewards = _by_task({_key(r): float(r["reward"]) for r in rows})
    row: dict[str, Any] = {
        "model": contestant.label,
        "n": len(rows),
        "reward": _mean(rewards),
        "reward_interval": _interval(rewards, config.run.seed),
        "kl": _mean([float(r["kl"]) for r in rows if r["kl"] is not None]),
        "length": _mean([float(r["n_tokens"]) for r in rows]),
        "passed": _mean([float(r["passed"]) for r in rows]),
        "win_rate": None,
        "win_rate_interval": None,
        "against": None,
    }
    if number:
        before = {_key(r): float(r["reward"]) for r in played[number - 1]}
        now = {_key(r): float(r["reward"]) for r in rows}
        wins = _by_task(
            {k: (1.0 + (now[k] > before[k]) - (now[k] < before[k])) / 2 for k in now if k in before}
        )
        row["win_rate"], row["win_rate_interval"] = _mean(wins), _interval(wins, config.run.seed)
        row["against"] = config.models[number - 1].label
    return row


def _key(row: Mapping[str, Any]) -> tuple[str, int]:
    return str(row["task_id"]), int(row["sample"])


def _by_task(values: Mapping[tuple[str, int], float]) -> list[float]:
    """The mean of each task."""
    tasks: dict[str, list[float]] = {}
    for (task, _), value in values.items():
        tasks.setdefault(task, []).append(value)
    return [sum(v) / len(v) for v in tasks.values()]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _interval(values: Sequence[float], seed: int) -> tuple[float, float] | None:
    return statistics.bootstrap_interval(values, seed=seed) if values else None


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """What the log gets of a policy's row."""
    names = ("reward", "kl", "length", "win_rate")
    return {f"compare/{name}": row[name] for name in names if row[name] is not None}


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as tables show it."""
    won = with_interval(row["win_rate"], row["win_rate_interval"], ".2f")
    return {
        "policy": row["model"],
        "reward (95 %)": with_interval(row["reward"], row["reward_interval"]),
        "KL": row["kl"],
        "length": row["length"],
        "win rate (95 %)": f"{won} over {row['against']}" if row["against"] else "",
    }
