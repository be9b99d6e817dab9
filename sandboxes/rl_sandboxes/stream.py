"""A worker behind a process's standard streams."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from rl_sandboxes.inside.frames import MAX_FRAME, pack
from rl_sandboxes.pool import WorkerLostError


class StreamWorker:
    """Speaks frames over a socket to a runner.

    Args:
        stream: Connected to the runner's standard input and output.
        end: Ends the runner and everything in it.
        describe: What is known of why it ended, for messages.
        oom_kills: How many of its processes the kernel has ended for memory, so far.
    """

    def __init__(
        self,
        stream: socket.socket,
        end: Callable[[], None],
        describe: Callable[[], str] = lambda: "",
        oom_kills: Callable[[], int] = lambda: 0,
    ) -> None:
        self._stream = stream
        self._end = end
        self._describe = describe
        self._oom_kills = oom_kills
        self._oom_kills_before = 0
        self._lock = threading.Lock()
        self._ended = False
        stream.setblocking(False)

    def send(self, data: bytes, deadline: float) -> None:
        """Write bytes.

        Raises:
            WorkerLostError: The stream broke or the deadline (``time.monotonic``) passed.
        """
        view = memoryview(data)
        while view:
            try:
                view = view[self._stream.send(view) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline)
            except OSError as error:
                raise self._lost(str(error)) from None

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next message.

        Raises:
            WorkerLostError: The stream broke, or is none, or the deadline passed.
        """
        size = int.from_bytes(self._exactly(4, deadline), "big")
        if size > MAX_FRAME:
            raise self._lost(f"an answer of {size:,} bytes")
        try:
            message = json.loads(self._exactly(size, deadline))
        except (ValueError, RecursionError):
            raise self._lost("an answer that is no JSON") from None
        if not isinstance(message, dict):
            raise self._lost("an answer that is no object")
        return message

    def request(self, frame: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a message and wait for the answer.

        Raises:
            WorkerLostError: No answer, and there will be none.
        """
        deadline = time.monotonic() + timeout_s
        self._oom_kills_before = self._oom_kills()
        self.send(pack(frame), deadline)
        return self.receive(deadline)

    def kill(self) -> None:
        """End it and everything in it, now."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for an answer
        self._end()
        self._stream.close()

    def _exactly(self, size: int, deadline: float) -> bytes:
        parts = []
        while size:
            try:
                part = self._stream.recv(min(size, 1 << 20))
            except BlockingIOError:
                self._wait(select.POLLIN, deadline)
                continue
            except OSError as error:
                raise self._lost(str(error)) from None
            if not part:
                raise self._lost("it ended")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _wait(self, event: int, deadline: float) -> None:
        left = deadline - time.monotonic()
        poll = select.poll()
        try:
            poll.register(self._stream, event)
        except ValueError:
            raise self._lost("it was ended") from None
        if left <= 0 or not poll.poll(left * 1000):
            raise self._lost("it did not answer in time")

    def _lost(self, what: str) -> WorkerLostError:
        more = self._describe().strip()
        error = WorkerLostError(
            f"a worker was lost: {what}" + (f" ({more[-1500:]})" if more else "")
        )
        error.out_of_memory = self._oom_kills() > self._oom_kills_before
        return error
