"""Whether right completions pass and wrong ones fail, and how long verdicts take."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from inspect import iscoroutinefunction as is_async
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from agent_rl.validation.findings import Findings
from agent_rl.validation.golds import Gold, normal, prompt_text, solution_of
from agent_rl.validation.subjects import Case, Subject
from rl_verifiers import Row, Score, Verifier, VerifierError, score_many, score_one
from rl_verifiers.conformance import HOSTILE
from rl_verifiers.runner import is_bounded, run_sync

SECONDS = "validation seconds"  # a part that carries the time out of a worker
CHUNK = 64  # rows that are judged together
OTHERS = 2  # completions of other rows that are tried on each
ATTACKED = 20  # rows that get every hostile completion
EVERYWHERE = ("empty", "garbage")  # hostile completions that every row gets
SLOWEST = 10
TIMEOUT = 60.0  # seconds for a verdict of an async verifier


@dataclass(frozen=True)
class Timed:
    """A verifier whose scores say how long they took; breaking the contract is an error here.

    Attributes:
        verifier: The verifier.
        alone: Whether one verdict waits for the other, so that the time is that of the verdict and
            not that of a queue. (In worker processes it always is.)
    """

    verifier: Verifier
    alone: bool = False

    @property
    def bounded(self) -> bool:
        """As the verifier says."""
        return is_bounded(self.verifier)

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks."""
        return run_sync(self.ascore(completion, row))

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        async with self._turn():
            start = time.perf_counter()
            try:
                scoring = score_one(self.verifier, completion, row)
                score = await asyncio.wait_for(scoring, self._limit)
            except TimeoutError:
                score = Score.failed(f"no verdict within {TIMEOUT:g} s")
            except VerifierError as error:
                score = Score.failed(f"breaks the contract: {error}")
            seconds = time.perf_counter() - start
        return replace(score, parts={**score.parts, SECONDS: seconds})

    @property
    def _limit(self) -> float | None:
        """None where the verifier bounds its own work; it may then wait for its turn."""
        return None if getattr(self.verifier, "bounded", False) else TIMEOUT

    def _turn(self) -> AbstractAsyncContextManager[Any]:
        if not self.alone:
            return nullcontext()
        loop = asyncio.get_running_loop()
        return _turns.setdefault(loop, asyncio.Lock())


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


@dataclass(slots=True)
class Latency:
    """Seconds of each verdict, and the slowest ones: (seconds, row, number, completion)."""

    seconds: list[float] = field(default_factory=list)
    slowest: list[tuple[float, str, int, str]] = field(default_factory=list)

    def add(self, seconds: float, case: Case, what: str) -> None:
        """One more."""
        self.seconds.append(seconds)
        if len(self.slowest) < SLOWEST or seconds > self.slowest[-1][0]:
            self.slowest.append((seconds, case.task.id, case.number, what))
            self.slowest = sorted(self.slowest, key=lambda s: -s[0])[:SLOWEST]

    def as_dict(self) -> dict[str, Any]:
        """``n``, ``p50``, ``p99``, ``max`` in seconds, and ``slowest``."""
        if not self.seconds:
            return {"n": 0, "slowest": []}
        p50, p99 = np.quantile(self.seconds, [0.5, 0.99]).tolist()
        named = ("seconds", "row", "number", "completion")
        return {
            "n": len(self.seconds),
            "p50": p50,
            "p99": p99,
            "max": max(self.seconds),
            "slowest": [dict(zip(named, slow, strict=True)) for slow in self.slowest],
        }


@dataclass(frozen=True, slots=True)
class Trial:
    """A completion to judge."""

    case: Case
    what: str
    text: str
    hostile: bool = False
    right: bool = False


