"""The persistent bash or Python of a session, its commands, and processes beside it.

A command's end is a message of the shell on a descriptor of its own, so that a background process
which holds the output open is not waited for.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from . import cells, child, linux, supervisor
from .box import Box, send
from .cells import COMMANDS, ERR, OUT, STATUS

# A command has none of the shell's descriptors, and its own 1 and 2.
_LOOP = (
    f'while IFS= read -r -d "" -u {COMMANDS} REPLY; do echo >&{STATUS}; eval "$REPLY" '
    f"1>&{OUT} 2>&{ERR} {OUT}>&- {ERR}>&- {COMMANDS}<&- {STATUS}>&-; "
    f"printf '{{\"code\":%d}}\\n' $? >&{STATUS}; done"
)
_FIRST_LOOK_S = 0.01
_LOOK_S = 0.025
_ANSWER_S = 5.0
_MAX_SAID = 4096
_F_SETPIPE_SZ = 1031  # a name of Python's from 3.10 on


class RefusedError(Exception):
    """A request that cannot be done; the message says why."""


class Shell:
    """The persistent bash or Python, and the descriptors to speak with it.

    Args:
        box: The world that it lives in.
        limits: Of the session.
        kind: ``bash`` or ``python``.
    """

    def __init__(self, box: Box, limits: Mapping[str, float], kind: str) -> None:
        self.box, self.limits, self.kind = box, limits, kind
        self.beside: Callable[[], None] = lambda: None  # called now and then during a command
        commands, self.commands = os.pipe()
        self.status, status = os.pipe()
        self.out, out = os.pipe()
        self.err, err = os.pipe()
        null = os.open(os.devnull, os.O_RDONLY)
        self.pid = os.fork()
        if self.pid == 0:
            self._become(null, out, err, commands, status)
        for fd in (null, out, err, commands, status):
            os.close(fd)
        for fd in (self.commands, self.status, self.out, self.err):
            os.set_blocking(fd, False)
        for fd in (self.out, self.err):  # small, so that a flood from behind pushes little out
            fcntl.fcntl(fd, _F_SETPIPE_SZ, 8192)
        self.pidfd = os.pidfd_open(self.pid)

    def _become(self, null: int, out: int, err: int, commands: int, status: int) -> NoReturn:
        try:
            for fd, number in ((out, OUT), (err, ERR), (commands, COMMANDS), (status, STATUS)):
                os.dup2(fd, number)
            child.take_streams(null, out, err)
            child.confine(self.box.rules, self.limits)
            os.closerange(3, OUT)
            linux.close_from(STATUS + 1)
            if self.kind == "python":
                cells.interpret()
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execvpe("bash", ["bash", "--noprofile", "--norc", "-c", _LOOP], os.environ)
        except BaseException as error:
            os.write(2, f"sandbox: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(98)

    def alive(self) -> bool:
        """Whether it runs."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return not poll.poll(0)

    def run(self, command: str) -> bool:
        """Give it a command; False if it is gone."""
        if self.kind == "python":
            return self._send(json.dumps({"run": command}).encode() + b"\n")
        return self._send(command.replace("\0", "").encode("utf-8", "surrogateescape") + b"\0")

    def _send(self, data: bytes) -> bool:
        with contextlib.suppress(BlockingIOError):
            while os.read(self.status, 1 << 16):  # what was said of no command of ours
                pass
        view, deadline = memoryview(data), time.monotonic() + _ANSWER_S
        poll = select.poll()
        poll.register(self.commands, select.POLLOUT)
        while view:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                send(self.pid, signal.SIGKILL)  # it does not listen
                return False
            try:
                view = view[os.write(self.commands, view) :]
            except OSError:
                return False
        return True

    def freeze(self) -> int:
        """Python: fork, keep one as it is; the frozen one's pid. The other goes on.

        Raises:
            RefusedError: It does not answer.
        """
        self._send(b'{"freeze": true}\n')
        said = self._answer()
        self._follow(said["live"])
        return self._own(said["frozen"])

    def thaw(self, frozen: int) -> None:
        """Python: go on from a frozen interpreter, which stays.

        Raises:
            RefusedError: It does not answer.
        """
        send(frozen, signal.SIGCONT)
        self._follow(self._answer()["live"])

    def _answer(self) -> dict[str, Any]:
        poll = select.poll()
        poll.register(self.status, select.POLLIN)
        data, deadline = b"", time.monotonic() + _ANSWER_S
        while not data.endswith(b"\n"):
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            part = os.read(self.status, 1 << 16) if ready else b""
            if not part:
                raise RefusedError("the interpreter does not answer")
            data += part
        try:
            said = json.loads(data.splitlines()[-1])
            return {"live": said["live"], "frozen": said["frozen"]}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RefusedError("the interpreter's answer is broken") from None

    def _own(self, pid: object) -> int:
        """A process id that the code named, if it is one of the job's."""
        if isinstance(pid, int) and any(p.pid == pid for p in self.box.processes(spared=True)):
            return pid
        raise RefusedError("the interpreter's answer is broken")

    def _follow(self, named: object) -> None:
        pid = self._own(named)
        os.close(self.pidfd)
        self.pid, self.pidfd = pid, os.pidfd_open(pid)

    def over_memory(self) -> bool:
        """Whether the box holds more than the session may; False where the kernel sees to it."""
        if self.box.rules.cgroups:
            return False
        resident, _, _, living, in_files = self.box.measure()
        limit = int(self.limits["memory_mb"]) << 20
        return resident > limit and self.box.proportional(living, in_files) > limit

    def close(self) -> None:
        """Let go of it."""
        for fd in (self.commands, self.status, self.out, self.err, self.pidfd):
            os.close(fd)
        self.box.reap()


