"""One episode: an engine speaks, an environment answers, the ids are kept exactly as sampled."""

from __future__ import annotations

import asyncio
import math
import warnings
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np

from agent_rl.chat import Chat
from agent_rl.engines import Engine, PromptTooLong, Sampling
from agent_rl.errors import UserError
from agent_rl.self_play import seats_of, speaker
from agent_rl.trajectory import Trajectory, Turn
from rl_envs import Action, DataError, Message, TextEnv
from rl_verifiers import Score, VerifierError

T = TypeVar("T")
OnTruncation = Literal["zero", "score", "mask"]
ERROR_CHARS = 500


@dataclass(frozen=True, slots=True)
class Assignment:
    """One task to be played by a group.

    Attributes:
        env: A prototype; every episode plays on a copy of its own.
        name: Id of the environment.
        index: The task within it.
        seed: Fixes the episode's start; all members of the group share it.
    """

    env: TextEnv
    name: str
    index: int
    seed: int


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long episodes may take, in seconds of wall clock; 0 for no limit.

    Attributes:
        turn_timeout_s: Of one answer of the environment, its reset included. One that is later
            hangs: our failure, so the episode is played again, then left out and counted.
        episode_timeout_s: Of an episode, sampling included. One that is later is truncated there,
            with status ``over_limit``.

    Raises:
        UserError: One is negative or no number.
    """

    turn_timeout_s: float = 0.0
    episode_timeout_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("turn_timeout_s", "episode_timeout_s"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise UserError(f"{name} is {value}; it must be 0 (no limit) or more")


NO_DEADLINES = Deadlines()


def seed_of(*parts: int) -> int:
    """A 63-bit seed that depends on every part and on their order."""
    return int(np.random.SeedSequence(list(parts)).generate_state(1, np.uint64)[0] >> 1)


class EpisodeFailed(Exception):  # noqa: N818 - what happened, never seen by a user
    """Something of ours broke in an episode: it is tried again, then left out and counted."""


class _Outside:
    """Around what an environment or a verifier runs. Errors that a user can act on pass through."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, _PASSING):
            return
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise EpisodeFailed(line[:ERROR_CHARS]) from error


_PASSING = (UserError, DataError, VerifierError, EpisodeFailed)
outside = _Outside()


