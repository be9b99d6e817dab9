"""A short check that a sandbox keeps its word here, for its authors, its users and ``agent-rl``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from rl_sandboxes.attacks import AttackRow, grade
from rl_sandboxes.bait import Bait
from rl_sandboxes.types import Call, Guarantees, Job, Limits, Sandbox, SandboxError

ASPECTS: tuple[str, ...] = tuple(spec.name for spec in fields(Guarantees) if spec.name != "missing")
"""What a back end may promise: the fields of its Guarantees."""

_QUICK = {"wall_s": 1.0, "cpu_s": 1.0}
Probe = Callable[[Sandbox, Bait], Sequence[str]]


@dataclass(frozen=True)
class Check:
    """One thing that must hold.

    Attributes:
        name: What is looked at, in a few words.
        rests_on: The guarantee that promises it; empty for what every sandbox must do.
        probe: Looks; gives what is wrong, a line each.
    """

    name: str
    rests_on: str
    probe: Probe


@dataclass(frozen=True)
class Verdict:
    """What became of one check.

    Attributes:
        name: The check's.
        rests_on: The guarantee that promises it, or empty.
        promised: Whether this sandbox promises it.
        problems: What is wrong, a line each; empty where it holds.
        seconds: How long it took.
    """

    name: str
    rests_on: str
    promised: bool
    problems: tuple[str, ...]
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether a promise is broken."""
        return self.promised and bool(self.problems)


def check_sandbox(
    make: Callable[[], Sandbox], checks: Sequence[Check] | None = None
) -> list[Verdict]:
    """Try to break out of a sandbox, and see whether it does its work.

    Args:
        make: Makes the sandbox, with one worker; called once, when the bait is laid out. It is
            closed at the end.
        checks: What to look at; None for :data:`CHECKS`.

    Raises:
        SandboxError: It cannot be made.
    """
    with Bait() as bait:
        sandbox = make()
        try:
            promised = sandbox.guarantees()
            return [_look(check, sandbox, promised, bait) for check in checks or CHECKS]
        finally:
            sandbox.close()


def _look(check: Check, sandbox: Sandbox, promised: Guarantees, bait: Bait) -> Verdict:
    started = time.monotonic()
    try:
        problems = tuple(check.probe(sandbox, bait))
    except SandboxError as error:
        problems = (f"the sandbox failed: {error}",)
    is_promised = not check.rests_on or bool(getattr(promised, check.rests_on))
    seconds = round(time.monotonic() - started, 3)
    return Verdict(check.name, check.rests_on, is_promised, problems, seconds)


def _script(name: str, rests_on: str, expect: str, code: str, **more: Any) -> Check:
    """A check by a script that attacks; see ``rl_sandboxes.attacks``."""
    row: AttackRow = {"id": name, "category": "", "kind": "exec", "expect": expect, "code": code}
    row = {**row, "limits": _QUICK, "also": ["worker_alive"], **more}
    return Check(name, rests_on, lambda sandbox, bait: grade(sandbox, row, bait, slack_s=2.0))


_ENVIRONMENT = """
import glob, os
print(dict(os.environ))
for path in glob.glob('/proc/[0-9]*/environ'):
    try: print(open(path, 'rb').read())
    except OSError: pass
"""
_HOST_FILES = """
for path in ('{{CANARY_PATH}}', '/proc/1/root{{CANARY_PATH}}', '/etc/shadow'):
    try: print('BREACH', open(path).read())
    except OSError: pass
for path in ('{{CANARY_DIR}}/victim.txt', '{{CANARY_DIR}}/new.txt'):
    try: open(path, 'w').write('x'); print('BREACH')
    except OSError: pass
"""
_NETWORK = """
import socket
for family, kind, place in ((2, 1, ('127.0.0.1', {{HOST_PORT}})), (1, 1, '\\0{{ABSTRACT}}')):
    try: socket.socket(family, kind).connect(place); print('BREACH', place)
    except OSError: pass
try: socket.socket(2, 2).sendto(b'out', ('127.0.0.1', {{HOST_UDP_PORT}}))
except OSError: pass
"""
_OTHERS = """
import glob, os
for path in glob.glob('/proc/[0-9]*/cmdline'):
    try: print(open(path).read())
    except OSError: pass
for pid in ({{VICTIM_PID}}, os.getppid(), -1):
    try: os.kill(pid, 9)
    except OSError: pass
"""
_STAYS = """
import os, time
for path in ('note', '/tmp/note', '/dev/shm/note'):
    try: open(path, 'w').write('x')
    except OSError: pass
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(100)
    os._exit(0)
os.wait(); print('done')
"""
_FOUND = """
import os
left = [path for path in ('note', '/tmp/note', '/dev/shm/note') if os.path.exists(path)]
print('LEFT' if left else 'clean', left)
"""
_MEMORY = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        kept = bytearray(b'x') * (100 << 20); time.sleep(0.5); os._exit(0)
for _ in range(4): os.wait()
print('BREACH')
"""
_PROCESSES = """
import os, time
n = 0
try:
    while n < 200:
        if os.fork() == 0: time.sleep(100)
        n += 1
