"""Run verifiers on many samples; the names for one sample stand here too."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import os
import pickle
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any

from rl_verifiers.score import Row, Score, Verifier, VerifierError
from rl_verifiers.single import (
    MAX_CHARACTERS,
    FunctionVerifier,
    as_verifier,
    failure,
    is_bounded,
    is_coroutine_function,
    refused,
    run_sync,
    score_one,
    score_sync,
    to_score,
    verifier_name,
)
from rl_verifiers.workers import (
    WorkerError,
    WorkerPool,
    WorkerRaisedError,
    failure_score,
    inside_worker,
    run_inline,
)

__all__ = [
    "MAX_CHARACTERS",
    "FunctionVerifier",
    "as_verifier",
    "is_bounded",
    "run_sync",
    "score_many",
    "score_one",
    "score_sync",
    "to_score",
    "verifier_name",
]

_CONCURRENT = 64
_CHUNK = 500


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
        workers: How many processes; None takes one per processor for a plain function, and none for
            a verifier that bounds its own work; 0 runs in this process.
        timeout: Seconds for one completion: of processor time in a worker (of wall clock, ten
            times as many), of wall clock for an async verifier; none for one that says that it
            bounds its own work (``bounded``).

    Raises:
        VerifierError: The lengths differ, ``workers`` was given for a verifier that cannot be sent
            to one, or as for :func:`score_one`.
    """
    if isinstance(verifier, str):
        raise VerifierError(f"{verifier!r:.60} is no verifier; rl_verifiers.make(...) gives one")
    if len(completions) != len(rows):
        raise VerifierError(f"{len(completions)} completions but {len(rows)} rows; one row each")
    if inside_worker() or workers == 0 or (is_bounded(verifier) and not workers):
        return _score_here(verifier, completions, rows, timeout)
    if _is_async(verifier):
        return _score_here(verifier, completions, rows, timeout)
    if not _can_be_sent(verifier):
        if workers is not None:
            raise VerifierError(
                f"verifier {verifier_name(verifier)} cannot be sent to a worker: define it at the "
                "top of a module that can be imported, or leave workers out"
            )
        return _score_here(verifier, completions, rows, timeout)
    if is_bounded(verifier):
        return _score_in_chunks(verifier, completions, rows, workers or 1, timeout)
    return _score_in_workers(verifier, completions, rows, workers or os.cpu_count() or 1, timeout)


def _is_async(verifier: object) -> bool:
    """Whether many calls should share an event loop: where ``begin`` does not say otherwise."""
    if isinstance(verifier, FunctionVerifier):
        return _is_async(verifier.function)
    if hasattr(verifier, "begin"):
        return False
    return hasattr(verifier, "ascore") or is_coroutine_function(verifier)


def _score_here(
    verifier: Verifier, completions: Sequence[str], rows: Sequence[Row], timeout: float
) -> list[Score]:
    # A verifier that bounds its own work may wait for its turn as long as it takes.
    limit = None if getattr(verifier, "bounded", False) else timeout
    if not _is_async(verifier):
        with contextlib.suppress(_AwaitableError):
            return _score_in_turn(verifier, completions, rows, limit)
    return run_sync(_score_concurrently(verifier, completions, rows, limit))


async def _score_concurrently(
    verifier: Verifier, completions: Sequence[str], rows: Sequence[Row], limit: float | None
) -> list[Score]:
    scores: list[Score | None] = [None] * len(rows)
    waiting = iter(range(len(rows)))

    async def consume() -> None:
        for index in waiting:
            for _ in range(2):
                score = await _within(limit, score_one(verifier, completions[index], rows[index]))
                scores[index] = score
                if not score.is_error:
                    break

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_CONCURRENT, len(rows))):
                group.create_task(consume())
    except* VerifierError as errors:
        raise errors.exceptions[0] from None
    return [score for score in scores if score is not None]


async def _within(timeout: float | None, scoring: Coroutine[Any, Any, Score]) -> Score:
    if timeout is None:
        return await scoring
    try:
        return await asyncio.wait_for(scoring, timeout)
    except TimeoutError:
        return Score.failed(f"no verdict within {timeout:g} s")


