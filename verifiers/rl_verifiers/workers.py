"""Killable worker processes: run a function with a deadline and a memory limit, from any thread.

A worker is a fresh interpreter that speaks pickled frames over its standard input and output. It
never imports the caller's ``__main__``, needs no signal in the caller, and ends with the caller:
with the pipe, and on Linux at once, however busy it is.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from rl_verifiers.score import Score
from rl_verifiers.serving import HEADER, WorkerError, WorkerLimitError, inside_worker, run_inline

__all__ = [
    "WorkerDiedError",
    "WorkerError",
    "WorkerLimitError",
    "WorkerPool",
    "WorkerRaisedError",
    "failure_score",
    "inside_worker",
    "run_inline",
    "shared_pool",
]

T = TypeVar("T")

MEMORY_BYTES = 2 << 30
"""Address space of a worker."""
_PROGRAM = "import sys; from rl_verifiers.serving import serve; serve(*map(int, sys.argv[1:]))"
_START_SECONDS = 60.0
_SHARED_PATIENCE = 3.0


class WorkerDiedError(WorkerError):
    """The worker ended for a reason that is not the call's: try again, then give up."""


class WorkerRaisedError(WorkerError):
    """The function itself raised; the message is ``kind: text``."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.text = kind, text


def failure_score(error: WorkerError) -> Score:
    """``over_limit`` where the call used up what it was given; otherwise our own failure."""
    if isinstance(error, WorkerLimitError):
        return Score.wrong(str(error), status="over_limit")
    return Score.failed(f"the worker failed: {error}")


@dataclass(frozen=True, eq=False)
class _Call:
    frame: bytes
    wall_s: float
    future: Future[Any] = field(default_factory=Future)
    submitted: float = field(default_factory=time.monotonic)


class WorkerPool:
    """A fixed number of workers, each started when first needed and replaced when killed.

    A context manager: leaving it closes the pool.

    Args:
        size: How many calls run at once.
        memory_bytes: Address-space limit of one worker (where the platform has one).
        patience_s: How long a call waits for a worker that is busy before another is started. A
            start costs processor time (the imports of what it runs), which many short calls save.
    """

    def __init__(
        self, size: int, *, memory_bytes: int = MEMORY_BYTES, patience_s: float = 0.0
    ) -> None:
        self._size, self._memory_bytes, self._patience_s = size, memory_bytes, patience_s
        self._changed = threading.Condition()
        self._waiting: deque[_Call] = deque()
        self._workers: set[_Worker] = set()
        self._threads = self._warm = self._unfinished = 0
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def submit(
        self, function: Callable[..., T] | str, *arguments: Any, cpu_s: float, wall_s: float
    ) -> Future[T]:
        """Run ``function(*arguments)`` in a worker.

        Args:
            function: Importable by name, or the text ``module:function`` or
                ``path/to/file.py:function``, which the worker loads; its result must pickle.
            arguments: Must pickle.
            cpu_s: Processor seconds the call may use, rounded up to whole seconds. This, not the
                wall clock, is the limit that decides, so that a busy machine changes no verdict.
            wall_s: Seconds after which the worker is killed in any case.

        Returns:
            A future. Its exception is WorkerLimitError, WorkerRaisedError, or, after one retry,
            WorkerDiedError.

        Raises:
            RuntimeError: The pool is closed.
        """
        call = _Call(pickle.dumps((function, arguments, cpu_s)), wall_s)
        with self._changed:
            if self._closed:
                raise RuntimeError("the pool is closed")
            self._waiting.append(call)
            self._unfinished += 1
            if self._threads < min(self._size, self._unfinished):
                self._threads += 1
                # A daemon, so that the end of the program waits for no call.
                threading.Thread(target=self._work, name="rl_verifiers", daemon=True).start()
            self._changed.notify_all()
        return call.future

    def close(self) -> None:
        """Kill the workers and cancel what waits; the pool takes no more calls."""
        with self._changed:
            self._closed = True
            for call in self._waiting:
                call.future.cancel()
            self._waiting.clear()
            for worker in self._workers:
                worker.end()
            self._workers.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        """A thread: takes calls, and has a worker of its own once it has taken one."""
        worker: _Worker | None = None
        try:
            while (call := self._next(is_cold=worker is None)) is not None:
                if call.future.set_running_or_notify_cancel():
                    worker = self._done(call, worker)
                with self._changed:
                    self._unfinished -= 1
                    self._warm -= worker is None
                    self._changed.notify_all()
        finally:
            if worker is not None:
                worker.kill()

    def _next(self, *, is_cold: bool) -> _Call | None:
        with self._changed:
            while not self._closed:
                patience = 0.0
                if self._waiting:
                    patience = self._patience(self._waiting[0]) if is_cold else 0.0
                    if patience <= 0:
                        self._warm += is_cold
                        return self._waiting.popleft()
                self._changed.wait(patience or None)
        return None

    def _patience(self, call: _Call) -> float:
        """How much longer a thread without a worker leaves ``call`` to those that have one."""
        if not self._patience_s or not self._warm:
            return 0.0
        return self._patience_s - (time.monotonic() - call.submitted)

    def _done(self, call: _Call, worker: _Worker | None) -> _Worker | None:
        for is_last in (False, True):
            try:
                worker = worker or self._started()
                result = worker.call(call.frame, call.wall_s)
            except BaseException as error:
                if worker is not None and not worker.alive:
                    self._discard(worker)
                    worker = None
                if is_last or not isinstance(error, WorkerDiedError):
                    call.future.set_exception(error)
                    return worker
            else:
                call.future.set_result(result)
                return worker
        raise AssertionError("unreachable")

    def _started(self) -> _Worker:
        with self._changed:
            if self._closed:
                raise WorkerDiedError("the pool is closed")
            try:
                worker = _Worker(self._memory_bytes)
            except OSError as error:
                raise WorkerDiedError(f"no worker could be started: {error}") from None
            self._workers.add(worker)
        return worker

    def _discard(self, worker: _Worker) -> None:
        with self._changed:
            self._workers.discard(worker)


class _Worker:
    def __init__(self, memory_bytes: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, str(memory_bytes), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            bufsize=0,
        )
        os.set_blocking(cast("Any", self._process.stdin).fileno(), False)
        self.alive = True
        self._started = False

    def call(self, frame: bytes, wall_s: float) -> Any:
        deadline = time.monotonic() + wall_s + (0 if self._started else _START_SECONDS)
        try:
            self._write(HEADER.pack(len(frame)) + frame, deadline)
            (size,) = HEADER.unpack(self._read(HEADER.size, deadline))
            reply = self._read(size, deadline)
        except (EOFError, OSError):
            raise self._why_dead() from None
        except BaseException:
            self.kill()
            raise
        self._started = True
        try:
            ok, result = pickle.loads(reply)
        except Exception as error:
            raise WorkerRaisedError(
                type(error).__name__, f"the result is unreadable: {error}"
            ) from None
        if ok:
            return result
        kind, text = result
        if kind in ("MemoryError", "WorkerLimitError"):
            raise WorkerLimitError(text if kind == "WorkerLimitError" else f"{kind}: {text}")
        raise WorkerRaisedError(kind, text)

    def end(self) -> None:
        """End the process; the thread that uses the worker closes the pipes."""
        self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        self.alive = False
        self.end()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                cast("Any", pipe).close()

    def _why_dead(self) -> Exception:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        code = self._process.returncode
        self.kill()
        if code == -getattr(signal, "SIGXCPU", 0):
            return WorkerLimitError("processor time used up")
        return WorkerDiedError(f"worker ended with exit status {code}")

    def _read(self, size: int, deadline: float) -> bytes:
        pipe = cast("Any", self._process.stdout).fileno()
        chunks = bytearray()
        while len(chunks) < size:
            _wait(pipe, select.POLLIN, deadline)
            chunk = os.read(pipe, min(1 << 20, size - len(chunks)))
            if not chunk:
                raise EOFError
            chunks += chunk
        return bytes(chunks)

    def _write(self, data: bytes, deadline: float) -> None:
        pipe = cast("Any", self._process.stdin).fileno()
        view = memoryview(data)
        while view:
            _wait(pipe, select.POLLOUT, deadline)
            view = view[os.write(pipe, view[: 1 << 20]) :]


def _wait(pipe: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(pipe, event)
    remaining = deadline - time.monotonic()
    if remaining <= 0 or not poll.poll(remaining * 1000):
        raise WorkerLimitError("deadline passed")


_pools: dict[int, WorkerPool] = {}
_pools_lock = threading.Lock()


def shared_pool() -> WorkerPool:
    """The pool of this process, made when first needed, with at most four workers.

    Its calls are short: a second worker starts only where one call has waited for three seconds.
    """
    with _pools_lock:
        pool = _pools.get(os.getpid())
        if pool is None:
            _pools.clear()
            size = min(4, os.cpu_count() or 1)
            pool = _pools[os.getpid()] = WorkerPool(size, patience_s=_SHARED_PATIENCE)
            atexit.register(pool.close)
        return pool
