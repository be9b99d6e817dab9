"""One row of a file of preferences, in any of the conventions that are found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from agent_rl.errors import UserError
from agent_rl.preferences import transcripts
from rl_envs.types import Message

OWN = (
    *("prompt", "chosen", "rejected", "completions", "ranks", "scores"),
    *("margin", "id", "tie", "annotator"),
)


class Convention(Enum):
    """How the columns of a row are to be read."""

    EXPLICIT = "prompt, chosen and rejected"
    CONVERSATIONS = "chosen and rejected as lists of messages"
    TRANSCRIPTS = "chosen and rejected as Human/Assistant transcripts"
    TEXTS = "chosen and rejected as texts without a prompt"
    RANKING = "prompt and ranked completions"


class Unusable(Exception):  # noqa: N818 - a finding
    """A row of the right form that says nothing about a preference; the reason, without a place."""


@dataclass(frozen=True, slots=True)
class ReadRow:
    """The parts of a row.

    Attributes:
        prompt: What is answered.
        answers: The chosen and the rejected one, or all of a ranking.
        scores: Of each completion of a ranking; higher is better.
        scores_count: Whether differences of ``scores`` mean something (they are no ranks).
        margin: By how much the chosen one is better, if given.
        id: As given, or empty.
        tie: Neither is better.
        annotator: As given, or empty.
        info: The other columns.
    """

    prompt: tuple[Message, ...]
    answers: tuple[str, ...]
    scores: tuple[float, ...] = ()
    scores_count: bool = False
    margin: float | None = None
    id: str = ""
    tie: bool = False
    annotator: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)


def convention_of(row: Mapping[str, Any], where: str) -> Convention:
    """How a row is to be read.

    Raises:
        UserError: It has not the columns that this takes, or values of another type.
        Unusable: An answer is null.
    """
    there = {name for name, value in row.items() if value is not None}
    if {"completions"} <= there and there & {"ranks", "scores"}:
        return Convention.RANKING
    if not {"chosen", "rejected"} <= set(row):
        found = ", ".join(map(str, row)) or "nothing"
        raise UserError(
            f"{where}: needs chosen and rejected (and prompt), or prompt, completions and ranks; "
            f"it has {found}"
        )
    for name in ("chosen", "rejected"):
        if name not in there:
            raise Unusable(f"the {name} answer is empty")
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise UserError(
            f"{where}: chosen is {_kind(chosen)} and rejected is {_kind(rejected)}; "
            "give both the same form"
        )
    if isinstance(chosen, str):
        known = transcripts.is_whole if "prompt" in there else transcripts.is_transcript
        both = known(chosen) and known(rejected)
        if "prompt" in there and not both:
            return Convention.EXPLICIT
        return Convention.TRANSCRIPTS if both else Convention.TEXTS
    longest = max(len(_messages(m, f"{where}: {n}")) for n, m in _sides(row))
    starts_over = "prompt" in there and isinstance(row["prompt"], str) and longest > 1
    if "prompt" in there and not starts_over:
        return Convention.EXPLICIT
    return Convention.CONVERSATIONS


def read_row(row: Mapping[str, Any], convention: Convention, where: str) -> ReadRow:
    """The parts of a row that is of this convention.

    Raises:
        UserError: A value of the wrong type.
        Unusable: It says nothing: equal or empty answers, or two different conversations.
    """
    about = _about(row, where)
    if convention is Convention.RANKING:
        return ReadRow(**_ranking(row, where), **about)
    if convention is Convention.TRANSCRIPTS:
        prompt, chosen, rejected = _split_transcripts(row, where)
    elif convention is Convention.CONVERSATIONS:
        prompt, chosen, rejected = _split_conversations(row, where)
    elif convention is Convention.TEXTS:
        prompt, chosen, rejected = _split_texts(row)
    else:
        prompt = read_prompt(row["prompt"], f"{where}: prompt")
        chosen, rejected = (_answer(m, f"{where}: {n}") for n, m in _sides(row))
        if isinstance(row["prompt"], str) and transcripts.awaits_answer(row["prompt"]):
            chosen, rejected = chosen.strip(), rejected.strip()
    if prompt[-1]["role"] == "assistant":
        raise Unusable("the assistant answers itself")
    if not chosen.strip():
        raise Unusable("the chosen answer is empty")
    if not rejected.strip():
        raise Unusable("the rejected answer is empty")
    if chosen == rejected:
        raise Unusable("chosen equals rejected")
    return ReadRow(prompt, (chosen, rejected), **about)


def _sides(row: Mapping[str, Any]) -> tuple[tuple[str, Any], tuple[str, Any]]:
    return ("chosen", row["chosen"]), ("rejected", row["rejected"])


def _about(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Margin, id, tie, annotator and the other columns."""
    margin = row.get("margin")
    return {
        "margin": None if margin in (None, "") else number(margin, f"{where}: margin"),
        "id": "" if row.get("id") is None else str(row["id"]),
        "tie": _flag(row.get("tie"), f"{where}: tie"),
        "annotator": "" if row.get("annotator") is None else str(row["annotator"]),
        "info": {name: value for name, value in row.items() if name not in OWN},
    }


