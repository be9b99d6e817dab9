"""The process that runs the code of strangers, from its fork to its end.

Whatever is said from here is the code's own word: values for the host to compare, never a verdict.
"""

import atexit
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

from . import linux, values

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


def confine(rules, limits):
    """Lower this process for good: limits, rights, system calls; then go to its folder."""
    linux.set_dumpable(True)  # so that its /proc/self is its own, as everywhere
    set_limits(limits)
    if rules.cgroups:
        for join in rules.cgroups.joins:
            os.write(join, b"0")
    if rules.shared:
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


def set_limits(limits):
    """Resource limits of a process; the tree is watched by the supervisor beside them."""
    mib = 1 << 20
    address_space = limits["memory_mb"] * 4 * mib + 512 * mib
    cpu = int(limits["cpu_s"]) + 2
    for kind, value in (
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_NPROC, int(limits["processes"]) + limits.get("spare_processes", 1)),
        (resource.RLIMIT_FSIZE, limits["disk_mb"] * mib),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 64 << 10),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        value = int(value)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(kind, (value, value))


def take_streams(stdin, stdout, stderr, value=None):
    """Put the pipes where they belong and close everything else."""
    os.setsid()
    numbers = [stdin, stdout, stderr] + ([] if value is None else [value])
    high = [os.dup(fd) if fd < len(numbers) else fd for fd in numbers]
    for target, fd in enumerate(high):
        os.dup2(fd, target, inheritable=True)


def run_shell(command):
    """Become bash; never returns."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execvpe("bash", ["bash", "--noprofile", "--norc", "-c", command], os.environ)


def fresh_streams():
    """Python's own streams, over the new pipes."""
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stderr = open(
        2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.argv = [FILE]
    random.seed(0)  # the same answer to the same question


def new_module(name, code):
    """An empty module under this name whose source tracebacks can show."""
    linecache.cache[FILE] = (len(code), None, code.splitlines(True), FILE)
    module = types.ModuleType(name)
    module.__file__ = FILE
    sys.modules[name] = module
    return module


def run_program(code):
    """Run source as a script, and end as the interpreter would."""
    with open(FILE, "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(code)  # multiprocessing's "spawn" reads it again
    status = _as_script(code)
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException:
        pass
    leave(status)


def _as_script(code):
    try:
        exec(compile(code, FILE, "exec", dont_inherit=True), new_module("__main__", code).__dict__)
    except SystemExit as end:
        return _exit_status(end.code)
    except BaseException as error:
        report({"exception": describe(error)})
        show(error)
        return 1
    return 0


def _exit_status(code):
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def run_call(code, entry_point, args, kwargs):
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
    try:
        said = {"value": values.encode(result)}
    except values.ValueRefused as error:
        said = {"refused": str(error)}
    except BaseException as error:
        said = {"refused": f"cannot be read: {type(error).__name__}"}
    report(said)
    leave(0)


def report(said):
    """Say something about the run to the host."""
    data = json.dumps(said, separators=(",", ":")).encode() + b"\n"
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(VALUE_FD, view) :]
    except OSError:
        pass  # the code closed it; nothing came, then


def describe(error):
    """``Name: message`` of an exception whose own methods may be anything."""
    try:
        message = str(error)
    except BaseException:
        message = "(no message)"
    if type(message) is not str:
        message = "(no message)"
    return f"{type(error).__name__}: {message}"[:500].encode("utf-8", "replace").decode()


def show(error):
    """Print the traceback from the stranger's first line on."""
    try:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != FILE:
            trace = trace.tb_next
        traceback.print_exception(type(error), error, trace, limit=-50)
    except BaseException:
        pass


def leave(status):
    """Flush what was printed and end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass
    os._exit(status)
