"""The verifier of mathematical answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple

from rl_verifiers.answers import is_over_limit, same_answer
from rl_verifiers.expressions import MAX_CHARACTERS, Node, OverLimitError, UnparsableError
from rl_verifiers.oracles import (
    EXACT_DIGITS,
    ROUNDED_DIGITS,
    NeedsNumericError,
    Oracle,
    same_number,
)
from rl_verifiers.parse import parse_answer
from rl_verifiers.phrases import folded_words
from rl_verifiers.quantities import normalised, number
from rl_verifiers.quick import QuickOracle
from rl_verifiers.score import Row, Score, VerifierError
from rl_verifiers.text import (
    Extraction,
    bad_reference,
    choice_in,
    extraction,
    option_letter,
    reference,
)
from rl_verifiers.workers import (
    WorkerError,
    failure_score,
    inside_worker,
    run_inline,
    shared_pool,
)

LEAST_ECHO = 20
"""Characters of a prompt that is recognised in a completion."""
MOST_BESIDE = 40
"""Characters without letters or digits that may stand beside a prompt in other spelling."""
MAX_INLINE = 1_000
"""Longer answers are read in a worker, so that no answer holds up an event loop."""
MAX_RAW = 10 * MAX_CHARACTERS
"""Longest answer that is normalised at all."""
MAX_KEPT = 4096
"""References, and verdicts, that are kept for when they are asked for again."""
CPU_SECONDS = 5.0
WALL_SECONDS = 60.0
"""Second walls: the limits on work in :mod:`rl_verifiers.expressions` should be met long before."""

Verdict = Literal["correct", "wrong", "unparsable", "over_limit", "bad_reference"]


Pending = Callable[[], Score]
"""Waits for the worker that makes a comparison."""


@dataclass(frozen=True)
class MathVerifier:
    """See :func:`math_verifier`."""

    extract: Extraction
    strict: bool
    bounded = True
    reads = ("answer", "prompt")
    needs = ("answer",)

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks while a worker evaluates a symbolic answer."""
        begun = self.begin(completion, row)
        return begun if isinstance(begun, Score) else begun()

    def begin(self, completion: str, row: Row) -> Score | Pending:
        """The score where it is decided here; else what waits for a worker."""
        decided = self._inline(completion, row)
        if isinstance(decided, Score):
            return decided
        future = decided.submit()
        return lambda: _awaited(decided.found, future.result)

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion; other tasks run while a worker evaluates a symbolic answer."""
        decided = self._inline(completion, row)
        if isinstance(decided, Score):
            return decided
        try:
            return _score(decided.found, await asyncio.wrap_future(decided.submit()))
        except WorkerError as error:
            return _unanswered(error, decided.found)

    def _inline(self, completion: str, row: Row) -> Score | _Question:
        answer = reference(row)
        gold = None if answer is None else _gold(answer)
        if gold is None:
            return bad_reference(row)
        if self.strict:
            completion = without_echo(completion, row.get("prompt"))
        if gold.letter is not None:
            return _chosen(gold.letter, choice_in(completion, self.extract))
        found = extraction(self.extract)(completion)
        if not found:
            return Score.wrong("no answer found", status="no_answer")
        if len(found) > MAX_RAW and len(gold.text) <= MAX_CHARACTERS:
            return _score(found, ("over_limit", f"more than {MAX_RAW:,} characters"))
        return _decided(gold, normalised(found), EXACT_DIGITS if self.strict else ROUNDED_DIGITS)


def math_verifier(*, extract: Extraction = "final", strict: bool = True) -> MathVerifier:
    r"""The completion's answer equals ``row["answer"]`` as mathematics.

    Read are numbers in every spelling, fractions, percents, units, radicals, functions, equations,
    tuples, sets, intervals, inequalities, matrices, bases and words, in LaTeX or plain text. An
    answer that is not understood scores ``unparsable``; one that would cost too much work,
    ``over_limit``; a reference that is not understood, ``bad_reference`` (unless the answer is the
    same text). No text is ever evaluated as code.

    Rational numbers, polynomials and roots are compared exactly, and machine numbers with a bound
    on their error tell most of the rest apart (:mod:`rl_verifiers.quick`). What is left goes to a
    worker process, where numbers refute what differs, sympy decides about what agrees in sixty
    digits, and what sympy cannot settle within its limits passes if it agrees in some hundreds
    (:mod:`rl_verifiers.numeric`). All limits count work, so no verdict depends on the machine.

    Args:
        extract: Where the answer stands in the completion (see :mod:`rl_verifiers.extract`).
        strict: Off, a decimal of three digits or more may round the reference; on, one must have
            ten, so that 3.14 is not pi, and what repeats ``row["prompt"]`` is no answer.
    """
    extraction(extract)
    if not isinstance(strict, bool):
        raise VerifierError(f"math: strict is {strict!r:.40}; it must be true or false")
    return MathVerifier(extract, strict)


def without_echo(completion: str, prompt: object) -> str:
    """What a completion says beyond the prompt: a question that ends in its answer is none.

    Args:
        completion: What the model wrote.
        prompt: Text, or messages, of which the last counts; shorter than ``LEAST_ECHO``
            characters, it may be a part of any answer and is left.
    """
    if isinstance(prompt, list | tuple) and prompt and isinstance(prompt[-1], Mapping):
        prompt = prompt[-1].get("content")
    prompt = prompt.strip() if isinstance(prompt, str) else ""
    if len(prompt) < LEAST_ECHO:
        return completion
    if prompt in completion:
        return completion.replace(prompt, "\n\n")
    if len(completion) <= 2 * len(prompt) + MOST_BESIDE:
        rest = _folded(completion).replace(_folded(prompt), "")
        if len(rest) <= MOST_BESIDE and not any(map(str.isalnum, rest)):
            return ""
    return completion


def _folded(text: str) -> str:
    """Without case, white space and the marks at the end."""
    return "".join(text.casefold().split()).rstrip(".?!:")


def judge(gold: str, found: str, oracle: Callable[[], Oracle]) -> tuple[Verdict, str]:
    """Compare two normalised answers; the verdict and its reason.

    Args:
        gold: The reference.
        found: The answer.
        oracle: Makes one that decides about values.

    Raises:
        NeedsNumericError: From an oracle that leaves some questions to another.
    """
    try:
        wanted = _reference_tree(gold)
    except (UnparsableError, OverLimitError) as error:
        return "bad_reference", f"reference {gold!r:.80}: {error}"
    try:
        return ("correct" if same_answer(wanted, parse_answer(found), oracle()) else "wrong"), ""
    except NeedsNumericError:
        raise
    except (OverLimitError, RecursionError) as error:
        if is_over_limit(wanted, oracle()):
            return "bad_reference", f"reference {gold!r:.80}: {error}"
        return "over_limit", str(error)
    except ValueError as error:
        return "unparsable", f"{found!r:.80}: {error}"


def forget() -> None:
    """Forget references and verdicts that were kept, as a measurement must."""
    for kept in (_short_gold, _short_tree, _verdict):
        kept.cache_clear()
    _answered.clear()


def judge_numerically(gold: str, found: str, digits: int) -> tuple[Verdict, str]:
    """:func:`judge` by evaluation and algebra; what a worker runs."""
    from rl_verifiers.numeric import NumericOracle  # noqa: PLC0415 - it imports mpmath

    return judge(gold, found, lambda: NumericOracle(digits))


class _Gold(NamedTuple):
    """A reference, as far as it is read once for all its completions."""

    text: str
    letter: str | None
    value: Fraction | None
    words: str | None


def _gold(answer: str) -> _Gold | None:
    """None where the reference is empty."""
    return _short_gold(answer) if len(answer) <= MAX_INLINE else _read_gold(answer)


def _read_gold(answer: str) -> _Gold | None:
    text = normalised(answer)
    return _Gold(text, option_letter(text), number(text), folded_words(text)) if text else None


_short_gold = lru_cache(maxsize=MAX_KEPT)(_read_gold)


@dataclass(frozen=True)
class _Question:
    """A comparison that a worker must make."""

    gold: str
    found: str
    digits: int

    def submit(self) -> Future[tuple[Verdict, str]]:
        arguments = (self.gold, self.found, self.digits)
        done: Future[tuple[Verdict, str]] = Future()
        if self in _answered:
            done.set_result(_answered[self])
        elif not inside_worker():
            done = shared_pool().submit(
                judge_numerically, *arguments, cpu_s=CPU_SECONDS, wall_s=WALL_SECONDS
            )
            done.add_done_callback(self._keep)
        else:
            try:
                done.set_result(run_inline(judge_numerically, *arguments, cpu_s=CPU_SECONDS))
                self._keep(done)
            except WorkerError as error:
                done.set_exception(error)
        return done

    def _keep(self, done: Future[tuple[Verdict, str]]) -> None:
        if not done.cancelled() and done.exception() is None:
            if len(_answered) >= MAX_KEPT:
                _answered.clear()
            _answered[self] = done.result()


_answered: dict[_Question, tuple[Verdict, str]] = {}


def _decided(gold: _Gold, found: str, digits: int) -> Score | _Question:
    """The score where text, arithmetic or algebra decides, else the question."""
    same = _same_text(gold, found, digits)
    if same is not None:
        return _score(found, ("correct" if same else "wrong", ""))
    if max(len(gold.text), len(found)) > MAX_INLINE:
        return _large(gold.text, found, digits)
    verdict = _verdict(gold.text, found, digits)
    return _Question(gold.text, found, digits) if verdict is None else _score(found, verdict)


@lru_cache(maxsize=MAX_KEPT)
def _verdict(gold: str, found: str, digits: int) -> tuple[Verdict, str] | None:
    """None where a worker must decide."""
    try:
        return judge(gold, found, lambda: QuickOracle(digits))
    except NeedsNumericError:
        return None


def _large(gold: str, found: str, digits: int) -> Score | _Question:
    """Of an answer too long to parse, or of one for a worker."""
    if len(gold) > MAX_CHARACTERS:
        verdict: Verdict = "bad_reference"
    elif len(found) > MAX_CHARACTERS:
        verdict = "over_limit"
    else:
        return _Question(gold, found, digits)
    return _score(found, (verdict, f"more than {MAX_CHARACTERS:,} characters"))


def _score(found: str, verdict: tuple[Verdict, str]) -> Score:
    status, reason = verdict
    if status == "correct":
        return Score.correct(answer=found)
    return Score.wrong(reason or f"{found!r:.80} is not the answer", status=status, answer=found)


def _awaited(found: str, result: Callable[[], tuple[Verdict, str]]) -> Score:
    try:
        return _score(found, result())
    except WorkerError as error:
        return _unanswered(error, found)


def _unanswered(error: WorkerError, found: str) -> Score:
    return replace(failure_score(error), answer=found)


def _same_text(gold: _Gold, found: str, digits: int) -> bool | None:
    """The verdict where text or plain numbers decide; None where the answers must be parsed."""
    if gold.text == found:
        return True
    if found.isdecimal() and gold.text.isdecimal() and found.isascii() and gold.text.isascii():
        return found.lstrip("0") == gold.text.lstrip("0")
    if gold.value is not None and (value := number(found)) is not None:
        return same_number(gold.value, value, digits)
    return True if gold.words is not None and gold.words == folded_words(found) else None


def _chosen(wanted: str, found: str | None) -> Score:
    if found is None:
        return Score.wrong("no option found", status="no_answer")
    if found == wanted:
        return Score.correct(answer=found)
    return Score.wrong(f"{found} is not the answer", answer=found)


def _reference_tree(gold: str) -> Node:
    return _short_tree(gold) if len(gold) <= MAX_INLINE else parse_answer(gold)


_short_tree = lru_cache(maxsize=MAX_KEPT)(parse_answer)
