"""Run verifiers: one sample, many samples, any kind of verifier."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import numbers
import os
import pickle
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from rl_verifiers.score import Row, Score, Verifier, VerifierError
from rl_verifiers.workers import WorkerError, WorkerPool, failure_score, inside_worker

MAX_CHARACTERS = 1_000_000
"""Longer completions are not read by any verifier; their status is ``over_limit``."""

_CONCURRENT = 64
T = TypeVar("T")


@dataclass(frozen=True)
class FunctionVerifier:
    """A plain function as a verifier. See :func:`as_verifier`."""

    function: Callable[[str, Row], Any]
    threshold: float = 1.0

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks where the function is async."""
        return score_sync(self, completion, row)

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        result = self.function(completion, row)
        if inspect.isawaitable(result):
            result = await result
        return to_score(result, verifier=self, row=row, threshold=self.threshold)


def as_verifier(function: Callable[[str, Row], Any], *, threshold: float = 1.0) -> FunctionVerifier:
    """Make a verifier of ``function(completion, row)``, sync or async.

    Args:
        function: Returns a float, a bool or a :class:`Score`.
        threshold: A number from which the completion counts as passed.

    Raises:
        VerifierError: ``function`` does not take two positional arguments.
    """
    try:
        inspect.signature(function).bind("", {})
    except TypeError:
        raise VerifierError(
            f"verifier {verifier_name(function)} must take (completion, row), "
            f"not {inspect.signature(function)}"
        ) from None
    return FunctionVerifier(function, threshold)


async def score_one(verifier: Verifier, completion: str, row: Row) -> Score:
    """The score of one completion, on the running event loop.

    A verifier that has a coroutine method ``ascore(completion, row)`` is awaited through it; its
    plain call is for use without an event loop, and may block. A plain synchronous function runs
    here, on the loop: while it computes nothing else does, and one that hangs hangs everything.
    Write it async, give it an ``ascore``, or use :func:`score_many`, which runs it in a worker
    process that can be killed.

    Args:
        verifier: Anything that :data:`~rl_verifiers.score.Verifier` describes.
        completion: What the model wrote.
        row: ``id``, ``prompt``, ``answer`` and the free columns.

    Returns:
        The score. A verifier that raises gives status ``error``: our failure, not the model's.

    Raises:
        VerifierError: The verifier returned something that is not a finite number or a Score, or
            found its own options or the row unusable in a way that its author must mend.
    """
    if not isinstance(completion, str):
        raise VerifierError(f"a completion is a str, not {type(completion).__name__}")
    if len(completion) > MAX_CHARACTERS:
        return Score.wrong(f"over {MAX_CHARACTERS:,} characters", status="over_limit")
    try:
        result = getattr(verifier, "ascore", verifier)(completion, row)
        if inspect.isawaitable(result):
            result = await result
    except VerifierError as error:
        raise VerifierError(_located(str(error), row)) from error
    except MemoryError:
        return Score.wrong("out of memory", status="over_limit")
    except Exception as error:
        return _raised(verifier, type(error).__name__, str(error))
    return to_score(result, verifier=verifier, row=row)


