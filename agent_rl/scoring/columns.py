"""Which columns hold the completion, the prompt and the answer, and what the verifier sees."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent_rl.errors import UserError
from agent_rl.runs.text import clip
from agent_rl.scoring.completions import Completion, CompletionError, completions
from agent_rl.scoring.inputs_text import TEXT_CHARS
from agent_rl.scoring.outputs_text import new_columns
from agent_rl.scoring.types import Record, Reject, Sample
from rl_envs.adapters import ADAPTERS

COMPLETIONS = (
    *("completion", "completions", "response", "responses", "output", "outputs"),
    *("generation", "generations", "prediction", "predictions", "model_output"),
    *("messages", "conversation"),
)
"""Columns of completions, the first found is taken. (``chosen`` is half a preference pair.)"""

PROMPTS = ("prompt", "question", "problem", "instruction", "input", "messages", "conversation")
ANSWERS = (
    *("answer", "ground_truth", "gold", "gold_answer", "reference", "reference_answer"),
    *("target", "expected_answer", "solution"),
)
"""Columns of answers. (``label`` is a yes or no as often as an answer: it must be named.)"""

_LAST_LINE = 1000  # characters of the line that ends a GSM8K solution

CONVERSATIONS = ("messages", "conversation")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of an input that scoring looks at.

    Attributes:
        completion: The column of completions.
        prompt: The column of prompts; None where there is none (a conversation in the completion
            column then gives it).
        answer: The column of reference answers, where there is one. Where the prompt is a
            ``question``, and in a ``solution``, only what stands behind ``####`` at its end is
            taken, if anything does; of any other solution the last box, if it has one.
        id: The column of ids, where there is one; else ids are ``NAME:LINE``.
        others: Further names the verifier sees: ours to theirs.
        reserved: Names of the new columns; an input row must not have them.
        json_text: Whether text that is a JSON list is read as that list (CSV).
    """

    completion: str
    prompt: str | None = None
    answer: str | None = None
    id: str | None = None
    others: Mapping[str, str] = field(default_factory=dict)
    reserved: frozenset[str] = frozenset()
    json_text: bool = False

    def describe(self) -> str:
        """One line for a person: what was chosen."""
        chosen = {"completion": self.completion, "prompt": self.prompt, "answer": self.answer}
        if self.prompt is None and self.completion in CONVERSATIONS:
            chosen["prompt"] = self.completion
        chosen |= {"id": self.id} if self.id else {}
        named = {ours: theirs for ours, theirs in {**chosen, **self.others}.items() if theirs}
        missing = [ours for ours in chosen if ours not in named]
        text = "columns: " + ", ".join(
            ours if ours == theirs else f"{ours} = {theirs}" for ours, theirs in named.items()
        )
        return clip(f"{text}; no {' and no '.join(missing)}" if missing else text, 500)


def resolve(
    columns_found: Sequence[str],
    mapping: Mapping[str, str],
    *,
    need: Sequence[str] = (),
    prefix: str = "",
    json_text: bool = False,
) -> Columns:
    """Choose the columns.

    Args:
        columns_found: ``Plan.columns``.
        mapping: Ours to theirs, such as ``{"completion": "response", "answer": "gold"}``; any
            other name is given to the verifier under ours. ``a.b.0`` is inside the column ``a``.
        need: Names (``prompt``, ``answer``, a free column) without which nothing can be scored.
        prefix: Of the new columns (:func:`agent_rl.scoring.outputs.new_columns`).
        json_text: Read a text cell that is a JSON list as several completions or as messages.

    Raises:
        UserError: A column is not there (lists those found, and the closest name), or one of them
            has the name of a new one.
    """
    _refuse_new(columns_found, prefix)
    for ours, theirs in mapping.items():
        if theirs not in columns_found and theirs.partition(".")[0] not in columns_found:
            raise UserError(f"no column {theirs!r} for {ours}{_found(theirs, columns_found)}")
    completion = _choose("completion", COMPLETIONS, columns_found, mapping)
    if completion is None:
        raise UserError(
            f"no column of completions{_found('completion', columns_found)}; "
            "name it: --column completion=THEIRS"
        )
    chosen = {
        "prompt": _choose("prompt", PROMPTS, columns_found, mapping, completion),
        "answer": _choose("answer", ANSWERS, columns_found, mapping, completion),
        "id": _choose("id", ("id",), columns_found, mapping, completion),
    }
    known = {ours for ours, theirs in chosen.items() if theirs} | {"completion", *mapping}
    if completion in CONVERSATIONS:
        known.add("prompt")
    for name in need:
        if name not in known and name not in columns_found:
            raise UserError(
                f"the verifier needs {name!r}, and there is no such column"
                f"{_found(name, columns_found)}; name it: --column {name}=THEIRS"
            )
    others = {ours: theirs for ours, theirs in mapping.items() if ours not in _OWN}
    return Columns(
        completion,
        **chosen,
        others=others,
        reserved=frozenset(new_columns(prefix)),
        json_text=json_text,
    )


_OWN = ("completion", "prompt", "answer", "id")


