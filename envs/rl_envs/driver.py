"""Waiting for async hooks from synchronous code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_thread: threading.Thread | None = None
_loop: asyncio.AbstractEventLoop | None = None


def _background_loop() -> asyncio.AbstractEventLoop:
    """One event loop in a daemon thread, started on first use and again after a fork."""
    global _thread, _loop  # noqa: PLW0603  # one loop per process is the point
    with _lock:
        if _thread is None or _loop is None or not _thread.is_alive():
            _loop = asyncio.new_event_loop()
            _thread = threading.Thread(target=_loop.run_forever, name="rl_envs", daemon=True)
            _thread.start()
        return _loop


def wait(awaitable: Awaitable[T]) -> T:
    """The result of ``awaitable``, whether or not this thread is running an event loop.

    One long-lived loop serves every call, so that an HTTP client kept by an environment stays on
    the loop it was opened on. A caller that is itself async should ``await`` instead: this blocks.
    """

    async def run() -> T:
        return await awaitable

    return asyncio.run_coroutine_threadsafe(run(), _background_loop()).result()
