"""A fifth of all tool calls fails: no episode is lost, none is paid wrongly, the counts add up."""

import asyncio
import random
import string
from typing import ClassVar

import pytest

from agent_rl import models
from agent_rl.chat import Chat
from agent_rl.config import TinyModel
from agent_rl.engines import Completion, Sampling
from agent_rl.measure import rollout_metrics
from agent_rl.rollout import Assignment, play_groups
from rl_envs import ListTasks, Task
from rl_envs.tools import ToolEnv, ToolFailure, tool


class Adder(ToolEnv):
    """A fifth of its calls fail: they raise, they hang, or the sandbox under them is dead."""

    tasks = ListTasks([Task(str(n), f"{n}+7=?", str(n + 7)) for n in range(60)])
    verifier = "exact"
    max_turns = 12
    luck = random.Random(0)
    closed: ClassVar[list] = []

    def begin(self, task):
        self.failed = []

    def close(self):
        Adder.closed.append(self.failed)

    @tool
    async def add(self, a: int, b: int) -> int:
        """Add.

        Args:
            a: One.
            b: Other.
        """
        if Adder.luck.random() < 0.2:
            self.failed.append(Adder.luck.choice(["errors", "timeouts", "dead"]))
            if self.failed[-1] == "errors":
                raise ZeroDivisionError("bad luck")
            if self.failed[-1] == "dead":
                raise ToolFailure("the sandbox is gone")
            await asyncio.sleep(3600)
        return a + b


class Asks:
    """Calls the tool until it answers with a number, and gives that as its answer."""

    policy_version = 0
    context_length = 10_000

    def __init__(self, chat, env):
        self.chat, self.env = chat, env

    async def generate(self, ids, sampling):
        await asyncio.sleep(0)
        ids = list(ids)
        said = [n for n, i in enumerate(ids) if i == self.chat.end_id]
        heard = self.chat.decode(ids[said[-1] + 1 :]) if said else ""
        first = self.chat.decode(ids).split("+")[0]
        text = heard if heard.isdigit() else self.env.call_text("add", a=int(first), b=7)
        sampled = tuple(self.chat.completion_ids(text))
        return Completion(sampled, (-0.5,) * len(sampled), "stop", 0)


def test_a_fifth_of_all_tool_calls_fails_and_no_episode_is_lost_or_paid_wrongly():
    Adder.closed.clear()
    chat = Chat(models.tiny_tokenizer(TinyModel(characters=string.printable)))
    env = Adder(describe_tools=False, results="user", tool_timeout_s=0.02)
    jobs = [Assignment(env, "adder", n, n) for n in range(60)]
    trajectories = asyncio.run(
        play_groups(
            Asks(chat, env),
            chat,
            jobs,
            group_size=4,
            sampling=Sampling(max_tokens=100),
            seed=1,
            concurrency=100,
        )
    )
    assert len(trajectories) == 240
    judged = [t for t in trajectories if t.error is None]
    lost = [t for t in trajectories if t.error is not None]
    assert len(lost) < 12
    assert {t.total_reward for t in judged} == {1.0}  # whatever failed on the way
    assert {t.turns[-1].text for t in judged if t.task_id == "5"} == {"12"}
    assert {t.error for t in lost} <= {"ToolFailure: tool add: the sandbox is gone"}
    ended = [failed for failed in Adder.closed if "dead" not in failed]
    thrown = [failed for failed in Adder.closed if "dead" in failed]
    assert len(ended) == len(judged)
    assert len(thrown) == sum(len(t.failures) for t in trajectories) > 5
    for kind in ("errors", "timeouts"):
        count = sum(failed.count(kind) for failed in ended)
        assert count == sum(t.tools[kind] for t in judged) > 5
    calls = sum(t.tools["calls"] for t in judged)
    assert calls == sum(len(failed) + 1 for failed in ended)  # the last one went well
    metrics = rollout_metrics(trajectories, judged, 1.0)
    assert metrics["episodes/errors"] == len(lost)
    assert metrics["episodes/retried"] == sum(bool(t.failures) for t in trajectories)
    assert metrics["tools/calls"] == pytest.approx(calls / len(judged))
    assert metrics["reward/mean"] == 1.0
