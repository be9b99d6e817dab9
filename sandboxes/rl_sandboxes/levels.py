"""The levels of the local back end: how a worker's walls are built, and what they keep apart."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rl_sandboxes import cgroups
from rl_sandboxes.interpreter import Interpreter
from rl_sandboxes.launch import launch
from rl_sandboxes.stream import StreamWorker
from rl_sandboxes.types import Guarantees, SandboxError

_FIRST_UID = 1_500_000_000  # no user has these
_FOLDER = "agent-rl-sandbox-"
_numbers = itertools.count()
_LIBRARIES = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SETTINGS = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d")


def _user(number: int) -> int | None:
    """A user id that nobody has, for a worker of root's; None where we cannot become it."""
    wanted = _FIRST_UID + (os.getpid() % 1_000_000) * 64 + number % 64
    return wanted if os.geteuid() == 0 and _is_mapped(wanted) else None


def _is_mapped(uid: int) -> bool:
    """Whether root may become this user: not in a user namespace that has only some."""
    ranges = (
        map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines()
    )
    return any(first <= uid < first + count for first, _, count in ranges)


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
        program = bubblewrap()
        if program is None:
            raise SandboxError(
                "bubblewrap is not installed: install it (apt-get install bubblewrap), "
                "or choose level: landlock, which keeps less apart"
            )
        number = next(_numbers)
        uid = _user(number)
        root = uid is not None
        groups = cgroups.make(f"{os.getpid()}-{number}") if uid is not None else {}
        config = {
            "shared": False,
            "work": "/work",
            "tmp": "/tmp",
            "shm": "/dev/shm",
            "path": self.python.search_path,
            "mount_proc": root,
            "uid": uid,
            "cgroups": {kind: f"/run/groups/{kind}" for kind in groups},
            "packages": list(self.packages),
            "preload": list(self.preload),
        }
        binds = ["--perms", "0700", "--dir", "/run/groups"]  # no job can go there
        for kind, path in groups.items():
            binds += ["--bind", str(path), f"/run/groups/{kind}"]
        binds += ["--remount-ro", "/dev", "--remount-ro", "/"]  # jobs write to their own mounts
        try:
            return launch(
                lambda info: [program, *_walls(self, root), *binds, "--info-fd", str(info)],
                self.python,
                config,
                lambda: cgroups.remove(groups),
                lambda: cgroups.oom_kills(groups),
            )
        except SandboxError:
            cgroups.remove(groups)
            raise

    def guarantees(self) -> Guarantees:
        """What it keeps apart on this machine."""
        groups = bool(cgroups.available())
        return Guarantees(
            network="empty network namespace of the worker",
            files="own root: /usr and the interpreter, read only",
            processes="pid namespace for each job",
            fresh="processes, memory, working folder, /tmp, /dev/shm: for each run",
            memory="control group of the worker, set for each run"
            if groups
            else "watched every 25 ms, address space 4x",
            process_limit="control group for each run" if groups else "user namespace for each job",
            disk="tmpfs of limited size and number of files",
            system_calls="seccomp, unknown calls refused",
        )


def _walls(plan: Namespaces, root: bool) -> list[str]:
    """What a worker sees of this machine."""
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
        for folder in reversed(
            Path(path).parents[:-1]
        ):  # or they get the modes that they have here
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
    restrict: ClassVar[bool] = True

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
        uid = _user(next(_numbers))
        python = self.python
        if uid is not None and not python.open_to_all:
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
            "packages": list(self.packages),
            "preload": list(self.preload),
        }
        try:
            return launch(None, python, config, lambda: _remove(home))
        except SandboxError:
            _remove(home)
            raise

    def guarantees(self) -> Guarantees:
        """What it keeps apart on this machine."""
        from rl_sandboxes.inside import linux  # noqa: PLC0415

        version = linux.landlock_version()
        missing = [
            "jobs see the machine's process ids",
            "no sockets, not even to oneself, and no locks or pools of multiprocessing (/dev/shm)",
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


@dataclass(frozen=True)
class Unsafe(Landlock):
    """Starts fork servers that keep nothing apart."""

    restrict: ClassVar[bool] = False

    def guarantees(self) -> Guarantees:
        """What it keeps apart on this machine."""
        everything = ("nothing is kept from a job: your files, your network, your processes",)
        return Guarantees(
            "", "", "", "processes (by search)", "watched", "watched", "", "", everything
        )


def reap_folders() -> None:
    """Remove the folders of processes that are no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        owner = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if not Path("/proc", owner).exists():
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a tree of a job's making: any depth, any modes."""
    from rl_sandboxes.inside import files  # noqa: PLC0415 - it wants Linux

    with contextlib.suppress(OSError):
        files.empty(str(folder), timeout_s=60.0)
        folder.rmdir()


def bubblewrap() -> str | None:
    """Where the program is, if it is installed."""
    return shutil.which("bwrap", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
