"""Sessions for episodes: opened when first needed, and only so many at once."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import rl_sandboxes
from rl_envs.tools import ToolFailure
from rl_sandboxes import JobError, Limits, Run, Sandbox, SandboxError, Session, Tree

T = TypeVar("T")
Kind = Literal["bash", "python"]
SandboxSpec = str | Mapping[str, Any]
"""A sandbox's name, or ``{"name": ..., **options}``."""

MAX_SESSIONS = 64
LOST = "it was started again"


class Room:
    """The sessions that this process may have open at once in a sandbox.

    Whoever waits holds nothing, and whoever holds a session waits for no other: no deadlock. Each
    session has a thread, so that none waits for a thread either.

    Args:
        sandbox: Where sessions are opened.
        size: How many there may be.
    """

    def __init__(self, sandbox: Sandbox, size: int) -> None:
        self.sandbox = sandbox
        self.threads = ThreadPoolExecutor(size, thread_name_prefix="rl_envs_box")
        self._free = size
        self._waiting: deque[Future[None]] = deque()
        self._lock = threading.Lock()

    async def enter(self) -> None:
        """Wait for a place, in the order of those who ask."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn: Future[None] = Future()
            self._waiting.append(turn)
        try:
            await asyncio.wrap_future(turn)
        except asyncio.CancelledError:
            if not turn.cancelled() and not turn.cancel():  # the turn came just now
                self.leave()
            raise

    def leave(self) -> None:
        """Give a place to whoever has waited longest."""
        with self._lock:
            while self._waiting:
                turn = self._waiting.popleft()
                if turn.set_running_or_notify_cancel():
                    turn.set_result(None)
                    return
            self._free += 1


_rooms: dict[str, Room] = {}
_lock = threading.Lock()


def room(spec: SandboxSpec, size: int) -> Room:
    """The room of this process for a sandbox and a size; made on first use.

    Raises:
        SandboxError: There is no such sandbox here.
    """
    key = json.dumps([spec, size], sort_keys=True, default=str)
    with _lock:
        if key not in _rooms:
            _rooms[key] = Room(rl_sandboxes.shared(spec), size)
        return _rooms[key]


def _forget_after_fork() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    _rooms.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


class _Held:
    """A place in a room and the session in it, given back once and in a thread."""

    def __init__(self, where: Room) -> None:
        self.room = where
        self.session: Session | None = None
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._over = False

    def open(self, kind: Kind, limits: Limits) -> Session:
        session = self.room.sandbox.session(kind, limits)
        with self._lock:
            self.session = session
            over = self._over
        if over:  # meanwhile
            session.close()
            raise SandboxError("the session was closed")
        return session

    def give_back(self) -> None:
        with self._lock:
            if self._over or self._owner != os.getpid():  # a fork's parent goes on with it
                return
            self._over = True
        try:
            # A command that still runs has the thread of this place; closing ends it.
            threading.Thread(target=self._close, name="rl_envs_box_close", daemon=True).start()
        except RuntimeError:  # the interpreter is ending, and with it the sandbox
            self.room.leave()

    def _close(self) -> None:
        try:
            if self.session is not None:
                self.session.close()
        except SandboxError:
            pass  # it is gone then
        finally:
            self.room.leave()


class Box:
    """The session of one episode.

    It is opened at the first command. Where the policy's own doing ended it, it is opened again; a
    copy opens its own and plays the same commands there.

    Args:
        kind: ``bash`` or ``python``.
        sandbox: Where.
        limits: Of the box; ``wall_s`` is for each command.
        size: Sessions that may be open at once in this process, those of other episodes included.
        files: A tar that is unpacked in the working folder of a new box; None for none.
    """

    def __init__(
        self,
        kind: Kind,
        sandbox: SandboxSpec,
        limits: Limits,
        size: int = MAX_SESSIONS,
        files: bytes | None = None,
    ) -> None:
        self.made = (kind, sandbox, limits, size, files)
        self.played: list[str] = []
        self._to_play: list[str] = []  # what the box that this is a copy of was told
        self._held: _Held | None = None

    @property
    def used(self) -> bool:
        """Whether a command was given."""
        return bool(self.played or self._to_play)

    async def run(self, command: str) -> Run:
        """What came of a command. ``Run.note`` tells what became of the session.

        Raises:
            ToolFailure: We failed.
        """
        await self._catch_up()
        return await self._play(command)

    async def collect(self) -> Tree:
        """All files, after everything in the box was ended.

        Raises:
            ToolFailure: We failed.
        """

        def read(held: _Held) -> Tree:
            return (held.session or self._open(held)).collect()

        await self._catch_up()
        return await self._in_room(read)

    def close(self) -> None:
        """Give the session back; at once, for it is ended in a thread."""
        held, self._held = self._held, None
        if held is not None:
            held.give_back()

    def __reduce__(self) -> tuple[Any, ...]:
        return _copy, (self.made, [*self.played, *self._to_play])

    async def _catch_up(self) -> None:
        while self._to_play:
            await self._play(self._to_play.pop(0))

    async def _play(self, command: str) -> Run:
        self.played.append(command)
        return await self._in_room(lambda held: self._run(held, command))

    async def _in_room(self, work: Callable[[_Held], T]) -> T:
        held = self._held
        try:
            if held is None:
                _, sandbox, _, size, _ = self.made
                where = await asyncio.to_thread(room, sandbox, size)  # a sandbox may start slowly
                await where.enter()
                held = self._held = _Held(where)
                weakref.finalize(self, held.give_back).atexit = False
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(held.room.threads, work, held)
        except asyncio.CancelledError:
            self.close()
            raise
        except SandboxError as error:
            self.close()
            raise ToolFailure(f"the session failed: {error}") from error

    # What follows runs in a thread.

    def _run(self, held: _Held, command: str) -> Run:
        session = held.session or self._open(held)
        try:
            run = session.run(command)
        except JobError as error:  # it could not start what it needs: the box is full
            return self._again(held, Run("process_limit", note=str(error)))
        if run.status == "memory" and not _alive(session):
            return self._again(held, run)
        return run

    def _again(self, held: _Held, run: Run) -> Run:
        """A new box in the place of one that the policy used up."""
        if held.session is not None:
            held.session.close()
            held.session = None
        self._open(held)
        self.played.clear()
        note = f"{_WHY.get(run.status, run.note)}; {LOST}"
        return Run(run.status, run.stdout, run.stderr, note=note)

    def _open(self, held: _Held) -> Session:
        kind, _, limits, _, files = self.made
        session = held.open(kind, limits)
        if files is not None:
            session.put(_TAR, files)
            unpacked = session.run(f"tar -xpf {_TAR} && rm {_TAR}")
            if unpacked.status != "ok":
                raise SandboxError(f"the task's files cannot be laid out: {unpacked.stderr[:300]}")
        return session


_TAR = ".files.tar"
_WHY = {
    "memory": "the box ran out of memory",
    "process_limit": "the box had too many processes",
}


def _alive(session: Session) -> bool:
    try:
        session.run("")
    except SandboxError:
        return False
    return True


def _copy(made: Sequence[Any], played: list[str]) -> Box:
    box = Box(*made)
    box._to_play = played
    return box
