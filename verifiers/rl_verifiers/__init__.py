"""Verifiable rewards: a completion and a row in, a score with its reason out."""

from rl_verifiers.code import CodeReport, CodeVerifier
from rl_verifiers.code_runs import TestOutcome
from rl_verifiers.code_tests import from_asserts
from rl_verifiers.combine import (
    GroupVerifier,
    all_of,
    any_of,
    gate,
    score_group,
    shortest_correct_bonus,
    weighted,
)
from rl_verifiers.conformance import check_verifier
from rl_verifiers.length import length_penalty, soft_overlong
from rl_verifiers.registry import Entry, describe, make, names, register
from rl_verifiers.runner import as_verifier, score_many, score_one, score_sync
from rl_verifiers.score import STATUSES, Row, Score, Status, Verdict, Verifier, VerifierError

__all__ = [
    "STATUSES",
    "CodeReport",
    "CodeVerifier",
    "Entry",
    "GroupVerifier",
    "Row",
    "Score",
    "Status",
    "TestOutcome",
    "Verdict",
    "Verifier",
    "VerifierError",
    "all_of",
    "any_of",
    "as_verifier",
    "check_verifier",
    "describe",
    "from_asserts",
    "gate",
    "length_penalty",
    "make",
    "names",
    "register",
    "score_group",
    "score_many",
    "score_one",
    "score_sync",
    "shortest_correct_bonus",
    "soft_overlong",
    "weighted",
]