class Tap(supervisor.Stream):
    """What comes out of a descriptor that stays open, while a command runs."""

    def __init__(self, fd: int, keep: int) -> None:
        self.fd = fd
        self.begin(keep)

    def close(self) -> None:
        """It is not ours to close."""
        self.open = False


class Command:
    """A command in the shell: its output, until the shell says that it is done.

    Args:
        shell: Where it runs, from now on.
        command: For bash, or a cell of Python.
        timeout_s: Seconds for it; whoever waits uses ``deadline``.
        keep: Bytes kept of its output; None for the session's limit.
    """

    def __init__(
        self, shell: Shell, command: str, timeout_s: float, keep: int | None = None
    ) -> None:
        self.shell = shell
        keep = int(shell.limits["output_kb"]) << 10 if keep is None else keep
        self.taps = self.out, self.err = Tap(shell.out, keep), Tap(shell.err, keep)
        self.said = b""
        self.done = False
        self.began = time.monotonic()
        self.deadline = self.began + timeout_s
        self.cpu_before = shell.box.measure()[1]
        shell.run(command)

    def wait(self, deadline: float, watched: bool = True) -> str | None:
        """Until it is done or the shell is gone (None), or a limit is broken (which).

        Args:
            deadline: By ``time.monotonic``.
            watched: Whether output and memory are limited.
        """
        poll = select.poll()
        for fd in (self.shell.pidfd, self.shell.status, self.out.fd, self.err.fd):
            poll.register(fd, select.POLLIN)
        look = time.monotonic() + _FIRST_LOOK_S
        while True:
            left = max(0.0, min(look, deadline) - time.monotonic())
            ready = {fd for fd, _ in poll.poll(left * 1000 + 0.5)}
            for fd in self._take(ready):
                poll.unregister(fd)
            if self._over(ready):
                return None
            if watched and any(tap.flooded for tap in self.taps):
                return "output_limit"
            now = time.monotonic()
            if now >= deadline:
                return "timeout"
            if now >= look:
                look = now + _LOOK_S
                self.shell.beside()
                if watched and self.shell.over_memory():
                    return "memory"

    def _take(self, ready: set[int]) -> list[int]:
        """Read what is there; the descriptors that the shell and all its children closed."""
        if self.shell.status in ready:
            self.said = (self.said + self._read_status())[:_MAX_SAID]
        closed = []
        for tap in self.taps:
            if tap.fd in ready:
                tap.drain(rounds=1)  # then look for the end: what others write goes on
                if not tap.open:
                    closed.append(tap.fd)
        return closed

    def _over(self, ready: set[int]) -> bool:
        """Whether the shell said that it is done, or is gone; then the last output is read."""
        self.done = self.said.count(b"\n") > 1
        if not self.done and self.shell.pidfd not in ready:
            return False
        for tap in self.taps:
            if tap.open:
                tap.drain(rounds=1)
        return True

    def _read_status(self) -> bytes:
        try:
            return os.read(self.shell.status, 1 << 16)
        except BlockingIOError:
            return b""

    def report(self, verdict: str | None, note: str) -> dict[str, Any]:
        """What was seen, for the host.

        Args:
            verdict: The limit that it broke, if any.
            note: What happened to the session.
        """
        wall_s = time.monotonic() - self.began
        box = self.shell.box
        box.reap()
        code = self._exit_code()
        if code is None:
            code, note = 1, note or "the shell's answer was broken"
        status = verdict or ("ok" if self.done and code == 0 else "error")
        wait = None if verdict else (code & 0xFF) << 8
        if not self.done and verdict is None:  # the shell itself ended
            wait = box.ended.get(self.shell.pid, 0)  # 0: not our child, after a restored snapshot
            status = "ok" if wait == 0 else "crash" if os.WIFSIGNALED(wait) else "error"
        resident, cpu, *_ = box.measure()
        return {
            "status": status,
            "stdout": self.out.text(),
            "stderr": self.err.text(),
            "stdout_cut": self.out.cut,
            "stderr_cut": self.err.cut,
            "said": None,
            "said_cut": False,
            "wait": wait,
            "wall_s": wall_s,
            "cpu_s": max(0.0, cpu - self.cpu_before),
            "peak": resident,
            "n_left": 0,
            "note": note,
        }

    @property
    def taken(self) -> bool:
        """Whether the shell said that it read the command: an empty line."""
        return b"\n" in self.said

    @property
    def cut_off(self) -> bool:
        """Whether the shell lost the descriptors that its output goes to."""
        return not all(tap.open for tap in self.taps)

    def _exit_code(self) -> int | None:
        """As the shell said; 1 if it did not, None for what is no code."""
        if not self.done:
            return 1
        try:
            return int(json.loads(self.said.splitlines()[1])["code"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None


class Background:
    """A process that goes on beside the shell."""

    def __init__(self, box: Box, limits: Mapping[str, float], command: str) -> None:
        self.run = supervisor.Supervised(box, limits)
        self.run.start(lambda: child.run_shell(command))
        self.ended = False

    def serve(self) -> None:
        """Take what it wrote; note that it ended."""
        for stream in self.run.streams:
            stream.drain()
        poll = select.poll()
        poll.register(self.run.pidfd, select.POLLIN)
        if not self.ended and poll.poll(0):
            self._end()

    def _end(self) -> None:
        self.ended = True
        self.run.wall_s = time.monotonic() - self.run.started
        box = self.run.box
        while self.run.pid not in box.ended:  # it has ended: a zombie, or reaped with others
            box.reap()
        self.run.status = box.ended[self.run.pid]
        self.run.finish()

    def stop(self) -> None:
        """End it and its descendants."""
        self.serve()
        if self.ended:
            return
        # A process that made itself a daemon is no descendant any more; the session's end is its.
        family, growing = {self.run.pid}, True
        while growing:
            more = {p.pid for p in self.run.box.processes() if p.parent in family} - family
            family |= more
            growing = bool(more)
            for pid in family:
                send(pid, signal.SIGSTOP)
        for pid in family:
            send(pid, signal.SIGKILL)
        self.run.verdict = "ok"  # ended because it was asked for
        self._end()

    def report(self) -> dict[str, Any]:
        """What was seen, for the host."""
        return self.run.report()
