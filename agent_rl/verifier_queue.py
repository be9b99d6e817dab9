"""Samples on their way to a verifier: many small requests become a few calls of worker processes.

Belongs to one event loop. While all workers are busy, what arrives waits and goes out together as
soon as one is free; while one is free, a sample waits for others a few milliseconds at most.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import math
import pickle
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, cast

from agent_rl.scoring.spec import VerifierSpec, build
from rl_verifiers import Row, Score, Verifier, VerifierError, score_many, score_one, score_sync
from rl_verifiers.workers import WorkerError, WorkerPool, failure_score

CONCURRENT = 64
"""Samples at once for a verifier that runs in the server's own process."""

Outcome = Score | VerifierError
"""A score; or why there is none and never will be: the verifier or the row broke the contract."""


@dataclass(frozen=True)
class _Sample:
    completion: str
    row: Row
    outcome: asyncio.Future[Outcome]


class Scorer(Protocol):
    """Where samples are scored.

    Attributes:
        places: How many batches at once.
        max_batch: Samples in one.
    """

    places: int
    max_batch: int

    async def score(self, completions: Sequence[str], rows: Sequence[Row]) -> list[Outcome]:
        """One outcome for each sample; raises nothing."""
        ...

    def close(self) -> None:
        """End what runs."""
        ...


class PooledScorer:
    """Scores in worker processes that can be killed.

    A batch whose worker was killed or died is scored again one by one, so that a bad sample harms
    no other.

    Args:
        spec: The verifier; every worker builds its own.
        workers: How many processes.
        max_batch: Samples that go to one at a time.
        timeout_s: Processor seconds that a sample may use (of wall clock, ten times as many).
    """

    def __init__(
        self,
        spec: VerifierSpec,
        *,
        workers: int,
        max_batch: int,
        timeout_s: float,
    ) -> None:
        self.places = workers
        self.max_batch = max_batch
        self._spec = pickle.dumps(spec)
        self._timeout_s = timeout_s
        self._pool = WorkerPool(workers)

    def warm_up(self) -> None:
        """Start the workers, so that the first request does not wait for them."""
        for _ in range(self.places):
            self._pool.submit(_built, self._spec, cpu_s=60.0, wall_s=600.0)

    async def score(self, completions: Sequence[str], rows: Sequence[Row]) -> list[Outcome]:
        """See :meth:`Scorer.score`."""
        try:
            future = self._pool.submit(
                _score_batch,
                self._spec,
                completions,
                rows,
                self._timeout_s,
                cpu_s=self._timeout_s,
                wall_s=10 * self._timeout_s,
            )
            outcomes = await asyncio.wrap_future(future)
        except WorkerError as error:
            if len(completions) == 1:
                return [failure_score(error)]
        except Exception as error:  # the pool is closed, or what was sent does not pickle
            return [Score.failed(f"the server's workers failed: {error}")] * len(completions)
        else:
            return [VerifierError(o) if isinstance(o, str) else o for o in outcomes]
        pairs = zip(completions, rows, strict=True)
        singles = await asyncio.gather(*(self.score([text], [row]) for text, row in pairs))
        return [single[0] for single in singles]

    def close(self) -> None:
        """Kill the workers."""
        self._pool.close()


@lru_cache(maxsize=4)
def _built(spec: bytes) -> Verifier:
    return build(pickle.loads(spec))


def _score_batch(
    spec: bytes, completions: Sequence[str], rows: Sequence[Row], timeout_s: float
) -> list[Score | str]:
    """Runs in the worker; a string is the message of a VerifierError."""
    verifier = _built(spec)
    try:
        return list(score_many(verifier, completions, rows, workers=0, timeout=timeout_s))
    except (VerifierError, ExceptionGroup):  # of one sample; which one?
        pairs = zip(completions, rows, strict=True)
        return [_score_single(verifier, text, row) for text, row in pairs]


def _score_single(verifier: Verifier, completion: str, row: Row) -> Score | str:
    try:
        return score_sync(verifier, completion, row)
    except VerifierError as error:
        return str(error)


