"""The kernel calls that Python has no names for, by ctypes. x86-64 and AArch64."""

import ctypes
import os
import platform
import struct

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
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
_SIGCHLD = 17

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 0x4000, 0x40000

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_CHILD_SUBREAPER = 1, 4, 38, 36

FILES_READ = 0b1101  # execute, read file, read directory
FILES_ALL = (1 << 13) - 1
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}


def _checked(result, what):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _syscall(what, number, *arguments):
    wide = (ctypes.c_long(item) if isinstance(item, int) else item for item in arguments)
    return _checked(_libc.syscall(ctypes.c_long(number), *wide), what)


def clone(namespaces):
    """A fork into new namespaces: 0 in the child, which is pid 1 of a new pid namespace.

    The C library's own account of the child (its thread id) is not renewed, so the child should do
    little but fork again.
    """
    return _syscall("clone", _CLONE, namespaces | _SIGCHLD, 0, 0, 0, 0)


def mount(kind, target, flags=MS_NOSUID | MS_NODEV, options=""):
    """Mount a new file system of this kind."""
    name = kind.encode()
    code = _libc.mount(name, target.encode(), name, ctypes.c_ulong(flags), options.encode())
    _checked(code, f"mount {kind} on {target}")


def make_private():
    """Let no mount go back to whoever this namespace was copied from."""
    code = _libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
    _checked(code, "make mounts private")


def unmount(target):
    """Take the topmost mount away, once nobody uses it."""
    _checked(_libc.umount2(target.encode(), 2), f"unmount {target}")


def map_identity(uid, gid):
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


def _prctl(option, value):
    _checked(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def set_dumpable(yes):
    """Whether processes of the same user may look into this one."""
    _prctl(_PR_SET_DUMPABLE, int(yes))


def no_new_privileges():
    """No program that is started can gain rights."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def become_subreaper():
    """Orphans of this process's descendants become its children."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent():
    """Be killed when the thread that made this process ends."""
    _prctl(_PR_SET_PDEATHSIG, 9)


def drop_capabilities():
    """Give up every capability, for good where no program of root's can be started."""
    header = struct.pack("=Ii", 0x20080522, 0)
    _syscall("capset", _CAPSET, ctypes.c_char_p(header), ctypes.c_char_p(bytes(24)))


def close_from(first):
    """Close all descriptors from ``first`` on."""
    try:
        _syscall("close_range", _CLOSE_RANGE, first, 0x7FFFFFFF, 0)
    except OSError:
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def load_seccomp(program):
    """Put this process, and all that it starts, under a filter (see ``seccomp.program``)."""
    argument = _Program(len(program) // 8, program)
    _syscall("seccomp", _SECCOMP, 1, 0, ctypes.byref(argument))


def landlock_version():
    """The version of the kernel's landlock interface; 0 where there is none."""
    try:
        return _syscall("landlock", _LANDLOCK, None, 0, 1)
    except OSError:
        return 0


def landlock(readable, writable):
    """Restrict this process to these folders, off TCP and off signals to others, for good.

    What the kernel's version does not know stays unrestricted; see :func:`landlock_version`.
    """
    version = landlock_version()
    files = _FILE_RIGHTS.get(version, (1 << 16) - 1)  # from version 5 on, devices' ioctls too
    network = 3 if version >= 4 else 0
    scope = 3 if version >= 6 else 0  # abstract sockets, signals
    attributes = struct.pack("=QQQ", files, network, scope)
    size = {0: 8, 1: 8, 2: 8, 3: 8, 4: 16, 5: 16}.get(version, 24)
    rules = _syscall("landlock", _LANDLOCK, ctypes.c_char_p(attributes), size, 0)
    try:
        for paths, rights in ((readable, FILES_READ), (writable, files)):
            for path in paths:
                if os.path.exists(path):
                    _allow(rules, path, rights & files)
        no_new_privileges()
        _syscall("landlock", _LANDLOCK + 2, rules, 0)
    finally:
        os.close(rules)


def _allow(rules, path, rights):
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            rights &= 0b110 | 1 | (1 << 14) | (1 << 15)  # what a file can be asked
        rule = struct.pack("=Qi", rights, fd)
        _syscall("landlock", _LANDLOCK + 1, rules, 1, ctypes.c_char_p(rule), 0)
    finally:
        os.close(fd)


_BENEATH_NO_LINKS = 0x08 | 0x04  # RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS


def open_beneath(folder, path, flags, mode=0):
    """Open a path beneath a folder's descriptor, through no link and never above it."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, _BENEATH_NO_LINKS)
    return _syscall(
        "open", _OPENAT2, folder, ctypes.c_char_p(os.fsencode(path)), ctypes.c_char_p(how), len(how)
    )
