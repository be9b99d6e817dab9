"""Sandboxes under random kills: every job ends, with its own result; prints one JSON line.

Run: ``python benchmarks/sandbox_soak.py [--seconds 120] [--clients 32] [--kill-every 1.0]
[local docker remote]`` (default: those that work here), one back end after the other. Half of the
clients run jobs, half use sessions of a few commands; meanwhile workers (local), containers
(docker), or the server (remote, started again on the same port) and its workers are killed.

A job that ends with our failure is run again, a session is opened again; ``lost`` are those that
never came to an end, ``wrong`` gave what they should not, ``late`` took over ``--deadline`` seconds
for one try, waiting for a worker included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rl_sandboxes
from rl_sandboxes import Job, JobError, Limits, Sandbox, SandboxError

QUICK = Limits(wall_s=2, cpu_s=1)
TOKEN = "soak"
TRIES = 50


def job(chosen: random.Random) -> tuple[Job, Callable[[Any], bool]]:
    """A job and whether a run of it is right."""
    text = f"{chosen.getrandbits(64):x}"
    kind = chosen.choices(("ok", "sleep", "error", "crash", "timeout", "call"), (6, 3, 2, 1, 1, 4))[
        0
    ]
    if kind == "call":
        made = Job.call("def f(x):\n    return x[::-1]\n", "f", [rl_sandboxes.Call((text,))])
        return made, lambda run: run.value == text[::-1]
    tail = {
        "ok": "",
        "sleep": f"import time\ntime.sleep({chosen.uniform(0, 0.3):.2f})",
        "error": "raise ValueError",
        "crash": "import os\nos.abort()",
        "timeout": "while True: pass",
    }[kind]
    status = {"sleep": "ok"}.get(kind, kind)
    made = Job.program(f"print({text!r}, flush=True)\n{tail}", limits=QUICK)
    return made, lambda run: (run.status, run.stdout) == (status, f"{text}\n")


class Soak:
    """Clients of one back end, and what became of their work."""

    def __init__(self, sandbox: Sandbox, seconds: float, deadline: float) -> None:
        self.sandbox, self.deadline = sandbox, deadline
        self.end = time.monotonic() + seconds
        self.counts: Counter[str] = Counter()
        self.longest_s = 0.0
        self.why: Counter[str] = Counter()
        self._lock = threading.Lock()

    def client(self, number: int, work: Callable[[random.Random], bool]) -> None:
        """Work until the time is over; each piece until it ends, however often we fail."""
        chosen = random.Random(number)
        while time.monotonic() < self.end:
            self._count("begun")
            for _ in range(TRIES):
                started = time.monotonic()
                try:
                    right = work(chosen)
                except SandboxError as error:
                    right = None
                    with self._lock:
                        self.why[str(error)[:80]] += 1
                except Exception as error:  # counted, never expected
                    right = False
                    with self._lock:
                        self.why[f"{type(error).__name__}: {error}"[:80]] += 1
                self._time(time.monotonic() - started)
                if right is not None:
                    self._count("ended" if right else "wrong")
                    break
                self._count("tried_again")
                time.sleep(0.05)
            else:
                self._count("given_up")

    def jobs(self, chosen: random.Random) -> bool:
        """One job."""
        made, is_right = job(chosen)
        result = self.sandbox.run(made)
        if result.error is not None:
            raise SandboxError(result.error)
        return is_right(result.run)

    def sessions(self, chosen: random.Random) -> bool:
        """A session of a few commands that build on one another."""
        text = f"{chosen.getrandbits(64):x}"
        session = self.sandbox.session("bash", Limits(wall_s=5))
        try:
            session.run(f"x={text}; mkdir d; cd d")
            session.put("d/f", text.encode())
            for _ in range(chosen.randrange(1, 4)):
                time.sleep(chosen.uniform(0, 0.3))
                if session.run('echo "$x" $(cat f)').stdout != f"{text} {text}\n":
                    return False
            return session.get("d/f") == text.encode()
        except (JobError, FileNotFoundError):
            return False
        finally:
            session.close()

    def _count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    def _time(self, seconds: float) -> None:
        with self._lock:
            self.longest_s = max(self.longest_s, seconds)
            self.counts["late"] += seconds > self.deadline


def soak(sandbox: Sandbox, kill: Callable[[], int], given: argparse.Namespace) -> dict[str, Any]:
    """Run the clients, kill at random, wait for all to end."""
    state = Soak(sandbox, given.seconds, given.deadline)
    threads = [
        threading.Thread(
            target=state.client,
            args=(number, state.jobs if number % 2 else state.sessions),
            daemon=True,
        )
        for number in range(given.clients)
    ]
    for thread in threads:
        thread.start()
    kills, chosen = 0, random.Random(0)
    while time.monotonic() < state.end:
        time.sleep(chosen.uniform(0, 2 * given.kill_every))
        kills += kill()
    limit = time.monotonic() + 2 * given.deadline
    for thread in threads:
        thread.join(max(0.0, limit - time.monotonic()))
    counts = dict.fromkeys(("begun", "ended", "tried_again", "given_up", "wrong", "late"), 0)
    counts.update(state.counts)
    counts["lost"] = counts["begun"] - counts["ended"] - counts["given_up"] - counts["wrong"]
    told = dict(state.why.most_common(5))
    return {**counts, "kills": kills, "longest_s": round(state.longest_s, 2), "failures": told}


# What is killed.


RUNNERS = 3
"""Generations below a worker's owner that are ours: two of bubblewrap, then the fork server. Below
are supervisors and jobs: a job that is killed has crashed, which is its result."""


def descendants(root: int) -> list[int]:
    """The nearest generations of processes that descend from one."""
    parents: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    found, layer = [], [root]
    for _ in range(RUNNERS):
        layer = sorted(pid for pid, parent in parents.items() if parent in layer)
        found += layer
    return found


def kill_one(pids: list[int]) -> int:
    """Kill one of these at random; how many were."""
    if not pids:
        return 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(random.choice(pids), signal.SIGKILL)
        return 1
    return 0


def on_local(given: argparse.Namespace) -> dict[str, Any]:
    sandbox = rl_sandboxes.make("local")
    try:
        return soak(sandbox, lambda: kill_one(descendants(os.getpid())), given)
    finally:
        sandbox.close()


def on_docker(given: argparse.Namespace) -> dict[str, Any]:
    import docker  # noqa: PLC0415 - not everybody has it

    from rl_sandboxes.docker_owner import labels  # noqa: PLC0415

    sandbox = rl_sandboxes.make("docker")
    client = docker.from_env()
    mine = [f"{name}={value}" for name, value in labels().items()]

    def kill() -> int:
        with contextlib.suppress(docker.errors.APIError):
            running = client.containers.list(filters={"label": mine}, ignore_removed=True)
            if running:
                random.choice(running).kill()
                return 1
        return 0

    try:
        return soak(sandbox, kill, given)
    finally:
        sandbox.close()
        client.close()


class Server:
    """The remote server as a process that can be killed and started again."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        """Start it, on the same port."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent_rl.cli", "serve-sandbox", "--port", str(self.port)],
            env={**os.environ, "AGENT_RL_SANDBOX_TOKEN": TOKEN},
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> int:
        """SIGKILL the server, or one of its workers."""
        if random.random() < 0.7:
            return kill_one(descendants(self.process.pid))
        self.process.kill()
        self.process.wait()
        time.sleep(0.3)
        self.start()
        return 1

    def connect(self) -> Sandbox:
        """A client, once the server answers."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return rl_sandboxes.make("remote", url=f"http://127.0.0.1:{self.port}", token=TOKEN)
            except SandboxError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def on_remote(given: argparse.Namespace) -> dict[str, Any]:
    server = Server()
    try:
        sandbox = server.connect()
        try:
            return soak(sandbox, server.kill, given)
        finally:
            sandbox.close()
    finally:
        server.process.terminate()
        server.process.wait()


BACK_ENDS = {"local": on_local, "docker": on_docker, "remote": on_remote}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("back_ends", nargs="*", help="default: every one that works here")
    parser.add_argument("--seconds", type=float, default=120.0, help="for each back end")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--kill-every", type=float, default=1.0, help="seconds, on average")
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds for one try")
    given = parser.parse_args()
    result: dict[str, Any] = {"clients": given.clients, "seconds": given.seconds}
    for name in given.back_ends or BACK_ENDS:
        try:
            result[name] = BACK_ENDS[name](given)
        except SandboxError as error:
            if given.back_ends:
                raise SystemExit(f"error: {error}") from None
            result[name] = {"not_measured": str(error)}
    print(json.dumps({"benchmark": "sandbox_soak", **result}))
    bad = ("lost", "wrong", "late", "given_up")
    counts = [numbers for numbers in result.values() if isinstance(numbers, dict)]
    sys.exit(any(numbers.get(name) for numbers in counts for name in bad))


if __name__ == "__main__":
    main()
