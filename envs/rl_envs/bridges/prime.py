"""Environments of Prime's ``verifiers``, in a virtual environment and a process of their own."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_envs.bridges.prime_parent import Child, children
from rl_envs.core import Reply, TextEnv
from rl_envs.tasks import DataError, ListTasks, bucket
from rl_envs.tools import ToolFailure, formats
from rl_envs.tools.formats import Parsed, from_message
from rl_envs.tools.formats.base import Outline
from rl_envs.types import Message, Task
from rl_verifiers.score import Score

_sessions = itertools.count()


class Prime(TextEnv):
    """An environment of Prime's verifiers, played in a child process.

    verifiers pins versions that clash with a training environment's, so it lives in a virtual
    environment of its own, whose interpreter is named here. With verifiers up to 0.1.x, a whole
    rollout runs there, with the environment's own loop, stop conditions and rubric; only the model
    is here. Of 0.4, tasks of one turn without tools and without a runtime are played.

    Args:
        env: The environment's (0.4: the taskset's) name, as installed there.
        python: The interpreter of that virtual environment, such as ``prime/bin/python``.
        env_options: What the environment is loaded with.
        path: Folders in which the child finds modules, besides what is installed.
        threshold: The reward from which on an episode counts as passed.
        call_format: How the policy writes tool calls, where the environment has tools.
        timeout_s: Longest answer of the child; it is then ended and started again.
        start_timeout_s: Longest start.
        max_tasks: Most rows of a data set.
        options: Those of ``TextEnv``.

    Raises:
        DataError: No such interpreter or environment, or one that cannot be played.
    """

    max_turns = 100
    source = "an environment of Prime's verifiers, in its own virtual environment"
    reads_data = True

    def __init__(
        self,
        *,
        env: str = "",
        python: str = "",
        env_options: Mapping[str, Any] | None = None,
        path: Sequence[str] = (),
        threshold: float = 1.0,
        call_format: str = "hermes",
        timeout_s: float = 120.0,
        start_timeout_s: float = 300.0,
        max_tasks: int = 100_000,
        **options: Any,
    ) -> None:
        self.env, self.python, self.threshold = env, python, threshold
        self.timeout_s, self.start_timeout_s = timeout_s, start_timeout_s
        self.request = {
            "env": env,
            "options": dict(env_options or {}),
            "max_tasks": max_tasks,
            "path": [str(Path(folder).resolve()) for folder in path],
        }
        self._format = formats.call_format(call_format)
        super().__init__(**options)
        self._child: Child | None = None
        self._session = -1
        self._known: list[dict[str, Any]] = []
        self._outlines: dict[str, Outline] = {}

    def load_tasks(self, split: str) -> ListTasks:
        """The rows of its data sets; where there is none for evaluation, split by content."""
        _, about = self._loaded()
        ids = about["ids"]
        own = {name: ids.get(name) for name in ("train", "test")}
        if own["train"] and own["test"]:
            kept_back = set(own["test"]) if split == "train" else set()
            named = enumerate(own[split])
            rows = [(split, row, name) for row, name in named if name not in kept_back]
        else:
            have = "train" if own["train"] else "test"
            named = enumerate(own[have] or ())
            rows = [(have, row, name) for row, name in named if bucket(name) == split]
        seen: set[str] = set()
        tasks = []
        for place, row, name in rows:
            if name not in seen:
                seen.add(name)
                tasks.append(Task(id=name, prompt="", info={"split": place, "row": row}))
        if not tasks:
            raise DataError(f"{self.env} has no {split} tasks")
        return ListTasks(tasks)

    async def opening(self, task: Task) -> list[Message]:
        """The prompt; tools are described in its system message."""
        self._leave()
        self._child, _ = await asyncio.to_thread(self._loaded)
        self._session, self._known = next(_sessions), []
        event = await self._asked("start", split=task.info["split"], row=task.info["row"])
        if event["event"] != "ask":
            raise ToolFailure(f"{self.env}: the episode was over before it began")
        self._known = event["messages"]
        messages = _messages(self._known)
        if event["tools"]:
            messages = self._with_tools(messages, event["tools"])
        return messages

    async def respond(self, action: str) -> Reply:
        """Hands the reply over; what follows, the reward and the end are the environment's."""
        parsed = self._parsed(action)
        if parsed.problems and not parsed.calls:
            lines = "\n".join(f"Error: {problem}" for problem in parsed.problems)
            return Reply([Message(role="user", content=lines)])
        calls = [
            {"id": call.id or f"call_{self.turn}_{n}", "name": call.name,
             "arguments": json.dumps(call.arguments)}
            for n, call in enumerate(parsed.calls)
        ]  # fmt: skip
        text = parsed.text if calls else action
        event = await self._asked("say", text=text, calls=calls)
        if event["event"] == "done":
            return self._over(event)
        new = self._new(event["messages"])
        return Reply(_messages(new))

    def close(self) -> None:
        """Ends the episode; the child stays for others."""
        self._leave()

    def _over(self, event: Mapping[str, Any]) -> Reply:
        value = float(event["reward"])
        verdict = Score.correct if value >= self.threshold else Score.wrong
        score = verdict(f"stopped by {event['stop']}" if event["stop"] else "", value=value)
        return Reply(
            _messages(event["messages"]),
            value,
            terminated=not event["truncated"],
            truncated=bool(event["truncated"]),
            score=score,
            info={"metrics": event["metrics"]},
        )

    def _loaded(self) -> tuple[Child, Mapping[str, Any]]:
        if not self.env or not self.python:
            raise DataError(
                "text/Prime-v0 needs `env`, an environment's name, and `python`, the interpreter "
                "of the virtual environment where it and verifiers are installed: "
                "python -m venv prime; prime/bin/pip install verifiers==0.1.14"
            )
        return children.loaded(self.python, self.request, self.start_timeout_s)

    async def _asked(self, do: str, **request: Any) -> dict[str, Any]:
        if self._child is None:
            raise ToolFailure(f"{self.env}: no episode")
        answer: dict[str, Any] = await self._child.ask(
            self.timeout_s, do, session=self._session, **request
        )
        return answer

    def _leave(self) -> None:
        child, self._child = getattr(self, "_child", None), None
        if child is not None:
            child.tell("drop", session=self._session)

    def _parsed(self, action: str) -> Parsed:
        spoken = self.messages[-1]
        if spoken.get("tool_calls"):
            return from_message(spoken)
        if not self._outlines:
            return Parsed(action)
        return self._format.parse(action, self._outlines)

    def _new(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What follows the reply in a conversation that only grows."""
        n_before = len(self._known)
        rest = messages[n_before:]
        if messages[:n_before] != self._known or not rest or rest[0]["role"] != "assistant":
            raise DataError(
                f"{self.env} rewrites its conversation between turns; only one that grows is played"
            )
        self._known = messages
        return rest[1:]

    def _with_tools(self, messages: list[Message], tools: Sequence[Any]) -> list[Message]:
        self._outlines = {
            tool["name"]: Outline(tool["name"], tool.get("parameters") or {}) for tool in tools
        }
        definitions = [
            {
                "type": "function",
                "function": {
                    "name": tool["name"],
                    "description": tool.get("description", ""),
                    "parameters": tool.get("parameters") or {"type": "object", "properties": {}},
                },
            }
            for tool in tools
        ]
        told = self._format.describe(definitions)
        if messages and messages[0]["role"] == "system":
            content = f"{messages[0]['content']}\n\n{told}"
            return [Message(role="system", content=content), *messages[1:]]
        return [Message(role="system", content=told), *messages]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_child": None}  # an episode there is not copied


def _messages(trees: Sequence[Mapping[str, Any]]) -> list[Message]:
    kept = ("role", "content", "tool_call_id", "name")
    return [
        Message(**{key: tree[key] for key in kept if key in tree})  # type: ignore[typeddict-item]
        for tree in trees
    ]


def end_children() -> None:
    """Ends the processes of all Prime environments; the next episode starts new ones."""
    children.end()
