"""``agent-rl label`` in a process of its own, for tests of the server and of its page."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[3]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_rows(path):
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


class Labelling:
    """The command, started."""

    def __init__(self, given, output, *options, token=None, port=0):
        path = os.pathsep.join(str(ROOT / name) for name in (".", "envs", "verifiers", "sandboxes"))
        env = {**os.environ, "PYTHONPATH": path}
        env.pop("AGENT_RL_LABEL_TOKEN", None)
        if token:
            env["AGENT_RL_LABEL_TOKEN"] = token
        self.token = token
        words = ["label", str(given), "--output", str(output), "--port", str(port), "--json"]
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "agent_rl.cli", *words, *options],
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        self.line = self.process.stderr.readline()
        if not self.line.startswith("{"):
            self.process.wait(30)
            self.process.stderr.close()
            raise ValueError(self.line.strip())
        self.client = httpx.Client(trust_env=False, timeout=30)
        self.url = json.loads(self.line)["url"]
        self.port = int(self.url.rpartition(":")[2])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end(signal.SIGKILL)

    def end(self, number=signal.SIGTERM):
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        self.process.stderr.close()
        return code

    def ask(self, method, path, **options):
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= options.pop("headers", {})
        return self.client.request(method, self.url + path, headers=headers, **options)

    def next(self, annotator=""):
        return self.ask("GET", "/api/next", params={"annotator": annotator}).json()

    def choose(self, item, choice, annotator=""):
        body = {"annotator": annotator, "item": item, "choice": choice, "seconds": 1.25}
        return self.ask("POST", "/api/choose", json=body)

    def undo(self, annotator=""):
        return self.ask("POST", "/api/undo", json={"annotator": annotator})
