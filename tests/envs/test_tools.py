"""Tools: what is made of a function, and what comes of every kind of call."""

import asyncio
import functools
import json
import threading
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from rl_envs import DataError, Reply, Task
from rl_envs.tools import Finish, Tool, ToolEnv, ToolError, ToolFailure, cut, tool
from rl_envs.tools.formats import MAX_CALLS

TASKS = [Task("1", "What is in the drawer?", answer="a spoon")]
never = threading.Event()


class Drawer(ToolEnv):
    """A drawer that is opened and looked into."""

    tasks = TASKS
    verifier = "exact"
    max_turns = 4

    def begin(self, task):
        self.opened = 0

    @tool
    def open(self, times: int = 1) -> str:
        """Open the drawer.

        Args:
            times: How often.
        """
        self.opened += times
        return f"open {self.opened}"

    @tool(inline=True)
    def answer(self, text: str) -> Finish:
        """Say what is in it."""
        return Finish(text)

    @tool
    def fail(self, how: str) -> str:
        """Fail in some way."""
        if how == "exit":
            raise SystemExit(3)
        if how == "stop":
            raise StopIteration
        if how == "deep":
            return self.fail(how)
        if how == "ours":
            raise ToolFailure("the drawer burnt down")
        raise {"value": ValueError, "tool": ToolError, "time": TimeoutError}[how]("no such drawer")

    @tool(timeout_s=0.05)
    def hang(self) -> str:
        """Never come back."""
        never.wait()
        return ""

    @tool(timeout_s=0.05)
    async def sleep(self) -> str:
        """Never come back either."""
        await asyncio.Event().wait()
        return ""

    @tool(inline=True)
    def shout(self, length: int) -> str:
        """Say much."""
        return "a" * length + "z"

    @tool(inline=True)
    def look(self) -> dict[str, Any]:
        """Look at everything."""
        self.pay(0.25)
        return {"inside": ["a spoon"], "é": None}


def begun(**options):
    env = Drawer(**options)
    env.reset(seed=0, options={"index": 0})
    return env


def call(env, name, **arguments):
    return env.step(env.call_text(name, **arguments))


def test_a_schema_is_made_of_types_and_docstring():
    def book(
        nights: int, room: Literal["single", "double"], notes: Annotated[str, "free"] = ""
    ) -> str:
        """Book a room.

        It costs nothing.

        Args:
            nights: How long.
            room: Which kind.
        """
        return ""

    made = Tool.of(book)
    assert made.definition == {
        "type": "function",
        "function": {
            "name": "book",
            "description": "Book a room.\n\nIt costs nothing.",
            "parameters": {
                "type": "object",
                "additionalProperties": False,
                "required": ["nights", "room"],
                "properties": {
                    "nights": {"type": "integer", "description": "How long."},
                    "room": {
                        "type": "string",
                        "enum": ["single", "double"],
                        "description": "Which kind.",
                    },
                    "notes": {"type": "string", "default": ""},
                },
            },
        },
    }
    assert made.check({"nights": "3", "room": "double"}) == {"nights": 3, "room": "double"}


def test_parameters_may_be_called_as_what_a_model_has():
    def odd(schema: str, copy: int, model_config: bool, json: str = "x") -> str:
        """Odd names."""
        return f"{schema}{copy}{model_config}{json}"

    made = Tool.of(odd)
    given = {"schema": "s", "copy": 1, "model_config": True}
    assert list(made.schema["properties"]) == ["schema", "copy", "model_config", "json"]
    assert made.function(**made.check(given)) == "s1Truex"


def no_types(a) -> str:
    """Without types."""


def no_docstring(a: int) -> str:
    return ""


def many(*values: int) -> str:
    """Any number of values."""


def no_schema(a: threading.Thread) -> str:
    """A type that JSON has not."""


def another(a: int) -> str:
    """Describes what it has not.

    Args:
        b: Not there.
    """


def yields(a: int) -> str:
    """Not at once."""
    yield a


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (no_types, "tool no_types: parameter 'a' has no type; write, for example, a: str"),
        (no_docstring, "tool no_docstring: it has no docstring"),
        (many, r"tool many: \*values: int cannot be called by keyword"),
        (no_schema, "tool no_schema: no JSON schema can be made of its types"),
        (another, "tool another: its docstring describes 'b', no such parameter"),
        (7, "tools: 7 is no function"),
        ([], "tools: .* is no function"),
        (Drawer, "tools: .*Drawer.* is no function"),
        (yields, "tool yields: it yields; a tool returns its result"),
    ],
)
def test_an_author_hears_what_is_wrong_with_a_tool(function, line):
    with pytest.raises(DataError, match=line):
        _ = Drawer(tools=[function]).tools


