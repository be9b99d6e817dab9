"""The embedded back end: a fork server in bubblewrap, new namespaces for every job."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from rl_sandboxes import bundle, cgroups
from rl_sandboxes.pool import WorkerLostError, WorkerPool, default_size
from rl_sandboxes.stream import StreamWorker
from rl_sandboxes.types import Guarantees, SandboxError

Level = Literal["auto", "namespaces", "landlock", "none"]
LEVELS = ("auto", "namespaces", "landlock", "none")

_START_S = 20.0
_FIRST_UID = 1_500_000_000  # no user has these
_FOLDER = "agent-rl-sandbox-"
_numbers = itertools.count()
_log = logging.getLogger("rl_sandboxes")
_LIBRARIES = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SETTINGS = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d")


class LocalSandbox(WorkerPool):
    """Runs jobs on this machine, as any user.

    Args:
        workers: Fork servers, each runs one job at a time; None for one per processor.
        level: ``namespaces``: every job has its own; ``landlock``: where they are refused, with
            less kept apart (see ``guarantees().missing``); ``none``: nothing is kept apart.
            ``auto`` takes the first that works here, and never ``none``.
        allow_unsafe: Must be true for ``none``.
        python: The interpreter for jobs, at least 3.9; None for the one that runs this.
        packages: Folders that jobs may read beside the interpreter's own, put on their path.
        preload: Modules imported before the first job, so that jobs need not load them.

    Raises:
        SandboxError: What is asked for does not work here; says what to install or change.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        level: Level = "auto",
        allow_unsafe: bool = False,
        python: str | None = None,
        packages: Sequence[str] = (),
        preload: Sequence[str] = (),
    ) -> None:
        if level not in LEVELS:
            raise SandboxError(f"level is {level!r}; it must be one of {', '.join(LEVELS)}")
        if level == "none" and not allow_unsafe:
            raise SandboxError(
                "level none runs the code of strangers with all your rights; "
                "if you mean it, pass allow_unsafe=True"
            )
        self._first: StreamWorker | None = None
        start, self.level = self._choose(level, Interpreter.of(python), packages, preload)
        super().__init__(
            "local", start, GUARANTEES[self.level](), size=default_size() if workers is None else workers
        )

    def _choose(
        self, level: Level, python: Interpreter, packages: Sequence[str], preload: Sequence[str]
    ) -> tuple[Callable[[], StreamWorker], str]:
        """How workers start, proven by starting the first, and at which level."""
        cgroups.reap()
        _reap_folders()
        refused = ""
        for candidate in ("namespaces", "landlock") if level == "auto" else (level,):
            plan = _PLANS[candidate](python, tuple(packages), tuple(preload))
            try:
                self._first = plan.start()
            except SandboxError as error:
                if candidate == "namespaces" and level == "auto" and _bubblewrap() is not None:
                    refused = str(error)
                    continue
                raise SandboxError(f"{error}{f'; before: {refused}' if refused else ''}") from None
            if refused:
                _log.warning("sandbox local runs at level landlock: %s", refused)
            return lambda: self._take_first() or plan.start(), candidate
        raise AssertionError("the last level either starts or raises")

    def _take_first(self) -> StreamWorker | None:
        first, self._first = self._first, None
        return first

    def close(self) -> None:
        """End all workers; safe to call twice."""
        first = self._take_first()
        if first is not None:
            first.kill()
        super().close()


