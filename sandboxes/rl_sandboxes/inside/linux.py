"""The kernel calls that Python has no names for, by ctypes. x86-64 and AArch64."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Sequence
from typing import Any

_libc = ctypes.PyDLL(None, use_errno=True)  # PyDLL keeps the GIL, so that a clone is like a fork
MACHINE = platform.machine()
_NUMBERS = {
    #           clone, capset, seccomp, close_range, landlock (create, add, restrict), openat2
    "x86_64": (56, 126, 317, 436, 444, 437),
    "aarch64": (220, 91, 277, 436, 444, 437),
}
if MACHINE not in _NUMBERS:
    raise SystemExit(f"sandboxes know x86-64 and AArch64 processors, not {MACHINE}")
_CLONE, _CAPSET, _SECCOMP, _CLOSE_RANGE, _LANDLOCK, _OPENAT2 = _NUMBERS[MACHINE]

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
_SIGCHLD = 17

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 0x4000, 0x40000
_MNT_DETACH = 2

_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 4, 36, 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_FOLDER = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEVICE = 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_FOLDER
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_NEWEST_FILE_RIGHTS = (1 << 16) - 1  # from version 5 on


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _syscall(what: str, number: int, *arguments: Any) -> int:
    wide = (ctypes.c_long(item) if isinstance(item, int) else item for item in arguments)
    return _checked(_libc.syscall(ctypes.c_long(number), *wide), what)


def clone(namespaces: int) -> int:
    """A fork into new namespaces: 0 in the child, which is pid 1 of a new pid namespace.

    The C library's own account of the child (its thread id) is not renewed, so the child should do
    little but fork again.
    """
    return _syscall("clone", _CLONE, namespaces | _SIGCHLD, 0, 0, 0, 0)


def mount(kind: str, target: str, flags: int = MS_NOSUID | MS_NODEV, options: str = "") -> None:
    """Mount a new file system of this kind."""
    name = kind.encode()
    code = _libc.mount(name, target.encode(), name, ctypes.c_ulong(flags), options.encode())
    _checked(code, f"mount {kind} on {target}")


def make_private() -> None:
    """Let no mount go back to whoever this namespace was copied from."""
    code = _libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
    _checked(code, "make mounts private")


def unmount(target: str) -> None:
    """Take the topmost mount out of sight; it goes when nobody uses it any more."""
    _checked(_libc.umount2(target.encode(), _MNT_DETACH), f"unmount {target}")


def map_identity(uid: int, gid: int) -> None:
    """Keep the present ids in a new user namespace."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        fd = os.open(f"/proc/self/{name}", os.O_WRONLY)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def _prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def set_dumpable(yes: bool) -> None:
    """Whether processes of the same user may look into this one."""
    _prctl(_PR_SET_DUMPABLE, int(yes))


def no_new_privileges() -> None:
    """No program that is started can gain rights."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def become_subreaper() -> None:
    """Orphans of this process's descendants become its children."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def drop_capabilities() -> None:
    """Give up every capability; for good after :func:`no_new_privileges`."""
    header = struct.pack("=Ii", 0x20080522, 0)
    _syscall("capset", _CAPSET, ctypes.c_char_p(header), ctypes.c_char_p(bytes(24)))


def close_from(first: int) -> None:
    """Close all descriptors from ``first`` on."""
    try:
        _syscall("close_range", _CLOSE_RANGE, first, 0x7FFFFFFF, 0)
    except OSError:
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def load_seccomp(program: bytes) -> None:
    """Put this process, and all that it starts, under a filter (see ``seccomp.program``)."""
    argument = _Program(len(program) // 8, program)
    _syscall("seccomp", _SECCOMP, 1, 0, ctypes.byref(argument))


def landlock_version() -> int:
    """The version of the kernel's landlock interface; 0 where there is none."""
    try:
        return _syscall("landlock", _LANDLOCK, None, 0, 1)
    except OSError:
        return 0


def landlock(readable: Sequence[str], writable: Sequence[str]) -> None:
    """Restrict this process to these folders, off TCP and off signals to others, for good.

    What the kernel's version does not know stays unrestricted; see :func:`landlock_version`.
    """
    version = landlock_version()
    files = _FILE_RIGHTS.get(version, _NEWEST_FILE_RIGHTS)
    network = 3 if version >= 4 else 0  # to bind and to connect
    scope = 3 if version >= 6 else 0  # abstract sockets, signals
    attributes = struct.pack("=QQQ", files, network, scope)
    size = {0: 8, 1: 8, 2: 8, 3: 8, 4: 16, 5: 16}.get(version, 24)
    rules = _syscall("landlock", _LANDLOCK, ctypes.c_char_p(attributes), size, 0)
    try:
        for paths, rights in ((readable, _READ), (writable, files)):
            for path in paths:
                if os.path.exists(path):
                    _allow(rules, path, rights & files)
        no_new_privileges()
        _syscall("landlock", _LANDLOCK + 2, rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            rights &= _OF_A_FILE
        rule = struct.pack("=Qi", rights, fd)
        _syscall("landlock", _LANDLOCK + 1, rules, 1, ctypes.c_char_p(rule), 0)
    finally:
        os.close(fd)


_BENEATH_NO_LINKS = 0x08 | 0x04  # RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS


def open_beneath(folder: int, path: str, flags: int, mode: int = 0) -> int:
    """Open a path beneath a folder's descriptor, through no link and never above it."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, _BENEATH_NO_LINKS)
    return _syscall(
        "open", _OPENAT2, folder, ctypes.c_char_p(os.fsencode(path)), ctypes.c_char_p(how), len(how)
    )
