"""Process rewards: a completion is cut into steps, and every step is scored."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from rl_verifiers.arithmetic import Equation, equations
from rl_verifiers.expressions import OverLimitError
from rl_verifiers.option_checks import check_flags, check_number, check_one_of
from rl_verifiers.registry import names
from rl_verifiers.runner import is_bounded, score_one, score_sync
from rl_verifiers.score import Row, Score, Verifier
from rl_verifiers.shown import shown
from rl_verifiers.targets import built

MAX_STEPS = 1_000
SHOWN_STEPS = 64
"""Steps whose values are shown as parts."""

Split = Literal["paragraph", "line", "step", "tag"]
Aggregate = Literal["min", "product", "mean", "last"]
Source = Literal["arithmetic", "labels"]

_STEP = re.compile(r"^[ \t]{0,9}(?:[*#]{1,6}[ \t]?)?Step[ \t]{1,3}\d{1,4}\b", re.I | re.M)
_PARAGRAPH = re.compile(r"\n[ \t]*\n")
_TAG = re.compile(r"<(/?)step>", re.IGNORECASE)
_LABELS = {"+": 1.0, "-": 0.0}


def steps_of(completion: str, split: Split) -> list[str]:
    """The steps of a completion, empty ones left out.

    Args:
        completion: The text; its ``<think>`` tags are white space.
        split: ``paragraph`` cuts at blank lines, ``line`` at every line, ``step`` where a line
            begins with "Step 1" (what comes before the first is a step, too), ``tag`` takes what
            follows each ``<step>``, up to ``</step>``, the next ``<step>`` or the end: a step that
            is not closed is a step.
    """
    text = re.sub(r"</?think>", "\n\n", completion)
    if split == "paragraph":
        pieces = _PARAGRAPH.split(text)
    elif split == "line":
        pieces = text.split("\n")
    elif split == "step":
        cuts = [0, *(match.start() for match in _STEP.finditer(text)), len(text)]
        pieces = [text[a:b] for a, b in itertools.pairwise(cuts)]
    else:
        pieces = _tagged(text)
    return [piece.strip() for piece in pieces if piece.strip()]


def _tagged(text: str) -> list[str]:
    pieces: list[str] = []
    start: int | None = None
    for match in _TAG.finditer(text):
        if start is not None:
            pieces.append(text[start : match.start()])
        start = None if match[1] else match.end()
    return pieces if start is None else [*pieces, text[start:]]


def aggregated(values: Sequence[float], how: Aggregate) -> float:
    """One value of the steps' values; there must be one.

    ``min`` as in Math-Shepherd (arXiv 2312.08935), ``product`` as in "Let's Verify Step by Step"
    (arXiv 2305.20050), ``mean`` or ``last``.
    """
    if how == "min":
        return min(values)
    if how == "product":
        return math.prod(values)
    return math.fsum(values) / len(values) if how == "mean" else values[-1]


@dataclass(frozen=True)
class Steps:
    """See :func:`process_steps`."""

    source: Source | None
    verifier: Verifier | None
    split: Split
    aggregate: Aggregate
    so_far: bool
    threshold: float

    @property
    def bounded(self) -> bool:
        """Whether the verifier of the steps bounds its own work."""
        return self.verifier is None or is_bounded(self.verifier)

    @property
    def reads(self) -> tuple[str, ...] | None:
        """The row's columns that the score depends on; None where the verifier does not say."""
        if self.verifier is not None:
            return getattr(self.verifier, "reads", None)
        return ("step_labels",) if self.source == "labels" else ()

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks where the steps' verifier is async."""
        return score_sync(self, completion, row)

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion, its steps one after the other."""
        steps = steps_of(completion, self.split)
        if not steps:
            return Score.wrong("no steps", status="no_answer")
        if len(steps) > MAX_STEPS:
            return Score.wrong(f"over {MAX_STEPS:,} steps", status="over_limit")
        if self.verifier is not None:
            scores = await self._verified(steps, row)
        elif self.source == "labels":
            scores = _labelled(row.get("step_labels"), len(steps))
        else:
            return self._calculated(steps)
        return scores if isinstance(scores, Score) else self._joined(scores)

    def _calculated(self, steps: Sequence[str]) -> Score:
        try:
            found = [list(equations(step)) for step in steps]
        except OverLimitError as error:
            return Score.wrong(str(error), status="over_limit")
        counted = [index for index, each in enumerate(found) if each]
        if not counted:
            return Score.wrong("no arithmetic to check", status="no_answer")
        score = self._joined([_share_that_holds(each) for each in found], counted)
        total = float(sum(map(len, found)))
        return replace(score, parts={**score.parts, "equations": total})

    async def _verified(self, steps: Sequence[str], row: Row) -> list[Score] | Score:
        assert self.verifier is not None
        scores: list[Score] = []
        text = ""
        for number, step in enumerate(steps):
            text = f"{text}\n\n{step}" if self.so_far and text else step
            score = await score_one(self.verifier, text, row)
            if score.is_error:
                return Score.failed(f"step {number}: {score.error}")
            if score.status == "bad_reference":
                return score
            scores.append(score)
        return scores

    def _joined(self, scores: Sequence[Score], counted: Sequence[int] | None = None) -> Score:
        """One score of the steps', of those ``counted`` where that is given."""
        values = [score.value for score in scores]
        kept = values if counted is None else [values[index] for index in counted]
        value = aggregated(kept, self.aggregate)
        wrong = next((i for i, v in enumerate(values) if v < self.threshold), -1)
        parts = {f"step_{i}": v for i, v in enumerate(values[:SHOWN_STEPS])}
        parts["first_wrong_step"] = float(wrong)
        reason = f"{len(values)} steps"
        if wrong >= 0:
            said = scores[wrong].reason or f"value {values[wrong]:g}"
            reason += f"; step {wrong}: {said}"
        if value >= self.threshold:
            return Score(value, True, "correct", reason, parts)
        return Score(value, False, "wrong", reason, parts)


