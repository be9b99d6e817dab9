"""Running a tool so that a slow one delays nobody and a hanging one is left behind."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import inspect
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from rl_envs.tools.tool import Tool, ToolError, ToolFailure, ToolFault
from rl_sandboxes import SandboxError

MAX_THREADS = 1024
FAULTS = (NameError, AttributeError, ImportError, TypeError)
"""What a tool raises by its author's mistake, not by what the policy asked for."""


class ToolTimeout(Exception):  # noqa: N818 - what happened to a call
    """A call took longer than it may."""


async def call(tool: Tool, arguments: Mapping[str, Any], timeout_s: float) -> Any:
    """What a tool returns.

    A coroutine is awaited and cancelled at the limit. A plain function runs in a thread, which
    cannot be ended: at the limit it is left behind and another takes its place. Where all threads
    are busy, the call waits for one; that wait does not count. An ``inline`` one runs here and has
    no limit.

    Args:
        tool: Which.
        arguments: As the function takes them.
        timeout_s: Longest time in seconds, unless the tool has a limit of its own.

    Raises:
        ToolTimeout: It took longer.
        ToolFailure: The tool says so (or a sandbox does, also in a group of errors), or no thread
            is left to run it.
        ToolFault: The tool raised one of ``FAULTS``.
        ToolError: Whatever else the tool raised.
        CancelledError: The caller was cancelled.
    """
    try:
        if not tool.inline:
            return await _called(tool, arguments, timeout_s)
        result = tool.function(**arguments)
        return (
            result if isinstance(result, str) or not inspect.isawaitable(result) else await result
        )
    except (ToolError, ToolFailure, ToolTimeout, KeyboardInterrupt, GeneratorExit):
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ToolError(told(error)) from error  # the tool's own
    except BaseException as error:
        ours = _ours(error)
        if ours is not None:
            raise ToolFailure(str(ours)) from error
        kind = ToolFault if isinstance(error, FAULTS) else ToolError
        raise kind(told(error)) from error


async def _called(tool: Tool, arguments: Mapping[str, Any], timeout_s: float) -> Any:
    attempt = _Attempt()
    token = _attempt.set(attempt)
    try:
        return await _within_limit(tool, arguments, timeout_s)
    except (ToolTimeout, asyncio.CancelledError, GeneratorExit):
        attempt.is_left = True
        raise
    finally:
        _attempt.reset(token)


async def _within_limit(tool: Tool, arguments: Mapping[str, Any], timeout_s: float) -> Any:
    limit = timeout_s if tool.timeout_s is None else tool.timeout_s
    if inspect.iscoroutinefunction(tool.function):
        work = tool.function(**arguments)
    else:
        thread = await _free_thread()
        work = _run_in(thread, lambda: tool.function(**arguments))
    try:
        async with asyncio.timeout(limit) as deadline:
            result = await work
            return await result if inspect.isawaitable(result) else result
    except TimeoutError:
        if not deadline.expired():  # the tool's own
            raise
        raise ToolTimeout(f"no answer within {limit:g} s") from None


class _Attempt:
    """A call under way, or left behind."""

    is_left = False


_attempt: contextvars.ContextVar[_Attempt | None] = contextvars.ContextVar("attempt", default=None)


def is_left_behind() -> bool:
    """Whether what asks runs in a call whose time was up: it has no part in the episode any more.

    Such a thread cannot be ended, and the environment may long play another episode.
    """
    attempt = _attempt.get()
    return attempt is not None and attempt.is_left


def told(error: BaseException) -> str:
    """An error in words, whatever its class does when it is asked."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except Exception:
        return name


def _ours(error: BaseException) -> BaseException | None:
    """Our own failure in an error, if there is one; task groups wrap what is raised inside them."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for each in error.exceptions if (found := _ours(each))), None)
    return error if isinstance(error, ToolFailure | SandboxError) else None


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
            _give_back(self)


_lock = threading.Lock()
_idle: list[_Thread] = []
_waiting: deque[concurrent.futures.Future[_Thread]] = deque()
_started = 0
_hanging = 0  # threads whose call was left behind


async def _free_thread() -> _Thread:
    """A thread without work. Where all are busy it waits for one, unless all hang.

    Raises:
        ToolFailure: All hang, or the system starts no more.
    """
    global _started  # noqa: PLW0603 - threads are the process's
    with _lock:
        if _idle:
            return _idle.pop()
        waiter: concurrent.futures.Future[_Thread] | None = None
        if _started < MAX_THREADS:
            _started += 1
        elif _hanging < MAX_THREADS:
            waiter = concurrent.futures.Future()
            _waiting.append(waiter)
        else:
            raise _all_hang()
    if waiter is None:
        return _new_thread()
    try:
        return await asyncio.wrap_future(waiter)
    except ToolFailure:
        raise
    except BaseException:  # cancelled; the thread may have been handed over just now
        if not waiter.cancel() and waiter.exception() is None:
            _give_back(waiter.result())
        raise


def _new_thread() -> _Thread:
    global _started  # noqa: PLW0603 - threads are the process's
    try:
        return _Thread()
    except RuntimeError as error:
        with _lock:
            _started -= 1
        raise ToolFailure(f"no thread for a tool: {error}") from error


def _give_back(thread: _Thread) -> None:
    """Hands a thread to who waits for one."""
    while True:
        with _lock:
            if not _waiting:
                _idle.append(thread)
                return
            waiter = _waiting.popleft()
        if waiter.set_running_or_notify_cancel():
            waiter.set_result(thread)
            return


def _all_hang() -> ToolFailure:
    return ToolFailure(f"{MAX_THREADS} tool calls hang in threads; no more can be made")


class _Hang:
    """Counts a thread as hanging from when its call was left behind until it comes back."""

    def __init__(self) -> None:
        self._left = self._back = False

    def leave(self) -> None:
        """The call was left behind."""
        global _hanging  # noqa: PLW0603 - threads are the process's
        stranded: list[concurrent.futures.Future[_Thread]] = []
        with _lock:
            if not self._back:
                self._left = True
                _hanging += 1
                if _hanging >= MAX_THREADS:
                    stranded += _waiting
                    _waiting.clear()
        for waiter in stranded:
            if waiter.set_running_or_notify_cancel():
                waiter.set_exception(_all_hang())

    def come_back(self) -> None:
        """The thread is done with it."""
        global _hanging  # noqa: PLW0603 - threads are the process's
        with _lock:
            self._back = True
            _hanging -= self._left


async def _run_in(thread: _Thread, function: Callable[[], Any]) -> Any:
    """The result of a function, computed in a thread."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()
    hang = _Hang()

    def hand_over(value: Any, error: BaseException | None) -> None:
        if future.done():  # nobody waits any more
            return
        if error is None:
            future.set_result(value)
            return
        carried = isinstance(error, Exception | BaseExceptionGroup)
        if not carried or isinstance(error, StopIteration):  # it would end the loop
            error = ToolError(f"the tool raised {told(error)}")
        future.set_exception(error)

    def job() -> None:
        value, error = None, None
        try:
            value = context.run(function)
        except BaseException as raised:
            error = raised
        hang.come_back()
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(hand_over, value, error)

    thread.jobs.put(job)
    try:
        return await future
    except (asyncio.CancelledError, GeneratorExit):
        hang.leave()
        raise


def _forget_after_fork() -> None:
    global _started, _hanging, _lock  # noqa: PLW0603 - no thread survives a fork
    _lock = threading.Lock()  # another thread may have held it
    _idle.clear()
    _waiting.clear()
    _started = _hanging = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
