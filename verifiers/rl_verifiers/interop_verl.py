"""verl's ``compute_score``: ours for their reward managers, and theirs as verifiers.

verl calls ``compute_score(data_source=, solution_str=, ground_truth=, extra_info=)`` for one
sample (``naive``, ``dapo``, the reward loop; ``prime`` by position, in processes), or
``compute_score(data_sources=, solution_strs=, ground_truths=, extra_infos=)`` for a batch
(``batch``). The result is a number, or a dict with ``score`` whose other fields go to the logs; all
dicts of a run must have the same fields (read in verl's source of January 2026).
"""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import numbers
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from rl_verifiers.interop_trl import read_reward
from rl_verifiers.runner import is_bounded, score_many, score_sync, verifier_name
from rl_verifiers.score import Row, Score, Verifier, VerifierError
from rl_verifiers.targets import built, load_target, plain
from rl_verifiers.workers import WorkerError, WorkerRaisedError, failure_score, shared_pool

VerlFunction = Callable[..., Any]
OnError = float | Literal["raise"]


class UnscoredError(RuntimeError):
    """A sample that could not be judged, through no fault of the model's."""


@dataclass(frozen=True)
class VerlScore:
    """A verifier as ``compute_score``. See :func:`verl_compute_score`."""

    verifier: Verifier
    columns: Mapping[str, str]
    extras: bool
    on_error: OnError
    timeout: float

    def __call__(
        self,
        data_source: str,
        solution_str: str,
        ground_truth: Any,
        extra_info: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> dict[str, Any] | float:
        """The score of one sample; ``keywords`` (verl's own) are not looked at."""
        row = self._row(data_source, ground_truth, extra_info)
        return self._result(self._score(solution_str, row), row)

    def batch(
        self,
        data_sources: Sequence[str],
        solution_strs: Sequence[str],
        ground_truths: Sequence[Any],
        extra_infos: Sequence[Mapping[str, Any] | None] | None = None,
        **keywords: Any,
    ) -> list[dict[str, Any] | float]:
        """The scores of many samples, for verl's reward manager ``batch``."""
        infos = [None] * len(solution_strs) if extra_infos is None else extra_infos
        rows = [
            self._row(source, truth, info)
            for source, truth, info in zip(data_sources, ground_truths, infos, strict=True)
        ]
        scores = score_many(self.verifier, list(solution_strs), rows, timeout=self.timeout)
        return [self._result(score, row) for score, row in zip(scores, rows, strict=True)]

    def _row(
        self, data_source: str, ground_truth: Any, extra_info: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        info = dict(extra_info or {})
        row = {**info, "answer": ground_truth, "ground_truth": ground_truth}
        row["data_source"] = data_source
        row.setdefault("id", info.get("index"))
        for ours, theirs in self.columns.items():
            if theirs not in row:
                raise VerifierError(
                    f"extra_info has no {theirs!r}; it has {', '.join(map(str, info)) or 'nothing'}"
                )
            row[ours] = row[theirs]
        return row

    def _score(self, completion: str, row: Row) -> Score:
        """In this process where the verifier bounds its own work; else in one that can be ended."""
        if not is_bounded(self.verifier) and _is_importable(self.verifier):
            future = shared_pool().submit(
                score_sync,
                self.verifier,
                completion,
                row,
                cpu_s=self.timeout,
                wall_s=10 * self.timeout,
            )
            try:
                return future.result()
            except WorkerError as error:
                if isinstance(error, WorkerRaisedError):
                    raise VerifierError(str(error).removeprefix("VerifierError: ")) from None
                return failure_score(error)
        return score_many(self.verifier, [completion], [row], workers=0, timeout=self.timeout)[0]

    def _result(self, score: Score, row: Row) -> dict[str, Any] | float:
        value = score.value
        if score.is_error:
            if self.on_error == "raise":
                raise UnscoredError(
                    f"row {row.get('id')!r} could not be judged: {score.error}; give a number as "
                    "on_error to train on that instead"
                )
            value = float(self.on_error)
        if not self.extras:
            return value
        return {
            "score": value,
            "acc": float(score.passed),
            "pred": score.answer or "",
            "status": score.status,
            "reason": score.reason,
        }


def verl_compute_score(
    verifier: Verifier | str | Mapping[str, Any],
    *,
    columns: Mapping[str, str] | None = None,
    extras: bool = True,
    on_error: OnError = "raise",
    timeout: float = 60.0,
    **options: Any,
) -> VerlScore:
    """A verifier as verl's ``compute_score``; its method ``batch`` is the form for batches.

    The row that the verifier sees has what ``extra_info`` has, ``answer`` and ``ground_truth`` (the
    ground truth), and ``data_source``. It uses no signals, so it runs in threads, in processes and
    in Ray, and it pickles if the verifier does.

    Args:
        verifier: A registered name, ``{"name": ..., **options}``, or any verifier.
        columns: ``{what the verifier reads: a field of extra_info}``, as in
            ``{"prompt": "question"}``.
        extras: Return a dict: ``score``, ``acc`` (passed, 0 or 1), ``pred`` (the answer found),
            ``status``, ``reason``. Off, the number alone: verl's ``prime`` takes nothing else.
        on_error: What becomes of a sample that could not be judged, after one more try. verl cannot
            leave a single sample out. ``"raise"`` ends the run (``naive``, ``dapo``, ``batch``, the
            reward loop's workers; but ``prime`` and the rate-limited reward loop turn every
            exception into 0); a number is trained on, and the status says ``error``.
        timeout: As for :func:`~rl_verifiers.runner.score_many`.
        options: Of the registered verifier.

    Raises:
        VerifierError: As for :func:`~rl_verifiers.registry.make`. When it is called: a field of
            ``columns`` is not there, or the verifier broke its contract.
        UnscoredError: When it is called, with ``on_error="raise"``.
    """
    if on_error != "raise" and not isinstance(on_error, int | float):
        raise VerifierError(f"on_error is {on_error!r}; it must be a number or 'raise'")
    return VerlScore(built(verifier, options), dict(columns or {}), extras, on_error, timeout)


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    verifier: str,
    options: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    extras: bool = True,
    on_error: OnError = "raise",
    **keywords: Any,
) -> dict[str, Any] | float:
    """For ``custom_reward_function.name``; ``verifier`` and the rest come from ``reward_kwargs``.

    See :func:`verl_compute_score`.
    """
    made = _configured(verifier, options, columns, extras, on_error)
    return made(data_source, solution_str, ground_truth, extra_info)


async def acompute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    **reward_kwargs: Any,
) -> dict[str, Any] | float:
    """:func:`compute_score` for verl's reward loop, which awaits it: for judges and servers."""
    return await asyncio.to_thread(
        compute_score, data_source, solution_str, ground_truth, extra_info, **reward_kwargs
    )