def process_steps(
    *,
    verifier: object = "arithmetic",
    split: Split = "paragraph",
    aggregate: Aggregate = "min",
    so_far: bool = False,
    threshold: float = 1.0,
) -> Steps:
    """Every step of the completion is right: by its arithmetic, by labels, or by a verifier.

    The parts are ``step_0``, ``step_1``, ..., ``first_wrong_step`` (from 0; -1 for none) and, for
    arithmetic, ``equations``, their number. That the steps hold does not make an answer right, nor
    much of one (``1 + 1 = 2`` is a step that holds): combine it with a verifier of the answer, as
    in ``gate(make("math"), make("steps"))``.

    Args:
        verifier: ``arithmetic``: the share of the equations between numbers in a step that hold
            (:func:`rl_verifiers.arithmetic.equations`); a step without any shows 1 and is left out
            of the aggregate, and a completion without any has no answer. ``labels``: the row's
            column ``step_labels``, for each step a number within 0..1, a boolean, ``+`` or ``-``;
            the text is not looked at, so they fit the recorded completion only that they were made
            for, and no new one. Else a verifier, or the name or
            ``{"name": ..., **options}`` of one, that scores every step as if it were a completion.
        split: Where steps end: see :func:`steps_of`.
        aggregate: ``min``, ``product``, ``mean`` or ``last`` of the steps' values.
        so_far: Whether the verifier sees all steps up to the one it scores.
        threshold: The value that passes, and below which a step is wrong.

    Raises:
        VerifierError: An unknown verifier, split or aggregate, a threshold that is not above 0 and
            at most 1, or ``so_far`` that is no boolean.
    """
    check_one_of("steps", "split", split, get_args(Split))
    check_one_of("steps", "aggregate", aggregate, get_args(Aggregate))
    check_flags("steps", so_far=so_far)
    check_number("steps", "threshold", threshold, most=1, above=True)
    if isinstance(verifier, str):
        check_one_of("steps", "verifier", verifier, (*get_args(Source), *names()))
    source: Source | None = None
    if verifier == "arithmetic":
        source = "arithmetic"
    elif verifier == "labels":
        source = "labels"
    inner = built(verifier, {}) if source is None else None
    return Steps(source, inner, split, aggregate, so_far, threshold)


def _share_that_holds(found: Sequence[Equation]) -> Score:
    bad = [equation.text for equation in found if not equation.holds]
    share = 1.0 - len(bad) / len(found) if found else 1.0
    reason = f"{bad[0]:.80} does not hold" if bad else ""
    return Score(share, not bad, "wrong" if bad else "correct", reason)


def _labelled(labels: Any, count: int) -> list[Score] | Score:
    try:
        labels = json.loads(labels) if isinstance(labels, str) else labels
    except (ValueError, RecursionError):
        return Score.wrong(f"unusable step_labels {shown(labels)}", status="bad_reference")
    if not isinstance(labels, list | tuple) or not labels:
        return Score.wrong(f"unusable step_labels {shown(labels)}", status="bad_reference")
    values = [_label(label) for label in labels]
    if None in values:
        bad = labels[values.index(None)]
        return Score.wrong(f"step_labels: {shown(bad, 40)} is no label", status="bad_reference")
    if len(values) != count:
        return Score.wrong(f"{len(values)} step_labels but {count} steps", status="bad_reference")
    return [
        Score(value, value > 0, "correct" if value > 0 else "wrong")
        for value in values
        if value is not None
    ]


def _label(label: Any) -> float | None:
    if isinstance(label, str):
        return _LABELS.get(label.strip())
    if not isinstance(label, int | float) or not 0 <= label <= 1:
        return None
    return float(label)
