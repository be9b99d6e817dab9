"""Our end of the pipe to a child process in another virtual environment."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_envs.tasks import DataError
from rl_envs.tools import ToolFailure

CHILD = Path(__file__).with_name("prime_child.py")
_SHOWN_LINES = 8
_MAX_LINE = 1 << 16
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


class Child:
    """A process that answers requests, many at once.

    Args:
        python: The interpreter of its virtual environment.

    Raises:
        DataError: It cannot be started.
    """

    def __init__(self, python: str) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in _OURS}
        try:
            self._process = subprocess.Popen(
                [python, "-u", str(CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # one signal ends it and all that it started
            )
        except OSError as error:
            raise DataError(f"python is {python!r}: {error.strerror or error}") from error
        self._waiting: dict[int, concurrent.futures.Future[Any]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._to_write: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._said: deque[str] = deque(maxlen=_SHOWN_LINES)
        self._unended = b""
        self._ended = False
        for work in (self._read, self._write, self._listen):
            threading.Thread(target=work, name="rl_envs_prime", daemon=True).start()

    @property
    def is_alive(self) -> bool:
        """Whether it still answers."""
        return not self._ended and self._process.poll() is None

    async def ask(self, timeout_s: float, do: str, **request: Any) -> Any:
        """The answer to a request.

        Raises:
            ToolFailure: The child ended, took too long (it is then ended) or failed.
            DataError: It says that what was asked for cannot be played.
        """
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        number = next(self._numbers)
        with self._lock:
            if not self.is_alive:
                raise ToolFailure(f"the child process ended: {self.last_words()}")
            self._waiting[number] = future
        line = json.dumps({"id": number, "do": do, **request}).encode("ascii")
        self._to_write.put(line + b"\n")
        try:
            async with asyncio.timeout(timeout_s):
                answer = await asyncio.wrap_future(future)
        except TimeoutError as error:
            self.end()
            raise ToolFailure(f"the child process took over {timeout_s:g} s to {do}") from error
        finally:
            self._waiting.pop(number, None)
        if "error" not in answer:
            return answer["ok"]
        if answer.get("kind") == "data":
            raise DataError(f"Prime environment: {answer['error']}")
        raise ToolFailure(f"Prime environment: {answer['error']}")

    def tell(self, do: str, **request: Any) -> None:
        """A request whose answer nobody waits for."""
        if self.is_alive:
            line = json.dumps({"id": next(self._numbers), "do": do, **request}).encode("ascii")
            self._to_write.put(line + b"\n")

    def end(self) -> None:
        """Ends it and everything that it started."""
        self._ended = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._to_write.put(None)
        self._process.wait()
        self._give_up()

    def last_words(self) -> str:
        """The end of what it wrote to standard error, on one line."""
        lines = (*self._said, _line(self._unended))
        return " | ".join(filter(None, lines))[-800:] or "it said nothing"

    def _give_up(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ToolFailure(f"the child process ended: {self.last_words()}"))

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._answered(line)
        self._ended = True
        self._process.wait()
        self._give_up()

    def _answered(self, line: bytes) -> None:
        try:
            answer = json.loads(line)
            future = self._waiting.pop(answer["id"], None)
        except (ValueError, KeyError, TypeError):
            self._said.append(f"no answer: {line[:200]!r}")
            return
        if future is not None and not future.done():
            future.set_result(answer)

    def _write(self) -> None:
        assert self._process.stdin is not None
        while (line := self._to_write.get()) is not None:
            try:
                self._process.stdin.write(line)
                self._process.stdin.flush()
            except OSError:  # it ended; the reader tells those who wait
                break
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            while data := os.read(pipe.fileno(), 1 << 16):
                *lines, rest = (self._unended + data).split(b"\n")
                self._said.extend(filter(None, map(_line, lines)))
                self._unended = rest[-_MAX_LINE:]  # a progress bar may never end its line


def _line(data: bytes) -> str:
    """What a terminal shows of a line that is written over itself again and again."""
    shown = data.rstrip().rpartition(b"\r")[2]
    return shown[:1200].decode("utf-8", "replace").strip()[:300]


class Children:
    """The children of this process, one for each environment and its options."""

    def __init__(self) -> None:
        self._loaded: dict[str, tuple[Child, Mapping[str, Any]]] = {}
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def loaded(
        self, python: str, request: Mapping[str, Any], timeout_s: float
    ) -> tuple[Child, Mapping[str, Any]]:
        """The child that has loaded an environment, started where there is none, and what it said.

        Blocks; a child that ended or was ended is replaced.

        Raises:
            DataError: The environment cannot be played.
            ToolFailure: The child did not come up.
        """
        from rl_envs.driver import wait  # noqa: PLC0415 - its loop is made on use

        key = json.dumps([os.getpid(), python, request], sort_keys=True)
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            known = self._loaded.get(key)
            if known is not None and known[0].is_alive:
                return known
            child = Child(python)
            try:
                about = wait(child.ask(timeout_s, "load", **request))
            except BaseException:
                child.end()
                raise
            self._loaded[key] = (child, about)
            return child, about

    def end(self) -> None:
        """Ends them all."""
        for child, _ in list(self._loaded.values()):
            child.end()
        self._loaded.clear()


children = Children()
atexit.register(children.end)
os.register_at_fork(after_in_child=children._loaded.clear)
