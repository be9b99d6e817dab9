"""Where spans are scored: worker processes of this machine, or another engine of the same shape."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, NoReturn, Protocol

from agent_rl.errors import UserError
from agent_rl.scoring.span_scoring import Task, score_span, score_with
from agent_rl.scoring.spec import VerifierSpec, build
from agent_rl.scoring.types import Sample, Span
from rl_verifiers import Row, Score, VerifierError, score_sync
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
        waiting = iter(spans)
        with WorkerPool(self.workers, memory_bytes=MEMORY_BYTES) as pool:
            running: dict[Future[dict[str, Any]], Span] = {}
            for span in itertools.islice(waiting, 2 * self.workers):
                running[_submit(pool, task, span)] = span
            while running:
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    span = running.pop(future)
                    for following in itertools.islice(waiting, 1):
                        running[_submit(pool, task, following)] = following
                    yield _outcome(future, task, span)


def _submit(pool: WorkerPool, task: Task, span: Span) -> Future[dict[str, Any]]:
    seconds = task.timeout + _SECONDS_PER_ROW * span.rows
    return pool.submit(score_span, task, span, cpu_s=seconds, wall_s=10 * seconds)


def _outcome(future: Future[dict[str, Any]], task: Task, span: Span) -> dict[str, Any]:
    try:
        return future.result()
    except WorkerRaisedError as error:
        raise_in_caller(error.kind, error.text)
    except (WorkerLimitError, WorkerDiedError):
        return row_by_row(task, span)


def row_by_row(task: Task, span: Span) -> dict[str, Any]:
    """Score a span with a limit on each row, in a worker that may be killed for each."""
    with WorkerPool(1, memory_bytes=MEMORY_BYTES) as pool:

        def judge(chosen: Sequence[Sample]) -> list[tuple[Score, float]]:
            return [(_judged_apart(pool, task, sample), 0.0) for sample in chosen]

        return score_with(task, span, judge)


def _judged_apart(pool: WorkerPool, task: Task, sample: Sample) -> Score:
    limits = {"cpu_s": task.timeout, "wall_s": 10 * task.timeout}
    call = pool.submit(score_apart, task.spec, sample.completion, dict(sample.row), **limits)
    try:
        result = call.result()
    except WorkerRaisedError as error:
        raise_in_caller(error.kind, error.text)
    except WorkerError as error:
        return failure_score(error)
    return result


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
    if kind in ("UserError", "DataError", "OSError", "PermissionError", "FileNotFoundError"):
        raise UserError(text)
    raise RuntimeError(f"{kind}: {text}")


def make(name: str, workers: int | None, default: int) -> Engine:
    """An engine by name.

    Raises:
        UserError: No such engine, or what it needs is not installed.
    """
    if name == "local":
        return LocalEngine(default if workers is None else workers)
    if name == "ray":
        from agent_rl.scoring.ray_engine import RayEngine  # noqa: PLC0415 - an optional extra

        return RayEngine(workers)
    raise UserError(f"--engine {name}: there are local and ray")


__all__ = ["Engine", "LocalEngine", "make", "raise_in_caller", "row_by_row"]
