"""What is asked, when, and who answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from agent_rl.errors import UserError
from agent_rl.preferences.pairs import Pair, read_pairs
from agent_rl.runs.files import read_json_lines, to_json, write_atomically
from agent_rl.segment_rewards.clips import Clip
from agent_rl.segment_rewards.sealed import opened
from rl_envs import Message


@dataclass(frozen=True, slots=True)
class Query:
    """Two clips of which the better one is asked for.

    Attributes:
        first: One clip.
        second: The other, as long.
    """

    first: Clip
    second: Clip

    @property
    def features(self) -> Tensor:
        """[2, k, F] long."""
        return torch.stack([self.first.features, self.second.features])

    def pair(self, question: str) -> Pair:
        """As ``agent-rl label`` shows it; nothing is preferred yet."""
        made = Pair((Message(role="user", content=question),), self.first.text, self.second.text)
        return Pair(made.prompt, made.chosen, made.rejected, id=made.item)


def labels_due(
    step: int, steps: int, *, total: int, first: float = 0.25, half_life: int = 0
) -> int:
    """How many labels are asked for up to a step, in all.

    ``first`` of them in the first step, about the play of the starting policy; the others at a rate
    proportional to ``half_life / (half_life + step)``, as Christiano et al. (2017, appendix A.1)
    let it decay.

    Args:
        step: From 1.
        steps: When all have been asked for.
        total: How many.
        first: Share of the first step.
        half_life: Steps after which the rate is half; 0 for an even one.
    """
    begun = round(first * total)
    rates = [half_life / (half_life + s) if half_life else 1.0 for s in range(1, steps)]
    if step >= steps:
        return total
    done = sum(rates[: step - 1]) / sum(rates) if step > 1 else 0.0
    return begun + int(done * (total - begun))


def drawn_pairs(clips: Sequence[Clip], count: int, rng: np.random.Generator) -> list[Query]:
    """Up to ``count`` pairs of clips that read differently, none twice."""
    found: dict[tuple[int, int], Query] = {}
    for _ in range(3 * count if len(clips) > 1 else 0):
        one, other = (int(n) for n in rng.choice(len(clips), 2, replace=False))
        key = (min(one, other), max(one, other))
        if key not in found and clips[one].text != clips[other].text:
            found[key] = Query(clips[one], clips[other])
        if len(found) == count:
            break
    return list(found.values())


def chosen_queries(
    queries: Sequence[Query], count: int, predict: Callable[[Tensor], Tensor] | None
) -> list[Query]:
    """The queries that an ensemble disagrees on most (section 2.2.4), in their order.

    Args:
        queries: Candidates.
        count: How many are wanted.
        predict: [N, 2, k, F] features to [M, N] chances that the first is preferred; None takes the
            first ``count`` candidates.
    """
    if predict is None or len(queries) <= count:
        return list(queries[:count])
    chances = predict(torch.stack([query.features for query in queries]))
    best = sorted(chances.var(0, unbiased=False).topk(count).indices.tolist())
    return [queries[n] for n in best]


class Labeler(Protocol):
    """Answers queries."""

    def __call__(self, queries: Sequence[Query], rng: np.random.Generator) -> list[float]:
        """The share of preference of each first clip: 1, 0, or 0.5 where neither is better."""
        ...


@dataclass(frozen=True, slots=True)
class SyntheticLabeler:
    """Compares true returns, and errs at times.

    Attributes:
        noise: Chance of a wrong answer: the opposite one, or for equal returns either side.
    """

    noise: float

    def __call__(self, queries: Sequence[Query], rng: np.random.Generator) -> list[float]:
        """The share of preference of each first clip."""
        labels = []
        for query in queries:
            true = sign_of(query)
            wrong, side = rng.random() < self.noise, 1 if rng.random() < 0.5 else -1
            labels.append(0.5 + 0.5 * ((-true or side) if wrong else true))
        return labels


def sign_of(query: Query) -> int:
    """Which clip has the higher true return: 1 the first, -1 the second, 0 neither."""
    first, second = sum(opened(query.first.sealed)), sum(opened(query.second.sealed))
    return (first > second) - (first < second)


@dataclass(frozen=True, slots=True)
class FileLabeler:
    """Answers of people, from a file of pairs; what lacks one is written out to be asked.

    Attributes:
        queries: Where what is asked is written, in TRL's columns.
        answers: Where ``agent-rl label`` puts the answers.
        question: What is asked.
    """

    queries: Path
    answers: Path
    question: str

    def __call__(self, queries: Sequence[Query], rng: np.random.Generator) -> list[float]:
        """The share of preference of each first clip; the mean where several people answered.

        Raises:
            UserError: Some have no answer yet: it says what to do.
        """
        known = self._known()
        pairs = [query.pair(self.question) for query in queries]
        missing = [pair for pair in pairs if pair.item not in known]
        if missing:
            asked = {row["id"]: row for row in read_json_lines(self.queries)}
            asked |= {pair.id: pair.row() for pair in missing}
            text = "".join(to_json(row) + "\n" for row in asked.values())
            write_atomically(self.queries, text)
            raise UserError(
                f"{len(missing)} pairs wait for an answer: agent-rl label {self.queries} "
                f"--output {self.answers}, then go on with --resume"
            )
        return [
            known[pair.item].get(pair.chosen, 0.0) / sum(known[pair.item].values())
            for pair in pairs
        ]

    def _known(self) -> dict[str, dict[str, float]]:
        """For each item how often each text was preferred; a tie is half a time for both."""
        found: dict[str, dict[str, float]] = {}
        there = self.answers.is_file() and self.answers.stat().st_size > 0
        for pair in read_pairs(str(self.answers)).pairs if there else []:
            said = found.setdefault(pair.item, {})
            shares = {pair.chosen: 0.5, pair.rejected: 0.5} if pair.tie else {pair.chosen: 1.0}
            for text, share in shares.items():
                said[text] = said.get(text, 0.0) + share
        return found
