"""The inside of a worker process: its loop, its limits, and what code may ask about both."""

from __future__ import annotations

import math
import os
import pickle
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

HEADER = struct.Struct("!Q")
"""Every frame starts with its length."""
_PR_SET_PDEATHSIG = 1
_inside_worker = False
_has_deadline = False


class WorkerError(Exception):
    """A call gave no result."""


class WorkerLimitError(WorkerError):
    """The call used up its processor time or its deadline, or its memory."""


class _TimeUpError(BaseException):
    """Raised into a call that has used up its processor time; no ``except Exception`` stops it."""


def inside_worker() -> bool:
    """Whether this process is a worker: what would go to a worker runs here directly."""
    return _inside_worker


def run_inline(function: Callable[..., T], *arguments: Any, cpu_s: float) -> T:
    """Run ``function(*arguments)`` inside this worker, with limits of its own.

    A part of a large call that runs away so costs itself, not the call: a timer of processor time
    (not of the clock, and in no process of the user's) raises into Python code. What computes in C
    without looking up is left to the limit of the call, which kills. Outside a worker, or off its
    main thread, there is no limit.

    Raises:
        WorkerLimitError: It used up ``cpu_s`` processor seconds, or the worker's memory.
    """
    global _has_deadline  # noqa: PLW0603 - the signal handler reads it
    if not _inside_worker or threading.current_thread() is not threading.main_thread():
        return function(*arguments)
    outer, started = _has_deadline, time.process_time()
    try:
        _has_deadline = True
        rest = signal.setitimer(signal.ITIMER_PROF, cpu_s, 1.0)[0]
        return function(*arguments)
    except _TimeUpError:
        raise WorkerLimitError("processor time used up") from None
    except MemoryError:
        raise WorkerLimitError("out of memory") from None
    finally:
        _has_deadline = outer
        rest = max(1e-3, rest - (time.process_time() - started)) if outer else 0.0
        signal.setitimer(signal.ITIMER_PROF, rest, 1.0 if outer else 0.0)


def serve(memory_bytes: int, caller: int) -> None:
    """The main loop of a worker process.

    Args:
        memory_bytes: Limit of its address space.
        caller: Process id of the caller, with which it ends.
    """
    global _inside_worker  # noqa: PLW0603 - set once, before any call
    _inside_worker = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller; the pipe ends us
    signal.signal(signal.SIGPROF, _time_is_up)
    _end_with(caller)
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a function prints must not mix with the frames
    _limit("RLIMIT_AS", memory_bytes)
    _limit("RLIMIT_CORE", 0)
    while header := source.read(HEADER.size):
        frame = source.read(*HEADER.unpack(header))
        reply = _reply(frame)
        sink.write(HEADER.pack(len(reply)) + reply)
        sink.flush()


def _time_is_up(_signal: int, _frame: object) -> None:
    if _has_deadline:
        raise _TimeUpError


def _end_with(caller: int) -> None:
    """Have the kernel kill this process as soon as the caller is gone, where it can (Linux)."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - only here

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != caller:
            os._exit(0)


def _limit(resource_name: str, soft: int) -> None:
    """Lower a resource limit where the platform has it."""
    try:
        import resource  # noqa: PLC0415 - not on every platform

        kind = getattr(resource, resource_name)
        _, hard = resource.getrlimit(kind)
        soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(kind, (soft, hard))
    except (ImportError, AttributeError, ValueError, OSError):
        return


def _reply(frame: bytes) -> bytes:
    try:
        return pickle.dumps((True, _run(frame)))
    except BaseException as error:  # SystemExit and the like end the call, not the worker
        return pickle.dumps((False, (type(error).__name__, str(error)[:2000])))


def _run(frame: bytes) -> Any:
    function, arguments, cpu_s = pickle.loads(frame)
    # process_time counts from the start, as the limit does; the extra second is its grain.
    _limit("RLIMIT_CPU", math.ceil(time.process_time() + cpu_s) + 1)
    if isinstance(function, str):
        from rl_verifiers.targets import load_target  # noqa: PLC0415 - few calls need it

        function = load_target(function)
    return function(*arguments)
