"""Running a tool so that a slow one delays nobody and a hanging one is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from rl_envs.tools.tool import Tool, ToolFailure

MAX_THREADS = 1024


class ToolTimeout(Exception):  # noqa: N818 - what happened to a call
    """A call took longer than it may."""


async def call(tool: Tool, arguments: Mapping[str, Any], timeout_s: float) -> Any:
    """What a tool returns.

    A coroutine is awaited and cancelled at the limit. A plain function runs in a thread, which
    cannot be ended: at the limit it is left behind and another takes its place. An ``inline`` one
    runs here and has no limit.

    Args:
        tool: Which.
        arguments: As the function takes them.
        timeout_s: Longest time in seconds, unless the tool has a limit of its own.

    Raises:
        ToolTimeout: It took longer.
        ToolFailure: Too many calls hang.
        BaseException: Whatever the tool raised.
    """
    if tool.inline:
        return tool.function(**arguments)
    limit = timeout_s if tool.timeout_s is None else tool.timeout_s
    if inspect.iscoroutinefunction(tool.function):
        work = tool.function(**arguments)
    else:
        work = _in_thread(lambda: tool.function(**arguments))
    try:
        async with asyncio.timeout(limit) as deadline:
            result = await work
            return await result if inspect.isawaitable(result) else result
    except TimeoutError:
        if not deadline.expired():  # the tool's own
            raise
        raise ToolTimeout(f"no answer within {limit:g} s") from None


class _Thread:
    """A daemon thread that runs one function after another."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="rl_envs_tool", daemon=True).start()

    def _run(self) -> None:
        while True:
            job = self.jobs.get()
            job()
            del job
            with _lock:
                _idle.append(self)


_lock = threading.Lock()
_idle: list[_Thread] = []
_started = 0


def _free_thread() -> _Thread:
    global _started  # noqa: PLW0603 - threads are the process's
    with _lock:
        if _idle:
            return _idle.pop()
        if _started >= MAX_THREADS:
            raise ToolFailure(f"{MAX_THREADS} tool calls are running or hanging in threads")
        _started += 1
    return _Thread()


def _forget_after_fork() -> None:
    global _started  # noqa: PLW0603 - no thread survives a fork
    _idle.clear()
    _started = 0


def _in_thread(function: Callable[[], Any]) -> asyncio.Future[Any]:
    """The result of a function, computed in a thread of its own."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def hand_over(value: Any, error: BaseException | None) -> None:
        if future.done():  # nobody waits any more
            return
        if error is None:
            future.set_result(value)
        elif isinstance(error, StopIteration):  # a future cannot carry it
            future.set_exception(RuntimeError("the tool raised StopIteration"))
        else:
            future.set_exception(error)

    def job() -> None:
        value, error = None, None
        try:
            value = context.run(function)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(hand_over, value, error)

    _free_thread().jobs.put(job)
    return future


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
