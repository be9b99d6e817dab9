"""What a learned reward is made of: models combined, rules, guards, and an unpaid gold."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

from rl_envs.tasks import DataError
from rl_verifiers.combine import first_error, parts_of
from rl_verifiers.length import length_of, soft_overlong
from rl_verifiers.runner import score_one, score_sync
from rl_verifiers.score import Row, Score, Verifier, VerifierError

COMBINATIONS = ("sum", "min", "llama2")
HELPFULNESS, SAFETY = "helpfulness", "safety"
_LENGTH, _REPETITION = "guard/length", "guard/repetition"  # parts; a label has no slash
_EDGE = 1e-9  # of a probability: its log-odds then lie within -20.7..20.7


@dataclass(frozen=True)
class Part:
    """A verifier, what its values are called, and what they are multiplied with."""

    label: str
    verifier: Verifier
    weight: float


@dataclass(frozen=True)
class Combination:
    """How the values of several reward models become one.

    Attributes:
        rule: One of ``COMBINATIONS``.
        threshold: For ``llama2``: below it the safety model decides.
        unsafe_column: For ``llama2``: a column of the row that is true for prompts that may elicit
            unsafe answers; there the safety model always decides.
        mean: For ``llama2``: taken off the log-odds.
        std: For ``llama2``: what they are divided by.
    """

    rule: Literal["sum", "min", "llama2"] = "sum"
    threshold: float = 0.15
    unsafe_column: str = "unsafe"
    mean: float = 0.0
    std: float = 1.0

    def __call__(
        self, models: Sequence[Part], scores: Mapping[str, Score], row: Row
    ) -> tuple[float, dict[str, float]]:
        """The reward of all models together, and more parts to show."""
        if self.rule != "llama2":
            weighted = [part.weight * scores[part.label].value for part in models]
            return (math.fsum(weighted) if self.rule == "sum" else min(weighted)), {}
        value, by_safety = llama2_reward(
            scores[HELPFULNESS].value,
            scores[SAFETY].value,
            unsafe=_is_true(row.get(self.unsafe_column)),
            threshold=self.threshold,
        )
        return (value - self.mean) / self.std, {"models/by_safety": float(by_safety)}


def _is_true(value: object) -> bool:
    """Of a column: CSV files hold texts."""
    if isinstance(value, str):
        return value.strip().lower() not in ("", "0", "0.0", "false", "no", "none", "null")
    return bool(value)


def llama2_reward(
    helpfulness: float, safety: float, *, unsafe: bool, threshold: float = 0.15
) -> tuple[float, bool]:
    """The combined reward of Llama 2 (Touvron et al. 2023, arXiv:2307.09288, section 3.2.3).

    ``R_c = R_s`` where the prompt is tagged as unsafe or ``R_s < threshold``, else ``R_h``; the
    reward is ``logit(R_c)``, the linear score before the sigmoid, which the paper then whitens.
    Whitening over a batch is the trainer's (group advantages do it within a group); a fixed mean
    and deviation are options of the combination.

    Args:
        helpfulness: R_h, the helpfulness model's probability, 0..1.
        safety: R_s, the safety model's.
        unsafe: Whether the prompt is tagged as one that may elicit unsafe answers.
        threshold: The paper's 0.15 had a precision of 0.89 and a recall of 0.55 on its test set.

    Returns:
        The log-odds, kept within -20.7..20.7, and whether they are the safety model's.

    Raises:
        VerifierError: A value that is no probability.
    """
    for name, value in ((HELPFULNESS, helpfulness), (SAFETY, safety)):
        if not 0.0 <= value <= 1.0:
            raise VerifierError(
                f"combine: llama2 takes probabilities, but {name} is {value:g}; set its "
                "normalize to sigmoid"
            )
    by_safety = unsafe or safety < threshold
    chosen = min(max(safety if by_safety else helpfulness, _EDGE), 1.0 - _EDGE)
    return math.log(chosen) - math.log1p(-chosen), by_safety


def check_combination(combination: Combination, models: Sequence[Part], place: str) -> Combination:
    """The combination, if it can be of these models.

    Raises:
        DataError: It cannot.
    """
    if combination.rule == "llama2":
        labels = sorted(part.label for part in models)
        if labels != [HELPFULNESS, SAFETY] or any(part.weight != 1.0 for part in models):
            raise DataError(
                f"{place}: llama2 takes two reward models called {HELPFULNESS} and {SAFETY}, "
                f"without weights, not {', '.join(labels) or 'none'}"
            )
        if not 0.0 <= combination.threshold <= 1.0:
            raise DataError(f"{place}: threshold is {combination.threshold}; it must be 0 to 1")
        if not (math.isfinite(combination.mean) and 0 < combination.std < math.inf):
            raise DataError(f"{place}: mean and std must be numbers, std above 0")
    return combination


@dataclass(frozen=True)
class LengthGuard:
    """What a completion loses for its length.

    Attributes:
        max_length: The length at which ``penalty`` is lost in full; None for no limit.
        buffer: The length of the ramp before it (``soft_overlong``).
        unit: ``characters`` or ``words``; tokens are the trainer's to count.
        penalty: What is lost at ``max_length`` and beyond.
        per_unit: What every unit costs: the length-controlled reward r - per_unit * length.
    """

    max_length: int | None = None
    buffer: int = 0
    unit: Literal["characters", "words"] = "characters"
    penalty: float = 1.0
    per_unit: float = 0.0

    def checked(self, place: str) -> Self:
        """Itself.

        Raises:
            DataError: Values that cannot work.
        """
        if self.unit not in ("characters", "words"):
            raise DataError(
                f"{place}: unit is {self.unit!r:.40}; it must be characters or words (for tokens "
                "set algorithm.overlong_buffer)"
            )
        if self.max_length is None and not self.per_unit:
            raise DataError(f"{place}: give max_length, per_unit, or both")
        numbers = (self.max_length or 0, self.buffer, self.penalty, self.per_unit)
        usable = all(
            isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n < math.inf
            for n in numbers
        )
        if not usable or (self.max_length is not None and self.buffer > self.max_length):
            raise DataError(
                f"{place}: max_length, buffer, penalty and per_unit are 0 or more, and buffer at "
                "most max_length"
            )
        return self

    def __call__(self, completion: str, row: Row) -> float:
        """0, or what is lost, as a number below 0."""
        n = length_of(completion, row, self.unit)
        lost = self.per_unit * n
        if self.max_length is not None:
            lost -= self.penalty * soft_overlong(n, self.max_length, self.buffer)
        return -lost or 0.0


@dataclass(frozen=True)
class LearnedJudge:
    """The verdict of a learned reward: see ``LearnedReward``.

    Attributes:
        models: The reward models.
        rules: Verifiers whose weighted values are added.
        combination: Makes one value of the models'.
        shown: The row as the policy saw it; the models and rules read that one.
        length: A guard, or None.
        repetition: The verifier ``repetition``, or None.
        gold: Measured, never paid; reads the row as it is.
    """

    models: tuple[Part, ...]
    rules: tuple[Part, ...]
    combination: Combination
    shown: Callable[[Row], Row]
    length: LengthGuard | None = None
    repetition: Verifier | None = None
    gold: Verifier | None = None
    bounded = True
    waits = True  # for reward models, endpoints and sandboxes

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks."""
        return score_sync(self, completion, row)

    def prepare(self) -> None:
        """Let every verifier find out what it needs."""
        for verifier in (*(part.verifier for part in self._paid), self.gold):
            getattr(verifier, "prepare", lambda: None)()

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion; all parts run at once."""
        shown = self.shown(row)
        judged, gold = await asyncio.gather(
            asyncio.gather(*(score_one(p.verifier, completion, shown) for p in self._paid)),
            self._measured(completion, row),
        )
        scores = {part.label: each for part, each in zip(self._paid, judged, strict=True)}
        failed = first_error(scores)
        if failed is not None:
            return failed
        return self._whole(completion, row, scores, gold)

    def _whole(
        self,
        completion: str,
        row: Row,
        scores: Mapping[str, Score],
        gold: Mapping[str, float],
    ) -> Score:
        """One score of all parts."""
        together, more = self.combination(self.models, scores, row)
        parts = {**parts_of(scores), "models/value": together, **more}
        if self.length is not None:
            parts[_LENGTH] = self.length(completion, row)
        value = math.fsum(
            [
                together,
                *(part.weight * scores[part.label].value for part in self.rules),
                parts.get(_LENGTH, 0.0),
                parts.get(_REPETITION, 0.0),
            ]
        )
        needed = [p.label for p in (*self.models, *self.rules) if p.weight > 0]
        failing = next((label for label in needed if not scores[label].passed), None)
        if failing is None:
            whole = Score.correct(f"reward {value:.3f}", value=value)
        else:
            whole = replace(
                scores[failing],
                value=value,
                reason=f"reward {value:.3f}; {failing}: {scores[failing].reason}",
                answer=None,
            )
        return replace(whole, parts={**parts, **gold})

    async def _measured(self, completion: str, row: Row) -> dict[str, float]:
        """The gold verdict as parts; a gold that fails us changes neither reward nor training."""
        if self.gold is None:
            return {}
        score = await score_one(self.gold, completion, row)
        if score.is_error:
            score = await score_one(self.gold, completion, row)
        if score.is_error:
            return {"gold/failed": 1.0}
        named = {"value": score.value, "passed": float(score.passed), **score.parts, "failed": 0.0}
        return {f"gold/{name}": number for name, number in named.items()}

    @property
    def _paid(self) -> tuple[Part, ...]:
        guard = () if self.repetition is None else (Part(_REPETITION, self.repetition, 0.0),)
        return (*self.models, *self.rules, *guard)
