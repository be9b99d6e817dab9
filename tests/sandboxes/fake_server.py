"""A server of the remote back end whose sandbox does what a job's code says. Run as a program.

Code is a word and an argument: ``echo TEXT``, ``count NAME`` (how often it was run with this
name), ``sleep SECONDS``, ``wait FOLDER`` (until FOLDER/go is there; it makes FOLDER/started, and
FOLDER/cancelled when it was cancelled), ``raise TEXT``, ``fail TEXT`` (a Result with an error).
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rl_sandboxes.types import Guarantees, JobError, Limits, Result, Run, SandboxError

ROOT = Path(__file__).parents[2]


class FakeSandbox:
    """Deterministic, in memory."""

    name = "fake"

    def __init__(self):
        self.counts = {}

    def guarantees(self):
        return Guarantees("n", "f", "p", "f", "m", "l", "d", "s", missing=("everything",))

    async def arun(self, job):
        word, _, argument = job.code.partition(" ")
        if word == "count":
            self.counts[argument] = self.counts.get(argument, 0) + 1
            await asyncio.sleep(0.05)
            return Result((Run("ok", returned=True, value=self.counts[argument]),))
        if word == "sleep":
            await asyncio.sleep(float(argument))
        if word == "wait":
            await wait_in(Path(argument))
        if word == "raise":
            raise RuntimeError(argument)
        if word == "fail":
            return Result(error=argument)
        return Result((Run("ok", stdout=argument),), queue_s=0.25, files=dict(job.files))

    def session(self, kind="bash", limits=None):
        if limits is not None and limits.memory_mb == 13:
            raise SandboxError("no luck")
        return FakeSession(kind, limits or Limits())

    def close(self):
        pass


async def wait_in(folder):
    (folder / "started").touch()
    try:
        while not (folder / "go").exists():
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        (folder / "cancelled").touch()
        raise


class FakeSession:
    """Files in a dict; a command is appended to what was run."""

    def __init__(self, kind, limits):
        self.history = [f"{kind} {limits.wall_s}"]
        self.files = {}
        self.numbers = itertools.count(1)
        self.kept = {}

    async def arun(self, command, *, timeout_s=None):
        if command.startswith("wait "):
            await wait_in(Path(command[5:]))
        self.history.append(command)
        return Run("ok", stdout="\n".join(self.history), wall_s=timeout_s or 0.0)

    def put(self, path, data):
        self.files[path] = data

    def get(self, path, *, max_bytes=1 << 20):
        if path == "link":
            raise JobError("link is a link")
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def start(self, command):
        return next(self.numbers)

    def poll(self, number):
        return None if number == 1 else Run("error", exit_code=3)

    def stop(self, number):
        return Run("ok", signal=9)

    def snapshot(self):
        number = next(self.numbers)
        self.kept[number] = dict(self.files)
        return number

    def restore(self, number):
        if number not in self.kept:
            raise SandboxError(f"no snapshot {number}")
        self.files = self.kept[number]

    def close(self):
        if "mark" in self.files:
            Path(self.files["mark"].decode()).touch()


class FakeServer:
    """The program, started in a process of its own, and started again on the same port."""

    def __init__(self, token=None, **options):
        self.token = token
        self.options = options
        self.port = 0
        self.start()

    def start(self):
        path = os.pathsep.join(str(ROOT / name) for name in (".", "sandboxes"))
        config = json.dumps({"port": self.port, "token": self.token, **self.options})
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", __file__, config],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        line = self.process.stdout.readline()
        assert line, "the fake server did not start"
        self.port = int(line)
        self.url = f"http://127.0.0.1:{self.port}"

    def kill(self):
        self.process.kill()
        self.ended()

    def ended(self):
        """Its exit status, when it has ended."""
        code = self.process.wait(30)
        self.process.stdout.close()
        return code

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def close(self):
        self.kill()


def until(condition, seconds=30.0):
    """Wait for something that must happen."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def main():
    from rl_sandboxes import server, server_jobs
    from rl_sandboxes.serving import listen, serve

    config = json.loads(sys.argv[1])
    port, token = config.pop("port"), config.pop("token")
    server.HEARTBEAT_S = config.pop("heartbeat_s", 0.2)
    server_jobs.MAX_QUEUE_BYTES = config.pop("max_queue_bytes", 1 << 30)
    options = server.ServerOptions(**{"workers": 4, **config})
    listener = listen("127.0.0.1", port)
    port = listener.getsockname()[1]
    with contextlib.suppress(BrokenPipeError):
        code = serve(
            FakeSandbox(), listener, options, token, started=lambda: print(port, flush=True)
        )
        sys.exit(code)


if __name__ == "__main__":
    main()
