"""Attack rows against a back end, and a flood of mixed jobs after them; prints one JSON line.

Run: ``python benchmarks/sandbox_attacks.py [local] [--level landlock] [--rows FILE] [--jobs 1000]``
(default rows: ``sandbox_attacks_sample.jsonl`` in $AGENT_RL_DATA). Scripts and shell commands are
graded by ``rl_sandboxes.attacks``; submitted solutions by the ``code`` verifier: every one but the
controls must get 0, and every control 1. ``left`` counts what the mixed jobs left on the machine:
processes when the results are there; mounts, control groups, and descriptors of this process once
the sandbox is closed. Run it as root and as an ordinary user.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import rl_sandboxes
from rl_sandboxes import Job, Limits, Sandbox
from rl_sandboxes.attacks import grade, limits_of
from rl_sandboxes.bait import Bait, marked_processes, marking, new_mark
from rl_verifiers.code import code_verifier

SHORT = Limits(wall_s=0.5, cpu_s=0.3)
MIXED = (
    "print('ok')",
    "1 / 0",
    "import ctypes; ctypes.memset(8, 0, 64)",
    "open('/tmp/left', 'w').write('x'); open('/dev/shm/left', 'w').write('x')",
    "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True)",
    "import os\nfor _ in range(20): os.fork()",
    "raise SystemExit(3)",
    "print('x' * 10**6)",
)
ENDLESS = "while True: pass"


def failed_rows(sandbox: Sandbox, rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """What is wrong with each row that is not as it should be."""
    found = {}
    with Bait() as bait:
        for row in rows:
            if row["kind"] == "solution":
                limits = limits_of(row)
                judge = code_verifier(sandbox=sandbox, extract="whole", limits=limits)
                score = judge(row["code"], row)
                right = score.error is None and score.value == (row["category"] == "control")
                problems = [] if right else [f"{score.status} {score.value}: {score.reason}"]
            else:
                problems = grade(sandbox, row, bait)
            if problems:
                found[row["id"]] = problems
    return found


def traces() -> dict[str, int]:
    """How much there is of what a job could leave behind."""
    groups = Path("/sys/fs/cgroup").glob(f"*/agent-rl-sandboxes/{os.getpid()}-*")
    return {
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
        "control_groups": sum(path.is_dir() for path in groups),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def mixed(sandbox: Sandbox, number: int) -> dict[str, Any]:
    """Run mixed jobs at once; their statuses, and the processes left when the results are there."""
    mark = new_mark()
    codes = [ENDLESS if i % 50 == 49 else MIXED[i % len(MIXED)] for i in range(number)]
    jobs = [Job.program(f"{marking(mark)}\n{code}", limits=SHORT) for code in codes]
    started = time.perf_counter()
    statuses = Counter(result.status for result in sandbox.run_many(jobs))
    took = time.perf_counter() - started
    left = {"processes": len(marked_processes(mark))}
    return {"jobs": number, "seconds": round(took, 1), "statuses": dict(statuses), "left": left}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("back_end", nargs="?", default="local")
    parser.add_argument("--level", help="of local: namespaces or landlock")
    parser.add_argument("--rows", type=Path, help="a JSONL file of attack rows")
    parser.add_argument("--jobs", type=int, default=1000, help="mixed jobs")
    given = parser.parse_args()
    folder = os.environ.get("AGENT_RL_DATA", "data")
    file = given.rows or Path(folder, "sandbox_attacks_sample.jsonl")
    if not file.is_file():
        raise SystemExit(f"error: no file {file}; set AGENT_RL_DATA or give --rows")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    options = {"level": given.level} if given.level else {}
    with rl_sandboxes.make(given.back_end, **options, workers=1) as one:
        failed = failed_rows(one, rows)
    before = traces()
    with rl_sandboxes.make(given.back_end, **options) as sandbox:
        jobs = mixed(sandbox, given.jobs)
    jobs["left"] |= {name: count - before[name] for name, count in traces().items()}
    result = {
        "back_end": given.back_end,
        "root": os.geteuid() == 0,
        "rows": len(rows),
        "as_they_should_be": len(rows) - len(failed),
        "failed": failed,
        "mixed": jobs,
    }
    print(json.dumps({"benchmark": "sandbox_attacks", **result}))


if __name__ == "__main__":
    main()
