"""Our tool environments as an ``environment_factory`` of TRL's GRPOTrainer."""

from __future__ import annotations

import inspect
import keyword
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import rl_envs
from rl_envs.packages import needed
from rl_envs.tasks import DataError
from rl_envs.tools import Tool, ToolEnv
from rl_verifiers import VerifierError
from rl_verifiers.score import Score

RESERVED = ("reset", "get_reward")
_MANY_TURNS = 1000
_MANY_SESSIONS = 4096
_AUTHORS = (DataError, VerifierError)  # for who wrote the environment: training ends with them
_TYPES: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
    "object": dict,
}


class _OutOfOrder(RuntimeError):  # noqa: N818 - what the model is told
    def __init__(self) -> None:
        super().__init__("the tools are out of order")


class TRLEpisode:
    """One episode as TRL plays it: ``reset``, and a public method for each tool.

    Subclasses, made by :class:`TRLFactory`, have the tools. Other names start with an underscore,
    for TRL takes every other function for a tool.
    """

    def __init__(self, env: ToolEnv) -> None:
        self._env = env
        self._total = 0.0
        self._broken: str | None = None
        self._score: Score | None = None

    def reset(self, task_index: int | None = None, **columns: Any) -> None:
        """Begins the episode of a row of :meth:`TRLFactory.rows`.

        Raises:
            DataError: The row names no task.
        """
        if task_index is None:
            raise DataError(
                "the row has no column task_index: train on factory.dataset(n), whose rows name "
                "the task, so that all samples of a group play the same one"
            )
        self._total, self._broken, self._score = 0.0, None, None
        try:
            self._env.reset(seed=int(task_index), options={"index": int(task_index)})
        except _AUTHORS:
            raise
        except Exception as error:  # a sandbox that does not start, say
            self._break(error)

    def _called(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The result of a call; what went wrong with it is raised, as TRL counts and tells it."""
        if self._broken is not None:
            raise _OutOfOrder
        if self._env.done:
            raise RuntimeError("the episode is over")
        function = {"name": name, "arguments": dict(arguments)}
        call = {"id": f"call_{self._env.turn}", "type": "function", "function": function}
        seen = self._stepped({"role": "assistant", "content": "", "tool_calls": [call]})
        results = self._env.results_of_turn
        if results and results[-1].is_error:
            raise RuntimeError(results[-1].content.removeprefix("Error: "))
        return "\n".join(str(message["content"]) for message in seen) or "Done."

    def _answered(self, text: str) -> float | None:
        """The reward of the whole episode once the model has said this; None where we failed."""
        if self._broken is None and not self._env.done:
            with suppress(_OutOfOrder):
                self._stepped(text)
        self._env.close()  # TRL never says that an episode is over, and keeps the instance
        failed = self._broken is not None or (self._score is not None and self._score.is_error)
        return None if failed or not math.isfinite(self._total) else self._total

    def _stepped(self, action: Any) -> Any:
        try:
            seen, reward, _, _, info = self._env.step(action)
        except _AUTHORS:
            raise
        except Exception as error:  # as in our own rollouts, whatever breaks is not the model's
            self._break(error)
            raise _OutOfOrder from error
        self._total += reward
        self._score = info.get("score") or self._score
        return seen

    def _break(self, error: Exception) -> None:
        self._broken = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        warnings.warn(f"an episode was given up: {self._broken}", RuntimeWarning, stacklevel=2)


class TRLFactory:
    """What ``GRPOTrainer(environment_factory=...)`` takes, with the data and the reward beside it.

    Attributes:
        reward: For ``reward_funcs``: the environment's reward of each episode.
    """

    def __init__(self, env_id: str, options: Mapping[str, Any]) -> None:
        self._made_with = (env_id, dict(options))
        plain = rl_envs.make(env_id, **options)
        if not isinstance(plain, ToolEnv):
            raise DataError(
                f"{env_id} has no tools; TRL's environments have nothing but tools. A single-turn "
                "environment's verifier is a reward function: rl_verifiers.interop.trl_reward"
            )
        # every call is a turn of ours, also of several at once; TRL limits the rounds by itself
        defaults: dict[str, Any] = {"describe_tools": False, "max_turns": _MANY_TURNS}
        if hasattr(plain, "max_sessions"):  # TRL plays turn by turn: all hold their boxes at once
            defaults["max_sessions"] = _MANY_SESSIONS
        env = cast(ToolEnv, rl_envs.make(env_id, **{**defaults, **options}))
        self._env = env
        self._class = _episode_class(env_id, env.tools)
        self.reward = _reward(env_id)

    def __call__(self) -> TRLEpisode:
        """A new episode of the environment."""
        return self._class(self._env.clone())

    def rows(self, count: int) -> list[dict[str, Any]]:
        """The first tasks as rows for a data set: ``prompt`` (messages) and ``task_index``.

        Args:
            count: How many.
        """
        size = self._env.tasks.size
        env, rows = self._env.clone(), []
        for index in range(count if size is None else min(count, size)):
            observation, _ = env.reset(seed=index, options={"index": index})
            rows.append({"prompt": [dict(m) for m in observation], "task_index": index})
        env.close()
        return rows

    def dataset(self, count: int) -> Any:
        """The rows as a ``datasets.Dataset``.

        Raises:
            DataError: The package datasets is missing.
        """
        package = needed("datasets", "environment_factory", "pip install 'agent-rl[hub]'")
        return package.Dataset.from_list(self.rows(count))

    def __reduce__(self) -> Any:
        return TRLFactory, self._made_with


def environment_factory(env_id: str, **options: Any) -> TRLFactory:
    """One of our tool environments for TRL's GRPOTrainer.

    The tools become methods, which TRL describes to the model through its chat template; the
    model's last message is the answer, which ``factory.reward`` has judged.

    Args:
        env_id: The id of a ``ToolEnv``.
        options: Its constructor options.

    Raises:
        DataError: No such environment, or one without tools.
    """
    return TRLFactory(env_id, options)


def _reward(env_id: str) -> Callable[..., list[float | None]]:
    def reward(completions: Sequence[Any], environments: Sequence[Any], **columns: Any) -> Any:
        """The environment's reward of each episode; None where we failed."""
        return [
            episode._answered(last_text(completion))
            for completion, episode in zip(completions, environments, strict=True)
        ]

    reward.__name__ = env_id.rpartition("/")[2].rpartition(":")[2]
    return reward


def last_text(completion: Any) -> str:
    """What the model said last; empty where its last turn was a call."""
    if isinstance(completion, str):
        return completion
    last = completion[-1] if completion else {}
    if last.get("role") != "assistant" or last.get("tool_calls"):
        return ""
    content = last.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content)
    return content or ""


