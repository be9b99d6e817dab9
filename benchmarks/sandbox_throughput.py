"""Jobs per second of every sandbox beside the plain ways; prints one JSON line.

Run: ``python benchmarks/sandbox_throughput.py [--seconds 5] [--workers 1,2,4] [local docker ...]``
(default: local, and docker where a daemon answers). The job defines a function, asserts ten times
and prints. ``python -I`` starts an interpreter for each job and keeps nothing apart; ``docker
exec`` does so in a running container, by the Docker SDK. All are measured one after the other on
this machine, each for the same number of seconds with as many callers as it has workers.
Milliseconds are from the call to the result; ``start_ms`` is from nothing to the first result.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import rl_sandboxes
from rl_sandboxes import Job, Sandbox, SandboxError

CODE = """
def clamp(x, lo, hi):
    return min(max(x, lo), hi)
for x in range(10):
    assert clamp(x, 2, 6) == (2 if x < 2 else 6 if x > 6 else x)
print("done")
"""
JOB = Job.program(CODE)
Numbers = dict[str, Any]


def rate(call: Callable[[], bool], callers: int, seconds: float) -> Numbers:
    """Call again and again from as many threads; raises if one call is not right."""
    took: list[float] = []
    wrong: list[int] = []
    begin = time.perf_counter()

    def repeat() -> None:
        while time.perf_counter() - begin < seconds:
            started = time.perf_counter()
            if not call():
                wrong.append(1)
            took.append(time.perf_counter() - started)

    threads = [threading.Thread(target=repeat) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - begin
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(took)} jobs did not give what they should")
    hundredths = statistics.quantiles(took, n=100) if len(took) > 1 else took * 99
    return {
        "jobs_per_s": round(len(took) / spent, 1),
        "p50_ms": round(1000 * statistics.median(took), 2),
        "p99_ms": round(1000 * hundredths[98], 2),
        "jobs": len(took),
    }


def plain() -> bool:
    done = subprocess.run([sys.executable, "-I", "-c", CODE], capture_output=True, check=False)
    return done.stdout == b"done\n"


def by(sandbox: Sandbox) -> Callable[[], bool]:
    return lambda: sandbox.run(JOB).run.stdout == "done\n"


def started(name: str, options: dict[str, Any]) -> tuple[Sandbox, float]:
    begin = time.perf_counter()
    sandbox = rl_sandboxes.make(name, **options)
    if not by(sandbox)():
        raise SystemExit(f"{name} does not run the job")
    return sandbox, round(1000 * (time.perf_counter() - begin), 1)


def ours(name: str, options: dict[str, Any], workers: list[int], seconds: float) -> Numbers:
    measured: Numbers = {}
    for number in workers:
        sandbox, start_ms = started(name, {**options, "workers": number})
        try:
            for _ in range(number):  # every worker is up
                sandbox.run_many([JOB] * number * 4)
            measured[f"{number}_workers"] = rate(by(sandbox), number, seconds)
            measured.setdefault("start_ms", start_ms)
        finally:
            sandbox.close()
    return measured


def docker_exec(seconds: float) -> Numbers:
    """One container of our image, one ``exec`` for each job."""
    import docker  # noqa: PLC0415 - not everybody has it

    from rl_sandboxes.docker_containers import IMAGE  # noqa: PLC0415

    client = docker.from_env()
    container = client.containers.run(
        IMAGE, entrypoint=["sleep", "600"], network_mode="none", detach=True, auto_remove=True
    )
    try:
        command = ["python3", "-I", "-c", CODE]
        return rate(lambda: container.exec_run(command).output == b"done\n", 1, seconds)
    finally:
        container.kill()
        client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "back_ends", nargs="*", help="default: local, and docker where there is one"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement")
    parser.add_argument("--workers", default="1,2,4", help="numbers of workers, by comma")
    parser.add_argument("--level", help="of local: namespaces or landlock")
    given = parser.parse_args()
    workers = [int(number) for number in given.workers.split(",")]
    asked = given.back_ends or ["local", "docker"]
    result: Numbers = {"cores": len(os.sched_getaffinity(0)), "root": os.geteuid() == 0}
    result["python -I"] = rate(plain, 1, given.seconds)
    for name in asked:
        options = {"level": given.level} if name == "local" and given.level else {}
        try:
            result[name] = ours(name, options, workers, given.seconds)
            if name == "docker":
                result["docker exec"] = docker_exec(given.seconds)
        except SandboxError as error:
            if given.back_ends:
                raise SystemExit(f"error: {error}") from None
            result[name] = {"not_measured": str(error)}
    result["ratios"] = ratios(result, f"{workers[0]}_workers")
    print(json.dumps({"benchmark": "sandbox_throughput", **result}))


def ratios(result: Numbers, first: str) -> Numbers:
    """How many times as many jobs per second as the plain ways, one caller each."""
    found = {}
    for name, numbers in result.items():
        if isinstance(numbers, dict) and first in numbers:
            for base in ("python -I", "docker exec"):
                if base in result:
                    ratio = numbers[first]["jobs_per_s"] / result[base]["jobs_per_s"]
                    found[f"{name} / {base}"] = round(ratio, 1)
    return found


if __name__ == "__main__":
    main()
