"""Accuracy and speed of the math verifier on labelled answers; prints one JSON line.

Run: ``python benchmarks/verify_math.py [DATA_FOLDER]`` (default: $AGENT_RL_DATA).

``cases`` are pairs of a reference and an answer with a label (contested rows left out): a bare
answer is compared as it is, anything else goes through ``extract="final"``, as do references that
are whole responses. ``gsm8k`` are model outputs with labels. ``math500`` scores every reference
against itself and finds it in its own solution. Speed is answers per second of processor time of
this process and of its workers together.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rl_verifiers import Score, make
from rl_verifiers.extract import final_answer
from rl_verifiers.workers import shared_pool

FINAL, WHOLE = make("math"), make("math", extract="whole")
Labelled = tuple[Callable[..., Any], str, dict[str, Any], bool]


def cases(folder: Path) -> Iterable[Labelled]:
    for row in rows(folder, "math_equiv_cases.jsonl"):
        if row["contested"]:
            continue
        gold = row["gold"]
        if row["gold_kind"] == "response" or "\\boxed" in gold:
            found = final_answer(gold)
            gold = found.text if found else gold
        verifier = WHOLE if row["pred_kind"] == "bare" else FINAL
        yield verifier, row["pred"], {"id": row["id"], "answer": gold}, row["expected"]


def gsm8k(folder: Path) -> Iterable[Labelled]:
    for row in rows(folder, "gsm8k_labelled_outputs_60.jsonl"):
        yield FINAL, row["response"], {"id": row["id"], "answer": row["gold"]}, row["correct"]


def math500(folder: Path) -> Iterable[Labelled]:
    for row in rows(folder, "math500.jsonl"):
        yield WHOLE, row["answer"], row, True


def math500_solutions(folder: Path) -> Iterable[Labelled]:
    for row in rows(folder, "math500.jsonl"):
        yield FINAL, row["solution"], row, True


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def measured(labelled: list[Labelled]) -> dict[str, Any]:
    started = sum(os.times()[:2])
    scores: list[Score] = [verifier(text, row) for verifier, text, row, _ in labelled]
    own = sum(os.times()[:2]) - started
    pairs = [(s.passed, label) for s, (_, _, _, label) in zip(scores, labelled, strict=True)]
    return {
        "rows": len(pairs),
        "accuracy": round(sum(passed == label for passed, label in pairs) / len(pairs), 4),
        "false_positives": sum(passed and not label for passed, label in pairs),
        "false_negatives": sum(label and not passed for passed, label in pairs),
        "statuses": dict(Counter(score.status for score in scores)),
        "own_cpu_s": round(own, 3),
    }


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("AGENT_RL_DATA", "data"))
    sources = (cases, gsm8k, math500, math500_solutions)
    result: dict[str, Any] = {source.__name__: measured(list(source(folder))) for source in sources}
    shared_pool().close()  # so that the workers' time is counted
    times = os.times()
    total = sum(part["rows"] for part in result.values())
    result["answers_per_cpu_s"] = round(total / sum(times[:4]))
    print(json.dumps({"benchmark": "verify_math", **result}))


if __name__ == "__main__":
    main()
