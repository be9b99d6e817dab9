"""The socket that a Docker daemon attaches to a container, as a plain socket to its runner.

The daemon puts eight bytes before every piece of output: which stream, three zeros, and the size
(four bytes, big-endian). They are taken off here; stdout is what is received, stderr is kept aside.
"""

from __future__ import annotations

import contextlib
import ssl
import struct
from collections.abc import Iterator
from typing import Any

_KEPT_STDERR = 4096
_STDOUT, _STDERR = 1, 2
_HEADER = struct.Struct(">BxxxI")
_READ = 1 << 18


class AttachedSocket:
    """One container's stdin (what is sent) and stdout (what is received); never blocks.

    Args:
        attached: What the SDK's ``attach_socket`` gave (over a Unix socket, TCP, TLS or SSH); it
            belongs to this object from now on.
    """

    def __init__(self, attached: Any) -> None:
        self._attached = attached
        self._socket = getattr(attached, "_sock", attached)
        self._socket.setblocking(False)
        self._raw = bytearray()
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._ended = False

    @property
    def stderr(self) -> str:
        """The last 4 KiB of the container's stderr that have come."""
        with contextlib.suppress(OSError):
            self._read_what_is_there()
        return self._stderr.decode("utf-8", "replace").strip()

    def fileno(self) -> int:
        """For ``select.poll``; -1 once closed."""
        return int(self._socket.fileno())

    def setblocking(self, flag: bool) -> None:
        """Nothing: it never blocks."""

    def send(self, data: bytes | memoryview) -> int:
        """Send some of the bytes; how many.

        Raises:
            BlockingIOError: There is no room now.
            OSError: The stream broke.
        """
        with _would_block():
            return int(self._socket.send(data))

    def recv(self, size: int) -> bytes:
        """Up to ``size`` bytes of stdout; empty at its end.

        Raises:
            BlockingIOError: There is none now.
            OSError: The stream broke, or is not what Docker documents.
        """
        if not self._stdout and not self._ended:
            self._read_once()
        if not self._stdout and not self._ended:
            raise BlockingIOError
        taken = bytes(memoryview(self._stdout)[:size])
        del self._stdout[:size]
        return taken

    def shutdown(self, how: int) -> None:
        """Cut both directions, which wakes whoever polls."""
        self._socket.shutdown(how)

    def close(self) -> None:
        """Give everything back. Idempotent."""
        response: Any = getattr(self._attached, "_response", None)
        for part in (response, self._attached, self._socket):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                part.close()

    def _read_what_is_there(self) -> None:
        while not self._ended:
            self._read_once()

    def _read_once(self) -> None:
        with _would_block():
            data = self._socket.recv(_READ)
        if data:
            self._raw += data
            self._take_pieces()
        else:
            self._ended = True

    def _take_pieces(self) -> None:
        raw, at = self._raw, 0
        while len(raw) - at >= _HEADER.size:
            stream, size = _HEADER.unpack_from(raw, at)
            if stream > _STDERR:
                raise OSError("the daemon's stream is not what Docker documents")
            end = at + _HEADER.size + size
            if end > len(raw):
                break
            if stream == _STDOUT:
                self._stdout += raw[at + _HEADER.size : end]
            elif stream == _STDERR:
                self._stderr = (self._stderr + raw[at + _HEADER.size : end])[-_KEPT_STDERR:]
            at = end
        del raw[:at]


@contextlib.contextmanager
def _would_block() -> Iterator[None]:
    """One exception for what TLS and SSH sockets say in other words."""
    try:
        yield
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        raise BlockingIOError from None
    except TimeoutError as error:
        if error.errno:  # the connection's end, not just now
            raise
        raise BlockingIOError from None
