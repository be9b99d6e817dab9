"""One of our environments as an OpenEnv server: a session over a WebSocket is an episode.

``/ws`` speaks OpenEnv's protocol (``reset``, ``step``, ``state``, ``close``); ``/health``,
``/metadata`` and ``/schema`` are the HTTP endpoints that its clients ask for.
"""

from __future__ import annotations

import asyncio
import json
import math
import uuid
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from gymnasium.error import ResetNeeded
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from rl_envs.core import TextEnv
from rl_envs.tasks import DataError
from rl_sandboxes import wire
from rl_sandboxes.guard import Guard, error_handlers
from rl_sandboxes.server_jobs import RefusedError
from rl_verifiers.score import Score

T = TypeVar("T")

_CLOSE_S = 5.0
_AHEAD = 16
"""Messages of a client that are read before the first of them is answered."""

ACTION_SCHEMA = {
    "type": "object",
    "title": "TextAction",
    "properties": {
        "text": {"type": "string", "description": "The reply, exactly as sampled."},
        "metadata": {"type": "object", "default": {}},
    },
    "required": ["text"],
    "additionalProperties": False,
}
OBSERVATION_SCHEMA = {
    "type": "object",
    "title": "TextObservation",
    "properties": {
        "text": {"type": "string", "description": "The new messages' text."},
        "messages": {
            "type": "array",
            "description": "The new chat messages, each with role and content.",
            "items": {"type": "object"},
        },
        "done": {"type": "boolean"},
        "reward": {"type": ["number", "null"]},
        "metadata": {"type": "object"},
    },
}
STATE_SCHEMA = {
    "type": "object",
    "properties": {"episode_id": {"type": ["string", "null"]}, "step_count": {"type": "integer"}},
}


@dataclass(frozen=True)
class EnvServerOptions:
    """What a server allows.

    Attributes:
        max_sessions: Episodes at once; further connections are told so and closed.
        idle_timeout_s: A session that says nothing for so long is ended.
        timeout_s: Longest reset or step.
        max_body_mb: MiB of a message.
    """

    max_sessions: int = 64
    idle_timeout_s: float = 600.0
    timeout_s: float = 60.0
    max_body_mb: int = 4


class _Told(Exception):  # noqa: N818 - an answer
    """An error for the client; ``code`` is one of OpenEnv's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class _Session:
    """An episode of a client."""

    env: TextEnv
    episode_id: str | None = None
    steps: int = 0

    async def reset(self, data: Mapping[str, Any]) -> dict[str, Any]:
        known = {"seed", "index", "episode_id"}
        if unknown := set(data) - known:
            raise _Told(
                "VALIDATION_ERROR", f"reset: no {sorted(unknown)}; it takes {sorted(known)}"
            )
        seed, index, name = data.get("seed"), data.get("index"), data.get("episode_id")
        for key, value in (("seed", seed), ("index", index)):
            if value is not None and (type(value) is not int or not 0 <= value < 2**63):
                raise _Told("VALIDATION_ERROR", f"reset: {key} is {value!r}; it must be 0 or more")
        if name is not None and (type(name) is not str or len(name) > 255):
            raise _Told("VALIDATION_ERROR", "reset: episode_id must be a text of 255 characters")
        options = {} if index is None else {"index": index}
        try:
            observation, info = await self.env.areset(seed=seed, options=options)
        except (DataError, IndexError) as error:
            raise _Told("VALIDATION_ERROR", f"reset: {error}") from error
        self.steps, self.episode_id = 0, name or uuid.uuid4().hex
        return answer(observation, None, False, {"task_id": info.get("task_id")})

    async def step(self, data: Mapping[str, Any]) -> dict[str, Any]:
        text = data.get("text")
        if type(text) is not str or set(data) - {"text", "metadata"}:
            raise _Told("VALIDATION_ERROR", 'step: an action is {"text": "..."}')
        try:
            result = await self.env.astep(text)
        except ResetNeeded as error:
            raise _Told("EXECUTION_ERROR", str(error)) from error
        observation, reward, terminated, truncated, info = result
        self.steps += 1
        if not math.isfinite(reward):
            self.env.done = True
            raise _Told("EXECUTION_ERROR", f"the reward is {reward}, which is no number")
        score = info.get("score")
        about: dict[str, Any] = {"task_id": info.get("task_id"), "truncated": truncated}
        if isinstance(score, Score):
            if score.is_error:
                raise _Told("EXECUTION_ERROR", f"the answer could not be judged: {score.error}")
            about["score"] = {
                "value": score.value,
                "passed": score.passed,
                "status": score.status,
                "reason": score.reason,
            }
        return answer(observation, reward, terminated or truncated, about)

    def state(self) -> dict[str, Any]:
        return {"episode_id": self.episode_id, "step_count": self.steps}


def answer(
    observation: Any, reward: float | None, done: bool, about: Mapping[str, Any]
) -> dict[str, Any]:
    """An observation as OpenEnv's clients read it."""
    messages = [
        {key: value for key, value in each.items() if key in ("role", "content", "name")}
        for each in observation
    ]
    text = "\n\n".join(str(each["content"]) for each in messages)
    seen = {"text": text, "messages": messages, "metadata": dict(about)}
    return {"observation": seen, "reward": reward, "done": done, "metadata": dict(about)}