def score_sync(verifier: Verifier, completion: str, row: Row) -> Score:
    """:func:`score_one` without an event loop; inside one it blocks it."""
    return run_sync(score_one(verifier, completion, row))


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` to its end from code that is not async, whatever loop runs around it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(coroutine))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="rl_verifiers-sync")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def verifier_name(verifier: object) -> str:
    """A name for messages: the function's, or the class's."""
    if isinstance(verifier, FunctionVerifier):
        verifier = verifier.function
    if isinstance(verifier, functools.partial):
        verifier = verifier.func
    return str(getattr(verifier, "__qualname__", type(verifier).__qualname__))


def to_score(result: object, *, verifier: object, row: Row, threshold: float = 1.0) -> Score:
    """Read what a verifier returned: a Score as it is, a bool, or a finite real number.

    A number passes from ``threshold`` on.

    Raises:
        VerifierError: Anything else; names the verifier and the row.
    """
    if isinstance(result, Score):
        return result
    if not isinstance(result, numbers.Real) or not math.isfinite(float(result)):
        raise VerifierError(
            _located(
                f"verifier {verifier_name(verifier)} returned {result!r:.80}; "
                "it must return a finite number, a bool or a Score",
                row,
            )
        )
    value = float(result)
    return Score(value, True, "correct") if value >= threshold else Score(value, False, "wrong")


def score_many(
    verifier: Verifier,
    completions: Sequence[str],
    rows: Sequence[Row],
    *,
    workers: int | None = None,
    timeout: float = 60.0,
) -> list[Score]:
    """The scores of many completions, in their order.

    A plain Python function runs in killable worker processes: one that hangs gives its own sample
    the status ``over_limit``, one whose process dies is tried again once and then gives ``error``.
    Async verifiers, and the built-in ones, which bound their own work, run concurrently here.

    Args:
        verifier: Any verifier. One that cannot be sent to a worker (a lambda, a function of a
            script) runs in this process, where nothing can end it.
        completions: What the model wrote.
        rows: One row for each completion.
        workers: How many processes; None takes one per processor; 0 runs in this process.
        timeout: Seconds for one completion: of processor time in a worker (of wall clock, ten
            times as many), of wall clock for an async verifier; none for one that says that it
            bounds its own work (``bounded``).

    Raises:
        VerifierError: The lengths differ, ``workers`` was given for a verifier that cannot be sent
            to one, or as for :func:`score_one`.
    """
    if len(completions) != len(rows):
        raise VerifierError(f"{len(completions)} completions but {len(rows)} rows; one row each")
    if is_bounded(verifier) or workers == 0 or inside_worker():
        return run_sync(_score_here(verifier, completions, rows, timeout))
    if not _can_be_sent(verifier):
        if workers is not None:
            raise VerifierError(
                f"verifier {verifier_name(verifier)} cannot be sent to a worker: define it at the "
                "top of a module that can be imported, or leave workers out"
            )
        return run_sync(_score_here(verifier, completions, rows, timeout))
    return _score_in_workers(verifier, completions, rows, workers or os.cpu_count() or 1, timeout)


def is_bounded(verifier: object) -> bool:
    """Whether a call ends by itself: the verifier says so (``bounded``), or it is async."""
    if isinstance(verifier, FunctionVerifier):
        verifier = verifier.function
    declared = getattr(verifier, "bounded", None)
    if declared is not None:
        return bool(declared)
    return inspect.iscoroutinefunction(verifier) or inspect.iscoroutinefunction(
        getattr(verifier, "__call__", None)  # noqa: B004 - its kind is asked, not its presence
    )


async def _score_here(
    verifier: Verifier, completions: Sequence[str], rows: Sequence[Row], timeout: float
) -> list[Score]:
    # A verifier that bounds its own work may wait for its turn as long as it takes.
    limit = None if getattr(verifier, "bounded", False) else timeout
    scores: list[Score | None] = [None] * len(rows)
    waiting = iter(range(len(rows)))

    async def consume() -> None:
        for index in waiting:
            for _ in range(2):
                score = await _within(limit, score_one(verifier, completions[index], rows[index]))
                scores[index] = score
                if not score.is_error:
                    break

    async with asyncio.TaskGroup() as group:
        for _ in range(min(_CONCURRENT, len(rows))):
            group.create_task(consume())
    return [score for score in scores if score is not None]


async def _within(timeout: float | None, scoring: Coroutine[Any, Any, Score]) -> Score:
    try:
        return await asyncio.wait_for(scoring, timeout)
    except TimeoutError:
        return Score.failed(f"no verdict within {timeout:g} s")


def _score_in_workers(
    verifier: Verifier, completions: Sequence[str], rows: Sequence[Row], size: int, timeout: float
) -> list[Score]:
    pool = WorkerPool(size)
    try:
        futures = [
            pool.submit(_scored, verifier, text, dict(row), cpu_s=timeout, wall_s=10 * timeout)
            for text, row in zip(completions, rows, strict=True)
        ]
        return [_outcome(future) for future in futures]
    finally:
        pool.close()


def _scored(verifier: Verifier, completion: str, row: Row) -> Score | str:
    """Runs in the worker; a string is the message of a VerifierError."""
    try:
        return score_sync(verifier, completion, row)
    except VerifierError as error:
        return str(error)


def _outcome(future: Future[Score | str]) -> Score:
    try:
        result = future.result()
    except WorkerError as error:
        return failure_score(error)
    if isinstance(result, str):
        raise VerifierError(result)
    return result


def _can_be_sent(verifier: object) -> bool:
    try:
        return b"__main__" not in pickle.dumps(verifier)
    except Exception:
        return False


def _raised(verifier: object, kind: str, message: str) -> Score:
    return Score.failed(f"verifier {verifier_name(verifier)} raised {kind}: {message:.300}")


def _located(message: str, row: Row) -> str:
    where = f"row {row.get('id')!r}"
    return message if where in message else f"{where}: {message}"
