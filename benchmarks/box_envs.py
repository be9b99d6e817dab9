"""How fast episodes with a session are, and what policies earn that know nothing; one JSON line.

Run: ``python benchmarks/box_envs.py [--tasks 200] [--sandbox local]``. For ``text/PythonTool-v0``
and ``text/Terminal-v0``: the mean return of the oracle, and its episodes a second (a session each;
opened, used, judged, closed) one after the other and all at once. Then the mean returns of
policies that know nothing, on the same tasks. PythonTool: ``zero`` and ``one`` always answer that,
``frequent`` gives the most frequent answer of 2,000 other tasks, ``copied`` the last number or word
of the question. Terminal: ``nothing`` says that it is done, ``empty`` deletes all files, ``stray``
makes a file, ``open`` sets all modes to 755, ``swap`` gives two files each other's names,
``unique`` writes the sorted lines of a file to unique.txt; ``partial`` is the largest mean of these
where shares are paid.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

import rl_envs

Policy = Callable[[rl_envs.TextEnv], str]
COMMANDS = {
    "nothing": None,
    "empty": "rm -rf ./*",
    "stray": "touch done.txt",
    "open": "find . -type f -exec chmod 755 {} +",
    "swap": "set -- $(find . -type f | head -n 2); mv $1 x; mv $2 $1; mv x $2",
    "unique": "sort -u $(find . -type f | head -n 1) > unique.txt",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--sandbox", default="local")
    options = parser.parse_args()
    found = {
        "python_tool": python_tool(options.tasks, options.sandbox),
        "terminal": terminal(options.tasks, options.sandbox),
    }
    print(json.dumps({"benchmark": "box_envs", **vars(options), **found}))


def python_tool(tasks: int, sandbox: str) -> dict[str, Any]:
    env = rl_envs.make("text/PythonTool-v0", sandbox=sandbox)
    others = rl_envs.make("text/PythonTool-v0", seed=1).tasks
    (common, _), *_ = Counter(str(others[n].answer) for n in range(2000)).most_common(1)
    said: dict[str, Policy] = {
        "zero": lambda _: "\\boxed{0}",
        "one": lambda _: "\\boxed{1}",
        "frequent": lambda _: f"\\boxed{{{common}}}",
        "copied": lambda env: f"\\boxed{{{str(env.task.prompt).split()[-1].strip('.?')}}}",
    }
    know_nothing = {name: mean(env, policy, tasks) for name, policy in said.items()}
    return {**speed(env, tasks), **know_nothing}


def terminal(tasks: int, sandbox: str) -> dict[str, Any]:
    env = rl_envs.make("text/Terminal-v0", sandbox=sandbox)
    shares = rl_envs.make("text/Terminal-v0", sandbox=sandbox, partial=True)
    said = {name: once(command) for name, command in COMMANDS.items()}
    know_nothing = {name: mean(env, policy, tasks) for name, policy in said.items()}
    partial = max(mean(shares, policy, tasks) for policy in said.values())
    return {**speed(env, tasks), **know_nothing, "partial": partial}


def once(command: str | None) -> Policy:
    def act(env: Any) -> str:
        if command is None or env.turn:
            return "It is done."
        return str(env.call_text("bash", command=command))

    return act


def oracle(env: rl_envs.TextEnv) -> str:
    return env.expert(np.random.default_rng(0))


def speed(env: rl_envs.TextEnv, tasks: int) -> dict[str, float]:
    mean(env, oracle, 8)  # the sandbox starts
    few = max(1, tasks // 4)
    started = time.monotonic()
    for index in range(few):
        asyncio.run(episode(env, oracle, index))
    one = time.monotonic() - started
    started = time.monotonic()
    earned = mean(env, oracle, tasks)
    together = time.monotonic() - started
    return {
        "oracle": earned,
        "episodes_a_second_one_by_one": round(few / one, 1),
        "episodes_a_second_all_at_once": round(tasks / together, 1),
    }


def mean(env: rl_envs.TextEnv, policy: Policy, tasks: int) -> float:
    async def all_of_them() -> list[float]:
        return await asyncio.gather(*(episode(env, policy, index) for index in range(tasks)))

    return round(float(np.mean(asyncio.run(all_of_them()))), 4)


async def episode(proto: rl_envs.TextEnv, policy: Policy, index: int) -> float:
    env = proto.clone()
    try:
        await env.areset(seed=index, options={"index": index})
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = await env.astep(policy(env))
            total, over = total + reward, terminated or truncated
        return total
    finally:
        env.close()


if __name__ == "__main__":
    main()
