"""Environments of many turns are played: by their expert, and by policies that know nothing."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import numpy as np

import rl_envs
from agent_rl.validation.findings import Findings
from agent_rl.validation.judging import Latency
from agent_rl.validation.subjects import Case, Subject
from rl_envs import random_policy
from rl_envs.tasks import DataError
from rl_envs.tools import ToolEnv
from rl_verifiers.conformance import HOSTILE

MOST_STEPS = 1000
PLAYED = 20
"""Tasks played where there is a verifier, too."""

REPEATED = 3
"""Tasks that the expert plays twice."""

LUCK = 0.2
"""The share of the expert's mean return that no policy may reach that knows nothing."""

STEP_TIMEOUT = 60.0
"""Seconds for one step, or for one reset."""

SLACK = 1e-9

Act = Callable[[rl_envs.TextEnv, np.random.Generator, Case], str]


@dataclass(slots=True)
class Played:
    """What a policy earned: returns by episode, and the counts of its tool calls."""

    returns: list[float] = field(default_factory=list)
    tools: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """``episodes``, ``mean_return`` and ``tools``."""
        mean = float(np.mean(self.returns)) if self.returns else 0.0
        return {"episodes": len(self.returns), "mean_return": mean, "tools": dict(self.tools)}


@dataclass(slots=True)
class Plays:
    """All that was played.

    Attributes:
        right: How long the expert's steps took.
        wrong: And those of the others.
        policies: What each earned, by name.
        gold: Tasks on which the expert reached what can be reached.
    """

    right: Latency = field(default_factory=Latency)
    wrong: Latency = field(default_factory=Latency)
    policies: dict[str, Played] = field(default_factory=dict)
    gold: int = 0


class StuckError(Exception):
    """A step or a reset that does not come back; nothing more can be played."""


class _Worker:
    """A daemon thread that plays, so that whoever waits for it can give up."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self.stuck = False
        threading.Thread(target=self._run, name="validate", daemon=True).start()

    def do(self, work: Callable[[], Any], what: str) -> Any:
        """What ``work`` returns or raises.

        Raises:
            StuckError: It takes longer than ``STEP_TIMEOUT``.
        """
        result: Future[Any] = Future()
        self._jobs.put((result, work))
        try:
            return result.result(STEP_TIMEOUT)
        except TimeoutError:
            if result.done():  # raised by the work itself
                raise
            self.stuck = True
            raise StuckError(
                f"{what} took over {STEP_TIMEOUT:g} s; nothing more is played"
            ) from None

    def end(self) -> None:
        """Lets the thread go."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            result, work = job
            try:
                result.set_result(work())
            except BaseException as error:  # whoever waits gets it
                result.set_exception(error)


@dataclass(frozen=True, slots=True)
class _Episode:
    """What came of one: all that was seen and paid, in order; the sum; the last step's info."""

    seen: list[Any]
    total: float
    info: dict[str, Any]
    ended: bool


def cases_to_play(subject: Subject) -> Sequence[Case]:
    """All where there is no verifier; some where an episode has several turns; else none."""
    if not subject.is_played:
        return ()
    return subject.cases if subject.verifier is None else subject.cases[:PLAYED]


def policies_of(env: rl_envs.TextEnv) -> dict[str, Act]:
    """The policies that know nothing, by name."""
    acts: dict[str, Act] = {
        "random policy": lambda env, rng, case: random_policy(env, rng),
        "hostile text": lambda env, rng, case: HOSTILE[case.number % len(HOSTILE)][1],
    }
    if isinstance(env, ToolEnv):
        acts["answers without a tool"] = lambda env, rng, case: random_policy(env, rng, calls=False)
    return acts


def check_plays(
    subject: Subject, findings: Findings, on_play: Callable[[int], None], seed: int = 0
) -> Plays:
    """Play cases by the environment's expert and by policies that know nothing.

    Args:
        subject: With an environment.
        findings: Gets an expert that fails, a policy that earns without knowing anything, an
            episode that cannot be repeated, a tool with a mistake in it, and whatever raises.
        on_play: Called with 1 after each episode.
        seed: Of the episodes and the policies.

    Returns:
        What each policy earned, and how long steps took.
    """
    env = subject.env
    assert env is not None
    plays, cases = Plays(), cases_to_play(subject)
    worker = _Worker()
    player = _Player(env, findings, plays, on_play, seed, worker)
    try:
        for place, case in enumerate(cases):
            if not player.expert(case, again=place < REPEATED):
                break
        for name, act in policies_of(env).items():
            for case in cases:
                player.play(name, act, case, plays.wrong)
    except StuckError:
        return plays  # it is a finding already; the environment cannot be closed either
    finally:
        _check_faults(env, subject, findings)
        if not worker.stuck:
            worker.do(env.close, "closing it")
        worker.end()
    _check_luck(subject, findings, plays)
    return plays