def _refuse_new(columns_found: Sequence[str], prefix: str) -> None:
    for name in new_columns(prefix):
        if name in columns_found:
            raise UserError(_taken(name, f"{prefix}rl_"))


def _taken(name: str, prefix: str = "rl_") -> str:
    return f"the input has a column {name!r} already: --prefix {prefix}"


def _choose(
    ours: str,
    candidates: Sequence[str],
    found: Sequence[str],
    mapping: Mapping[str, str],
    taken: str | None = None,
) -> str | None:
    if ours in mapping:
        return mapping[ours]
    used = {taken, *mapping.values()}
    return next((name for name in candidates if name in found and name not in used), None)


def _found(wanted: str, columns: Sequence[str]) -> str:
    listed = ", ".join(map(str, columns)) or "none"
    close = difflib.get_close_matches(wanted, columns, n=1, cutoff=0.6)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return f"; columns found: {clip(listed, 1000)}{meant}"


def samples(
    record: Record, columns: Columns, *, name: str = ""
) -> tuple[list[Sample], bool] | Reject:
    """The completions of a row, each with the row its verifier sees.

    The completion may be text or a number, a list of texts, a chat message, a list of messages
    (the last assistant message is the completion, what comes before is the prompt where there is
    no column for it), or a list of such lists. Tool calls are written into the text as JSON.
    Empty text is a completion like any other.

    Args:
        record: A row.
        columns: What :func:`resolve` chose.
        name: ``Span.name``, for ids and rejects.

    Returns:
        The samples and whether the cell held several; or a reject (null, nothing, or no text).
    """
    record = Record(record.line, _with_paths(record.row, columns))
    row = record.row
    clash = columns.reserved.intersection(row)
    if clash:
        return Reject(name, record.line, _taken(min(clash)), _shown(row))
    if columns.completion not in row:
        return Reject(
            name, record.line, f"no completion: no column {columns.completion!r}", _shown(row)
        )
    try:
        found, is_list = completions(row[columns.completion], json_text=columns.json_text)
    except CompletionError as error:
        return Reject(name, record.line, str(error), _shown(row))
    shared = _verifier_row(record, columns, name)
    return [Sample(each.text, _with_prompt(shared, each, columns)) for each in found], is_list


def _with_paths(row: Mapping[str, Any], columns: Columns) -> Mapping[str, Any]:
    """The row, with what stands inside cells under its path (``reward_model.answer``)."""
    named = (columns.completion, columns.prompt, columns.answer, columns.id)
    paths = [name for name in (*named, *columns.others.values()) if name and "." in name]
    reached = {path: _inside(row, path) for path in paths if path not in row}
    return {**row, **{path: value for path, value in reached.items() if value is not None}}


def _inside(row: Any, path: str) -> Any:
    """What a path of names and positions leads to; None where it ends early."""
    for name in path.split("."):
        if isinstance(row, Mapping):
            row = row.get(name)
        elif isinstance(row, list) and name.isdigit() and int(name) < len(row):
            row = row[int(name)]
        else:
            return None
    return row


def _shown(row: Mapping[str, Any]) -> str:
    """The beginning of a row, for a person."""
    each = TEXT_CHARS // max(1, len(row))
    return clip(", ".join(f"{key!r}: {clip(repr(row[key]), each)}" for key in row), TEXT_CHARS)


def _verifier_row(record: Record, columns: Columns, name: str) -> dict[str, Any]:
    row = dict(record.row)
    for ours, theirs in columns.others.items():
        row[ours] = record.row.get(theirs)
    if columns.prompt is not None:
        row["prompt"] = _prompt(record.row.get(columns.prompt), columns.prompt)
    if columns.answer is not None:
        given = record.row.get(columns.answer)
        row["answer"] = _answer(given, columns)
        if row["answer"] is not given:  # GSM8K keeps the solution in there
            row.setdefault("solution", given)
    given = record.row.get(columns.id) if columns.id else None
    row["id"] = f"{name}:{record.line}" if given is None else given
    return row


def _with_prompt(row: dict[str, Any], completion: Completion, columns: Columns) -> dict[str, Any]:
    if columns.prompt is None and completion.before:
        return {**row, "prompt": list(completion.before)}
    return row


def _prompt(value: Any, column: str) -> Any:
    """Text or messages; of a conversation that ends with an assistant's turn, what is before."""
    if column in CONVERSATIONS and isinstance(value, list):
        roles = [message.get("role") if isinstance(message, Mapping) else "" for message in value]
        if "user" in roles:
            return value[: len(roles) - roles[::-1].index("user")]
    return value


def _answer(value: Any, columns: Columns) -> Any:
    """The final answer where the column holds a worked solution, by the rules of the tasks."""
    if not isinstance(value, str):
        return value
    if columns.prompt == "question" or columns.answer == "solution":
        last = value.rstrip().rpartition("\n")[2]
        if "####" in last and len(last) <= _LAST_LINE:
            return ADAPTERS["question"][1]({"question": "", "answer": last})[1]
    if columns.answer == "solution":
        boxed = ADAPTERS["problem"][1]({"problem": "", "solution": value})[1]
        return value if boxed is None else boxed
    return value
