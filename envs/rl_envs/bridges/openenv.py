"""Environments behind an OpenEnv server, in text or with the server's tools."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rl_envs.bridges.openenv_link import Link, OpenEnvRefusal, described, socket_url
from rl_envs.core import Reply, TextEnv
from rl_envs.tasks import DataError, GeneratedTasks
from rl_envs.tools import Finish, Tool, ToolEnv, ToolError, ToolFailure
from rl_envs.types import Message, Task
from rl_verifiers.extract import json_value, last_number
from rl_verifiers.score import STATUSES, Score

_SHOWN = ("text", "content", "message", "prompt", "result", "output", "echoed_message")
_MAX_ACTION = 1 << 20
_MAX_REASON = 2000
TIMEOUT_S = 60.0


class _Server:
    """What both environments have in common: the options, the session, the seeds, the verdict."""

    def __init__(
        self,
        *,
        url: str = "",
        show: str | None = None,
        timeout_s: float = TIMEOUT_S,
        connect_timeout_s: float = 10.0,
        reset_options: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        for name, value in (("timeout_s", timeout_s), ("connect_timeout_s", connect_timeout_s)):
            if not value > 0:
                raise DataError(f"{name} is {value}; it must be above 0")
        self.url, self.show = url, show
        self.timeout_s, self.connect_timeout_s = timeout_s, connect_timeout_s
        self.reset_options, self.headers = dict(reset_options or {}), dict(headers or {})
        if url:
            socket_url(url)
        self._link: Link | None = None
        self._is_paid = False
        super().__init__(**options)

    def load_tasks(self, split: str) -> GeneratedTasks:
        """Seeds without end, sent with ``reset``; a seed belongs to one split only."""
        if not self.url:
            raise DataError(
                "no OpenEnv server is named: give `url`, such as http://127.0.0.1:8000; "
                "agent-rl serve-env ENV starts one of ours"
            )
        return GeneratedTasks(_seed_task, split=split)

    async def _reset(self, task: Task) -> Mapping[str, Any]:
        """The first observation of a new session.

        Raises:
            ToolFailure: The server cannot be reached or failed.
            DataError: It refused what it was told.
        """
        self._leave()
        self._is_paid = False
        self._link = Link(self.url, self.connect_timeout_s, self.headers)
        message = {"type": "reset", "data": {"seed": task.info["seed"], **self.reset_options}}
        try:
            data = await self._link.begin(message, self.timeout_s)
        except OpenEnvRefusal as refusal:
            if refusal.code == "VALIDATION_ERROR":
                raise DataError(
                    f"{self.url} refused reset with {message['data']}: {refusal}"
                ) from refusal
            raise ToolFailure(f"{self.url} failed to reset: {refusal}") from refusal
        if verdict_in(data)[1]:
            raise ToolFailure(f"{self.url} gave an episode that is over before it began")
        return data

    async def _step(self, action: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._link is None:
            raise ToolFailure(f"{self.url}: no session")
        return await self._link.ask({"type": "step", "data": action}, self.timeout_s)

    def _verdict(self, data: Mapping[str, Any]) -> tuple[float, bool]:
        """The reward of a step and whether the episode is over.

        Raises:
            ToolFailure: They are no number and no truth value, or it is over and none of its
                steps had a reward: OpenEnv lets a server leave it out, and that is no 0.
        """
        value, done = verdict_in(data)
        self._is_paid |= data.get("reward") is not None
        if done and not self._is_paid:
            raise ToolFailure(f"{self.url} ended an episode without ever giving a reward")
        return value, done

    def _leave(self) -> None:
        link, self._link = getattr(self, "_link", None), None
        if link is not None:
            link.drop()

    def close(self) -> None:
        """Ends the session."""
        self._leave()
        super().close()  # type: ignore[misc]  # that of the environment beside it

    def _messages(self, data: Mapping[str, Any]) -> list[Message]:
        """The observation as messages: a server of ours sends them as they are."""
        seen = data.get("observation")
        seen = seen if isinstance(seen, dict) else {"text": seen}
        given = seen.get("messages")
        if self.show is None and isinstance(given, list) and all(map(_is_message, given)):
            return [Message(role=each["role"], content=each["content"]) for each in given]
        return [Message(role="user", content=shown(seen, self.show))]


class OpenEnv(_Server, TextEnv):
    """An environment behind an OpenEnv server, spoken to over its WebSocket.

    Task ``i`` is a seed for ``reset``. Each episode is a session of its own. The action is made of
    the reply by the server's schema: a single text field gets the reply, a single number the last
    number in it, anything else is read as a JSON object. A server that is down, full, slow or
    failing is our failure: the episode is tried again, then left out. So is one that ends an
    episode without having given a reward.

    Args:
        url: The server's address, such as ``http://127.0.0.1:8000``.
        field: The field of the action that gets the reply, where the schema should not decide.
        show: The field of the observation to show; None: the one with text, or all as JSON.
        timeout_s: Longest wait for an answer.
        connect_timeout_s: Longest wait for a connection, and for room on a full server.
        reset_options: More to send with ``reset``.
        headers: HTTP headers, such as ``{"Authorization": "Bearer ..."}``.
        options: Those of ``TextEnv``.

    Raises:
        DataError: No address, or not a valid one.
    """

    max_turns = 100
    source = "seeds for an OpenEnv server (extra openenv)"
    reads_data = True

    def __init__(self, *, field: str | None = None, **options: Any) -> None:
        self.field = field
        self._schema: dict[str, Any] | None = None
        super().__init__(**options)

    async def opening(self, task: Task) -> list[Message]:
        """What the server's ``reset`` shows."""
        if self._schema is None:
            self._schema = {}
            if self.field is None:
                self._schema = await described(self.url, self.headers, self.connect_timeout_s)
        return self._messages(await self._reset(task))

    async def respond(self, action: str) -> Reply:
        """Sends the action; the reward and the end are the server's."""
        action = action.encode("utf-8", "replace").decode()  # half a character is no JSON text
        try:
            sent = {self.field: action} if self.field else action_for(self._schema or {}, action)
        except ToolError as error:
            return Reply([Message(role="user", content=f"Error: {error}")])
        try:
            data = await self._step(sent)
        except OpenEnvRefusal as refusal:
            if refusal.code != "VALIDATION_ERROR":
                raise ToolFailure(f"{self.url} failed: {refusal}") from refusal
            return Reply([Message(role="user", content=f"Error: {refusal}")])
        value, done = self._verdict(data)
        about = data.get("metadata")
        cut = done and isinstance(about, dict) and bool(about.get("truncated"))
        score = score_in(about, value) if done else None
        messages = self._messages(data)
        return Reply(messages, value, terminated=done and not cut, truncated=cut, score=score)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_link": None}  # a session is not copied


