"""Parts in Parquet: the input's own Arrow columns, or types inferred from JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agent_rl.scoring.inputs_tables import read_table, table_schema
from agent_rl.scoring.outputs_text import new_columns, new_values, to_json, without_surrogates
from agent_rl.scoring.types import Scored, Span
from agent_rl.scoring.whole import whole

IS_NEW = {b"agent_rl": b"new"}
"""Metadata of the new columns of a part."""

IS_JSON = {b"agent_rl": b"json"}
"""Metadata of a part's column that holds JSON text because its values have no common type."""

MIXED = "column {!r}: values without a common type became JSON text"
_SURROGATES = "column {!r}: half a surrogate pair cannot be written in Parquet: it became U+FFFD"

_MAX_DEPTH = 20
_MAX_FIELDS = 200
"""Names within an object; with more it is kept as JSON text."""


def write_part(
    path: Path, span: Span, scored: Sequence[Scored], prefix: str, columns: Sequence[str]
) -> list[str]:
    """Write one part; see :func:`agent_rl.scoring.outputs.write_part`."""
    warnings: list[str] = []
    if span.kind in {"parquet", "arrow"}:
        table = _rows_of(span, scored)
    else:
        table = _inferred(scored, columns, warnings)
    for field, values in _new_arrays(scored, prefix, warnings):
        table = table.append_column(field, values)
    with whole(path) as temporary:
        pq.write_table(table, temporary)
    return list(dict.fromkeys(warnings))


def _rows_of(span: Span, scored: Sequence[Scored]) -> Any:
    """The rows of a table that were scored."""
    if not scored:  # perhaps because the span is damaged
        return table_schema(span.path, span.kind).empty_table()
    table = read_table(span)
    if len(scored) == table.num_rows:
        return table
    return table.take(pa.array([each.record.line - span.line for each in scored], pa.int64()))


def _inferred(scored: Sequence[Scored], columns: Sequence[str], warnings: list[str]) -> Any:
    found = dict.fromkeys(columns)
    for each in scored:
        found.update(dict.fromkeys(each.record.row))
    fields, arrays = [], []
    for name in found:
        array, metadata = _array([each.record.row.get(name) for each in scored], name, warnings)
        fields.append(pa.field(without_surrogates(name), array.type, metadata=metadata))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))


def _array(values: list[Any], name: str, warnings: list[str]) -> tuple[Any, Any]:
    """Values as an Arrow array, and its field's metadata."""
    try:
        array = pa.array(values)
    except UnicodeEncodeError:
        warnings.append(_SURROGATES.format(name))
        return _array([_whole_text(value) for value in values], name, warnings)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        array = None
    if array is None or not _storable(array.type):
        warnings.append(MIXED.format(name))
        return json_array(values), IS_JSON
    return array, None


def json_array(values: Sequence[Any]) -> Any:
    """Values as JSON text; null stays null."""
    texts = [None if value is None else without_surrogates(to_json(value)) for value in values]
    return pa.array(texts, pa.string())


def _whole_text(value: Any) -> Any:
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, list):
        return [_whole_text(each) for each in value]
    if isinstance(value, Mapping):
        return {without_surrogates(key): _whole_text(each) for key, each in value.items()}
    return value


def _storable(kind: Any, depth: int = 0) -> bool:
    """Whether Parquet can hold it: no object without names, none with hundreds, not too deep."""
    if pa.types.is_struct(kind):
        inner = [kind.field(i).type for i in range(kind.num_fields)]
        if not 0 < len(inner) <= _MAX_FIELDS:
            return False
    else:
        inner = [kind.value_type] if pa.types.is_list(kind) else []
    return depth < _MAX_DEPTH and all(_storable(each, depth + 1) for each in inner)


def _new_arrays(
    scored: Sequence[Scored], prefix: str, warnings: list[str]
) -> list[tuple[Any, Any]]:
    types = (pa.float64(), pa.bool_(), *[pa.string()] * 5)
    lists = any(each.is_list for each in scored)
    rows = [new_values(each) for each in scored]
    if lists:
        rows = [
            row if each.is_list else [[value] for value in row]
            for row, each in zip(rows, scored, strict=True)
        ]
    arrays = []
    for index, (name, kind) in enumerate(zip(new_columns(prefix), types, strict=True)):
        values = [_cell(row[index]) for row in rows]
        clean = [_whole_text(value) for value in values]
        if clean != values:
            warnings.append(_SURROGATES.format(name))
        full = pa.list_(kind) if lists else kind
        arrays.append((pa.field(name, full, metadata=IS_NEW), pa.array(clean, full)))
    return arrays


def _cell(value: Any) -> Any:
    """A value of a new column; the parts as JSON text."""
    if isinstance(value, list):
        return [_cell(each) for each in value]
    return to_json(value) if isinstance(value, dict) else value
