"""Rows of the output as text: JSON Lines and CSV, and what scoring adds to a row."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time, timedelta
from typing import Any

from agent_rl.runs.files import encode
from agent_rl.scoring.inputs_text import raw_lines
from agent_rl.scoring.types import Scored, Span

NEW = ("score", "passed", "status", "reason", "parts", "extracted_answer", "error")


def new_columns(prefix: str = "") -> tuple[str, ...]:
    """The names of the columns that scoring adds, in order: ``NEW`` behind the prefix."""
    return tuple(prefix + name for name in NEW)


def packed(data: bytes) -> bytes:
    """A gzip member; equal bytes give equal bytes. Of nothing, nothing."""
    return gzip.compress(data, compresslevel=6, mtime=0) if data else b""


def new_values(scored: Scored) -> list[Any]:
    """The values of the new columns of a row, in the order of ``NEW``."""
    each = [
        (
            None if score.is_error else float(score.value),
            None if score.is_error else bool(score.passed),
            score.status,
            score.reason,
            dict(score.parts),
            score.answer,
            score.error,
        )
        for score in scored.scores
    ]
    return [list(values) for values in zip(*each, strict=True)] if scored.is_list else list(each[0])


def to_json(value: Any) -> str:
    """JSON text; dates are ISO 8601, bytes base64, decimals text, NaN and infinities as Python's.

    It may hold lone surrogates: encode it with :func:`agent_rl.runs.files.encode`.
    """
    return _ENCODER.encode(value)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, default=_plain)


def json_lines(span: Span, scored: Sequence[Scored], prefix: str) -> Iterable[bytes]:
    """A line for each row. The text of a JSON Lines input stays as it is, the rest follows it."""
    names = new_columns(prefix)
    if span.kind != "jsonl":
        for each in scored:
            row = {**each.record.row, **dict(zip(names, new_values(each), strict=True))}
            yield encode(to_json(row)) + b"\n"
        return
    lines = raw_lines(span) if scored else iter(())
    for each in scored:
        raw = next(raw for number, raw in lines if number == each.record.line)
        old = raw.strip(b" \t\r\n").removesuffix(b"}").rstrip(b" \t\r\n")
        new = encode(to_json(dict(zip(names, new_values(each), strict=True))))
        yield old + (b"" if old == b"{" else b", ") + new[1:] + b"\n"


def csv_blocks(
    scored: Sequence[Scored], prefix: str, columns: Sequence[str]
) -> tuple[list[bytes], list[str]]:
    """The header, the rows, and warnings."""
    found = dict.fromkeys(columns)
    for each in scored:
        found.update(dict.fromkeys(each.record.row))
    text = "".join(
        csv_line([*(csv_cell(each.record.row.get(name)) for name in found), *map(csv_cell, new)])
        for each, new in ((each, new_values(each)) for each in scored)
    )
    header = csv_line([*found, *new_columns(prefix)])
    data, warnings = [], []
    for block in (header, text):
        whole_text = without_surrogates(block)
        if whole_text != block:
            warnings = ["half a surrogate pair cannot be written in CSV: it became U+FFFD"]
        data.append(whole_text.encode("utf-8"))
    return data, warnings


def without_surrogates(text: str) -> str:
    """The same text, U+FFFD for every lone surrogate, a character for every pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def csv_cell(value: Any) -> str:
    """Text as it is, null as nothing, the rest as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    plain = _plain(value) if not isinstance(value, int | float | list | Mapping) else value
    return plain if isinstance(plain, str) else to_json(plain)


_QUOTED = re.compile('[",\r\n]')


def csv_line(cells: Iterable[str]) -> str:
    r"""A line of CSV; unlike :mod:`csv` before Python 3.13, with ``\r`` always in quotes."""
    quoted = (
        '"' + cell.replace('"', '""') + '"' if _QUOTED.search(cell) else cell for cell in cells
    )
    return ",".join(quoted) + "\n"
