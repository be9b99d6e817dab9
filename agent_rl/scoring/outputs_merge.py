"""Parts become one file: bytes are copied where parts agree, rows rewritten where they do not."""

from __future__ import annotations

import csv
import gzip
import io
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

from agent_rl.errors import UserError
from agent_rl.scoring.inputs_text import MAX_LINE, csv_header
from agent_rl.scoring.outputs_text import NEW, csv_line, packed
from agent_rl.scoring.whole import whole

_CHUNK = 2**20
_GROUP_ROWS = 10_000
_GROUP_BYTES = 64 * 2**20
"""A row group of the output has at most so many rows, and ends behind so many bytes."""


def merge(parts: Sequence[Path], out: Path, kind: str, *, columns: Sequence[str] = ()) -> list[str]:
    """Bring the parts together, in order, under the final name, whole or not at all.

    Args:
        parts: What :func:`agent_rl.scoring.outputs.write_part` wrote.
        out: The final file; replaced where it exists.
        kind: One of ``agent_rl.scoring.outputs.KINDS``.
        columns: ``Plan.columns``: the order of the input's columns.

    Returns:
        Warnings, such as a column whose types differ and that became JSON text.

    Raises:
        UserError: The disk is full, the file cannot be written, or a part is missing.
    """
    missing = [part for part in parts if not part.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: this part of the output is missing; start a new job")
    warnings: list[str] = []
    with whole(out) as temporary:
        if kind == "parquet":
            warnings = _merge_tables(parts, temporary, columns)
        else:
            with temporary.open("wb") as file:
                if kind.startswith("csv"):
                    _merge_csv(parts, file, columns, is_packed=kind.endswith(".gz"))
                else:
                    for part in parts:
                        _copy(part, file)
                if kind.endswith(".gz") and not file.tell():
                    file.write(gzip.compress(b"", mtime=0))
    return warnings


def _copy(part: Path, out: BinaryIO, start: int = 0) -> None:
    with part.open("rb") as file:
        file.seek(start)
        shutil.copyfileobj(file, out, _CHUNK)


def _merge_csv(
    parts: Sequence[Path], out: BinaryIO, columns: Sequence[str], *, is_packed: bool
) -> None:
    read = _packed_header if is_packed else _header
    order: dict[str, None] = dict.fromkeys(columns)
    new: list[str] = []
    names: list[str] = []
    alike = True
    for part in parts:
        before, (names, _) = names, read(part)
        alike = alike and before in ([], names)
        order.update(dict.fromkeys(names[: -len(NEW)]))
        new = names[-len(NEW) :]
    header = [*order, *new]
    alike = alike and names == header
    _write(out, [header], is_packed)
    for part in parts:
        names, body = read(part)
        if alike:
            _copy(part, out, body)
        else:
            _write(out, _reordered(part, names, header, is_packed), is_packed)


def _header(part: Path) -> tuple[list[str], int]:
    """The columns of a part and where its rows begin."""
    names, start, _ = csv_header(part)
    return names, start


def _packed_header(part: Path) -> tuple[list[str], int]:
    """As :func:`_header`; the header is a gzip member of its own."""
    unpacker = zlib.decompressobj(wbits=31)
    text = b""
    with part.open("rb") as file:
        while not unpacker.eof:
            chunk = file.read(_CHUNK)
            if not chunk:
                raise UserError(f"{part}: this part of the output is damaged; start a new job")
            text += unpacker.decompress(chunk)
        start = file.tell() - len(unpacker.unused_data)
    return next(csv.reader(io.StringIO(text.decode("utf-8"), newline=""))), start


def _reordered(
    part: Path, names: Sequence[str], header: Sequence[str], is_packed: bool
) -> Iterator[list[str]]:
    places = [names.index(name) if name in names else None for name in header]
    csv.field_size_limit(max(MAX_LINE, csv.field_size_limit()))
    opened: IO[str]
    with (
        gzip.open(part, "rt", encoding="utf-8", newline="")
        if is_packed
        else part.open(encoding="utf-8", newline="")
    ) as opened:
        rows = csv.reader(opened)
        next(rows)
        for row in rows:
            yield ["" if place is None else row[place] for place in places]


def _write(out: BinaryIO, rows: Iterable[Sequence[str]], is_packed: bool) -> None:
    block: list[str] = []
    size = 0
    for row in rows:
        block.append(csv_line(row))
        size += len(block[-1])
        if size > _CHUNK:
            _flush(out, block, is_packed)
            block, size = [], 0
    _flush(out, block, is_packed)


def _flush(out: BinaryIO, block: Sequence[str], is_packed: bool) -> None:
    data = "".join(block).encode("utf-8")
    out.write(packed(data) if is_packed else data)


def _merge_tables(parts: Sequence[Path], out: Path, columns: Sequence[str]) -> list[str]:
    from agent_rl.scoring.outputs_schema import Uncastable, common_schema  # noqa: PLC0415  # heavy

    as_json: set[str] = set()
    while True:
        common = common_schema(parts, columns, as_json)
        try:
            _write_groups(parts, out, common)
        except Uncastable as error:
            as_json.add(error.column)
        else:
            return common.warnings


def _write_groups(parts: Sequence[Path], out: Path, common: Any) -> None:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    waiting: list[Any] = []
    with pq.ParquetWriter(out, common.schema) as writer:

        def flush() -> None:
            if waiting:
                table = pa.concat_tables(waiting)
                writer.write_table(table, row_group_size=max(1, table.num_rows))
                waiting.clear()

        for part in parts:
            with pq.ParquetFile(part) as file:
                table = common.cast(file.read(use_threads=False))
            if sum(each.num_rows for each in waiting) + table.num_rows > _GROUP_ROWS:
                flush()
            waiting.append(table)
            if sum(each.nbytes for each in waiting) > _GROUP_BYTES:
                flush()
        flush()