except OSError: pass
print('BREACH' if n >= 200 else 'BLOCKED', n)
"""
_DISK = """
import os
n = 0
for path in ('fill', '/tmp/fill'):
    try:
        with open(path, 'wb') as file:
            for n in range(100): file.write(b'x' * (1 << 20))
        print('BREACH')
    except OSError: pass
"""
_RIGHTS = """
import ctypes, os
libc = ctypes.CDLL(None)
for name, call in (('unshare', lambda: libc.unshare(0x10000000)),
                   ('setuid', lambda: libc.setuid(0)),
                   ('mount', lambda: libc.mount(b't', b'/tmp', b'tmpfs', 0, None)),
                   ('ptrace', lambda: libc.ptrace(16, os.getppid(), 0, 0))):
    if call() == 0 and not (name == 'setuid' and os.getuid() != 0): print('BREACH', name)
"""


def _answers(sandbox: Sandbox, bait: Bait) -> list[str]:
    code = "def f(x, *, y):\n    print('seen')\n    return {'sum': x + y, 'pair': (x, y)}\n"
    run = sandbox.run(Job.call(code, "f", [Call((1,), {"y": 2.5})])).run
    right = run.status == "ok" and run.returned and run.value == {"sum": 3.5, "pair": (1, 2.5)}
    return [] if right and run.stdout == "seen\n" else [f"a function call gave {run}"]


_FORGERIES = {
    "an early exit": "import os\ndef f(x):\n    os._exit(0)\n",
    "writing to every descriptor": (
        "import os\ndef f(x):\n    for fd in range(3, 64):\n        try: os.write(fd, b'13')\n"
        "        except OSError: pass\n    os._exit(0)\n"
    ),
    "an object that equals everything": (
        "class Any:\n    __eq__ = lambda self, other: True\ndef f(x):\n    return Any()\n"
    ),
    "a printed verdict": "def f(x):\n    print('13 passed')\n    raise SystemExit(0)\n",
}


def _is_not_forged(sandbox: Sandbox, bait: Bait) -> list[str]:
    found = []
    for name, code in _FORGERIES.items():
        run = sandbox.run(Job.call(code, "f", [Call((1,))])).run
        if run.returned or run.status == "ok":
            found.append(f"{name} counts as an answer: {run.value!r}")
    return found


def _reads_input(sandbox: Sandbox, bait: Bait) -> list[str]:
    runs = sandbox.run(Job.program("print(input()[::-1])", ["ab\n", "cd"])).runs
    shown = [run.stdout for run in runs]
    return [] if shown == ["ba\n", "dc\n"] else [f"a program printed {shown}"]


def _keeps_shell(sandbox: Sandbox, bait: Bait) -> list[str]:
    session = sandbox.session("bash", Limits(wall_s=5))
    try:
        session.run("cd /tmp && x='two words'")
        shown = session.run('echo "$PWD $x"').stdout
        return [] if shown.strip().endswith("two words") else [f"a later command shows {shown!r}"]
    finally:
        session.close()


CHECKS: tuple[Check, ...] = (
    Check("a function is called", "", _answers),
    Check("a program reads and prints", "", _reads_input),
    Check("a shell keeps its state", "", _keeps_shell),
    Check("no answer is forged", "", _is_not_forged),
    _script("secrets of the environment", "", "ok", _ENVIRONMENT, also=["no_secret"]),
    _script("a loop is ended", "", "timeout", "print(1, flush=True)\nwhile True: pass\n", must="1"),
    _script("a flood is cut", "", "any", "while True: print('spam ' * 200)\n",
            also=["output_truncated", "worker_alive"]),
    _script("a crash is told", "", "crash", "import os\nos.abort()\n"),
    _script("host files", "files", "denied", _HOST_FILES, also=["no_secret"]),
    _script("network", "network", "no_network", _NETWORK),
    _script("other processes", "processes", "any", _OTHERS,
            also=["no_host_processes", "worker_alive"]),
    _script("left-overs", "fresh", "ok", _STAYS, also=["processes_gone", "prompt_return"],
            second_code=_FOUND, second_must="clean"),
    _script("memory of a process tree", "memory", "memory_error", _MEMORY,
            accept=["error", "killed"], limits={"wall_s": 5.0}),
    _script("number of processes", "process_limit", "any", _PROCESSES),
    _script("size of files", "disk", "any", _DISK, limits={"wall_s": 5.0}),
    _script("rights", "system_calls", "denied", _RIGHTS),
)  # fmt: skip
"""What every sandbox is asked; a few seconds in all."""
