"""Rows of a data set become tasks, under the field's usual column names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rl_envs.tasks import DataError, content_id
from rl_envs.types import Message, Task
from rl_verifiers.extract import boxed

Row = Mapping[str, Any]

_GSM8K_ANSWER = re.compile(r"####[ \t]*([^\n]*)\s*$")


def _given(row: Row, names: Sequence[str]) -> Any:
    """The first of these columns that holds something."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _prompt_answer(row: Row) -> tuple[Any, Any]:
    return row["prompt"], _given(row, ("answer", "ground_truth", "solution"))


def _question_answer(row: Row) -> tuple[Any, Any]:
    """GSM8K: the answer, or the solution that holds it, ends with ``#### N``."""
    answer = _given(row, ("answer", "solution"))
    found = _GSM8K_ANSWER.search(answer) if isinstance(answer, str) else None
    return row["question"], found.group(1).strip().replace(",", "") if found else answer


def _problem_solution(row: Row) -> tuple[Any, Any]:
    """MATH: an ``answer`` column, or the last box of the solution."""
    answer = _given(row, ("answer",))
    return row["problem"], boxed(str(row.get("solution", ""))) if answer is None else answer


def _messages(row: Row) -> tuple[Any, Any]:
    """A conversation; a closing assistant message is the reference, not a part of the prompt."""
    messages: Sequence[Message] = row["messages"]
    ends = [index for index, message in enumerate(messages) if message["role"] == "user"]
    if not ends:
        raise DataError("messages without a user message")
    return list(messages[: ends[-1] + 1]), _given(row, ("answer", "ground_truth"))


ADAPTERS: dict[str, tuple[str, Callable[[Row], tuple[Any, Any]]]] = {
    "prompt": ("prompt", _prompt_answer),
    "question": ("question", _question_answer),
    "problem": ("problem", _problem_solution),
    "messages": ("messages", _messages),
}
"""Name: the column it needs, and ``row -> (prompt, answer)``."""


def find_adapter(columns: Sequence[str], adapter: str | None = None) -> str:
    """The adapter for these columns, or the named one once its column is found.

    Raises:
        DataError: No adapter fits; the message lists the columns.
    """
    found = f"columns found: {', '.join(columns) or 'none'}"
    if adapter is not None and adapter not in ADAPTERS:
        raise DataError(f"no adapter {adapter!r}; there are {', '.join(ADAPTERS)}")
    names = [adapter] if adapter else list(ADAPTERS)
    for name in names:
        if ADAPTERS[name][0] in columns:
            return name
    wanted = " or ".join(f"{ADAPTERS[name][0]!r}" for name in names)
    raise DataError(f"no column {wanted}; {found}. Rename with columns={{'prompt': '<theirs>'}}")


def tasks_from_rows(
    rows: Sequence[Row], *, adapter: str | None = None, need_answer: bool = False
) -> list[Task]:
    """Tasks from rows: prompt/answer, question/answer, problem/solution or messages.

    The other columns go to ``Task.info``. The id is the row's ``id`` column, or is made from the
    prompt and the answer.

    Args:
        rows: The rows.
        adapter: One of ``ADAPTERS``; None chooses by the columns.
        need_answer: Whether a row without an answer is an error.

    Raises:
        DataError: No rows, no such column, or a row that lacks its prompt or answer.
    """
    if not rows:
        raise DataError("the data set is empty: no rows")
    name = find_adapter(list(rows[0]), adapter)
    column, read = ADAPTERS[name]
    tasks = []
    for number, row in enumerate(rows):
        where = f"row {number}" + (f" (id {row['id']!r})" if "id" in row else "")
        if not row.get(column):
            raise DataError(f"{where}: no {column}; columns found: {', '.join(map(str, row))}")
        prompt, answer = read(row)
        if need_answer and answer in (None, ""):
            raise DataError(f"{where}: no answer; columns found: {', '.join(map(str, row))}")
        task_id = str(row["id"]) if "id" in row else content_id(prompt, answer)
        taken = {column, "id", "answer"}
        info = {str(key): value for key, value in row.items() if key not in taken}
        if "answer" in row and row["answer"] != answer:  # GSM8K keeps the solution in there
            info.setdefault("solution", row["answer"])
        tasks.append(Task(task_id, prompt, answer, info))
    return tasks
