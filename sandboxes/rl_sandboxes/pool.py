"""Workers shared by many callers: queue, retry, replacement; the same for every back end."""

from __future__ import annotations

import base64
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, Protocol

from rl_sandboxes.inside.values import ValueRefused, encode
from rl_sandboxes.readings import read_answer
from rl_sandboxes.types import (
    MAX_INPUT_BYTES,
    OVER_LIMIT,
    TOGETHER,
    Guarantees,
    Job,
    JobError,
    Limits,
    Result,
    Run,
    SandboxError,
    Session,
)

GRACE_S = 10.0
"""Seconds over its limits after which a worker that does not answer is given up."""

MAX_RESTING = 16
"""Workers at most that wait for a next session."""


class WorkerLostError(Exception):
    """A worker died, its stream broke, or it did not answer in time: our failure.

    Attributes:
        out_of_memory: The kernel ended something in its walls for memory since the job began, and
            that is the job's doing: a verdict, and no failure.
    """

    out_of_memory = False


class Worker(Protocol):
    """One fork server in its walls. Used by one thread at a time, but for ``kill``."""

    def request(self, frame: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a message and wait for the answer.

        Raises:
            WorkerLostError: No answer, and there will be none.
        """
        ...

    def kill(self) -> None:
        """End it and everything in it, now; safe to call twice and from any thread."""
        ...


class WorkerPool:
    """A number of workers behind the ``Sandbox`` interface; a back end says how one starts.

    Workers start when they are first needed. A job whose worker is lost is tried once more on a
    fresh one; if that is lost too, the result is our failure (``Result.error``).

    Args:
        name: The back end's.
        start: Starts a worker; may take long; raises SandboxError when it cannot be done.
        guarantees: What is promised.
        size: Workers at most.
        spare: Workers that are started ahead to take the place of those that are replaced.
        rest: Keep the worker of a session that ended for the next one: only where nothing of a
            session can outlive it, as in namespaces of its own.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Worker],
        guarantees: Guarantees,
        *,
        size: int,
        spare: int = 0,
        rest: bool = False,
    ) -> None:
        check_size(name, size)
        self.name = name
        self.size = size
        self._start = start
        self._guarantees = guarantees
        self._spares: deque[Future[Worker]] = deque()
        self._n_spare = spare
        self._slots = _Slots(size)
        self._workers: set[Worker] = set()
        self._resting: list[Worker] = []  # between two sessions
        self._n_resting = MAX_RESTING if rest else 0
        self._lock = threading.Lock()
        self._closed = False
        self._threads = ThreadPoolExecutor(size, thread_name_prefix=f"sandbox-{name}")
        self._starters = ThreadPoolExecutor(
            max(4, spare), thread_name_prefix=f"sandbox-{name}-start"
        )

    def guarantees(self) -> Guarantees:
        """What it promises on this machine, now."""
        return self._guarantees

    # Jobs.

    def run(self, job: Job) -> Result:
        """Run a job; blocks. Never raises for what the code does.

        Raises:
            SandboxError: The sandbox was closed.
            JobError: The job's arguments are no plain data.
        """
        return self._run(request_of(job), job, time.monotonic(), _Cancel())

    async def arun(self, job: Job) -> Result:
        """``run`` for use inside an event loop; cancelling ends the job."""
        import asyncio  # noqa: PLC0415 - a start-up without it is 12 ms shorter

        cancel = _Cancel()
        future = self._submit(job, cancel)
        work = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            worker = cancel.set()
            if not future.cancel():
                with contextlib.suppress(BaseException):
                    if worker is not None:
                        await asyncio.shield(asyncio.to_thread(worker.kill))  # may take a while
                    await work
            raise

    def run_many(self, jobs: Sequence[Job]) -> list[Result]:
        """Run jobs at once on all workers; results in the order of the jobs."""
        futures = [self._submit(job, _Cancel()) for job in jobs]
        return [future.result() for future in futures]

    def _submit(self, job: Job, cancel: _Cancel) -> Future[Result]:
        frame = request_of(job)
        self._refuse_if_closed()
        try:
            return self._threads.submit(self._run, frame, job, time.monotonic(), cancel)
        except RuntimeError:  # closed meanwhile
            raise SandboxError(f"sandbox {self.name} is closed") from None

    def _run(self, frame: dict[str, Any], job: Job, asked: float, cancel: _Cancel) -> Result:
        self._refuse_if_closed()
        slot = self._slots.take()
        try:
            queued = time.monotonic() - asked
            return self._attempts(slot, frame, job, queued, cancel)
        finally:
            self._slots.give_back(slot)

    def _attempts(
        self, slot: _Slot, frame: dict[str, Any], job: Job, queued: float, cancel: _Cancel
    ) -> Result:
        failure = ""
        for _ in range(2):
            if cancel.is_set():
                return Result(error="cancelled")
            try:
                worker = slot.worker = slot.worker or self._new_worker()
                cancel.on(worker)
                answer = worker.request(frame, job.longest_s + GRACE_S)
                cancel.on(None)
                result = read_answer(job, answer, queued)
                if result.error is None and not answer.get("tainted"):
                    return result
                self._discard(slot)
                if result.error is None:
                    return result
                failure = result.error
            except (WorkerLostError, SandboxError) as error:
                self._refuse_if_closed()
                self._discard(slot)
                if isinstance(error, WorkerLostError) and error.out_of_memory:
                    return Result((Run("memory"),) * job.n_runs, queue_s=queued)
                self._drop_spares()  # what ended a worker may have ended them
                failure = str(error)
            except BaseException:  # an interrupt: the answer that is on its way is nobody's
                self._discard(slot)
                raise
        return Result(queue_s=queued, error=f"sandbox {self.name}: {failure}"[:3000])

    # Workers.

    def _new_worker(self) -> Worker:
        self._refuse_if_closed()
        with self._lock:
            ready = self._spares.popleft() if self._spares else None
        try:
            worker = (ready or self._start_one()).result()
        except SandboxError:
            if ready is None:
                raise
            worker = self._start_one().result()
        with self._lock:
            closed = self._closed
            self._workers.add(worker)
            while not closed and len(self._spares) < self._n_spare:
                self._spares.append(self._start_one())
        if closed:  # meanwhile
            self._forget(worker)
            self._refuse_if_closed()
        return worker

    def _start_one(self) -> Future[Worker]:
        try:
            return self._starters.submit(self._start)
        except RuntimeError:  # closed meanwhile, or the interpreter is ending
            raise SandboxError(f"sandbox {self.name} is closed") from None

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise SandboxError(f"sandbox {self.name} is closed")

    def _discard(self, slot: _Slot) -> None:
        if slot.worker is not None:
            self._forget(slot.worker)
            slot.worker = None

    def _drop_spares(self) -> None:
        with self._lock:
            spares, self._spares = self._spares, deque()
        for spare in spares:
            spare.add_done_callback(_kill_spare)

    def _forget(self, worker: Worker) -> None:
        worker.kill()
        with self._lock:
            self._workers.discard(worker)

    def session(
        self, kind: Literal["bash", "python"] = "bash", limits: Limits | None = None
    ) -> Session:
        """Open a box that stays, on a worker of its own."""
        from rl_sandboxes.sessions import open_session  # noqa: PLC0415 - jobs need none

        rest = self._rest if self._n_resting else None
        how = (self._forget, kind, limits or Limits(), rest)
        try:
            return open_session(lambda: self._rested() or self._new_worker(), *how)
        except SandboxError as error:
            if rest is None or isinstance(error, JobError):
                raise
            return open_session(self._new_worker, *how)  # the first may have died as it rested

    def _rested(self) -> Worker | None:
        with self._lock:
            return self._resting.pop() if self._resting else None

    def _rest(self, worker: Worker) -> None:
        """Take back the worker of a session that ended cleanly."""
        with self._lock:
            if not self._closed and len(self._resting) < self._n_resting:
                self._resting.append(worker)
                return
        self._forget(worker)

    def close(self) -> None:
        """End all workers; safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            workers, spares = list(self._workers), list(self._spares)
            self._spares.clear()
        for worker in workers:
            worker.kill()
        for spare in spares:
            spare.add_done_callback(_kill_spare)
        self._threads.shutdown(wait=True)
        self._starters.shutdown(wait=True)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _kill_spare(spare: Future[Worker]) -> None:
    if not spare.cancelled() and spare.exception() is None:
        spare.result().kill()


class _Slot:
    """A place for one worker; whoever holds it uses the worker alone."""

    def __init__(self) -> None:
        self.worker: Worker | None = None


class _Slots:
    """The slots of a pool, handed to whoever has waited longest."""

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._free = [_Slot() for _ in range(size)]
        self._waiting: deque[Future[_Slot]] = deque()

    def take(self) -> _Slot:
        with self._lock:
            if self._free:
                return self._free.pop()
            turn: Future[_Slot] = Future()
            self._waiting.append(turn)
        try:
            return turn.result()
        except BaseException:  # an interrupt: this turn must not swallow a slot
            with self._lock:
                if turn.done():
                    late = turn.result()
                else:
                    self._waiting.remove(turn)
                    raise
            self.give_back(late)
            raise

    def give_back(self, slot: _Slot) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set_result(slot)
            else:
                self._free.append(slot)


class _Cancel:
    """Ends the worker of a job that nobody waits for any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._cancelled = False

    def on(self, worker: Worker | None) -> None:
        with self._lock:
            self._worker = worker
            if self._cancelled and worker is not None:
                worker.kill()

    def set(self) -> Worker | None:
        """Mark it; the worker that is at it, to be ended."""
        with self._lock:
            self._cancelled = True
            return self._worker

    def is_set(self) -> bool:
        return self._cancelled


