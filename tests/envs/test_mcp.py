import asyncio
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from rl_envs.tasks import DataError
from rl_envs.tools import ToolEnv, ToolError, ToolFailure, mcp_connection
from rl_envs.tools import mcp as mcp_tools
from rl_envs.tools.execution import ToolTimeout
from rl_envs.tools.mcp import tools_of
from rl_envs.tools.mcp_connection import LOOP
from rl_envs.types import Task

pytest.importorskip("mcp")

SERVER = str(Path(__file__).with_name("mcp_server.py"))


def spec(*args, **options):
    return {"command": sys.executable, "args": [SERVER, *args], **options}


def python(statement):
    return {"command": sys.executable, "args": ["-c", f"import sys; {statement}"]}


class Clerk(ToolEnv):
    """Do as you are told."""

    tasks = ({"prompt": "Add 1 and 2.", "answer": "3"},)
    verifier = "exact"


def named(given):
    return {tool.name: tool for tool in tools_of(given, "test")}


def call(tools, name, **arguments):
    return tools[name].function(**arguments)


def together(*calls):
    async def gathered():
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(gathered())


def within_ten_seconds(holds):
    for _ in range(1000):
        if holds():
            return True
        time.sleep(0.01)
    return False


def is_gone(pid):
    """Whether a process has ended, within ten seconds."""

    def ended():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    return within_ten_seconds(ended)


def running():
    """The tasks of all connections."""
    return set(asyncio.all_tasks(LOOP.loop))


@pytest.fixture(scope="module")
def tools():
    """The tools of a server that this module shares."""
    found = named(spec())
    yield found
    found["add"].server.disconnect()


def test_an_environment_plays_with_the_tools_of_a_server(tools):
    env = Clerk(tools=[{"mcp": spec()}])
    observation, _ = env.reset(options={"index": 0})
    assert "Adds two whole numbers." in observation[0]["content"]
    assert list(named(spec(tools=["process", "add"]))) == ["process", "add"]
    observation, *_ = env.step(env.call_text("add", a=1, b=2))
    assert observation[0]["content"] == "3"
    observation, *_, info = env.step(env.call_text("add", a=1))
    assert observation[0]["content"].startswith("Error: Error executing tool add")
    assert (info["tools"]["calls"], info["tools"]["errors"]) == (2, 1)
    assert env.step("3")[1:3] == (1.0, True)
    assert env.tools["add"].server is env.clone().tools["add"].server
    assert pickle.loads(pickle.dumps(env.tools["add"].server)) is tools["add"].server


def test_one_connection_serves_every_loop_and_five_hundred_calls_at_once(tools):
    pids = {*together(*(call(tools, "process") for _ in range(20)))}
    pids |= {*together(call(tools, "process"))}
    assert len(pids) == 1
    sums = together(*(call(tools, "add", a=n, b=1) for n in range(512)))
    assert sums == [str(n + 1) for n in range(512)]


def test_a_task_is_played_by_many_clones_at_once(tools):
    env = Clerk(tools=[{"mcp": spec()}])

    async def play(clone, n):
        await clone.areset(options={"task": Task(str(n), "Add.", str(n + 1))})
        observation, *_ = await clone.astep(clone.call_text("add", a=n, b=1))
        return (await clone.astep(observation[0]["content"]))[1]

    async def play_all():
        return await asyncio.gather(*(play(env.clone(), n) for n in range(50)))

    assert asyncio.run(play_all()) == [1.0] * 50


def test_what_a_tool_answers_is_text_and_its_errors_too(tools):
    answers = together(
        call(tools, "picture"),
        call(tools, "fail", text="no such shelf"),
        call(tools, "shout", text="\ud800"),
        call(tools, "add", a=float("inf"), b=1),
        call(tools, "shout", text="300000"),
        call(tools, "refuse", text="not that shelf"),
    )
    assert answers[0] == "look\n[image, 12 kB]"
    assert isinstance(answers[1], ToolError)
    assert "no such shelf" in str(answers[1])
    assert [str(each) for each in answers[2:4]] == ["the arguments cannot be written as JSON"] * 2
    assert len(answers[4]) == 300_000
    assert isinstance(answers[5], ToolError)  # and no connection was lost
    assert str(answers[5]) == "not that shelf"


