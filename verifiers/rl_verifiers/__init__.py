"""Verifiable rewards: a completion and a row in, a score with its reason out."""

from rl_verifiers.registry import describe, make, names, register
from rl_verifiers.runner import as_verifier, score_many, score_one, score_sync
from rl_verifiers.score import STATUSES, Row, Score, Status, Verdict, Verifier, VerifierError

__all__ = [
    "STATUSES",
    "Row",
    "Score",
    "Status",
    "Verdict",
    "Verifier",
    "VerifierError",
    "as_verifier",
    "describe",
    "make",
    "names",
    "register",
    "score_many",
    "score_one",
    "score_sync",
]
