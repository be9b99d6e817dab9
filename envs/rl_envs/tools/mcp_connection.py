"""Connections to MCP servers: one event loop of their own, one task that owns each connection."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

from rl_envs.driver import BackgroundLoop
from rl_envs.tools.mcp_spec import Address

T = TypeVar("T")

SHOWN_STDERR = 1000
"""Characters of what a server printed that an error tells, from the end."""
MAX_CONNECTING = 8
"""Connections of a process that are being opened at one time."""
PING_S = 3.0
"""Longest wait for a server's sign of life after it did not answer a call in time."""
CLOSING_S = 10.0
"""Longest wait for the connections at the end; a server gets two seconds, then a signal."""


class ConnectError(Exception):
    """A server cannot be reached, or ended before it answered."""


class Connection:
    """A session with a server; lives on ``LOOP``.

    The client must be left by the task that entered it, so a task of its own owns it. Calls are
    made by any task of the loop: replies find their call by its number.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.client: Any = None
        self.closed = False
        self._stop = asyncio.Event()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stderr: _Stderr | None = None
        self._ping: asyncio.Task[Exception | None] | None = None
        self._task = asyncio.create_task(self._own(), name=f"mcp {address}"[:80])
        _live.add(self)

    @classmethod
    async def open(cls, address: Address, timeout_s: float) -> Connection:
        """A new connection.

        Raises:
            ConnectError: The server cannot be reached, ended, or said nothing in time.
        """
        async with _connecting():
            connection = cls(address)
            try:
                async with asyncio.timeout(timeout_s):
                    await asyncio.shield(connection._opened)
            except TimeoutError:
                await connection.close()
                said = connection.said()
                raise ConnectError(f"no answer within {timeout_s:g} s{said}") from None
            except asyncio.CancelledError:
                connection.stop()
                raise
            return connection

    def stop(self) -> None:
        """Begins to close it."""
        self._stop.set()
        if not self._opened.done():
            self._task.cancel()

    async def close(self) -> None:
        """Closes it; its process is gone afterwards."""
        self.stop()
        await asyncio.wait([self._task])

    async def ping(self) -> Exception | None:
        """What came of a ping instead of an answer, if anything; all who ask at once share one.

        Since protocol 2026-07-28 there is no ``ping``; such a server is asked what it can do.
        """
        if self._ping is None or self._ping.done():
            self._ping = asyncio.create_task(self._pinged())
        return await asyncio.shield(self._ping)

    async def _pinged(self) -> Exception | None:
        from mcp_types import EmptyResult, PingRequest  # noqa: PLC0415 - an extra

        session = self.client.session
        try:
            async with asyncio.timeout(PING_S):
                if session.discover_result is not None:
                    await session.send_discover(self.client.protocol_version)
                else:
                    await session.send_request(PingRequest(), EmptyResult)
        except Exception as error:
            return error
        return None

    def said(self) -> str:
        """What the server printed as errors, for a message."""
        text = " ".join(self._stderr.text().split()) if self._stderr is not None else ""
        return f"; it printed: {text[-SHOWN_STDERR:]}" if text else ""

    async def _own(self) -> None:
        error: BaseException | None = None
        try:
            async with contextlib.AsyncExitStack() as stack:
                self.client = await self._enter(stack)
                if not self._opened.done():
                    self._opened.set_result(None)
                await self._stop.wait()
        except BaseException as raised:
            error = raised
        finally:
            self.closed = True
            _live.discard(self)
            if self._stderr is not None:
                self._stderr.close()
        if not self._opened.done():
            said = self.said()
            reason = _reason(error)
            self._opened.set_exception(ConnectError(f"{reason}{said}"))
            self._opened.exception()  # seen, also where nobody waits

    async def _enter(self, stack: contextlib.AsyncExitStack) -> Any:
        from mcp import Client, StdioServerParameters, stdio_client  # noqa: PLC0415 - an extra

        address = self.address
        transport: Any
        if address.url is None:
            self._stderr = _Stderr()
            parameters = StdioServerParameters(
                command=str(address.command),
                args=list(address.args),
                env=dict(address.env),
                cwd=address.cwd,
            )
            transport = stdio_client(parameters, errlog=self._stderr.file)
        elif address.transport == "sse":
            from mcp.client.sse import sse_client  # noqa: PLC0415

            transport = sse_client(address.url, headers=dict(address.headers))
        else:
            import httpx2  # noqa: PLC0415 - what the client of MCP is built on
            from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415

            http = httpx2.AsyncClient(
                headers=dict(address.headers), timeout=httpx2.Timeout(30.0, read=300.0)
            )
            await stack.enter_async_context(http)
            transport = streamable_http_client(address.url, http_client=http)
        client = await stack.enter_async_context(Client(transport))
        if self._stderr is not None:
            self._stderr.file.close()  # the child has its own
        return client


class _Stderr:
    """The end of what a process prints as errors, read as it comes, so that it never blocks."""

    def __init__(self) -> None:
        self._tail = b""
        self._source, target = os.pipe()
        os.set_blocking(self._source, False)
        self.file = os.fdopen(target, "w")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._source, self._read)

    def text(self) -> str:
        return self._tail.decode(errors="replace")

    def close(self) -> None:
        if self._source < 0:
            return
        self.file.close()
        while self._source >= 0 and self._read():
            pass
        self._end()

    def _read(self) -> bool:
        try:
            data = os.read(self._source, 65536)
        except BlockingIOError:
            return False
        if not data:
            self._end()
            return False
        self._tail = (self._tail + data)[-4 * SHOWN_STDERR :]
        return True

    def _end(self) -> None:
        if self._source >= 0:
            self._loop.remove_reader(self._source)
            os.close(self._source)
            self._source = -1


def _reason(error: BaseException | None) -> str:
    """The first error inside groups of errors, in words."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is None or isinstance(error, asyncio.CancelledError):
        return "the connection was closed"
    line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {line[:300]}" if line else type(error).__name__


LOOP = BackgroundLoop("rl_envs_mcp")
"""The event loop of all connections.

Environments are stepped from whatever loop runs, and loops end; a connection outlives them.
"""

_live: set[Connection] = set()
_left: list[Connection] = []  # of the process that forked us: never collected, which would kill
_gate: asyncio.Semaphore | None = None


async def on_loop(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that runs on the loop of the connections."""
    return await asyncio.wrap_future(LOOP.run(work))


def _connecting() -> asyncio.Semaphore:
    global _gate  # noqa: PLW0603 - one per process is the point
    if _gate is None:
        _gate = asyncio.Semaphore(MAX_CONNECTING)
    return _gate


def close_connections() -> None:
    """Closes every connection of this process, and ends the servers that it started."""
    if not LOOP.is_started or not _live:
        return

    async def close() -> None:
        await asyncio.gather(*(connection.close() for connection in list(_live)))

    with contextlib.suppress(TimeoutError):
        LOOP.wait(close(), CLOSING_S)


def _after_fork() -> None:
    global _gate, _live  # they are of the parent's loop
    _left.extend(_live)
    _gate, _live = None, set()


# The client logs tracebacks of what is said here in a line; whoever sets up logging still has them.
logging.getLogger("mcp").addHandler(logging.NullHandler())
atexit.register(close_connections)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
