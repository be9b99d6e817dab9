"""JSON Lines and CSV: where spans begin, and the rows in them, at memory bounded by a line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from agent_rl.errors import UserError
from agent_rl.runs.text import clip
from agent_rl.scoring.types import Record, Reject, Span

MAX_LINE = 64 * 2**20
"""Bytes of a line, and of a CSV field, that are read; a longer one is a reject."""

MAX_DEPTH = 200
"""Objects and lists within each other; Python cannot write much deeper ones back."""

SPAN_BYTES = 16 * 2**20
"""A span ends once it has as many bytes, however few rows that is."""

TEXT_CHARS = 10_000
"""Characters of a broken line that a reject keeps."""

_CHUNK = 2**20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Cut:
    """A piece of a file that can be read by itself; fields as of :class:`Span`."""

    start: int
    stop: int
    line: int
    rows: int
    group: int = 0


def cut_lines(path: Path, rows_per_span: int) -> Iterator[Cut]:
    """Pieces of a text file with a row on each line; their ``rows`` are the lines not empty.

    Raises:
        UserError: The file is UTF-16 text.
    """
    with path.open("rb") as file:
        first = base = end = start_of_text(file, str(path))  # of the piece, of the chunk, of a line
        line, lines, rows = 1, 0, 0  # first of the piece, how many in it, how many not empty
        last = b"\n"
        while chunk := file.read(_CHUNK):
            array = np.frombuffer(chunk, np.uint8)
            ends = np.flatnonzero(array == 10) + (base + 1)
            full = _not_empty(ends, end, last + chunk, base)
            done = 0
            while done < len(ends):
                by_bytes = int(np.searchsorted(ends, first + SPAN_BYTES))
                cut = max(done, min(done + rows_per_span - lines - 1, by_bytes))
                until = min(cut + 1, len(ends))
                lines += until - done
                rows += int(np.count_nonzero(full[done:until]))
                done = until
                if cut < len(ends):
                    if rows:
                        yield Cut(first, int(ends[cut]), line, rows)
                    first, line, lines, rows = int(ends[cut]), line + lines, 0, 0
            base += len(chunk)
            end = int(ends[-1]) if len(ends) else end
            last = chunk[-1:]
        rows += base > end
        if rows:
            yield Cut(first, base, line, rows)


def _not_empty(ends: Any, before: int, text: bytes, base: int) -> Any:
    r"""For each end of a line whether more than ``\n`` or ``\r\n`` stands before it.

    Args:
        ends: Offsets behind each newline of a chunk.
        before: The end of the line before them.
        text: The last byte of the chunk before, and the chunk.
        base: The offset of the chunk.
    """
    lengths = np.diff(ends, prepend=before)
    full = lengths > 1
    for i in np.flatnonzero(lengths == 2):
        full[i] = text[int(ends[i]) - base - 1] != 13
    return full


def start_of_text(file: BinaryIO, name: str) -> int:
    """The offset behind a byte order mark; the file stands there then.

    Raises:
        UserError: The mark is one of UTF-16.
    """
    head = file.read(len(_BOM))
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise UserError(f"{name}: UTF-16 text; write it as UTF-8 (iconv -f utf-16 -t utf-8)")
    start = len(_BOM) if head == _BOM else 0
    file.seek(start)
    return start


def raw_lines(span: Span) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line of a span; of a line over the limit, its beginning only.

    Raises:
        UserError: The file is shorter than it was.
    """
    with _opened(span) as file:
        number, left = span.line, span.stop - span.start
        while left > 0:
            raw = file.readline(min(MAX_LINE + 1, left))
            left -= len(raw)
            yield number, raw
            if len(raw) > MAX_LINE and not raw.endswith(b"\n"):
                left -= _skip_line(file, left)
            number += 1


def _opened(span: Span) -> BinaryIO:
    file = span.path.open("rb")
    if file.seek(0, 2) < span.stop:
        file.close()
        raise UserError(f"{span.name}: the file has changed since the job began; start a new job")
    file.seek(span.start)
    return file


def _skip_line(file: BinaryIO, most: int) -> int:
    """Skip to the next line; how many bytes that was."""
    skipped = 0
    while skipped < most:
        piece = file.readline(min(_CHUNK, most - skipped))
        skipped += len(piece)
        if piece.endswith(b"\n") or not piece:
            break
    return skipped


def read_jsonl(span: Span) -> Iterator[Record | Reject]:
    """The rows of a JSON Lines span; empty lines are no rows.

    Raises:
        UserError: The file is shorter than it was.
    """
    for number, raw in raw_lines(span):
        if raw.isspace():
            continue
        row = parse_row(raw)
        if isinstance(row, str):
            yield _reject(span, number, row, raw)
        else:
            yield Record(number, row)


def _reject(span: Span, line: int, error: str, raw: bytes) -> Reject:
    """A reject; ``raw`` may be more than is kept."""
    text = raw[: 4 * TEXT_CHARS + 4].decode("utf-8", "replace").rstrip("\r\n")
    return Reject(span.name, line, error, text[:TEXT_CHARS])


