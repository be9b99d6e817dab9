"""The world of one job, seen by its supervisor: processes, memory, folders."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterable, Mapping
from typing import Any

from . import files, linux

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")


_GROUP_FILES = {
    "memory": (
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "memory.max_usage_in_bytes",
        "memory.oom_control",
        "memory.stat",
    ),
    "pids": ("pids.max", "pids.events"),
}
_MUCH = 256 << 10
_OWN_BYTES, _OWN_PROCESSES = 8 << 20, 2  # on top of what the runner has; it and a supervisor


class Rules:
    """How this worker keeps a job apart; fixed when it starts.

    Attributes:
        shared: No namespaces for each job: processes are found and ended by search, folders are
            cleaned, and what cannot be cleaned taints the worker.
        capable: The supervisor has rights (in its own namespace) that the job must lose.
        landlock: ``(readable, writable)`` paths where files are kept apart by landlock; else None.
        filter: The filter of system calls, as bytes; empty for none.
        work: The working folder.
        tmp: The folder for temporary files.
        shm: The folder of shared memory; None where it is not the job's own.
        path: Where programs are looked for.
        own_user: No other processes count as the job's user's.
        on_disk: The folders are parts of a disk: their files are no memory.
        alone: Every process but pid 1 and the supervisor is the job's.
        cgroups: Control groups for each job, or None.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.shared: bool = config["shared"]
        self.capable = not self.shared
        self.landlock: tuple[list[str], list[str]] | None = config.get("landlock")
        self.filter = b""
        self.work: str = config["work"]
        self.tmp: str = config["tmp"]
        self.shm: str | None = config.get("shm")
        self.path: str = config["path"]
        self.own_user = not self.shared or bool(config.get("uid") or config.get("alone"))
        self.on_disk: bool = config.get("on_disk", False)
        self.alone: bool = config.get("alone", False)
        self.cgroups: Cgroups | None = None

    @property
    def folders(self) -> list[str]:
        """Every folder that a job may write to."""
        return [folder for folder in (self.work, self.tmp, self.shm) if folder]


class Cgroups:
    """The worker's version-1 control groups for memory and processes.

    The fork server joins them when it starts, and all that it forks is in them: to move a process
    for each run would cost a grace period of the kernel's, milliseconds. The files are opened as
    root; a job has neither the descriptors nor a way to the folders.
    """

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._files: dict[str, int] = {}
        self._own = 0
        for kind, folder in folders.items():
            with open(f"{folder}/cgroup.procs", "w") as file:
                file.write("0")
            for name in _GROUP_FILES[kind]:
                with contextlib.suppress(FileNotFoundError):  # no account of swap
                    self._files[name] = os.open(f"{folder}/{name}", os.O_RDWR)

    def warm(self) -> None:
        """Take note of what the fork server holds, once that is all."""
        self._own = _counter(self._read("memory.stat"), "total_rss")

    def begin(self, limits: Mapping[str, float], held: int = 0, extra: int = 0) -> None:
        """Set the limits of a run, and forget the highest point of the one before.

        What the fork server and the supervisor hold, and what the supervisor may yet take of the
        run's output, comes on top of what the run may have.

        Args:
            limits: Of the run.
            held: Bytes of the job and of its runs so far that the supervisor keeps.
            extra: Bytes of files in memory that are ours.
        """
        own = self._own
        if held > _MUCH:  # how much it is in memory depends on what it is
            own = max(own, _counter(self._read("memory.stat"), "total_rss"))
        own += _OWN_BYTES + extra
        kept = (4 * int(limits["output_kb"]) + 2 * int(limits["value_kb"])) << 10
        self._limit_memory(own + kept + (int(limits["memory_mb"]) << 20))
        self._write("pids.max", int(limits["processes"]) + _OWN_PROCESSES)
        self._write("memory.max_usage_in_bytes", 0)

    def relax(self) -> None:
        """Between runs only our own processes are there, and they may need more."""
        self._limit_memory(-1)

    def _limit_memory(self, size: int) -> None:
        first, second = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
        try:
            self._write(first, size)
        except OSError:  # above the second one, which must go up before it
            self._write(second, size)
            self._write(first, size)
        else:
            self._write(second, size)

    def _write(self, name: str, number: int) -> None:
        if name in self._files:
            os.pwrite(self._files[name], str(number).encode(), 0)

    def _read(self, name: str) -> str:
        return os.pread(self._files[name], 4096, 0).decode() if name in self._files else ""

    def out_of_memory(self) -> int:
        """How many processes the kernel has ended for memory."""
        return _counter(self._read("memory.oom_control"), "oom_kill")

    def refused_processes(self) -> int:
        """How often a fork was refused."""
        return _counter(self._read("pids.events"), "max")

    def peak(self) -> int:
        """Bytes at the highest point, the runner's own included."""
        return int(self._read("memory.max_usage_in_bytes") or 0)