class EnvService:
    """An environment with its sessions; belongs to one event loop.

    Args:
        env: The prototype; every session plays on a clone.
        name: What is served.
        options: What is allowed.
        token: What clients must show; None lets everyone in who asks by a loopback name.
        version: Of the program.
    """

    def __init__(
        self,
        env: TextEnv,
        name: str,
        options: EnvServerOptions,
        token: str | None,
        version: str = "",
    ) -> None:
        self.env, self.name, self.options, self.version = env, name, options, version
        self.guard = Guard(token, options.max_body_mb)
        self.drained = asyncio.Event()
        self.draining = False
        self._has_token = token is not None
        self._open: set[asyncio.Task[Any]] = set()
        self._is_given_up = False

    def app(self) -> Starlette:
        """The ASGI application."""

        def guarded(tree: Any) -> Any:
            async def endpoint(request: Request) -> Response:
                self.guard.admit(request)
                return JSONResponse(tree)

            return endpoint

        async def health(request: Request) -> Response:
            return JSONResponse({"status": "unhealthy" if self.draining else "healthy"})

        about = {
            "name": self.name,
            "description": (type(self.env).__doc__ or self.name).strip().splitlines()[0],
            "version": self.version or None,
        }
        schema = {"action": ACTION_SCHEMA, "observation": OBSERVATION_SCHEMA, "state": STATE_SCHEMA}
        return Starlette(
            routes=[
                Route("/health", health, methods=["GET"]),
                Route("/metadata", guarded(about), methods=["GET"]),
                Route("/schema", guarded(schema), methods=["GET"]),
                WebSocketRoute("/ws", self._talk),
            ],
            exception_handlers=error_handlers(invalid=400),
        )

    def drain(self) -> None:
        """Take no more sessions; ``drained`` is set when those that are there have ended."""
        self.draining = True
        self._note_drained()

    def _note_drained(self) -> None:
        if self.draining and not self._open:
            self.drained.set()

    def give_up(self) -> None:
        """End the sessions that are there."""
        self._is_given_up = True
        for task in list(self._open):
            task.cancel()

    def _admit(self, connection: HTTPConnection) -> None:
        self.guard.admit(connection)  # type: ignore[arg-type]  # it reads headers and url only
        origin = connection.headers.get("origin")
        if origin is not None and not self._has_token:  # a web page asks; programs send none
            raise RefusedError(403, "origin", "without a token, no web page is answered")

    async def _talk(self, socket: WebSocket) -> None:
        """One connection: refused, told that there is no room, or a session."""
        try:
            self._admit(socket)
        except RefusedError:
            await socket.close()  # before it was accepted: 403
            return
        await socket.accept()
        if self.draining or len(self._open) >= self.options.max_sessions:
            why = "the server is ending" if self.draining else "no session is free"
            with suppress(WebSocketDisconnect, RuntimeError):
                await socket.send_text(_error("CAPACITY_REACHED", why))
                await socket.close()
            return
        task = asyncio.current_task()
        assert task is not None  # a handler runs in one
        self._open.add(task)
        try:
            await self._hosted(socket)
        except (WebSocketDisconnect, RuntimeError):  # gone, or gone while we wrote
            pass
        except asyncio.CancelledError:
            if not self._is_given_up:
                raise
        finally:
            self._open.discard(task)
            self._note_drained()

    async def _hosted(self, socket: WebSocket) -> None:
        """A session with an environment of its own, which is closed whatever happens."""
        try:
            session = _Session(self.env.clone())
        except Exception as error:
            await socket.send_text(_error("SESSION_ERROR", _one_line(error)))
            await socket.close()
            return
        heard: asyncio.Queue[str | None] = asyncio.Queue(_AHEAD)
        client = asyncio.create_task(_hear(socket, heard))
        try:
            await self._session(socket, session, client, heard)
        finally:
            client.cancel()
            session.env.close()

    async def _session(
        self,
        socket: WebSocket,
        session: _Session,
        client: asyncio.Task[None],
        heard: asyncio.Queue[str | None],
    ) -> None:
        while True:
            try:
                async with asyncio.timeout(self.options.idle_timeout_s):
                    raw = await _while_there(client, heard.get())
            except TimeoutError:
                idle = _error("SESSION_ERROR", "the session was idle for too long")
                await _while_there(client, socket.send_text(idle))
                break
            try:
                if raw is None:
                    raise wire.NotJsonError("a message is text, not bytes")
                message = wire.loads(raw.encode("utf-8", "surrogatepass"))
            except wire.WireError as error:
                await _while_there(client, socket.send_text(_error("INVALID_JSON", str(error))))
                continue
            message = message if isinstance(message, dict) else {}
            kind = message.get("type")
            if kind == "close":
                break
            told = await _while_there(client, self._answer(session, kind, message))
            await _while_there(client, socket.send_text(told))
        with suppress(RuntimeError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await socket.close()

    async def _answer(self, session: _Session, kind: Any, message: Any) -> str:
        if kind == "state":
            return json.dumps({"type": "state", "data": session.state()})
        try:
            told = await self._told(session, kind, message.get("data", {}))
        except _Told as error:
            return _error(error.code, str(error))
        except (Exception, SystemExit) as error:  # ours; the client hears, the server goes on
            session.env.done = True
            return _error("EXECUTION_ERROR", _one_line(error))
        return json.dumps({"type": "observation", "data": told}, default=str)

    async def _told(self, session: _Session, kind: Any, data: Any) -> dict[str, Any]:
        known = {"reset": session.reset, "step": session.step}
        if not isinstance(kind, str) or kind not in known:
            raise _Told("UNKNOWN_TYPE", f"unknown message type: {str(kind)[:100]}")
        if not isinstance(data, dict):
            raise _Told("VALIDATION_ERROR", "data must be an object")
        try:
            async with asyncio.timeout(self.options.timeout_s):
                return await known[kind](data)
        except TimeoutError:
            session.env.done = True
            slow = f"{kind} took over {self.options.timeout_s:g} s"
            raise _Told("EXECUTION_ERROR", slow) from None


def _error(code: str, message: str) -> str:
    return json.dumps({"type": "error", "data": {"message": message, "code": code}})


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


async def _hear(socket: WebSocket, heard: asyncio.Queue[str | None]) -> None:
    """Puts a client's messages into a queue (None for one of bytes) until it is gone."""
    while (message := await socket.receive())["type"] == "websocket.receive":
        await heard.put(message.get("text"))


async def _while_there(client: asyncio.Task[None], work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled when the client goes.

    Raises:
        WebSocketDisconnect: It went.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task, client}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise WebSocketDisconnect
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CLOSE_S)
