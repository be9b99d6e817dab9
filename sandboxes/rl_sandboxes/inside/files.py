"""Files of a job: into its working folder, out of it, and away. No link is ever followed."""

from __future__ import annotations

import base64
import contextlib
import errno
import itertools
import os
import stat
import time
from collections.abc import Mapping, Sequence

from . import frames, linux

MAX_COLLECTED = 16 << 20


MAX_COUNTED = 5000


def open_folder(folder: str) -> int:
    """A folder of the job's, whose modes it may have changed."""
    os.chmod(folder, 0o700)
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


def put_files(work: str, files: Mapping[str, str]) -> None:
    """Write files (base64 by path) beneath the working folder."""
    root = open_folder(work)
    try:
        for path, content in files.items():
            put_file(root, path, base64.b64decode(content))
    finally:
        os.close(root)


def put_file(root: int, path: str, data: bytes) -> None:
    """Write one file beneath a folder's descriptor; parents are made.

    Raises:
        OSError: There is a link or no regular file at the path, or no room.
    """
    parents = path.split("/")[:-1]
    for depth in range(1, len(parents) + 1):
        _make_folder(root, "/".join(parents[:depth]))
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = linux.open_beneath(root, path, flags, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        frames.write_all(fd, data)
    finally:
        os.close(fd)


def _make_folder(root: int, path: str) -> None:
    parent, _, name = path.rpartition("/")
    where = linux.open_beneath(root, parent or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=where)
    finally:
        os.close(where)


def collect(
    work: str, paths: Sequence[str], max_bytes: int = MAX_COLLECTED
) -> tuple[dict[str, str], dict[str, str]]:
    """Regular files (base64 by path), and what is none, with why it was refused.

    Args:
        work: The folder that they are in.
        paths: Relative to it.
        max_bytes: Of all files together.
    """
    collected: dict[str, str] = {}
    refused: dict[str, str] = {}
    root = open_folder(work)
    try:
        for path in paths:
            try:
                data = get_file(root, path, max_bytes)
                collected[path] = base64.b64encode(data).decode()
                max_bytes -= len(data)
            except OSError as error:
                refused[path] = error.strerror or str(error)
    finally:
        os.close(root)
    return collected, refused


def get_file(root: int, path: str, max_bytes: int) -> bytes:
    """A regular file's bytes.

    Raises:
        OSError: It is missing, a link, no regular file, or over ``max_bytes``.
    """
    try:
        fd = linux.open_beneath(root, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EXDEV):
            raise OSError(errno.ELOOP, "a link") from None
        raise OSError(error.errno, os.strerror(error.errno or 0)) from None
    try:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if state.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"{state.st_size:,} bytes, over {max_bytes:,}")
        parts, left = [], max_bytes  # which may grow meanwhile
        while left > 0 and (part := os.read(fd, min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def counted(folder: str) -> int:
    """Bytes of the first entries of a folder; not all, as this is done while the clock runs."""
    total, seen, folders = 0, 0, [folder]
    while folders and seen < MAX_COUNTED:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    seen += 1
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except OSError:  # gone meanwhile, or its path is too long to be named
            continue
    return total


def empty(folder: str, timeout_s: float = 2.0) -> bool:
    """Delete what is in a folder, however deep and whatever its modes; False if some stays."""
    deadline = time.monotonic() + timeout_s
    fd = open_folder(folder)
    try:
        for name in os.listdir(fd):
            _delete(fd, name, deadline)
        return not os.listdir(fd)
    except OSError:
        return False
    finally:
        os.close(fd)


_moves = itertools.count()


def _delete(parent: int, name: str, deadline: float) -> None:
    """Delete an entry. Deep trees are flattened on the way: a folder's own folders move up."""
    queue = [name]
    while queue:
        if time.monotonic() > deadline:
            raise TimeoutError
        entry = queue.pop()
        mode = os.stat(entry, dir_fd=parent, follow_symlinks=False).st_mode
        if not stat.S_ISDIR(mode):
            os.unlink(entry, dir_fd=parent)
            continue
        os.chmod(entry, 0o700, dir_fd=parent)
        fd = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            queue += _hoist_folders(fd, parent)
        finally:
            os.close(fd)
        os.rmdir(entry, dir_fd=parent)


def _hoist_folders(fd: int, parent: int) -> list[str]:
    """Empty a folder: its files are deleted, its folders go to ``parent``; their new names."""
    moved = []
    for inner in os.listdir(fd):
        mode = os.stat(inner, dir_fd=fd, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            os.chmod(inner, 0o700, dir_fd=fd)
            name = f".{os.getpid()}.{next(_moves)}"
            os.rename(inner, name, src_dir_fd=fd, dst_dir_fd=parent)
            moved.append(name)
        else:
            os.unlink(inner, dir_fd=fd)
    return moved
