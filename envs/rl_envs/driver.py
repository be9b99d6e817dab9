"""Event loops in threads of their own, and waiting for async hooks from synchronous code."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """An event loop in a daemon thread, started on first use and again in a forked process.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._left: list[asyncio.AbstractEventLoop] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, which runs."""
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name=self._name, daemon=True).start()
                self._loop = loop
            return self._loop

    @property
    def is_started(self) -> bool:
        """Whether this process has used it."""
        return self._loop is not None

    def run(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Starts a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def wait(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """The result of a coroutine that runs on the loop; blocks.

        Raises:
            TimeoutError: It took longer than ``timeout_s`` seconds.
        """
        return self.run(work).result(timeout_s)

    def _forget(self) -> None:
        """In a forked process: no thread came along, and one that is gone may hold the lock."""
        if self._loop is not None:
            self._left.append(self._loop)  # to close it would reach into the parent's selector
        self._loop, self._lock = None, threading.Lock()


_hooks = BackgroundLoop("rl_envs")


def wait(awaitable: Awaitable[T]) -> T:
    """The result of ``awaitable``, whether or not this thread is running an event loop.

    One long-lived loop serves every call, so that an HTTP client kept by an environment stays on
    the loop it was opened on. A caller that is itself async should ``await`` instead: this blocks.
    """

    async def run() -> T:
        return await awaitable

    return _hooks.wait(run())