def _episode_class(env_id: str, tools: Mapping[str, Tool]) -> type[TRLEpisode]:
    methods: dict[str, Any] = {}
    for name, tool in tools.items():
        if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
            raise DataError(f"{env_id}: TRL cannot have a tool called {name!r}")
        if name in RESERVED:
            raise DataError(f"{env_id}: a tool called {name!r} would be TRL's own method")
        methods[name] = _method(tool)
    title = "".join(part for part in env_id.rpartition("/")[2] if part.isalnum())
    return type(title or "Episode", (TRLEpisode,), methods)


def _method(tool: Tool) -> Callable[..., str]:
    """A method with the tool's name, types and docstring; from them TRL makes the schema again."""

    def method(self: TRLEpisode, *positional: Any, **arguments: Any) -> str:
        bound = signature.bind(self, *positional, **arguments).arguments
        given = {key: value for key, value in bound.items() if key != "self"}
        return self._called(tool.name, given)

    properties: Mapping[str, Any] = tool.schema.get("properties") or {}
    required = set(tool.schema.get("required") or ())
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters, lines = [own], []
    annotations: dict[str, Any] = {}
    for key in sorted(properties, key=lambda key: key not in required):
        told = properties[key]
        annotations[key] = kind = _TYPES.get(str(told.get("type")), str)
        default = inspect.Parameter.empty if key in required else told.get("default")
        if default is None:
            annotations[key] = kind | None
        parameters.append(
            inspect.Parameter(
                key, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind
            )
        )
        text = " ".join(str(told.get("description") or key).split())
        lines.append(f"    {key}: {text}")
    arguments = "\n\nArgs:\n" + "\n".join(lines) if lines else ""
    method.__name__ = method.__qualname__ = tool.name
    method.__doc__ = f"{tool.description}{arguments}\n\nReturns:\n    The result."
    method.__annotations__ = {**annotations, "return": str}
    signature = inspect.Signature(parameters, return_annotation=str)
    method.__signature__ = signature  # type: ignore[attr-defined]
    return method
