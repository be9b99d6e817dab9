"""``agent-rl serve-env``: a real process on a loopback address."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rl_envs
from agent_rl.cli import main
from rl_envs.bridges.openenv_link import Link, OpenEnvRefusal
from rl_envs.tools import ToolFailure

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def start():
    running = []

    def call(*words, token=None):
        path = os.pathsep.join(str(ROOT / name) for name in (".", "envs", "verifiers", "sandboxes"))
        env = {**os.environ, "PYTHONPATH": path}
        env.pop("AGENT_RL_ENV_TOKEN", None)
        if token:
            env["AGENT_RL_ENV_TOKEN"] = token
        command = [sys.executable, "-W", "error", "-m", "agent_rl.cli", "serve-env", *words]
        command += ["--port", "0", "--json"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
        running.append(process)
        line = process.stderr.readline()
        assert line.startswith("{"), line + process.stderr.read()
        return process, json.loads(line)["url"]

    yield call
    for process in running:
        process.kill()
        process.wait(20)
        process.stderr.close()


def test_an_environment_with_options_and_a_token_and_a_drained_end(start):
    process, url = start("text/Countdown-v0", "--difficulty", "1", token="secret")
    known = {"Authorization": "Bearer secret"}
    env = rl_envs.make("text/OpenEnv-v0", url=url, headers=known)
    near = rl_envs.make("text/Countdown-v0", difficulty=1)
    seen, info = env.reset(seed=0)
    assert seen == near.reset(seed=int(info["task_id"]))[0]
    process.send_signal(signal.SIGTERM)  # the session that is there goes on

    async def another():
        link = Link(url, 0.5, known)
        try:
            await link.begin({"type": "reset", "data": {}}, 5.0)
        finally:
            link.drop()

    with pytest.raises((ToolFailure, OpenEnvRefusal)):
        asyncio.run(another())
    assert env.step(near.expert(np.random.default_rng(0)))[1] == 1.0
    env.close()
    assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["text/Nowhere-v0"], "no environment 'text/Nowhere-v0'"),
        (["text/Countdown-v0", "--hard", "1"], "no option 'hard'"),
        (["text/Countdown-v0", "--port", "70000"], "--port is 70000"),
        (["text/Countdown-v0", "--timeout-s", "0"], "--timeout-s is 0"),
        (["text/Countdown-v0", "--host", "0.0.0.0"], "AGENT_RL_ENV_TOKEN"),
    ],
)
def test_what_cannot_be_is_one_line(words, message, monkeypatch, capsys):
    monkeypatch.delenv("AGENT_RL_ENV_TOKEN", raising=False)
    with pytest.raises(SystemExit) as left:
        sys.exit(main(["serve-env", *words]))
    assert left.value.code not in (0, None)
    told = capsys.readouterr().err + str(left.value.code)
    assert message in told
    assert "Traceback" not in told