class OpenEnvTools(_Server, ToolEnv):
    """An environment of MCP tools behind an OpenEnv server; its tools are the policy's.

    The tools are asked for at the first ``reset``. A call is a step of the server's; a reward and
    an end that come with it are the turn's. A reply without a call ends the episode.

    Args:
        url: The server's address, such as ``http://127.0.0.1:8000``.
        show: The field of the first observation to show.
        timeout_s: Longest wait for an answer.
        connect_timeout_s: Longest wait for a connection, and for room on a full server.
        reset_options: More to send with ``reset``.
        headers: HTTP headers.
        options: Those of ``ToolEnv``.

    Raises:
        DataError: No address, or not a valid one.
    """

    source = "seeds for an OpenEnv server (extra openenv)"
    reads_data = True

    def __init__(self, *, timeout_s: float = TIMEOUT_S, **options: Any) -> None:
        options.setdefault("tool_timeout_s", timeout_s + 5)
        super().__init__(timeout_s=timeout_s, **options)
        self._given = self._specs
        self._is_told = False
        self._total = 0.0

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The tools by name; before the first ``reset`` the server's are not known."""
        return super().tools if self._is_told or self._given else {}

    async def opening(self, task: Task) -> list[Message]:
        """What ``reset`` shows; the tools are known after it."""
        self._total = 0.0
        data = await self._reset(task)
        listed = await self._step({"type": "list_tools"})
        seen = listed.get("observation")
        tools = seen.get("tools") if isinstance(seen, dict) else None
        if not isinstance(tools, list) or not all(map(_is_tool, tools)):
            raise ToolFailure(f"{self.url} listed no tools but {str(seen)[:200]}")
        self._specs = (*self._given, *(self._tool(each) for each in tools))
        self._tools, self._text, self._is_told = None, None, True
        return self._messages(data)

    async def finished(self, answer: str) -> Reply:
        """The episode's end: by the server, or by a reply without a call."""
        score = (Score.correct if self._total >= 1.0 else Score.wrong)(value=self._total)
        return Reply(terminated=True, score=score)

    def _tool(self, told: Mapping[str, Any]) -> Tool:
        name = str(told["name"])
        schema = told.get("input_schema") or {"type": "object", "properties": {}}

        async def call(**arguments: Any) -> Any:
            return await self._call(name, arguments)

        return Tool(name, str(told.get("description") or name), schema, call)

    async def _call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        message = {"type": "call_tool", "tool_name": name, "arguments": dict(arguments)}
        try:
            data = await self._step(message)
        except OpenEnvRefusal as refusal:
            if refusal.code == "VALIDATION_ERROR":
                raise ToolError(str(refusal)) from refusal
            raise ToolFailure(f"{self.url} failed: {refusal}") from refusal
        seen = data.get("observation")
        seen = seen if isinstance(seen, dict) else {"result": seen}
        error = seen.get("error")
        if isinstance(error, dict) and error.get("error_type") in ("transport_error", "timeout"):
            raise ToolFailure(f"{self.url}: {error.get('message')}")
        reward, done = self._verdict(data)
        self.pay(reward)
        self._total += reward
        if isinstance(error, dict):
            raise ToolError(str(error.get("message")))
        if done:
            return Finish("")
        return _tool_text(seen.get("result"))

    def __getstate__(self) -> dict[str, Any]:
        given = {"_link": None, "_specs": self._given, "_is_told": False}
        return {**super().__getstate__(), **given}


