"""Several policies on the same tasks and seeds: rewards, KL, and who beats whom.

A policy is measured against the one before it by its win rate: the share of (task, sample) pairs in
which its completion is paid more, a tie counting half. Intervals are bootstrapped over tasks, since
samples of one task are no independent draws.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from agent_rl import models
from agent_rl.algorithms.best_of_n import kl_bound
from agent_rl.chat import Chat
from agent_rl.config import CompareConfig, Contestant, ModelConfig
from agent_rl.generating import (
    engine_of,
    in_split,
    sample_tasks,
    split_assignments,
    to_sampling,
    verdicts,
)
from agent_rl.measure import episode_row
from agent_rl.packing import pack
from agent_rl.policy import Policy
from agent_rl.preflight import check_env, check_model, located
from agent_rl.rollout import Assignment, seed_of
from agent_rl.runs import Console, RunFolder, statistics
from agent_rl.runs.files import read_json_lines, to_json, write_atomically
from agent_rl.runs.tables import with_interval
from agent_rl.sample_pool import check_sampled
from agent_rl.trajectory import Trajectory, segments
from rl_envs.judges import resolve_verifier
from rl_verifiers import Score, Verifier

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
        given = {"verifier": config.verifier, "choose_by": config.choose_by}
        check_sampled(in_split(config.env, config.split), given)


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

    Raises:
        UserError: All episodes of a chunk, or all judgements of a policy, failed by our own fault.
    """
    started = time.perf_counter()
    assignments = split_assignments(config.env, config.split, config.tasks, config.run.seed)
    show.start(len(config.models))
    (folder.path / "samples").mkdir(exist_ok=True)
    folder.truncate_after(-1)  # what is kept is logged again
    paths = [folder.path / "samples" / f"{n:02d}.jsonl" for n in range(len(config.models))]
    missing = [path for path in paths if not (resume and path.exists())]
    judges = _judges(config) if missing else Judges()
    played: list[list[dict[str, Any]]] = []
    for number, (contestant, path) in enumerate(zip(config.models, paths, strict=True)):
        if path in missing:
            rows = _play(config, contestant, assignments, judges)
            write_atomically(path, "".join(f"{to_json(row)}\n" for row in rows))
        played.append(read_json_lines(path))
        row = _row(config, number, played, len(assignments))
        folder.log(number + 1, _metrics(row), stage="compare")
        show.step(number + 1, _metrics(row))
    show.stop()
    comparison = [_row(config, n, played, len(assignments)) for n in range(len(played))]
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


@dataclass(frozen=True, slots=True)
class Judges:
    """Who judges instead of the environment, and who chooses; None for nobody of that kind."""

    judge: Verifier | None = None
    chooser: Verifier | None = None


def _judges(config: CompareConfig) -> Judges:
    """The verifiers, made before anything is played: a missing file or key shows now, not later."""
    chooses = config.choose_by is not None and any(m.best_of > 1 for m in config.models)
    return Judges(
        None if config.verifier is None else resolve_verifier(config.verifier),
        resolve_verifier(config.choose_by) if chooses and config.choose_by is not None else None,
    )


def _play(
    config: CompareConfig,
    contestant: Contestant,
    assignments: Sequence[Assignment],
    judges: Judges,
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
    said = None
    if judges.judge is not None:
        cut = config.on_truncation
        said = verdicts("verifier", judges.judge, groups, assignments, on_truncation=cut)
    judged = _values(said) if said else [[_paid(t) for t in group] for group in groups]
    wishes = judged
    if contestant.best_of > 1 and judges.chooser is not None:
        wishes = _values(verdicts("choose_by", judges.chooser, groups, assignments))
    rows, kept = [], []
    for number, (group, rewards, wished) in enumerate(zip(groups, judged, wishes, strict=True)):
        for sample in range(config.samples):
            best = _best(contestant.best_of, sample, rewards, wished)
            if best is not None:  # else it is our failure, and left out
                kept.append(group[best])
                row = {**episode_row(group[best], chat), "sample": sample}
                rows.append(row if said is None else {**row, **_verdict(said[number][best])})
    kl = _kl(config, contestant, model, chat, kept)
    return [{**row, "kl": value} for row, value in zip(rows, kl, strict=True)]


def _best(
    n: int, sample: int, rewards: Sequence[float | None], wished: Sequence[float | None]
) -> int | None:
    """The best of the ``sample``-th n episodes of a group, among those that could be judged."""
    pool = range(sample * n, (sample + 1) * n)
    fair = [(wished[i], -i) for i in pool if rewards[i] is not None and wished[i] is not None]
    return -max(fair)[1] if fair else None


def _paid(trajectory: Trajectory) -> float | None:
    return None if trajectory.error else trajectory.total_reward


def _values(said: Sequence[Sequence[Score]]) -> list[list[float | None]]:
    return [[None if score.is_error else score.value for score in group] for group in said]


def _verdict(score: Score) -> dict[str, Any]:
    """The columns of an episode's row that a verifier decides in the environment's place."""
    return {
        "reward": score.value,
        "passed": score.passed,
        "status": score.status,
        "reason": score.reason,
        "parts": dict(score.parts),
    }


def _kl(
    config: CompareConfig,
    contestant: Contestant,
    model: nn.Module,
    chat: Chat,
    kept: Sequence[Trajectory],
) -> list[float | None]:
    """The KL of each completion to the first policy, in nats: a sample of log pi - log first.

    Best-of-n adds the exact ``log n - (n - 1) / n`` of its choice (an upper bound where scores tie:
    Beirami et al. 2024, theorem 1). None for policies of other tokens or another chat template,
    which are not asked the same, and for greedy ones, whose KL is infinite wherever they differ.
    """
    chosen = kl_bound(contestant.best_of)
    if contestant.path == config.models[0].path:
        return [chosen] * len(kept)
    if config.sampling.temperature == 0:
        return [None] * len(kept)
    first, first_chat = models.load(ModelConfig(path=config.models[0].path), config.run.seed)
    if _language(first_chat) != _language(chat):
        return [None] * len(kept)
    policy, base = (Policy(m, temperature=config.sampling.temperature) for m in (model, first))
    found: list[float | None] = []
    for trajectory in kept:
        micros = pack(segments(trajectory), micro_tokens=MICRO_TOKENS)
        gap_t = policy.score_all(micros)[0] - base.score_all(micros)[0]
        found.append(float(gap_t.sum()) + chosen)
    return found


def _language(chat: Chat) -> tuple[Any, ...]:
    """What two policies must share for a completion of one to be one of the other."""
    return chat.tokenizer.get_vocab(), str(chat.tokenizer.chat_template)


def _row(
    config: CompareConfig, number: int, played: Sequence[Sequence[Mapping[str, Any]]], tasks: int
) -> dict[str, Any]:
    """The figures of one policy, and its win rate over the one before."""
    contestant, rows = config.models[number], played[number]
    rewards = _by_task({_key(r): float(r["reward"]) for r in rows})
    row: dict[str, Any] = {
        "model": contestant.label,
        "n": len(rows),
        "errors": tasks * config.samples - len(rows),
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


def _key(row: Mapping[str, Any]) -> tuple[int, int]:
    """The task's number, since two tasks may have one id, and the sample's."""
    return int(row["group"]), int(row["sample"])


def _by_task(values: Mapping[tuple[int, int], float]) -> list[float]:
    """The mean of each task."""
    tasks: dict[int, list[float]] = {}
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
