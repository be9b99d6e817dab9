"""Games that several players play in turns: whose turn it is, and what each of them earned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rl_envs.core import Reply, StepResult, TextEnv
from rl_envs.tasks import DataError
from rl_envs.types import Message, Observation


class SeatedEnv(TextEnv):
    """A TextEnv with seats; one policy may sit on all of them, or several policies share them.

    ``reset`` and ``step`` stay Gymnasium's, and the one who calls plays every seat in turn. An
    author sets ``self.seat`` to whose turn it is, in ``opening`` and in ``respond``, and answers
    with what that player has not seen yet. With ``seats`` above 1, ``info`` carries

    - ``seat``: whose turn it is now; the observation is for that player alone;
    - ``rewards`` (of a step): what each seat earned by it, as ``Reply.info["rewards"]`` said, by
      default nothing; the reward that ``step`` returns is that of the seat that acted;
    - ``scores`` (optional, of a step): one Score per seat.

    The system prompt is the same for all. With one seat nothing is added: an ordinary TextEnv.

    Attributes:
        seats: How many players the caller stands for.
        seat: Whose turn it is, 0 .. ``seats - 1``.
    """

    seats: int = 1
    seat: int = 0

    def _opened(
        self, opening: Sequence[Message], index: int | None
    ) -> tuple[Observation, dict[str, Any]]:
        observation, info = super()._opened(opening, index)
        self._acted = self._checked_seat()
        return observation, info if self.seats == 1 else {**info, "seat": self.seat}

    def _answered(self, reply: Reply) -> StepResult:
        if self.seats == 1:
            return super()._answered(reply)
        acted, self._acted = self._acted, self._checked_seat()
        rewards = tuple(map(float, reply.info.get("rewards", (0.0,) * self.seats)))
        scores = reply.info.get("scores")
        for name, given in (("rewards", rewards), ("scores", scores)):
            if given is not None and len(given) != self.seats:
                raise DataError(
                    f"{type(self).__name__}: info[{name!r}] holds {len(given)} for {self.seats} "
                    "seats; give one for each"
                )
        score = reply.score if scores is None else scores[acted]
        info = {**reply.info, "rewards": rewards, "seat": self.seat}
        return super()._answered(replace(reply, reward=rewards[acted], score=score, info=info))

    def _checked_seat(self) -> int:
        if not 0 <= self.seat < self.seats:
            raise DataError(
                f"{type(self).__name__}: seat is {self.seat!r}; it must be within "
                f"0..{self.seats - 1}"
            )
        return self.seat
