"""The contract of every verifier: text and a row in, a :class:`Score` out."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Status = Literal[
    "correct", "wrong", "no_answer", "unparsable", "over_limit", "bad_reference", "error"
]
STATUSES: tuple[str, ...] = get_args(Status)

Row = Mapping[str, Any]
"""What a verifier sees beside the completion: ``id``, ``prompt``, ``answer``, free columns."""


class VerifierError(Exception):
    """A verifier broke its contract (NaN, wrong type, unknown name): the author must mend it."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a verifier says of one completion.

    Attributes:
        value: The reward, a finite float; by convention within 0..1.
        passed: Whether the completion counts as solved (what pass@k and accuracy count).
        status: Why: one of ``STATUSES``. ``error`` means that *we* failed (a sandbox died, a judge
            could not be reached): such a sample is retried, then left out of training and counted,
            and is never a reward of 0. A wrong answer is never an error.
        reason: One line for a person.
        parts: The named components the value was made from.
        error: What went wrong on our side; set if and only if ``status`` is ``error``.
        answer: The answer that was found in the completion, where the verifier looks for one; what
            a majority vote counts.
    """

    value: float
    passed: bool
    status: Status
    reason: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    answer: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise VerifierError(f"unknown score status {self.status!r}; one of {STATUSES}")
        bad = {"value": self.value, **self.parts}
        for name, number in bad.items():
            if not math.isfinite(number):
                raise VerifierError(f"score {name} is {number}; a score must be a finite number")
        if (self.status == "error") != (self.error is not None):
            raise VerifierError("a score has status 'error' if and only if it carries an error")

    @classmethod
    def correct(cls, reason: str = "", *, value: float = 1.0, answer: str | None = None) -> Score:
        """A solved task."""
        return cls(float(value), True, "correct", reason, answer=answer)

    @classmethod
    def wrong(
        cls,
        reason: str = "",
        *,
        status: Status = "wrong",
        value: float = 0.0,
        answer: str | None = None,
    ) -> Score:
        """An unsolved task; ``status`` says why (``no_answer``, ``bad_reference``, ...)."""
        return cls(float(value), False, status, reason, answer=answer)

    @classmethod
    def failed(cls, error: str) -> Score:
        """Our own failure. ``value`` is 0 only because a float must stand there; do not train."""
        return cls(0.0, False, "error", error, error=error)

    @property
    def is_error(self) -> bool:
        """Whether the sample must be left out because we could not judge it."""
        return self.status == "error"


Verdict = Score | float | bool | int
Verifier = Callable[[str, Row], Verdict | Awaitable[Verdict]]
"""``verifier(completion, row) -> Score``, sync or async; a plain float is accepted everywhere."""
