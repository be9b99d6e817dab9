r"""Accuracy and speed of the math verifier, and of Math-Verify beside it; prints one JSON line.

Run: ``python benchmarks/verify_math.py [DATA_FOLDER] [--disagreements] [--rows N]``
(default folder: $AGENT_RL_DATA).

Math-Verify is no dependency of this project. For a comparison, make an environment that has it:
``python -m venv V && V/bin/pip install -e . math-verify==0.9.0``, and run this script with
``V/bin/python``; without it the script says so and measures our side only. Math-Verify runs in the
main thread with its default limits; bare answers are given to it in ``\boxed{}``, where it does
best.

``cases`` are pairs of a reference and an answer with a label, contested ones left out: a bare
answer is compared as it is, anything else is a completion in which the answer must be found first,
as are references that are whole responses. ``gsm8k_labelled`` are model outputs with labels. The
other sets are made from references and solutions: each reference against itself, in its own
solution, with its last number moved by one (which must fail), and in another form that changes
nothing. Speed is answers per second of processor time, of the process and its workers together.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

SIDES = ("ours", "math_verify")
INSTALL = (
    "math-verify is not installed: only our side is measured. For both, run this script in an "
    "environment with `pip install math-verify==0.9.0` (it is no dependency of this project)."
)


class Pair(NamedTuple):
    """A completion, the reference, the label; ``bare``: it is nothing but an answer."""

    completion: str
    gold: str
    label: bool
    bare: bool
    key: str = ""
    category: str = ""
    suite: str = ""
    gold_is_response: bool = False


def cases(folder: Path) -> Iterator[Pair]:
    for row in rows(folder, "math_equiv_cases.jsonl"):
        if not row["contested"]:
            bare = row["pred_kind"] == "bare"
            yield Pair(row["pred"], row["gold"], row["expected"], bare, row["id"],
                       row["category"], row["suite"], row["gold_kind"] == "response")  # fmt: skip


def gsm8k_labelled(folder: Path) -> Iterator[Pair]:
    for row in rows(folder, "gsm8k_labelled_outputs_60.jsonl"):
        yield Pair(row["response"], row["gold"], row["correct"], False, row["id"])


def gsm8k_reference(folder: Path) -> Iterator[Pair]:
    for row in rows(folder, "gsm8k_train.jsonl") + rows(folder, "gsm8k_test.jsonl"):
        yield Pair(row["solution"], row["answer"], True, False, row["id"])


def gsm8k_moved(folder: Path) -> Iterator[Pair]:
    for row in rows(folder, "gsm8k_train.jsonl") + rows(folder, "gsm8k_test.jsonl"):
        moved = moved_by_one(row["answer"])
        if moved is not None:
            yield Pair(f"#### {moved}", row["answer"], False, False, row["id"])


def math500_solution(folder: Path) -> Iterator[Pair]:
    yield from in_solutions(rows(folder, "math500.jsonl"))


def math_rest_solution(folder: Path) -> Iterator[Pair]:
    yield from in_solutions(rows(folder, "math_test_rest_60.jsonl"))


def in_solutions(read: list[dict[str, Any]]) -> Iterator[Pair]:
    for row in read:
        yield Pair(row["solution"], row["answer"], True, False, row["id"])


def changed(name: str, change: Callable[[str], str | None], label: bool) -> Callable[..., Any]:
    """The set of references in ``name`` against what ``change`` makes of them."""

    def pairs(folder: Path) -> Iterator[Pair]:
        for row in rows(folder, name):
            answer = change(row["answer"])
            if answer is not None:
                yield Pair(answer, row["answer"], label, True, row["id"])

    return pairs


def moved_by_one(answer: str) -> str | None:
    numbers = list(re.finditer(r"\d+", answer))
    if not numbers:
        return None
    start, end = numbers[-1].span()
    return f"{answer[:start]}{int(answer[start:end]) + 1}{answer[end:]}"


def reformatted(answer: str) -> str:
    r"""``\dfrac``, ``\left`` and ``\right``, wider spaces, units after a plain number, dollars."""
    text = re.sub(r"\\[dt]?frac(?=\{)", r"\\dfrac", answer)
    is_plain = not any(command in text for command in (r"\left", r"\begin", r"\text"))
    if is_plain and text.count("(") == text.count(")") and text.count("[") == text.count("]"):
        text = re.sub(r"(?<!\\)([(\[])", r"\\left\1", text)
        text = re.sub(r"(?<!\\)([)\]])", r"\\right\1", text)
        text = re.sub(r"\\sqrt\\left\[(\w+)\\right\]", r"\\sqrt[\1]", text)
    if r"\text" not in text:
        text = re.sub(r"(?<=[\w}])([+=])(?=[\w\\])", r" \1 ", text)
    if re.fullmatch(r"\d+", text):
        text += r"\text{ units}"
    return f"$ {text} $"


SETS: dict[str, Callable[[Path], Iterator[Pair]]] = {
    "cases": cases,
    "gsm8k_labelled": gsm8k_labelled,
    "gsm8k_reference": gsm8k_reference,
    "gsm8k_moved": gsm8k_moved,
    "math500_gold": changed("math500.jsonl", str, True),
    "math500_solution": math500_solution,
    "math500_moved": changed("math500.jsonl", moved_by_one, False),
    "math500_reformatted": changed("math500.jsonl", reformatted, True),
    "math_rest_gold": changed("math_test_rest_60.jsonl", str, True),
    "math_rest_solution": math_rest_solution,
    "math_rest_moved": changed("math_test_rest_60.jsonl", moved_by_one, False),
    "math_rest_reformatted": changed("math_test_rest_60.jsonl", reformatted, True),
}


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    text = (folder / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def our_judge() -> Callable[[Pair], tuple[bool, str]]:
    from rl_verifiers import make  # noqa: PLC0415 - one side must not load the other
    from rl_verifiers.extract import final_answer  # noqa: PLC0415

    final, whole = make("math"), make("math", extract="whole")

    def judge(pair: Pair) -> tuple[bool, str]:
        gold = pair.gold
        if "\\boxed" in gold or pair.gold_is_response:
            found = final_answer(gold)
            gold = found.text if found else gold
        verifier: Any = whole if pair.bare else final
        score = verifier(pair.completion, {"answer": gold})
        return score.passed, score.status

    return judge


def their_judge() -> Callable[[Pair], tuple[bool, str]]:
    from math_verify import parse, verify  # noqa: PLC0415 - no dependency of the project

    def judge(pair: Pair) -> tuple[bool, str]:
        is_marked = re.search(r"(?<!\\)\$|\\boxed|\\\[|\\\(", pair.gold)
        gold = pair.gold if is_marked else f"\\boxed{{{pair.gold}}}"
        answer = f"\\boxed{{{pair.completion.strip('$ ')}}}" if pair.bare else pair.completion
        return bool(verify(parse(gold), parse(answer))), ""

    return judge


def measured(side: str, name: str, folder: Path, limit: int | None) -> dict[str, Any]:
    """Verdicts on a set, and what they cost; in a process of its own, so that nothing is shared."""
    pairs = list(SETS[name](folder))[:limit]
    judge = our_judge() if side == "ours" else their_judge()
    judge(Pair("\\boxed{\\sqrt{8}}", "2\\sqrt{2}", True, False))  # what is imported on first use
    started, clock = time.process_time(), time.perf_counter()
    verdicts = [judge(pair) for pair in pairs]
    wall = time.perf_counter() - clock
    if side == "ours":
        from rl_verifiers.workers import shared_pool  # noqa: PLC0415

        shared_pool().close()  # so that the workers' time is counted
    workers = sum(os.times()[2:4])
    return {"verdicts": verdicts, "cpu_s": time.process_time() - started + workers, "wall_s": wall}


def in_process(side: str, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, str(arguments.folder), "--one", side, name]
    if arguments.rows:
        command += ["--rows", str(arguments.rows)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def summary(pairs: list[Pair], result: dict[str, Any]) -> dict[str, Any]:
    labelled = [(v[0], pair.label) for v, pair in zip(result["verdicts"], pairs, strict=True)]
    return {
        "right": sum(passed == label for passed, label in labelled),
        "false_positives": sum(passed and not label for passed, label in labelled),
        "false_negatives": sum(label and not passed for passed, label in labelled),
        "answers_per_cpu_s": round(len(labelled) / max(result["cpu_s"], 1e-9)),
        "cpu_s": round(result["cpu_s"], 2),
        "wall_s": round(result["wall_s"], 2),
    }


def by_category(pairs: list[Pair], results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for category in sorted({pair.category for pair in pairs}):
        chosen = [i for i, pair in enumerate(pairs) if pair.category == category]
        table[category] = {"rows": len(chosen)} | {
            side: sum(result["verdicts"][i][0] == pairs[i].label for i in chosen)
            for side, result in results.items()
        }
    return table


def disagreements(name: str, pairs: list[Pair], result: dict[str, Any]) -> None:
    for (passed, status), pair in zip(result["verdicts"], pairs, strict=True):
        if passed != pair.label:
            print(
                f"{name} {pair.key} {pair.category} {pair.suite}: label {pair.label}, {status}: "
                f"{pair.gold[-120:]!r} | {pair.completion[-200:]!r}",
                file=sys.stderr,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = Path(os.environ.get("AGENT_RL_DATA", "data"))
    parser.add_argument("folder", type=Path, nargs="?", default=default)
    parser.add_argument("--disagreements", action="store_true", help="print each one of ours")
    parser.add_argument("--rows", type=int, help="at most so many rows of each set")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(*arguments.one, arguments.folder, arguments.rows)))
        return
    sides = [side for side in arguments.sides if side != "math_verify" or find_spec(side)]
    if sides != arguments.sides:
        print(INSTALL, file=sys.stderr)
    report: dict[str, Any] = {"benchmark": "verify_math", "sides": sides, "sets": {}}
    for name in arguments.sets:
        pairs = list(SETS[name](arguments.folder))[: arguments.rows]
        results = {side: in_process(side, name, arguments) for side in sides}
        report["sets"][name] = {"rows": len(pairs), "should_fail": sum(not p.label for p in pairs)}
        report["sets"][name] |= {side: summary(pairs, result) for side, result in results.items()}
        if name == "cases":
            report["by_category"] = by_category(pairs, results)
            report["statuses"] = dict(Counter(v[1] for v in results["ours"]["verdicts"]))
        if arguments.disagreements:
            disagreements(name, pairs, results["ours"])
    print(json.dumps(report))


if __name__ == "__main__":
    main()
