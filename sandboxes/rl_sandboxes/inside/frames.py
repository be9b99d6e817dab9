"""Length-prefixed JSON over file descriptors: four bytes of big-endian length, then UTF-8."""

import json
import os
import struct

_HEADER = struct.Struct(">I")
MAX_FRAME = 256 << 20


class FrameError(Exception):
    """The stream ended or is not what it should be."""


def read_exactly(fd, size):
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


def read_frame(fd):
    """The next message.

    Raises:
        FrameError: The stream ended, or its length is absurd.
    """
    (size,) = _HEADER.unpack(read_exactly(fd, _HEADER.size))
    if size > MAX_FRAME:
        raise FrameError(f"a frame of {size:,} bytes")
    return json.loads(read_exactly(fd, size))


def pack(message):
    """The bytes of a message."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return _HEADER.pack(len(body)) + body


def write_all(fd, data):
    """Write every byte."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
