"""Sessions as the host sees them: one worker each, one request at a time."""

from __future__ import annotations

import base64
import dataclasses
import errno
import threading
from collections.abc import Callable
from typing import Any, Literal

from rl_sandboxes.pool import GRACE_S, Worker, WorkerLostError, limits_of
from rl_sandboxes.readings import read_run
from rl_sandboxes.trees import MAX_BYTES, MAX_ENTRIES, Tree
from rl_sandboxes.types import JobError, Limits, Run, SandboxError, check_path

KINDS = ("bash", "python")


def open_session(
    start: Callable[[], Worker],
    forget: Callable[[Worker], None],
    kind: Literal["bash", "python"],
    limits: Limits,
    rest: Callable[[Worker], None] | None = None,
) -> WorkerSession:
    """A session on a worker.

    Args:
        start: Gives a worker.
        forget: Ends it.
        kind: ``bash`` or ``python``.
        limits: Of the whole box; ``wall_s`` is for each command.
        rest: Takes a worker whose session ended cleanly; None: it is ended too.

    Raises:
        JobError: Another kind.
        SandboxError: No worker, or it failed.
    """
    if kind not in KINDS:
        raise JobError(f"a session is one of {', '.join(KINDS)}, not {kind!r}")
    worker = start()
    session = WorkerSession(worker, forget, limits, rest)
    session.ask({"op": "session", "kind": kind, "limits": limits_of(limits)}, GRACE_S)
    return session


class WorkerSession:
    """See ``types.Session``."""

    def __init__(
        self,
        worker: Worker,
        forget: Callable[[Worker], None],
        limits: Limits,
        rest: Callable[[Worker], None] | None = None,
    ) -> None:
        self._worker: Worker | None = worker
        self._forget = forget
        self._limits = limits
        self._rest = rest
        self._lock = threading.Lock()

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            SandboxError: The session is closed, or its worker was lost.
            JobError: The box refused.
            FileNotFoundError: There is no such file.
        """
        with self._lock:
            if self._worker is None:
                raise SandboxError("the session is closed")
            try:
                answer = self._worker.request(request, timeout_s + GRACE_S)
            except WorkerLostError as error:
                self._end()
                if error.out_of_memory and request["op"] == "run":
                    return {"lost": "memory"}
                raise SandboxError(f"a session was lost: {error}") from None
            except BaseException:  # an interrupt: the answer that is on its way is nobody's
                self._end()
                raise
            if "failed" in answer or "closed" in answer:
                self._end()
                raise SandboxError(f"a session was lost: {answer.get('failed', 'it ended')}")
        if "refused" in answer:
            if answer.get("errno") == errno.ENOENT:
                raise FileNotFoundError(errno.ENOENT, "no such file", request.get("path"))
            where = f"{request['path']}: " if "path" in request else ""
            raise JobError(f"{where}{answer['refused']}")
        return answer

    def run(self, command: str, *, timeout_s: float | None = None) -> Run:
        """Run a command (bash) or a cell (Python); state stays for the next one."""
        timeout = self._limits.wall_s if timeout_s is None else float(timeout_s)
        if not timeout > 0:
            raise JobError(f"timeout_s is {timeout_s!r}; it must be above 0")
        text = command.encode("utf-8", "replace").decode()
        answer = self.ask({"op": "run", "command": text, "timeout_s": timeout}, timeout)
        if "lost" in answer:
            return Run("memory", note="the session ran out of memory and has ended")
        return self._read(answer)

    async def arun(self, command: str, *, timeout_s: float | None = None) -> Run:
        """``run`` for use inside an event loop; cancelling closes the session."""
        import asyncio  # noqa: PLC0415 - a start-up without it is 12 ms shorter

        work = asyncio.ensure_future(asyncio.to_thread(self.run, command, timeout_s=timeout_s))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.to_thread(self._end))
            raise

    def put(self, path: str, data: bytes) -> None:
        """Write a file, through no link; parent folders are made."""
        check_path(path)
        self.ask({"op": "put", "path": path, "data": base64.b64encode(data).decode()}, GRACE_S)

    def get(self, path: str, *, max_bytes: int = 1 << 20) -> bytes:
        """Read a regular file, through no link.

        Raises:
            FileNotFoundError: There is none.
            JobError: It is a link, no regular file, or larger than ``max_bytes``.
        """
        check_path(path)
        answer = self.ask({"op": "get", "path": path, "max_bytes": max_bytes}, GRACE_S)
        return base64.b64decode(answer["data"])

    def collect(self, *, max_entries: int = 2000, max_bytes: int = 4 << 20) -> Tree:
        """End all that runs in the box, then read all files beneath the working folder.

        Raises:
            JobError: A limit that is none.
            SandboxError: Some process would not end, or the session is lost.
        """
        check_limits(max_entries, max_bytes)
        limits = {"max_entries": max_entries, "max_bytes": max_bytes}
        answer = self.ask({"op": "collect", **limits}, 2 * GRACE_S)
        try:
            return Tree.read(answer)
        except ValueError as error:
            self._end()
            raise SandboxError(f"a session's answer is broken: {error}") from None

    def start(self, command: str) -> int:
        """Start a background process; its number."""
        return int(self.ask({"op": "start", "command": command}, GRACE_S)["number"])

    def poll(self, number: int) -> Run | None:
        """The Run of a background process that ended, else None."""
        answer = self.ask({"op": "poll", "number": number}, GRACE_S)
        return None if answer["run"] is None else self._read(answer)

    def stop(self, number: int) -> Run:
        """End a background process and all its children; its Run."""
        return self._read(self.ask({"op": "stop", "number": number}, GRACE_S))

    def snapshot(self) -> int:
        """Keep the state; its number."""
        return int(self.ask({"op": "snapshot"}, 2 * self._limits.wall_s)["number"])

    def restore(self, number: int) -> None:
        """Go back to a kept state; background processes end."""
        self.ask({"op": "restore", "number": number}, 2 * self._limits.wall_s)

    def close(self) -> None:
        """End everything in the box and throw it away."""
        if self._rest is None or not self._lock.acquire(blocking=False):  # or a command runs
            self._end()
            return
        try:
            self._part(self._rest)
        finally:
            self._lock.release()

    def _part(self, rest: Callable[[Worker], None]) -> None:
        """End the session and let its worker rest, if all goes well."""
        worker = self._worker
        if worker is None:
            return
        try:
            answer = worker.request({"op": "close"}, GRACE_S)
        except BaseException as error:
            self._end()
            if not isinstance(error, WorkerLostError):
                raise
            return
        if answer.get("closed") is not True or answer.get("tainted"):
            self._end()
            return
        self._worker = None
        rest(worker)

    def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            self._forget(worker)

    def _read(self, answer: dict[str, Any]) -> Run:
        try:
            run = read_run(answer["run"], call=False)
            note = str(answer["run"].get("note", ""))[:500]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SandboxError(f"a session's answer is broken: {error!r:.200}") from None
        return dataclasses.replace(run, note=note)

    def __enter__(self) -> WorkerSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_limits(max_entries: int, max_bytes: int) -> None:
    """Refuse limits of ``Session.collect`` that are none.

    Raises:
        JobError: One is no whole number, below 1 or very large.
    """
    limits = {"max_entries": (max_entries, MAX_ENTRIES), "max_bytes": (max_bytes, MAX_BYTES)}
    for name, (value, most) in limits.items():
        if type(value) is not int or not 1 <= value <= most:
            raise JobError(f"{name} is {value!r:.60}; it must be a whole number from 1 to {most:,}")
