"""A task in a folder: its files at first and at the end, a command that does it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

Item = Mapping[str, Any]
"""What stands at a path, plain data with a ``kind``: see the functions below."""

Files = dict[str, Item]
"""What stands where; folders above files need no entry."""


@dataclass(frozen=True, slots=True)
class Chore:
    """A task in a folder.

    Attributes:
        question: As the policy is asked.
        start: The files at first.
        goal: The files at the end: those that are as at first are to be left alone, and there are
            to be no others.
        solution: A bash command that does it.
    """

    question: str
    start: Files
    goal: Files
    solution: str


Family = Callable[[Random, int], Chore]
"""Draws a task of a difficulty from 1 to 3."""


def text(content: str, mode: int | None = None) -> Item:
    """A file. At the start its mode is 644 where none is given; at the end any will do."""
    return {"kind": "text", "text": content, "mode": mode}


def lines(rows: list[str], mode: int | None = None) -> Item:
    """A file of these lines."""
    return text("".join(f"{row}\n" for row in rows), mode)


def folder() -> Item:
    """A folder that may be empty."""
    return {"kind": "folder"}


def link(target: str) -> Item:
    """A symbolic link."""
    return {"kind": "link", "target": target}


def json_file(value: Any) -> Item:
    """At the end: a file with this value as JSON, in any layout."""
    return {"kind": "json", "value": value}


def gzip_file(content: str) -> Item:
    """At the end: a file that gunzip makes this of."""
    return {"kind": "gzip", "text": content}


def tar_file(files: Mapping[str, str]) -> Item:
    """At the end: a tar, compressed by gzip, of exactly these files."""
    return {"kind": "tar", "files": dict(files)}


def packed(start: Files) -> bytes:
    """The files at first as a tar."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, item in start.items():
            member = tarfile.TarInfo(path)
            member.mtime = 1_700_000_000
            content = b""
            if item["kind"] == "folder":
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            elif item["kind"] == "link":
                member.type, member.linkname = tarfile.SYMTYPE, item["target"]
            else:
                content = item["text"].encode()
                member.mode = start_mode(item)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def start_mode(item: Item) -> int:
    """The permission bits of a file at first."""
    return 0o644 if item["mode"] is None else int(item["mode"])
