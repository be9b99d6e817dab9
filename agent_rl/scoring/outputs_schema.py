"""One Arrow schema for parts that may differ, and their casting to it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agent_rl.scoring.outputs_tables import IS_JSON, IS_NEW, MIXED, json_array


class Uncastable(Exception):  # noqa: N818  # not an error of anyone's: the column becomes JSON text
    """A column's values do not all fit into the common type."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


@dataclass(frozen=True, slots=True)
class CommonSchema:
    """What all parts can be cast to.

    Attributes:
        schema: Of the output.
        as_json: Columns that are JSON text there because their values have no common type.
        warnings: One line for each of them.
    """

    schema: Any
    as_json: frozenset[str]
    warnings: list[str]

    def cast(self, table: Any) -> Any:
        """A part's table with this schema.

        Raises:
            Uncastable: A value does not fit.
        """
        if not self.as_json and table.schema.equals(self.schema):
            return table.replace_schema_metadata(self.schema.metadata)
        arrays = [self._column(table, field) for field in self.schema]
        return pa.table(arrays, schema=self.schema)

    def _column(self, table: Any, field: Any) -> Any:
        index = table.schema.get_field_index(field.name)
        if index < 0:
            return pa.nulls(table.num_rows, field.type)
        column, old = table.column(index), table.schema.field(index)
        if field.name in self.as_json:
            return column if _is(old, IS_JSON) else json_array(column.to_pylist())
        if _is(old, IS_NEW) and pa.types.is_list(field.type) and not pa.types.is_list(old.type):
            flat = column.combine_chunks()
            flat = flat.cast(field.type.value_type)
            return pa.ListArray.from_arrays(pa.array(range(len(flat) + 1), pa.int32()), flat)
        try:
            return column.cast(field.type)
        except (pa.ArrowException, ValueError) as error:
            raise Uncastable(field.name) from error


def common_schema(
    parts: Sequence[Path], columns: Sequence[str], as_json: Collection[str]
) -> CommonSchema:
    """The schema of all parts together.

    A column that is null somewhere takes the type it has elsewhere; numbers are widened; objects
    get the names of all; what has no common type is JSON text.

    Args:
        parts: Parquet files.
        columns: The order of the input's columns; others follow, the new ones are last.
        as_json: Columns that are to be JSON text.
    """
    fields: dict[str, Any] = dict.fromkeys(columns)
    metadata: list[Any] = []
    texts = set(as_json)
    before = None
    for part in parts:
        schema = pq.read_schema(part)
        if before is not None and schema.equals(before, check_metadata=True):
            continue
        before = schema
        metadata.append(schema.metadata)
        for field in schema:
            old = fields.get(field.name)
            both = field if old is None else _both(old, field)
            if both is None or _is(both, IS_JSON):
                texts.add(field.name)
            fields[field.name] = field if both is None else both
    found = [field for field in fields.values() if field is not None]
    ordered = [each for each in found if not _is(each, IS_NEW)]
    ordered += [each for each in found if _is(each, IS_NEW)]
    final = [
        pa.field(
            field.name, pa.string() if field.name in texts else field.type, metadata=_kept(field)
        )
        for field in ordered
    ]
    shared = metadata[0] if metadata and all(each == metadata[0] for each in metadata) else None
    warnings = [MIXED.format(field.name) for field in ordered if field.name in texts]
    return CommonSchema(pa.schema(final, metadata=shared), frozenset(texts), warnings)


def _is(field: Any, mark: dict[bytes, bytes]) -> bool:
    return bool(field.metadata) and field.metadata.get(b"agent_rl") == mark[b"agent_rl"]


def _kept(field: Any) -> Any:
    return {k: v for k, v in (field.metadata or {}).items() if k != b"agent_rl"} or None


def _both(old: Any, new: Any) -> Any:
    """A field that holds the values of both; None where there is none."""
    if old.type.equals(new.type):
        return new if _is(new, IS_JSON) else old
    for one, other in ((old, new), (new, old)):
        if _is(one, IS_JSON):
            return one
        if _is(one, IS_NEW) and pa.types.is_list(one.type) and not pa.types.is_list(other.type):
            return one
    try:
        schemas = [pa.schema([pa.field(each.name, each.type)]) for each in (old, new)]
        both = pa.unify_schemas(schemas, promote_options="permissive").field(0)
    except (pa.ArrowException, ValueError, TypeError):
        return None
    return pa.field(both.name, both.type, metadata=old.metadata)
