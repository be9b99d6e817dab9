"""Verifiers made of verifiers. Every part stays visible under its name in ``Score.parts``.

An error in any part makes the whole an error: a judge that could not be reached must not look like
a partial zero.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rl_verifiers.runner import is_bounded, score_one, score_sync, to_score, verifier_name
from rl_verifiers.score import Row, Score, Status, Verdict, Verifier, VerifierError

GroupVerifier = Callable[
    [Sequence[str], Sequence[Row]], Sequence[Verdict] | Awaitable[Sequence[Verdict]]
]
"""Judges all completions of one task together: ``(completions, rows) -> verdicts``, in order.

A verdict is a Score, or a number that :func:`~rl_verifiers.runner.to_score` reads.
"""

Rule = Callable[[Mapping[str, Score]], Score]


@dataclass(frozen=True)
class Combined:
    """Several verifiers and the rule that makes one score of theirs."""

    verifiers: Mapping[str, Verifier]
    rule: Rule

    @property
    def bounded(self) -> bool:
        """Whether all parts bound their own work."""
        return all(map(is_bounded, self.verifiers.values()))

    @property
    def reads(self) -> tuple[str, ...] | None:
        """The columns that the parts read; None where one does not say."""
        return read_by(*self.verifiers.values())

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks where a part is async."""
        return score_sync(self, completion, row)

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion; the parts run concurrently."""
        scoring = (score_one(part, completion, row) for part in self.verifiers.values())
        scores = dict(zip(self.verifiers, await asyncio.gather(*scoring), strict=True))
        failed = first_error(scores)
        if failed is not None:
            return failed
        return replace(_blamed(self.rule(scores), scores), answer=_one_answer(scores))


def _blamed(whole: Score, scores: Mapping[str, Score]) -> Score:
    """A failure with a part that could not use the row is the row's, whatever else failed."""
    for name, score in scores.items():
        if score.status == "bad_reference" and not whole.passed:
            return replace(whole, status="bad_reference", reason=f"{name}: {score.reason}")
    return whole


def _one_answer(scores: Mapping[str, Score]) -> str | None:
    """The answer that the parts found; None where they found none, or different ones."""
    found = {score.answer for score in scores.values() if score.answer is not None}
    return found.pop() if len(found) == 1 else None


def read_by(*verifiers: Verifier) -> tuple[str, ...] | None:
    """The columns that verifiers say they read (``reads``), together; None where one is silent."""
    named: dict[str, None] = {}
    for verifier in verifiers:
        reads = getattr(verifier, "reads", None)
        if reads is None:
            return None
        named.update(dict.fromkeys(reads))
    return tuple(named)


def first_error(scores: Mapping[str, Score]) -> Score | None:
    """The error of the first part that has one, under that part's name; None without errors."""
    for name, score in scores.items():
        if score.is_error:
            return replace(Score.failed(f"{name}: {score.error}"), parts=parts_of(scores))
    return None


def parts_of(scores: Mapping[str, Score]) -> dict[str, float]:
    """The values by name, and the parts of the parts as ``name.part``; those of errors left out."""
    parts: dict[str, float] = {}
    for name, score in scores.items():
        if not score.is_error:
            parts[name] = score.value
            parts.update({f"{name}.{part}": value for part, value in score.parts.items()})
    return parts


def weighted(parts: Mapping[str, tuple[Verifier, float]]) -> Combined:
    """The sum of weight times value; passed when every part with a positive weight passed.

    Args:
        parts: ``{name: (verifier, weight)}``. Weights need not sum to one; a negative one punishes.

    Raises:
        VerifierError: No parts, or a weight that is not a finite number.
    """
    _check_names(parts)
    weights = {name: float(weight) for name, (_, weight) in parts.items()}
    for name, weight in weights.items():
        if not math.isfinite(weight):
            raise VerifierError(f"weighted: the weight of {name!r} is {weight}")
    return Combined({name: part for name, (part, _) in parts.items()}, _Weighted(weights))


def all_of(parts: Mapping[str, Verifier]) -> Combined:
    """Passed when every part passed; the value is the smallest."""
    _check_names(parts)
    return Combined(dict(parts), _Extreme("all"))


def any_of(parts: Mapping[str, Verifier]) -> Combined:
    """Passed when a part passed; the value is the largest."""
    _check_names(parts)
    return Combined(dict(parts), _Extreme("any"))


