"""The verifier ``instructions``: does a response follow every constraint of its row?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rl_verifiers import extract
from rl_verifiers.instructions import rows
from rl_verifiers.instructions.constraint import Constraint, UnusableError, find
from rl_verifiers.instructions.language import library
from rl_verifiers.instructions.response import Response, variants
from rl_verifiers.option_checks import check_flags, check_one_of
from rl_verifiers.score import Row, Score, VerifierError

Mode = Literal["strict", "loose"]
Reward = Literal["all", "fraction"]


@dataclass(frozen=True)
class Instructions:
    """See :func:`instructions_verifier`."""

    mode: Mode
    reward: Reward
    thinking: bool
    bounded = True
    reads = rows.READS

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; ``parts`` has one entry for each constraint."""
        try:
            stated = rows.stated(row)
        except UnusableError as error:
            return Score.wrong(str(error), status="bad_reference")
        text = completion if self.thinking else _without_thinking(completion)
        readings = variants(text) if self.mode == "loose" else [text]
        responses = [Response(reading) for reading in readings if reading.strip()]
        names = _names([constraint.id for constraint, _ in stated])
        parts = {
            name: float(_follows(responses, constraint, arguments))
            for name, (constraint, arguments) in zip(names, stated, strict=True)
        }
        failed = [name for name, followed in parts.items() if not followed]
        value = float(not failed) if self.reward == "all" else sum(parts.values()) / len(parts)
        status: Literal["correct", "wrong"] = "wrong" if failed else "correct"
        reason = f"not followed: {', '.join(failed)}" if failed else ""
        return Score(value, not failed, status, reason, parts)


def _without_thinking(completion: str) -> str:
    """What follows the thinking, and the white space after it; empty while it goes on."""
    text = extract.without_thinking(completion)
    if text is None:
        return ""
    return text if len(text) == len(completion) else text.lstrip()


def _names(ids: list[str]) -> list[str]:
    """The ids; one that occurs several times is numbered: ``id#1``, ``id#2``."""
    total, seen = Counter(ids), Counter[str]()
    names = []
    for name in ids:
        seen[name] += 1
        names.append(f"{name}#{seen[name]}" if total[name] > 1 else name)
    return names


def _follows(
    responses: list[Response], constraint: Constraint, arguments: Mapping[str, Any]
) -> bool:
    for distribution in constraint.needs:
        try:
            library(distribution)
        except VerifierError as error:
            raise VerifierError(f"{constraint.id}: {error}") from None
    return any(constraint.check(response, **arguments) for response in responses)


def instructions_verifier(
    *, mode: Mode = "strict", reward: Reward = "all", thinking: bool = False
) -> Instructions:
    """A response follows the row's constraints (IFEval, IFBench), each decided by a program.

    The constraints stand in ``row["instruction_id_list"]`` and ``row["kwargs"]``, or in
    ``row["ground_truth"]`` as open-instruct's labels have them. One that is unknown, or whose
    arguments do not fit, makes the row ``bad_reference``.

    Args:
        mode: ``loose`` also accepts a response that follows a constraint without its first line,
            its last line, or its asterisks.
        reward: ``all`` gives 1 where every constraint is followed; ``fraction`` gives the share
            that is. A response passes only if every one is.
        thinking: Check what stands before ``</think>``, too; by default it is left out, and a
            response that is still thinking follows nothing.

    Raises:
        VerifierError: An unknown mode or reward. A row raises it, too, where a constraint needs a
            library that is not installed.
    """
    check_one_of("instructions", "mode", mode, get_args(Mode))
    check_one_of("instructions", "reward", reward, get_args(Reward))
    check_flags("instructions", thinking=thinking)
    return Instructions(mode, reward, thinking)


def describe(name: str, kwargs: Mapping[str, Any] | None = None) -> str:
    """A constraint as an English sentence, to put into a prompt.

    Args:
        name: The id, such as ``count:word_count_range``.
        kwargs: Its arguments.

    Raises:
        VerifierError: An unknown id, or arguments that do not fit.
    """
    return _loudly(lambda: find(name).describe(kwargs or {}))


def follows(
    name: str, kwargs: Mapping[str, Any] | None, response: str, *, mode: Mode = "strict"
) -> bool:
    """Whether a response follows one constraint.

    Args:
        name: The id.
        kwargs: Its arguments.
        response: What the model wrote.
        mode: As of :func:`instructions_verifier`.

    Raises:
        VerifierError: An unknown id or mode, arguments that do not fit, or a missing library.
    """
    row = {"instruction_id_list": [name], "kwargs": [dict(kwargs or {})]}
    score = instructions_verifier(mode=mode, thinking=True)(response, row)
    if score.status == "bad_reference":
        raise VerifierError(score.reason)
    return score.passed


def _loudly(call: Callable[[], str]) -> str:
    try:
        return call()
    except UnusableError as error:
        raise VerifierError(str(error)) from None
