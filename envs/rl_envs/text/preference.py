"""A reward by comparison: the samples of one prompt against each other, or against a baseline."""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self, get_args

from rl_envs.core import Reply
from rl_envs.tasks import DataError
from rl_envs.text.prompted import OWN, PromptedEnv, answer_text
from rl_verifiers import make
from rl_verifiers.runner import MAX_CHARACTERS, score_one, score_sync
from rl_verifiers.score import Row, Score, Verifier

Opponents = Literal["all", "next"]
OPPONENT = "opponent"
"""The column in which a pairwise judge finds the other answer."""


class ComparisonFailed(Exception):  # noqa: N818 - what happened, never seen by a user
    """Our failure: no verdict on a pair."""


@dataclass(frozen=True)
class Outcome:
    """What the first answer of a pair gets against the second: 1 a win, 0 a loss, 0.5 a tie."""

    value: float
    parts: Mapping[str, float]


class Comparer(Protocol):
    """Compares the answers to one prompt."""

    async def __call__(
        self, texts: Sequence[str], pairs: Sequence[tuple[int, int]], row: Row
    ) -> list[Outcome]:
        """The outcomes of pairs of texts, by their indices.

        Raises:
            ComparisonFailed: One could not be had.
        """
        ...


@dataclass(frozen=True)
class ByJudge:
    """A pairwise judge, which sees every pair in both orders."""

    judge: Verifier

    async def __call__(
        self, texts: Sequence[str], pairs: Sequence[tuple[int, int]], row: Row
    ) -> list[Outcome]:
        """See :class:`Comparer`."""
        asking = (score_one(self.judge, texts[i], {**row, OPPONENT: texts[j]}) for i, j in pairs)
        return [
            Outcome(_checked(score).value, score.parts) for score in await asyncio.gather(*asking)
        ]


@dataclass(frozen=True)
class ByReward:
    """A reward model: the higher reward wins; or, ``soft``, by the probability of Bradley-Terry."""

    verifier: Verifier
    soft: bool

    async def __call__(
        self, texts: Sequence[str], pairs: Sequence[tuple[int, int]], row: Row
    ) -> list[Outcome]:
        """See :class:`Comparer`; every text is scored once."""
        wanted = sorted({i for pair in pairs for i in pair})
        scores = await asyncio.gather(*(score_one(self.verifier, texts[i], row) for i in wanted))
        rewards = {i: _checked(score).value for i, score in zip(wanted, scores, strict=True)}
        return [self._outcome(rewards[i], rewards[j]) for i, j in pairs]

    def _outcome(self, one: float, other: float) -> Outcome:
        gap = one - other
        if self.soft:
            value = 0.5 * (1.0 + math.tanh(gap / 2.0))  # 1 / (1 + exp(-gap)), without overflow
        else:
            value = 0.5 if gap == 0 else float(gap > 0)
        return Outcome(value, {"margin": gap})


def _checked(score: Score) -> Score:
    if score.is_error:
        raise ComparisonFailed(score.error)
    return score


