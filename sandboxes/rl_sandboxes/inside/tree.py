"""The whole working folder of a box in which nothing runs any more. No link is followed."""

from __future__ import annotations

import base64
import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any

from . import files, linux

MAX_PATH = 1000
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


def read_tree(work: str, max_entries: int, max_bytes: int) -> dict[str, Any]:
    """All that is beneath a folder.

    Only to be called once every process that could change it has been ended.

    Args:
        work: The folder.
        max_entries: Files, folders and others that are listed at most.
        max_bytes: Of all files together; the data of those beyond is left out.

    Returns:
        ``entries``: ``[path, kind, mode, size, data]`` each, path and data in base64, data None for
        what has none or was left out; and whether that is ``complete``.
    """
    entries: list[list[Any]] = []
    complete, left = True, max_bytes
    root = files.open_folder(work)
    try:
        folders = [b""]
        while folders:
            above = folders.pop()
            for path, state in _listed(root, above):
                if len(entries) >= max_entries or len(path) > MAX_PATH:
                    return {"entries": entries, "complete": False}
                kind, data = _kind(state.st_mode), None
                if kind == "folder":
                    folders.append(path)
                elif kind == "file" and state.st_size <= left:
                    data = _data(root, path, state)
                elif kind == "link":
                    data = os.readlink(b"./" + path, dir_fd=root)
                if data is not None:
                    left -= len(data)
                complete = complete and (data is not None or kind in ("folder", "other"))
                mode, size = stat.S_IMODE(state.st_mode), state.st_size
                entries.append([_text(path), kind, mode, size, _text(data)])
    finally:
        os.close(root)
    return {"entries": entries, "complete": complete}


def _listed(root: int, above: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    with _opened(root, above or b".", os.O_DIRECTORY) as fd, os.scandir(fd) as found:
        for entry in found:
            name = os.fsencode(entry.name)
            path = above + b"/" + name if above else name
            yield path, os.stat(entry.name, dir_fd=fd, follow_symlinks=False)


def _data(root: int, path: bytes, state: os.stat_result) -> bytes | None:
    """A regular file's bytes; its size is known, and nobody is left to change it."""
    with _opened(root, path, 0) as fd:
        parts, left = [], state.st_size
        while left > 0 and (part := os.read(fd, min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


@contextlib.contextmanager
def _opened(root: int, path: bytes, kind: int) -> Iterator[int]:
    """A file or folder, whose modes the code may have set so that its user cannot read it."""
    name, mode = os.fsdecode(path), None
    try:
        fd = linux.open_beneath(root, name, _READ | kind)
    except PermissionError:
        mode = stat.S_IMODE(os.stat(path, dir_fd=root, follow_symlinks=False).st_mode)
        os.chmod(path, 0o700, dir_fd=root)  # no link: it was looked at, and nothing runs
        fd = linux.open_beneath(root, name, _READ | kind)
    try:
        yield fd
    finally:
        if mode is not None:
            os.fchmod(fd, mode)
        os.close(fd)


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()