def test_two_tools_of_one_name_are_refused():
    def answer(text: str) -> str:
        """Another answer."""

    with pytest.raises(DataError, match="Drawer: two tools are called 'answer'"):
        _ = Drawer(tools=[answer]).tools


def test_an_environment_without_tools_says_what_to_do():
    class Empty(ToolEnv):
        """Has none."""

        tasks = TASKS

    with pytest.raises(DataError, match="Empty has no tools: mark methods with @tool"):
        Empty().reset(seed=0)


@pytest.mark.parametrize(
    "options",
    [
        {"call_format": "hermez"},
        {"results": "robot"},
        {"tool_timeout_s": 0.0},
        {"max_calls": 0},
        {"malformed_penalty": -1.0},
        {"malformed_penalty": float("nan")},
        {"tool_timeout_s": "30"},
        {"max_calls": 1.5},
        {"max_output_chars": 0},
        {"tools": [{"mpc": {}}]},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(DataError):
        _ = Drawer(**options).tools


def test_state_belongs_to_the_episode():
    env = begun()
    assert call(env, "open", times=2)[0][0]["content"] == "open 2"
    assert call(env, "open")[0][0]["content"] == "open 3"
    twin = env.clone()
    twin.reset(seed=0)
    assert call(twin, "open")[0][0]["content"] == "open 1"
    env.reset(seed=0)
    assert call(env, "open")[0][0]["content"] == "open 1"


def test_an_action_without_calls_is_the_answer():
    _, reward, terminated, truncated, info = begun().step("a spoon")
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["score"].passed


def test_a_tool_can_end_the_episode_and_pay():
    env = begun()
    seen, reward, *_ = call(env, "look")
    assert json.loads(seen[0]["content"]) == {"inside": ["a spoon"], "é": None}
    assert reward == 0.25
    _, reward, terminated, _, info = call(env, "answer", text="a spoon")
    assert (reward, terminated, info["score"].status) == (1.0, True, "correct")
    assert info["tools"]["calls"] == 2


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "text"),
    [
        ("open", {"times": "many"}, "errors", "parameter 'times': Input should be a valid integer"),
        ("open", {"time": 1}, "errors", "there is no parameter 'time'; there are times"),
        ("answer", {}, "errors", "parameter 'text' is missing"),
        ("shut", {}, "unknown", "there is no tool 'shut'; there are open, answer, fail"),
        ("fail", {"how": "value"}, "errors", "ValueError: no such drawer"),
        ("fail", {"how": "tool"}, "errors", "Error: no such drawer"),
        ("fail", {"how": "time"}, "errors", "TimeoutError: no such drawer"),
        ("fail", {"how": "exit"}, "errors", "SystemExit: 3"),
        ("fail", {"how": "stop"}, "errors", "the tool raised StopIteration"),
        ("fail", {"how": "deep"}, "errors", "RecursionError"),
        ("hang", {}, "timeouts", "no answer within 0.05 s"),
        ("sleep", {}, "timeouts", "no answer within 0.05 s"),
    ],
)
def test_what_goes_wrong_is_told_and_counted(name, arguments, kind, text):
    env = begun()
    seen, reward, terminated, truncated, info = call(env, name, **arguments)
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert seen[0]["role"] == "tool"
    assert text in seen[0]["content"]
    expected = dict.fromkeys(env.counts, 0) | {kind: 1}
    assert info["tools"] == expected | {"calls": int(kind != "unknown")}
    assert env.step("a spoon")[1] == 1.0  # and the episode goes on


def test_our_own_failure_is_no_answer_to_the_policy():
    with pytest.raises(ToolFailure, match="tool fail: the drawer burnt down"):
        call(begun(), "fail", how="ours")


def test_a_malformed_call_is_answered_and_may_cost():
    env = begun(malformed_penalty=0.1)
    seen, reward, terminated, _, info = env.step('<tool_call>{"name": "open", </tool_call>')
    assert seen[0]["content"].startswith("Error: ")
    assert (reward, terminated, info["tools"]["malformed"]) == (-0.1, False, 1)


