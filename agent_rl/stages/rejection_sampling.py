"""Rejection sampling: sample, score, keep the best, and write them down for the stage ``sft``."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from agent_rl.config import RejectionSamplingConfig
from agent_rl.errors import UserError
from agent_rl.generating import assignments_of
from agent_rl.preflight import check_env, check_model, located
from agent_rl.rollout import Deadlines
from agent_rl.runs import Console, RunFolder
from agent_rl.runs.files import to_json, write_atomically
from agent_rl.sample_pool import (
    Prompt,
    Sample,
    Sampler,
    check_sampled,
    refuse_forgetful,
    usable,
)
from agent_rl.selection import Candidate, by_group, distinct, matched_control, ranked, selected
from rl_envs import content_id

DATA, CONTROL = "data.jsonl", "control.jsonl"
BINS = 10  # of the histogram, where there are more distinct scores


def check(config: RejectionSamplingConfig, unborn: Collection[str] = ()) -> None:
    """What can be known to fail before anything is sampled.

    Raises:
        UserError: One line that names the setting.
    """
    check_model(config.model, unborn)
    with located(f"env ({config.env.id})"):
        check_env(config.env)
        check_sampled(config.env, {"verifier": config.verifier})
        refuse_forgetful(config.env)


def run(
    config: RejectionSamplingConfig, folder: RunFolder, show: Console, *, resume: bool = False
) -> dict[str, Any]:
    """Sample, select, and leave ``data.jsonl``, ``control.jsonl`` and all samples in ``folder``.

    Args:
        config: All settings.
        folder: Where everything goes.
        show: What the person at the terminal sees.
        resume: Keep the chunks of tasks that were played whole.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        UserError: Nothing is good enough, or all samples failed by our own fault.
    """
    sampler = Sampler(
        stage="rejection_sampling",
        model=config.model,
        sampling=config.sampling,
        samples=config.samples,
        verifiers={} if config.verifier is None else {"score": config.verifier},
        on_truncation="zero",
        deadlines=Deadlines(config.turn_timeout_s, config.episode_timeout_s),
        tasks_at_once=config.tasks_at_once,
        seed=config.run.seed,
    )
    assignments = assignments_of(config.env, config.tasks, config.run.seed)
    prompts, seconds = sampler.pool(assignments, folder, show, resume=resume)
    everything = candidates_of(prompts)
    pool = distinct(everything) if config.deduplicate else everything
    chosen = selected(
        pool, config.select, keep=config.keep, threshold=config.threshold, seed=config.run.seed
    )
    if not chosen:
        raise UserError(_nothing(config, prompts, pool))
    chosen_rows = rows_of(prompts, pool, chosen, config.run.seed)
    _write(folder, DATA, chosen_rows)
    summary: dict[str, Any] = {
        "stage": "rejection_sampling",
        "seed": config.run.seed,
        **counts(prompts, everything, pool, chosen),
        "scores": _scores(prompts, pool),
        "chosen": figures(chosen_rows),
    }
    if config.control:
        control = matched_control(pool, chosen, config.run.seed)
        control_rows = rows_of(prompts, pool, control, config.run.seed)
        _write(folder, CONTROL, control_rows)
        summary["control"] = figures(control_rows)
    summary["histogram"] = histogram([c.score for c in pool], [c.score for c in chosen])
    show.table(_shown(summary), title=f"{len(chosen)} of {len(pool)} samples kept")
    summary |= {"train_seconds": seconds, "finished": True}
    folder.write_summary(summary)
    return summary


def candidates_of(prompts: Iterable[Prompt]) -> list[Candidate]:
    """Every sample that may be kept: whole, not empty, and judged."""
    return [
        Candidate(prompt.task, sample.sample, score_of(sample), _content(prompt, sample))
        for prompt in prompts
        for sample in prompt.samples
        if usable(sample)
    ]


def score_of(sample: Sample) -> float:
    """What decides about a sample that could be judged: the verifier's score, or the reward."""
    score = sample.scores.get("score", sample.reward)
    assert score is not None
    return score


def rows_of(
    prompts: Sequence[Prompt], pool: Sequence[Candidate], kept: Sequence[Candidate], seed: int
) -> list[dict[str, Any]]:
    """The samples that are kept, in TRL's columns, with what they were chosen by.

    Args:
        prompts: All that was sampled.
        pool: The samples that could have been kept; ranks are among those of a prompt.
        kept: Those that were.
        seed: Decides between equal scores, as in the selection.
    """
    of = {prompt.task: prompt for prompt in prompts}
    groups = by_group(ranked(pool, seed))
    places = {
        (c.group, c.sample): place
        for group in groups.values()
        for place, c in enumerate(group, start=1)
    }
    rows = []
    for c in kept:
        prompt = of[c.group]
        sample = next(s for s in prompt.samples if s.sample == c.sample)
        rows.append(
            {
                **_conversation(prompt, sample),
                "score": c.score,
                "n": len(groups[c.group]),
                "rank": places[c.group, c.sample],
                "reward": sample.reward,
                "passed": sample.passed,
                "tokens": sample.tokens,
                "env": prompt.env,
                "task_id": prompt.task_id,
                "sample": sample.sample,
            }
        )
    return rows