@dataclass(slots=True)
class Checker:
    """Judges every row of a subject.

    Attributes:
        subject: What is checked.
        findings: What was found.
        on_row: Called with how many more row checks are done; there are two to a row.
        seed: Of the choice of other rows' completions.
        right: How long verdicts on right completions took.
        wrong: And on wrong ones, where they were timed.
        golds: The completion that passed, by the row's number.
        tried: How many completions were judged: ``gold`` and ``bad``.
        forms: How often each form of a right completion passed.
    """

    subject: Subject
    findings: Findings
    on_row: Callable[[int], None] = lambda rows: None
    seed: int = 0
    right: Latency = field(default_factory=Latency)
    wrong: Latency = field(default_factory=Latency)
    golds: dict[int, Gold] = field(default_factory=dict)
    tried: Counter[str] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        """Right completions first, for all rows, and then wrong ones."""
        cases = self.subject.cases
        for start in range(0, len(cases), CHUNK):
            chunk = cases[start : start + CHUNK]
            self._check_golds(chunk)
            self._check_solutions(chunk)
            self.on_row(len(chunk))
        attacked = {c.number for c in random.Random(self.seed).sample(cases, k=self._n_attacked())}
        for start in range(0, len(cases), CHUNK):
            chunk = cases[start : start + CHUNK]
            self._check_bad([t for case in chunk for t in self._bad(case, case.number in attacked)])
            self.on_row(len(chunk))

    def score(self, trials: Sequence[Trial], *, alone: bool = True) -> list[Score]:
        """The scores.

        Args:
            trials: What to score.
            alone: One after the other and timed; else as many at once as the verifier takes.
        """
        assert self.subject.verifier is not None
        own = self.subject.env is not None  # as in training, where nothing is sent to a worker
        scores = score_many(
            Timed(self.subject.verifier, alone),
            [trial.text for trial in trials],
            [trial.case.task.row() for trial in trials],
            workers=0 if own else None,
        )
        for trial, score in zip(trials, scores, strict=True):
            if SECONDS in score.parts and (alone or not self._waits):
                latency = self.right if trial.right else self.wrong
                latency.add(score.parts[SECONDS], trial.case, trial.what)
        return scores

    @property
    def _waits(self) -> bool:
        """Whether verdicts of this verifier can overlap in time."""
        return hasattr(self.subject.verifier, "ascore") or is_async(self.subject.verifier)

    def _n_attacked(self) -> int:
        return min(ATTACKED, len(self.subject.cases))

    def _check_golds(self, cases: Sequence[Case]) -> None:
        """Each row's candidates, the forms that passed most often first, until one passes."""
        waiting: dict[int, list[Gold]] = {}
        for case in cases:
            waiting[case.number] = sorted(case.golds, key=lambda g: -self.forms[g.form])
        failed: dict[int, list[tuple[Gold, Score]]] = {case.number: [] for case in cases}
        open_cases = [case for case in cases if waiting[case.number]]
        while open_cases:
            trials = []
            for case in open_cases:
                gold = waiting[case.number][0]
                trials.append(Trial(case, f"gold ({gold.form})", gold.text, right=True))
            scores = self.score(trials)
            self.tried["gold"] += len(trials)
            for case, score in zip(open_cases, scores, strict=True):
                gold = waiting[case.number].pop(0)
                if score.passed:
                    self.golds[case.number] = gold
                    self.forms[gold.form] += 1
                else:
                    failed[case.number].append((gold, score))
                    if score.is_error or score.status == "bad_reference":
                        waiting[case.number].clear()  # no other form can mend that
            open_cases = [c for c in open_cases if c.number not in self.golds and waiting[c.number]]
        for case in cases:
            if case.number not in self.golds:
                self._no_gold(case, failed[case.number])

    def _no_gold(self, case: Case, failed: Sequence[tuple[Gold, Score]]) -> None:
        task, number = case.task, case.number
        if not failed:
            found = ", ".join(k for k, v in task.row().items() if v is not None)
            self.findings.add("no gold", task.id, number, "", f"columns: {found}")
            return
        gold, score = failed[-1]
        what = f"gold ({gold.form}) {_shown(gold.text)}"
        if score.is_error:
            self.findings.add("not judged", task.id, number, what, str(score.error))
        elif score.status == "bad_reference":
            self.findings.add("unanswerable", task.id, number, "answer", score.reason)
        else:
            gold, score = next((f for f in failed if f[1].status == "wrong"), failed[0])
            tried = f" (tried: {', '.join(g.form for g, _ in failed)})" if len(failed) > 1 else ""
            what = f"gold ({gold.form}) {_shown(gold.text)}"
            self.findings.add("gold fails", task.id, number, what, f"{_why(score)}{tried}")

    def _check_solutions(self, cases: Sequence[Case]) -> None:
        """Where a row has a worked solution beside its answer, the two should agree."""
        trials: list[Trial] = []
        for case in () if self.subject.is_played else cases:  # there, it is the way and no answer
            solution, gold = solution_of(case.task), self.golds.get(case.number)
            if solution is not None and gold is not None and solution.strip() != gold.text.strip():
                trials.append(Trial(case, "solution", solution, right=True))
        for trial, score in zip(trials, self.score(trials), strict=True):
            if score.status == "wrong":
                task, number = trial.case.task, trial.case.number
                self.findings.add("solution differs", task.id, number, "solution", _why(score))

    def _bad(self, case: Case, attacked: bool) -> list[Trial]:
        """Completions that cannot be right for a row."""
        found = [Trial(case, n, t, hostile=True) for n, t in HOSTILE if attacked or n in EVERYWHERE]
        if prompt_text(case.task).strip():
            found.append(Trial(case, "the prompt itself", prompt_text(case.task)))
        gold = self.golds.get(case.number)
        if gold is None:
            return found
        moved = gold.moved()
        if moved is not None:
            found.append(Trial(case, f"last number moved by one: {_shown(moved)}", moved))
        for other in self._others(case, gold):
            text = self.golds[other.number].text
            found.append(Trial(case, f"the answer to {other.task.id}: {_shown(text)}", text))
        return found

    def _others(self, case: Case, gold: Gold) -> list[Case]:
        """Rows with another answer, drawn by the seed."""
        rng = random.Random(f"{self.seed} {case.number}")
        cases = self.subject.cases
        drawn = rng.sample(cases, k=min(len(cases), 3 * OTHERS))
        return [other for other in drawn if self._differs(case, other, gold)][:OTHERS]

    def _differs(self, case: Case, other: Case, gold: Gold) -> bool:
        theirs = self.golds.get(other.number)
        if other is case or theirs is None or theirs.text == gold.text:
            return False
        entry = case.task.info.get("entry_point")
        if entry is not None and entry == other.task.info.get("entry_point"):
            return False  # two data sets' rows for one function
        if gold.answer is not None and theirs.answer is not None:
            return bool(normal(gold.answer) != normal(theirs.answer))
        return True

    def _check_bad(self, trials: Sequence[Trial]) -> None:
        self.tried["bad"] += len(trials)
        trials = sorted(trials, key=lambda trial: trial.hostile)
        n = sum(not trial.hostile for trial in trials)
        scores = self.score(trials[:n], alone=False) + self.score(trials[n:])
        for trial, score in zip(trials, scores, strict=True):
            task, number = trial.case.task, trial.case.number
            if score.is_error:
                self.findings.add("not judged", task.id, number, trial.what, str(score.error))
            elif score.passed:
                self.findings.add("bad passes", task.id, number, trial.what, _why(score))
            elif score.status == "bad_reference" and trial.what == "empty" and not trial.case.golds:
                self.findings.add("unanswerable", task.id, number, "answer", score.reason)


def _why(score: Score) -> str:
    value = f", value {score.value:g}" if score.passed else ""
    return f"{score.status}{value}" + (f": {score.reason}" if score.reason else "")


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else f"{line[:25]} ... {line[-25:]}")
