"""``agent-rl serve-verifier`` in a process of its own, for tests of the server and its client."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
ODD = f"{Path(__file__).with_name('odd_rewards.py')}:reward"


class Served:
    """The command, started, and started again on the same port."""

    def __init__(self, *options, verifier="exact", token=None, workers=1):
        self.options = ["--verifier", verifier, "--workers", str(workers), *options]
        self.token = token
        self.port = 0
        self.start()

    def start(self):
        path = os.pathsep.join(str(ROOT / name) for name in (".", "envs", "verifiers", "sandboxes"))
        env = {**os.environ, "PYTHONPATH": path}
        env.pop("AGENT_RL_VERIFIER_TOKEN", None)
        if self.token:
            env["AGENT_RL_VERIFIER_TOKEN"] = self.token
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-W", "error", "-m", "agent_rl.cli", "serve-verifier"),
                *("--port", str(self.port), "--json", *self.options),
            ],
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        line = self.process.stderr.readline()
        if not line.startswith("{"):
            self.process.kill()
            raise AssertionError(line + self.ended()[1])
        self.url = json.loads(line)["url"]
        self.port = int(self.url.rpartition(":")[2])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.ended()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def ended(self):
        """Its exit status and what it still said, when it has ended."""
        code = self.process.wait(60)
        rest = "" if self.process.stderr.closed else self.process.stderr.read()
        self.process.stderr.close()
        return code, rest

    def ask(self, method, path, **options):
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= options.pop("headers", {})
        with httpx.Client(trust_env=False, timeout=60) as client:
            return client.request(method, self.url + path, headers=headers, **options)

    def score(self, completions, rows=None):
        rows = [{"answer": "4"}] * len(completions) if rows is None else rows
        body = json.dumps({"completions": completions, "rows": rows})  # lone surrogates, too
        headers = {"Content-Type": "application/json"}
        return self.ask("POST", "/score", content=body, headers=headers)

    def info(self):
        return self.ask("GET", "/info").json()


def until(condition, seconds=30.0):
    """Wait for something that must happen."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
