"""Play every task of reasoning-gym: the reference must earn 1, junk and hostile answers 0.

    python benchmarks/reasoning_gym_audit.py [--items 20] [--tasks NAME ...]

Needs the extra ``reasoning-gym``. Prints one JSON line. ``raw`` figures are reasoning-gym's own
scorers', the others are ours (``strict``).
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections import Counter
from importlib.metadata import version

import rl_envs
from rl_envs.bridges import reasoning_gym, reasoning_gym_scores

JUNK = ("no idea", "", "0")
HOSTILE = (
    "9**9**9**9",
    "1e999999999",
    "[" * 10_000,
    "(" * 10_000 + "1" + ")" * 10_000,
    "__import__('os').system('true')",
    "\x00\ud800",
    "None",
    "{}",
    "[1, 'a', null]",
    "9" * 15_000,
    " ".join(["a"] * 5000),
)


def audited(name: str, items: int) -> dict:
    """The figures of one task."""
    env = rl_envs.make("text/ReasoningGym-v0", task=name)
    started = time.perf_counter()
    tasks = [env.tasks[index] for index in range(items)]
    figures: dict = {"items_per_s": items / (time.perf_counter() - started)}
    figures["distinct"] = len({task.id for task in tasks})
    oracle, junk, raw_junk, raw_raised, slowest = 0, 0, 0, 0, 0.0
    for task in tasks:
        row = task.row()
        if task.answer is not None:
            oracle += env.score(f"<answer>{task.answer}</answer>", row).passed
        for answer in (*JUNK, *HOSTILE):
            started = time.perf_counter()
            score = env.score(f"<answer>{answer}</answer>", row)
            slowest = max(slowest, time.perf_counter() - started)
            right = isinstance(task.answer, str) and reasoning_gym_scores.same(answer, task.answer)
            junk += score.value > 0 and not right
            if answer in JUNK:
                data_set = reasoning_gym.data_set_of(name, row["seed"], row["config"])
                raw = reasoning_gym_scores.asked(data_set, answer, row["entry"])
                raw_raised += raw is None
                raw_junk += raw is not None and raw > 0 and not right
    referenced = [task for task in tasks if task.answer is not None]
    return {
        **figures,
        "oracle": oracle / len(referenced) if referenced else None,
        "junk_paid": junk,
        "raw_junk_paid": raw_junk,
        "raw_raised": raw_raised,
        "slowest_score_s": slowest,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--tasks", nargs="*")
    arguments = parser.parse_args()
    found = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in arguments.tasks or reasoning_gym.task_names():
            found[name] = audited(name, arguments.items)
    counts: Counter[str] = Counter()
    for figures in found.values():
        counts["tasks"] += 1
        counts["no_reference"] += figures["oracle"] is None
        counts["oracle_1"] += figures["oracle"] == 1.0
        for key in ("junk_paid", "raw_junk_paid", "raw_raised"):
            counts[f"tasks_{key}"] += figures[key] > 0
    slow = {n: round(f["items_per_s"], 2) for n, f in found.items() if f["items_per_s"] < 20}
    line = {
        "benchmark": "reasoning_gym_audit",
        "version": version("reasoning-gym"),
        "items": arguments.items,
        **counts,
        "oracle_below_1": {
            n: f["oracle"] for n, f in found.items() if f["oracle"] not in (None, 1.0)
        },
        "junk_paid": {n: f["junk_paid"] for n, f in found.items() if f["junk_paid"]},
        "raw_junk_paid": [n for n, f in found.items() if f["raw_junk_paid"]],
        "raw_raised": [n for n, f in found.items() if f["raw_raised"]],
        "repeats": {n: f["distinct"] for n, f in found.items() if f["distinct"] < arguments.items},
        "slow_items_per_s": dict(sorted(slow.items(), key=lambda pair: pair[1])),
        "slowest_score_s": round(max(f["slowest_score_s"] for f in found.values()), 3),
        "slow_scores": {
            n: round(f["slowest_score_s"], 2)
            for n, f in found.items()
            if f["slowest_score_s"] > 0.2
        },
        "warnings": sorted({str(w.message)[:80] for w in caught if w.category is RuntimeWarning}),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
