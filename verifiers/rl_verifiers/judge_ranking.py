"""A group's completions judged against one another: the reward is the share of wins."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rl_verifiers.judge import Judge, JudgeError
from rl_verifiers.judge_modes import Pairwise, Values
from rl_verifiers.score import Row, Score, VerifierError


@dataclass(frozen=True)
class PairwiseRanking:
    """See :func:`pairwise_ranking`."""

    judge: Judge
    opponents: int | None

    async def __call__(self, completions: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        """Score the completions of one task."""
        texts = [self.judge.judged_text(completion) for completion in completions]
        pairs = list(self._pairs(texts))
        compared = await asyncio.gather(
            *(self._compare(texts[i] or "", texts[j] or "", rows[i]) for i, j in pairs)
        )
        results: list[list[tuple[float, Values]]] = [[] for _ in texts]
        failures: list[str] = ["" for _ in texts]
        for (i, j), outcome in zip(pairs, compared, strict=True):
            if isinstance(outcome, str):
                failures[i] = failures[j] = outcome
            else:
                value, parts = outcome
                results[i].append((value, parts))
                results[j].append((1.0 - value, parts))
        return [
            _score(text, result, failure)
            for text, result, failure in zip(texts, results, failures, strict=True)
        ]

    def _pairs(self, texts: Sequence[str | None]) -> Iterator[tuple[int, int]]:
        """Each pair once; with ``opponents`` the neighbours in rings of a shuffled order."""
        there = [i for i, text in enumerate(texts) if text is not None]
        if self.opponents is None or self.opponents >= len(there) - 1:
            yield from ((i, j) for n, i in enumerate(there) for j in there[n + 1 :])
            return
        joined = "\0".join(texts[i] or "" for i in there).encode("utf-8", "surrogatepass")
        random.Random(hashlib.sha256(joined).digest()).shuffle(there)
        for step in range(1, self.opponents // 2 + 1):
            yield from ((i, there[(n + step) % len(there)]) for n, i in enumerate(there))

    async def _compare(self, one: str, other: str, row: Row) -> tuple[float, Values] | str:
        """What ``one`` gets against ``other``; the message where the judge fails."""
        mode = self.judge.mode
        assert isinstance(mode, Pairwise)
        try:
            asked = mode.both_orders(one, other, self.judge.material(row))
            answers, tokens = await self.judge.answers(asked)
        except JudgeError as error:
            return str(error)
        value, parts = mode.joined(answers)
        return value, {**parts, **tokens}


def pairwise_ranking(judge: Judge, *, opponents: int | None = None) -> PairwiseRanking:
    """A group-wise verifier: each completion against the others of its task, by a pairwise judge.

    The value is the mean over its comparisons, 1 for a win, 0.5 for a tie or for orders that
    disagree; more than a half passes. Equal completions tie, and an empty one is ``no_answer``;
    neither asks the judge. A comparison that fails is left out; a completion without any is an
    ``error``. Parts: ``comparisons``, ``position_consistent`` (their share) and the tokens, of
    which each side of a comparison bears a half.

    Args:
        judge: ``make("judge", mode="pairwise", ...)``.
        opponents: How many each completion meets, an even number; None lets all meet all, which
            takes n * (n - 1) calls for n completions.

    Raises:
        VerifierError: The judge has another mode, or ``opponents`` is not an even number above 0.
    """
    if not isinstance(judge, Judge) or not isinstance(judge.mode, Pairwise):
        raise VerifierError("pairwise_ranking: the judge must be one with mode pairwise")
    if opponents is not None and (opponents < 2 or opponents % 2):
        raise VerifierError(f"pairwise_ranking: opponents is {opponents}; it must be 2, 4, ...")
    return PairwiseRanking(judge, opponents)


def _score(text: str | None, results: Sequence[tuple[float, Values]], failure: str) -> Score:
    if text is None:
        return Score.wrong("nothing to judge", status="no_answer")
    if not results:
        return Score.failed(f"judge: {failure or 'no other completion to compare with'}")
    count = len(results)
    value = sum(result for result, _ in results) / count
    parts = {
        "comparisons": float(count),
        "position_consistent": sum(p["position_consistent"] for _, p in results) / count,
        "prompt_tokens": sum(p["prompt_tokens"] for _, p in results) / 2,
        "completion_tokens": sum(p["completion_tokens"] for _, p in results) / 2,
    }
    passed = value > 0.5
    reason = f"wins {value:.0%} of {count} comparisons"
    return Score(value, passed, "correct" if passed else "wrong", reason, parts)
