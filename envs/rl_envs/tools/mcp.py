"""Tools that an MCP server offers, through the official client (the extra ``mcp``)."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from rl_envs.packages import needed
from rl_envs.tasks import DataError
from rl_envs.tools.execution import ToolTimeout
from rl_envs.tools.mcp_connection import LOOP, PING_S, ConnectError, Connection, on_loop
from rl_envs.tools.mcp_results import answer_of
from rl_envs.tools.mcp_spec import ServerSpec, server_spec
from rl_envs.tools.tool import Tool, ToolError, ToolFailure
from rl_verifiers.schema import SchemaProblemError, compile_schema, schema_text, violations
from rl_verifiers.shown import shown

MAX_TOOLS = 1000
MAX_DESCRIPTION = 10_000
QUEUE_S = 600.0
"""Longest wait for a free slot of a server."""
PAUSE_S = 5.0
"""After a connection could not be opened, calls fail at once for so long."""

_NAME = re.compile(r"[\w.:/-]{1,128}")


class Listed(NamedTuple):
    """A tool as its server lists it, checked."""

    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class McpTool(Tool):
    """A tool of an MCP server.

    Attributes:
        server: Which; ``server.begin()`` where an episode begins, ``server.close()`` where the
            environment is closed.
    """

    server: McpServer | None = None


class _LostError(Exception):
    """The connection ended during a call."""


class McpServer:
    """A server as one environment, or a whole process, sees it.

    The connection is opened by the first call, and again where it was lost.
    """

    def __init__(self, spec: ServerSpec, key: str) -> None:
        self.spec = spec
        self.key = key
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: list[Connection] = []  # at most one; a list for the finalizer's sake
        self._was_called = False
        self._failed: tuple[float, str] = (float("-inf"), "")
        weakref.finalize(self, _stop, self._open)

    def __reduce__(self) -> Any:
        if not self.spec.per_episode:
            return _shared, (self.key,)
        if self._was_called:
            raise DataError(
                f"the state of MCP server {self.spec.address} cannot be copied: reset() first"
            )
        return McpServer, (self.spec, self.key)

    def __deepcopy__(self, memo: Any) -> McpServer:
        make, arguments = self.__reduce__()
        copied: McpServer = make(*arguments)
        return copied

    def begin(self) -> None:
        """A new episode: with ``per_episode`` its first call opens a new connection.

        The old one is closed meanwhile; nothing waits for it.
        """
        if self.spec.per_episode and self._was_called:
            self._was_called = False
            LOOP.loop.call_soon_threadsafe(self._drop)

    def close(self) -> None:
        """Begins to close what this environment alone uses; a shared server stays until the end."""
        self.begin()

    def disconnect(self) -> None:
        """Closes the connection; a process that was started is gone afterwards. Blocks."""

        async def drop() -> None:
            await asyncio.gather(*(connection.close() for connection in self._drop()))

        self._was_called = False
        if self._open and self._loop is LOOP.loop:
            LOOP.wait(drop())

    def _drop(self) -> list[Connection]:
        dropped = list(self._open)
        self._open.clear()
        for connection in dropped:
            connection.stop()
        return dropped

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The text that a tool answers; from any event loop.

        Raises:
            ToolError: The tool reports an error, or the arguments cannot be sent.
            ToolTimeout: No answer in time.
            ToolFailure: The server cannot be reached, hangs, or was lost twice.
        """
        try:
            json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError, RecursionError):
            raise ToolError("the arguments cannot be written as JSON") from None
        return await on_loop(self._call(name, dict(arguments)))

    async def _call(self, name: str, arguments: dict[str, Any]) -> str:
        self._prepare()
        try:
            async with asyncio.timeout(QUEUE_S):
                await self._slots.acquire()
        except TimeoutError:
            raise ToolFailure(f"{self}: no slot was free within {QUEUE_S:g} s") from None
        try:
            return await self._attempt(name, arguments)
        except _LostError as error:
            if self.spec.per_episode:  # and its state is lost
                raise ToolFailure(f"{self}: {error}") from None
        finally:
            self._slots.release()
        # Calls lost together are made again one by one, so that one that ends the server is alone.
        async with self._again:
            try:
                return await self._attempt(name, arguments)
            except _LostError as error:
                raise ToolFailure(f"{self}: {error}, twice") from None

    def _prepare(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # on first use, and after a fork
            self._open.clear()  # a forked process keeps those of its parent alive elsewhere
            self._loop = loop
            self._slots = asyncio.Semaphore(self.spec.max_concurrent)
            self._opening, self._again = asyncio.Lock(), asyncio.Lock()

    async def _attempt(self, name: str, arguments: dict[str, Any]) -> str:
        from mcp import MCPError  # noqa: PLC0415 - an extra

        connection = await self._connected()
        self._was_called = True
        limit = self.spec.timeout_s
        try:
            async with asyncio.timeout(limit):
                result = await connection.client.call_tool(name, arguments)
        except TimeoutError:
            if await self._is_alive(connection):
                raise ToolTimeout(f"no answer within {limit:g} s") from None
            self._forget(connection)
            raise ToolFailure(
                f"{self}: no answer within {limit:g} s, nor to a ping within {PING_S:g} s"
            ) from None
        except MCPError as error:
            if self._is_lost(connection, error):
                if error.message in ("Connection closed", "Session terminated"):
                    self._forget(connection)
                raise _LostError(f"the connection was lost ({error.message:.100})") from None
            raise ToolError(error.message[:2000]) from None
        except Exception as error:
            if connection.closed:
                raise _LostError("the connection was lost") from None
            raise ToolFailure(f"{self}: an answer that is not MCP ({_line(error)})") from error
        return answer_of(result)

    async def _is_alive(self, connection: Connection) -> bool:
        """Whether a server that did not answer a call answers a ping; a refusal is an answer."""
        from mcp import MCPError  # noqa: PLC0415 - an extra

        error = await connection.ping()
        if isinstance(error, MCPError):
            return not self._is_lost(connection, error)
        return error is None

    def _is_lost(self, connection: Connection, error: Any) -> bool:
        """Whether a call failed on the way, and not at the server's word."""
        from mcp_types import CONNECTION_CLOSED  # noqa: PLC0415 - an extra

        if connection.closed:
            return True
        if error.code == CONNECTION_CLOSED:  # which is also JSON-RPC's code for any server's error
            return self.spec.address.url is not None or error.message == "Connection closed"
        texts = (
            "Session terminated",
            "Server returned an error response",
            "server answered a",
            "Unexpected content type",
            "Failed to parse",
        )
        return self.spec.address.url is not None and error.message.startswith(texts)

    def keep(self, connection: Connection) -> bool:
        """Takes a connection over, on the loop of the connections, unless there is one."""
        self._prepare()
        if self._open:
            return False
        self._open.append(connection)
        return True

    def _forget(self, connection: Connection) -> None:
        connection.stop()
        if connection in self._open:
            self._open.remove(connection)

    async def _connected(self) -> Connection:
        async with self._opening:
            if self._open and not self._open[0].closed:
                return self._open[0]
            if self.spec.per_episode and self._was_called:
                raise ToolFailure(f"{self}: the connection was lost, and the state with it")
            self._open.clear()
            since, reason = self._failed
            now = asyncio.get_running_loop().time()
            if now - since < PAUSE_S:
                raise ToolFailure(f"{self}: {reason}")
            try:
                connection = await Connection.open(self.spec.address, self.spec.start_timeout_s)
            except ConnectError as error:
                self._failed = (asyncio.get_running_loop().time(), str(error))
                raise ToolFailure(f"{self}: {error}") from None
            self._open.append(connection)
            return connection

    def __str__(self) -> str:
        return f"MCP server {self.spec.address!s:.200}"


def tools_of(given: Mapping[str, Any], owner: str) -> list[Tool]:
    """The tools of an MCP server.

    Args:
        given: ``{"command": ..., "args": [...], "env": {...}}`` or ``{"url": ...}``, with the
            fields of :class:`ServerSpec`.
        owner: Who asks, for messages.

    Raises:
        DataError: The mapping, the server or one of its tools cannot be used, or the package
            ``mcp`` is missing.
    """
    spec = server_spec(given, owner)
    needed("mcp", f"{owner}: a list of tools with an MCP server", "pip install 'agent-rl[mcp]'")
    key = json.dumps(given, sort_keys=True)
    with _lock:
        _known[key] = spec
        server = McpServer(spec, key) if spec.per_episode else _shared(key)
        found = _listings.get(spec.address_key)
        if found is None:
            found = _listings[spec.address_key] = _listing(server, owner)
    return [_tool(listed, server) for listed in _chosen(found, spec, owner)]


_lock = threading.Lock()
_known: dict[str, ServerSpec] = {}
_listings: dict[str, list[Listed]] = {}


@cache
def _shared(key: str) -> McpServer:
    """The server that all environments of this process use."""
    if key not in _known:  # unpickled in another process
        _known[key] = server_spec(json.loads(key), "an unpickled environment")
    return McpServer(_known[key], key)


def _tool(listed: Listed, server: McpServer) -> McpTool:
    async def function(**arguments: Any) -> str:
        return await server.call(listed.name, arguments)

    # The server counts from when a call is sent; this limit only ends what should never be.
    limit = QUEUE_S + 2 * (server.spec.timeout_s + PING_S + server.spec.start_timeout_s)
    return McpTool(
        listed.name,
        listed.description,
        listed.schema,
        function,
        timeout_s=limit,
        server=server,
    )


def _listing(server: McpServer, owner: str) -> list[Listed]:
    """All tools of a server, over the connection that a shared one then keeps."""
    spec = server.spec

    async def ask() -> list[Any]:
        connection = await Connection.open(spec.address, spec.start_timeout_s)
        kept = False
        try:
            async with asyncio.timeout(spec.start_timeout_s):
                pages = await _pages(connection)
            kept = not spec.per_episode and server.keep(connection)
            return pages
        except TimeoutError:
            raise ConnectError("it does not list its tools in time") from None
        except ConnectError:
            raise
        except Exception as error:
            raise ConnectError(
                f"it does not list its tools ({_line(error)}){connection.said()}"
            ) from None
        finally:
            if not kept:
                await connection.close()

    try:
        found = LOOP.wait(ask())
    except ConnectError as error:
        raise DataError(f"{owner}: MCP server {spec.address}: {error}") from None
    if not found:
        raise DataError(f"{owner}: MCP server {spec.address} offers no tools")
    return [_checked(each, spec, owner) for each in found]


async def _pages(connection: Connection) -> list[Any]:
    found: list[Any] = []
    cursor = None
    while True:
        page = await connection.client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if len(found) > MAX_TOOLS or (cursor and not page.tools):
            raise ConnectError(f"it lists over {MAX_TOOLS} tools, or pages without any")
        if not cursor:
            return found


def _checked(tool: Any, spec: ServerSpec, owner: str) -> Listed:
    where = f"{owner}: MCP server {spec.address}: tool {shown(tool.name)}"
    if not _NAME.fullmatch(tool.name):
        raise DataError(f"{where}: a name that calls cannot hold")
    schema = tool.input_schema
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise DataError(f"{where}: its schema is not that of an object: {shown(schema)}")
    try:
        violations({}, compile_schema(schema_text(schema)))
    except SchemaProblemError as error:
        raise DataError(f"{where}: {error}") from None
    description = (tool.description or tool.title or "")[:MAX_DESCRIPTION]
    return Listed(tool.name, description, schema)


def _chosen(found: Sequence[Listed], spec: ServerSpec, owner: str) -> list[Listed]:
    if spec.tools is None:
        return list(found)
    by_name = {listed.name: listed for listed in found}
    missing = [name for name in spec.tools if name not in by_name]
    if missing:
        raise DataError(
            f"{owner}: MCP server {spec.address} has no tool {missing[0]!r}; it has "
            f"{', '.join(by_name)}"
        )
    return [by_name[name] for name in spec.tools]


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _stop(opened: list[Connection]) -> None:
    """What happens to the connection of a server that nobody has any more."""
    for connection in opened:
        try:
            LOOP.loop.call_soon_threadsafe(connection.stop)
        except RuntimeError:  # the loop is gone, and the connection with it
            return
