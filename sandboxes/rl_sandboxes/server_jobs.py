"""The server's work, without HTTP: what was asked once is done once, and never too much at once."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from rl_sandboxes import wire
from rl_sandboxes.types import Job, Result, Sandbox

KEEP_S = 600.0
"""Seconds that an answer stays for whoever asks again with its key."""
MAX_ANSWERS = 10_000
MAX_ANSWER_BYTES = 256 << 20
MAX_QUEUE_BYTES = 512 << 20
GRACE_S = 30.0
"""Seconds beyond twice a job's own limits after which the back end has failed."""


class RefusedError(Exception):
    """A request that is not done.

    Args:
        status: The HTTP status.
        code: A word for programs.
        message: A line for people.
        retry_after: Seconds after which to ask again, if that makes sense.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after

    def tree(self) -> dict[str, Any]:
        """As the ``error`` of an answer."""
        tree = {"status": self.status, "code": self.code, "message": str(self)}
        return tree if self.retry_after is None else {**tree, "retry_after": self.retry_after}


def draining() -> RefusedError:
    """What a server that is about to end says to new work."""
    return RefusedError(503, "draining", "the server is about to end", retry_after=1)


class Answer(NamedTuple):
    """An HTTP answer that can be given again."""

    status: int
    body: bytes


def fingerprint(tree: Any) -> bytes:
    """What two requests share if and only if they ask the same."""
    return hashlib.sha256(wire.dumps(tree)).digest()


@dataclass
class _Entry:
    asked: bytes
    task: asyncio.Task[Answer]
    n_bytes: int = 0
    ended: float = 0.0


class Ledger:
    """Answers by idempotency key: the same key gets the same answer, and its work runs once.

    Args:
        max_entries: How many answers are kept.
        max_bytes: Their bytes in all.
        keep_s: For how long.
    """

    def __init__(
        self,
        *,
        max_entries: int = MAX_ANSWERS,
        max_bytes: int = MAX_ANSWER_BYTES,
        keep_s: float = KEEP_S,
    ) -> None:
        self._limits = (max_entries, max_bytes, keep_s)
        self._running: dict[str, _Entry] = {}
        self._ended: OrderedDict[str, _Entry] = OrderedDict()
        self._n_bytes = 0

    def find(self, key: str, asked: bytes) -> asyncio.Task[Answer] | None:
        """The work of a key, running or ended.

        Raises:
            RefusedError: The key was used for something else.
        """
        self._forget_old()
        entry = self._running.get(key) or self._ended.get(key)
        if entry is not None and entry.asked != asked:
            raise RefusedError(409, "key_reused", f"key {key[:64]!r} was used for another request")
        return entry.task if entry else None

    def once(
        self, key: str, asked: bytes, work: Callable[[], Coroutine[Any, Any, Answer]]
    ) -> asyncio.Task[Answer]:
        """The work of a key, started unless it was already; whoever waits must not cancel it."""
        task = self.find(key, asked)
        if task is None:
            task = asyncio.get_running_loop().create_task(work())
            self._running[key] = _Entry(asked, task)
            task.add_done_callback(lambda _: self._end(key))
        return task

    def cancel(self, key: str) -> bool:
        """End the work of a key; whether it was running."""
        entry = self._running.get(key)
        return entry is not None and entry.task.cancel()

    @property
    def running(self) -> list[asyncio.Task[Answer]]:
        """The tasks that have not ended."""
        return [entry.task for entry in self._running.values()]

    def _end(self, key: str) -> None:
        entry = self._running.pop(key)
        if entry.task.cancelled() or entry.task.exception() is not None:
            return
        entry.n_bytes = len(entry.task.result().body)
        entry.ended = time.monotonic()
        self._ended[key] = entry
        self._n_bytes += entry.n_bytes
        self._forget_old()

    def _forget_old(self) -> None:
        max_entries, max_bytes, keep_s = self._limits
        oldest = time.monotonic() - keep_s
        while self._ended:
            first = next(iter(self._ended.values()))
            few = len(self._ended) <= max_entries and self._n_bytes <= max_bytes
            if few and first.ended >= oldest:
                return
            self._ended.popitem(last=False)
            self._n_bytes -= first.n_bytes


@dataclass
class JobQueue:
    """Jobs wait here for one of ``workers`` places; beyond ``max_queue`` they are refused.

    Attributes:
        sandbox: What runs them.
        workers: How many run at once.
        max_queue: How many may wait.
        draining: Whether new jobs are refused because the server is about to end.
    """

    sandbox: Sandbox
    workers: int
    max_queue: int
    draining: bool = False
    ledger: Ledger = field(default_factory=Ledger)

    def __post_init__(self) -> None:
        self._places = asyncio.Semaphore(self.workers)
        self._open = 0
        self._open_bytes = 0
        self._in_place = 0

    @property
    def running(self) -> int:
        """How many jobs run now."""
        return self._in_place

    @property
    def waiting(self) -> int:
        """How many jobs wait for a place."""
        return self._open - self._in_place

    def submit(self, key: str, job: Job, asked: bytes, n_bytes: int) -> asyncio.Task[Answer]:
        """Queue a job, unless its key is known.

        Args:
            key: Its idempotency key.
            job: What to run.
            asked: :func:`fingerprint` of the job.
            n_bytes: Its size, about.

        Returns:
            A task that ends with the encoded Result; or with a RefusedError, if the server began
            to drain before the job had a place.

        Raises:
            RefusedError: 409, the key is another job's; 429, the queue is full; 503, draining.
        """
        known = self.ledger.find(key, asked)
        if known is not None:
            return known
        self._admit(n_bytes)
        self._open += 1
        self._open_bytes += n_bytes
        task = self.ledger.once(key, asked, lambda: self._work(job))
        task.add_done_callback(lambda _: self._leave(n_bytes))
        return task

    async def idle(self) -> None:
        """Wait until no job is left."""
        while tasks := self.ledger.running:
            await asyncio.wait(tasks)

    def _admit(self, n_bytes: int) -> None:
        if self.draining:
            raise draining()
        many = self._open >= self.workers + self.max_queue
        if many or (self._open and self._open_bytes + n_bytes > MAX_QUEUE_BYTES):
            raise RefusedError(
                429, "queue_full", f"{self.waiting} jobs wait already; try later", retry_after=1
            )

    def _leave(self, n_bytes: int) -> None:
        self._open -= 1
        self._open_bytes -= n_bytes

    async def _work(self, job: Job) -> Answer:
        start = time.monotonic()
        async with self._places:
            if self.draining:  # another server has it sooner
                raise draining()
            waited = time.monotonic() - start
            self._in_place += 1
            try:
                result = await self._run(job)
            finally:
                self._in_place -= 1
        result = replace(result, queue_s=result.queue_s + waited)
        try:
            return Answer(200, wire.dumps(wire.result_tree(result)))
        except wire.WireError as error:
            failed = Result(error=f"the server cannot send the result: {error}", queue_s=waited)
            return Answer(200, wire.dumps(wire.result_tree(failed)))

    async def _run(self, job: Job) -> Result:
        longest_s = 2 * job.longest_s + GRACE_S  # the back end may try twice
        try:
            async with asyncio.timeout(longest_s):
                return await self.sandbox.arun(job)
        except TimeoutError:
            return Result(error=f"the server's back end gave no result in {longest_s:.0f} s")
        except Exception as error:  # a job must not be lost with the back end's defect
            return Result(error=f"the server's back end failed: {type(error).__name__}: {error}")
