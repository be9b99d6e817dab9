"""Copies of what cannot be split: compressed text, JSON lists, standard input, big tables, the hub.

A copy is written under a temporary name and renamed, so one that is there is complete.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import hashlib
import json
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from agent_rl.errors import UserError
from agent_rl.scoring import inputs_text
from agent_rl.scoring.inputs_tables import TableCopy, arrow_tables, parquet_tables
from agent_rl.scoring.whole import whole

_CHUNK = 2**20
_LEAST_FREE = 2**30
"""Unpacking stops when the disk has less than this, or than a twentieth of itself."""


def spooled(spool: Path, key: str, suffix: str, write: Callable[[Path], None]) -> Path:
    """The copy of this key, made by ``write(temporary_path)`` unless it is there.

    Args:
        spool: The folder of copies; made where needed.
        key: What the copy is of; equal keys, equal copies.
        suffix: Of the file.
        write: Makes it.

    Raises:
        UserError: The disk is full, or the folder cannot be written.
    """
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()
    path = spool / f"{digest}{suffix}"
    if not path.exists():
        with whole(path) as temporary:
            write(temporary)
    return path


def unpack(source: Path, target: Path) -> None:
    """Write the content of a ``.gz`` file; of lines over the limit, no more than the limit.

    Raises:
        UserError: The file is damaged or cut off, or would fill the disk.
    """
    with target.open("wb") as out:
        for piece in _bounded(_unpacked(source)):
            out.write(piece)
            _check_room(target, out.tell(), len(piece), str(source))


def _unpacked(source: Path) -> Iterator[bytes]:
    lines = 0
    try:
        with gzip.open(source, "rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
                lines += chunk.count(b"\n")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{source}: the compressed data is damaged or cut off after line {lines} ({error}); "
            "get the file again, or keep what is whole: gzip -dc FILE > NEW"
        ) from error


def _check_room(target: Path, written: int, new: int, name: str) -> None:
    if written // (64 * _CHUNK) != (written - new) // (64 * _CHUNK):
        total, _, free = shutil.disk_usage(target.parent)
        if free < min(_LEAST_FREE, total // 20):
            raise UserError(
                f"{name}: unpacking it fills the disk ({written / 1e9:.1f} GB so far); "
                "make room, or split the file"
            )


def _bounded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same text, but of lines over the limit just enough to be seen as such."""
    most = inputs_text.MAX_LINE + 1
    used = 0  # bytes of the line that the chunk goes on with
    for chunk in chunks:
        end = chunk.find(b"\n")
        head = len(chunk) if end < 0 else end
        yield chunk if used + head <= most else chunk[: max(0, most - used)] + chunk[head:]
        last = chunk.rfind(b"\n")
        used = used + len(chunk) if last < 0 else len(chunk) - last - 1


def standard_input(spool: Path) -> Path:
    """Standard input as a file of JSON Lines.

    A job that is resumed finds the copy. Then what is piped in again must be the same, or nothing.

    Raises:
        UserError: It is a terminal, or other text than at first.
    """
    path = spool / "stdin.jsonl"
    again = spool / "stdin.again.jsonl"
    if sys.stdin is None or sys.stdin.isatty():
        if path.exists():
            return path
        raise UserError("-: standard input is a terminal; pipe JSON Lines into the command")
    with whole(again) as temporary:
        with temporary.open("wb") as out:
            source = sys.stdin.buffer
            for piece in _bounded(iter(lambda: source.read(_CHUNK), b"")):
                out.write(piece)
                _check_room(temporary, out.tell(), len(piece), "-")
        if path.exists():
            same = temporary.stat().st_size in {0, path.stat().st_size}
            if not same or (temporary.stat().st_size and _digest(temporary) != _digest(path)):
                raise UserError(
                    "-: standard input is not what this job began with; give the same text, "
                    "nothing (< /dev/null), or another --output"
                )
    if path.exists():
        again.unlink()
    else:
        again.replace(path)
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def json_lines(name: str, opened: Callable[[], BinaryIO], target: Path) -> None:
    """Write the rows of a JSON file, a list or an object with one list, one on each line.

    The text of each row stays as it is but for line breaks between its tokens.

    Raises:
        UserError: The file is no such list.
    """
    with opened() as file, target.open("wb") as out:
        text = _JsonText(name, file)
        for row in _json_rows(text):
            out.write(row.replace("\n", " ").replace("\r", " ").encode("utf-8") + b"\n")