@dataclass(frozen=True, slots=True)
class Player:
    """Plays single episodes: ``play`` is one, ``_converse`` its turns, ``speak`` what is said."""

    engine: Engine
    chat: Chat
    sampling: Sampling
    on_truncation: OnTruncation
    deadlines: Deadlines
    opponent: Engine | None = None

    async def play(self, task: Assignment, shared: Any, seed: int, trajectory: Trajectory) -> None:
        """One episode on a new copy of the environment, which is closed whatever happens.

        Raises:
            EpisodeFailed: The environment, the verifier or the engine's queue failed us.
            UserError: A prompt that does not fit the context, or a reward that is no number.
        """
        trajectory.error = None
        with outside:
            env = task.env.clone()
        env.shared = shared
        try:
            async with asyncio.timeout(self.deadlines.episode_timeout_s or None) as deadline:
                await self._converse(env, task, seed, trajectory)
        except PromptTooLong as error:
            if not trajectory.turns:
                advice = "; take a model with a longer context, or shorter tasks"
                known = "longer context" in str(error)  # the torch engine says so itself
                raise UserError(
                    f"{task.name}, task {trajectory.task_id}: {error}{'' if known else advice}"
                ) from error
            _truncate(trajectory, f"the context of {self.engine.context_length} tokens is full")
        except TimeoutError:
            if not deadline.expired():
                raise
            trajectory.late = True
            _truncate(trajectory, f"no end within {self.deadlines.episode_timeout_s:g} s")
        finally:
            _close(env, task.name)
        trajectory.final_prompt_ids = _last_state(trajectory, self.engine.context_length)

    async def _converse(
        self, env: TextEnv, task: Assignment, seed: int, trajectory: Trajectory
    ) -> None:
        """Turn by turn, until the task or a limit of the environment ends the episode."""
        with outside:
            observation, info = await self.answer(
                env.areset(seed=task.seed, options={"index": task.index})
            )
            trajectory.task_id, trajectory.discount = str(info["task_id"]), env.discount
            trajectory.opening, trajectory.seat = observation, info.get("seat", 0)
            trajectory.definitions = info.get("definitions")
            prompt = trajectory.final_prompt_ids = self._prompt(trajectory, observation)
        while not (trajectory.terminated or trajectory.truncated or trajectory.error):
            drawn = seed_of(seed, len(trajectory.turns))
            turn = await self.speak(env, trajectory, prompt, drawn)
            turn = replace(turn, seat=trajectory.seat) if trajectory.seat else turn
            trajectory.turns.append(turn)
            said = self._action(trajectory, turn)
            if turn.finish_reason == "length" and self.on_truncation != "score":
                _cut(trajectory, self.sampling.max_tokens, self.engine.context_length)
                if seats_of(env) == 1:
                    return
                said = ""  # this seat said nothing; what that costs, the game's rules decide
            with outside:
                observation, reward, terminated, truncated, info = await self.answer(
                    env.astep(said)
                )
            if not math.isfinite(reward):
                raise UserError(
                    f"{task.name}, task {trajectory.task_id}: the reward is {reward}; "
                    "a reward must be a finite number"
                )
            rewards = tuple(info.get("rewards", ()))
            trajectory.turns[-1] = replace(turn, reward=float(reward), rewards=rewards)
            trajectory.answers.append(observation)
            trajectory.terminated, trajectory.truncated = terminated, truncated
            trajectory.seat = info.get("seat", 0)
            note(trajectory, info)
            if not terminated:
                with outside:  # a malformed message is the environment's failure too
                    prompt = self._next_prompt(env, trajectory)
                trajectory.final_prompt_ids = prompt

    async def answer(self, awaited: Awaitable[T]) -> T:
        """What an environment answers, if it does so in time.

        Raises:
            EpisodeFailed: It did not: it hangs, and that is our failure.
        """
        seconds = self.deadlines.turn_timeout_s
        if not seconds:
            return await awaited
        try:
            async with asyncio.timeout(seconds) as deadline:
                return await awaited
        except TimeoutError:
            if not deadline.expired():
                raise
            raise EpisodeFailed(f"the environment gave no answer within {seconds:g} s") from None

    async def speak(
        self, env: TextEnv, trajectory: Trajectory, prompt: tuple[int, ...], seed: int
    ) -> Turn:
        """One completion, of whoever has this seat; its reward is not known yet.

        Raises:
            EpisodeFailed: There is none.
            PromptTooLong: The context is full.
        """
        engine = speaker(self.engine, self.opponent, env, trajectory)
        completion = await engine.generate(prompt, replace(self.sampling, seed=seed))
        if completion.finish_reason == "abort":
            raise EpisodeFailed("the engine gave the request up")
        if not completion.token_ids:
            raise EpisodeFailed("the engine sampled no token")
        return Turn(
            prompt,
            tuple(completion.token_ids),
            tuple(completion.logprobs),
            self.chat.decode(completion.token_ids),
            0.0,
            completion.finish_reason,
            completion.policy_version,
        )

    def _next_prompt(self, env: TextEnv, trajectory: Trajectory) -> tuple[int, ...]:
        """What the policy sees next. An environment may answer nothing: it sees what it saw."""
        last, observation = trajectory.turns[-1], trajectory.answers[-1]
        if env.memory == "last":
            if not observation:
                return last.prompt_ids
            return self._prompt(trajectory, [*_system(trajectory), *observation])
        if trajectory.seat != last.seat:  # it goes on from its own last turn
            own = [turn for turn in trajectory.turns if turn.seat == trajectory.seat]
            if not own:
                return self._prompt(trajectory, [*_system(trajectory), *observation])
            last = own[-1]
        elif self.chat.history == "template":
            said = [turn.completion_ids for turn in trajectory.turns]
            return tuple(
                self.chat.conversation_ids(
                    trajectory.opening, said, trajectory.answers, tools=trajectory.definitions
                )
            )
        return tuple(
            self.chat.next_prompt_ids(
                last.prompt_ids, last.completion_ids, observation, tools=trajectory.definitions
            )
        )

    def _prompt(self, trajectory: Trajectory, messages: Sequence[Message]) -> tuple[int, ...]:
        return tuple(self.chat.prompt_ids(messages, tools=trajectory.definitions))

    def _action(self, trajectory: Trajectory, turn: Turn) -> Action:
        """What the environment hears: the text, or where the template told the tools, a message.

        The model's own parser then reads the calls, from the ids, as some are special tokens.
        """
        if trajectory.definitions is None:
            return turn.text
        return self.chat.parse(turn.completion_ids, tools=trajectory.definitions)


def _close(env: TextEnv, name: str) -> None:
    """Close an environment; what was played stands, and so does what is being raised."""
    try:
        with outside:
            env.close()
    except Exception as error:
        warnings.warn(f"{name}: close() raised {error}", RuntimeWarning, stacklevel=2)


def _truncate(trajectory: Trajectory, reason: str) -> None:
    """A limit of ours ends the episode where it stands; what its turns were paid, they keep."""
    trajectory.truncated = True
    trajectory.score = Score.wrong(reason, status="over_limit")


def _last_state(trajectory: Trajectory, context: int) -> tuple[int, ...]:
    """The state whose value stands for what a truncation cut off; nothing without one.

    It is what the policy would have seen next; where that is not known or no longer fits the
    context, the state after its last token.
    """
    if not trajectory.truncated or trajectory.error:
        return ()
    answered = len(trajectory.answers) == len(trajectory.turns)
    if answered and len(trajectory.final_prompt_ids) <= context:
        return trajectory.final_prompt_ids
    last = trajectory.turns[-1]
    return last.prompt_ids + last.completion_ids


def _system(trajectory: Trajectory) -> list[Any]:
    return [m for m in trajectory.opening if m["role"] == "system"]


def _cut(trajectory: Trajectory, limit: int, context: int) -> None:
    """The completion ran into the token limit: the episode ends here, unpaid."""
    last = trajectory.turns[-1]
    full = len(last.prompt_ids) + len(last.completion_ids) >= context
    reason = f"the context of {context} tokens is full" if full else f"cut at {limit} tokens"
    trajectory.cut = True
    trajectory.score = Score.wrong(reason, status="over_limit")


def note(trajectory: Trajectory, info: Mapping[str, Any]) -> None:
    """Keep what an answer says beside its messages: the verdict, and the counts of tools."""
    score = info.get("score")
    if isinstance(score, Score):
        trajectory.score = score
        if score.is_error:
            trajectory.error = score.error
    trajectory.tools = info.get("tools", trajectory.tools)
    trajectory.scores = info.get("scores", trajectory.scores)
