"""The fork server: waits for jobs, forks a supervisor for each, hands its answer back.

One process, one thread, one job at a time. It reads nothing of a job, so that nothing of a job is
in the memory that the next one is forked from.
"""

from __future__ import annotations

import collections  # noqa: F401 - read here, once, so that no job has to
import contextlib  # noqa: F401
import fcntl
import functools  # noqa: F401
import gc
import heapq  # noqa: F401
import importlib
import itertools  # noqa: F401
import math  # noqa: F401
import os
import re  # noqa: F401
import select
import signal
import site
import struct
import termios
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

from . import box, child, frames, linux, seccomp, session, supervisor

_EVERY = linux.CLONE_NEWUSER | linux.CLONE_NEWNS | linux.CLONE_NEWPID


def main() -> None:
    """Serve until the host closes the stream."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a handler would let jobs reach a process 1
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    os.close(null)
    try:
        config, _ = frames.read_frame(source)
        server = Server(source, sink, config)
        server.prepare()
        server.warm()
        ready = {"ready": True, "pid": os.getpid(), "landlock": linux.landlock_version()}
    except BaseException as error:
        frames.write_all(sink, frames.pack({"fatal": f"{type(error).__name__}: {error}"}))
        raise
    frames.write_all(sink, frames.pack(ready))
    server.serve()


def add_site() -> None:
    """What ``site`` gives to programs: ``exit``, ``help``, and the interpreter's own packages."""
    site.setquit()
    site.setcopyright()
    site.sethelper()
    child.sys.path.extend(path for path in site.getsitepackages() if os.path.isdir(path))


