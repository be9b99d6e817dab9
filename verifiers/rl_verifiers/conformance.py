"""A check that a verifier keeps the contract, for authors to run in their own tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rl_verifiers.runner import score_sync, verifier_name
from rl_verifiers.score import Row, Score, Verifier, VerifierError

HOSTILE: tuple[tuple[str, str], ...] = (
    ("empty", ""),
    ("white space", " \n\t "),
    ("a null character", "\0"),
    ("a lone surrogate", "\ud800"),
    ("garbage", "~!@#%^&*()_+ qwxzv \\{[<(" * 20),
    ("unclosed boxes", "\\boxed{" * 10_000),
    ("unclosed brackets", "(" * 10_000 + "[" * 10_000 + "{" * 10_000),
    ("unclosed tags", "<answer><think>" * 5_000),
    ("code", "\\boxed{__import__('os').system('true')}"),
    ("a tower of powers", "\\boxed{9^{9^{9^{9^{9}}}}}"),
    ("a long number", "9" * 100_000),
    ("too long", "a" * 1_000_001),
)
"""Completions that no verifier of content may pass or fail to answer, each with its name."""


class Finding(NamedTuple):
    """One broken promise: which row, which completion, and what happened."""

    row: str
    completion: str
    problem: str


def check_verifier(
    verifier: Verifier,
    rows: Sequence[Row],
    *,
    gold: Callable[[Row], str],
    others_fail: bool = True,
    rejects_garbage: bool = True,
) -> None:
    """Check that a verifier passes what is right, fails what is wrong, and never raises.

    Args:
        verifier: The verifier.
        rows: A few rows with different answers.
        gold: A completion that solves a row.
        others_fail: Check that the right completion of one row fails on the others; off for a
            verifier that does not look at the answer.
        rejects_garbage: Check that empty, hostile and echoed text fails; off for a verifier such as
            a length limit, which such text may satisfy.

    Raises:
        VerifierError: Naming every broken promise, one a line.
    """
    findings: list[Finding] = []
    for row in rows:
        right = gold(row)
        findings += _judged(verifier, row, "gold", right, True)
        wrong = list(HOSTILE)
        wrong.append(("the prompt itself", str(row.get("prompt", ""))))
        for name, completion in wrong:
            findings += _judged(
                verifier, row, name, completion, None if not rejects_garbage else False
            )
        for other in rows if others_fail else ():
            if other is not row and gold(other) != right:
                findings += _judged(
                    verifier, row, f"the answer to row {other.get('id')!r}", gold(other), False
                )
    if findings:
        lines = [f"row {row!r}, {name}: {problem}" for row, name, problem in findings]
        raise VerifierError("\n".join([f"{verifier_name(verifier)} breaks the contract:", *lines]))


def _judged(
    verifier: Verifier, row: Row, name: str, completion: str, passes: bool | None
) -> list[Finding]:
    where = str(row.get("id"))
    try:
        score = score_sync(verifier, completion, row)
    except VerifierError as error:
        return [Finding(where, name, f"contract broken: {error}")]
    problem = _problem(score, passes)
    return [] if problem is None else [Finding(where, name, problem)]


def _problem(score: Score, passes: bool | None) -> str | None:
    if score.is_error:
        return f"raised or failed: {score.error}"
    if score.status == "bad_reference":
        return f"the row's answer is unusable: {score.reason}"
    if passes is not None and score.passed is not passes:
        wanted = "passed" if passes else "failed"
        return f"should have {wanted}, got {score.status} with value {score.value:g}"
    return None