def _check_faults(env: rl_envs.TextEnv, subject: Subject, findings: Findings) -> None:
    """What tools raised or returned that no tool should: the policy hears it, nobody else does."""
    if isinstance(env, ToolEnv):
        for name, problem in dict(env.faults).items():
            findings.add("tool fault", subject.name, 0, f"tool {name}", f"a call gave {problem}")


def _check_luck(subject: Subject, findings: Findings, plays: Plays) -> None:
    expert = plays.policies.get("expert", Played()).returns
    if not expert:
        return
    best = float(np.mean(expert))
    if best <= 0 and not plays.gold:
        return  # the expert fails, which is a finding already: nothing to compare with
    for name, played in plays.policies.items():
        if name == "expert" or not played.returns:
            continue
        mean = float(np.mean(played.returns))
        if mean >= (LUCK * best if best > 0 else best):
            problem = f"returns {mean:.3g} on average, the expert {best:.3g}"
            findings.add("luck pays", subject.name, 0, name, problem)


@dataclass(slots=True)
class _Player:
    """Plays episodes on one environment and keeps what comes of them."""

    env: rl_envs.TextEnv
    findings: Findings
    plays: Plays
    on_play: Callable[[int], None]
    seed: int
    worker: _Worker

    def expert(self, case: Case, *, again: bool) -> bool:
        """Whether there is an expert; what it does wrong is a finding."""

        def act(env: rl_envs.TextEnv, rng: np.random.Generator, case: Case) -> str:
            return env.expert(rng)

        try:
            first = self.play("expert", act, case, self.plays.right, missing=True)
        except DataError as error:
            self.findings.add("no gold", case.task.id, case.number, "expert", str(error))
            return False
        if first is None:
            return True
        problem = _shortfall(first, case)
        if problem:
            self.findings.add("expert fails", case.task.id, case.number, "expert", problem)
        self.plays.gold += not problem
        if again:
            second = self.play("", act, case, self.plays.right)
            if second is not None and second.seen != first.seen:
                self._differs(case, first, second)
        return True

    def _differs(self, case: Case, first: _Episode, second: _Episode) -> None:
        pairs = zip(first.seen, second.seen, strict=False)
        turn = next((n for n, (a, b) in enumerate(pairs) if a != b), len(second.seen))
        problem = f"the same seed and actions gave something else at step {turn}"
        self.findings.add("not repeatable", case.task.id, case.number, "expert", problem)

    def play(
        self, name: str, act: Act, case: Case, latency: Latency, *, missing: bool = False
    ) -> _Episode | None:
        """An episode, kept under the policy's name; None where something raised.

        Raises:
            DataError: With ``missing``: there is no such policy.
            StuckError: It does not come back; that is a finding by then.
        """
        try:
            episode = self._episode(name, act, case, latency)
        except StuckError as error:
            problem = str(error)
            self.findings.add("not judged", case.task.id, case.number, name or "expert", problem)
            raise
        except DataError as error:
            if missing:
                raise
            self.findings.add("not judged", case.task.id, case.number, name, str(error))
            return None
        except Exception as error:
            problem = f"raised {type(error).__name__}: {error!s:.200}"
            self.findings.add("not judged", case.task.id, case.number, name or "expert", problem)
            return None
        finally:
            self.on_play(1)
        if name:
            played = self.plays.policies.setdefault(name, Played())
            played.returns.append(episode.total)
            played.tools.update(episode.info.get("tools") or {})
        return episode

    def _episode(self, name: str, act: Act, case: Case, latency: Latency) -> _Episode:
        rng = np.random.default_rng((self.seed, case.number))

        def step() -> tuple[float, Any]:
            action = act(self.env, rng, case)
            start = time.perf_counter()
            answered = self.env.step(action)
            return time.perf_counter() - start, answered

        options = {"task": case.task}
        begun = self.worker.do(lambda: self.env.reset(seed=self.seed, options=options), "a reset")
        seen: list[Any] = [begun]
        total, info, ended = 0.0, begun[1], False
        while not ended and len(seen) <= MOST_STEPS:
            seconds, answered = self.worker.do(step, f"step {len(seen)}")
            latency.add(seconds, case, name or "expert")
            observation, reward, terminated, truncated, info = answered
            seen.append((observation, reward, terminated, truncated, info.get("score")))
            total += reward
            ended = terminated or truncated
        return _Episode(seen, total, info, ended)


def _shortfall(episode: _Episode, case: Case) -> str:
    """Why an expert's episode is not as good as can be; empty if it is, or if nobody knows."""
    score, best = episode.info.get("score"), case.task.info.get("best")
    if not episode.ended:
        return f"no end within {MOST_STEPS:,} steps"
    if score is not None and score.is_error:
        return f"not judged: {score.error}"
    if best is not None:
        short = episode.total < float(best) - SLACK
        return f"returns {episode.total:.3g}, the best is {float(best):.3g}" if short else ""
    if score is not None and not score.passed:
        return f"{score.status}: {score.reason}"
    return ""
