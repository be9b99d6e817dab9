"""OpenEnv's own client with our server, and our client with OpenEnv's own server.

OpenEnv is no dependency: this is skipped where it is not installed (`pip install openenv==0.10.0`).
"""

import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import rl_envs
from rl_envs.tools import ToolFailure

openenv = pytest.importorskip("openenv", reason="openenv is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

SERVER = Path(__file__).with_name("openenv_servers.py")


def started(command, url):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{url}/health", timeout=1).close()
            return process
        except OSError:
            time.sleep(0.2)
    process.kill()
    raise AssertionError(f"{command} does not answer")


@pytest.fixture
def server():
    running = []

    def start(kind, port):
        url = f"http://127.0.0.1:{port}"
        ours = ["-m", "agent_rl.cli", "serve-env", "text/Arithmetic-v0", "--port", str(port)]
        words = ours if kind == "ours" else [str(SERVER), kind, str(port)]
        running.append(started([sys.executable, *words], url))
        return url

    yield start
    for process in running:
        process.kill()
        process.wait(20)


def test_openenvs_client_plays_our_environment(server):
    from openenv.core.generic_client import GenericEnvClient

    url = server("ours", 18_791)
    with GenericEnvClient(base_url=url).sync() as client:
        first = client.reset(seed=1)
        value = sum(map(int, re.findall(r"\d+", first.observation["text"])))
        last = client.step({"text": f"\\boxed{{{value}}}"})
        assert (last.reward, last.done, last.metadata["truncated"]) == (1.0, True, False)
        assert client.state()["step_count"] == 1


def test_our_client_plays_openenvs_environment(server):
    url = server("game", 18_792)
    env = rl_envs.make("text/OpenEnv-v0", url=url, timeout_s=1.0)
    seen, info = env.reset(seed=0)
    secret = int(info["task_id"]) % 8
    assert seen[0]["content"] == "Guess 0 to 7."
    assert "holds no number" in env.step("none")[0][0]["content"]
    assert env.step(f"{secret + 1}")[0][0]["content"] == "lower"
    assert env.step(f"I say {secret}")[1:4] == (1.0, True, False)
    env.reset(seed=0)
    with pytest.raises(ToolFailure, match="no answer within 1 s"):
        env.step("99")  # sleeps there
    env.reset(seed=1)
    with pytest.raises(ToolFailure, match="broken"):
        env.step("77")
    env.close()


def test_the_policy_calls_openenvs_tools(server):
    url = server("tools", 18_793)
    env = rl_envs.make("text/OpenEnvTools-v0", url=url)
    env.reset(seed=0)
    assert list(env.tools) == ["add", "fail"]
    assert env.step(env.call_text("add", a=2, b=3))[0][0]["content"] == "5"
    assert "no luck" in env.step(env.call_text("fail"))[0][0]["content"]
    assert env.counts["errors"] == 1
    env.close()
