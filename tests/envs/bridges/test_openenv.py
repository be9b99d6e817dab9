import asyncio
import json
from typing import ClassVar

import httpx
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import rl_envs
from rl_envs import DataError, Reply, Task, TextEnv
from rl_envs.bridges.openenv import action_for, score_in, shown
from rl_envs.bridges.openenv_link import socket_url
from rl_envs.tools import ToolError, ToolFailure
from rl_verifiers import Score

ID = "text/OpenEnv-v0"


class Echo(TextEnv):
    """Says what it hears, three times; ``slow`` takes a second, ``broken`` raises."""

    max_turns = 3
    tasks = (Task("a", "first"), Task("b", "second"))

    async def respond(self, action):
        if action == "slow":
            await asyncio.sleep(1)
        if action == "broken":
            raise OSError("no disk")
        messages = [{"role": "user", "content": f"{action} {self.turn}"}]
        return Reply(messages, reward=float(action == "good"), terminated=action == "end")


def made(url, **options):
    return rl_envs.make(ID, url=url, **{"timeout_s": 5.0, **options})


def ask(socket, kind, **data):
    socket.send(json.dumps({"type": kind, "data": data} if data or kind != "state" else {}))
    return json.loads(socket.recv())


def test_an_episode_over_the_wire_is_the_episode(serving):
    env = rl_envs.make("text/Countdown-v0", difficulty=1)
    with serving(env) as url:
        far, near = made(url), env.clone()
        for index in range(5):
            seen, info = far.reset(options={"index": index})
            assert seen == near.reset(seed=int(info["task_id"]))[0]
            action = near.expert(np.random.default_rng(0))
            assert far.step(action)[:4] == near.step(action)[:4]
        check_env(far)
        far.close()


def test_the_verdict_comes_with_its_reason(serving):
    env = rl_envs.make("text/Countdown-v0", difficulty=1)
    with serving(env) as url:
        far, near = made(url), env.clone()
        for said in ("nothing", "<answer>1 + 1</answer>", None):
            _, info = far.reset(seed=0)
            near.reset(seed=int(info["task_id"]))
            action = said or near.expert(np.random.default_rng(0))
            scores = far.step(action)[4]["score"], near.step(action)[4]["score"]
            told = [(s.value, s.passed, s.status, s.reason) for s in scores]
            assert told[0] == told[1]
        far.close()


@pytest.mark.parametrize(
    "told",
    [
        None,
        "correct",
        {"status": "correct"},
        {"passed": True, "status": ["x"], "reason": ""},
        {"passed": True, "status": "error", "reason": ""},
        {"passed": 1, "status": "correct", "reason": ""},
        {"passed": True, "status": "correct", "reason": None},
    ],
)
def test_a_verdict_that_is_not_well_formed_is_that_of_the_reward(told):
    assert score_in({"score": told}, 0.5) == Score.wrong(value=0.5)
    assert score_in(told, 1.0) == Score.correct()


def test_limits_and_ends_are_told_apart(serving):
    with serving(Echo()) as url:
        env = made(url)
        env.reset(seed=0)
        assert env.step("good")[1:4] == (1.0, False, False)
        assert env.step("x")[1:4] == (0.0, False, False)
        assert env.step("x")[2:4] == (False, True)
        env.reset(seed=0)
        assert env.step("end")[2:4] == (True, False)
        env.close()


def test_sessions_run_side_by_side_and_wait_for_room(serving):
    async def one(env, seed):
        await env.areset(seed=seed)
        told = await env.astep(f"{seed}")
        env.close()
        return told[0][0]["content"]

    async def many(env):
        return await asyncio.gather(*(one(env.clone(), seed) for seed in range(8)))

    with serving(Echo(), max_sessions=2) as url:
        told = asyncio.run(many(made(url, connect_timeout_s=20.0)))
    assert told == [f"{seed} 1" for seed in range(8)]


def test_a_late_answer_is_never_taken_for_another(serving):
    with serving(Echo()) as url:
        env = made(url, timeout_s=0.3)
        env.reset(seed=0)
        with pytest.raises(ToolFailure, match=r"no answer within 0\.3 s"):
            env.step("slow")
        with pytest.raises(ToolFailure, match="the session is over"):
            env.step("good")
        env.reset(seed=0)
        assert env.step("good")[0][0]["content"] == "good 1"
        env.close()


