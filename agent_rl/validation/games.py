"""Environments without a verifier, games say, are played: the expert must beat hostile text."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

import rl_envs
from agent_rl.validation.findings import Findings
from agent_rl.validation.judging import Latency
from agent_rl.validation.subjects import Case, Subject
from rl_envs.tasks import DataError
from rl_verifiers.conformance import HOSTILE

MOST_STEPS = 1000


def check_game(
    subject: Subject, findings: Findings, on_row: Callable[[int], None], seed: int = 0
) -> tuple[Latency, Latency]:
    """Play every case by the environment's expert and by hostile text alone.

    Args:
        subject: With an environment.
        findings: Gets an expert that does not do better, and whatever raises.
        on_row: Called with how many more row checks are done; there are two to a row.
        seed: Of the episodes.

    Returns:
        How long the expert's steps took, and those with hostile text.
    """
    assert subject.env is not None
    env = subject.env
    right, wrong = Latency(), Latency()
    good: list[float] = []
    bad: list[float] = []
    for case in subject.cases:
        rng = np.random.default_rng(seed)
        _play(env, case, "expert", partial(env.expert, rng), good, findings, right, seed)
        on_row(1)
    for place, case in enumerate(subject.cases):
        what, text = HOSTILE[place % len(HOSTILE)]
        _play(env, case, what, partial(str, text), bad, findings, wrong, seed)
        on_row(1)
    if good and bad and np.mean(good) <= np.mean(bad):
        returns = f"returns {np.mean(good):.3g} on average, hostile text {np.mean(bad):.3g}"
        findings.add("gold fails", subject.name, 0, "expert", returns)
    return right, wrong


def _play(
    env: rl_envs.TextEnv,
    case: Case,
    what: str,
    act: Callable[[], str],
    returns: list[float],
    findings: Findings,
    latency: Latency,
    seed: int,
) -> None:
    total = 0.0
    try:
        env.reset(seed=seed, options={"task": case.task})
        for _ in range(MOST_STEPS):
            action = act()
            start = time.perf_counter()
            _, reward, terminated, truncated, _ = env.step(action)
            latency.add(time.perf_counter() - start, case, what)
            total += reward
            if terminated or truncated:
                break
        returns.append(total)
    except DataError as error:
        kind = "no gold" if what == "expert" else "not judged"
        findings.add(kind, case.task.id, case.number, what, str(error))
    except Exception as error:
        problem = f"raised {type(error).__name__}: {error:.200}"
        findings.add("not judged", case.task.id, case.number, what, problem)
