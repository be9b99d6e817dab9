"""What validation finds, and how much of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["fail", "warn"]

KINDS: dict[str, tuple[Level, str]] = {
    "gold fails": ("fail", "a right completion does not pass"),
    "expert fails": ("fail", "an episode that the environment's expert does not win"),
    "luck pays": ("fail", "a policy that knows nothing earns a fifth of the expert's return"),
    "not repeatable": ("fail", "the same seed and actions gave another episode"),
    "bad passes": ("fail", "a completion that cannot be right passes"),
    "unanswerable": ("fail", "no prompt, or a reference that the verifier cannot use"),
    "not judged": ("fail", "the verifier raised, broke its contract or could not be reached"),
    "contradiction": ("warn", "the same prompt with another answer"),
    "overlap": ("warn", "the same prompt in the other split or file"),
    "duplicate": ("warn", "the same prompt and answer once more"),
    "leak": ("warn", "the answer stands in the prompt"),
    "solution differs": ("warn", "the row's own solution does not lead to its answer"),
    "tool fault": ("warn", "a tool that fails by its author's mistake, as it seems"),
    "no gold": ("warn", "no right completion is known: only bad ones were tried"),
}
"""Each kind of finding: whether the command fails, and what it means."""

KEPT = 1000
"""Findings of a kind that are kept; more are counted only."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: One of ``KINDS``.
        row: The id of the row.
        number: Which row, from 1.
        what: Which completion, or which other row.
        problem: What happened.
    """

    kind: str
    row: str
    number: int
    what: str
    problem: str


@dataclass(slots=True)
class Findings:
    """All of them: counted, and the first ``KEPT`` of each kind."""

    counts: Counter[str] = field(default_factory=Counter)
    kept: list[Finding] = field(default_factory=list)

    def add(self, kind: str, row: str, number: int, what: str, problem: str) -> None:
        """One more."""
        self.counts[kind] += 1
        if self.counts[kind] <= KEPT:
            self.kept.append(Finding(kind, row, number, what, problem))

    def of(self, kind: str) -> list[Finding]:
        """Those of a kind, by row."""
        return sorted((f for f in self.kept if f.kind == kind), key=lambda f: f.number)

    @property
    def failed(self) -> bool:
        """Whether any of them is more than a warning."""
        return any(KINDS[kind][0] == "fail" for kind in self.counts)
