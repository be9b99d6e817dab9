"""Length-prefixed JSON over file descriptors: four bytes of big-endian length, then UTF-8."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

_HEADER = struct.Struct(">I")
MAX_FRAME = 256 << 20


class FrameError(Exception):
    """The stream ended or is not what it should be."""


def read_exactly(fd: int, size: int) -> bytes:
    """``size`` bytes.

    Raises:
        FrameError: The stream ended before.
    """
    parts = []
    while size:
        part = os.read(fd, min(size, 1 << 20))
        if not part:
            raise FrameError("the stream ended")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def read_frame(fd: int) -> tuple[dict[str, Any], int]:
    """The next message, and its length in bytes.

    Raises:
        FrameError: The stream ended, or its length is absurd.
    """
    (size,) = _HEADER.unpack(read_exactly(fd, _HEADER.size))
    if size > MAX_FRAME:
        raise FrameError(f"a frame of {size:,} bytes")
    message: dict[str, Any] = json.loads(read_exactly(fd, size))
    return message, size


def pack(message: dict[str, Any]) -> bytes:
    """The bytes of a message."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return _HEADER.pack(len(body)) + body


def write_all(fd: int, data: bytes) -> None:
    """Write every byte."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