def action_for(schema: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The action that a reply stands for, by the JSON schema of a server's actions.

    Raises:
        ToolError: The reply holds none; the text says what is wanted.
    """
    if len(text) > _MAX_ACTION:
        raise ToolError(f"an action of over {_MAX_ACTION} characters")
    properties = {k: v for k, v in (schema.get("properties") or {}).items() if k != "metadata"}
    required = [name for name in schema.get("required") or [] if name in properties]
    wanted = required or list(properties)
    kind = properties[wanted[0]].get("type") if len(wanted) == 1 else None
    if kind == "string":
        return {wanted[0]: text}
    if kind in ("integer", "number"):
        found = last_number(text)
        try:
            number = float((found or "").replace(",", ""))
            return {wanted[0]: int(number) if kind == "integer" else number}
        except (ValueError, OverflowError):
            raise ToolError("the reply holds no number") from None
    try:
        value = json_value(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        names = ", ".join(f"{name}: {properties[name].get('type', 'any')}" for name in properties)
        raise ToolError(f"an action is a JSON object with {names or 'the fields of the action'}")
    return value


def verdict_in(data: Mapping[str, Any]) -> tuple[float, bool]:
    """The reward (0 where there is none yet) and whether the episode is over.

    Raises:
        ToolFailure: They are no number and no truth value.
    """
    reward, done = data.get("reward"), data.get("done")
    try:
        value = 0.0 if reward is None else float(reward)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if isinstance(reward, str) or not math.isfinite(value):
        raise ToolFailure(f"the server gave the reward {repr(reward)[:100]}, which is no number")
    if done is not None and not isinstance(done, bool):
        raise ToolFailure(f"the server gave done={repr(done)[:100]}, which is not true or false")
    return value, bool(done)


def score_in(about: Any, value: float) -> Score:
    """The verdict of an episode's end: with the status and reason that a server of ours sends."""
    told = about.get("score") if isinstance(about, dict) else None
    if isinstance(told, dict):
        passed, reason = told.get("passed"), told.get("reason")
        status: Any = told.get("status")
        known = status in STATUSES and status != "error"
        if known and isinstance(passed, bool) and isinstance(reason, str):
            return Score(value, passed, status, reason[:_MAX_REASON])
    return (Score.correct if value >= 1.0 else Score.wrong)(value=value)


def shown(seen: Mapping[str, Any], field: str | None) -> str:
    """An observation in text."""
    rest = {key: value for key, value in seen.items() if key not in ("metadata", "done", "reward")}
    if field is not None:
        if field not in rest:
            raise DataError(f"show is {field!r}; the observation has {', '.join(rest)}")
        value = rest[field]
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if not rest and seen.get("metadata"):
        rest = dict(seen["metadata"])
    texts = {key: value for key, value in rest.items() if isinstance(value, str) and value}
    if len(texts) == 1 or (texts and len(rest) > 1 and next(iter(texts)) in _SHOWN):
        return next(iter(texts.values()))
    return json.dumps(rest, ensure_ascii=False)


def _tool_text(result: Any) -> Any:
    """The text of a tool's result; MCP wraps it in a structure of its own."""
    if isinstance(result, dict):
        if "data" in result and result["data"] is not None:
            return result["data"]
        content = result.get("content")
        if isinstance(content, list):
            texts = [each.get("text") for each in content if isinstance(each, dict)]
            if texts and all(isinstance(text, str) for text in texts):
                return "\n".join(texts)  # type: ignore[arg-type]
    return "" if result is None else result


def _is_tool(value: Any) -> bool:
    schema = value.get("input_schema") if isinstance(value, dict) else 0
    return isinstance(schema, dict | None) and isinstance(value.get("name"), str)


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(key), str) for key in ("role", "content")
    )


def _seed_task(rng: np.random.Generator) -> Task:
    seed = int(rng.integers(2**31))
    return Task(id=str(seed), prompt="", info={"seed": seed})
