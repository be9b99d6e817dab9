"""The verifier of mathematical answers."""

from __future__ import annotations

from dataclasses import dataclass

from rl_verifiers.quantities import normalised, number
from rl_verifiers.score import Row, Score
from rl_verifiers.text import Extraction, bad_reference, extraction, reference


@dataclass(frozen=True)
class MathVerifier:
    """See :func:`math_verifier`."""

    extract: Extraction
    strict: bool
    bounded = True

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        wanted = reference(row)
        if wanted is None:
            return bad_reference(row)
        found = extraction(self.extract)(completion)
        if not found:
            return Score.wrong("no answer found", status="no_answer")
        wanted, found = normalised(wanted), normalised(found)
        if wanted == found:
            return Score.correct("same text")
        value, other = number(wanted), number(found)
        if value is not None and value == other:
            return Score.correct("same number")
        return Score.wrong(f"{found!r:.80} is not the answer")


def math_verifier(*, extract: Extraction = "final", strict: bool = True) -> MathVerifier:
    """The completion's answer equals ``row["answer"]`` as mathematics."""
    extraction(extract)
    return MathVerifier(extract, strict)
