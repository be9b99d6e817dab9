"""Parquet files and Arrow streams: where spans begin, and the rows in them, original types kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from agent_rl.errors import UserError
from agent_rl.scoring.inputs_text import SPAN_BYTES, Cut
from agent_rl.scoring.types import Record, Reject, Span

MAX_ROWS = 20_000
"""Rows of a row group or record batch that is read as it is; larger ones are cut up first."""

_CHANGED = "the file has changed since the job began; start a new job"

MAX_BYTES = 64 * 2**20


def cut_parquet(path: Path, rows_per_span: int) -> list[Cut] | None:
    """Slices of row groups, or None where a row group is too large to be read at once.

    Raises:
        UserError: This is no Parquet file.
    """
    with open_parquet(path) as file:
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        sizes = [(group.num_rows, group.total_byte_size) for group in groups]
    if any(rows > MAX_ROWS or size > MAX_BYTES for rows, size in sizes):
        return None
    cuts: list[Cut] = []
    line = 1
    for group, (rows, size) in enumerate(sizes):
        cuts.extend(_slices(rows, size, line, group, rows_per_span))
        line += rows
    return cuts


def _slices(rows: int, size: int, line: int, group: int, rows_per_span: int) -> Iterator[Cut]:
    if rows:
        step = min(rows_per_span, max(1, SPAN_BYTES * rows // max(size, 1)))
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            yield Cut(start, stop, line + start, stop - start, group)


def cut_arrow(path: Path, rows_per_span: int) -> list[Cut] | None:
    """Slices of record batches; ``group`` is the byte where the batch's message begins.

    Returns:
        None where a batch is too large, or cannot be read without those before it (dictionaries).

    Raises:
        UserError: This is no Arrow stream.
    """
    import pyarrow as pa  # noqa: PLC0415  # heavy, and only for this

    cuts: list[Cut] = []
    line = 1
    try:
        with pa.memory_map(str(path)) as file:  # only what describes the batches is touched
            schema = pa.ipc.read_schema(file)
            while True:
                offset = file.tell()
                try:
                    message = pa.ipc.read_message(file)
                except EOFError:
                    break
                if message.type != "record batch":
                    return None
                rows = pa.ipc.read_record_batch(message, schema).num_rows
                size = message.body.size
                if rows > MAX_ROWS or size > MAX_BYTES:
                    return None
                cuts.extend(_slices(rows, size, line, offset, rows_per_span))
                line += rows
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not an Arrow stream ({_first_line(error)})") from error
    return cuts


def table_schema(path: Path, kind: str) -> Any:
    """The Arrow schema of a Parquet file or an Arrow stream.

    Raises:
        UserError: The file is something else, or has a column twice.
    """
    import pyarrow as pa  # noqa: PLC0415

    if kind == "parquet":
        with open_parquet(path) as file:
            schema = file.schema_arrow
    else:
        try:
            with pa.OSFile(str(path)) as file:
                schema = pa.ipc.read_schema(file)
        except (pa.ArrowException, OSError, EOFError) as error:
            raise UserError(f"{path}: not an Arrow stream ({_first_line(error)})") from error
    twice = [name for name in schema.names if schema.names.count(name) > 1]
    if twice:
        raise UserError(f"{path}: the column {twice[0]!r} is there twice; rename one of them")
    return schema


@contextlib.contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """A :class:`pyarrow.parquet.ParquetFile`.

    Raises:
        UserError: This is no Parquet file, or it is damaged.
    """
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a whole Parquet file ({_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


class DamagedError(UserError):
    """A part of a file that cannot be read; the rest of the file may be."""


def read_table(span: Span) -> Any:
    """The rows of a ``parquet`` or ``arrow`` span as a :class:`pyarrow.Table`, original types.

    Raises:
        UserError: The file is gone or has changed; as DamagedError: its content is broken.
    """
    try:
        status = span.path.stat()
    except OSError as error:
        raise UserError(f"{span.name}: cannot be read ({error.strerror})") from error
    read = _row_group if span.kind == "parquet" else _batch
    table = read(str(span.path), status.st_mtime_ns, status.st_size, span.group)
    if table.num_rows < span.stop:
        raise UserError(f"{span.name}: {_CHANGED}")
    return table.slice(span.start, span.stop - span.start)


@lru_cache(maxsize=1)  # the spans of a row group are read one after another
def _row_group(path: str, mtime_ns: int, size: int, group: int) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    with open_parquet(Path(path)) as file:
        if group >= file.num_row_groups:
            raise UserError(f"{path}: {_CHANGED}")
        try:
            return file.read_row_group(group, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise DamagedError(f"damaged ({_first_line(error)})") from error


@lru_cache(maxsize=1)
def _batch(path: str, mtime_ns: int, size: int, offset: int) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    try:
        with pa.OSFile(path) as file:  # not mapped: a worker's address space is limited
            schema = pa.ipc.read_schema(file)
            file.seek(offset)
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(file), schema)
            return pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError, EOFError) as error:
        raise DamagedError(f"damaged ({_first_line(error)})") from error


def read_rows(span: Span) -> Iterator[Record | Reject]:
    """The rows of a ``parquet`` or ``arrow`` span; of a damaged one, a reject for each row.

    Raises:
        UserError: The file is gone or has changed.
    """
    try:
        table = read_table(span)
        columns = [python_values(column) for column in table.columns]
    except (DamagedError, MemoryError) as error:
        reason = str(error) if isinstance(error, DamagedError) else "too large for the memory"
        for line in range(span.line, span.line + span.rows):
            yield Reject(span.name, line, f"cannot be read: {reason}", "")
        return
    for index, cells in enumerate(zip(*columns, strict=True)):
        yield Record(span.line + index, dict(zip(table.column_names, cells, strict=True)))


def python_values(column: Any) -> list[Any]:
    """A column as Python values; what Python cannot hold (years, nanoseconds) as text."""
    import pyarrow as pa  # noqa: PLC0415

    with contextlib.suppress(ValueError, OverflowError):
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":  # would need pandas
            return list(column.cast(pa.timestamp("us", column.type.tz)).to_pylist())
        return list(column.to_pylist())
    try:
        return list(column.cast(pa.string()).to_pylist())
    except (pa.ArrowException, ValueError):
        return [_value(value) for value in column]


def _value(scalar: Any) -> Any:
    with contextlib.suppress(ValueError, OverflowError):
        return scalar.as_py()
    return None


class TableCopy:
    """A copy of tables as an Arrow stream of small batches, so that it can be split.

    Args:
        path: Where.
        rows: Rows of a batch.
    """

    def __init__(self, path: Path, rows: int) -> None:
        self._path, self._rows = path, rows
        self._writer: Any = None

    def write(self, tables: Iterator[Any]) -> None:
        """Write all of them; those after the first are cast to its types."""
        import pyarrow as pa  # noqa: PLC0415

        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.OSFile(str(self._path), "wb") as file:
            for table in tables:
                plain = _without_dictionaries(table)
                if self._writer is None:
                    self._writer = pa.ipc.new_stream(file, plain.schema, options=options)
                self._writer.write_table(plain, max_chunksize=self._batch_rows(plain))
            if self._writer is not None:
                self._writer.close()

    def _batch_rows(self, table: Any) -> int:
        row_bytes = max(1, table.nbytes // max(1, table.num_rows))
        return min(self._rows, max(1, SPAN_BYTES // row_bytes))


def _without_dictionaries(table: Any) -> Any:
    """The same values, dictionaries decoded: batches of them cannot be read one by one."""
    import pyarrow as pa  # noqa: PLC0415

    fields = [field.with_type(plain_type(field.type)) for field in table.schema]
    schema = pa.schema(fields, metadata=table.schema.metadata)
    return table if schema.equals(table.schema) else table.cast(schema)


def plain_type(kind: Any) -> Any:
    """A type with dictionaries replaced by what they hold."""
    import pyarrow as pa  # noqa: PLC0415

    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(plain_type(field.type)) for field in _fields(kind)])
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(plain_type(kind.value_type)))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(plain_type(kind.value_type)))
    return kind


def _fields(kind: Any) -> Sequence[Any]:
    return [kind.field(i) for i in range(kind.num_fields)]


def arrow_tables(path: Path) -> Iterator[Any]:
    """The batches of an Arrow stream."""
    import pyarrow as pa  # noqa: PLC0415

    try:
        with pa.memory_map(str(path)) as file:
            for batch in pa.ipc.open_stream(file):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a whole Arrow stream ({_first_line(error)})") from error


def parquet_tables(path: Path) -> Iterator[Any]:
    """The rows of a Parquet file, few at a time."""
    import pyarrow as pa  # noqa: PLC0415

    with open_parquet(path) as file:
        for batch in file.iter_batches(batch_size=1000, use_threads=False):
            yield pa.Table.from_batches([batch])
