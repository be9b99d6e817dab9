"""Any Gymnasium environment whose actions are discrete or text, played in text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_envs.core import Reply, TextEnv
from rl_envs.describe import Bins, describe
from rl_envs.tasks import DataError, GeneratedTasks
from rl_envs.types import Message, Task
from rl_envs.words import chosen

_DEFAULT_LIMIT = 1000  # steps, where the environment itself declares none


class GymnasiumText(TextEnv):
    """A Gymnasium environment in text: describe the state, choose an action word.

    Each user message describes the newest observation; each reply chooses by the action word it
    ends with, or is the action itself where the action space is ``Text``. Task ``i`` is a seed of
    the inner environment, so an index fixes the start and the chances of the whole episode. The
    step limit of the inner environment becomes ``max_turns`` and truncates; its own end terminates.

    Args:
        gym_id: The inner environment, as ``gymnasium.make`` takes.
        actions: One word per action. Default: ``0``, ``1``, ...
        describe: ``describe(observation) -> str``. Default: by the observation space.
        bins: Turns the numbers of a Box into one character each; see ``rl_envs.describe``.
        unknown: What a reply without an action word does. ``random`` (the default) plays a random
            action, so that babbling is never better than choosing, whatever the sign of the
            rewards; ``end`` ends the episode with ``penalty`` as the reward, which teaches faster
            where staying alive pays, but must not be used where rewards are negative and the
            penalty is not; an action word plays that action.
        penalty: Added to the reward of a step whose reply held no action word.
        max_episode_steps: The step limit. Default: the inner environment's, or 1000.
        gym_options: Options for ``gymnasium.make``.
        options: Those of ``TextEnv``.
    """

    memory = "last"
    discount = 0.99
    source = "seeds of a Gymnasium environment"

    gym_id: str = "FrozenLake-v1"
    actions: Sequence[str] | None = None
    bins: Bins | None = None
    unknown: str = "random"
    penalty: float = 0.0
    gym_options: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self,
        gym_id: str | None = None,
        *,
        actions: Sequence[str] | None = None,
        describe: Callable[[Any], str] | None = None,
        bins: Bins | None = None,
        unknown: Literal["random", "end"] | str | None = None,
        penalty: float | None = None,
        max_episode_steps: int | None = None,
        gym_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        given: dict[str, Any] = {"gym_id": gym_id, "actions": actions, "bins": bins}
        given |= {"unknown": unknown, "penalty": penalty, "gym_options": gym_options}
        for name, value in given.items():
            if value is not None:
                setattr(self, name, value)
        self._describe = describe
        limit = max_episode_steps or _declared_limit(self.gym_id)
        super().__init__(**{"max_turns": limit, **options})
        self._rng = np.random.default_rng(0)

    def load_tasks(self, split: str) -> GeneratedTasks:
        """Seeds without end; a seed belongs to one split only."""
        return GeneratedTasks(partial(_seed_task, self.gym_id), split=split)

    @cached_property
    def inner(self) -> gymnasium.Env[Any, Any]:
        """The environment behind the text, made on first use.

        Raises:
            DataError: Its actions are neither discrete nor text, or the words do not fit them.
        """
        env = gymnasium.make(
            self.gym_id, max_episode_steps=-1, disable_env_checker=True, **self.gym_options
        )
        if isinstance(env.action_space, spaces.Text):
            return self._checked_text(env, env.action_space)
        if not isinstance(env.action_space, spaces.Discrete):
            raise DataError(
                f"{self.gym_id}: its actions are {env.action_space}, not discrete and no text"
            )
        count = int(env.action_space.n)
        if self.actions is None:
            self.actions = [str(number) for number in range(count)]
        if len({word.casefold() for word in self.actions} - {""}) != count:
            raise DataError(
                f"{self.gym_id} has {count} actions; `actions` must be as many different words, "
                f"not {list(self.actions)}"
            )
        if self.unknown not in ("random", "end", *self.actions):
            raise DataError(
                f"unknown is {self.unknown!r}; it must be 'random', 'end' or one of "
                f"{', '.join(self.actions)}"
            )
        return env

    def opening(self, task: Task) -> list[Message]:
        """The description of the first observation."""
        self._rng = np.random.default_rng(task.info["seed"])
        observation, _ = self.inner.reset(seed=task.info["seed"])
        self.inner.action_space.seed(task.info["seed"])
        return [self._seen(observation)]

    def respond(self, action: str) -> Reply:
        """Plays the chosen action and describes what follows."""
        inner = self.inner
        move = self._chosen(action)
        unknown = move is None
        if unknown and self.unknown == "end":
            return Reply(reward=self.penalty, terminated=True, info={"unknown_action": True})
        observation, reward, terminated, truncated, _ = inner.step(
            self._stand_in() if unknown else move
        )
        return Reply(
            messages=() if terminated else (self._seen(observation),),
            reward=float(reward) + (self.penalty if unknown else 0.0),
            terminated=terminated,
            truncated=truncated,
            info={"unknown_action": unknown},
        )

    def close(self) -> None:
        """Closes the inner environment, if it was made."""
        if "inner" in self.__dict__:
            self.inner.close()

    def _checked_text(self, env: gymnasium.Env[Any, Any], space: spaces.Text) -> Any:
        if self.actions is not None:
            raise DataError(f"{self.gym_id} takes any text as its action; leave `actions` out")
        if self.unknown not in ("random", "end") and self.unknown not in space:
            raise DataError(
                f"unknown is {self.unknown!r}; it must be 'random', 'end' or a text of {space}"
            )
        return env

    def _chosen(self, action: str) -> Any:
        """The inner action that a reply stands for, or None."""
        space = self.inner.action_space
        if isinstance(space, spaces.Text):
            text = action.strip()
            return text if text in space else None
        place = chosen(action, self.actions or ())
        return None if place is None else int(space.start) + place  # type: ignore[attr-defined]

    def _stand_in(self) -> Any:
        """The inner action played for a reply that chose none."""
        space = self.inner.action_space
        if isinstance(space, spaces.Text):
            return space.sample() if self.unknown == "random" else self.unknown
        words = self.actions or ()
        start = int(space.start)  # type: ignore[attr-defined]
        if self.unknown == "random":
            return start + int(self._rng.integers(len(words)))
        return start + list(words).index(self.unknown)

    def _seen(self, observation: Any) -> Message:
        if self._describe is not None:
            text = self._describe(observation)
        else:
            text = describe(self.inner.observation_space, observation, self.bins)
        return Message(role="user", content=text)


def _declared_limit(gym_id: str) -> int:
    try:
        return gymnasium.spec(gym_id).max_episode_steps or _DEFAULT_LIMIT
    except gymnasium.error.Error as error:
        raise DataError(f"no Gymnasium environment {gym_id!r}: {error}") from error


def _seed_task(gym_id: str, rng: np.random.Generator) -> Task:
    seed = int(rng.integers(2**31))
    return Task(id=f"{gym_id}:{seed}", prompt="", info={"seed": seed})
