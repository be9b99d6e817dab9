"""Does the oracle win every task and a random policy none? Prints one JSON line per environment.

Run: ``python benchmarks/oracle_and_random.py [TASKS] [ID ...]`` (default: 200 tasks of every
registered environment that needs no data and no other package). ``oracle`` and ``random`` are mean
returns of ``env.expert`` and of ``rl_envs.random_policy`` on the same tasks; where a return is not
within 0..1, as in CartPole, compare the two. ``null`` stands where there is no expert. ``same``
says whether the oracle's first ten episodes came out equal when they were played again;
``seconds`` is wall clock for all of it, ``counts`` what came of the oracle's tool calls.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

import rl_envs
from rl_envs.tasks import DataError

TASKS = 200
AGAIN = 10
MOST_STEPS = 1000
Policy = Callable[[rl_envs.TextEnv, np.random.Generator], str]


def expert(env: rl_envs.TextEnv, rng: np.random.Generator) -> str:
    return env.expert(rng)


def episode(env: rl_envs.TextEnv, policy: Policy, index: int) -> tuple[float, list[Any], Any]:
    """The return, all that was seen, and the counts of the tool calls."""
    rng = np.random.default_rng((17, index))
    seen: list[Any] = [env.reset(seed=index, options={"index": index})]
    total = 0.0
    info: dict[str, Any] = {}
    for _ in range(MOST_STEPS):
        observation, reward, terminated, truncated, info = env.step(policy(env, rng))
        seen.append((observation, reward, terminated, truncated))
        total += reward
        if terminated or truncated:
            break
    return total, seen, info.get("tools", {})


def mean(returns: list[float]) -> float:
    return round(float(np.mean(returns)), 4)


def measured(env_id: str, tasks: int) -> dict[str, Any]:
    env = rl_envs.make(env_id)
    count = tasks if env.tasks.size is None else min(tasks, env.tasks.size)
    started = time.monotonic()
    counts: Counter[str] = Counter()
    won: list[float] = []
    same = True
    try:
        for index in range(count):
            total, seen, tools = episode(env, expert, index)
            won.append(total)
            counts.update(tools)
            if index < AGAIN:
                same = same and seen == episode(env, expert, index)[1]
    except DataError:  # it has no expert
        won, same = [], True
    lucky = [episode(env, rl_envs.random_policy, index)[0] for index in range(count)]
    env.close()
    return {
        "env": env_id,
        "tasks": count,
        "oracle": mean(won) if won else None,
        "oracle_min": round(min(won), 4) if won else None,
        "random": mean(lucky),
        "same": same,
        "counts": {name: number for name, number in counts.items() if number},
        "seconds": round(time.monotonic() - started, 2),
    }


def without_data() -> list[str]:
    """The environments that can be played here as they are."""
    found = []
    for env_id in rl_envs.ids():
        try:
            env = rl_envs.make(env_id)
            if not env.reads_data:
                env.tasks[0]
                found.append(env_id)
        except DataError as error:  # it needs a package, a server or a file
            print(f"left out: {env_id}: {error}", file=sys.stderr)
    return found


def main() -> None:
    words = sys.argv[1:]
    tasks = int(words.pop(0)) if words and words[0].isdigit() else TASKS
    for env_id in words or without_data():
        print(json.dumps(measured(env_id, tasks)), flush=True)


if __name__ == "__main__":
    main()
