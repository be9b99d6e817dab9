"""Rewards and penalties for the length of a completion."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from rl_verifiers.option_checks import check_number, check_one_of
from rl_verifiers.runner import is_bounded, score_one, score_sync
from rl_verifiers.score import Row, Score, Verifier, VerifierError

Unit = Literal["characters", "words", "tokens"]


def soft_overlong(n: int, max_length: int, buffer: int) -> float:
    """The soft overlong punishment of DAPO (arXiv 2503.14476, equation 13).

    ``0`` up to ``max_length - buffer``, then falling linearly to ``-1`` at ``max_length``, and
    ``-1`` beyond.

    Args:
        n: The length of the completion.
        max_length: The length from which the punishment is full (L_max).
        buffer: The length of the ramp before it (L_cache); 0 for a step after ``max_length``.

    Raises:
        ValueError: Not ``0 <= buffer <= max_length``.
    """
    if not 0 <= buffer <= max_length:
        raise ValueError(f"need 0 <= buffer <= max_length, not buffer={buffer}, {max_length=}")
    if n <= max_length - buffer:
        return 0.0
    return (max_length - buffer - n) / buffer if n <= max_length else -1.0


def length_of(completion: str, row: Row, unit: Unit) -> int:
    """The length of a completion in characters, words, or tokens as counted in ``row["n_tokens"]``.

    Raises:
        VerifierError: Tokens are asked for and the row does not tell them.
    """
    if unit == "characters":
        return len(completion)
    if unit == "words":
        return len(completion.split())
    count = row.get("n_tokens")
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise VerifierError(
            f"length in tokens needs the row's column n_tokens (a whole number), not {count!r}; "
            'set unit="characters" or "words" where tokens are not counted'
        )
    return count


@dataclass(frozen=True)
class LengthPenalty:
    """See :func:`length_penalty`."""

    verifier: Verifier
    max_length: int
    buffer: int
    unit: Unit

    @property
    def bounded(self) -> bool:
        """Whether the verifier inside bounds its own work."""
        return is_bounded(self.verifier)

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks where the verifier inside is async."""
        return score_sync(self, completion, row)

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        punishment = soft_overlong(
            length_of(completion, row, self.unit), self.max_length, self.buffer
        )
        score = await score_one(self.verifier, completion, row)
        if score.is_error:
            return score
        parts = {"score": score.value, **score.parts, "length_penalty": punishment}
        return replace(score, value=score.value + punishment, parts=parts)


def length_penalty(
    verifier: Verifier, *, max_length: int, buffer: int, unit: Unit = "characters"
) -> LengthPenalty:
    """Add :func:`soft_overlong` to the value of ``verifier``; passing stays as it is.

    Args:
        verifier: What judges the content.
        max_length: Length of the full punishment of -1.
        buffer: Length of the ramp before it.
        unit: What length is counted in; tokens come from ``row["n_tokens"]``.

    Raises:
        VerifierError: Lengths that contradict each other, or an unknown unit.
    """
    _check(max_length, buffer, unit)
    return LengthPenalty(verifier, max_length, buffer, unit)


@dataclass(frozen=True)
class LengthReward:
    """See :func:`length_reward`."""

    max_length: int
    buffer: int
    unit: Unit
    bounded = True

    @property
    def reads(self) -> tuple[str, ...]:
        """The row's columns that the score depends on."""
        return ("n_tokens",) if self.unit == "tokens" else ()

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        length = length_of(completion, row, self.unit)
        value = 1.0 + soft_overlong(length, self.max_length, self.buffer)
        reason = f"{length} {self.unit}"
        return (
            Score(value, True, "correct", reason)
            if value == 1.0
            else Score.wrong(reason, value=value)
        )


def length_reward(*, max_length: int, buffer: int = 0, unit: Unit = "characters") -> LengthReward:
    """1 up to ``max_length - buffer``, falling to 0 at ``max_length``: a length limit as a reward.

    Args:
        max_length: Length from which the value is 0.
        buffer: Length of the ramp before it; a completion on the ramp does not pass.
        unit: What length is counted in; tokens come from ``row["n_tokens"]``.

    Raises:
        VerifierError: Lengths that contradict each other, or an unknown unit.
    """
    _check(max_length, buffer, unit)
    return LengthReward(max_length, buffer, unit)


def _check(max_length: int, buffer: int, unit: str) -> None:
    check_one_of("length", "unit", unit, get_args(Unit))
    check_number("length", "max_length", max_length)
    check_number("length", "buffer", buffer, least=-math.inf)
    try:
        soft_overlong(0, max_length, buffer)
    except ValueError as error:
        raise VerifierError(f"length: {error}") from None