def test_a_failed_call_can_be_answered_in_one_word():
    assert call(begun(error_text="e"), "shut")[0][0]["content"] == "e"


def test_ten_megabytes_are_cut_head_and_tail():
    env = begun(max_output_chars=100)
    text = call(env, "shout", length=10_000_000)[0][0]["content"]
    assert text == "a" * 50 + "\n[... 9999901 characters left out ...]\n" + "a" * 49 + "z"
    assert len(env.results_of_turn[0].content) == 10_000_001


@pytest.mark.parametrize("length", [0, 1, 2, 3, 9, 10, 11])
def test_cut_keeps_the_limit(length):
    text = "abcdefghij"
    kept = "".join(part for part in cut(text, length).split("\n") if "left out" not in part)
    assert kept == (text if length >= 10 else text[: (length + 1) // 2] + text[10 - length // 2 :])


def test_a_budget_of_calls():
    env = begun(max_calls=1)
    call(env, "open")
    seen, *_, info = call(env, "open")
    assert seen[0]["content"] == "Error: no calls are left (at most 1); answer now"
    assert (env.opened, info["tools"]["calls"], info["tools"]["over_budget"]) == (1, 1, 1)


def as_message(env, times):
    made = {"type": "function", "function": {"name": "open", "arguments": {}}}
    return {"role": "assistant", "content": None, "tool_calls": [made] * times}


@pytest.mark.parametrize("said", [lambda env, n: env.call_text("open") * n, as_message])
def test_what_is_read_is_carried_out_and_of_more_nothing(said):
    env = begun()
    seen, *_, info = env.step(said(env, MAX_CALLS))
    assert (env.opened, len(seen), info["tools"]["calls"]) == (MAX_CALLS,) * 3
    assert info["tools"]["over_budget"] == 0
    for over in (MAX_CALLS + 1, 1000):
        seen, *_, info = env.step(said(env, over))
        assert f"over {MAX_CALLS} calls at once; none was carried out" in seen[0]["content"]
    assert (env.opened, info["tools"]["malformed"]) == (MAX_CALLS, 2)


@pytest.mark.parametrize("times", [float("nan"), float("inf"), "\ud800", {1: 2}, {"\udfff": 1}])
def test_arguments_that_are_no_json_reach_no_tool(times):
    env = begun()
    made = {"type": "function", "function": {"name": "open", "arguments": {"times": times}}}
    seen, *_, info = env.step({"role": "assistant", "content": None, "tool_calls": [made]})
    assert (info["tools"]["malformed"], info["tools"]["calls"]) == (1, 0)
    assert seen[0]["content"].startswith("Error: ")


def test_a_policy_that_never_stops_calling_is_cut_off_unpaid():
    env = begun()
    for _ in range(3):
        assert call(env, "open")[2:4] == (False, False)
    _, reward, terminated, truncated, info = call(env, "open")
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["score"].status == "over_limit"


def test_results_can_be_told_by_the_user_role():
    seen, *_ = call(begun(results="user"), "open")
    assert seen == ({"role": "user", "content": "open 1"},)


def test_calls_that_an_endpoint_read_are_carried_out():
    env = begun()
    made = {
        "id": "c7",
        "type": "function",
        "function": {"name": "open", "arguments": '{"times":4}'},
    }
    seen, *_ = env.step({"role": "assistant", "content": None, "tool_calls": [made]})
    assert seen == ({"role": "tool", "content": "open 4", "name": "open", "tool_call_id": "c7"},)


def test_the_template_gets_the_tools_where_it_tells_them():
    env = Drawer(call_format="template")
    seen, info = env.reset(seed=0)
    assert [message["role"] for message in seen] == ["user"]
    assert info["definitions"] == env.definitions
    assert "definitions" not in Drawer().reset(seed=0)[1]


def test_the_system_prompt_tells_the_tools():
    seen, _ = Drawer(system_prompt="Be brief.").reset(seed=0)
    assert seen[0]["content"].startswith("Be brief.\n\n")
    assert all(name in seen[0]["content"] for name in Drawer().tools)
    quiet, _ = Drawer(describe_tools=False).reset(seed=0)
    assert [message["role"] for message in quiet] == ["user"]


def test_blocking_tools_of_many_episodes_run_at_the_same_time():
    together = threading.Barrier(40, timeout=30)

    def meet() -> str:
        """Wait until all are here."""
        together.wait()
        return "met"

    async def one():
        env = Drawer(tools=[meet])
        await env.areset(seed=0)
        return (await env.astep(env.call_text("meet")))[0][0]["content"]

    async def all_of_them():
        return await asyncio.gather(*(one() for _ in range(40)))

    assert asyncio.run(all_of_them()) == ["met"] * 40


def test_a_cancelled_episode_cancels_its_tool():
    ended = []

    async def wait_for_ever() -> str:
        """Wait."""
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)
        return ""

    async def cancelled():
        env = Drawer(tools=[wait_for_ever])
        await env.areset(seed=0)
        step = asyncio.ensure_future(env.astep(env.call_text("wait_for_ever")))
        await asyncio.sleep(0.01)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step

    asyncio.run(cancelled())
    assert ended == [True]


def test_what_can_be_called_can_be_a_tool():
    @dataclass
    class Shelf:
        """Some books."""

        books: int

        def __call__(self, more: int) -> int:
            """Put books on it.

            Args:
                more: How many.
            """
            self.books += more
            return self.books

    def lend(books: int, days: int) -> str:
        """Lend books.

        Args:
            books: How many.
            days: How long.
        """
        return f"{books} for {days}"

    shelf = Shelf(1)
    env = begun(tools=[shelf, functools.partial(lend, 2)])
    assert env.tools["Shelf"].schema["properties"] == {
        "more": {"type": "integer", "description": "How many."}
    }
    assert list(env.tools["lend"].schema["properties"]) == ["days"]
    assert call(env, "Shelf", more=2)[0][0]["content"] == "3"
    assert call(env, "lend", days=7)[0][0]["content"] == "2 for 7"


def test_an_override_without_a_mark_stays_a_tool():
    class Quiet(Drawer):
        def open(self, times: int = 1) -> str:
            """Open it without a sound."""
            return "hush"

        fail = None

    env = Quiet()
    env.reset(seed=0)
    assert "fail" not in env.tools
    assert env.tools["open"].description == "Open it without a sound."
    assert call(env, "open")[0][0]["content"] == "hush"


@pytest.mark.parametrize("kind", [staticmethod, classmethod, property])
def test_a_mark_that_would_do_nothing_is_refused(kind):
    def look() -> str:
        """Look."""

    with pytest.raises(DataError, match=rf"tool Odd.look: it is a {kind.__name__}"):
        type("Odd", (Drawer,), {"look": kind(tool(look))})()


def test_a_mark_takes_keywords_only():
    for wrong in (lambda: tool("look"), lambda: tool(5), lambda: tool(title="look")):
        with pytest.raises(DataError, match=r"@tool: .*keywords only: @tool\(name=\.\.\."):
            wrong()


def test_a_notation_for_one_tool_refuses_several_by_the_environments_name():
    with pytest.raises(DataError, match=r"Drawer: the format 'tag' can call one tool, .* open, "):
        Drawer(call_format="tag").reset(seed=0)


def test_an_environment_of_tools_that_nothing_judges_is_refused_before_it_is_played():
    class Unjudged(Drawer):
        verifier = None

    class Own(Unjudged):
        async def finished(self, answer):
            return Reply(terminated=True)

    with pytest.raises(DataError, match="Unjudged has no verifier"):
        Unjudged().prepare()
    Own().prepare()
    Drawer().prepare()


def test_what_looks_like_an_authors_mistake_is_kept():
    def boom(how: str) -> object:
        """Do something."""
        if how == "name":
            return missing  # noqa: F821
        if how == "value":
            raise ValueError("as asked")
        if how == "own":
            raise ToolError("no") from TypeError()
        return object()

    env = begun(tools=[boom])
    call(env, "boom", how="value")
    call(env, "boom", how="own")
    call(env, "boom", nothing=1)
    assert env.faults == {}
    assert "NameError" in call(env, "boom", how="name")[0][0]["content"]
    assert env.faults == {"boom": "NameError: name 'missing' is not defined"}
    env = begun(tools=[boom])
    call(env, "boom", how="object")
    assert env.faults["boom"].startswith("the result cannot be written as JSON")