def test_a_cancelled_step_ends_its_session(serving):
    async def play(env):
        await env.areset(seed=0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(env.astep("slow"), 0.2)
        with pytest.raises(ToolFailure, match="the session is over"):
            await env.astep("good")
        env.close()

    with serving(Echo()) as url:
        asyncio.run(play(made(url)))


def test_what_fails_there_is_our_failure(serving):
    with serving(Echo()) as url:
        env = made(url)
        env.reset(seed=0)
        with pytest.raises(ToolFailure, match="no disk"):
            env.step("broken")
        env.close()
    with pytest.raises(ToolFailure, match="cannot"):
        env.reset(seed=0)
    with pytest.raises(ToolFailure, match="cannot connect"):
        made("http://127.0.0.1:1", field="text").reset(seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give `url`"),
        ({"url": "ftp://here"}, "it must be such as http"),
        ({"url": "http://h", "timeout_s": 0}, "timeout_s is 0"),
    ],
)
def test_what_cannot_be_is_said(options, message):
    with pytest.raises(DataError, match=message):
        rl_envs.make(ID, **options).reset(seed=0)


def test_a_refused_reset_names_what_was_sent(serving):
    with serving(Echo()) as url:
        env = made(url, reset_options={"level": 3})
        with pytest.raises(DataError, match=r"no \['level'\]"):
            env.reset(seed=0)
        env.close()


def test_the_servers_errors_leave_the_session_usable(serving):
    with serving(Echo()) as url, connect(socket_url(url)) as socket:
        for sent, code in (
            ("{", "INVALID_JSON"),
            ('{"type": "dance"}', "UNKNOWN_TYPE"),
            ('{"type": "step", "data": {"text": "x"}}', "EXECUTION_ERROR"),
            ('{"type": "reset", "data": {"seed": -1}}', "VALIDATION_ERROR"),
            ('{"type": "reset", "data": {"index": 9}}', "VALIDATION_ERROR"),
            ('{"type": "reset", "data": 4}', "VALIDATION_ERROR"),
        ):
            socket.send(sent)
            assert json.loads(socket.recv())["data"]["code"] == code
        assert ask(socket, "reset", index=1)["data"]["observation"]["text"] == "second"
        assert ask(socket, "step", txt="x")["data"]["code"] == "VALIDATION_ERROR"
        assert ask(socket, "step", text="good")["data"]["reward"] == 1.0
        socket.send('{"type": "state"}')
        assert json.loads(socket.recv())["data"]["step_count"] == 1


def test_a_slow_step_and_an_idle_session_end(serving):
    options = {"timeout_s": 0.2, "idle_timeout_s": 0.5}
    with serving(Echo(), **options) as url, connect(socket_url(url)) as socket:
        ask(socket, "reset", index=0)
        assert "took over" in ask(socket, "step", text="slow")["data"]["message"]
        assert json.loads(socket.recv())["data"]["code"] == "SESSION_ERROR"


def test_only_those_with_the_token_are_answered(serving):
    known = {"Authorization": "Bearer secret"}
    with serving(Echo(), token="secret") as url:
        assert httpx.get(f"{url}/health").json() == {"status": "healthy"}
        assert httpx.get(f"{url}/schema").status_code == 401
        schema = httpx.get(f"{url}/schema", headers=known).json()
        assert schema["action"]["required"] == ["text"]
        with pytest.raises(InvalidStatus, match="403"):
            connect(socket_url(url))
        with pytest.raises(ToolFailure, match="403"):
            made(url, field="text").reset(seed=0)
        env = made(url, headers=known)
        assert env.reset(seed=0)[0][0]["content"] in ("first", "second")
        env.close()
    with serving(Echo()) as url, pytest.raises(InvalidStatus, match="403"):
        connect(socket_url(url), origin="http://evil.example")


NUMBER = {"properties": {"number": {"type": "integer"}, "metadata": {}}, "required": ["number"]}
PAIR = {"properties": {"x": {"type": "integer"}, "word": {"type": "string"}}, "required": ["x"]}