@dataclass(frozen=True)
class Interpreter:
    """A Python for jobs.

    Attributes:
        path: The program.
        prefix: The folder of its library.
        magic: Its bytecode version if it is this very program, else empty.
    """

    path: str
    prefix: str
    magic: bytes

    @classmethod
    def of(cls, python: str | None) -> Interpreter:
        """The one that was asked for, or the one that runs this, outside any virtual environment.

        Raises:
            SandboxError: It cannot be run.
        """
        if python is None:
            own = getattr(sys, "_base_executable", None) or sys.executable
            return cls(os.path.realpath(own), sys.base_prefix, importlib.util.MAGIC_NUMBER)
        ask = "import sys; print(sys.base_prefix); sys.exit(sys.version_info < (3, 9))"
        try:
            done = subprocess.run(
                [python, "-I", "-c", ask], capture_output=True, text=True, timeout=30, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise SandboxError(f"python {python!r} for jobs cannot be used: {error}") from None
        path = os.path.realpath(shutil.which(python) or python)
        return cls(path, done.stdout.strip(), b"")

    @property
    def folders(self) -> tuple[str, ...]:
        """What must be seen beside /usr to run it."""
        places = {os.path.realpath(self.prefix), self.prefix}
        return tuple(sorted(p for p in places if not Path(p).is_relative_to("/usr")))

    @property
    def search_path(self) -> str:
        """PATH for jobs: this interpreter's programs first."""
        own = f"{self.prefix}/bin"
        return ":".join(dict.fromkeys([own, "/usr/local/bin", "/usr/bin", "/bin"]))


@dataclass(frozen=True)
class Namespaces:
    """Starts fork servers in bubblewrap; each job has its own user, mount and pid namespace."""

    python: Interpreter
    packages: tuple[str, ...]
    preload: tuple[str, ...]

    def start(self) -> StreamWorker:
        """Start one.

        Raises:
            SandboxError: bubblewrap is missing or may not do its work.
        """
        program = _bubblewrap()
        if program is None:
            raise SandboxError(
                "bubblewrap is not installed: install it (apt-get install bubblewrap), "
                "or choose level: landlock, which keeps less apart"
            )
        number = next(_numbers)
        root = os.geteuid() == 0
        uid = _FIRST_UID + (os.getpid() % 1_000_000) * 64 + number % 64 if root else None
        groups = cgroups.make(f"{os.getpid()}-{number}", uid) if uid is not None else {}
        config = {
            "shared": False,
            "work": "/work",
            "tmp": "/tmp",
            "shm": "/dev/shm",
            "path": self.python.search_path,
            "mount_proc": root,
            "uid": uid,
            "cgroups": {kind: f"/run/groups/{kind}" for kind in groups},
            "preload": list(self.preload),
        }
        binds = ["--perms", "0700", "--dir", "/run/groups"]  # no job can go there
        for kind, path in groups.items():
            binds += ["--bind", str(path), f"/run/groups/{kind}"]
        binds += ["--remount-ro", "/dev", "--remount-ro", "/"]  # jobs write to their own mounts
        try:
            return _launch(
                lambda info: [program, *_walls(self, root), *binds, "--info-fd", str(info)],
                self.python,
                config,
                lambda: cgroups.remove(groups),
            )
        except SandboxError:
            cgroups.remove(groups)
            raise


def _walls(plan: Namespaces, root: bool) -> list[str]:
    """bubblewrap's options: what a worker sees of this machine."""
    words = ["--unshare-pid", "--unshare-ipc", "--unshare-net", "--unshare-uts"]
    words += ["--unshare-cgroup-try", "--new-session", "--hostname", "sandbox", "--clearenv"]
    words += ["--setenv", "PYTHONHASHSEED", "0", "--setenv", "LANG", "C.UTF-8"]
    if root:  # the worker changes to a user of its own, for which it needs root's rights once
        for right in ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID"):
            words += ["--cap-add", right]
    else:
        words += ["--unshare-user", "--proc", "/proc"]
    words += ["--ro-bind", "/usr", "/usr"]
    for path in _LIBRARIES:
        if os.path.islink(path):
            words += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            words += ["--ro-bind", path, path]
    words += ["--perms", "0755", "--dir", "/etc"]
    for path in _SETTINGS:
        words += ["--ro-bind-try", path, path]
    for path in (*plan.python.folders, *plan.packages):
        for folder in reversed(Path(path).parents[:-1]):  # or they get the modes that they have here
            words += ["--perms", "0755", "--dir", str(folder)]
        words += ["--ro-bind", path, path]
    words += ["--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/work", "--chdir", "/"]
    return words + (["--dir", "/proc"] if root else [])


@dataclass(frozen=True)
class Landlock:
    """Starts fork servers without namespaces: landlock, a filter of system calls, limits."""

    python: Interpreter
    packages: tuple[str, ...]
    preload: tuple[str, ...]
    restrict: bool = True

    def start(self) -> StreamWorker:
        """Start one.

        Raises:
            SandboxError: The kernel has no landlock.
        """
        from rl_sandboxes.inside import linux  # noqa: PLC0415 - it wants Linux

        if self.restrict and linux.landlock_version() < 1:
            raise SandboxError(
                "this kernel has no landlock (Linux 5.13 or newer, lsm=landlock): "
                "let bubblewrap make user namespaces, or use docker or remote"
            )
        root = os.geteuid() == 0
        uid = _FIRST_UID + (os.getpid() % 1_000_000) * 64 + next(_numbers) % 64 if root else None
        python = self.python
        if uid is not None and not _open_to_all(python.path):
            python = Interpreter.of("/usr/bin/python3")
        home = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-"))
        home.chmod(0o711)
        folders = [home / "work", home / "tmp"]
        for folder in folders:
            folder.mkdir(mode=0o700)
            if uid is not None:
                os.chown(folder, uid, uid)
        readable = ["/usr", *_LIBRARIES, *_SETTINGS, *python.folders, *self.packages]
        readable += ["/dev/urandom", "/dev/random", "/dev/zero", "/proc/self"]
        config = {
            "shared": True,
            "on_disk": True,
            "work": str(folders[0]),
            "tmp": str(folders[1]),
            "path": python.search_path,
            "uid": uid,
            "landlock": [readable, [*map(str, folders), "/dev/null"]] if self.restrict else None,
            "families": [1] if self.restrict else [1, 2, 10],
            "preload": list(self.preload),
        }
        try:
            return _launch(None, python, config, lambda: shutil.rmtree(home, ignore_errors=True))
        except SandboxError:
            shutil.rmtree(home, ignore_errors=True)
            raise


def _reap_folders() -> None:
    """Remove the folders of processes that are no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        owner = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _open_to_all(path: str) -> bool:
    """Whether an ordinary user can come to a file."""
    return all(folder.stat().st_mode & 0o001 for folder in (Path(path), *Path(path).parents))


def _bubblewrap() -> str | None:
    return shutil.which("bwrap", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")


def _launch(
    walls: Callable[[int], list[str]] | None,
    python: Interpreter,
    config: dict[str, Any],
    clean: Callable[[], None],
) -> StreamWorker:
    """Start a runner, give it its sources and its config, and wait until it is ready."""
    ours, theirs = socket.socketpair()
    error = tempfile.TemporaryFile()
    read_info, write_info = os.pipe()
    command = bundle.command(python.path)
    try:
        process = subprocess.Popen(
            [*(walls(write_info) if walls else ()), *command],
            stdin=theirs,
            stdout=theirs,
            stderr=error,
            env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},
            cwd="/",
            close_fds=True,
            pass_fds=(write_info,) if walls else (),
            start_new_session=True,
        )
    except OSError as problem:
        ours.close()
        os.close(read_info)
        error.close()
        raise SandboxError(f"cannot start {command[0]}: {problem}") from None
    finally:
        theirs.close()
        os.close(write_info)
    ended = _Ended(process, read_info, error, clean)
    worker = StreamWorker(ours, ended, lambda: _tail(error))
    try:
        deadline = time.monotonic() + _START_S
        worker.send(bundle.payload(python.magic), deadline)
        ready = worker.request(config, _START_S)
        if "ready" not in ready:
            raise WorkerLostError(str(ready.get("fatal", ready)))
    except WorkerLostError as problem:
        worker.kill()
        raise SandboxError(_explained(f"{problem} {_tail(error)}")) from None
    return worker


class _Ended:
    """Ends a worker's process, and with it its namespaces."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        info: int,
        error: IO[bytes],
        clean: Callable[[], None],
    ) -> None:
        self._process, self._info, self._error, self._clean = process, info, error, clean

    def __call__(self) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            # Reading ends at once: bubblewrap wrote, or it is gone; without it nobody writes.
            os.kill(json.loads(os.read(self._info, 4096))["child-pid"], signal.SIGKILL)
        os.close(self._info)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._error.close()
        self._clean()


