"""A connection to an OpenEnv server: one session, and never the answer to another question."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from rl_envs.packages import needed
from rl_envs.tasks import DataError
from rl_envs.tools import ToolFailure

INSTALL = "pip install 'agent-rl[openenv]'"
MAX_MESSAGE = 64 << 20
_CAPACITY = "CAPACITY_REACHED"
_PAUSE_S = 0.25


class OpenEnvRefusal(Exception):  # noqa: N818 - what a server said
    """The server answered with an error.

    Attributes:
        code: The protocol's: ``VALIDATION_ERROR``, ``EXECUTION_ERROR``, ...
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def socket_url(url: str) -> str:
    """The address of the WebSocket behind a server's address.

    Raises:
        DataError: It is no http, https, ws or wss address.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise DataError(f"url is {url!r}; it must be such as http://127.0.0.1:8000")
    path = parts.path.rstrip("/")
    return urlunsplit(
        (scheme, parts.netloc, path if path.endswith("/ws") else f"{path}/ws", "", "")
    )


class Link:
    """A session with an OpenEnv server over its WebSocket.

    The protocol numbers no messages. So one question is under way at a time, and where its answer
    does not come in time the connection is dropped, and with it the session: a late answer is
    never taken for that of a later question.

    Args:
        url: The server's address.
        connect_timeout_s: For connecting, and for waiting until a full server has room.
        headers: Sent when connecting, such as ``Authorization``.
    """

    def __init__(self, url: str, connect_timeout_s: float, headers: Mapping[str, str]) -> None:
        self._url = socket_url(url)
        self._connect_timeout_s = connect_timeout_s
        self._headers = dict(headers)
        self._socket: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_answered = False  # in this session; a full server speaks before it is asked

    @property
    def is_open(self) -> bool:
        """Whether there is a session that this event loop can use."""
        return self._socket is not None and self._loop is asyncio.get_running_loop()

    async def begin(self, message: Mapping[str, Any], timeout_s: float) -> Any:
        """The answer to the first message of a new session; waits while the server is full.

        Raises:
            ToolFailure: The server cannot be reached, stays full, or does not answer.
            OpenEnvRefusal: It answered with an error.
        """
        deadline = time.monotonic() + self._connect_timeout_s
        while True:
            self.drop()
            await self._connect(deadline)
            try:
                return await self.ask(message, timeout_s)
            except OpenEnvRefusal as refusal:
                if refusal.code != _CAPACITY:
                    raise
                if time.monotonic() > deadline:
                    raise ToolFailure(f"{self._url} is full: {refusal}") from refusal
            await asyncio.sleep(_PAUSE_S)

    async def ask(self, message: Mapping[str, Any], timeout_s: float) -> Any:
        """The ``data`` of the answer to a message.

        Raises:
            ToolFailure: The connection ended, no answer came in time, or it was unreadable.
            OpenEnvRefusal: The server answered with an error.
        """
        if not self.is_open:
            raise ToolFailure(f"{self._url}: the session is over")
        socket, answer = self._socket, None
        try:
            async with asyncio.timeout(timeout_s):
                if self._has_answered:
                    await self._check_silent(socket)
                await self._sent(socket, json.dumps(message))
                answer = json.loads(await socket.recv())
        except TimeoutError as error:
            raise ToolFailure(f"{self._url}: no answer within {timeout_s:g} s") from error
        except _closed() as error:
            raise ToolFailure(f"{self._url}: the connection ended: {error}") from error
        except (ValueError, RecursionError) as error:
            raise ToolFailure(f"{self._url} answered no JSON: {error}") from error
        finally:
            if answer is None:  # whatever happened, cancellation included
                self.drop()
        if not isinstance(answer, dict) or not isinstance(answer.get("data"), dict):
            self.drop()
            raise ToolFailure(f"{self._url} answered with {str(answer)[:200]}")
        data, kind = answer["data"], answer.get("type")
        self._has_answered = True
        if kind == "error":
            raise OpenEnvRefusal(str(data.get("code")), str(data.get("message"))[:500])
        if kind != "observation":
            self.drop()
            raise ToolFailure(f"{self._url} answered with {str(kind)[:100]!r}, not an observation")
        return data

    def drop(self) -> None:
        """Ends the session at once; may be called from anywhere."""
        socket, loop = self._socket, self._loop
        self._socket = self._loop = None
        if socket is None or loop is None or loop.is_closed():
            return
        try:
            if loop is asyncio.get_running_loop():
                socket.transport.abort()
                return
        except RuntimeError:
            pass  # no event loop here
        loop.call_soon_threadsafe(socket.transport.abort)

    async def _connect(self, deadline: float) -> None:
        client = needed("websockets.asyncio.client", "text/OpenEnv-v0", INSTALL)
        local = urlsplit(self._url).hostname in ("localhost", "127.0.0.1", "::1")
        try:
            self._socket = await client.connect(
                self._url,
                open_timeout=max(0.1, deadline - time.monotonic()),
                max_size=MAX_MESSAGE,
                additional_headers=self._headers,
                **({"proxy": None} if local else {}),
            )
        except (OSError, TimeoutError, _closed(), _refused()) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise ToolFailure(f"cannot connect to {self._url}: {said}") from error
        self._loop, self._has_answered = asyncio.get_running_loop(), False

    async def _check_silent(self, socket: Any) -> None:
        """Raises ToolFailure where the server has said more than it was asked."""
        try:
            async with asyncio.timeout(0):
                extra = await socket.recv()
        except (TimeoutError, _closed()):
            return
        raise ToolFailure(f"{self._url} said what it was not asked: {str(extra)[:200]}")

    @staticmethod
    async def _sent(socket: Any, text: str) -> None:
        try:
            await socket.send(text)
        except _closed():
            pass  # it said why before it closed; recv gives that, or raises


def _closed() -> type[Exception]:
    return needed("websockets.exceptions", "text/OpenEnv-v0", INSTALL).ConnectionClosed


def _refused() -> type[Exception]:
    return needed("websockets.exceptions", "text/OpenEnv-v0", INSTALL).InvalidHandshake


async def described(url: str, headers: Mapping[str, str], timeout_s: float) -> dict[str, Any]:
    """The JSON schema of a server's actions, from ``/schema``; empty where it has none.

    Raises:
        ToolFailure: The server cannot be reached.
    """
    httpx = needed("httpx", "text/OpenEnv-v0", INSTALL)
    base = urlsplit(socket_url(url))
    scheme = "https" if base.scheme == "wss" else "http"
    where = urlunsplit((scheme, base.netloc, base.path.removesuffix("/ws") + "/schema", "", ""))
    try:
        async with httpx.AsyncClient(timeout=timeout_s, headers=dict(headers)) as client:
            answer = await client.get(where)
            tree = answer.json() if answer.status_code == 200 else {}
    except (httpx.HTTPError, ValueError) as error:
        raise ToolFailure(f"cannot read {where}: {type(error).__name__}: {error}") from error
    action = tree.get("action") if isinstance(tree, dict) else None
    return action if isinstance(action, dict) else {}