def number(given: Any, where: str) -> float:
    """A finite number, also one that a CSV file gives as text.

    Raises:
        UserError: It is none.
    """
    try:
        value = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where} is {given!r:.40}; it must be a finite number")
    return value


def _flag(given: Any, where: str) -> bool:
    known = {None: False, "": False, "true": True, "false": False, "1": True, "0": False}
    word = given.lower() if isinstance(given, str) else given
    if isinstance(word, bool):
        return word
    if not isinstance(word, str | None) or word not in known:
        raise UserError(f"{where} is {given!r:.40}; it must be true or false")
    return known[word]


def read_prompt(given: Any, where: str) -> tuple[Message, ...]:
    """A prompt, given as a text, as a transcript that awaits its answer, or as messages.

    Raises:
        UserError: It is neither.
        Unusable: It is empty.
    """
    if isinstance(given, str):
        if not given.strip():
            raise Unusable("the prompt is empty")
        if transcripts.awaits_answer(given):
            given = transcripts.messages(given.rstrip().removesuffix(transcripts.ANSWER))
        else:
            return (Message(role="user", content=given),)
    messages = _messages(given, where)
    if not any(message["content"].strip() for message in messages):
        raise Unusable("the prompt is empty")
    return tuple(messages)


def _answer(given: Any, where: str) -> str:
    """A text, or the only message of a list."""
    if isinstance(given, str):
        return given
    messages = _messages(given, where)
    if len(messages) > 1:
        raise UserError(
            f"{where} has {len(messages)} messages beside a prompt; give the answer alone, or the "
            "whole conversation without the column prompt"
        )
    _refuse_other_roles(messages)
    return messages[0]["content"] if messages else ""


def _refuse_other_roles(messages: Sequence[Message]) -> None:
    if messages and messages[-1]["role"] != "assistant":
        raise Unusable("the last turn is not the assistant's")


def _messages(given: Any, where: str) -> list[Message]:
    whole = isinstance(given, list | tuple) and all(
        isinstance(m, Mapping)
        and isinstance(m.get("role"), str)
        and isinstance(m.get("content"), str)
        for m in given
    )
    if not whole:
        raise UserError(
            f"{where} is {_kind(given)}; give a text or a list of {{role, content}}, both texts"
        )
    return [Message(role=m["role"], content=m["content"]) for m in given]


def _kind(value: Any) -> str:
    for kind, name in ((str, "a text"), (list | tuple, "a list"), (Mapping, "a mapping")):
        if isinstance(value, kind):
            return name
    return f"{value!r:.40}"


