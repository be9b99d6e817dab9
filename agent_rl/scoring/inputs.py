"""The input side of scoring: what the user named becomes spans, and a span becomes records."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from agent_rl.errors import UserError
from agent_rl.scoring import inputs_spool, inputs_tables, inputs_text
from agent_rl.scoring.inputs_tables import read_table
from agent_rl.scoring.inputs_text import Cut
from agent_rl.scoring.types import Plan, Record, Reject, Span

__all__ = ["plan", "read", "read_table"]

KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv"}
_KNOWN = f"known: {', '.join([*KINDS, '.parquet'])} (text ones also .gz)"
_MB = 2**20
OF_OTHER_JOBS = (".summary.json", ".rejects.jsonl")
"""Endings of what stands beside an output; no data in a folder."""
_FIRST_ROWS = 1000
"""Rows of a JSON Lines input whose names are looked at."""


@dataclass(frozen=True, slots=True)
class _Source:
    """One input: its name, how to read it, and what tells it from another version of itself."""

    name: str
    kind: str  # jsonl, json, csv, parquet or arrow; hub and stdin have no path
    path: Path | None = None
    packed: bool = False

    def identity(self) -> str:
        """Size, time of change, and a digest of the first and last megabyte."""
        assert self.path is not None
        status = self.path.stat()
        ends = _ends(self.path, status.st_size)
        return f"{self.path.resolve()} {status.st_mtime_ns} {ends}"

    def opened(self) -> BinaryIO:
        """Its bytes, unpacked."""
        assert self.path is not None
        return gzip.open(self.path, "rb") if self.packed else self.path.open("rb")  # type: ignore[return-value]


def plan(
    sources: Sequence[str],
    spool: Path,
    *,
    rows_per_span: int = 1000,
    split: str | None = None,
    name: str | None = None,
    skip: Sequence[Path] = (),
) -> Plan:
    """Cut the inputs into spans.

    Args:
        sources: Files (``.jsonl .ndjson .json .csv``, each also ``.gz``; ``.parquet``), folders of
            such files or one that ``datasets.save_to_disk`` wrote, Hugging Face data set ids, or
            ``-`` for JSON Lines on standard input.
        spool: A folder of the job for copies of what cannot be split; made where needed. Complete
            copies found there are used again.
        rows_per_span: The most rows of a span; it has fewer where rows are large.
        split: As in :func:`rl_envs.files.load_rows`.
        name: The configuration of a Hugging Face data set.
        skip: Files that are no inputs though they stand in a folder that is: former outputs.

    Raises:
        UserError: Missing, empty or broken inputs, or the same file twice.
    """
    found = [(source, _found(source, split, skip)) for source in sources]
    _refuse_twice([each for _, inputs in found for each in inputs])
    settings = f"{rows_per_span} {split} {name}\n"
    digest = hashlib.blake2b(settings.encode("utf-8", "surrogatepass"), digest_size=16)
    spans: list[Span] = []
    columns: dict[str, None] = {}
    schemas: list[Any] = []
    for label, inputs in found:
        before = len(spans)
        for source in inputs:
            ready = _prepare(source, spool, rows_per_span, split, name)
            digest.update(f"{source.name} {ready.identity}\n".encode("utf-8", "surrogatepass"))
            new = list(ready.spans(source.name, len(spans)))
            names, schema = _columns(ready, new)
            spans.extend(new)
            columns.update(dict.fromkeys(names))
            schemas.append(schema)
        if len(spans) == before:
            raise UserError(f"{label}: the data set is empty: there is no row in it")
    if not spans:
        raise UserError("no input: give a file, a folder, a data set id, or - for standard input")
    one = schemas[0] is not None and all(
        each is not None and schemas[0].equals(each) for each in schemas
    )
    rows = sum(span.rows for span in spans)
    return Plan(spans, rows, list(columns), digest.hexdigest(), schemas[0] if one else None)


def read(span: Span) -> Iterator[Record | Reject]:
    """The rows of a span in order, as records, or as rejects where a row is broken.

    Raises:
        UserError: The file is gone or has changed since it was planned.
    """
    readers: dict[str, Callable[[Span], Iterator[Record | Reject]]] = {
        "jsonl": inputs_text.read_jsonl,
        "csv": inputs_text.read_csv,
        "parquet": inputs_tables.read_rows,
        "arrow": inputs_tables.read_rows,
    }
    return readers[span.kind](span)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A file that can be split, and where."""

    path: Path
    kind: str
    identity: str
    cuts: Sequence[Cut]

    def spans(self, name: str, index: int) -> Iterator[Span]:
        """Its spans; ``index`` is the number of the first."""
        for number, cut in enumerate(self.cuts, start=index):
            yield Span(
                number,
                self.path.absolute(),  # a verifier may change the working directory
                name,
                self.kind,
                cut.start,
                cut.stop,
                cut.line,
                cut.rows,
                cut.group,
            )


