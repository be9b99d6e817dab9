"""Speed of the math verifier, and of Math-Verify on the same rows in one run; prints one JSON line.

Run: ``python benchmarks/verify_speed.py [DATA_FOLDER]`` (default: $AGENT_RL_DATA). For both sides:
``python -m venv V && V/bin/pip install -e . "math-verify[antlr4_13_2]==0.9.0"``, and run it with
``V/bin/python``; Math-Verify is no dependency of this project.

Speed is answers per second of processor time, of the process and of its workers together, their
start included; imports of the main process are not counted, on neither side. Each side has a
process of its own, and makes one pass over the rows: ours by ``score_many``, with nothing cached
and no worker started; Math-Verify as its authors show it, in the main thread with its alarms, and
once more, ``golds_once``, with each distinct reference parsed only once.

``gsm8k_outputs`` are labelled outputs of models. ``math_outputs`` are reference solutions of MATH:
as they are, with the last number in the box moved by one, and against the reference of the next
row. ``cases`` are pairs of references and answers of every kind. ``processes`` is the wall clock of
``score_many`` over many repeated outputs in one and in two worker processes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from verify_math import SETS, moved_by_one, rows

SCALED_ROWS = 150_000


class Output(NamedTuple):
    """A completion, its reference, and whether the completion is nothing but an answer."""

    completion: str
    gold: str
    bare: bool


def gsm8k_outputs(folder: Path) -> Iterator[Output]:
    for pair in SETS["gsm8k_labelled"](folder):
        yield Output(pair.completion, pair.gold, False)


def math_outputs(folder: Path) -> Iterator[Output]:
    read = rows(folder, "math500.jsonl") + rows(folder, "math_test_rest_60.jsonl")
    for row, following in zip(read, [*read[1:], read[0]], strict=True):
        yield Output(row["solution"], row["answer"], False)
        moved = moved_by_one(row["answer"])
        if moved is not None:
            head, box, tail = row["solution"].rpartition("\\boxed")
            yield Output(head + box + tail.replace(row["answer"], moved, 1), row["answer"], False)
        yield Output(row["solution"], following["answer"], False)


def cases(folder: Path) -> Iterator[Output]:
    for pair in SETS["cases"](folder):
        if not pair.gold_is_response:
            yield Output(pair.completion, pair.gold, pair.bare)


OUTPUTS: dict[str, Callable[[Path], Iterator[Output]]] = {
    "gsm8k_outputs": gsm8k_outputs,
    "math_outputs": math_outputs,
    "cases": cases,
}


def ours(outputs: list[Output]) -> dict[str, Any]:
    from rl_verifiers import make, score_many  # noqa: PLC0415 - one side must not load the other
    from rl_verifiers.workers import shared_pool  # noqa: PLC0415

    make("math")
    parts = [
        (
            make("math", extract="whole" if bare else "final"),
            [output.completion for output in outputs if output.bare == bare],
            [{"answer": output.gold} for output in outputs if output.bare == bare],
        )
        for bare in (False, True)
    ]
    start = seconds()
    scores = [score for part in parts for score in score_many(*part)]
    own = seconds() - start
    shared_pool().close()  # so that the workers' time is counted
    workers = sum(os.times()[2:4])
    return {
        "per_cpu_s": round(len(outputs) / (own + workers)),
        "workers_cpu_s": round(workers, 2),
        "passed": sum(score.passed for score in scores),
    }


def math_verify(outputs: list[Output]) -> dict[str, Any]:
    from math_verify import parse, verify  # noqa: PLC0415 - no dependency of the project

    def marked(text: str) -> str:
        return text if re.search(r"(?<!\\)\$|\\boxed|\\\[|\\\(", text) else f"\\boxed{{{text}}}"

    @cache
    def once(gold: str) -> Any:
        return parse(gold)

    verify(parse("\\boxed{\\sqrt{8}}"), parse("$2\\sqrt{2}$"))
    result: dict[str, Any] = {}
    for name, read in (("per_cpu_s", parse), ("golds_once", once)):
        start, passed = seconds(), 0
        for completion, gold, bare in outputs:
            answer = f"\\boxed{{{completion.strip('$ ')}}}" if bare else completion
            passed += bool(verify(read(marked(gold)), parse(answer)))
        result[name] = round(len(outputs) / (seconds() - start))
        result["passed"] = passed
    return result


def seconds() -> float:
    return time.process_time()


def processes(outputs: list[Output]) -> dict[str, Any]:
    from rl_verifiers import make, score_many  # noqa: PLC0415 - one side must not load the other

    count = max(1, SCALED_ROWS // len(outputs))
    completions = [output.completion for output in outputs] * count
    columns = [{"answer": output.gold} for output in outputs] * count
    result: dict[str, Any] = {"rows": len(completions)}
    for workers in (1, 2):
        started = time.perf_counter()
        score_many(make("math"), completions, columns, workers=workers)
        result[f"{workers}"] = round(len(completions) / (time.perf_counter() - started))
    return result | {"speedup": round(result["2"] / result["1"], 2)}


SIDES = {"ours": ours, "math_verify": math_verify, "processes": processes}


def in_process(side: str, name: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, str(folder), "--one", side, name]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = Path(os.environ.get("AGENT_RL_DATA", "data"))
    parser.add_argument("folder", type=Path, nargs="?", default=default)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        side, name = arguments.one
        print(json.dumps(SIDES[side](list(OUTPUTS[name](arguments.folder)))))
        return
    has_both = find_spec("math_verify") is not None
    if not has_both:
        print(
            'math-verify is missing: only our side is measured (pip install "math-verify'
            '[antlr4_13_2]==0.9.0" in an environment of its own)',
            file=sys.stderr,
        )
    report: dict[str, Any] = {"benchmark": "verify_speed", "answers_per_cpu_s": {}}
    for name, read in OUTPUTS.items():
        entry: dict[str, Any] = {"rows": len(list(read(arguments.folder)))}
        entry["ours"] = in_process("ours", name, arguments.folder)
        if has_both:
            entry["math_verify"] = in_process("math_verify", name, arguments.folder)
            entry["times_as_fast"] = {
                key: round(entry["ours"]["per_cpu_s"] / entry["math_verify"][key], 1)
                for key in ("per_cpu_s", "golds_once")
            }
        report["answers_per_cpu_s"][name] = entry
    report["processes"] = in_process("processes", "gsm8k_outputs", arguments.folder)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