def _split_conversations(
    row: Mapping[str, Any], where: str
) -> tuple[tuple[Message, ...], str, str]:
    chosen, rejected = (_messages(m, f"{where}: {n}") for n, m in _sides(row))
    for side in (chosen, rejected):
        _refuse_other_roles(side)
    if not chosen or not rejected:
        raise Unusable("a conversation is empty")
    prompt = chosen[:-1]
    if prompt != rejected[:-1]:
        raise Unusable("the two conversations differ before the last answer")
    if not prompt:
        raise Unusable("there is no prompt")
    given = row.get("prompt")
    if given is not None and given not in [m["content"] for m in prompt]:
        raise UserError(
            f"{where}: prompt is no message of chosen; remove the column prompt or correct it"
        )
    return tuple(prompt), chosen[-1]["content"], rejected[-1]["content"]


def _split_transcripts(row: Mapping[str, Any], where: str) -> tuple[tuple[Message, ...], str, str]:
    (before, chosen), (other, rejected) = map(
        transcripts.before_the_last_answer, (row["chosen"], row["rejected"])
    )
    if before is None or other is None:
        raise Unusable("the last turn is not the assistant's")
    if before != other:
        raise Unusable("the two conversations differ before the last answer")
    prompt = transcripts.messages(before)
    if not prompt or prompt[-1]["role"] != "user":
        raise Unusable("the assistant answers itself")
    given = row.get("prompt")
    if given is not None and not (isinstance(given, str) and given.strip() in before):
        raise UserError(
            f"{where}: prompt is no part of chosen; remove the column prompt or correct it"
        )
    return tuple(prompt), chosen, rejected


def _split_texts(row: Mapping[str, Any]) -> tuple[tuple[Message, ...], str, str]:
    """The common beginning, up to a blank, is the prompt."""
    chosen, rejected = row["chosen"], row["rejected"]
    if chosen == rejected:
        raise Unusable("chosen equals rejected")
    same = 0
    for a, b in zip(chosen, rejected, strict=False):
        if a != b:
            break
        same += 1
    while same and not chosen[same - 1].isspace():
        same -= 1
    prompt = chosen[:same].rstrip()
    if not prompt:
        raise Unusable("chosen and rejected have no common beginning, and there is no prompt")
    return (Message(role="user", content=prompt),), chosen[same:], rejected[same:]


def _ranking(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The completions of a prompt with a rank (1 is best) or a score (more is better) each."""
    if row.get("prompt") is None:
        raise UserError(f"{where}: a ranking needs the column prompt")
    answers = tuple(read_completions(row["completions"], where))
    by = "scores" if row.get("scores") is not None else "ranks"
    values = row[by]
    if not isinstance(values, list | tuple) or len(values) != len(answers):
        raise UserError(f"{where}: {by} must be a list of {len(answers)}, one per completion")
    scores = [number(v, f"{where}: {by} {n}") for n, v in enumerate(values, 1)]
    if len(answers) < 2 or len(set(answers)) == 1:
        raise Unusable("a ranking of fewer than two different completions")
    standing = dict(zip(answers, scores, strict=True))  # a repeated completion counts once
    if [standing[answer] for answer in answers] != scores:
        raise Unusable(f"a completion has two different {by}")
    answers, scores = tuple(standing), list(standing.values())
    if not all(answer.strip() for answer in answers):
        raise Unusable("a completion is empty")
    return {
        "prompt": read_prompt(row["prompt"], f"{where}: prompt"),
        "answers": answers,
        "scores": tuple(scores if by == "scores" else [-score for score in scores]),
        "scores_count": by == "scores",
    }


def read_completions(given: Any, where: str) -> list[str]:
    """Several answers, each a text or a list of one message.

    Raises:
        UserError: It is no list of those.
    """
    if not isinstance(given, list | tuple):
        raise UserError(f"{where}: completions is {_kind(given)}; it must be a list")
    return [_answer(one, f"{where}: completions {n}") for n, one in enumerate(given, 1)]