def counts(
    prompts: Sequence[Prompt],
    everything: Sequence[Candidate],
    pool: Sequence[Candidate],
    chosen: Sequence[Candidate],
) -> dict[str, Any]:
    """How many samples there were, and what became of them."""
    samples = [sample for prompt in prompts for sample in prompt.samples]
    judged = [s for s in samples if s.error is None]
    return {
        "prompts": len(prompts),
        "prompts_kept": len({c.group for c in chosen}),
        "samples": len(samples),
        "errors": len(samples) - len(judged),
        "cut": sum(s.cut for s in judged),
        "empty": sum(not s.cut and not s.completion.strip() for s in judged),
        "duplicates": len(everything) - len(pool),
        "kept": len(chosen),
    }


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Scores, rewards and lengths of some rows."""
    tokens = [row["tokens"] for row in rows]
    return {
        "rows": len(rows),
        "score": statistics.fmean(row["score"] for row in rows),
        "reward": statistics.fmean(row["reward"] for row in rows),
        "passed": statistics.fmean(row["passed"] for row in rows),
        "tokens": statistics.fmean(tokens),
        "tokens_median": statistics.median(tokens),
        "tokens_max": max(tokens),
    }


def histogram(pool: Sequence[float], chosen: Sequence[float]) -> list[dict[str, Any]]:
    """How many samples have which score: each distinct score, or ten bins of equal width.

    Returns:
        From the lowest: ``low`` and ``high`` (the last bin's included), ``samples``, ``kept``.
    """
    values = sorted(set(pool))
    if len(values) <= BINS:
        at = [(value, value) for value in values]
        return [_bin(low, high, pool.count(low), chosen.count(low)) for low, high in at]
    edges = np.histogram_bin_edges(pool, bins=BINS)
    counted = [np.histogram(side, bins=edges)[0] for side in (pool, chosen)]
    return [
        _bin(float(edges[i]), float(edges[i + 1]), int(counted[0][i]), int(counted[1][i]))
        for i in range(BINS)
    ]


def _bin(low: float, high: float, samples: int, kept: int) -> dict[str, Any]:
    return {"low": low, "high": high, "samples": samples, "kept": kept}


def _conversation(prompt: Prompt, sample: Sample) -> dict[str, Any]:
    """``prompt`` and ``completion``, or the ``messages`` of several turns (and their tools)."""
    tools = {} if prompt.tools is None else {"tools": prompt.tools}
    if sample.messages:
        return {"messages": sample.messages, **tools}
    completion = [{"role": "assistant", "content": sample.completion}]
    return {"prompt": prompt.messages, "completion": completion, **tools}


def _content(prompt: Prompt, sample: Sample) -> str:
    return content_id(sample.messages or (prompt.messages, sample.completion))


def _scores(prompts: Sequence[Prompt], pool: Sequence[Candidate]) -> dict[str, float]:
    """The mean score of a sample, and of the best of each prompt."""
    groups = by_group(pool)
    return {
        "mean": statistics.fmean(c.score for c in pool),
        "best_of_n": statistics.fmean(max(c.score for c in g) for g in groups.values()),
        "prompts_without_a_sample": float(len(prompts) - len(groups)),
    }


def _nothing(
    config: RejectionSamplingConfig, prompts: Sequence[Prompt], pool: Sequence[Candidate]
) -> str:
    samples = sum(len(prompt.samples) for prompt in prompts)
    if not pool:
        return (
            f"none of {samples} samples can be kept: all were cut at a limit, empty or failed; "
            "raise sampling.max_tokens, or train the policy first"
        )
    best = max(c.score for c in pool)
    return (
        f"none of {len(pool)} samples has a score of at least {config.threshold:g}; the best has "
        f"{best:g}: set threshold lower in a new run"
    )


def _write(folder: RunFolder, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    write_atomically(folder.path / name, "".join(f"{to_json(row)}\n" for row in rows))


def _shown(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = [name for name in ("chosen", "control") if name in summary]
    columns = ("rows", "score", "reward", "passed", "tokens")
    return [{"": name, **{c: summary[name][c] for c in columns}} for name in names]