def _counter(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


class Process:
    """What /proc says of one process."""

    __slots__ = ("cpu", "parent", "pid", "resident", "state", "threads")

    def __init__(self, pid: int) -> None:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        self.pid = pid
        self.state = fields[0]
        self.parent = int(fields[1])
        self.cpu = sum(map(int, fields[11:15])) / _TICK  # that of children it waited for, too
        self.threads = int(fields[17])
        self.resident = int(fields[21]) * _PAGE

    @property
    def living(self) -> bool:
        """Not a zombie; one whose first thread ended before others is none."""
        return self.state not in b"ZX" or self.threads > 1


class Box:
    """Ends, counts and measures the processes of a job; cleans its folders."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.me = os.getpid()
        self.reaped_cpu = 0.0
        self.reaped_peak = 0
        self.spared: set[int] = set()  # processes of the job that a sweep leaves alone
        self.ended: dict[int, int] = {}  # statuses of those that were reaped, by pid

    def processes(self, spared: bool = False) -> list[Process]:
        """The living processes of the job; with those that a sweep leaves alone if asked."""
        found: dict[int, Process] = {}
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != self.me:
                try:
                    found[int(name)] = Process(int(name))
                except (OSError, IndexError):
                    continue  # gone meanwhile
        if self.rules.shared and not self.rules.alone:
            found = self._descendants(found)
        out = {1, os.getppid(), *(() if spared else self.spared)}  # our own, and those spared
        return [p for p in found.values() if p.living and p.pid not in out]

    def _descendants(self, found: Mapping[int, Process]) -> dict[int, Process]:
        mine, growing = {self.me}, True
        while growing:
            more = {pid for pid, p in found.items() if p.parent in mine} - mine
            mine |= more
            growing = bool(more)
        return {pid: found[pid] for pid in mine if pid in found}

    def end_all(self) -> bool:
        """End every process of the job and reap what is ours; False if some would not go."""
        if not self.rules.shared and not self.spared:  # else it would be everybody of this user
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            self.reap(block=True)
            return True
        deadline = time.monotonic() + 5.0
        while time.monotonic() < deadline:
            left = self.processes()
            if not left:
                self.reap()
                return True
            for process in left:  # first stop them all, or a fork bomb outruns the search
                send(process.pid, signal.SIGSTOP)
            for process in self.processes():
                send(process.pid, signal.SIGKILL)
            self.reap()
            time.sleep(0.001)
        return False

    def reap(self, block: bool = False) -> None:
        """Collect ended children and orphans."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, 0 if block else os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.ended[pid] = status
            self.count(usage)

    def count(self, usage: resource.struct_rusage) -> None:
        """Add what a process that was reaped had used."""
        self.reaped_cpu += usage.ru_utime + usage.ru_stime
        self.reaped_peak = max(self.reaped_peak, usage.ru_maxrss << 10)

    def measure(self) -> tuple[int, float, int, list[Process], int]:
        """``(bytes, cpu seconds, tasks, processes, bytes of files)`` of the living tree.

        Bytes include the files that are in memory; cpu includes what was reaped.
        """
        living = self.processes(spared=True)
        in_files = sum(self.used(folder) for folder in self.rules.folders)
        resident = sum(p.resident for p in living) + (0 if self.rules.on_disk else in_files)
        cpu = self.reaped_cpu + sum(p.cpu for p in living)
        return resident, cpu, sum(p.threads for p in living), living, in_files

    def proportional(self, living: Iterable[Process], in_files: int) -> int:
        """Bytes of the tree with shared pages counted once; slower than ``measure``."""
        in_memory = 0 if self.rules.on_disk else in_files
        return in_memory + sum(_anonymous(process) for process in living)

    def used(self, folder: str) -> int:
        """Bytes of the files in a folder: of the file system that it is, or counted."""
        if self.rules.on_disk:
            return files.counted(folder)
        state = os.statvfs(folder)
        return (state.f_blocks - state.f_bfree) * state.f_frsize

    def full(self) -> bool:
        """Whether one of the folders has no room left."""
        if self.rules.shared:
            return False
        states = [os.statvfs(folder) for folder in self.rules.folders]
        return any(state.f_bfree == 0 or state.f_ffree == 0 for state in states)

    def mount_folders(self, limits: Mapping[str, float]) -> None:
        """Fresh empty folders, of limited size, on top of what is there."""
        options = f"size={int(limits['disk_mb'])}m,nr_inodes={_inodes(limits)}"
        for folder in self.rules.folders:
            mode = "0700" if folder == self.rules.work else "1777"
            linux.mount("tmpfs", folder, options=f"{options},mode={mode}")

    def renew_folders(self, limits: Mapping[str, float]) -> bool:
        """Empty folders again, for the next run; False where something would not go."""
        if not self.rules.shared:
            for folder in self.rules.folders:
                linux.unmount(folder)
            self.mount_folders(limits)
            return True
        return self.empty_folders()

    def empty_folders(self) -> bool:
        """Delete all files; False where something would not go."""
        emptied = [files.empty(folder) for folder in self.rules.folders]
        return all(emptied)


def _inodes(limits: Mapping[str, float]) -> int:
    return max(1024, int(limits["disk_mb"]) * 128)


def _anonymous(process: Process) -> int:
    """Bytes of a process's memory that is no file's; of shared pages its share."""
    try:
        with open(f"/proc/{process.pid}/smaps_rollup", "rb") as file:
            lines = [line.split() for line in file]
        wanted = (b"Pss_Anon:", b"Pss_Shmem:")
        return sum(int(words[1]) << 10 for words in lines if words[0] in wanted)
    except OSError:
        return process.resident


def send(pid: int, number: int) -> None:
    """Signal a process that may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