def test_a_call_that_takes_too_long_leaves_the_others_their_own_replies():
    tools = named(spec(timeout_s=0.5))
    server = tools["wait_for"].server
    words = [f"w{n}" for n in range(10)]
    found = together(
        *(call(tools, "wait_for", seconds=30, word="late") for _ in words),
        *(call(tools, "wait_for", seconds=0.01, word=word) for word in words),
    )
    assert {type(each) for each in found[:10]} == {ToolTimeout}
    assert found[10:] == words
    assert together(*(call(tools, "shout", text=word) for word in words)) == [
        word.upper() for word in words
    ]
    server.disconnect()


@pytest.mark.parametrize("per_episode", [False, True])
def test_a_server_that_hangs_is_our_failure_and_is_replaced(monkeypatch, per_episode):
    monkeypatch.setattr(mcp_connection, "PING_S", 0.5)
    for limit in ("PROCESS_TERMINATION_TIMEOUT", "FORCE_KILL_TIMEOUT"):
        monkeypatch.setattr(f"mcp.client.stdio.{limit}", 0.1)
    tools = named(spec(timeout_s=0.5, per_episode=per_episode))
    (pid,) = together(call(tools, "process"))
    os.kill(int(pid), signal.SIGSTOP)
    found = together(*(call(tools, "shout", text="a") for _ in range(3)))
    assert {type(each) for each in found} == {ToolFailure}
    assert "nor to a ping" in "".join(map(str, found))
    assert is_gone(int(pid))
    tools["shout"].server.begin()  # the next episode
    assert together(call(tools, "shout", text="b")) == ["B"]
    tools["shout"].server.disconnect()


def test_the_call_that_ends_the_server_fails_alone_and_a_killed_one_is_started_again():
    before = running()
    tools = named(spec(start_timeout_s=60))
    found = together(call(tools, "die"), *(call(tools, "add", a=n, b=0) for n in range(20)))
    assert isinstance(found[0], ToolFailure)
    assert "lost" in str(found[0])
    assert found[1:] == [str(n) for n in range(20)]
    (pid,) = together(call(tools, "process"))
    os.kill(int(pid), signal.SIGKILL)
    (other,) = together(call(tools, "process"))
    assert int(other) != int(pid)
    tools["die"].server.disconnect()
    assert is_gone(int(other))
    assert within_ten_seconds(lambda: not running() - before)


def test_each_episode_has_its_own_server_where_that_is_asked_for():
    given = spec(per_episode=True)
    first, second = named(given), named(given)
    assert together(call(first, "bump"), call(second, "bump", by=5)) == ["1", "5"]
    (pid,) = together(call(first, "process"))
    with pytest.raises(DataError, match="cannot be copied"):
        pickle.dumps(first["bump"].server)

    first["bump"].server.begin()
    assert together(call(first, "bump")) == ["1"]
    assert together(call(second, "bump")) == ["6"]
    assert is_gone(int(pid))
    (pid,) = together(call(second, "process"))
    os.kill(int(pid), signal.SIGKILL)
    assert is_gone(int(pid))
    for _ in range(2):  # its state is lost, so nothing is started in its place
        (failure,) = together(call(second, "bump"))
        assert isinstance(failure, ToolFailure)
    (pid,) = together(call(first, "process"))
    first["bump"].server.close()
    assert is_gone(int(pid))


def started(kind, port):
    """A server over HTTP in a process of its own, ready."""
    child = subprocess.Popen([sys.executable, SERVER, kind, str(port)])
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return child
        except OSError:
            assert child.poll() is None
            time.sleep(0.05)
    raise AssertionError("the server does not listen")


