"""The server's sessions, without HTTP: counted, and closed when nobody uses them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

from rl_sandboxes import wire
from rl_sandboxes.server_jobs import Answer, Ledger, RefusedError, draining, fingerprint
from rl_sandboxes.types import JobError, Limits, Sandbox, SandboxError, Session

T = TypeVar("T")

_CHECK_S = 0.5


@dataclass
class _Box:
    session: Session
    ledger: Ledger = field(default_factory=lambda: Ledger(max_entries=64, max_bytes=32 << 20))
    busy: int = 0
    used: float = field(default_factory=time.monotonic)


class Sessions:
    """The open sessions of a server.

    Args:
        sandbox: What opens them.
        max_sessions: How many may be open.
        idle_s: Seconds without a request after which one is closed.
        max_bytes: The largest file that can be read.
    """

    def __init__(
        self, sandbox: Sandbox, *, max_sessions: int, idle_s: float, max_bytes: int
    ) -> None:
        self.draining = False
        self._sandbox = sandbox
        self._max_sessions = max_sessions
        self._idle_s = idle_s
        self._max_bytes = max_bytes
        self._boxes: dict[str, _Box] = {}
        self._opening = 0
        self._opened = Ledger()
        self._threads = ThreadPoolExecutor(max_sessions + 4, thread_name_prefix="sessions")

    def __len__(self) -> int:
        return len(self._boxes) + self._opening

    async def open(self, tree: Any) -> Answer:
        """Open a session: ``{"key", "kind", "limits"}`` to ``{"id"}``.

        Raises:
            RefusedError: 429, too many are open; 503, draining; 409, the key is another request's.
        """
        asked = wire.read_fields(tree, "session", text=("key", "kind"), optional={"limits": "any"})
        if asked["kind"] not in ("bash", "python"):
            raise wire.WireError(f"session.kind is {asked['kind'][:100]!r}; it is bash or python")
        limits = wire.limits_from(asked["limits"], "session.limits") if "limits" in asked else None
        key, mark = asked["key"], fingerprint(tree)
        task = self._opened.find(key, mark)
        if task is None:
            self._admit()
            self._opening += 1
            task = self._opened.once(key, mark, lambda: self._open(asked["kind"], limits))
        return await asyncio.shield(task)

    async def act(self, name: str, action: str, tree: Any) -> Answer:
        """Do something in a session, once for each key; the answer may be an error.

        Raises:
            RefusedError: 404, no such session.
        """
        box = self._boxes.get(name)
        if box is None:
            raise RefusedError(
                404,
                "session_gone",
                "no such session: it was closed or idle for too long, or the server was restarted",
            )
        asked = wire.read_fields(tree, action, text=("key",), optional=_ARGUMENTS[action])
        mark = fingerprint([action, tree])
        work = box.ledger.once(asked.pop("key"), mark, lambda: self._act(box, action, asked))
        return await asyncio.shield(work)

    async def close(self, name: str) -> bool:
        """Close a session; whether there was one."""
        box = self._boxes.pop(name, None)
        if box is not None:
            with contextlib.suppress(Exception):
                await self._in_thread(box.session.close)
        return box is not None

    async def close_idle(self) -> None:
        """Close what nobody uses, again and again, until cancelled."""
        while True:
            await asyncio.sleep(min(_CHECK_S, self._idle_s / 2))
            oldest = time.monotonic() - self._idle_s
            for name, box in list(self._boxes.items()):
                if not box.busy and box.used < oldest:
                    await self.close(name)

    async def idle(self) -> None:
        """Wait until no request is being done in any session."""
        while tasks := self._tasks():
            await asyncio.wait(tasks)

    async def close_all(self) -> None:
        """Close every session."""
        await asyncio.gather(*(self.close(name) for name in list(self._boxes)))
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _tasks(self) -> list[asyncio.Task[Answer]]:
        ledgers = [self._opened, *(box.ledger for box in self._boxes.values())]
        return [task for ledger in ledgers for task in ledger.running]

    def _admit(self) -> None:
        if self.draining:
            raise draining()
        if len(self) >= self._max_sessions:
            message = f"{len(self)} sessions are open, the most that this server was given"
            raise RefusedError(429, "too_many_sessions", message, retry_after=1)

    async def _open(self, kind: str, limits: Limits | None) -> Answer:
        try:
            which = cast("Literal['bash', 'python']", kind)
            session = await self._in_thread(lambda: self._sandbox.session(which, limits))
        except Exception as error:  # answered to whoever asked
            return _failure(error)
        finally:
            self._opening -= 1
        name = secrets.token_urlsafe(16)
        self._boxes[name] = _Box(session)
        return Answer(200, wire.dumps({"id": name}))

    async def _act(self, box: _Box, action: str, asked: Mapping[str, Any]) -> Answer:
        box.busy += 1
        try:
            if action == "run":
                run = await box.session.arun(
                    _need(asked, "command", action), timeout_s=asked.get("timeout_s")
                )
                tree: dict[str, Any] = {"run": wire.run_tree(run)}
            else:
                tree = await self._in_thread(lambda: self._do(box.session, action, asked))
            return Answer(200, wire.dumps(tree))
        except Exception as error:  # answered to whoever asked
            return _failure(error)
        finally:
            box.busy -= 1
            box.used = time.monotonic()

    def _do(  # noqa: PLR0911 - one for each action
        self, session: Session, action: str, asked: Mapping[str, Any]
    ) -> dict[str, Any]:
        def get(name: str) -> Any:
            return _need(asked, name, action)

        match action:
            case "put":
                session.put(get("path"), get("data"))
            case "get":
                most = min(asked.get("max_bytes", 1 << 20), self._max_bytes)
                return {"data": wire.bytes_tree(session.get(get("path"), max_bytes=most))}
            case "collect":
                most = min(get("max_bytes"), self._max_bytes)
                return session.collect(max_entries=get("max_entries"), max_bytes=most).answer()
            case "start":
                return {"number": session.start(get("command"))}
            case "poll":
                run = session.poll(get("number"))
                return {"run": None if run is None else wire.run_tree(run)}
            case "stop":
                return {"run": wire.run_tree(session.stop(get("number")))}
            case "snapshot":
                return {"number": session.snapshot()}
            case "restore":
                session.restore(get("number"))
        return {}

    def _in_thread(self, work: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work)


_ARGUMENTS: dict[str, dict[str, str]] = {
    "run": {"command": "text", "timeout_s": "number"},
    "put": {"path": "text", "data": "bytes"},
    "get": {"path": "text", "max_bytes": "whole"},
    "collect": {"max_entries": "whole", "max_bytes": "whole"},
    "start": {"command": "text"},
    "poll": {"number": "whole"},
    "stop": {"number": "whole"},
    "snapshot": {},
    "restore": {"number": "whole"},
}
ACTIONS = tuple(_ARGUMENTS)


def _need(asked: Mapping[str, Any], name: str, action: str) -> Any:
    if name not in asked:
        raise wire.WireError(f"{action} lacks {name!r}")
    return asked[name]


def _failure(error: Exception) -> Answer:
    """What the session said, as an answer."""
    match error:
        case FileNotFoundError():
            refusal = RefusedError(404, "no_file", str(error))
        case JobError() | wire.WireError():
            refusal = RefusedError(422, "invalid", str(error))
        case SandboxError():
            refusal = RefusedError(502, "sandbox_error", str(error))
        case _:
            refusal = RefusedError(502, "sandbox_error", f"{type(error).__name__}: {error}")
    return Answer(refusal.status, wire.dumps({"error": refusal.tree()}))