@dataclass(frozen=True)
class Gate:
    """See :func:`gate`."""

    condition: Verifier
    then: Verifier

    @property
    def bounded(self) -> bool:
        """Whether both verifiers bound their own work."""
        return is_bounded(self.condition) and is_bounded(self.then)

    @property
    def reads(self) -> tuple[str, ...] | None:
        """The columns that both read; None where one does not say."""
        return read_by(self.condition, self.then)

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks where a part is async."""
        return score_sync(self, completion, row)

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion; ``then`` runs only where the condition passed."""
        scores = {"condition": await score_one(self.condition, completion, row)}
        if scores["condition"].passed:
            scores["then"] = await score_one(self.then, completion, row)
        failed = first_error(scores)
        if failed is not None:
            return failed
        deciding = scores["then"] if "then" in scores else replace(scores["condition"], value=0.0)
        return replace(deciding, parts=parts_of(scores))


def gate(condition: Verifier, then: Verifier) -> Gate:
    """``then`` where ``condition`` passed, else value 0 with the condition's status and reason."""
    return Gate(condition, then)


async def score_group(
    verifier: GroupVerifier, completions: Sequence[str], rows: Sequence[Row]
) -> list[Score]:
    """Run a group-wise verifier on all completions of one task.

    Raises:
        VerifierError: It gave another number of verdicts, or one that is not a finite number, a
            bool or a Score.
    """
    result = verifier(completions, rows)
    verdicts = list(await result if isinstance(result, Awaitable) else result)
    if len(verdicts) != len(completions):
        raise VerifierError(
            f"group verifier {verifier_name(verifier)} returned {len(verdicts)} results for "
            f"{len(completions)} completions; it must return one for each"
        )
    return [to_score(v, verifier=verifier, row=row) for v, row in zip(verdicts, rows, strict=True)]


@dataclass(frozen=True)
class ShortestCorrect:
    """See :func:`shortest_correct_bonus`."""

    verifier: Verifier
    bonus: float

    async def __call__(self, completions: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        """Score the completions of one task."""
        pairs = zip(completions, rows, strict=True)
        scores = await asyncio.gather(*(score_one(self.verifier, *pair) for pair in pairs))
        lengths = [len(text) for text in completions]
        solved = [n for n, score in zip(lengths, scores, strict=True) if score.passed]
        if not solved:
            return list(scores)
        short, long = min(solved), max(solved)
        return [
            self._rewarded(score, (long - n) / (long - short) if long > short else 0.0)
            for n, score in zip(lengths, scores, strict=True)
        ]

    def _rewarded(self, score: Score, share: float) -> Score:
        if not score.passed:
            return score
        parts = {"score": score.value, **score.parts, "brevity": self.bonus * share}
        return replace(score, value=score.value + self.bonus * share, parts=parts)


def shortest_correct_bonus(verifier: Verifier, *, bonus: float = 0.1) -> ShortestCorrect:
    """A group-wise verifier: among the passed completions the shortest gets ``bonus``.

    The longest passed one gets nothing, the others a share that is linear in their length in
    characters, as in the length reward of Kimi k1.5 (arXiv 2501.12599, section 2.3.3); wrong
    completions keep their score, so that being short never pays by itself.
    """
    return ShortestCorrect(verifier, bonus)


@dataclass(frozen=True)
class _Weighted:
    weights: Mapping[str, float]

    def __call__(self, scores: Mapping[str, Score]) -> Score:
        value = math.fsum(self.weights[name] * score.value for name, score in scores.items())
        needed = {name: score for name, score in scores.items() if self.weights[name] > 0}
        return _joined(scores, value, *_verdict(needed, all(s.passed for s in needed.values())))


@dataclass(frozen=True)
class _Extreme:
    kind: Literal["all", "any"]

    def __call__(self, scores: Mapping[str, Score]) -> Score:
        choose, holds = (min, all) if self.kind == "all" else (max, any)
        value = choose(score.value for score in scores.values())
        passed = holds(score.passed for score in scores.values())
        return _joined(scores, value, *_verdict(scores, passed))


def _verdict(scores: Mapping[str, Score], passed: bool) -> tuple[Status, str]:
    """``correct``, or the status and reason of the first part that did not pass."""
    for name, score in scores.items():
        if not passed and not score.passed:
            return score.status, f"{name}: {score.reason}"
    return "correct", ""


def _joined(scores: Mapping[str, Score], value: float, status: Status, reason: str) -> Score:
    return Score(value, status == "correct", status, reason, parts_of(scores))


def _check_names(parts: Mapping[str, object]) -> None:
    if not parts:
        raise VerifierError("a combination needs at least one part")
    for name in parts:
        if not isinstance(name, str) or not name or "." in name:
            raise VerifierError(f"a part's name is text without a full stop, not {name!r}")
