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
    ("9,000 hex digits", "0x" + "f" * 9_000),
    ("a call with 9,000 hex digits", "f(x=0x" + "f" * 9_000 + ")"),
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
    joined_fails: bool = True,
) -> None:
    """Check that a verifier passes what is right, fails what is wrong, and never raises.

    What fails must also have a value below that of its row's right completion, where that is above
    0 (a completion over the limit has 0, also from a verifier of penalties).

    Args:
        verifier: The verifier.
        rows: A few rows with different answers.
        gold: A completion that solves a row.
        others_fail: Check that the right completion of one row fails on the others; off for a
            verifier that does not look at the answer.
        rejects_garbage: Check that empty, hostile and echoed text fails; off for a verifier such as
            a length limit, which such text may satisfy.
        joined_fails: With ``others_fail``, check that the right completions of all rows one after
            another fail, those of the other rows last; off for a verifier that only asks whether
            the answer is there.

    Raises:
        VerifierError: Naming every broken promise, one a line.
    """
    findings: list[Finding] = []
    for row in rows:
        right = gold(row)
        found, most = _judged(verifier, row, "gold", right, True)
        findings += found
        passes = False if rejects_garbage else None
        wrong = [(name, text, passes) for name, text in HOSTILE]
        wrong.append(("the prompt itself", str(row.get("prompt", "")), passes))
        others = [other for other in rows if other is not row and gold(other) != right]
        if others_fail:
            wrong += [(f"the answer to row {o.get('id')!r}", gold(o), False) for o in others]
        if others_fail and joined_fails and others:
            joined = "\n".join([right, *map(gold, others)])
            wrong.append(("the answers to all rows", joined, False))
        for name, completion, passes in wrong:
            findings += _judged(verifier, row, name, completion, passes, most)[0]
    if findings:
        lines = [f"row {row!r}, {name}: {problem}" for row, name, problem in findings]
        raise VerifierError("\n".join([f"{verifier_name(verifier)} breaks the contract:", *lines]))


def _judged(
    verifier: Verifier,
    row: Row,
    name: str,
    completion: str,
    passes: bool | None,
    most: float | None = None,
) -> tuple[list[Finding], float | None]:
    """What is wrong with one score, and its value if it passes."""
    where = str(row.get("id"))
    try:
        score = score_sync(verifier, completion, row)
    except VerifierError as error:
        return [Finding(where, name, f"contract broken: {error}")], None
    problem = _problem(score, passes, most)
    findings = [] if problem is None else [Finding(where, name, problem)]
    return findings, score.value if score.passed else None


def _problem(score: Score, passes: bool | None, most: float | None) -> str | None:
    if score.is_error:
        return f"raised or failed: {score.error}"
    if score.status == "bad_reference":
        return f"the row's answer is unusable: {score.reason}"
    if passes is not None and score.passed is not passes:
        wanted = "passed" if passes else "failed"
        return f"should have {wanted}, got {score.status} with value {score.value:g}"
    if most is not None and most > 0 and not score.passed and score.value >= most:
        return f"failed with value {score.value:g}, which is not below the {most:g} of what passes"
    return None
