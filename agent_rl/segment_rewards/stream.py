"""Episodes of a fixed length: an environment that begins anew whenever an episode of it ends.

When an episode ends is itself a signal: a pole that falls ends it, and a trainer that is told so
learns to balance from a constant reward. Christiano et al. (2017, appendix A) take it from the
agent: all episodes have one length, what ended them is replaced by a penalty that must be learned,
or the environment is reset and the agent never told. This wrapper does that for any environment
whose policy sees only the newest observation: after an end it shows the same text for some steps,
in which nothing is earned, and then the start of another episode. Whether that text is good or bad
is for the learned reward to find out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from agent_rl.errors import UserError
from agent_rl.self_play import seats_of
from rl_envs import Entry, Message, Mixture, Reply, Task, TaskSource, TextEnv
from rl_verifiers import Score

Judged = Literal["reward", "expert"]
_ENDLESS = 2**31  # indices drawn from a source without a size


class Stream(TextEnv):
    """An endless sequence of an environment's episodes, cut after a fixed number of steps.

    Args:
        inner: The environment. It is never played itself, only copies of it.
        steps: Actions until the stream is truncated.
        end_text: What is seen after an episode terminated.
        end_steps: For how many actions; 0 goes on at once.
        end_penalty: Taken off the (sealed) reward of an action that terminated an episode.
        judged: What the sealed reward is: the environment's, or +1 where the action is the one of
            the environment's own oracle and -1 elsewhere.
    """

    def __init__(
        self,
        inner: TextEnv,
        *,
        steps: int,
        end_text: str = "",
        end_steps: int = 0,
        end_penalty: float = 0.0,
        judged: Judged = "reward",
    ) -> None:
        super().__init__(max_turns=steps, discount=inner.discount, memory=inner.memory)
        self._prototype, self._end_penalty, self._judge_by = inner, end_penalty, judged
        self._end = [Message(role="user", content=end_text)]
        self._end_steps, self._left = end_steps, 0
        self._played: TextEnv | None = None

    @property
    def tasks(self) -> TaskSource:
        """Those of the environment."""
        return self._prototype.tasks

    async def opening(self, task: Task) -> Sequence[Message]:
        """The first observation of the first episode."""
        self._played, self._left = self._prototype.clone(), 0
        seed = int(self.np_random.integers(_ENDLESS))
        observation, _ = await self._played.areset(seed=seed, options={"task": task})
        return observation

    async def respond(self, action: str) -> Reply:
        """What the environment answers; at an end, the first observation of another episode."""
        assert self._played is not None
        if self._left:
            self._left -= 1
            return Reply(self._end if self._left else await self._begin_again())
        agrees = self._agrees(self._played, action) if self._judge_by == "expert" else None
        seen: Sequence[Message]
        seen, reward, ended, cut, info = await self._played.astep(action)
        score = info.get("score")
        if isinstance(score, Score) and score.is_error:  # our failure: the stream is played again
            return Reply(terminated=True, score=score)
        if ended:
            reward, self._left = reward - self._end_penalty, self._end_steps
        if ended or cut:
            seen = self._end if self._left else await self._begin_again()
        return Reply(seen, reward=reward if agrees is None else 2.0 * agrees - 1.0)

    def close(self) -> None:
        """Closes the environment that was played."""
        if self._played is not None:
            self._played.close()

    def _agrees(self, env: TextEnv, action: str) -> bool:
        return env.expert(np.random.default_rng(0)).strip() == action.strip()

    async def _begin_again(self) -> Sequence[Message]:
        assert self._played is not None
        size = self.tasks.size
        index = int(self.np_random.integers(_ENDLESS if size is None else size))
        seed = int(self.np_random.integers(_ENDLESS))
        observation, _ = await self._played.areset(seed=seed, options={"index": index})
        return [message for message in observation if message["role"] != "system"]


class _StreamEntry(Entry):
    """An entry of a mixture whose environment is a stream."""

    def __init__(self, entry: Entry, **options: Any) -> None:
        super().__init__(entry.env_id, entry.weight, entry.options)
        self.__dict__["env"] = Stream(entry.env, **options)


def streams(mixture: Mixture, seed: int, **options: Any) -> Mixture:
    """The same environments and weights, each as a ``Stream`` with these options."""
    return Mixture([_StreamEntry(entry, **options) for entry in mixture.entries], seed)


def refuse_unstreamable(env: TextEnv) -> None:
    """Stop where episodes cannot follow one another unseen.

    Raises:
        UserError: The policy sees the whole conversation, or there are several seats, or a verifier
            of whole groups.
    """
    if env.memory != "last":
        reason = "its policy sees the whole episode (memory: full), so it would see where one ends"
    elif seats_of(env) > 1:
        reason = "it has several seats"
    elif env.group_verifier is not None:
        reason = "its group verifier judges whole episodes"
    else:
        return
    raise UserError(f"{reason}; set stream: 0 to play its episodes one by one")
