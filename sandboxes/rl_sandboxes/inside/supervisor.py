"""Runs a job: starts its processes, watches them, ends them, and says what was seen.

The supervisor is not the code's: another process, which the code can neither trace nor end (pid 1
of the job's own pid namespace; in a shared one, guarded by the filter of system calls). Every
status comes from here.
"""

import base64
import errno
import os
import select
import signal
import stat
import time

from . import child, linux

FLOOD, FLOOD_BYTES = 256, 16 << 20  # times what is kept, and over this: the writer is ended
_FIRST_LOOK_S = 0.004
_LOOK_S = 0.025


class Stream:
    """What comes out of a pipe: its beginning and its end, ``keep`` bytes in all."""

    def __init__(self, keep):
        self.fd, self.writer = os.pipe()
        os.set_blocking(self.fd, False)
        self.begin(keep)

    def begin(self, keep):
        """Nothing has come yet."""
        self.keep = keep
        self.head, self.tail = bytearray(), bytearray()
        self.size = 0
        self.open = True

    def started(self):
        """The other end is the child's now."""
        os.close(self.writer)

    def drain(self, rounds=64):
        """Read what is there; a bounded amount, so that a flood does not hold the watch up."""
        for _ in range(rounds):
            try:
                part = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                return
            except OSError:
                part = b""
            if not part:
                self.close()
                return
            self._take(part)

    def _take(self, part):
        self.size += len(part)
        half = self.keep // 2
        room = half - len(self.head)
        if room > 0:
            self.head += part[:room]
            part = part[room:]
        self.tail += part
        if len(self.tail) > 4 * half + (1 << 16):
            del self.tail[: len(self.tail) - (self.keep - half)]

    @property
    def flooded(self):
        """Whether far more came than is kept."""
        return self.size > max(FLOOD * self.keep, FLOOD_BYTES)

    def close(self):
        """No more is read."""
        if self.open:
            self.open = False
            os.close(self.fd)

    def content(self):
        """What was kept; a line between its parts says how much was left out."""
        if not self.cut:
            return bytes(self.head + self.tail)
        tail = self.tail[len(self.tail) - (self.keep - self.keep // 2) :]
        between = f"\n... {self.size - self.keep} bytes left out ...\n"
        return bytes(self.head) + between.encode() + bytes(tail)

    def text(self):
        """The content, safe in JSON."""
        return base64.b64encode(self.content()).decode()

    @property
    def cut(self):
        """Whether there was more than is kept."""
        return self.size > self.keep


class Supervised:
    """One run: a child with its streams, its limits and the clock."""

    def __init__(self, box, limits, stdin=b"", value=False):
        self.box = box
        self.limits = limits
        keep = int(limits["output_kb"]) << 10
        self.out, self.err = Stream(keep), Stream(keep)
        self.value = Stream(int(limits["value_kb"]) << 11) if value else None
        self.stdin = _memory_file(stdin)
        self.pid = 0
        self.verdict = None  # our own action, which decides the status
        self.status = None  # of the main process, from wait
        self.tasks = 1
        self.peak = 0
        self.cpu_before = box.reaped_cpu
        self.n_left = 0

    @property
    def streams(self):
        """The open pipes."""
        return [s for s in (self.out, self.err, self.value) if s is not None and s.open]

    def start(self, begin):
        """Fork; the child confines itself and calls ``begin``, which does not return."""
        self.started = time.monotonic()
        self.deadline = self.started + self.limits["wall_s"]
        self.pid = os.fork()
        if self.pid == 0:
            try:
                value = None if self.value is None else self.value.writer
                child.take_streams(self.stdin, self.out.writer, self.err.writer, value)
                child.confine(self.box.rules, self.limits)
                linux.close_from(3 if value is None else 4)
                begin()
            except BaseException as error:
                os.write(2, f"sandbox: {type(error).__name__}: {error}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)
            finally:
                os._exit(98)
        for stream in self.streams:
            stream.started()
        os.close(self.stdin)
        self.pidfd = os.pidfd_open(self.pid)

    def watch(self):
        """Until the main process has ended, by itself or by us."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        by_fd = {stream.fd: stream for stream in self.streams}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        look = self.started + _FIRST_LOOK_S
        while self.verdict is None:
            now = time.monotonic()
            wait = max(0.0, min(look, self.deadline) - now)
            ended = False
            for fd, _ in poll.poll(wait * 1000 + 0.5):
                if fd == self.pidfd:
                    ended = True
                    continue
                by_fd[fd].drain()
                if not by_fd[fd].open:
                    poll.unregister(fd)
            if any(stream.flooded for stream in (self.out, self.err)):
                self.verdict = "output_limit"
            elif ended:
                break
            now = time.monotonic()
            if now >= self.deadline:
                self.verdict = "timeout"
            elif now >= look:
                self.verdict = self.look()
                look = time.monotonic() + _LOOK_S
        self.wall_s = time.monotonic() - self.started

    def look(self):
        """Measure the tree; the limit that it broke, if any."""
        resident, cpu, tasks, living, files = self.box.measure()
        self.tasks = max(self.tasks, tasks)
        if self._out_of_memory(resident, living, files):
            return "memory"
        if cpu - self.cpu_before > self.limits["cpu_s"]:
            return "timeout"
        if tasks > self.limits["processes"] + 1:
            return "process_limit"
        if self.box.rules.shared and files > int(self.limits["disk_mb"]) << 20:
            return "disk"
        return None

    def _out_of_memory(self, resident, living, files):
        groups = self.box.rules.cgroups
        if groups:
            return groups.out_of_memory()
        limit = int(self.limits["memory_mb"]) << 20
        if resident > limit:
            resident = self.box.proportional(living, files)
        if resident > limit:  # twice, since the kernel's account of a dying process may be off
            _, _, _, living, files = self.box.measure()
            resident = self.box.proportional(living, files)
        self.peak = max(self.peak, resident)
        return resident > limit

    def end(self):
        """End what is left of the tree and read what is left in the pipes; False if tainted."""
        gone = True
        if self.verdict is None:
            _, status, usage = os.wait4(self.pid, 0)
            self.status = status
            self.box.reaped_cpu += usage.ru_utime + usage.ru_stime
            self.box.reaped_peak = max(self.box.reaped_peak, usage.ru_maxrss << 10)
            self.n_left = self._outlived()
        if self.verdict is not None or self.n_left or self.box.rules.shared:
            gone = self.box.end_all()
        os.close(self.pidfd)
        for stream in self.streams:
            stream.drain(rounds=1 << 10)
            stream.close()
        return gone

    def _outlived(self):
        living = self.box.processes()
        self.tasks = max(self.tasks, 1 + len(living))
        return len(living)

    def report(self):
        """What was seen, for the host."""
        groups = self.box.rules.cgroups
        peak = groups.peak() if groups else max(self.peak, self.box.reaped_peak)
        return {
            "status": self._status(groups),
            "stdout": self.out.text(),
            "stderr": self.err.text(),
            "stdout_cut": self.out.cut,
            "stderr_cut": self.err.cut,
            "said": None if self.value is None else self.value.text(),
            "said_cut": self.value is not None and self.value.cut,
            "wait": self.status,
            "ended_by_us": self.verdict is not None,
            "wall_s": self.wall_s,
            "cpu_s": self.box.reaped_cpu - self.cpu_before,
            "peak": peak,
            "n_left": self.n_left,
        }

    def _status(self, groups):
        if groups and groups.out_of_memory():
            return "memory"
        if self.verdict is not None:
            return self.verdict
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            if number == signal.SIGXCPU:
                return "timeout"
            return "disk" if number == signal.SIGXFSZ else "crash"
        if os.WEXITSTATUS(self.status) == 0:
            return "ok"
        if (groups and groups.refused_processes()) or self.tasks >= self.limits["processes"]:
            return "process_limit"
        return "disk" if self.box.full() else "error"


def run_job(box, job, report_taint):
    """Every run of a job, and the files that were asked for: the answer to the host."""
    runs = []
    limits = job["limits"]
    answer = {"runs": runs, "files": {}, "refused": {}}
    for number in range(len(job["inputs"])):
        if number and not box.renew_folders(limits):
            report_taint()
        run, tainted = run_once(box, job, job["inputs"][number], number, answer)
        runs.append(run)
        if tainted:
            report_taint()
        if job["stop_early"] and run["status"] != "ok":
            break
    return answer


def run_once(box, job, given, number, answer):
    """One run; files are collected after the last one, when all processes are gone."""
    limits = job["limits"]
    put_files(box.rules.work, job["files"])
    groups = box.rules.cgroups
    if groups:
        groups.begin(limits, f"job{number % 2}")
    stdin = b"" if job["kind"] == "call" else base64.b64decode(given)
    # Only Python runs say how they ended; a shell has no channel for it.
    run = Supervised(box, limits, stdin, value=job["kind"] != "shell")
    run.start(lambda: begin(job, given))
    run.watch()
    gone = run.end()
    report = run.report()
    if groups:
        groups.end()
    if job["collect"] and number == len(job["inputs"]) - 1:
        collect(box.rules.work, job["collect"], answer)
    return report, not gone or run.verdict is not None or run.n_left > 0


def begin(job, given):
    """In the child: become what the job asks for."""
    if job["kind"] == "shell":
        child.run_shell(job["code"])
    child.fresh_streams()
    if job["kind"] == "program":
        child.run_program(job["code"])
    child.run_call(job["code"], job["entry_point"], given["args"], given["kwargs"])


def _memory_file(data):
    fd = os.memfd_create("stdin", 0)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def put_files(work, files):
    """Write files (base64 by path) beneath the working folder."""
    root = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for path, content in files.items():
            put_file(root, path, base64.b64decode(content))
    finally:
        os.close(root)


def put_file(root, path, data):
    """Write one file beneath a folder's descriptor, through no link; parents are made."""
    parents = path.split("/")[:-1]
    for depth in range(1, len(parents) + 1):
        _make_folder(root, "/".join(parents[:depth]))
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = linux.open_beneath(root, path, flags, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _make_folder(root, path):
    parent, _, name = path.rpartition("/")
    where = linux.open_beneath(root, parent or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.mkdir(name, 0o755, dir_fd=where)
    except FileExistsError:
        pass
    finally:
        os.close(where)


def collect(work, paths, answer, max_bytes=16 << 20):
    """Read regular files into the answer; what is none is refused, with why."""
    root = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for path in paths:
            try:
                data = get_file(root, path, max_bytes)
                answer["files"][path] = base64.b64encode(data).decode()
                max_bytes -= len(data)
            except OSError as error:
                answer["refused"][path] = error.strerror or str(error)
    finally:
        os.close(root)


def get_file(root, path, max_bytes):
    """A regular file's bytes.

    Raises:
        OSError: It is missing, a link, no regular file, or over ``max_bytes``.
    """
    try:
        fd = linux.open_beneath(root, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EXDEV):
            raise OSError(errno.ELOOP, "a link") from None
        raise OSError(error.errno, os.strerror(error.errno)) from None
    try:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if state.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"{state.st_size:,} bytes, over {max_bytes:,}")
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)
