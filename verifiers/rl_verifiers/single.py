"""Run a verifier on one sample, whatever kind of verifier it is."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import numbers
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from rl_verifiers.score import Row, Score, Verifier, VerifierError
from rl_verifiers.workers import WorkerError, failure_score

MAX_CHARACTERS = 1_000_000
"""Longer completions are not read by any verifier; their status is ``over_limit``."""

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
    refusal = refused(completion)
    if refusal is not None:
        return refusal
    try:
        result = getattr(verifier, "ascore", verifier)(completion, row)
        if inspect.isawaitable(result):
            result = await result
    except (Exception, SystemExit) as error:
        return failure(error, verifier, row)
    return to_score(result, verifier=verifier, row=row)


def refused(completion: object) -> Score | None:
    """The score of a completion that no verifier gets to read."""
    if not isinstance(completion, str):
        raise VerifierError(f"a completion is a str, not {type(completion).__name__}")
    if len(completion) > MAX_CHARACTERS:
        return Score.wrong(f"over {MAX_CHARACTERS:,} characters", status="over_limit")
    return None


def failure(error: Exception | SystemExit, verifier: object, row: Row) -> Score:
    """The score where ``verifier`` raised ``error``; raises a VerifierError, with the row's id."""
    if isinstance(error, VerifierError):
        raise VerifierError(_located(str(error), row)) from error
    if isinstance(error, MemoryError):
        return Score.wrong("out of memory", status="over_limit")
    if isinstance(error, WorkerError):
        return failure_score(error)
    name, kind = verifier_name(verifier), type(error).__name__
    return Score.failed(f"verifier {name} raised {kind}: {error!s:.300}")


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


def is_bounded(verifier: object) -> bool:
    """Whether a call ends by itself: the verifier says so (``bounded``), or it is async."""
    if isinstance(verifier, FunctionVerifier):
        verifier = verifier.function
    declared = getattr(verifier, "bounded", None)
    return is_coroutine_function(verifier) if declared is None else bool(declared)


def is_coroutine_function(verifier: object) -> bool:
    """Whether a call gives a coroutine."""
    return inspect.iscoroutinefunction(verifier) or inspect.iscoroutinefunction(
        getattr(verifier, "__call__", None)  # noqa: B004 - its kind is asked, not its presence
    )


def _located(message: str, row: Row) -> str:
    where = f"row {row.get('id')!r}"
    return message if where in message else f"{where}: {message}"
