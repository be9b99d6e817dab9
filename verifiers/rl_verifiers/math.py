"""The verifier of mathematical answers."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from rl_verifiers.answers import (
    EXACT_DIGITS,
    ROUNDED_DIGITS,
    ExactOracle,
    NeedsNumericError,
    Oracle,
    is_over_limit,
    same_answer,
    same_number,
)
from rl_verifiers.expressions import Node, OverLimitError, UnparsableError
from rl_verifiers.parse import parse_answer
from rl_verifiers.phrases import folded_words
from rl_verifiers.quantities import normalised, number
from rl_verifiers.score import Row, Score
from rl_verifiers.text import (
    Extraction,
    bad_reference,
    choice_in,
    extraction,
    option_letter,
    reference,
)
from rl_verifiers.workers import WorkerError, failure_score, inside_worker, shared_pool

MAX_INLINE = 1_000
"""Longer answers are read in a worker, so that no answer holds up an event loop."""
CPU_SECONDS = 5.0
WALL_SECONDS = 60.0
"""Second walls: the limits on work in :mod:`rl_verifiers.expressions` should be met long before."""

Verdict = Literal["correct", "wrong", "unparsable", "over_limit", "bad_reference"]


@dataclass(frozen=True)
class MathVerifier:
    """See :func:`math_verifier`."""

    extract: Extraction
    strict: bool
    bounded = True

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks while a worker evaluates a symbolic answer."""
        decided = self._inline(completion, row)
        if isinstance(decided, Score):
            return decided
        try:
            return _score(decided.found, decided.submit().result())
        except WorkerError as error:
            return failure_score(error)

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion; other tasks run while a worker evaluates a symbolic answer."""
        decided = self._inline(completion, row)
        if isinstance(decided, Score):
            return decided
        try:
            return _score(decided.found, await asyncio.wrap_future(decided.submit()))
        except WorkerError as error:
            return failure_score(error)

    def _inline(self, completion: str, row: Row) -> Score | _Question:
        gold = normalised(reference(row) or "")
        if not gold:
            return bad_reference(row)
        letter = option_letter(gold)
        if letter is not None:
            return _chosen(letter, choice_in(completion, self.extract))
        found = extraction(self.extract)(completion)
        if not found:
            return Score.wrong("no answer found", status="no_answer")
        digits = EXACT_DIGITS if self.strict else ROUNDED_DIGITS
        return _decided(_Question(gold, normalised(found), digits))


def math_verifier(*, extract: Extraction = "final", strict: bool = True) -> MathVerifier:
    r"""The completion's answer equals ``row["answer"]`` as mathematics.

    Read are numbers in every spelling, fractions, percents, units, radicals, functions, equations,
    tuples, sets, intervals, inequalities, matrices, bases and words, in LaTeX or plain text. An
    answer that is not understood scores ``unparsable``; one that would cost too much work,
    ``over_limit``; a reference that is not understood, ``bad_reference`` (unless the answer is the
    same text). No text is ever evaluated as code.

    Rational numbers are compared exactly. Anything else goes to a worker process, where numbers
    refute what differs, sympy decides about what agrees in sixty digits, and what sympy cannot
    settle within its limits passes if it agrees in some hundreds (see
    :mod:`rl_verifiers.numeric`). All limits count work, so that no verdict depends on the machine.

    Args:
        extract: Where the answer stands in the completion (see :mod:`rl_verifiers.extract`).
        strict: Off, a decimal of three digits or more may round the reference; on, one must have
            ten, so that 3.14 is not pi.
    """
    extraction(extract)
    return MathVerifier(extract, strict)


def judge(gold: str, found: str, oracle: Oracle) -> tuple[Verdict, str]:
    """Compare two normalised answers; the verdict and its reason.

    Raises:
        NeedsNumericError: From an exact oracle.
    """
    try:
        wanted = _reference_tree(gold)
    except (UnparsableError, OverLimitError) as error:
        return "bad_reference", f"reference {gold!r:.80}: {error}"
    try:
        return ("correct" if same_answer(wanted, parse_answer(found), oracle) else "wrong"), ""
    except NeedsNumericError:
        raise
    except (OverLimitError, RecursionError) as error:
        if is_over_limit(wanted, oracle):
            return "bad_reference", f"reference {gold!r:.80}: {error}"
        return "over_limit", str(error)
    except ValueError as error:
        return "unparsable", f"{found!r:.80}: {error}"


def judge_numerically(gold: str, found: str, digits: int) -> tuple[Verdict, str]:
    """:func:`judge` by evaluation and algebra; what a worker runs."""
    from rl_verifiers.numeric import NumericOracle  # noqa: PLC0415 - it imports mpmath

    return judge(gold, found, NumericOracle(digits))


@dataclass(frozen=True)
class _Question:
    """A comparison that a worker must make."""

    gold: str
    found: str
    digits: int

    def submit(self) -> Future[tuple[Verdict, str]]:
        arguments = (self.gold, self.found, self.digits)
        if inside_worker():
            done: Future[tuple[Verdict, str]] = Future()
            done.set_result(judge_numerically(*arguments))
            return done
        return shared_pool().submit(
            judge_numerically, *arguments, cpu_s=CPU_SECONDS, wall_s=WALL_SECONDS
        )


def _decided(question: _Question) -> Score | _Question:
    """The score where text or exact arithmetic decides, else the question."""
    gold, found = question.gold, question.found
    same = _same_text(gold, found, question.digits)
    if same is not None:
        return _score(found, ("correct" if same else "wrong", ""))
    if max(len(gold), len(found)) > MAX_INLINE:
        return question
    try:
        return _score(found, judge(gold, found, ExactOracle(question.digits)))
    except NeedsNumericError:
        return question


def _score(found: str, verdict: tuple[Verdict, str]) -> Score:
    status, reason = verdict
    if status == "correct":
        return Score.correct()
    return Score.wrong(reason or f"{found!r:.80} is not the answer", status=status)


def _same_text(gold: str, found: str, digits: int) -> bool | None:
    """The verdict where text or plain numbers decide; None where the answers must be parsed."""
    if gold == found:
        return True
    value, other = number(gold), number(found)
    if value is not None and other is not None:
        return same_number(value, other, digits)
    words = folded_words(gold)
    return True if words is not None and words == folded_words(found) else None


def _chosen(wanted: str, found: str | None) -> Score:
    if found is None:
        return Score.wrong("no option found", status="no_answer")
    return Score.correct() if found == wanted else Score.wrong(f"{found} is not the answer")


@lru_cache(maxsize=4096)
def _reference_tree(gold: str) -> Node:
    return parse_answer(gold)