def request_of(job: Job) -> dict[str, Any]:
    """A job as the message that a worker reads.

    Raises:
        JobError: An argument that is no plain data, or a job that is too large.
    """
    size = len(job.code) + sum(map(len, job.stdin)) + sum(map(len, job.files.values()))
    if size > MAX_INPUT_BYTES:
        raise JobError(f"a job of {size:,} bytes; its code, inputs and files are at most 64 MiB")
    inputs: list[Any] = [_b64(data) for data in job.stdin]
    if job.kind == "call":
        try:
            inputs = [
                {
                    "args": [encode(item) for item in call.args],
                    "kwargs": {str(name): encode(item) for name, item in call.kwargs.items()},
                }
                for call in job.calls
            ]
        except ValueRefused as error:
            raise JobError(f"an argument of {job.entry_point} is no plain data: {error}") from None
    return {
        "op": "job",
        "kind": job.kind,
        "code": job.code.encode("utf-8", "replace").decode(),
        "entry_point": job.entry_point,
        "inputs": inputs,
        "files": {path: _b64(data) for path, data in job.files.items()},
        "collect": list(job.collect),
        "limits": limits_of(job.limits),
        "stop_early": job.stop_early,
        "stop_at": list(OVER_LIMIT),
        "together_s": TOGETHER * job.limits.wall_s,
    }


def limits_of(limits: Limits) -> dict[str, float]:
    """Limits as a worker reads them."""
    return {name: getattr(limits, name) for name in Limits.__slots__}


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def check_size(name: str, size: int) -> None:
    """Refuse a number of workers that is none.

    Raises:
        SandboxError: It is no whole number above 0.
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise SandboxError(f"sandbox {name}: workers is {size!r}; it must be a whole number from 1")


def default_size() -> int:
    """A worker for each processor that this process may use."""
    return len(os.sched_getaffinity(0))
