"""The base of every environment: messages in, messages and rewards out, behind Gymnasium's API."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, ClassVar, Literal, Self, final

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded

import rl_verifiers
from rl_envs.driver import wait
from rl_envs.judges import GroupVerifier, VerifierSpec, check_verifier, resolve_verifier
from rl_envs.spaces import ChatSpace, TextSpace, action_text
from rl_envs.tasks import DataError, as_tasks
from rl_envs.types import Action, Message, Observation, Task, TaskSource
from rl_verifiers.score import Row, Score, Verdict, Verifier

StepResult = tuple[Observation, float, bool, bool, dict[str, Any]]

_UNJUDGED = "{} has no verifier: set `verifier` or override `score`"
_ENDLESS = 2**31  # indices drawn from a source without a size


@dataclass(frozen=True, slots=True)
class Reply:
    """What an environment answers to an action.

    Attributes:
        messages: The new messages (a tool's output, the next observation); empty at the end.
        reward: The reward of this turn.
        terminated: The task ended: nothing can follow, the value of what comes next is 0.
        truncated: A limit ended it: something would have followed, a trainer may bootstrap.
        score: The verdict that the reward came from, if there was one.
        info: More for ``info``.
    """

    messages: Sequence[Message] = ()
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    score: Score | None = None
    info: Mapping[str, Any] = field(default_factory=dict)


class TextEnv(gymnasium.Env[Observation, Action]):
    """A Gymnasium environment whose actions are texts and whose observations are new messages.

    An author gives tasks (``load_tasks`` or ``tasks``) and a judge (``verifier`` or a method
    ``score``); that is a single-turn environment. ``respond`` makes it a dialogue, a tool loop or
    a game. Any hook may be ``async``. An instance holds one episode and is cheap; ``clone`` gives
    another that shares the tasks.

    Attributes:
        max_turns: Actions per episode; the episode is truncated when they are used up.
        discount: What a trainer should discount by, 0..1.
        memory: ``full``: the policy sees the whole conversation; ``last``: only the newest
            observation (for games whose observation is the state).
        system_prompt: Put before the task's messages.
        verifier: Judges completions: a name, ``{"name": ..., **options}`` or a callable.
        group_verifier: Judges all completions of a task together: a callable or a registered name.
        tasks: The tasks; a list of tasks or rows, a path, or a source. Default: ``load_tasks``.
        splits: The splits that ``load_tasks`` knows.
        styles: The styles that ``demonstration`` knows.
        reads_data: ``load_tasks`` reads files or the network, so a listing leaves it alone.
        source: Where the tasks come from, for a listing.
        shared: In a training run, what ``set_up_group`` gave; None outside one.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012  # Gymnasium's type

    max_turns: int = 1
    discount: float = 1.0
    memory: Literal["full", "last"] = "full"
    system_prompt: str | None = None
    verifier: Any = None
    group_verifier: Any = None
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    styles: ClassVar[tuple[str, ...]] = ()
    reads_data: ClassVar[bool] = False
    source: str = ""
    shared: Any = None
    _given_tasks: Any = None
    _judging_hooks: ClassVar[tuple[str, ...]] = (
        "score",
        "judging",
        "judge",
        "respond",
    )  # one is enough
    _made_with: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})  # for clone

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keeps the options, for ``clone``."""
        self = super().__new__(cls)
        self._made_with = (args, kwargs)
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("verifier", "group_verifier"):
            if isinstance(cls.__dict__.get(name), FunctionType):  # or it would be bound to self
                setattr(cls, name, staticmethod(cls.__dict__[name]))
        if "tasks" in cls.__dict__:  # ``tasks = [...]`` in a class body; the property stays
            cls._given_tasks = cls.__dict__["tasks"]
            del cls.tasks

    def __init__(
        self,
        *,
        split: str = "train",
        tasks: Any = None,
        verifier: VerifierSpec | None = None,
        group_verifier: VerifierSpec | GroupVerifier | None = None,
        system_prompt: str | None = None,
        max_turns: int | None = None,
        discount: float | None = None,
        memory: Literal["full", "last"] | None = None,
        render_mode: str | None = None,
    ) -> None:
        options = {
            "_given_tasks": tasks,
            "verifier": verifier,
            "group_verifier": group_verifier,
            "system_prompt": system_prompt,
            "max_turns": max_turns,
            "discount": discount,
            "memory": memory,
        }
        for name, value in options.items():
            if value is not None:
                setattr(self, name, value)
        check_verifier(type(self).__name__, self.verifier)
        check_verifier(type(self).__name__, self.group_verifier)
        if isinstance(self.group_verifier, str | Mapping):
            self.group_verifier = resolve_verifier(self.group_verifier)
        self.split = split
        self.render_mode = render_mode
        self._check_options()
        self.observation_space = ChatSpace()
        self.action_space = TextSpace()
        self._source: TaskSource | None = None
        self._judge: Verifier | None = None
        self._task: Task | None = None
        self.turn = 0
        self.done = True
        self.messages: list[Message] = []

    def _check_options(self) -> None:
        name = type(self).__name__
        if self.split not in self.splits:
            raise DataError(f"{name} has no split {self.split!r}; it has {list(self.splits)}")
        if self.max_turns < 1:
            raise DataError(f"{name}: max_turns is {self.max_turns}; it must be at least 1")
        if not 0.0 <= self.discount <= 1.0:
            raise DataError(f"{name}: discount is {self.discount}; it must be within 0..1")
        if self.memory not in ("full", "last"):
            raise DataError(f"{name}: memory is {self.memory!r}; it must be 'full' or 'last'")
        if self.render_mode not in (None, "ansi"):
            raise DataError(
                f"{name}: render_mode is {self.render_mode!r}; it must be None or 'ansi'"
            )

    # Hooks: what an author overrides.

    def load_tasks(self, split: str) -> TaskSource | Sequence[Any]:
        """The tasks of a split: a source, or a list of tasks or rows. Called once, on first use."""
        raise DataError(
            f"{type(self).__name__} has no tasks: give it `tasks` or override `load_tasks(split)`"
        )

    def begin(self, task: Task) -> Awaitable[None] | None:
        """Sets up what belongs to one episode, before ``opening``; ``close`` gives it back."""
        return None

    def set_up_group(self, task: Task) -> Any | Awaitable[Any]:
        """What all episodes of a group (the samples of one task) share. Default: nothing.

        A rollout calls it once per group, on an environment without an episode, and puts the
        result on every member as ``shared`` before its reset. When the last member is done, the
        result's ``close()`` is called (awaited, if it is a coroutine), where it has one. Members
        run at the same time: share what they only read, a loaded file or a prepared image.
        """
        return None

    def opening(self, task: Task) -> Sequence[Message] | Awaitable[Sequence[Message]]:
        """The first messages, after the system prompt. Default: the task's prompt."""
        if isinstance(task.prompt, str):
            return [Message(role="user", content=task.prompt)]
        return task.prompt

    def respond(self, action: str) -> Reply | Awaitable[Reply]:
        """The answer to an action. Default: judge it and end the episode.

        Override it as a method or as a coroutine. ``self.task``, ``self.turn`` (1 for the first
        action), ``self.messages`` (the whole conversation, the action included) and ``await
        self.judge(text)`` are at hand.
        """
        return self._judged(action)

    def score(self, completion: str, row: Row) -> Verdict | Awaitable[Verdict]:
        """The verdict on a completion. Override it, or set ``verifier``, which goes first."""
        raise DataError(_UNJUDGED.format(type(self).__name__))

    def demonstration(self, task: Task, style: str, rng: np.random.Generator) -> str:
        """A right completion for a task of one turn, outside an episode.

        Args:
            task: Which task.
            style: One of ``styles``.
            rng: Where choices come from.

        Raises:
            DataError: The environment has no demonstrations.
        """
        raise DataError(f"{type(self).__name__} has no demonstrations")

    def demonstrate(self, style: str, rng: np.random.Generator) -> str:
        """The next action of a demonstration in the running episode: the oracle.

        Supervised training plays whole episodes with it, and ``expert`` is it. Default:
        ``demonstration``, which is for one turn; where more are played, override this.

        Args:
            style: One of ``styles``; the same in all turns of an episode.
            rng: Where choices come from.

        Raises:
            DataError: The environment has no demonstrations, or none of a later turn.
        """
        if self.turn > 0 and type(self).demonstrate is TextEnv.demonstrate:
            raise DataError(
                f"{type(self).__name__}: `demonstration` is for one turn, and this is turn "
                f"{self.turn + 1}: override `demonstrate(style, rng)`"
            )
        return self.demonstration(self.task, style, rng)

    @final
    def expert(self, rng: np.random.Generator) -> str:
        """A good action now, in the running episode: ``demonstrate`` in the first style.

        Never overridden, so that training and validation play the same oracle.

        Raises:
            DataError: The environment knows none.
        """
        return self.demonstrate(self.styles[0] if self.styles else "", rng)

    # The episode.

    @property
    def tasks(self) -> TaskSource:
        """The task source, loaded on first use."""
        if self._source is None:
            given = self._given_tasks
            self._source = as_tasks(self.load_tasks(self.split) if given is None else given)
        return self._source

    @property
    def task(self) -> Task:
        """The task being played.

        Raises:
            ResetNeeded: No episode has begun.
        """
        if self._task is None:
            raise ResetNeeded("no episode has begun: call reset() first")
        return self._task

    @property
    def judging(self) -> Verifier:
        """What judges completions, also outside an episode: ``verifier`` if set, else ``score``.

        Raises:
            DataError: Neither is there.
        """
        if self.verifier is not None:
            if self._judge is None:
                self._judge = resolve_verifier(self.verifier)
            return self._judge
        if type(self).score is TextEnv.score:
            raise DataError(_UNJUDGED.format(type(self).__name__))
        return self.score

    def prepare(self) -> None:
        """Builds what judges, and lets it try what it needs (a sandbox, say) if it has a way to.

        Raises:
            DataError: Nothing judges: no ``verifier``, and no hook that could is overridden.
            VerifierError: It cannot work; better now than at the first completion.
        """
        if self.verifier is None and not any(map(self._overrides, self._judging_hooks)):
            raise DataError(_UNJUDGED.format(type(self).__name__))
        if self.verifier is not None:
            getattr(self.judging, "prepare", lambda: None)()

    def _overrides(self, name: str) -> bool:
        """Whether an author gave an attribute of his own; our base classes do not count."""
        owner = next(base for base in type(self).__mro__ if name in vars(base))
        return name in vars(self) or "_judging_hooks" not in vars(owner)

    def system_text(self) -> str | None:
        """The text of the system message; None for no such message."""
        return self.system_prompt

    async def judge(self, completion: str) -> Score:
        """The score of a completion of the present task; status ``error`` where we failed twice."""
        row = self.task.row()
        score = await rl_verifiers.score_one(self.judging, completion, row)
        if score.is_error:  # not the policy's doing: once more
            score = await rl_verifiers.score_one(self.judging, completion, row)
        return score

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begins an episode.

        Args:
            seed: Seeds ``np_random``.
            options: ``{"index": i}`` plays task ``i``; ``{"task": Task}`` plays that very task;
                otherwise ``np_random`` draws an index.

        Returns:
            The system prompt, if any, with the task's messages; and ``task_id``, ``index`` (None
            for a given task).
        """
        task, index = self._begin(seed, options)
        opening = self._open(task)
        return self._opened(wait(opening) if inspect.isawaitable(opening) else opening, index)

    async def areset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """``reset`` for use inside an event loop."""
        task, index = self._begin(seed, options)
        opening = self._open(task)
        return self._opened(await opening if inspect.isawaitable(opening) else opening, index)

    def step(self, action: Action) -> StepResult:
        """Plays an action: the assistant's text exactly as sampled, or an assistant message.

        Returns:
            The new messages, the reward, ``terminated``, ``truncated``, and ``info`` with ``score``
            (a Score or None), ``task_id`` and ``turn``.

        Raises:
            ResetNeeded: The episode is over or has not begun.
        """
        reply = self.respond(self._heard(action))
        return self._answered(wait(reply) if inspect.isawaitable(reply) else reply)

    async def astep(self, action: Action) -> StepResult:
        """``step`` for use inside an event loop; many episodes then run at once."""
        reply = self.respond(self._heard(action))
        return self._answered(await reply if inspect.isawaitable(reply) else reply)

    def render(self) -> str | None:
        """The conversation so far as text, where ``render_mode`` is ``ansi``."""
        if self.render_mode != "ansi":
            return None
        return "\n".join(f"{m['role']}: {m['content'] or ''}" for m in self.messages)

    def clone(self) -> Self:
        """Another environment with the same options and no episode.

        It shares the tasks, and the judge where it is built.
        """
        twin = type(self)(*self._made_with[0], **self._made_with[1])
        twin._source, twin._judge, twin.spec = self._source, self._judge, self.spec
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_judge": None}  # built again on use; it may hold processes

    def _begin(self, seed: int | None, options: dict[str, Any] | None) -> tuple[Task, int | None]:
        super().reset(seed=seed)
        options = options or {}
        index: int | None = options.get("index")
        task: Task | None = options.get("task")
        if task is None:
            if index is None:
                size = self.tasks.size
                index = int(self.np_random.integers(_ENDLESS if size is None else size))
            task = self.tasks[index]
        self._task, self.turn, self.done, self.messages = task, 0, False, []
        return task, index

    def _open(self, task: Task) -> Sequence[Message] | Awaitable[Sequence[Message]]:
        begun = self.begin(task)
        return self.opening(task) if begun is None else self._open_after(begun, task)

    async def _open_after(self, begun: Awaitable[None], task: Task) -> Sequence[Message]:
        await begun
        opening = self.opening(task)
        return await opening if inspect.isawaitable(opening) else opening

    def _opened(
        self, opening: Sequence[Message], index: int | None
    ) -> tuple[Observation, dict[str, Any]]:
        told = self.system_text()
        system = [Message(role="system", content=told)] if told else []
        observation = self._say([*system, *opening])
        return observation, {"task_id": self.task.id, "index": index}

    def _heard(self, action: Action) -> str:
        if self.done:
            state = "has not begun" if self._task is None else "is over"
            raise ResetNeeded(f"the episode {state}: call reset() before step()")
        text = action_text(action)
        spoken = Message(role="assistant", content=text)
        self.messages.append(spoken if isinstance(action, str) else copy.copy(action))
        self.turn += 1
        return text

    def _answered(self, reply: Reply) -> StepResult:
        terminated = bool(reply.terminated)
        truncated = not terminated and (reply.truncated or self.turn >= self.max_turns)
        self.done = terminated or truncated
        info = {**reply.info, "score": reply.score, "task_id": self.task.id, "turn": self.turn}
        return self._say(reply.messages), float(reply.reward), terminated, truncated, info

    def _say(self, messages: Sequence[Message]) -> Observation:
        self.messages.extend(messages)
        return tuple(copy.copy(message) for message in messages)  # the caller may keep or edit it

    async def _judged(self, action: str) -> Reply:
        score = await self.judge(action)
        return Reply(reward=score.value, terminated=True, score=score)
