"""Whether the files of a box are what was asked for. The box's content is taken for hostile."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rl_envs.text.terminal_tasks.chore import Files, Item, start_mode
from rl_sandboxes import Entry, Tree
from rl_verifiers.score import Score

MAX_UNPACKED = 1 << 20
_BLOCK = 512


def judge(start: Files, goal: Files, tree: Tree, *, partial: bool = False) -> Score:
    """Compare what is there at the end with what should be.

    Args:
        start: What was there at first.
        goal: What should be; what is equal at the start is to be left alone.
        tree: What is there.
        partial: Give the share of the changes that were made, and 0 where something was damaged
            that was to be left alone, or where none was made.
    """
    if not tree.complete:
        return Score.wrong("more or larger files than any task asks for", status="over_limit")
    left_alone = {path for path, item in goal.items() if start.get(path) == item}
    damaged = [path for path in left_alone if not _untouched(goal[path], tree.entries.get(path))]
    if damaged:
        return Score.wrong(f"{min(damaged)!r:.200} was to be left alone")
    asked = {path: item for path, item in goal.items() if path not in left_alone}
    made = {path: _made(item, tree.entries.get(path)) for path, item in asked.items()}
    gone = {path: path not in tree.entries for path in start if path not in goal}
    strays = [
        path
        for path, entry in tree.entries.items()
        if entry.kind != "folder" and path not in goal and path not in start
    ]
    wrong = [path for path, right in {**made, **gone}.items() if not right]
    if not wrong and not strays:
        return Score.correct()
    why = f"{min(wrong)!r:.200} is not as asked" if wrong else f"{min(strays)!r:.200} is left over"
    value = 0.0
    if partial and any((made or gone).values()):  # what is merely gone says nothing
        done = [*made.values(), *gone.values(), not strays]
        value = sum(done) / len(done)
    return Score.wrong(why, value=value)


def _untouched(item: Item, entry: Entry | None) -> bool:
    if entry is None:
        return False
    if item["kind"] == "text":
        same = entry.kind == "file" and entry.data == item["text"].encode()
        return same and entry.mode == start_mode(item)
    return _made(item, entry)


def _made(item: Item, entry: Entry | None) -> bool:
    """Whether an entry is what was asked for."""
    if entry is None:
        return False
    if item["kind"] == "folder":
        return entry.kind == "folder"
    if item["kind"] == "link":
        return entry.kind == "link" and (entry.data or b"").rstrip(b"/") == item["target"].encode()
    if entry.kind != "file" or entry.data is None:
        return False
    mode = item.get("mode")
    return (mode is None or entry.mode == mode) and _CONTENT[item["kind"]](item, entry.data)


def _is_text(item: Item, data: bytes) -> bool:
    """The end of the last line may be missing, or be there twice; CSV writers end lines in CRLF."""
    return data.replace(b"\r\n", b"\n").rstrip(b"\n") == item["text"].encode().rstrip(b"\n")


def _is_json(item: Item, data: bytes) -> bool:
    try:
        return _canonical(json.loads(data)) == _canonical(item["value"])
    except (ValueError, RecursionError):
        return False


def _canonical(value: Any) -> str:
    """One text for each value; True is not 1, and 1 is not 1.0."""
    return json.dumps(value, sort_keys=True)


def _is_gzip(item: Item, data: bytes) -> bool:
    return _unzipped(data) == item["text"].encode()


def _unzipped(data: bytes) -> bytes | None:
    """What gunzip makes of it; None where it is none, or would be very large."""
    reader = zlib.decompressobj(wbits=31)
    try:
        content = reader.decompress(data, MAX_UNPACKED)
    except zlib.error:
        return None
    return content if reader.eof else None


def _is_tar(item: Item, data: bytes) -> bool:
    content = _unzipped(data)
    wanted = {name: body.encode() for name, body in item["files"].items()}
    found: dict[str, bytes] = {}
    try:
        for name, body in _members(content or b""):
            found[name] = body
    except ValueError:
        return False
    return found == wanted


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The regular files of a tar, each block looked at once.

    Raises:
        ValueError: It is broken, or holds what is neither a file nor a folder.
    """
    place = 0
    while place + _BLOCK <= len(data) and data[place] != 0:
        header = data[place : place + _BLOCK]
        size = int(header[124:136].split(b"\0")[0].strip() or b"0", 8)
        body = data[place + _BLOCK : place + _BLOCK + size]
        if not 0 <= size == len(body):
            raise ValueError("a member is cut")
        kind = header[156:157]
        if kind in (b"0", b"\0"):
            prefix = header[345:500] if header[257:263] == b"ustar\0" else b""
            parts = [part.split(b"\0")[0].decode() for part in (prefix, header[:100])]
            yield "/".join(part for part in parts if part).removeprefix("./"), body
        elif kind not in (b"5", b"x", b"g"):  # a folder, or notes on times
            raise ValueError("a member is neither a file nor a folder")
        place += _BLOCK + -(-size // _BLOCK) * _BLOCK


_CONTENT: Mapping[str, Callable[[Item, bytes], bool]] = {
    "text": _is_text,
    "json": _is_json,
    "gzip": _is_gzip,
    "tar": _is_tar,
}