@dataclass(frozen=True)
class GroupComparison:
    """All answers to one prompt against each other: a group-wise verifier.

    The value of an answer is the mean of its comparisons: 1 for a win, 0.5 for a tie, 0 for a
    loss; ``centred`` makes 1, 0 and -1 of them. A blank answer, or one that is too long to be read,
    loses against any other without being compared. One without company gets a tie. Where a single
    comparison fails by our fault the whole group is an error, since the others would be measured
    against fewer opponents.
    """

    comparer: Comparer
    shown: Callable[[Row], Row]
    opponents: Opponents = "all"
    centred: bool = False

    async def __call__(self, completions: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        """Score the completions of one task."""
        if len(completions) < 2:
            return [_scored([], self.centred) for _ in completions]
        pairs = list(pairs_of(completions, self.opponents))
        compared = [(i, j) for i, j in pairs if _readable(completions[i], completions[j])]
        try:
            found = await self.comparer(completions, compared, self.shown(rows[0]))
        except ComparisonFailed as error:
            return [Score.failed(f"comparison: {error}")] * len(completions)
        outcomes = dict(zip(compared, found, strict=True))
        results: list[list[Outcome]] = [[] for _ in completions]
        for i, j in pairs:
            outcome = outcomes.get((i, j)) or _unread(completions[i], completions[j])
            results[i].append(outcome)
            results[j].append(_reversed(outcome))
        return [_scored(of_one, self.centred) for of_one in results]


@dataclass(frozen=True)
class BaselineComparison:
    """A completion against the row's baseline; a verifier of single samples."""

    comparer: Comparer
    shown: Callable[[Row], Row]
    column: str
    centred: bool = False
    bounded = True
    waits = True

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks."""
        return score_sync(self, completion, row)

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        baseline = answer_text(row.get(self.column))
        if not baseline.strip():
            return Score.wrong(
                f"no baseline: the column {self.column} holds no text", status="bad_reference"
            )
        if not _readable(completion, baseline):
            return _scored([_unread(completion, baseline)], self.centred)
        try:
            found = await self.comparer([completion, baseline], [(0, 1)], self.shown(row))
        except ComparisonFailed as error:
            return Score.failed(f"comparison: {error}")
        return _scored(found, self.centred)


def pairs_of(texts: Sequence[str], opponents: Opponents) -> Iterator[tuple[int, int]]:
    """Every pair once; or, ``next``, neighbours in a ring whose order the texts decide."""
    count = len(texts)
    if opponents == "all" or count <= 3:
        yield from ((i, j) for i in range(count) for j in range(i + 1, count))
        return
    order = list(range(count))
    joined = "\0".join(texts).encode("utf-8", "surrogatepass")
    random.Random(hashlib.sha256(joined).digest()).shuffle(order)
    yield from ((i, order[(n + 1) % count]) for n, i in enumerate(order))


def _counts(text: str) -> bool:
    return bool(text.strip()) and len(text) <= MAX_CHARACTERS


def _readable(one: str, other: str) -> bool:
    return _counts(one) and _counts(other) and one.strip() != other.strip()


def _unread(one: str, other: str) -> Outcome:
    """Equal answers tie; what nobody reads loses."""
    return Outcome(0.5 + 0.5 * (_counts(one) - _counts(other)), {})


def _reversed(outcome: Outcome) -> Outcome:
    parts = dict(outcome.parts)
    if "margin" in parts:
        parts["margin"] = -parts["margin"]
    return replace(outcome, value=1.0 - outcome.value, parts=parts)


_SHOWN = ("margin", "position_consistent", "prompt_tokens", "completion_tokens")


def _scored(results: Sequence[Outcome], centred: bool) -> Score:
    rate = sum(each.value for each in results) / len(results) if results else 0.5
    parts = {"win_rate": rate, "comparisons": float(len(results))}
    for name in _SHOWN:
        values = [each.parts[name] for each in results if name in each.parts]
        if values:
            parts[name] = sum(values) / len(values)
    reason = f"wins {rate:.0%} of {len(results)} comparisons"
    passed = rate > 0.5
    value = 2.0 * rate - 1.0 if centred else rate
    return Score(value, passed, "correct" if passed else "wrong", reason, parts)


class Preference(PromptedEnv):
    """Answer a prompt better than one's other samples do, or better than a baseline.

    In a training run the samples of one prompt are compared, by a judge that sees each pair in both
    orders or by a reward model, and each earns the share of its comparisons that it wins (a tie is
    a half). With ``baseline`` each is compared with a text of its row in their place, alone. Played
    outside a group and without a baseline, an episode earns 0. Without any option the baseline is
    the answer of the prompts' environment, and what that environment pays decides.

    Args:
        prompts: As in ``text/LearnedReward-v0``.
        judge: The options of the verifier ``judge``; its mode is ``pairwise``.
        reward_model: ``{path: FOLDER}``, or any verifier: the higher value wins.
        opponents: ``all``: every pair of a group; ``next``: each against its neighbours in a ring,
            one comparison for each sample.
        baseline: A column of the row (``answer``, ``chosen``, ...) to compare with.
        soft: With a reward model, the mean probability of winning, sigmoid(r_i - r_j).
        centred: Rewards from -1 to 1 in place of 0 to 1.
        options: Those of ``TextEnv``.
    """

    def __init__(
        self,
        *,
        prompts: Any = None,
        judge: Mapping[str, Any] | None = None,
        reward_model: Any = None,
        opponents: Opponents = "all",
        baseline: str | None = None,
        soft: bool = False,
        centred: bool = False,
        **options: Any,
    ) -> None:
        name = type(self).__name__
        if judge is None and reward_model is None and prompts is None:
            reward_model, baseline = OWN, baseline or "answer"
        if (judge is None) == (reward_model is None):
            raise DataError(f"{name}: give either judge or reward_model")
        if opponents not in get_args(Opponents):
            raise DataError(f"{name}: opponents is {opponents!r:.40}; it must be all or next")
        if soft and reward_model is None:
            raise DataError(f"{name}: soft is for a reward model; a judge's verdict has no margin")
        super().__init__(prompts=prompts, **options)
        self._compared_by = (judge, reward_model, soft)
        self._baseline, self._centred = baseline, centred
        self._comparer: Comparer = self._make_comparer()
        if baseline is None:
            self.group_verifier = GroupComparison(
                self._comparer, self.shown_row, opponents, centred
            )

    @property
    def judging(self) -> Verifier:
        """The comparison with the baseline, which needs no group.

        Raises:
            DataError: There is no baseline.
        """
        if self._baseline is None:
            raise DataError(
                f"{type(self).__name__} compares the samples of a group; one alone can only be "
                "compared with a baseline: COLUMN"
            )
        if self._judge is None:
            self._judge = BaselineComparison(
                self._comparer, self.shown_row, self._baseline, self._centred
            )
        return self._judge

    def respond(self, action: str) -> Any:
        """Compare with the baseline; in a group, wait for the others."""
        return Reply(terminated=True) if self._baseline is None else self._judged(action)

    def clone(self) -> Self:
        """Another environment that shares what compares."""
        twin = super().clone()
        twin._comparer, twin.group_verifier = self._comparer, self.group_verifier
        return twin

    def prepare(self) -> None:
        """Let the judge or the reward model find out now what it needs."""
        comparer: Any = self._comparer
        inner = comparer.judge if isinstance(comparer, ByJudge) else comparer.verifier
        getattr(inner, "prepare", lambda: None)()

    def _make_comparer(self) -> Comparer:
        judge, reward_model, soft = self._compared_by
        name = type(self).__name__
        if judge is None:
            return ByReward(self.verifier_of(reward_model, f"{name}: reward_model"), soft)
        fixed = [key for key in ("name", "mode", "against") if key in judge]
        if fixed and not (fixed == ["mode"] and judge["mode"] == "pairwise"):
            raise DataError(f"{name}: judge: {fixed[0]} is not an option here; it is pairwise")
        return ByJudge(make("judge", **{**judge, "mode": "pairwise", "against": OPPONENT}))