def _json_rows(text: _JsonText) -> Iterator[str]:
    if text.peek() == "[":
        yield from _json_list(text)
    elif text.peek() == "{":
        text.skip()
        lists = []
        while text.peek() != "}":
            key = text.value()
            text.expect(":")
            if text.peek() == "[":
                lists.append(key)
                if len(lists) > 1:
                    raise text.error(f"expected one list of objects, not {' and '.join(lists)}")
                yield from _json_list(text)
            else:
                text.value()
            if text.peek() != "}":
                text.expect(",")
        text.skip()
        if not lists:
            raise text.error("expected a list of objects, or an object that has one")
    else:
        raise text.error("expected a list of objects; one object per line is .jsonl")
    if text.peek():
        raise text.error("there is something behind the list; one object per line is .jsonl")


def _json_list(text: _JsonText) -> Iterator[str]:
    text.skip()
    while text.peek() != "]":
        yield text.value()
        if text.peek() != "]":
            text.expect(",")
            if text.peek() == "]":
                raise text.error("a comma before the end of the list")
    text.skip()


class _JsonText:
    """A JSON text that is read value by value; keeps no more than one value in memory."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name, self._file = name, file
        self._decoder = json.JSONDecoder(parse_int=str)  # the values are not used
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._ended, self._row = "", 0, False, 0

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text) or not self._more(_CHUNK):
                return self._text[self._at : self._at + 1]

    def skip(self) -> None:
        """Pass over one character."""
        self._at += 1

    def expect(self, character: str) -> None:
        """Pass over this character, which must come next."""
        if self.peek() != character:
            raise self.error(f"not JSON: expected {character!r}, found {self.peek()!r}")
        self.skip()

    def value(self) -> str:
        """The text of the next value."""
        self.peek()
        self._row += 1
        size = _CHUNK
        while True:
            try:
                _, end = self._decoder.raw_decode(self._text, self._at)
                if end < len(self._text) or not self._more(size):  # a number may go on
                    value, self._at = self._text[self._at : end], end
                    return value
            except (ValueError, RecursionError) as error:
                reason = getattr(error, "msg", "nested too deeply")
                if len(self._text) - self._at > inputs_text.MAX_LINE or not self._more(size):
                    raise self.error(f"not JSON: {reason}") from error
            size *= 2

    def error(self, reason: str) -> UserError:
        """To raise."""
        return UserError(f"{self._name}: {reason}, at value {self._row}")

    def _more(self, size: int) -> bool:
        """Read on; False at the end."""
        if self._ended:
            return False
        try:
            chunk = self._file.read(size)
            self._ended = not chunk
            self._text = self._text[self._at :] + self._decode.decode(chunk, self._ended)
        except UnicodeDecodeError as error:
            raise self.error(f"not UTF-8 text ({error.reason})") from error
        except (OSError, EOFError, zlib.error) as error:
            raise self.error(f"cannot be read ({error})") from error
        self._at = 0
        return True


def looks_like_lines(source: Path, opened: Callable[[], BinaryIO]) -> bool:
    """Whether a ``.json`` file holds an object on each of its first lines, and is JSON Lines."""
    with contextlib.suppress(OSError, EOFError, zlib.error), opened() as file:
        first, second = file.readline(_CHUNK), file.readline(_CHUNK)
        found = inputs_text.parse_row(first.removeprefix(codecs.BOM_UTF8))
        return isinstance(found, dict) and second.lstrip()[:1] == b"{"
    return False


def cut_up_table(source: Path, kind: str, rows: int, target: Path) -> None:
    """Write the rows of a Parquet file or Arrow stream in small batches."""
    read = parquet_tables if kind == "parquet" else arrow_tables
    TableCopy(target, rows).write(read(source))


def hub_table(data_id: str, split: str | None, name: str | None, rows: int, target: Path) -> None:
    """Write a Hugging Face data set as an Arrow stream.

    Raises:
        UserError: There is no such data set, or it cannot be loaded.
    """
    try:
        import datasets  # noqa: PLC0415  # an optional extra
    except ImportError as error:
        raise UserError(
            f"{data_id}: no such file or folder here, and reading it as a Hugging Face data set "
            "needs `pip install agent-rl[hub]`"
        ) from error
    try:
        table: Any = datasets.load_dataset(data_id, name, split=split or "train")
    except Exception as error:  # the package raises its own, the network's and the hub's kinds
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{data_id}: the data set could not be loaded ({first}); offline, give a local file"
        ) from error
    if not len(table):
        raise UserError(f"{data_id}: the data set is empty: there is no row in it")
    batches = table.with_format("arrow").iter(batch_size=rows)
    TableCopy(target, rows).write(iter(batches))