class _TwiceError(ValueError):
    """A name occurs twice in an object."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _TwiceError(f"the name {clip(twice, 80)!r} occurs twice in one object")
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def parse_row(raw: bytes) -> dict[str, Any] | str:
    """A line's object, or what is wrong with it."""
    if len(raw) > MAX_LINE:
        return f"the line is longer than {MAX_LINE / 2**20:g} MB"
    try:
        row = _DECODER.decode(raw.rstrip(b"\r\n").decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return _reason(error)
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _depth(row) > MAX_DEPTH:
        return f"nested deeper than {MAX_DEPTH} levels"
    if not isinstance(row, dict):
        return f"a row must be an object, not {clip(raw.decode().strip(), 40)!r}"
    return row


def _depth(value: Any) -> int:
    """How many objects and lists are within each other."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [
            inner for each in level for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return depth


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text: {error.reason} at byte {error.start + 1}"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at character {error.pos + 1}"
    if isinstance(error, _TwiceError):
        return str(error)
    if isinstance(error, RecursionError):
        return f"nested deeper than {MAX_DEPTH} levels"
    return "an integer of more than 4,300 digits"  # int(): sys.get_int_max_str_digits()


class _CsvLines:
    """The lines of a CSV file for :func:`csv.reader`, and where in the file they are.

    Attributes:
        offset: Of the end of the last line given out.
        line: Its number.
        broken: Where a line since :meth:`begin` is no UTF-8 text: what is wrong.
        raw: The beginning of what was given out since then.
    """

    def __init__(self, file: BinaryIO, start: int, stop: int, line: int) -> None:
        self._file, self._stop = file, stop
        self._read_to = start
        self._waiting: list[bytes] = []
        self.offset, self.line = start, line - 1
        self.broken, self.raw = "", b""

    def begin(self) -> None:
        """A new record begins."""
        self.broken, self.raw = "", b""

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        if not self._waiting:
            self._fill()
        raw = self._waiting.pop()
        self.offset += len(raw)
        self.line += 1
        if len(self.raw) < 4 * TEXT_CHARS:
            self.raw += raw[: 4 * TEXT_CHARS]
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            self.broken = self.broken or f"not UTF-8 text: {error.reason} in line {self.line}"
            return raw.decode("utf-8", "replace")

    def _fill(self) -> None:
        if self._read_to >= self._stop:
            raise StopIteration
        raw = self._file.readline(min(MAX_LINE + 1, self._stop - self._read_to))
        self._read_to += len(raw)
        if len(raw) > MAX_LINE and not raw.endswith(b"\n"):
            self._read_to += _skip_line(self._file, self._stop - self._read_to)
            self.offset, self.line = self._read_to, self.line + 1
            self.raw = self.raw or raw[: 4 * TEXT_CHARS]
            raise csv.Error("long")
        # as in a text file with newline="": a lone \r ends a line, too
        self._waiting = raw.splitlines(keepends=True)[::-1] if b"\r" in raw else [raw]


class _CsvRecord(NamedTuple):
    """Fields, or what is wrong, of the record that ends at ``stop``."""

    line: int
    stop: int
    fields: Sequence[str]
    error: str
    raw: bytes


def _csv_records(lines: _CsvLines) -> Iterator[_CsvRecord]:
    """The records of a CSV file exactly as :mod:`csv` has them."""
    csv.field_size_limit(MAX_LINE)
    reader = csv.reader(lines)
    while True:
        lines.begin()
        first, fields, error = lines.line + 1, [], ""
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:  # the one case: too long; the reader goes on with the next line
            error = f"a line or field longer than {MAX_LINE / 2**20:g} MB (an open quote?)"
        yield _CsvRecord(first, lines.offset, fields, error or lines.broken, lines.raw)


def csv_header(path: Path) -> tuple[list[str], int, int]:
    """The columns of a CSV file, the offset behind them, and the number of the next line.

    Raises:
        UserError: There is a name twice, or the header is no text. An empty file has no columns.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        lines = _CsvLines(file, start_of_text(file, str(path)), size, 1)
        header = next((each for each in _csv_records(lines) if each.fields or each.error), None)
        if header is None:
            return [], size, lines.line + 1
        if header.error:
            raise UserError(f"{path}, line {header.line}: the header is {header.error}")
        names = list(header.fields)
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise UserError(f"{path}: the column {twice[0]!r} is there twice; rename one of them")
        return names, header.stop, lines.line + 1


def cut_csv(path: Path, rows_per_span: int) -> Iterator[Cut]:
    """Pieces of a CSV file behind its header.

    Raises:
        UserError: The header cannot be used.
    """
    _, start, line = csv_header(path)
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(start)
        lines = _CsvLines(file, start, size, line)
        rows = 0
        for record in _csv_records(lines):
            rows += bool(record.fields or record.error)
            if rows >= rows_per_span or record.stop - start >= SPAN_BYTES:
                if rows:
                    yield Cut(start, record.stop, line, rows)
                start, line, rows = record.stop, lines.line + 1, 0
        if rows:
            yield Cut(start, size, line, rows)


def read_csv(span: Span) -> Iterator[Record | Reject]:
    """The rows of a CSV span; every value is text.

    Raises:
        UserError: The file is shorter than it was.
    """
    names, _, _ = csv_header(span.path)
    with _opened(span) as file:
        lines = _CsvLines(file, span.start, span.stop, span.line)
        for record in _csv_records(lines):
            error = record.error
            if not error and not record.fields:
                continue
            if not error and len(record.fields) != len(names):
                error = f"{len(record.fields)} fields, but there are {len(names)} columns"
            if error:
                yield _reject(span, record.line, error, record.raw)
            else:
                yield Record(record.line, dict(zip(names, record.fields, strict=True)))