def _prepare(
    source: _Source, spool: Path, rows: int, split: str | None, name: str | None
) -> _Ready:
    """The source itself, or its copy, and where to cut it."""
    if source.path is None:
        if source.kind == "stdin":
            path, kind = inputs_spool.standard_input(spool), "jsonl"
        else:
            write = partial(inputs_spool.hub_table, source.name, split, name, rows)
            key = f"hub {source.name} {split} {name} {rows}"
            path, kind = inputs_spool.spooled(spool, key, ".arrow", write), "arrow"
        status = path.stat()
        return _Ready(path, kind, _ends(path, status.st_size), _cuts(path, kind, rows) or [])
    try:
        identity = source.identity()
        path, kind = _text_path(source, spool, identity)
        cuts = _cuts(path, kind, rows)
        if cuts is None:
            write = partial(inputs_spool.cut_up_table, path, kind, rows)
            path = inputs_spool.spooled(spool, f"table {identity} {rows}", ".arrow", write)
            kind, cuts = "arrow", _cuts(path, "arrow", rows) or []
    except OSError as error:
        raise UserError(f"{source.name}: cannot be read ({error.strerror or error})") from error
    return _Ready(path, kind, identity, cuts)


def _text_path(source: _Source, spool: Path, identity: str) -> tuple[Path, str]:
    """The file itself or an unpacked copy, and its kind: no longer ``json``."""
    assert source.path is not None
    kind = source.kind
    if kind == "json" and inputs_spool.looks_like_lines(source.path, source.opened):
        kind = "jsonl"
    if kind == "json":
        write = partial(inputs_spool.json_lines, source.name, source.opened)
        return inputs_spool.spooled(spool, f"json {identity}", ".jsonl", write), "jsonl"
    if source.packed:
        write = partial(inputs_spool.unpack, source.path)
        return inputs_spool.spooled(spool, f"gz {identity}", f".{kind}", write), kind
    return source.path, kind


def _cuts(path: Path, kind: str, rows: int) -> list[Cut] | None:
    cutters: dict[str, Callable[[Path, int], Iterable[Cut] | None]] = {
        "jsonl": inputs_text.cut_lines,
        "csv": inputs_text.cut_csv,
        "parquet": inputs_tables.cut_parquet,
        "arrow": inputs_tables.cut_arrow,
    }
    cuts = cutters[kind](path, rows)
    return None if cuts is None else list(cuts)


def _columns(ready: _Ready, spans: Sequence[Span]) -> tuple[Sequence[str], Any]:
    """Names of the columns, and the schema of a table."""
    if ready.kind == "csv":
        return inputs_text.csv_header(ready.path)[0], None
    if ready.kind == "jsonl":
        names: dict[str, None] = {}
        found = itertools.chain.from_iterable(map(read, spans))
        rows = (record for record in found if isinstance(record, Record))
        for record in itertools.islice(rows, _FIRST_ROWS):
            names.update(dict.fromkeys(record.row))
        return list(names), None
    schema = inputs_tables.table_schema(ready.path, ready.kind)
    return schema.names, schema


def _ends(path: Path, size: int) -> str:
    """Digest of the size, and of the first and last megabyte."""
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as file:
        digest.update(file.read(_MB))
        file.seek(max(0, size - _MB))
        digest.update(file.read(_MB))
    return digest.hexdigest()


def _found(source: str, split: str | None, skip: Sequence[Path]) -> list[_Source]:
    """The inputs that a person's word stands for."""
    path = Path(source)
    if source == "-":
        return [_Source("-", "stdin")]
    if path.is_file():
        return [_file(path)]
    if path.is_dir():
        return _folder(path, split, skip)
    if source.count("/") <= 1 and not path.suffix and source:
        return [_Source(source, "hub")]
    raise UserError(f"{source}: no such file or folder")


def _file(path: Path) -> _Source:
    packed = path.suffix == ".gz"
    suffix = (path.suffixes[-2:-1] or [""])[0] if packed else path.suffix
    if suffix == ".parquet" and not packed:
        return _Source(str(path), "parquet", path)
    if suffix not in KINDS:
        raise UserError(f"{path}: cannot read {suffix or 'a file without a suffix'}; {_KNOWN}")
    return _Source(str(path), KINDS[suffix], path, packed)


def _folder(path: Path, split: str | None, skip: Sequence[Path]) -> list[_Source]:
    if (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists():
        return _saved(path, split)
    files = []
    left_out = {each.resolve() for each in skip}
    for each in sorted(path.iterdir()):
        is_other = each.name.endswith(OF_OTHER_JOBS) or each.resolve() in left_out
        if each.is_file() and not is_other:
            with contextlib.suppress(UserError):
                files.append(_file(each))
    named = [each for each in files if split and split in Path(each.name).name]
    if not files:
        raise UserError(f"{path}: no data file in this folder; {_KNOWN}")
    return named or files


def _saved(path: Path, split: str | None) -> list[_Source]:
    """A folder that ``datasets.save_to_disk`` wrote: Arrow streams."""
    folder = path
    if (path / "dataset_dict.json").exists():
        splits = _json(path / "dataset_dict.json", "splits")
        wanted = split or (splits[0] if len(splits) == 1 else "train")
        if wanted not in splits:
            raise UserError(f"{path}: no split {wanted!r}; it has {', '.join(splits)}: --split")
        folder = path / wanted
    files = [folder / each["filename"] for each in _json(folder / "state.json", "_data_files")]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: missing, though state.json names it; save the data again")
    return [_Source(str(file), "arrow", file) for file in files]


def _json(path: Path, key: str) -> list[Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not as datasets.save_to_disk writes it ({error!r})") from error
    return list(value)


def _refuse_twice(sources: Sequence[_Source]) -> None:
    seen: dict[Any, str] = {}
    for source in sources:
        status = source.path.stat() if source.path else None
        key = (status.st_dev, status.st_ino) if status else source.name
        if key in seen:
            also = f" (also as {seen[key]})" if seen[key] != source.name else ""
            raise UserError(f"{source.name}: this input is given twice{also}")
        seen[key] = source.name
