"""The fork server: waits for jobs, forks a supervisor for each, hands its answer back.

One process, one thread, one job at a time. It reads nothing of a job, so that nothing of a job is
in the memory that the next one is forked from.
"""

import collections  # noqa: F401 - read here, once, so that no job has to
import contextlib  # noqa: F401
import copy  # noqa: F401
import dataclasses  # noqa: F401
import datetime  # noqa: F401
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
import string  # noqa: F401
import struct
import termios
import traceback
import typing  # noqa: F401

from . import box, child, frames, linux, seccomp, session, supervisor

_EVERY = linux.CLONE_NEWUSER | linux.CLONE_NEWNS | linux.CLONE_NEWPID


def main():
    """Serve until the host closes the stream."""
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    os.close(null)
    try:
        config = frames.read_frame(source)
        server = Server(source, sink, config)
        server.prepare()
        server.warm()
        ready = {"ready": True, "pid": os.getpid(), "landlock": linux.landlock_version()}
    except BaseException as error:
        frames.write_all(sink, frames.pack({"fatal": f"{type(error).__name__}: {error}"}))
        raise
    frames.write_all(sink, frames.pack(ready))
    server.serve()


class Server:
    """See the module.

    Args:
        source: Where jobs come from.
        sink: Where answers go.
        config: How to keep jobs apart; see ``box.Rules``, and ``uid``, ``cgroups``, ``preload``.
    """

    def __init__(self, source, sink, config):
        self.source, self.sink, self.config = source, sink, config
        self.rules = box.Rules(config)

    def prepare(self):
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
        linux.set_dumpable(False)
        self.fixed = {} if not self.rules.shared else {"protected": (1, os.getpid())}
        self.fixed["memfd"] = self.rules.cgroups is not None
        if config.get("families"):
            self.fixed["families"] = tuple(config["families"])
        if not self.rules.shared:
            self.rules.filter = seccomp.program(**self.fixed)

    def warm(self):
        """Touch what every job touches, then keep it from being copied."""
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

    def serve(self):
        """One job after the other."""
        poll = select.poll()
        poll.register(self.source, select.POLLIN)
        while True:
            poll.poll()
            if not self._readable():
                return
            self._one_job()

    def _readable(self):
        """Whether there is a job, and not just the end of the stream."""
        state = select.poll()
        state.register(self.source, select.POLLIN)
        return any(event & select.POLLIN for _, event in state.poll(0)) and not self._at_end()

    def _at_end(self):
        try:
            waiting = struct.unpack("i", fcntl.ioctl(self.source, termios.FIONREAD, b"\0" * 4))[0]
        except OSError:
            return False
        return waiting == 0

    def _one_job(self):
        answer = os.memfd_create("answer")
        pid = self._fork()
        if pid == 0:
            self._supervise(answer)
        self._wait(pid)
        size = os.lseek(answer, 0, os.SEEK_CUR)
        if size == 0:  # it died with the job unread or unanswered: the stream cannot be trusted
            os._exit(3)
        offset = 0
        while offset < size:
            offset += os.sendfile(self.sink, answer, offset, size - offset)
        os.close(answer)

    def _fork(self):
        if self.rules.shared:
            return os.fork()
        return linux.clone(_EVERY)

    def _wait(self, pid):
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

    def _supervise(self, answer):
        """In the supervisor; never returns."""
        try:
            job = self._enter()
            if job["op"] == "session":
                session.serve(self.box, job, self.source, self.sink)
                reply = {"closed": True}
            else:
                reply = supervisor.run_job(self.box, job, self._taint)
            if self.rules.shared and not all([box.empty(f) for f in self.rules.folders]):
                self._taint()
            reply["tainted"] = self.tainted and self.rules.shared
        except BaseException as error:
            trace = "".join(traceback.format_exception(error))
            reply = {"failed": f"{type(error).__name__}: {error}", "trace": trace[-2000:]}
        frames.write_all(answer, frames.pack(reply))
        os._exit(0)

    def _taint(self):
        self.tainted = True

    def _enter(self):
        """Make the job's world, and read the job in it."""
        self.tainted = False
        if not self.rules.shared:
            linux.set_dumpable(True)  # or /proc/self would not be ours to write
            linux.map_identity(self.uid, self.gid)
            linux.make_private()
        job = frames.read_frame(self.source)
        limits = job["limits"]
        self.box = box.Box(self.rules)
        if not self.rules.shared:
            self.box.mount_folders(limits)
            linux.mount("proc", "/proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        else:
            linux.become_subreaper()
            self.fixed["protected"] = tuple(sorted({1, os.getppid(), os.getpid()}))
            self.rules.filter = seccomp.program(**self.fixed)
        linux.set_dumpable(False)
        return job
