"""TRL's reward functions: ours for their trainers, and theirs as verifiers.

A TRL reward function takes ``prompts``, ``completions``, ``completion_ids`` and the columns of the
dataset as keywords, all lists of one length, and returns a float or None for each completion
(read in TRL 1.16: ``GRPOTrainer._calculate_rewards``).
"""

from __future__ import annotations

import asyncio
import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rl_verifiers.combine import Combined
from rl_verifiers.runner import score_many, score_sync, verifier_name
from rl_verifiers.score import Row, Score, Verifier, VerifierError
from rl_verifiers.targets import built, close_to, load_target

TrlFunction = Callable[..., Any]
_NO_COLUMNS = ("trainer_state", "log_extra", "log_metric", "environments")


@dataclass(frozen=True)
class TrlReward:
    """A verifier as a reward function. See :func:`trl_reward`."""

    verifier: Verifier
    name: str
    columns: Mapping[str, str]
    workers: int | None
    timeout: float
    log: bool

    @property
    def __name__(self) -> str:
        """What TRL logs it as: ``rewards/NAME/mean``."""
        return self.name

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **keywords: Any
    ) -> list[float | None]:
        """The rewards; None for what could not be judged."""
        texts = [completion_text(completion) for completion in completions]
        rows = self._rows(prompts, keywords)
        scores = score_many(self.verifier, texts, rows, workers=self.workers, timeout=self.timeout)
        if self.log:
            self._log(scores, keywords.get("log_extra"), keywords.get("log_metric"))
        return [None if score.is_error else score.value for score in scores]

    def _rows(self, prompts: Sequence[Any], keywords: Mapping[str, Any]) -> list[dict[str, Any]]:
        columns = {
            name: values
            for name, values in keywords.items()
            if name not in _NO_COLUMNS and _is_column(values)
        }
        for name, values in columns.items():
            if len(values) != len(prompts):
                raise VerifierError(
                    f"{self.name}: column {name!r} has {len(values)} values for "
                    f"{len(prompts)} prompts"
                )
        for ours, theirs in self.columns.items():
            if theirs not in columns:
                raise self._lacks(theirs, columns)
            columns[ours] = columns[theirs]
        for needed in getattr(self.verifier, "reads", None) or ():
            if needed == "answer" and needed not in columns:
                raise self._lacks(needed, columns)
        return [
            {"prompt": prompt, **{name: values[i] for name, values in columns.items()}}
            for i, prompt in enumerate(prompts)
        ]

    def _lacks(self, column: str, columns: Mapping[str, Any]) -> VerifierError:
        return VerifierError(
            f"{self.name}: the dataset has no column {column!r}"
            f"{close_to(column, [name for name in columns if name != 'completion_ids'])}; name it "
            "with columns={'answer': ...}"
        )

    def _log(
        self,
        scores: Sequence[Score],
        log_extra: Callable[[str, list[Any]], None] | None,
        log_metric: Callable[[str, float], None] | None,
    ) -> None:
        if log_extra is not None:
            log_extra(f"{self.name}_status", [score.status for score in scores])
            log_extra(f"{self.name}_reason", [score.reason for score in scores])
        if log_metric is None or not scores:
            return
        judged = [score for score in scores if not score.is_error]
        log_metric(f"{self.name}/error", 1 - len(judged) / len(scores))
        log_metric(f"{self.name}/passed", sum(score.passed for score in judged) / len(scores))
        for part in self.verifier.verifiers if isinstance(self.verifier, Combined) else ():
            if values := [score.parts[part] for score in judged if part in score.parts]:
                log_metric(f"{self.name}/part/{part}", math.fsum(values) / len(values))


@dataclass(frozen=True)
class AsyncTrlReward(TrlReward):
    """A verifier as an async reward function: TRL runs those of a trainer side by side."""

    async def __call__(  # type: ignore[override]  # awaited by the trainer
        self, prompts: Sequence[Any], completions: Sequence[Any], **keywords: Any
    ) -> list[float | None]:
        """The rewards; None for what could not be judged."""
        return await asyncio.to_thread(super().__call__, prompts, completions, **keywords)


def trl_reward(
    verifier: Verifier | str | Mapping[str, Any],
    *,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    asynchronous: bool = False,
    workers: int | None = None,
    timeout: float = 60.0,
    log: bool = True,
    **options: Any,
) -> TrlReward:
    """A verifier as a reward function of TRL's trainers (GRPO, RLOO, Online DPO; TRL 1.16).

    The row that the verifier sees has ``prompt`` and the dataset's columns. Of a conversational
    completion it sees the text of the last assistant message. What could not be judged (status
    ``error``, after one more try) is None, by which the GRPO and RLOO trainers leave a sample out,
    *if no other reward function gives it a number*: use one reward function, and combine verifiers
    with :func:`~rl_verifiers.combine.weighted` instead.

    Args:
        verifier: A registered name, ``{"name": ..., **options}``, or any verifier.
        name: What TRL logs it as; the registered name or the verifier's own by default.
        columns: ``{what the verifier reads: the dataset's column}``, as in
            ``{"answer": "solution"}``.
        asynchronous: Give an async function (a callable object with an async ``__call__``).
        workers: As for :func:`~rl_verifiers.runner.score_many`.
        timeout: As for :func:`~rl_verifiers.runner.score_many`.
        log: Log status and reason beside the completions, and the metrics ``NAME/passed``,
            ``NAME/error`` and ``NAME/part/PART``, where the trainer offers it.
        options: Of the registered verifier.

    Returns:
        A callable object that pickles if the verifier does.

    Raises:
        VerifierError: As for :func:`~rl_verifiers.registry.make`. When it is called: a column that
            the verifier needs is not there, or the verifier broke its contract.
    """
    made = built(verifier, options)
    if name is None:
        given = verifier.get("name") if isinstance(verifier, Mapping) else verifier
        name = given if isinstance(given, str) else verifier_name(made)
    kind = AsyncTrlReward if asynchronous else TrlReward
    return kind(made, name, dict(columns or {}), workers, timeout, log)


