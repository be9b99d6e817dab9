"""The world of one job, seen by its supervisor: processes, memory, folders."""

import os
import signal
import stat
import time

from . import linux

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")


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
        on_disk: The folders are parts of a disk: their files are no memory.
        cgroups: Control groups for each job, or None.
    """

    def __init__(self, config):
        self.shared = config["shared"]
        self.capable = not self.shared
        self.landlock = config.get("landlock")
        self.filter = b""
        self.work = config["work"]
        self.tmp = config["tmp"]
        self.shm = config.get("shm")
        self.path = config["path"]
        self.on_disk = config.get("on_disk", False)  # the folders are no tmpfs of their own
        self.alone = config.get("alone", False)  # every process but pid 1 and us is the job's
        self.cgroups = None

    @property
    def folders(self):
        """Every folder that a job may write to."""
        return [folder for folder in (self.work, self.tmp, self.shm) if folder]


class Cgroups:
    """Version-1 control groups for memory and processes, made for each run.

    The folders belong to this worker; they are opened and then hidden from the job.
    """

    def __init__(self, folders):
        self._parents = {kind: os.open(path, os.O_PATH) for kind, path in folders.items()}
        self.joins = []
        self._made = []

    def begin(self, limits, name):
        """Make the groups of a run."""
        self.joins, self._made = [], []
        for kind, parent in self._parents.items():
            try:
                os.mkdir(name, dir_fd=parent)
            except FileExistsError:
                pass
            group = os.open(name, os.O_PATH, dir_fd=parent)
            self._made.append((kind, parent, name, group))
            if kind == "memory":
                size = str(limits["memory_mb"] << 20)
                self._write(group, "memory.limit_in_bytes", size)
                self._write(group, "memory.memsw.limit_in_bytes", size)
            else:
                self._write(group, "pids.max", str(int(limits["processes"])))
            self.joins.append(os.open("cgroup.procs", os.O_WRONLY, dir_fd=group))

    def _group(self, kind):
        return next((made[3] for made in self._made if made[0] == kind), None)

    def _write(self, group, name, text):
        try:
            fd = os.open(name, os.O_WRONLY, dir_fd=group)
        except FileNotFoundError:
            return  # no account of swap
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def _read(self, kind, name):
        group = self._group(kind)
        if group is None:
            return ""
        fd = os.open(name, os.O_RDONLY, dir_fd=group)
        try:
            return os.read(fd, 4096).decode()
        finally:
            os.close(fd)

    def out_of_memory(self):
        """Whether the kernel ended a process of the run."""
        return _counter(self._read("memory", "memory.oom_control"), "oom_kill") > 0

    def refused_processes(self):
        """Whether a fork was refused."""
        return _counter(self._read("pids", "pids.events"), "max") > 0

    def peak(self):
        """Bytes at the highest point."""
        return int(self._read("memory", "memory.max_usage_in_bytes") or 0)

    def end(self):
        """Remove the groups; their processes are gone."""
        for fd in self.joins:
            os.close(fd)
        for _, parent, name, group in self._made:
            os.close(group)
            for _ in range(50):
                try:
                    os.rmdir(name, dir_fd=parent)
                    break
                except OSError:
                    time.sleep(0.002)
        self.joins, self._made = [], []


def _counter(text, name):
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


class Process:
    """What /proc says of one process."""

    __slots__ = ("cpu", "parent", "pid", "resident", "started", "state", "threads")

    def __init__(self, pid):
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        self.pid = pid
        self.state = fields[0]
        self.parent = int(fields[1])
        self.cpu = (int(fields[11]) + int(fields[12])) / _TICK
        self.threads = int(fields[17])
        self.started = int(fields[19])
        self.resident = int(fields[21]) * _PAGE


class Box:
    """Ends, counts and measures the processes of a job; cleans its folders."""

    def __init__(self, rules):
        self.rules = rules
        self.me = os.getpid()
        self.reaped_cpu = 0.0
        self.reaped_peak = 0
        self.spared = set()  # processes that a sweep leaves alone

    def processes(self):
        """The living processes of the job."""
        found = {}
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != self.me:
                try:
                    found[int(name)] = Process(int(name))
                except (OSError, IndexError):
                    continue  # gone meanwhile
        if self.rules.shared and not self.rules.alone:
            found = self._descendants(found)
        return [
            p
            for p in found.values()
            if p.state not in b"ZX" and p.pid not in self.spared and p.pid != 1
        ]

    def _descendants(self, found):
        mine, growing = {self.me}, True
        while growing:
            more = {pid for pid, p in found.items() if p.parent in mine} - mine
            mine |= more
            growing = bool(more)
        return {pid: found[pid] for pid in mine if pid in found}

    def end_all(self):
        """End every process of the job and reap what is ours; False if some would not go."""
        if not self.rules.shared and not self.spared:
            self._signal_all()
            self.reap(block=True)
            return True
        deadline = time.monotonic() + 5.0
        while time.monotonic() < deadline:
            left = self.processes()
            if not left:
                self.reap()
                return True
            for process in left:  # first stop them all, or a fork bomb outruns the search
                _send(process.pid, signal.SIGSTOP)
            for process in self.processes():
                _send(process.pid, signal.SIGKILL)
            self.reap()
            time.sleep(0.001)
        return False

    def _signal_all(self):
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def reap(self, block=False):
        """Collect ended children and orphans; those that ended, by pid, with their status."""
        ended = {}
        while True:
            try:
                pid, status, usage = os.wait4(-1, 0 if block else os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            ended[pid] = status
            self.reaped_cpu += usage.ru_utime + usage.ru_stime
            self.reaped_peak = max(self.reaped_peak, usage.ru_maxrss << 10)

    def measure(self):
        """``(bytes, cpu seconds, tasks)`` of the living tree; cpu includes what was reaped."""
        living = self.processes()
        files = sum(self.used(folder) for folder in self.rules.folders)
        in_memory = 0 if self.rules.on_disk else files
        resident = sum(p.resident for p in living) + in_memory
        cpu = self.reaped_cpu + sum(p.cpu for p in living)
        return resident, cpu, sum(p.threads for p in living), living, files

    def proportional(self, living, files):
        """Bytes of the tree with shared pages counted once; slower than ``measure``."""
        in_memory = 0 if self.rules.on_disk else files
        return in_memory + sum(_anonymous(process) for process in living)

    def used(self, folder):
        """Bytes of the files in a folder: of the file system that it is, or counted."""
        if self.rules.on_disk:
            return _counted(folder)
        state = os.statvfs(folder)
        return (state.f_blocks - state.f_bfree) * state.f_frsize

    def full(self):
        """Whether one of the folders has no room left."""
        if self.rules.shared:
            return False
        states = [os.statvfs(folder) for folder in self.rules.folders]
        return any(state.f_bfree == 0 or state.f_ffree == 0 for state in states)

    def mount_folders(self, limits):
        """Fresh empty folders, of limited size, on top of what is there."""
        options = f"size={int(limits['disk_mb'])}m,nr_inodes={_inodes(limits)}"
        for folder in self.rules.folders:
            mode = "0700" if folder == self.rules.work else "1777"
            linux.mount("tmpfs", folder, options=f"{options},mode={mode}")

    def renew_folders(self, limits):
        """Empty folders again, for the next run; False where something would not go."""
        if not self.rules.shared:
            for folder in self.rules.folders:
                linux.unmount(folder)
            self.mount_folders(limits)
            return True
        return all([empty(folder) for folder in self.rules.folders])


def _inodes(limits):
    return max(1024, int(limits["disk_mb"]) * 128)


def _counted(folder):
    """Bytes of the first files of a folder; not all, as this is done while the clock runs."""
    total, seen = 0, 0
    for where, _, names in os.walk(folder):
        for name in names:
            seen += 1
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except OSError:
                continue
        if seen > 2000:
            break
    return total


def _anonymous(process):
    """Bytes of a process's memory that is no file's; of shared pages its share."""
    try:
        with open(f"/proc/{process.pid}/smaps_rollup", "rb") as file:
            lines = [line.split() for line in file]
        wanted = (b"Pss_Anon:", b"Pss_Shmem:")
        return sum(int(words[1]) << 10 for words in lines if words[0] in wanted)
    except OSError:
        return process.resident


def _send(pid, number):
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def empty(folder):
    """Delete what is in a folder, however deep and whatever its modes; False if some stays."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in os.listdir(fd):
            _delete(fd, name)
        return not os.listdir(fd)
    except OSError:
        return False
    finally:
        os.close(fd)


def _delete(parent, name):
    """Delete an entry. Deep trees are flattened on the way: a folder's own folders move up."""
    queue = [name]
    while queue:
        entry = queue.pop()
        mode = os.stat(entry, dir_fd=parent, follow_symlinks=False).st_mode
        if not stat.S_ISDIR(mode):
            os.unlink(entry, dir_fd=parent)
            continue
        os.chmod(entry, 0o700, dir_fd=parent)
        fd = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            for number, inner in enumerate(os.listdir(fd)):
                inner_mode = os.stat(inner, dir_fd=fd, follow_symlinks=False).st_mode
                if stat.S_ISDIR(inner_mode):
                    os.chmod(inner, 0o700, dir_fd=fd)
                    moved = f".{os.getpid()}.{len(queue)}.{number}"
                    os.rename(inner, moved, src_dir_fd=fd, dst_dir_fd=parent)
                    queue.append(moved)
                else:
                    os.unlink(inner, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(entry, dir_fd=parent)