@pytest.mark.parametrize(
    ("schema", "text", "action"),
    [
        ({"properties": {"text": {"type": "string"}}}, "any {thing}", {"text": "any {thing}"}),
        (NUMBER, "I say 3, no, 1,004.", {"number": 1004}),
        (NUMBER, "none", None),
        (NUMBER, "9" * 400, None),
        (PAIR, "about 7", {"x": 7}),
        ({"properties": {"a": {}, "b": {}}}, 'so {"a": 1, "b": 2}', {"a": 1, "b": 2}),
        ({"properties": {"a": {}, "b": {}}}, "[" * 100_000, None),
        ({}, "hello", None),
    ],
)
def test_the_schema_decides_what_a_reply_means(schema, text, action):
    if action is None:
        with pytest.raises(ToolError):
            action_for(schema, text)
    else:
        assert action_for(schema, text) == action


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        ({"text": "hi", "metadata": {"a": "b"}}, "hi"),
        ({"echoed_message": "hi", "length": 2}, "hi"),
        ({"board": [1, 2]}, '{"board": [1, 2]}'),
        ({"metadata": {"hello": "there"}}, "there"),
    ],
)
def test_an_observation_is_shown_as_text(seen, text):
    assert shown(seen, None) == text


ADD = {
    "name": "add",
    "description": "Add.",
    "input_schema": {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
    },
}


async def tools(message):
    """A server with one tool."""
    data = message["data"]
    if message["type"] == "reset":
        seen, more = {"metadata": {"task": "Add."}}, {}
    elif data["type"] == "list_tools":
        seen, more = {"tools": [ADD]}, {}
    elif data["arguments"]["a"] < 0:
        seen, more = {"error": {"error_type": "execution_error", "message": "negative"}}, {}
    elif data["arguments"]["a"] == 0:
        seen, more = {"error": {"error_type": "transport_error", "message": "gone"}}, {}
    else:
        more = {"reward": 1.0, "done": data["arguments"]["a"] > 9}
        seen = {"result": {"content": [{"type": "text", "text": "sum"}]}}
    told = {"observation": seen, "reward": 0.0, "done": False, **more}
    return {"type": "observation", "data": told}


def test_tools_of_a_server_are_the_policys(script):
    with script(tools) as url:
        env = rl_envs.make("text/OpenEnvTools-v0", url=url)
        assert env.reset(seed=0)[0][-1]["content"] == "Add."
        seen, reward, *_ = env.step(env.call_text("add", a=1))
        assert (seen[0]["content"], reward) == ("sum", 1.0)
        assert env.step(env.call_text("add", a=-1))[0][0]["content"] == "Error: negative"
        _, reward, terminated, _, info = env.step(env.call_text("add", a=10))
        assert (reward, terminated, info["score"].value) == (1.0, True, 2.0)
        env.reset(seed=0)
        with pytest.raises(ToolFailure, match="gone"):
            env.step(env.call_text("add", a=0))
        env.close()


@pytest.mark.parametrize("told", ["not json", '{"type": "observation"}', "[]"])
def test_an_unreadable_answer_is_the_servers_failure(script, told):
    async def answer(message):
        return told

    with script(answer) as url, pytest.raises(ToolFailure, match="answered"):
        made(url).reset(seed=0)


def seen(**more):
    told = {"observation": {"text": "hi"}, "reward": None, "done": False, **more}
    return {"type": "observation", "data": told}


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (seen(reward="1.0", done=True), "the reward '1.0', which is no number"),
        (seen(reward=float("nan"), done=True), "the reward nan"),
        (seen(reward=10**400), "which is no number"),
        (seen(reward=1.0, done="false"), "done='false'"),
        (seen(done=True), "ended an episode without ever giving a reward"),
        ({"type": "state", "data": {"step_count": 3}}, "'state', not an observation"),
        ("[" * 100_000, "answered no JSON"),
    ],
)
def test_a_verdict_that_is_none_is_never_a_reward(script, told, message):
    async def answer(heard):
        return seen() if heard["type"] == "reset" else told

    with script(answer) as url:
        env = made(url, field="text")
        env.reset(seed=0)
        with pytest.raises(ToolFailure, match=message):
            env.step("x")
        env.close()


