"""Environments of Prime's verifiers in a child process.

What needs verifiers runs where ``AGENT_RL_PRIME_PYTHON`` names the interpreter of a virtual
environment that has it (0.1.14, or 0.4), and is skipped elsewhere.
"""

import asyncio
import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

import rl_envs
from rl_envs import DataError
from rl_envs.bridges import prime_parent
from rl_envs.bridges.prime import end_children
from rl_envs.bridges.prime_parent import Child
from rl_envs.tools import ToolFailure

ID = "text/Prime-v0"
PYTHON = os.environ.get("AGENT_RL_PRIME_PYTHON", "")
HERE = str(Path(__file__).parent / "prime_environments")
needs_verifiers = pytest.mark.skipif(not PYTHON, reason="AGENT_RL_PRIME_PYTHON names no verifiers")


@pytest.fixture(autouse=True, scope="module")
def _no_child_stays():
    yield
    end_children()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs `env`"),
        ({"env": "x", "python": "/nowhere/python"}, "python is '/nowhere/python'"),
        ({"env": "x", "python": sys.executable}, "no verifiers in .*pip install verifiers"),
    ],
)
def test_what_is_missing_is_said(options, message):
    with pytest.raises(DataError, match=message):
        rl_envs.make(ID, **options).reset(seed=0)


def test_a_child_that_ends_or_hangs_is_our_failure_and_leaves_nothing():
    child = Child(sys.executable)
    pid = child._process.pid
    with pytest.raises(ToolFailure, match="no_such"):
        asyncio.run(child.ask(20, "no_such"))
    os.kill(pid, 9)
    with pytest.raises(ToolFailure, match="the child process ended"):
        asyncio.run(child.ask(20, "drop", session=0))
    assert not child.is_alive
    child.end()
    hung = Child(sys.executable)
    os.kill(hung._process.pid, 19)  # stopped: it answers nothing
    with pytest.raises(ToolFailure, match=r"took over 0\.2 s"):
        asyncio.run(hung.ask(0.2, "drop", session=0))
    assert not hung.is_alive
    assert not Path(f"/proc/{hung._process.pid}").exists()


def test_what_a_child_writes_without_end_takes_no_memory(monkeypatch, tmp_path):
    talks = tmp_path / "talks.py"
    talks.write_text(
        "import sys\n"
        "for n in range(400): sys.stderr.write(f'\\r{n} ' + '#' * 10_000)\n"
        "sys.stderr.write('\\rall done'); sys.stderr.flush()\n"
        "sys.stdin.read()\n"
    )
    monkeypatch.setattr(prime_parent, "CHILD", talks)
    child = Child(sys.executable)
    most, deadline = 0, time.monotonic() + 30
    while child.last_words() != "all done" and time.monotonic() < deadline:
        most = max(most, len(child._unended))
    words = child.last_words()
    child.end()
    assert words == "all done"
    assert most <= 1 << 16


def test_the_last_words_of_a_child_are_its_last_lines(monkeypatch, tmp_path):
    talks = tmp_path / "talks.py"
    talks.write_text(
        "import sys\n"
        "sys.stderr.write('first\\n\\n 10%\\r 20%\\r\\nlast: ' + 'x' * 999 + '\\nno end')"
    )
    monkeypatch.setattr(prime_parent, "CHILD", talks)
    child = Child(sys.executable)
    deadline = time.monotonic() + 30
    while not child.last_words().endswith("no end") and time.monotonic() < deadline:
        time.sleep(0.01)
    words = child.last_words()
    child.end()
    assert words == "first | 20% | last: " + "x" * 294 + " | no end"


def test_a_child_ends_with_its_parent():
    code = (
        "import sys, time; from rl_envs.bridges.prime_parent import Child;"
        "c = Child(sys.executable); print(c._process.pid, flush=True); import os; os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    pid, deadline = done.stdout.strip(), time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def made(name="sums_classic", **options):
    if name.endswith("v1") != has_tasksets():
        pytest.skip("for another version of verifiers")
    return rl_envs.make(ID, env=name, python=PYTHON, path=[HERE], timeout_s=10, **options)


@cache
def has_tasksets():
    code = "import importlib.metadata as m; print(m.version('verifiers'))"
    told = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    return tuple(map(int, told.stdout.split(".")[:2])) >= (0, 4)


def sum_of(seen):
    return 2 * int(seen[-1]["content"].split("+")[0])


@needs_verifiers
@pytest.mark.parametrize("name", ["sums_classic", "sums_v1"])
def test_one_turn(name):
    env = made(name)
    seen, _ = env.reset(seed=0)
    assert seen[0] == {"role": "system", "content": "Answer with the number."}
    told = env.step(str(sum_of(seen)))
    assert (told[1:4], told[4]["score"].passed) == ((1.0, True, False), True)
    env.reset(seed=0)
    assert env.step("\ud800")[1] == 0.0


@needs_verifiers
def test_splits_share_nothing():
    train, test = (made(split=split).tasks for split in ("train", "test"))
    ids = [{tasks[i].id for i in range(tasks.size)} for tasks in (train, test)]
    assert len(ids[0]) + len(ids[1]) == 20
    assert not ids[0] & ids[1]


@needs_verifiers
def test_tools_run_there():
    env = made(env_options={"kind": "tool"})
    seen, _ = env.reset(seed=0)
    assert '"add"' in seen[0]["content"]
    half = sum_of(seen) // 2
    call = (
        f'<tool_call>\n{{"name": "add", "arguments": {{"a": {half}, "b": {half}}}}}\n</tool_call>'
    )
    told = env.step(call)
    assert (told[0][0]["role"], told[0][0]["content"]) == ("tool", str(2 * half))
    assert "Error" in env.step("<tool_call>{</tool_call>")[0][0]["content"]
    last = env.step(str(2 * half))
    assert (last[1:4], last[4]["metrics"]["add_calls"]) == ((1.0, True, False), 1.0)


@needs_verifiers
def test_many_turns_their_limit_and_a_child_that_dies():
    env = made(env_options={"kind": "multi"})
    env.reset(seed=0)
    assert env.step("x")[0][0]["content"] == "again"
    assert env.step("y")[2:4] == (False, True)
    env.reset(seed=0)
    with pytest.raises(ToolFailure, match="the child process ended"):
        env.step("die")
    env.reset(seed=0)
    assert env.step("x")[0][0]["content"] == "again"


@needs_verifiers
def test_a_reward_function_that_raises_is_no_reward():
    env = made(env_options={"broken": True})
    env.reset(seed=0)
    with pytest.raises(ToolFailure, match="reward function right raised ValueError"):
        env.step("1")


@needs_verifiers
def test_many_episodes_share_a_child():
    async def one(env, index):
        seen, _ = await env.areset(options={"index": index})
        told = await env.astep(str(sum_of(seen)))
        env.close()
        return told[1]

    async def many(env):
        return await asyncio.gather(*(one(env.clone(), index % 10) for index in range(40)))

    assert asyncio.run(many(made())) == [1.0] * 40


@needs_verifiers
def test_an_environment_that_does_not_load_is_named():
    with pytest.raises(DataError, match="cannot load 'nowhere'"):
        rl_envs.make(ID, env="nowhere", python=PYTHON).reset(seed=0)
