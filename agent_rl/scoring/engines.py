"""Where spans are scored: worker processes of this machine, or another engine of the same shape."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NoReturn, Protocol

from agent_rl.errors import UserError
from agent_rl.scoring.span_scoring import Task, score_span, score_with
from agent_rl.scoring.spec import VerifierSpec, build
from agent_rl.scoring.types import Sample, Span
from agent_rl.verifier_queue import waits
from rl_verifiers import Row, Score, VerifierError, score_sync
from rl_verifiers.runner import is_bounded
from rl_verifiers.workers import (
    WorkerDiedError,
    WorkerError,
    WorkerLimitError,
    WorkerPool,
    WorkerRaisedError,
    failure_score,
)

MEMORY_BYTES = 4 << 30
"""Address space of a worker: one span and what the verifier needs."""
_SECONDS_PER_ROW = 1.0
_PATIENCE = 3
"""Seconds by the clock for each second of processor time."""


class Engine(Protocol):
    """Scores spans, in any order."""

    def run(self, task: Task, spans: Sequence[Span]) -> Iterator[dict[str, Any]]:
        """Give what :func:`agent_rl.scoring.span_scoring.score_span` says, as spans end."""
        ...


class LocalEngine:
    """Worker processes of this machine.

    A worker whose span takes too much processor time, time or memory is killed, and the rows of
    that span are judged again one by one, so that one bad row costs its own verdict only.

    Args:
        workers: Processes; 0 scores in this one, where nothing can be killed.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, task: Task, spans: Sequence[Span]) -> Iterator[dict[str, Any]]:
        """See :class:`Engine`.

        Raises:
            UserError: The disk is full, an input has changed, or a broken line under ``strict``.
            VerifierError: The verifier broke its contract.
        """
        if self.workers == 0:
            yield from (score_span(task, span) for span in spans)
            return
        with _Workers(self.workers, task) as workers:
            waiting = iter(spans)
            running: dict[Future[dict[str, Any]], Span] = {}
            for span in itertools.islice(waiting, 2 * self.workers):
                running[workers.begin(span)] = span
            while running:
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    span = running.pop(future)
                    try:
                        done = future.result()
                    except (WorkerLimitError, WorkerDiedError):
                        running[workers.begin_apart(span)] = span
                        continue
                    except WorkerRaisedError as error:
                        raise_in_caller(error.kind, error.text)
                    for following in itertools.islice(waiting, 1):
                        running[workers.begin(following)] = following
                    yield done


class _Workers:
    """Processes for whole spans, and others for the rows of spans that cost a process its life."""

    def __init__(self, size: int, task: Task) -> None:
        self._task = task
        verifier = build(task.spec)
        self._bounded = is_bounded(verifier) or waits(verifier)
        self._spans = WorkerPool(size, memory_bytes=MEMORY_BYTES)
        self._rows = WorkerPool(size, memory_bytes=MEMORY_BYTES)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="row-by-row")

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._spans.close()
        self._rows.close()  # what the threads wait for ends with it
        self._threads.shutdown(cancel_futures=True)

    def begin(self, span: Span) -> Future[dict[str, Any]]:
        """Score a span in a worker.

        A verifier that bounds its own work gets time by the number of rows. Any other has a limit
        on the processor time of each row; a span that takes longer by the clock waits for nothing
        that would come.
        """
        timeout = self._task.timeout
        cpu_s = timeout + _SECONDS_PER_ROW * span.rows
        wall_s = 10 * cpu_s if self._bounded else _PATIENCE * timeout
        return self._spans.submit(score_span, self._task, span, cpu_s=cpu_s, wall_s=wall_s)

    def begin_apart(self, span: Span) -> Future[dict[str, Any]]:
        """Score the rows of a span one by one, each with the time of one."""
        return self._threads.submit(score_with, self._task, span, self._judge)

    def _judge(self, chosen: Sequence[Sample]) -> list[tuple[Score, float]]:
        timeout, spec = self._task.timeout, self._task.spec
        limits = {"cpu_s": timeout, "wall_s": _PATIENCE * timeout}
        calls = (
            self._rows.submit(score_apart, spec, sample.completion, dict(sample.row), **limits)
            for sample in chosen
        )
        return [(_score(call), 0.0) for call in calls]


def _score(call: Future[Score]) -> Score:
    try:
        return call.result()
    except WorkerRaisedError as error:
        raise_in_caller(error.kind, error.text)
    except WorkerError as error:
        return failure_score(error)


def row_by_row(task: Task, span: Span) -> dict[str, Any]:
    """Score the rows of one span one by one, in a worker that may be killed for each."""
    with _Workers(1, task) as workers:
        return workers.begin_apart(span).result()


def score_apart(spec: VerifierSpec, completion: str, row: Row) -> Score:
    """Runs in the worker."""
    return score_sync(build(spec), completion, row)


def raise_in_caller(kind: str, text: str) -> NoReturn:
    """What a worker raised, as this process's error.

    Raises:
        UserError: Of a user's, or the system's, such as a full disk.
        VerifierError: Of the verifier's author.
        RuntimeError: A defect of ours.
    """
    if kind == "VerifierError":
        raise VerifierError(text)
    if kind in ("SystemExit", "KeyboardInterrupt"):
        raise VerifierError(f"the verifier raised {kind} {text}")
    if kind in ("UserError", "DataError", "OSError", "PermissionError", "FileNotFoundError"):
        raise UserError(text)
    raise RuntimeError(f"{kind}: {text}")


ENGINES = ("local", "ray")


def check(name: str) -> None:
    """Say early that an engine cannot be.

    Raises:
        UserError: No such engine, or what it needs is not installed.
    """
    if name not in ENGINES:
        raise UserError(f"--engine {name}: there are {' and '.join(ENGINES)}")
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise UserError("--engine ray needs ray: pip install 'agent-rl[ray]'")


def make(name: str, workers: int | None, default: int) -> Engine:
    """An engine by name.

    Args:
        name: One of ``ENGINES``.
        workers: What was asked for; None leaves it to the engine.
        default: Processes of this machine.

    Raises:
        UserError: As for :func:`check`.
    """
    check(name)
    if name == "local":
        return LocalEngine(default)
    from agent_rl.scoring.ray_engine import RayEngine  # noqa: PLC0415 - an optional extra

    return RayEngine(workers)


__all__ = ["Engine", "LocalEngine", "check", "make", "raise_in_caller", "row_by_row"]
