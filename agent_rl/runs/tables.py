"""Tables that a stage puts into its summary for the report, as ``{"tables": {title: rows}}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_rl.runs.text import clip, number

MOST_ROWS, MOST_CHARACTERS = 200, 300


@dataclass(frozen=True, slots=True)
class Table:
    """One table as text.

    Attributes:
        title: What it shows.
        columns: Their names.
        rows: A text for each column.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]


def tables_of(summary: Mapping[str, Any]) -> list[Table]:
    """The tables of a summary; what is no table is left out."""
    given = summary.get("tables")
    found = []
    for title, rows in given.items() if isinstance(given, Mapping) else ():
        whole = isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows)
        if whole and rows:
            columns = list(rows[0])
            cells = [[_cell(row.get(name)) for name in columns] for row in rows[:MOST_ROWS]]
            found.append(Table(str(title), [str(name) for name in columns], cells))
    return found


def with_interval(value: float | None, interval: Sequence[float] | None, form: str = ".3f") -> str:
    """``0.512 (0.487 to 0.537)``; empty where there is no value."""
    if value is None:
        return ""
    if not interval:
        return number(value, form)
    return f"{number(value, form)} ({number(interval[0], form)} to {number(interval[1], form)})"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return number(value, ".3f")
    return clip(str(value), MOST_CHARACTERS)