class Server:
    """See the module.

    Args:
        source: Where jobs come from.
        sink: Where answers go.
        config: How to keep jobs apart; see ``box.Rules``, and ``uid``, ``cgroups``, ``preload``.
    """

    def __init__(self, source: int, sink: int, config: Mapping[str, Any]) -> None:
        self.source, self.sink, self.config = source, sink, config
        self.rules = box.Rules(config)
        self.uid = self.gid = 0
        self.filter: dict[str, Any] = {}  # arguments of ``seccomp.program``
        self.tainted = False  # in a supervisor: something of the job may be left

    def prepare(self) -> None:
        """Before the first job: ids, /proc, the filter, protection from one's own children."""
        config = self.config
        if config.get("mount_proc"):
            linux.mount("proc", "/proc")
        if config.get("cgroups"):
            self.rules.cgroups = box.Cgroups(config["cgroups"])
        if config.get("uid"):
            os.setgroups([])
            os.setresgid(*[config["uid"]] * 3)
            os.setresuid(*[config["uid"]] * 3)
        self.uid, self.gid = os.getuid(), os.getgid()
        if self.rules.shared:
            linux.become_subreaper()  # of what a supervisor that was ended leaves behind
        else:
            self._prove_namespaces()
        linux.set_dumpable(False)
        self.filter["memfd"] = self.rules.cgroups is not None  # else nobody counts such memory
        if config.get("families"):
            self.filter["families"] = tuple(config["families"])
        if not self.rules.shared:
            self.rules.filter = seccomp.program(**self.filter)

    def _prove_namespaces(self) -> None:
        """Make a job's world once, so that where it is refused no job is needed to find out."""
        problem, said = os.pipe()
        pid = linux.clone(_EVERY)
        if pid == 0:
            try:
                self._make_namespaces({"disk_mb": 1})
            except OSError as error:
                os.write(said, str(error).encode())
            finally:
                os._exit(0)
        os.close(said)
        os.waitpid(pid, 0)
        refused = os.read(problem, 500).decode()
        os.close(problem)
        if refused:
            raise OSError(f"namespaces for jobs: {refused}")

    def warm(self) -> None:
        """Touch what every job touches, then keep it from being copied."""
        add_site()
        child.sys.path.extend(self.config.get("packages", ()))
        for name in self.config.get("preload", ()):
            importlib.import_module(name)
        code = "def f(x):\n    return [x, str(x), {x: 1.5}]\nassert f(1)\n"
        namespace = child.new_module("solution", code).__dict__
        for _ in range(3):
            exec(compile(code, child.FILE, "exec"), namespace)
            child.values.decode(child.values.encode(namespace["f"](2)))
            frames.pack({"warm": [1, "x", None]})
            supervisor.base64.b64decode(b"eHh4")
        del child.sys.modules["solution"]
        gc.collect()
        gc.freeze()
        if self.rules.cgroups:
            self.rules.cgroups.warm()

    def serve(self) -> None:
        """One job after the other."""
        poll = select.poll()
        poll.register(self.source, select.POLLIN)
        while any(event & select.POLLIN for _, event in poll.poll()) and not self._at_end():
            self._one_job()

    def _at_end(self) -> bool:
        """Whether what can be read is just the end of the stream."""
        try:
            waiting = struct.unpack("i", fcntl.ioctl(self.source, termios.FIONREAD, b"\0" * 4))[0]
        except OSError:
            return False
        return waiting == 0

    def _one_job(self) -> None:
        answer = os.memfd_create("answer")
        pid = self._fork()
        if pid == 0:
            self._supervise(answer)
        self._wait(pid)
        size = os.lseek(answer, 0, os.SEEK_CUR)
        if size == 0:  # it died with the job unread or unanswered: the stream cannot be trusted
            self._leave()
        offset = 0
        while offset < size:
            offset += os.sendfile(self.sink, answer, offset, size - offset)
        os.close(answer)

    def _leave(self) -> NoReturn:
        """End, and with it all that a supervisor left behind."""
        if self.rules.shared:
            box.Box(self.rules).end_all()
        os._exit(3)

    def _fork(self) -> int:
        if self.rules.shared:
            return os.fork()
        return linux.clone(_EVERY)

    def _wait(self, pid: int) -> None:
        """Until the supervisor, and with it its namespaces, is gone; at once if the host is."""
        pidfd = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(self.source, select.POLLHUP | select.POLLERR)
        ended = False
        while not ended:
            for fd, event in poll.poll():
                if fd == pidfd:
                    ended = True
                elif event & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                    os.kill(pid, signal.SIGKILL)
                    poll.unregister(self.source)
        os.close(pidfd)
        os.waitpid(pid, 0)

    def _supervise(self, answer: int) -> NoReturn:
        """In the supervisor; never returns."""
        reply: dict[str, Any]
        try:
            world, job = self._enter()
            if job["op"] == "session":
                session.serve(world, job, self.source, self.sink)
                reply = {"closed": True}
            else:
                reply = supervisor.run_job(world, job, self._taint)
            if self.rules.cgroups:
                self.rules.cgroups.relax()  # the job is gone, and its answer may be large
            if self.rules.shared and not world.empty_folders():
                self._taint()
            reply["tainted"] = self.tainted and self.rules.shared
        except BaseException as error:
            trace = traceback.format_exc()
            reply = {"failed": f"{type(error).__name__}: {error}", "trace": trace[-2000:]}
        frames.write_all(answer, frames.pack(reply))
        os._exit(0)

    def _make_namespaces(self, limits: Mapping[str, float]) -> None:
        """In a clone: be nobody else, see no other process, have empty folders."""
        linux.set_dumpable(True)  # or /proc/self would not be ours to write
        linux.map_identity(self.uid, self.gid)
        linux.make_private()
        box.Box(self.rules).mount_folders(limits)
        linux.mount("proc", "/proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)

    def _taint(self) -> None:
        self.tainted = True

    def _enter(self) -> tuple[box.Box, dict[str, Any]]:
        """Make the job's world, and read the job in it."""
        job, size = frames.read_frame(self.source)
        job["size"] = size
        if not self.rules.shared:
            self._make_namespaces(job["limits"])
        world = box.Box(self.rules)
        if self.rules.shared:
            linux.become_subreaper()
            protected = {1, os.getppid(), os.getpid()}
            self.rules.filter = seccomp.program(**self.filter, protected=protected)
        linux.set_dumpable(False)
        return world, job