def test_no_reward_at_the_end_is_nothing_more_after_an_earlier_one(script):
    async def answer(heard):
        if heard["type"] == "reset":
            return seen()
        text = heard["data"]["text"]
        return seen(reward={"pay": 0.5, "none": 0.0}.get(text), done=text == "end")

    with script(answer) as url:
        env = made(url, field="text")
        for first in ("pay", "none"):
            env.reset(seed=0)
            assert env.step("wait")[1:3] == (0.0, False)
            env.step(first)
            assert env.step("end")[1:3] == (0.0, True)
        env.reset(seed=0)  # what another episode was paid does not count
        with pytest.raises(ToolFailure, match="without ever giving a reward"):
            env.step("end")
        env.close()


def test_a_tool_that_ends_an_episode_without_a_reward_is_the_servers_failure(script):
    async def answer(message):
        told = await tools(message)
        if message["type"] == "step" and message["data"]["type"] == "call_tool":
            told["data"]["reward"] = None
        return told

    with script(answer) as url:
        env = rl_envs.make("text/OpenEnvTools-v0", url=url)
        env.reset(seed=0)
        assert env.step(env.call_text("add", a=1))[1:3] == (0.0, False)
        with pytest.raises(ToolFailure, match="without ever giving a reward"):
            env.step(env.call_text("add", a=10))
        env.reset(seed=0)  # the policy ends this one, and was paid nothing
        assert env.step("I give up.")[1:3] == (0.0, True)
        env.close()


@pytest.mark.parametrize("env_id", [ID, "text/OpenEnvTools-v0"])
def test_both_environments_have_the_options_of_a_server(env_id):
    options = {"timeout_s": 7, "connect_timeout_s": 3.0, "show": "text", "headers": {"A": "b"}}
    env = rl_envs.make(env_id, url="http://127.0.0.1:9", reset_options={"x": 1}, **options)
    assert (env.timeout_s, env.connect_timeout_s, env.show) == (7, 3.0, "text")
    assert (env.reset_options, env.headers) == ({"x": 1}, {"A": "b"})
    if env_id != ID:
        assert env.tool_timeout_s == 12
        assert rl_envs.make(env_id, tool_timeout_s=2).tool_timeout_s == 2
    with pytest.raises(DataError, match="timeout_s is -9; it must be above 0"):
        rl_envs.make(env_id, timeout_s=-9)
    with pytest.raises(DataError, match="no option 'timeout'; did you mean 'timeout_s'"):
        rl_envs.make(env_id, timeout=1)


def test_an_answer_nobody_asked_for_is_not_that_to_the_next_question(script):
    async def answer(heard):
        first = json.dumps(seen())
        return first if heard["type"] == "reset" else [first, json.dumps(seen(reward=1.0))]

    with script(answer) as url:
        env = made(url, field="text")
        env.reset(seed=0)
        assert env.step("x")[1] == 0.0
        with pytest.raises(ToolFailure, match="what it was not asked"):
            env.step("y")
        env.close()


class Box(TextEnv):
    """Waits for ever, pays what is no number, or ends the program; counts what is closed."""

    max_turns = 9
    tasks = (Task("a", "first"),)
    closed: ClassVar[list[str]] = []

    async def respond(self, action):
        if action == "hang":
            await asyncio.sleep(1000)
        if action == "exit":
            raise SystemExit(3)
        return Reply([{"role": "user", "content": "x"}], reward=float("nan"))

    def close(self):
        self.closed.append("closed")


def test_who_leaves_in_the_middle_of_a_step_leaves_nothing(serving):
    Box.closed.clear()
    with serving(Box(), max_sessions=1) as url:
        with connect(socket_url(url)) as socket:
            ask(socket, "reset", seed=0)
            socket.send(json.dumps({"type": "step", "data": {"text": "hang"}}))
            socket.close_socket()
        env = made(url, connect_timeout_s=10.0)  # there is room again long before a step times out
        env.reset(seed=0)
        assert Box.closed == ["closed"]
        env.close()


def test_what_a_session_cannot_answer_does_not_end_it(serving):
    with serving(Box()) as url, connect(socket_url(url)) as socket:
        for text, message in (("pay", "the reward is nan"), ("exit", "SystemExit: 3")):
            ask(socket, "reset", seed=0)
            assert message in ask(socket, "step", text=text)["data"]["message"]
        socket.send(b"\x00")
        assert json.loads(socket.recv())["data"]["code"] == "INVALID_JSON"
        assert ask(socket, "reset", seed=0)["type"] == "observation"
