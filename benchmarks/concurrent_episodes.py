"""A thousand episodes at once, with tools that sleep 50 to 500 ms: how long the slowest would take.

Each episode makes six turns with a call each (its sleep drawn by the episode's seed) and answers;
the policy is a stub that yields to the event loop once. The longest chain is the largest sum of one
episode's sleeps; a rollout in which nothing waits for anything else ends a little after it. Two
ways: "async" tools are awaited; "sync" tools block a thread each. Wall-clock seconds.

Run: python benchmarks/concurrent_episodes.py
"""

# ruff: noqa: PLC0415 - imports are not part of what is measured

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

TURNS = 6
SHORTEST, LONGEST = 0.05, 0.5  # seconds a tool sleeps


def environment(episodes: int) -> Any:
    """Waits as long as it is told, one way or the other."""
    from rl_envs import ListTasks, Task
    from rl_envs.tools import ToolEnv, tool
    from rl_verifiers import Score

    class Waits(ToolEnv):
        """Tools that take their time."""

        max_turns = TURNS + 1
        waited = 0.0

        def opening(self, task: Any) -> Any:
            self.waited = 0.0
            return super().opening(task)

        @tool
        async def wait(self) -> str:
            """Wait without a thread."""
            await asyncio.sleep(self._drawn())
            return "done"

        @tool
        def block(self) -> str:
            """Wait in a thread."""
            time.sleep(self._drawn())
            return "done"

        def _drawn(self) -> float:
            seconds = float(self.np_random.uniform(SHORTEST, LONGEST))
            self.waited += seconds
            return seconds

        def score(self, completion: str, row: Any) -> Score:
            return Score(1.0, True, "correct", parts={"waited": self.waited})

    return Waits(tasks=ListTasks([Task(str(n), f"Task {n}") for n in range(episodes)]))


class Stub:
    """Calls one tool TURNS times, then answers."""

    policy_version = 0
    context_length = 100_000

    def __init__(self, chat: Any, env: Any, name: str) -> None:
        from agent_rl.engines import Completion

        ids = [tuple(chat.completion_ids(text)) for text in (env.call_text(name), "done")]
        self.call, self.answer = (Completion(i, (-0.5,) * len(i), "stop", 0) for i in ids)
        self.end = chat.end_id

    async def generate(self, ids: Sequence[int], sampling: Any) -> Any:
        """Ready-made, after one pass of the event loop; every earlier turn left its end token."""
        await asyncio.sleep(0)
        return self.call if ids.count(self.end) < TURNS else self.answer


def measure(name: str, episodes: int) -> dict[str, Any]:
    """Seconds of a whole rollout, and of its longest chain of tool calls."""
    from agent_rl import models
    from agent_rl.chat import Chat
    from agent_rl.config import TinyModel
    from agent_rl.engines import Sampling
    from agent_rl.rollout import Assignment, play_groups, seed_of

    env = environment(episodes)
    text = "".join(m["content"] for m in env.clone().reset(options={"index": 0})[0])
    letters = "".join(sorted(set(text + env.call_text(name) + "0123456789 dne")))
    chat = Chat(models.tiny_tokenizer(TinyModel(characters=letters)))
    jobs = [Assignment(env, "waits", n, seed_of(n)) for n in range(episodes)]
    started = time.perf_counter(), time.process_time()
    played = asyncio.run(
        play_groups(
            Stub(chat, env, name),
            chat,
            jobs,
            group_size=1,
            sampling=Sampling(max_tokens=256),
            seed=0,
        )
    )
    seconds, busy = time.perf_counter() - started[0], time.process_time() - started[1]
    assert [t.error for t in played] == [None] * episodes
    assert {(len(t.turns), t.tools["calls"]) for t in played} == {(TURNS + 1, TURNS)}
    chain = max(t.score.parts["waited"] for t in played if t.score is not None)
    return {
        "seconds": round(seconds, 2),
        "longest_chain": round(chain, 2),
        "ratio": round(seconds / chain, 2),
        "processor_seconds": round(busy, 2),
    }


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--episodes", type=int, default=1000)
    episodes = parser.parse_args().episodes
    report: dict[str, Any] = {"benchmark": "concurrent_episodes", "episodes": episodes}
    report |= {"turns": TURNS, "tool_ms": [SHORTEST * 1e3, LONGEST * 1e3]}
    report |= {"async": measure("wait", episodes), "sync": measure("block", episodes)}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