class _AwaitableError(Exception):
    """A function that does not look like one is async."""


def _score_in_turn(
    verifier: Verifier, completions: Sequence[str], rows: Sequence[Row], limit: float | None
) -> list[Score]:
    """Without an event loop. What a verifier leaves to a worker goes on while the next ones begin.

    A verifier says so with ``begin(completion, row)``, which returns a Score, or a function that
    waits for one.
    """
    begin = getattr(verifier, "begin", verifier)
    begun = [
        _guarded(verifier, row, limit, begin, completion, row)
        for completion, row in zip(completions, rows, strict=True)
    ]
    scores = [
        score if isinstance(score, Score) else _guarded(verifier, row, limit, score)
        for row, score in zip(rows, begun, strict=True)
    ]
    for index, score in enumerate(scores):
        if score.is_error:
            again = (verifier, completions[index], rows[index])
            scores[index] = _guarded(verifier, rows[index], limit, *again)
    return scores


def _guarded(
    verifier: Verifier, row: Row, limit: float | None, function: Callable[..., Any], *arguments: Any
) -> Any:
    """What ``function`` returns, as a Score unless it is a function that waits for one."""
    refusal = refused(arguments[0]) if arguments else None
    if refusal is not None:
        return refusal
    try:
        if limit is None:
            result = function(*arguments)
        else:
            result = run_inline(function, *arguments, cpu_s=limit)
    except (Exception, SystemExit) as error:
        return failure(error, verifier, row)
    if isinstance(result, Score) or (callable(result) and arguments):
        return result
    if inspect.iscoroutine(result):
        result.close()
    if inspect.isawaitable(result):
        raise _AwaitableError
    return to_score(result, verifier=verifier, row=row)


def _score_in_chunks(
    verifier: Verifier, completions: Sequence[str], rows: Sequence[Row], size: int, timeout: float
) -> list[Score]:
    """Many rows to a worker at once; where that fails, one by one."""
    reads = getattr(verifier, "reads", None)
    step = max(1, min(_CHUNK, math.ceil(len(rows) / size)))
    scores: list[Score] = []
    with WorkerPool(size) as pool:
        futures = []
        for start in range(0, len(rows), step):
            part = range(start, min(start + step, len(rows)))
            texts, read = [completions[i] for i in part], [_read(rows[i], reads) for i in part]
            seconds = timeout + len(part)
            futures.append(
                pool.submit(_chunk, verifier, texts, read, cpu_s=seconds, wall_s=10 * seconds)
            )
        for index, future in enumerate(futures):
            try:
                scores += [Score(*fields) for fields in future.result()]
            except WorkerError as error:
                if isinstance(error, WorkerRaisedError) and error.kind == "VerifierError":
                    raise VerifierError(error.text) from None
                part = range(index * step, min((index + 1) * step, len(rows)))
                texts, read = [completions[i] for i in part], [rows[i] for i in part]
                scores += _score_in_workers(verifier, texts, read, size, timeout)
    return scores


def _read(row: Row, reads: Sequence[str] | None) -> Row:
    """The columns that a worker needs."""
    return dict(row) if reads is None else {k: row[k] for k in ("id", *reads) if k in row}


def _chunk(verifier: Verifier, completions: list[str], rows: list[Row]) -> list[tuple[Any, ...]]:
    """Runs in the worker. Plain tuples pickle several times faster than scores."""
    scores = score_many(verifier, completions, rows)
    return [(s.value, s.passed, s.status, s.reason, s.parts, s.error, s.answer) for s in scores]


def _score_in_workers(
    verifier: Verifier, completions: Sequence[str], rows: Sequence[Row], size: int, timeout: float
) -> list[Score]:
    with WorkerPool(size) as pool:
        futures = [
            pool.submit(_scored, verifier, text, dict(row), cpu_s=timeout, wall_s=10 * timeout)
            for text, row in zip(completions, rows, strict=True)
        ]
        return [_outcome(future) for future in futures]


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
