"""The process that runs the code of strangers, from its fork to its end.

Whatever is said from here is the code's own word: values for the host to compare, never a verdict.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import atexit
import builtins
import contextlib
import json
import linecache
import os
import random
import resource
import signal
import sys
import threading
import traceback
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from . import frames, linux, values

if TYPE_CHECKING:
    from .box import Rules

FILE = "main.py"
VALUE_FD = 3
ENVIRONMENT = {
    "HOME": "/work",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp",
    "TERM": "dumb",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def confine(rules: Rules, limits: Mapping[str, float]) -> None:
    """Lower this process for good: limits, rights, system calls; then go to its folder."""
    linux.set_dumpable(True)  # so that its /proc/self is its own, as everywhere
    set_limits(limits, rules.own_user)
    if rules.shared or rules.cgroups:
        with open("/proc/self/oom_score_adj", "w") as file:  # be the first to go, not the runner
            file.write("1000")
    if rules.landlock:
        linux.landlock(*rules.landlock)
    linux.no_new_privileges()
    if rules.capable:
        linux.drop_capabilities()
    if rules.filter:
        linux.load_seccomp(rules.filter)
    os.chdir(rules.work)
    os.environ.clear()
    os.environ.update(ENVIRONMENT, HOME=rules.work, TMPDIR=rules.tmp, PATH=rules.path)


def set_limits(limits: Mapping[str, float], own_user: bool) -> None:
    """Resource limits of a process; the tree is watched by the supervisor beside them.

    Args:
        limits: See ``types.Limits``.
        own_user: No process but the job's (and its supervisor's) counts as this user's here.
    """
    mib = 1 << 20
    address_space = limits["memory_mb"] * 4 * mib + 512 * mib
    cpu = int(limits["cpu_s"]) + 2
    for kind, wanted in (
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, limits["disk_mb"] * mib),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 64 << 10),
        (resource.RLIMIT_MSGQUEUE, 0),
        *([(resource.RLIMIT_NPROC, limits["processes"] + 2)] if own_user else []),
    ):
        _, hard = resource.getrlimit(kind)
        value = int(wanted) if hard == resource.RLIM_INFINITY else min(int(wanted), hard)
        resource.setrlimit(kind, (value, value))


def take_streams(stdin: int, stdout: int, stderr: int, value: int | None = None) -> None:
    """Begin a session of one's own, with these descriptors as 0, 1, 2 and ``VALUE_FD``."""
    os.setsid()
    numbers = [stdin, stdout, stderr] + ([] if value is None else [value])
    high = [os.dup(fd) if fd < len(numbers) else fd for fd in numbers]
    for target, fd in enumerate(high):
        os.dup2(fd, target, inheritable=True)


def run_shell(command: str) -> NoReturn:
    """Become bash; never returns."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execvpe("bash", ["bash", "--noprofile", "--norc", "-c", command], os.environ)


def become_python() -> None:
    """What an interpreter has when it starts: streams (over the new pipes), arguments, signals."""
    sys.stdin = _opened(0, "r", "surrogateescape")
    sys.stdout = _opened(1, "w", "surrogateescape")
    sys.stderr = _opened(2, "w", "backslashreplace", buffering=1)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)  # without signal's enumerations
    sys.argv = [FILE]
    random.seed(0)  # the same answer to the same question


def _opened(fd: int, mode: str, errors: str, buffering: int = -1) -> Any:
    return open(fd, mode, buffering, encoding="utf-8", errors=errors, closefd=False)


def new_module(name: str, code: str) -> types.ModuleType:
    """An empty module under this name whose source tracebacks can show."""
    show_source(code)
    module = types.ModuleType(name)
    module.__file__ = FILE
    sys.modules[name] = module
    return module


def show_source(code: str) -> None:
    """Let tracebacks show this source."""
    linecache.cache[FILE] = (len(code), None, code.splitlines(True), FILE)


def run_program(code: str) -> NoReturn:
    """Run source as a script, and end as the interpreter would."""
    with open(FILE, "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(code)  # multiprocessing's "spawn" reads it again
    status = _as_script(code)
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:
        pass
    leave(status)


def _as_script(code: str) -> int:
    try:
        namespace = new_module("__main__", code).__dict__
        namespace["__builtins__"] = builtins  # the module, as in a program
        exec(compile(code, FILE, "exec", dont_inherit=True), namespace)
    except SystemExit as end:
        return _exit_status(end.code)
    except BaseException as error:
        report({"exception": describe(error)})
        show(error)
        return 1
    return 0


def _exit_status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def run_call(code: str, entry_point: str, args: list[Any], kwargs: Mapping[str, Any]) -> NoReturn:
    """Load source as a module, call a function in it, and send what it returns."""
    try:
        namespace = new_module("solution", code).__dict__
        exec(compile(code, FILE, "exec", dont_inherit=True), namespace)
        function = eval(entry_point, namespace)
        result = function(
            *(values.decode(item) for item in args),
            **{name: values.decode(item) for name, item in kwargs.items()},
        )
    except BaseException as error:
        report({"exception": describe(error)})
        show(error)
        leave(1)
    said: dict[str, Any]
    try:
        said = {"value": values.encode(result)}
    except values.ValueRefused as error:
        said = {"refused": str(error)}
    except BaseException as error:
        said = {"refused": f"cannot be read: {type(error).__name__}"}
    report(said)
    leave(0)


def report(said: Mapping[str, Any]) -> None:
    """Say something about the run to the host."""
    data = json.dumps(said, separators=(",", ":")).encode() + b"\n"
    with contextlib.suppress(OSError):  # the code closed it: then nothing came
        frames.write_all(VALUE_FD, data)


def describe(error: BaseException) -> str:
    """``Name: message`` of an exception whose own methods may be anything."""
    try:
        message = str(error)
    except BaseException:
        message = "(no message)"
    if type(message) is not str:
        message = "(no message)"
    return f"{type(error).__name__}: {message}"[:500].encode("utf-8", "replace").decode()


def show(error: BaseException) -> None:
    """Print the traceback from the stranger's first line on."""
    with contextlib.suppress(BaseException):
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != FILE:
            trace = trace.tb_next
        traceback.print_exception(type(error), error, trace, limit=-50)


def leave(status: int) -> NoReturn:
    """Flush what was printed and end."""
    flush()
    os._exit(status)


def flush() -> None:
    """Write what was printed, to streams that may be anything by now."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(BaseException):
            stream.flush()  # type: ignore[union-attr]
