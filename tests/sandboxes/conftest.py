"""Every back end that this machine has, one after the other, with the bait laid out before."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import pytest

import rl_sandboxes
from rl_sandboxes.bait import Bait
from rl_sandboxes.types import SandboxError

BACK_ENDS = ("local", "local-as-ordinary-user", "landlock", "docker", "remote")
REQUIRED = "AGENT_RL_REQUIRE_SANDBOXES"
"""An environment variable: the names of back ends (or ``all``) whose absence fails the tests."""


@pytest.fixture(scope="session")
def bait():
    with Bait() as laid_out:
        yield laid_out


@pytest.fixture(scope="session", params=BACK_ENDS)
def back_end(request):
    return request.param


@pytest.fixture(scope="session")
def sandbox(back_end, bait):
    """A sandbox with one worker, so that a job meets what the one before it left."""
    made = make_or_skip(back_end, workers=1)
    yield made
    made.close()


def make_or_skip(back_end, **options):
    """A back end by its name here; skips the test where this machine has none of it."""
    try:
        return make(back_end, **options)
    except SandboxError as error:
        required = os.environ.get(REQUIRED, "").split(",")
        if back_end in required or "all" in required:
            pytest.fail(f"{back_end} is required and cannot be used: {error}")
        pytest.skip(f"{back_end}: {error}")


def make(back_end, **options):
    """A back end by its name in these tests."""
    if back_end == "local-as-ordinary-user":
        from tests.sandboxes.user_sandbox import UserSandbox, python_of_everybody

        if os.geteuid() != 0:
            raise SandboxError("these tests run as an ordinary user already")
        if not python_of_everybody():
            raise SandboxError("no Python that an ordinary user may start")
        return UserSandbox("local", **options)
    if back_end == "landlock":
        return rl_sandboxes.make("local", level="landlock", **options)
    if back_end == "remote":
        return ServedSandbox("local", **options)
    return rl_sandboxes.make(back_end, **options)


class ServedSandbox:
    """A remote sandbox together with the server that it uses."""

    def __init__(self, back_end, **options):
        environment = {**os.environ, "AGENT_RL_SANDBOX_TOKEN": "test-token"}
        words = ["serve-sandbox", "--port=0", "--json", f"--backend={back_end}"]
        words += [f"--{name}={value}" for name, value in options.items()]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in _end
        self.server = subprocess.Popen(
            [sys.executable, "-m", "agent_rl.cli", *words],
            stderr=self.log,
            env={**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self.owner = self.server.pid
        try:
            url = self._url()
            self.client = rl_sandboxes.make("remote", url=url, token="test-token")
        except BaseException:
            self._end()
            raise

    def __getattr__(self, name):
        return getattr(self.client, name)

    def close(self):
        self.client.close()
        self._end()

    def _url(self):
        """What the server says when it is ready."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.server.poll() is None:
            self.log.seek(0)
            if (line := self.log.readline()).startswith("{") and line.endswith("\n"):
                return json.loads(line)["url"]
            time.sleep(0.02)
        self.log.seek(0)
        raise SandboxError(f"the server does not start: {self.log.read()[-500:]}")

    def _end(self):
        self.server.terminate()
        self.server.wait(timeout=30)
        self.log.close()


@pytest.fixture(scope="session")
def guarantees(sandbox):
    return sandbox.guarantees()


def pytest_report_header():
    return f"bwrap: {shutil.which('bwrap') or 'none'}, docker: {shutil.which('docker') or 'none'}"


def pytest_collection_modifyitems(config, items):
    """What a remote server's own back end is asked already, it is asked again in part only."""
    few, seen = [], set()
    for item in items:
        asked = getattr(getattr(item, "callspec", None), "params", {})
        if asked.get("back_end") == "remote" and "row" in asked:
            row = asked["row"]
            key = (item.originalname, row["category"])
            if key in seen and not row["id"].startswith("s-"):  # the sample's are all played
                few.append(item)
            seen.add(key)
    left_out = set(map(id, few))
    config.hook.pytest_deselected(items=few)
    items[:] = [item for item in items if id(item) not in left_out]
