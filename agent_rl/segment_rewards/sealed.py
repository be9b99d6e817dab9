"""Environment rewards that a trainer cannot read: sealed on the way out of play, opened by name.

Every trajectory that these stages train on passes ``seal`` before anything else sees it. What is
left in place of a reward raises when it is added, compared, rounded or printed as a number, and
reads as NaN below Python, so that a tensor made of it poisons the loss instead of leaking.
``opened`` is the one way back; the labeler and the measurement of learned rewards are its callers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NoReturn

from agent_rl.trajectory import Trajectory


class SealedRewardError(RuntimeError):
    """Something read a sealed reward: a bug of ours, never a user's mistake."""


class SealedReward(float):
    """A true reward in a seal. As a plain float it is NaN."""

    __slots__ = ("_true",)

    def __new__(cls, true: float) -> SealedReward:
        """Seals a number."""
        made = super().__new__(cls, "nan")
        made._true = float(true)  # type: ignore[attr-defined]
        return made

    def __repr__(self) -> str:
        return "SealedReward"

    def __reduce__(self) -> NoReturn:
        raise SealedRewardError("a sealed reward is never written")


def _refuse(self: Any, *_: Any) -> NoReturn:
    raise SealedRewardError("the true reward was read by something that must not see it")


_READS = (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "rfloordiv"),
    *("mod", "rmod", "pow", "rpow", "divmod", "rdivmod", "neg", "pos", "abs", "bool", "int"),
    *("float", "eq", "ne", "lt", "le", "gt", "ge", "hash", "round", "trunc", "floor", "ceil"),
    *("format",),
)
for _name in _READS:
    setattr(SealedReward, f"__{_name}__", _refuse)


def seal(trajectory: Trajectory) -> Trajectory:
    """A copy whose rewards and verdicts cannot be read.

    Args:
        trajectory: As it was played.
    """
    turns = [
        replace(turn, reward=SealedReward(turn.reward), rewards=()) for turn in trajectory.turns
    ]
    return replace(trajectory, turns=turns, score=None, scores=())


def opened(rewards: Iterable[float]) -> list[float]:
    """The true rewards: for a labeler or a measurement, never for the trainer."""
    found = []
    for reward in rewards:
        if not isinstance(reward, SealedReward):
            raise SealedRewardError("this reward was never sealed: it is no true one")
        found.append(float(reward._true))  # type: ignore[attr-defined]
    return found