def completion_text(completion: Any) -> str:
    """The text of a completion: itself, or that of the last assistant message.

    Raises:
        VerifierError: It is neither text nor a list of messages.
    """
    if isinstance(completion, str):
        return completion
    if not isinstance(completion, Sequence) or not all(
        isinstance(message, Mapping) for message in completion
    ):
        raise VerifierError(
            f"a completion is text or a list of messages, not {type(completion).__name__}"
        )
    for message in reversed(completion):
        if message.get("role", "assistant") == "assistant":
            return _content_text(message.get("content"))
    return ""


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, Sequence) else ()
    texts = (block.get("text") for block in blocks if isinstance(block, Mapping))
    return "".join(text for text in texts if isinstance(text, str))


def _is_column(values: object) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str | bytes)


@dataclass(frozen=True)
class FromTrl:
    """A TRL reward function as a verifier. See :func:`from_trl`."""

    function: TrlFunction | str
    columns: Mapping[str, str]
    conversational: bool | None
    threshold: float

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks where the function is async."""
        return score_sync(self, completion, row)

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        function = load_target(self.function) if isinstance(self.function, str) else self.function
        rewards = function(**self._keywords(function, completion, row))
        if inspect.isawaitable(rewards):
            rewards = await rewards
        name = verifier_name(function)
        if not hasattr(rewards, "__len__") or len(rewards) != 1:
            raise VerifierError(
                f"reward function {name} must return one reward for one completion, in a list, "
                f"not {rewards!r:.80}"
            )
        return read_reward(rewards[0], name, self.threshold)

    def _keywords(self, function: TrlFunction, completion: str, row: Row) -> dict[str, Any]:
        prompt = row.get("prompt", "")
        conversational = self.conversational
        if conversational is None:
            conversational = not isinstance(prompt, str)
        if conversational and isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
        said: Any = [{"role": "assistant", "content": completion}] if conversational else completion
        values = {key: row[key] for key in row if key not in ("prompt", "completion")}
        for theirs, ours in self.columns.items():
            if ours not in row:
                raise VerifierError(f"no column {ours!r}{close_to(ours, list(row))}")
            values[theirs] = row[ours]
        values = {"prompts": prompt, "completions": said, **values}
        keywords = {name: [value] for name, value in values.items()}
        keywords |= {"trainer_state": None, "log_extra": _no_log, "log_metric": _no_log}  # type: ignore[dict-item]
        return _accepted(function, keywords)


def read_reward(reward: Any, name: str, threshold: float) -> Score:
    """A Score of what other people's functions return: None and NaN mean "could not be judged".

    Raises:
        VerifierError: It is no number.
    """
    if reward is None:
        return Score.failed(f"{name} gave no reward")
    if hasattr(reward, "item"):
        reward = reward.item()  # numpy and torch
    if isinstance(reward, float) and math.isnan(reward):
        return Score.failed(f"{name} gave NaN")
    if not isinstance(reward, numbers.Real) or not math.isfinite(reward):
        raise VerifierError(f"{name} gave {reward!r:.80}; a reward is a finite number or None")
    value = float(reward)
    return Score.correct(value=value) if value >= threshold else Score.wrong(value=value)


def from_trl(
    function: TrlFunction | str,
    *,
    columns: Mapping[str, str] | None = None,
    conversational: bool | None = None,
    threshold: float = 1.0,
) -> FromTrl:
    """A reward function written for TRL, sync or async, as a verifier.

    It is called with one completion at a time. It gets the row's columns as the trainer would give
    them, as far as it takes them. None and NaN count as our failure (status ``error``): the
    function says that it cannot judge the sample.

    Args:
        function: The function, or where it stands: ``module:attribute`` or ``file.py:attribute``.
        columns: ``{what the function takes: the row's column}``, as in ``{"solution": "answer"}``.
        conversational: Whether completions are lists of messages; None: if the row's prompt is one.
        threshold: A reward from which the completion counts as passed.

    Raises:
        VerifierError: Nothing stands there, or it cannot be called. When it scores: a column that
            it needs is not in the row, or it returned something else than one number.
    """
    found = load_target(function) if isinstance(function, str) else function
    if not callable(found):
        raise VerifierError(f"a reward function must be callable, not {found!r:.80}")
    return FromTrl(function, dict(columns or {}), conversational, threshold)


def trl_verifier(
    *,
    target: str,
    columns: Mapping[str, str] | None = None,
    conversational: bool | None = None,
    threshold: float = 1.0,
) -> FromTrl:
    """A TRL reward function as a verifier; ``target`` is ``module:attr`` or ``file.py:attr``.

    See :func:`from_trl`.
    """
    return from_trl(target, columns=columns, conversational=conversational, threshold=threshold)


def _accepted(function: TrlFunction, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords that a function takes.

    Raises:
        VerifierError: It needs another one.
    """
    parameters = inspect.signature(function).parameters.values()
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in keywords:
            columns = [key for key in keywords if key not in ("prompts", "completions")]
            own = [key for key in columns if key not in _NO_COLUMNS]
            raise VerifierError(
                f"{verifier_name(function)} needs {name!r}, which the row does not have"
                f"{close_to(name, own)}; name it with columns={{{name!r}: ...}}"
            )
    return {key: value for key, value in keywords.items() if takes_all or key in named}


def _no_log(name: str, value: Any) -> None:
    return None
