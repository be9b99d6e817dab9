"""The output side of scoring: one part for each span, in the final format.

Rows become text in ``outputs_text`` and tables in ``outputs_tables``; parts become one file in
``outputs_merge``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent_rl.errors import UserError
from agent_rl.runs.files import encode
from agent_rl.scoring.outputs_merge import merge
from agent_rl.scoring.outputs_text import csv_blocks, json_lines, new_columns, packed, to_json
from agent_rl.scoring.types import Reject, Scored, Span
from agent_rl.scoring.whole import whole

__all__ = [
    "KINDS",
    "merge",
    "new_columns",
    "output_kind",
    "rejects_path",
    "write_part",
    "write_rejects",
]

KINDS = ("jsonl", "jsonl.gz", "csv", "csv.gz", "parquet")


def output_kind(path: Path) -> str:
    """One of ``KINDS``, by the suffix.

    Raises:
        UserError: Another suffix.
    """
    for kind in KINDS:
        if path.name.endswith(f".{kind}"):
            return kind
    suffixes = ", ".join(f".{kind}" for kind in KINDS)
    raise UserError(f"{path}: the output must end with one of {suffixes}")


def rejects_path(out: Path) -> Path:
    """``OUT.rejects.jsonl``."""
    return out.with_name(out.name + ".rejects.jsonl")


def write_part(
    path: Path,
    kind: str,
    span: Span,
    scored: Sequence[Scored],
    *,
    prefix: str = "",
    columns: Sequence[str] = (),
) -> list[str]:
    """Write one part, whole or not at all: every input column as it was, and the new ones.

    ``score`` and ``passed`` are null where the status is ``error``. ``parts`` is an object in JSON
    Lines and its JSON text in CSV and Parquet. Rows with ``is_list`` have lists in all new columns
    (in Parquet all rows then do).

    Args:
        path: Where.
        kind: One of ``KINDS``.
        span: Where the rows came from: values are taken from there where Python's would lose
            something (number formats of JSON, Arrow types).
        scored: In the order of lines; may be empty, may lack lines (rejects).
        prefix: Of the new columns.
        columns: ``Plan.columns``: the order of columns in CSV and, from text, in Parquet.

    Returns:
        Warnings, each one line without numbers, so that equal ones can be told once.

    Raises:
        UserError: The disk is full, or the file cannot be written.
    """
    if kind == "parquet":
        from agent_rl.scoring import outputs_tables  # noqa: PLC0415  # heavy, and only for this

        return outputs_tables.write_part(path, span, scored, prefix, columns)
    warnings: list[str] = []
    if kind.startswith("jsonl"):
        data = [b"".join(json_lines(span, scored, prefix))]
    else:
        data, warnings = csv_blocks(scored, prefix, columns)
    with whole(path) as temporary:
        temporary.write_bytes(b"".join(map(packed, data) if kind.endswith(".gz") else data))
    return warnings


def write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    """Write rejects as JSON Lines: source, line, error, text. Merge them as ``jsonl``."""
    rows = (
        {"source": each.name, "line": each.line, "error": each.error, "text": each.text}
        for each in rejects
    )
    with whole(path) as temporary:
        temporary.write_bytes(b"".join(encode(to_json(row)) + b"\n" for row in rows))