def _tail(file: Any) -> str:
    with contextlib.suppress(OSError, ValueError):
        size = os.fstat(file.fileno()).st_size
        return os.pread(file.fileno(), 2000, max(0, size - 2000)).decode("utf-8", "replace").strip()
    return ""


def _explained(problem: str) -> str:
    """Why a worker does not start, and what to do, in one line."""
    text = " ".join(problem.split())
    lowered = text.lower()
    if "namespace" in lowered or "bwrap" in lowered or "clone:" in lowered or "mount" in lowered:
        return (
            f"user namespaces are refused here ({text[:200]}): allow them "
            "(sysctl kernel.unprivileged_userns_clone=1, "
            "or kernel.apparmor_restrict_unprivileged_userns=0), or use docker or remote"
        )
    return f"a sandbox worker does not start: {text[:300]}"


def _namespaces() -> Guarantees:
    groups = bool(cgroups.available())
    return Guarantees(
        network="empty network namespace of the worker",
        files="own root: /usr and the interpreter, read only",
        processes="pid namespace for each job",
        fresh="processes, memory, working folder, /tmp, /dev/shm: for each run",
        memory="control group for each run" if groups else "watched every 25 ms, address space 4x",
        process_limit="control group for each run" if groups else "user namespace for each job",
        disk="tmpfs of limited size and number of files",
        system_calls="seccomp, unknown calls refused",
    )


def _landlock() -> Guarantees:
    from rl_sandboxes.inside import linux  # noqa: PLC0415

    version = linux.landlock_version()
    missing = [
        "jobs see the machine's process ids",
        "memory, processes and disk are watched every 25 ms, not walled",
    ]
    if version < 6:
        missing.append("jobs may signal processes of the same user (landlock before version 6)")
    return Guarantees(
        network="seccomp: no internet sockets",
        files=f"landlock version {version}",
        processes="landlock scope" if version >= 6 else "",
        fresh="processes (by search) and the two folders: for each run",
        memory="watched every 25 ms, address space 4x",
        process_limit="watched, and by user where root",
        disk="watched, and the size of a file",
        system_calls="seccomp, unknown calls refused",
        missing=tuple(missing),
    )


def _none() -> Guarantees:
    everything = ("nothing is kept from a job: your files, your network, your processes",)
    return Guarantees("", "", "", "processes (by search)", "watched", "watched", "", "", everything)


GUARANTEES: dict[str, Callable[[], Guarantees]] = {
    "namespaces": _namespaces,
    "landlock": _landlock,
    "none": _none,
}
_PLANS: dict[str, Callable[..., Any]] = {
    "namespaces": Namespaces,
    "landlock": Landlock,
    "none": lambda *options: Landlock(*options, restrict=False),
}
