"""A score as JSON: what ``agent-rl serve-verifier`` answers, and the verifier ``remote`` reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rl_verifiers.score import STATUSES, Score, VerifierError

PROTOCOL = 1
SERVICE = "agent-rl-verifier"

_TEXTS = ("reason", "error", "answer")


def score_tree(score: Score) -> dict[str, Any]:
    """A score as plain data; what is empty is left out."""
    tree: dict[str, Any] = {
        "value": score.value,
        "passed": score.passed,
        "status": score.status,
        "reason": score.reason,
    }
    if score.parts:
        tree["parts"] = dict(score.parts)
    if score.error is not None:
        tree["error"] = score.error
    if score.answer is not None:
        tree["answer"] = score.answer
    return tree


def broken_tree(message: str) -> dict[str, Any]:
    """What stands in a score's place where the verifier broke its contract, or the row did."""
    return {**score_tree(Score.failed(message)), "broken": True}


def score_from(tree: Any) -> Score:
    """The score of a tree.

    Raises:
        VerifierError: The verifier of the other side broke its contract (``broken``).
        ValueError: The tree is none of a score.
    """
    if not isinstance(tree, Mapping) or tree.get("status") not in STATUSES:
        raise ValueError(f"{tree!r:.100} is no score")
    if tree.get("broken"):
        raise VerifierError(str(tree.get("error")))
    value, passed, parts = tree.get("value"), tree.get("passed"), tree.get("parts", {})
    numbers = [value, *parts.values()] if isinstance(parts, Mapping) else [None]
    texts = [tree.get(name) for name in _TEXTS if tree.get(name) is not None]
    if not (
        isinstance(passed, bool)
        and all(type(number) in (int, float) for number in numbers)
        and all(isinstance(text, str) for text in texts)
    ):
        raise ValueError(f"{tree!r:.100} is no score")
    try:
        return Score(
            float(value),  # type: ignore[arg-type]  # checked above
            passed,
            tree["status"],
            tree.get("reason") or "",
            {str(name): float(number) for name, number in parts.items()},
            tree.get("error"),
            tree.get("answer"),
        )
    except (VerifierError, OverflowError) as error:
        raise ValueError(f"{tree!r:.100} is no score: {error}") from None
