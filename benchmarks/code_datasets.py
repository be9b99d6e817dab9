"""Do the reference solutions of HumanEval and MBPP pass their own tests? Prints one JSON line.

Run: ``python benchmarks/code_datasets.py [BACK_END] [DATA_FOLDER]`` (default: ``local``, and
$AGENT_RL_DATA with ``humaneval.jsonl`` and ``mbpp.jsonl``).

Tests are made of the data sets' asserts (``kinds`` counts them), then every row is scored twice:
its own solution must get 1.0, a function that returns None 0. ``failing`` and ``passing_stubs``
name the rows where this is not so, ``suspicious`` the solutions with a mark; seconds are wall
clock.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rl_sandboxes import make
from rl_verifiers import from_asserts, score_many
from rl_verifiers.code import CodeVerifier, code_verifier
from rl_verifiers.code_tests import guessed_entry

KINDS = ("call", "check", "replay", "weak")
Example = tuple[str, str, str, list[dict[str, Any]]]  # name, solution, entry point, tests


def humaneval(row: dict[str, Any], sandbox: Any) -> Example:
    solution = row["prompt"] + row["canonical_solution"]
    entry = row["entry_point"]
    tests = from_asserts(row["test"], entry, reference=solution, sandbox=sandbox)
    return row["task_id"], solution, entry, tests


def mbpp(row: dict[str, Any], sandbox: Any) -> Example:
    source, setup, code = "\n".join(row["test_list"]), row["test_setup_code"], row["code"]
    entry = guessed_entry(source, setup=setup, reference=code)
    tests = from_asserts(source, entry, setup=setup, reference=code, sandbox=sandbox)
    return f"MBPP/{row['task_id']}", code, entry, tests


def kind(test: dict[str, Any]) -> str:
    named = {"check": "check", "replay": "replay", "assert": "weak"}
    return next((name for key, name in named.items() if key in test), "call")


def measured(
    path: Path, example: Callable[..., Example], sandbox: Any, verifier: CodeVerifier
) -> dict[str, Any]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    started = time.monotonic()
    examples = [example(row, sandbox) for row in rows]
    loaded = time.monotonic()
    columns = [{"id": name, "entry_point": entry, "tests": t} for name, _, entry, t in examples]
    scores = score_many(verifier, [solution for _, solution, _, _ in examples], columns)
    scored = time.monotonic()
    stubs = [f"def {entry}(*args, **kwargs):\n    return None\n" for _, _, entry, _ in examples]
    empty = score_many(verifier, stubs, columns)
    named = list(zip(columns, scores, empty, strict=True))
    kinds = Counter(kind(test) for row in columns for test in row["tests"])
    return {
        "rows": len(rows),
        "passed": sum(score.value == 1.0 for score in scores),
        "failing": {r["id"]: s.reason for r, s, _ in named if s.value != 1.0},
        "passing_stubs": [r["id"] for r, _, stub in named if stub.value != 0.0 or stub.is_error],
        "suspicious": [r["id"] for r, s, _ in named if s.parts.get("suspicious")],
        "kinds": {name: kinds[name] for name in KINDS},
        "load_s": round(loaded - started, 1),
        "score_s": round(scored - loaded, 1),
        "stubs_s": round(time.monotonic() - scored, 1),
    }


def main() -> None:
    back_end = sys.argv[1] if len(sys.argv) > 1 else "local"
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("AGENT_RL_DATA", "data"))
    sandbox = make(back_end)
    try:
        verifier = code_verifier(sandbox=sandbox, extract="whole")
        result = {
            source.__name__: measured(
                folder / f"{source.__name__}.jsonl", source, sandbox, verifier
            )
            for source in (humaneval, mbpp)
        }
    finally:
        sandbox.close()
    print(json.dumps({"benchmark": "code_datasets", "sandbox": back_end, **result}))


if __name__ == "__main__":
    main()
