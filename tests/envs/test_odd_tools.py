"""Tools that misbehave, and policies that ask for too much: what is told, counted and paid."""

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass

import pytest

from rl_envs.tools import Tool, ToolError, ToolFailure, execution, tool
from rl_envs.tools.results import as_text
from rl_sandboxes import SandboxError
from tests.envs.test_tools import Drawer, begun, call


class Panic(BaseException):
    """As extensions in Rust raise it."""


class Mute(Exception):
    def __str__(self):
        raise ValueError


@pytest.mark.parametrize("way", ["thread", "inline", "async"])
@pytest.mark.parametrize(
    "error",
    [Panic("!"), Mute(), asyncio.CancelledError("!"), BaseExceptionGroup("!", [Panic()])],
)
def test_whatever_a_tool_raises_ends_neither_episode_nor_loop(way, error):
    def odd() -> str:
        """Raise something odd."""
        raise error

    async def odd_later() -> str:
        """Raise something odd."""
        raise error

    made = Tool.of(odd_later if way == "async" else odd, name="odd", inline=way == "inline")
    seen, *_, info = call(begun(tools=[made]), "odd")
    assert type(error).__name__ in seen[0]["content"]
    assert info["tools"]["errors"] == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit()])
def test_a_thread_cannot_interrupt_the_run(error):
    def odd() -> str:
        """Raise something odd."""
        raise error

    assert type(error).__name__ in call(begun(tools=[odd]), "odd")[0][0]["content"]


@pytest.mark.parametrize("ours", [ToolFailure("it burnt"), SandboxError("it burnt")])
def test_our_failure_stays_ours_inside_a_group_of_errors(ours):
    async def grouped() -> str:
        """Fail inside a task group."""
        raise ExceptionGroup("tasks", [ValueError("x"), ExceptionGroup("more", [ours])])

    with pytest.raises(ToolFailure, match="tool grouped: it burnt"):
        call(begun(tools=[grouped]), "grouped")


def asked_and_counted(action, **options):
    env = begun(**options)
    seen, reward, *_, info = env.step(action(env))
    counts = info["tools"]
    asked = sum(counts[kind] for kind in ("calls", "malformed", "unknown", "over_budget"))
    return asked, len(seen), reward


def test_all_that_is_asked_for_is_counted_also_behind_the_end_of_the_episode():
    broken = "<tool_call>{</tool_call>"

    def mixed(env):
        end = env.call_text("answer", text="a spoon")
        return env.call_text("open") + broken + end + env.call_text("open") + env.call_text("shut")

    assert asked_and_counted(mixed) == (5, 0, 1.0)
    assert asked_and_counted(lambda env: env.call_text("open") * 3, max_calls=1)[:2] == (3, 3)


@pytest.mark.parametrize("count", [1, 32, 33, 64, 65, 1000])
def test_more_broken_calls_never_cost_less(count):
    asked, seen, reward = asked_and_counted(
        lambda env: "<tool_call>{</tool_call>" * count, malformed_penalty=0.1
    )
    assert asked >= min(count, 65)
    assert reward == pytest.approx(-0.1 * asked)
    assert seen == min(count, 64)


def test_a_call_that_was_left_behind_pays_nothing():
    go, done = threading.Event(), threading.Event()

    class Late(Drawer):
        @tool(timeout_s=0.05)
        def earn(self) -> str:
            """Earn something, some time."""
            go.wait()
            self.pay(1.0)
            done.set()
            return ""

        @tool
        def let_go(self) -> str:
            """Let the other one go on."""
            go.set()
            done.wait()
            self.pay(0.25)
            return ""

    env = Late()
    env.reset(seed=0)
    assert call(env, "earn")[1] == 0.0
    env.reset(seed=0)
    assert call(env, "let_go")[1] == 0.25


def test_the_policys_own_words_are_no_name_of_a_result():
    text = '<tool_call>{"name": "' + "<|im_end|>" * 1000 + '", "arguments": {}}</tool_call>'
    (message,) = begun().step(text)[0]
    assert set(message) == {"role", "content"}
    assert len(message["content"]) < 600


def test_a_text_is_read_where_the_template_tells_the_tools():
    env = begun(call_format="template")
    assert call(env, "open")[0][0]["content"] == "open 1"
    assert env.step({"role": "assistant", "content": "a spoon"})[1:3] == (1.0, True)


@dataclass
class Record:
    inside: set[str]


class Opaque:
    """Its text would be its address."""


def test_results_are_written_alike_in_every_process():
    assert as_text([Record({"b", "c", "a"})]) == '[{"inside": ["a", "b", "c"]}]'
    assert as_text({"b", "a"}) == '["a", "b"]'
    with pytest.raises(ToolError, match="a Opaque has no form there"):
        as_text({"it": Opaque()})


@pytest.fixture
def threads(monkeypatch):
    """Four threads, none of which is there yet."""
    monkeypatch.setattr(execution, "MAX_THREADS", 4)
    for name, value in (("_started", 0), ("_hanging", 0), ("_idle", [])):
        monkeypatch.setattr(execution, name, value)


def outcomes(tools, *names):
    async def one(name):
        env = Drawer(tools=tools)
        await env.areset(seed=0)
        try:
            return (await env.astep(env.call_text(name)))[0][0]["content"]
        except ToolFailure:
            return "ours"

    async def all_of_them():
        return await asyncio.gather(*map(one, names))

    return Counter(asyncio.run(all_of_them()))


def test_more_calls_than_threads_wait_their_turn_and_hanging_ones_come_back(threads):
    go, back = threading.Event(), threading.Barrier(5, timeout=30)

    def rest() -> str:
        """Wait a little."""
        return "rested"

    def stall() -> str:
        """Hang until let go."""
        go.wait()
        back.wait()
        return ""

    stall = Tool.of(stall, timeout_s=0.05)
    assert outcomes([rest], *["rest"] * 50) == {"rested": 50}
    late = "Error: no answer within 0.05 s"
    found = outcomes([rest, stall], *["stall"] * 3, *["rest"] * 20)
    assert found == {late: 3, "rested": 20}
    found = outcomes([rest, stall], *["stall"] * 3)  # two wait, until all hang
    assert found == {late: 1, "ours": 2}
    assert outcomes([rest], "rest") == {"ours": 1}
    go.set()
    back.wait()
    while execution._hanging:
        threading.Event().wait(0.001)
    assert outcomes([rest], *["rest"] * 50) == {"rested": 50}


def test_a_system_without_threads_is_our_failure(threads, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    env = begun()
    with monkeypatch.context() as patched:
        patched.setattr(execution._Thread, "__init__", refuse)
        with pytest.raises(ToolFailure, match="can't start new thread"):
            call(env, "open")
    assert execution._started == 0
    assert call(env, "open")[0][0]["content"] == "open 1"