def compute_scores(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[Any],
    extra_infos: Sequence[Mapping[str, Any] | None] | None = None,
    *,
    verifier: str,
    options: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    extras: bool = True,
    on_error: OnError = "raise",
    **keywords: Any,
) -> list[dict[str, Any] | float]:
    """:func:`compute_score` for the reward manager ``batch``."""
    made = _configured(verifier, options, columns, extras, on_error)
    return made.batch(data_sources, solution_strs, ground_truths, extra_infos)


def _configured(
    verifier: str,
    options: Mapping[str, Any] | None,
    columns: Mapping[str, str] | None,
    extras: bool,
    on_error: OnError,
) -> VerlScore:
    key = json.dumps([verifier, plain(options or {}), plain(columns or {}), extras, on_error])
    return _from_json(key)


@lru_cache(maxsize=64)
def _from_json(key: str) -> VerlScore:
    verifier, options, columns, extras, on_error = json.loads(key)
    return verl_compute_score(
        {**options, "name": verifier}, columns=columns, extras=extras, on_error=on_error
    )


@dataclass(frozen=True)
class FromVerl:
    """A verl ``compute_score`` as a verifier. See :func:`from_verl`."""

    function: VerlFunction | str
    threshold: float

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks where the function is async."""
        return score_sync(self, completion, row)

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        function = load_target(self.function) if isinstance(self.function, str) else self.function
        result = function(
            data_source=row.get("data_source", ""),
            solution_str=completion,
            ground_truth=_ground_truth(row),
            extra_info=_extra_info(row),
        )
        if inspect.isawaitable(result):
            result = await result
        return _read(result, verifier_name(function), self.threshold)


def from_verl(function: VerlFunction | str, *, threshold: float = 1.0) -> FromVerl:
    """A ``compute_score`` written for verl, sync or async, as a verifier.

    ``ground_truth`` is the row's ``ground_truth``, else ``reward_model["ground_truth"]`` (verl's
    files), else ``answer``; ``extra_info`` is that column, else the whole row.

    The value is the number, the first of a list, or ``score`` of a dict, whose other numbers become
    parts, ``acc`` says what passed, and ``pred`` is the answer. None and NaN count as our failure.

    Args:
        function: The function, or where it stands: ``module:attribute`` or ``file.py:attribute``.
        threshold: A score from which the completion counts as passed, where there is no ``acc``.

    Raises:
        VerifierError: Nothing stands there, or it cannot be called. When it scores: the row has no
            ground truth, or the function returned something else.
    """
    found = load_target(function) if isinstance(function, str) else function
    if not callable(found):
        raise VerifierError(f"compute_score must be callable, not {found!r:.80}")
    return FromVerl(function, threshold)


def verl_verifier(*, target: str, threshold: float = 1.0) -> FromVerl:
    """A verl ``compute_score`` as a verifier; ``target`` is ``module:attr`` or ``file.py:attr``.

    See :func:`from_verl`.
    """
    return from_verl(target, threshold=threshold)


def _ground_truth(row: Row) -> Any:
    reward_model = row.get("reward_model")
    inner = reward_model if isinstance(reward_model, Mapping) else {}
    for holder, name in ((row, "ground_truth"), (inner, "ground_truth"), (row, "answer")):
        if name in holder:
            return holder[name]
    raise VerifierError(
        "the row has no ground_truth, reward_model.ground_truth or answer; it has "
        f"{', '.join(map(str, row))}"
    )


def _extra_info(row: Row) -> dict[str, Any]:
    info = row.get("extra_info")
    return dict(info) if isinstance(info, Mapping) else dict(row)


def _read(result: Any, name: str, threshold: float) -> Score:
    if isinstance(result, tuple | list) and result:
        result = result[0]
    if not isinstance(result, Mapping):
        return read_reward(result, name, threshold)
    if "score" not in result:
        raise VerifierError(
            f"{name} returned a dict without 'score': {', '.join(map(str, result))}"
        )
    score = read_reward(result["score"], name, threshold)
    if score.is_error:
        return score
    if result.get("status") == "error":
        return Score.failed(str(result.get("reason") or f"{name} says that it failed"))
    accuracy = result.get("acc")
    passed = float(accuracy) >= 1 if isinstance(accuracy, numbers.Real) else score.passed
    parts = {
        str(key): float(value)
        for key, value in result.items()
        if key not in ("score", "acc") and _is_finite(value)
    }
    answer = result.get("pred")
    return Score(
        score.value,
        passed,
        "correct" if passed else "wrong",
        str(result.get("reason") or ""),
        parts,
        answer=str(answer) if answer not in (None, "") else None,
    )


def _is_finite(value: object) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value)


def _is_importable(verifier: object) -> bool:
    try:
        return b"__main__" not in pickle.dumps(verifier)
    except Exception:
        return False
