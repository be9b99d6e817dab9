"""A million rows through ``agent-rl score``: memory, speed, and two kills; prints one JSON line.

Run: ``python benchmarks/score_million.py [DATA_FOLDER] [--rows N]`` (default: $AGENT_RL_DATA).

The rows are the labelled GSM8K outputs, repeated; in every repetition but the first each number of
the answer and of the reference is moved by the same amount, so that few rows are equal. One job
runs undisturbed; another is killed (SIGKILL) at two random moments and started again. Memory is the
greatest resident size of the main process and of any of its workers, looked at four times a second.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NUMBER = re.compile(r"\d+(?=\D*\Z)")


def make_rows(folder: Path, path: Path, count: int) -> None:
    source = (folder / "gsm8k_labelled_outputs_60.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in source.splitlines()]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            repetition, index = divmod(number, len(rows))
            row = rows[index]
            moved = {key: moved_by(row[key], repetition) for key in ("response", "gold")}
            file.write(json.dumps({**row, **moved, "id": f"{row['id']}-{repetition}"}) + "\n")


def moved_by(text: str, amount: int) -> str:
    return NUMBER.sub(lambda found: str(int(found[0]) + amount), text)


def command(rows: Path, out: Path) -> list[str]:
    program = [str(Path(sys.executable).with_name("agent-rl")), "score", str(rows)]
    return [*program, "--verifier", "math", "--output", str(out), "--group", "question_id"]


def watched(words: list[str], until: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Run to the end, or kill when ``until`` says so."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, stdout=said, stderr=said)
        main = worker = 0
        while process.poll() is None:
            main = max(main, resident(process.pid))
            worker = max([worker, *map(resident, children(process.pid))])
            if until():
                process.send_signal(signal.SIGKILL)
                process.wait()
                break
            time.sleep(0.25)
        if process.returncode > 0:
            said.seek(0)
            raise SystemExit(said.read().decode()[-2000:])
    seconds = time.monotonic() - started
    return {"seconds": seconds, "main_mb": main >> 20, "worker_mb": worker >> 20}


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def children(pid: int) -> list[int]:
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, tasks.read_text().split())
        except OSError:
            continue
    return found


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def same_summary(one: Path, other: Path) -> bool:
    kept = []
    for path in (one, other):
        content = json.loads(path.with_name(path.name + ".summary.json").read_text())
        timed = ("seconds", "slowest", "output")
        kept.append({key: value for key, value in content.items() if key not in timed})
    return kept[0] == kept[1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", nargs="?", default=os.environ.get("AGENT_RL_DATA", "data"))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    drawn = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = folder / "rows.jsonl"
        make_rows(Path(options.data), rows, options.rows)
        whole, killed = folder / "whole.jsonl", folder / "killed.jsonl"
        undisturbed = watched(command(rows, whole))
        parts = folder / "killed.jsonl.work" / "parts"
        at = []
        for share in sorted(drawn.uniform(0.05, 0.95) for _ in range(2)):
            wanted = int(share * options.rows / 1000)
            watched(
                command(rows, killed),
                lambda wanted=wanted: len(list(parts.glob("*.tally.json"))) >= wanted,
            )
            at.append(round(len(list(parts.glob("*.tally.json"))) * 1000 / options.rows, 3))
            assert not killed.exists()
        watched(command(rows, killed))
        result = {
            "rows": options.rows,
            "input_mb": rows.stat().st_size >> 20,
            "rows_per_s": round(options.rows / undisturbed["seconds"]),
            **{key: round(value, 1) for key, value in undisturbed.items()},
            "killed_at": at,
            "identical": digest(whole) == digest(killed),
            "same_summary": same_summary(whole, killed),
            "lines": sum(1 for _ in killed.open("rb")),
            "left": sorted(path.name for path in folder.iterdir()),
        }
    print(json.dumps({"benchmark": "score_million", **result}))


if __name__ == "__main__":
    main()
