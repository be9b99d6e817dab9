"""Rows from JSONL, JSON, Parquet, CSV, a folder, a Hugging Face data set, or a Python list."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from rl_envs.tasks import DataError

Rows = list[dict[str, Any]]

_CSV_FIELD = 10_000_000  # characters; the default of the csv module is too small for transcripts


def load_rows(
    source: str | PathLike[str] | Iterable[Mapping[str, Any]],
    *,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Rows:
    """Reads a data set into memory.

    Args:
        source: A file (``.jsonl``, ``.json``, ``.parquet``, ``.csv``, each also ``.gz`` but
            Parquet), a folder of such files or one that ``datasets.save_to_disk`` wrote, a Hugging
            Face data set id (``owner/name``; needs the ``datasets`` package), or rows.
        split: For a Hugging Face data set: which split. For a folder: only the files whose name
            holds it, where there are any.
        columns: Renames: ``{"prompt": "their_name"}``.
        name: The configuration of a Hugging Face data set (``main`` for ``openai/gsm8k``).

    Raises:
        DataError: Missing, empty or broken data, or a column that is not there.
    """
    rows = _read(source, split, name)
    label = source if isinstance(source, str | PathLike) else "the given rows"
    if not rows:
        raise DataError(f"{label}: the data set is empty")
    return _renamed(rows, columns, str(label)) if columns else rows


def _read(source: Any, split: str | None, name: str | None) -> Rows:
    if not isinstance(source, str | PathLike):
        return [dict(row) for row in source]
    path = Path(source)
    if path.is_file():
        return _read_file(path)
    if path.is_dir():
        return _read_folder(path, split)
    if isinstance(source, str) and source.count("/") <= 1 and not path.suffix:
        return _read_hub(source, split, name)
    raise DataError(f"{source}: no such file or folder")


def _renamed(rows: Rows, columns: Mapping[str, str], label: str) -> Rows:
    theirs = {their: ours for ours, their in columns.items()}
    missing = [their for their in theirs if their not in rows[0]]
    if missing:
        raise DataError(
            f"{label}: no column {', '.join(map(repr, missing))}; "
            f"columns found: {', '.join(map(str, rows[0]))}"
        )
    return [{theirs.get(key, key): value for key, value in row.items()} for row in rows]


def _read_file(path: Path) -> Rows:
    kind = path.suffixes[-2] if path.suffix == ".gz" and len(path.suffixes) > 1 else path.suffix
    reader = READERS.get(kind)
    if reader is None:
        raise DataError(f"{path}: cannot read {kind or 'a file without a suffix'}; {_KINDS}")
    return reader(path)


def _read_folder(path: Path, split: str | None) -> Rows:
    if (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists():
        return _from_disk(path, split)
    files = sorted(file for file in path.iterdir() if _readable(file))
    named = [file for file in files if split and split in file.name]
    if not files:
        raise DataError(f"{path}: no data file in this folder; {_KINDS}")
    return [row for file in named or files for row in _read_file(file)]


def _readable(file: Path) -> bool:
    kinds = file.suffixes[-2:] if file.suffix == ".gz" else file.suffixes[-1:]
    return file.is_file() and any(kind in READERS for kind in kinds)


def _text(path: Path) -> str:
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as file:
            return str(file.read()).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _read_jsonl(path: Path) -> Rows:
    rows = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            rows.append(_row(path, number, line))
    return rows


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {number}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(
            f"{path}, line {number}: a row must be an object, not {line.strip()[:40]!r}"
        )
    return row


def _read_json(path: Path) -> Rows:
    text = _text(path)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); one object per line is .jsonl") from error
    lists = [value for value in data.values() if isinstance(value, list)] if _is_row(data) else []
    rows = lists[0] if len(lists) == 1 else data
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise DataError(f"{path}: expected a list of objects")
    return rows


def _is_row(value: Any) -> bool:
    return isinstance(value, dict)


def _read_csv(path: Path) -> Rows:
    csv.field_size_limit(_CSV_FIELD)
    reader = csv.DictReader(io.StringIO(_text(path), newline=""))
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise DataError(f"{path}, line {reader.line_num}: not as many fields as columns")
            rows.append(dict(row))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    return rows


def _read_parquet(path: Path) -> Rows:
    import pyarrow as pa  # noqa: PLC0415  # heavy, and only for this
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        rows: Rows = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file ({error})") from error
    return rows


READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
_KINDS = f"known: {', '.join(READERS)} (text ones also .gz)"


def _datasets(wanted: str) -> Any:
    try:
        import datasets  # noqa: PLC0415  # an optional extra
    except ImportError as error:
        raise DataError(
            f"{wanted}: no such file or folder here, and reading it as a Hugging Face data set "
            "needs `pip install agent-rl[hub]`"
        ) from error
    return datasets


def _read_hub(data_id: str, split: str | None, name: str | None) -> Rows:
    datasets = _datasets(data_id)
    try:
        table = datasets.load_dataset(data_id, name, split=split or "train")
    except Exception as error:  # the package raises its own, the network's and the hub's kinds
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{data_id}: the data set could not be loaded ({first}); offline, give a local file"
        ) from error
    return [dict(row) for row in table]


def _from_disk(path: Path, split: str | None) -> Rows:
    """A folder that ``datasets.save_to_disk`` wrote: Arrow streams, read without that package."""
    import pyarrow as pa  # noqa: PLC0415  # heavy, and only for this

    folder = path
    if (path / "dataset_dict.json").exists():
        splits = json.loads(_text(path / "dataset_dict.json"))["splits"]
        wanted = split or "train"
        if wanted not in splits:
            raise DataError(f"{path}: no split {wanted!r}; it has {', '.join(splits)}")
        folder = path / wanted
    state = json.loads(_text(folder / "state.json"))
    rows: Rows = []
    for file in state["_data_files"]:
        with pa.memory_map(str(folder / file["filename"])) as stream:
            rows.extend(pa.ipc.open_stream(stream).read_all().to_pylist())
    return rows
