"""Killable worker processes: run a function with a deadline and a memory limit, from any thread.

A worker is a fresh interpreter that speaks pickled frames over its standard input and output. It
never imports the caller's ``__main__``, needs no signal in the caller, and ends with the pipe when
the caller ends.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar, cast

from rl_verifiers.score import Score

T = TypeVar("T")

MEMORY_BYTES = 2 << 30
"""Address space of a worker."""
_PROGRAM = "import sys; from rl_verifiers.workers import serve; serve(int(sys.argv[1]))"
_HEADER = struct.Struct("!Q")
_START_SECONDS = 60.0
_inside_worker = False


class WorkerError(Exception):
    """A call gave no result."""


class WorkerLimitError(WorkerError):
    """The call used up its processor time or its deadline, or its memory; the worker was killed."""


class WorkerDiedError(WorkerError):
    """The worker ended for a reason that is not the call's: try again, then give up."""


class WorkerRaisedError(WorkerError):
    """The function itself raised; the message is ``Type: text``."""


def failure_score(error: WorkerError) -> Score:
    """``over_limit`` where the call used up what it was given; otherwise our own failure."""
    if isinstance(error, WorkerLimitError):
        return Score.wrong(str(error), status="over_limit")
    return Score.failed(f"the worker failed: {error}")


def inside_worker() -> bool:
    """Whether this process is a worker: what would go to a worker runs here directly."""
    return _inside_worker


class WorkerPool:
    """A fixed number of workers, each started when first needed and replaced when killed.

    Args:
        size: How many calls run at once.
        memory_bytes: Address-space limit of one worker (where the platform has one).
    """

    def __init__(self, size: int, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self._memory_bytes = memory_bytes
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="rl_verifiers")
        self._local = threading.local()
        self._workers: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False

    def submit(
        self, function: Callable[..., T], *arguments: Any, cpu_s: float, wall_s: float
    ) -> Future[T]:
        """Run ``function(*arguments)`` in a worker.

        Args:
            function: Importable by name; its result must pickle.
            arguments: Must pickle.
            cpu_s: Processor seconds the call may use, rounded up to whole seconds. This, not the
                wall clock, is the limit that decides, so that a busy machine changes no verdict.
            wall_s: Seconds after which the worker is killed in any case.

        Returns:
            A future. Its exception is WorkerLimitError, WorkerRaisedError, or, after one retry,
            WorkerDiedError.
        """
        frame = pickle.dumps((function, arguments, cpu_s))
        return self._threads.submit(self._call, frame, wall_s)

    def close(self) -> None:
        """Kill the workers; the pool takes no more calls."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.kill()
            self._workers.clear()

    def _call(self, frame: bytes, wall_s: float) -> Any:
        try:
            return self._worker().call(frame, wall_s)
        except WorkerDiedError:
            return self._worker().call(frame, wall_s)

    def _worker(self) -> _Worker:
        worker = cast("_Worker | None", getattr(self._local, "worker", None))
        if worker is None or not worker.alive:
            with self._lock:
                if self._closed:
                    raise WorkerDiedError("the pool is closed")
                if worker is not None:
                    self._workers.discard(worker)
                worker = self._local.worker = _Worker(self._memory_bytes)
                self._workers.add(worker)
        return worker


class _Worker:
    def __init__(self, memory_bytes: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            bufsize=0,
        )
        self.alive = True
        self._started = False

    def call(self, frame: bytes, wall_s: float) -> Any:
        deadline = time.monotonic() + wall_s + (0 if self._started else _START_SECONDS)
        try:
            self._write(_HEADER.pack(len(frame)) + frame, deadline)
            (size,) = _HEADER.unpack(self._read(_HEADER.size, deadline))
            ok, result = pickle.loads(self._read(size, deadline))
        except (EOFError, OSError):
            raise self._why_dead() from None
        except BaseException:
            self.kill()
            raise
        self._started = True
        if ok:
            return result
        kind, message = result
        raise (WorkerLimitError if kind == "MemoryError" else WorkerRaisedError)(
            f"{kind}: {message}"
        )

    def kill(self) -> None:
        self.alive = False
        self._process.kill()
        self._process.wait()
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
            view = view[os.write(pipe, view[: select.PIPE_BUF]) :]


def _wait(pipe: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(pipe, event)
    remaining = deadline - time.monotonic()
    if remaining <= 0 or not poll.poll(remaining * 1000):
        raise WorkerLimitError("deadline passed")


_pools: dict[int, WorkerPool] = {}
_pools_lock = threading.Lock()


def shared_pool() -> WorkerPool:
    """The pool of this process, made when first needed, with at most four workers."""
    with _pools_lock:
        pool = _pools.get(os.getpid())
        if pool is None:
            _pools.clear()
            pool = _pools[os.getpid()] = WorkerPool(min(4, os.cpu_count() or 1))
            atexit.register(pool.close)
        return pool


def _limit(resource_name: str, soft: int) -> None:
    """Lower a resource limit where the platform has it."""
    try:
        import resource  # noqa: PLC0415 - not on every platform

        kind = getattr(resource, resource_name)
        _, hard = resource.getrlimit(kind)
        soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(kind, (soft, hard))
    except (ImportError, AttributeError, ValueError, OSError):
        return


def serve(memory_bytes: int) -> None:
    """The main loop of a worker process."""
    global _inside_worker  # noqa: PLW0603 - set once, before any call
    _inside_worker = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller; the pipe ends us
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a function prints must not mix with the frames
    _limit("RLIMIT_AS", memory_bytes)
    _limit("RLIMIT_CORE", 0)
    while header := source.read(_HEADER.size):
        frame = source.read(*_HEADER.unpack(header))
        reply = pickle.dumps(_run(frame))
        sink.write(_HEADER.pack(len(reply)) + reply)
        sink.flush()


def _run(frame: bytes) -> tuple[bool, Any]:
    try:
        function, arguments, cpu_s = pickle.loads(frame)
        # process_time counts from the start, as the limit does; the extra second is its grain.
        _limit("RLIMIT_CPU", math.ceil(time.process_time() + cpu_s) + 1)
        return True, function(*arguments)
    except Exception as error:
        return False, (type(error).__name__, str(error)[:2000])