class LocalScorer:
    """Scores in this process: for what waits for a sandbox, a model or another server.

    Args:
        verifier: The verifier.
        timeout_s: Seconds of wall clock that a sample may take, unless the verifier bounds its own
            work.
    """

    max_batch = 1

    def __init__(self, verifier: Verifier, *, timeout_s: float) -> None:
        self.places = CONCURRENT
        self._verifier = verifier
        self._timeout_s = None if getattr(verifier, "bounded", False) else timeout_s

    async def score(self, completions: Sequence[str], rows: Sequence[Row]) -> list[Outcome]:
        """See :meth:`Scorer.score`."""
        return [await self._one(*pair) for pair in zip(completions, rows, strict=True)]

    async def _one(self, completion: str, row: Row) -> Outcome:
        score = Score.failed("not scored")
        for _ in range(2):
            try:
                async with asyncio.timeout(self._timeout_s):
                    score = await score_one(self._verifier, completion, row)
            except TimeoutError:
                score = Score.failed(f"no verdict within {self._timeout_s:g} s")
            except VerifierError as error:
                return error
            if not score.is_error:
                break
        return score

    def close(self) -> None:
        """Nothing runs that does not end with the event loop."""


class ScoreQueue:
    """Samples wait here until a scorer has a place.

    Args:
        scorer: Where they are scored.
        max_queue: Samples that may wait.
        wait_s: Seconds that a sample may wait for others while there is a place.
    """

    def __init__(self, scorer: Scorer, *, max_queue: int, wait_s: float) -> None:
        self.scorer = scorer
        self.max_queue = max_queue
        self.running = 0
        self._wait_s = wait_s if scorer.max_batch > 1 else 0.0
        self._waiting: deque[_Sample] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting(self) -> int:
        """How many samples wait."""
        return len(self._waiting)

    def has_room(self, n_samples: int) -> bool:
        """Whether so many more may wait; always where none does."""
        return not self._waiting or len(self._waiting) + n_samples <= self.max_queue

    async def score(self, completions: Sequence[str], rows: Sequence[Row]) -> list[Outcome]:
        """The outcomes, in order."""
        if not completions:
            return []
        loop = asyncio.get_running_loop()
        pairs = zip(completions, rows, strict=True)
        samples = [_Sample(text, row, loop.create_future()) for text, row in pairs]
        self._idle.clear()
        self._waiting.extend(samples)
        self._wake()
        return list(await asyncio.gather(*(sample.outcome for sample in samples)))

    async def idle(self) -> None:
        """Wait until nothing is left."""
        await self._idle.wait()

    def give_up(self) -> None:
        """End what waits and what runs: it could not be scored."""
        self.scorer.close()
        for task in self._tasks:
            task.cancel()
        gone = Score.failed("the server ended")
        while self._waiting:
            _settle(self._waiting.popleft(), gone)

    def _wake(self) -> None:
        """Send what is worth sending now, and see again in ``wait_s`` to the rest."""
        full = len(self._waiting) >= self.scorer.max_batch or not self._wait_s
        if full:
            self._send()
        elif self._timer is None and self._waiting and self.running < self.scorer.places:
            self._timer = asyncio.get_running_loop().call_later(self._wait_s, self._send)

    def _send(self) -> None:
        """Share what waits among the places that are free."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and self.running < self.scorer.places:
            free = self.scorer.places - self.running
            size = min(self.scorer.max_batch, math.ceil(len(self._waiting) / free))
            batch = [self._waiting.popleft() for _ in range(size)]
            self.running += 1
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, batch: list[_Sample]) -> None:
        outcomes: Sequence[Outcome] = [Score.failed("the server ended")] * len(batch)
        try:
            outcomes = await self.scorer.score(
                [sample.completion for sample in batch], [sample.row for sample in batch]
            )
        except Exception as error:  # a sample must not be lost with a defect of ours
            failed = Score.failed(f"the server failed: {type(error).__name__}: {error}")
            outcomes = [failed] * len(batch)
        finally:
            self.running -= 1
            for sample, outcome in zip(batch, outcomes, strict=True):
                _settle(sample, outcome)
            self._send()
            if not self._waiting and not self.running:
                self._idle.set()


def _settle(sample: _Sample, outcome: Outcome) -> None:
    if not sample.outcome.done():
        sample.outcome.set_result(outcome)


def waits(verifier: object) -> bool:
    """Whether a verifier waits for something outside rather than computes.

    It says so itself (``waits``), is async, has a ``sandbox``, or is made of such a one.
    """
    declared = getattr(verifier, "waits", None)
    if declared is not None:
        return bool(declared)
    if inspect.iscoroutinefunction(verifier) or hasattr(verifier, "sandbox"):
        return True
    if inspect.iscoroutinefunction(getattr(verifier, "__call__", None)):  # noqa: B004
        return True
    if not dataclasses.is_dataclass(verifier):
        return False
    inner = [getattr(verifier, field.name) for field in dataclasses.fields(verifier)]
    for item in list(inner):
        if isinstance(item, Mapping):
            inner += cast("Mapping[str, Any]", item).values()
    return any(waits(item) for item in inner if callable(item))