def stopped(child):
    child.kill()
    child.wait()


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def test_a_server_over_http_that_dies_is_our_failure_until_it_is_back(monkeypatch):
    monkeypatch.setattr(mcp_tools, "PAUSE_S", 0.0)
    port = free_port()
    child = started("http", port)
    try:
        tools = named({"url": f"http://127.0.0.1:{port}/mcp", "headers": {"X-Who": "me"}})
        assert together(*(call(tools, "add", a=n, b=1) for n in range(100))) == [
            str(n + 1) for n in range(100)
        ]
        stopped(child)
        (failure,) = together(call(tools, "add", a=1, b=1))
        assert isinstance(failure, ToolFailure)
        child = started("http", port)
        assert together(call(tools, "bump")) == ["1"]
        tools["bump"].server.disconnect()
    finally:
        stopped(child)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"command": "no-such-program"}, "MCP server no-such-program: FileNotFoundError"),
        (python("sys.exit('no licence file found')"), "it printed: no licence file found"),
        ({**python("sys.stdin.read()"), "start_timeout_s": 0.3}, "no answer within 0.3 s"),
        ({"url": "http://127.0.0.1:9/mcp"}, "ConnectError"),
        (spec(tools=["subtract"]), "has no tool 'subtract'; it has add, bump"),
        ({}, "either a command or a url"),
        ({"command": "x", "url": "y"}, "either a command or a url"),
        ({"command": "x", "arguments": []}, "no option 'arguments'; there are command, args"),
        ({"command": "x", "args": "y"}, "args is 'y', no list of texts"),
        ({"command": "x", "timeout_s": 0}, "timeout_s is 0; it must be above 0"),
        ({"command": "x", "env": {"A": 1}}, "no mapping of texts"),
        ({"url": "x", "transport": "pigeon"}, "not http or sse"),
        ("http://x", "must be a mapping"),
    ],
)
def test_a_server_that_cannot_be_used_is_said_in_one_line(given, message):
    with pytest.raises(DataError) as refused:
        tools_of(given, "Clerk")
    assert message in str(refused.value)
    assert str(refused.value).startswith("Clerk: ")
    assert "\n" not in str(refused.value)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(DataError, match=r"agent-rl\[mcp\]"):
        tools_of(spec(), "Clerk")


@pytest.mark.parametrize(
    ("name", "schema", "message"),
    [
        ("trap", {"type": "array"}, "not that of an object"),
        ("trap", [1], "not that of an object"),
        ("trap", {"type": "object", "$ref": "#"}, "without (end|bound)"),
        ("trap", {"type": "object", "$ref": "http://example.org/x"}, "reference"),
        ("trap", {"type": "object", "properties": {f"p{n}": {} for n in range(20_000)}}, "over"),
        ("trap", {"type": "object", "properties": {"x": {"type": 7}}}, "bad schema"),
        ("a trap", {"type": "object"}, "a name that calls cannot hold"),
    ],
)
def test_a_tool_that_cannot_be_offered_is_named(name, schema, message):
    tool = SimpleNamespace(name=name, input_schema=schema, description="", title=None)
    with pytest.raises(DataError, match=f"tool '{name}'.*{message}"):
        mcp_tools._checked(tool, mcp_tools.server_spec({"command": "x"}, "Clerk"), "Clerk")


SCRIPT = """
import asyncio, sys
import rl_envs, rl_envs.tools
assert "mcp" not in sys.modules
from rl_envs.tools.mcp import tools_of
given = {"command": sys.executable, "args": [sys.argv[1]], "tools": ["process"]}
print(asyncio.run(tools_of(given, "x")[0].function()))
"""


def test_importing_does_not_load_the_client_and_no_server_outlives_the_process():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, SERVER],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert is_gone(int(done.stdout))
