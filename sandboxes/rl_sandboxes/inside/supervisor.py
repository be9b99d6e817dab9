"""Runs a job: starts its processes, watches them, ends them, and says what was seen.

The supervisor is not the code's: another process, which the code can neither trace nor end (pid 1
of the job's own pid namespace; in a shared one, guarded by the filter of system calls). Every
status comes from here.
"""

from __future__ import annotations

import base64
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from . import child, files, frames, linux
from .box import Box, Process, send

FLOOD, FLOOD_BYTES = 256, 16 << 20  # times what is kept, and over this: the writer is ended
_FIRST_LOOK_S = 0.01
_LOOK_S = 0.025
_FLUSH_S = 0.05
MAX_KEPT = 64 << 20  # bytes of all runs of a job together
_BY_SIGNAL = {int(signal.SIGXCPU): "timeout", int(signal.SIGXFSZ): "disk"}


class Stream:
    """What comes out of a pipe: its beginning and its end, ``keep`` bytes in all."""

    def __init__(self, keep: int) -> None:
        self.fd, self.writer = os.pipe()
        os.set_blocking(self.fd, False)
        self.begin(keep)

    def begin(self, keep: int) -> None:
        """Nothing has come yet."""
        self.keep = keep
        self.head, self.tail = bytearray(), bytearray()
        self.size = 0
        self.open = True

    def release(self) -> None:
        """The other end is the child's alone now."""
        os.close(self.writer)

    def drain(self, rounds: int = 64) -> None:
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

    def _take(self, part: bytes) -> None:
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
    def flooded(self) -> bool:
        """Whether far more came than is kept."""
        return self.size > max(FLOOD * self.keep, FLOOD_BYTES)

    def close(self) -> None:
        """No more is read."""
        if self.open:
            self.open = False
            os.close(self.fd)

    def content(self) -> bytes:
        """What was kept; a line between its parts says how much was left out."""
        if not self.cut:
            return bytes(self.head + self.tail)
        tail = self.tail[len(self.tail) - (self.keep - self.keep // 2) :]
        between = f"\n... {self.size - self.keep} bytes left out ...\n"
        return bytes(self.head) + between.encode() + bytes(tail)

    def text(self) -> str:
        """The content, safe in JSON."""
        return base64.b64encode(self.content()).decode()

    @property
    def cut(self) -> bool:
        """Whether there was more than is kept."""
        return self.size > self.keep


class Supervised:
    """One run: a child with its streams, its limits and the clock.

    Args:
        box: The world that it runs in.
        limits: See ``types.Limits``.
        stdin: What it reads.
        value: Bytes of the channel on which it can say how it ended; 0 for no channel.
    """

    def __init__(
        self, box: Box, limits: Mapping[str, float], stdin: bytes = b"", value: int = 0
    ) -> None:
        self.box = box
        self.limits = limits
        keep = int(limits["output_kb"]) << 10
        self.out, self.err = Stream(keep), Stream(keep)
        self.value = Stream(value) if value else None
        self.stdin = _memory_file(stdin)
        self.pid = self.pidfd = 0
        self.started = self.deadline = self.wall_s = 0.0
        self.verdict: str | None = None  # our own action, which decides the status
        self.status: int | None = None  # of the main process, from wait
        self.tasks = 1
        self.peak = 0
        self.cpu_before = box.reaped_cpu
        self.groups_before = self._groups_counters()
        self.confined, self._confined = os.pipe()  # the child says on it that it is lowered
        self.n_left = 0

    @property
    def streams(self) -> list[Stream]:
        """The open pipes."""
        return [s for s in (self.out, self.err, self.value) if s is not None and s.open]

    def start(self, begin: Callable[[], NoReturn]) -> None:
        """Fork; the child confines itself and calls ``begin``, which does not return."""
        self.started = time.monotonic()
        self.deadline = self.started + self.limits["wall_s"]
        self.pid = os.fork()
        if self.pid == 0:
            self._become(begin)
        for stream in self.streams:
            stream.release()
        os.close(self.stdin)
        os.close(self._confined)
        self.pidfd = os.pidfd_open(self.pid)

    def _become(self, begin: Callable[[], NoReturn]) -> NoReturn:
        try:
            value = None if self.value is None else self.value.writer
            child.take_streams(self.stdin, self.out.writer, self.err.writer, value)
            child.confine(self.box.rules, self.limits)
            os.write(self._confined, b"1")
            linux.close_from(3 if value is None else 4)
            begin()
        except BaseException as error:
            os.write(2, f"sandbox: {type(error).__name__}: {error}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(98)

    def watch(self) -> None:
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

    def look(self) -> str | None:
        """Measure the tree; the limit that it broke, if any."""
        resident, cpu, tasks, living, in_files = self.box.measure()
        self.tasks = max(self.tasks, tasks)
        if self._out_of_memory(resident, living, in_files):
            return "memory"
        if cpu - self.cpu_before > self.limits["cpu_s"]:
            return "timeout"
        if tasks > self.limits["processes"] + 1:
            return "process_limit"
        if self.box.rules.shared and in_files > int(self.limits["disk_mb"]) << 20:
            return "disk"
        return None

    def _out_of_memory(self, resident: int, living: Iterable[Process], in_files: int) -> bool:
        groups = self.box.rules.cgroups
        if groups:
            return groups.out_of_memory() > self.groups_before[0]
        limit = int(self.limits["memory_mb"]) << 20
        if resident > limit:
            resident = self.box.proportional(living, in_files)
        if resident > limit:  # twice, since the kernel's account of a dying process may be off
            _, _, _, living, in_files = self.box.measure()
            resident = self.box.proportional(living, in_files)
        self.peak = max(self.peak, resident)
        return resident > limit

    def end(self) -> bool:
        """End what is left of the tree and read what is left in the pipes; False if tainted."""
        gone = True
        if self.verdict is None:
            _, self.status, usage = os.wait4(self.pid, 0)
            self.box.count(usage)
            self.n_left = self._outlived()
        elif self.verdict == "timeout" and self.value is not None:
            self._interrupt()
        if self.verdict is not None or self.n_left or self.box.rules.shared:
            gone = self.box.end_all()
        self.finish()
        return gone

    def finish(self) -> None:
        """Take what is left in the pipes, and let go of all descriptors."""
        os.close(self.pidfd)
        for stream in self.streams:
            stream.drain(rounds=1 << 10)
            stream.close()
        self.lowered = os.read(self.confined, 1) == b"1"
        os.close(self.confined)

    def _groups_counters(self) -> tuple[int, int]:
        groups = self.box.rules.cgroups
        return (groups.out_of_memory(), groups.refused_processes()) if groups else (0, 0)

    def _interrupt(self) -> None:
        """Let Python flush what it had printed, and say where it was; it has no time for more."""
        send(self.pid, signal.SIGINT)
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        deadline = time.monotonic() + _FLUSH_S
        while not poll.poll(2) and time.monotonic() < deadline:
            for stream in self.streams:
                stream.drain()

    def _outlived(self) -> int:
        try:  # orphans become ours: without children of ours there is nobody
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return 0
        living = self.box.processes()
        self.tasks = max(self.tasks, 1 + len(living))
        return len(living)

    def report(self) -> dict[str, Any]:
        """What was seen, for the host.

        Raises:
            OSError: The child ended before the code began: our failure.
        """
        groups = self.box.rules.cgroups
        status = self._status()
        if not self.lowered and status in ("crash", "error"):
            said = self.err.content().decode("utf-8", "replace").strip()
            raise OSError(f"a run could not begin: {said[-300:]}")
        peak = groups.peak() if groups else max(self.peak, self.box.reaped_peak)
        return {
            "status": status,
            "stdout": self.out.text(),
            "stderr": self.err.text(),
            "stdout_cut": self.out.cut,
            "stderr_cut": self.err.cut,
            "said": None if self.value is None else self.value.text(),
            "said_cut": self.value is not None and self.value.cut,
            "wait": self.status,
            "wall_s": self.wall_s,
            "cpu_s": self.box.reaped_cpu - self.cpu_before,
            "peak": peak,
            "n_left": self.n_left,
        }

    def _status(self) -> str:
        out_of_memory, refused = self._groups_counters()
        if out_of_memory > self.groups_before[0]:
            return "memory"
        if self.verdict is not None:
            return self.verdict
        assert self.status is not None  # without a verdict it ended by itself
        if os.WIFSIGNALED(self.status):
            return _BY_SIGNAL.get(os.WTERMSIG(self.status), "crash")
        if self.status == 0:
            return "ok"
        if refused > self.groups_before[1] or self.tasks >= self.limits["processes"]:
            return "process_limit"
        return "disk" if self.box.full() else "error"


def run_job(box: Box, job: Mapping[str, Any], taint: Callable[[], None]) -> dict[str, Any]:
    """Every run of a job, and the files that were asked for: the answer to the host.

    Args:
        box: The world of the job, with empty folders.
        job: As ``pool.request_of`` makes it.
        taint: Called when something may be left of a run.
    """
    runs: list[dict[str, Any]] = []
    answer: dict[str, Any] = {"runs": runs, "files": {}, "refused": {}, "cut": False}
    kept, spent_s, last = 0, 0.0, len(job["inputs"]) - 1
    for number, given in enumerate(job["inputs"]):
        if number and not box.renew_folders(job["limits"]):
            taint()
        run, clean = run_once(box, job, given, job["size"] + kept)
        runs.append(run)
        if not clean:
            taint()
        if job["collect"] and number == last:  # all processes are gone
            answer["files"], answer["refused"] = files.collect(box.rules.work, job["collect"])
        spent_s += run["wall_s"]
        if job["stop_early"] and (run["status"] in job["stop_at"] or spent_s > job["together_s"]):
            break
        kept += len(run["stdout"]) + len(run["stderr"]) + len(run["said"] or "")
        if kept > MAX_KEPT:  # whoever asks may ask for the rest
            answer["cut"] = number < last
            break
    return answer


def run_once(
    box: Box, job: Mapping[str, Any], given: Any, held: int
) -> tuple[dict[str, Any], bool]:
    """One run: what was seen, and whether it ended by itself with nothing left behind."""
    limits = job["limits"]
    files.put_files(box.rules.work, job["files"])
    box.reaped_peak = 0
    if box.rules.cgroups:
        box.rules.cgroups.begin(limits, held)
    stdin = b"" if job["kind"] == "call" else base64.b64decode(given)
    # A program can say what exception ended it, a call what it returned, a shell nothing.
    channel = {"call": int(limits["value_kb"]) << 10, "program": 4096, "shell": 0}[job["kind"]]
    run = Supervised(box, limits, stdin, channel)
    run.start(lambda: begin(job, given))
    run.watch()
    gone = run.end()
    return run.report(), gone and run.verdict is None and run.n_left == 0


def begin(job: Mapping[str, Any], given: Any) -> NoReturn:
    """In the child: become what the job asks for."""
    if job["kind"] == "shell":
        child.run_shell(job["code"])
    child.become_python()
    if job["kind"] == "program":
        child.run_program(job["code"])
    child.run_call(job["code"], job["entry_point"], given["args"], given["kwargs"])


def _memory_file(data: bytes) -> int:
    fd = os.memfd_create("stdin", 0)
    frames.write_all(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
