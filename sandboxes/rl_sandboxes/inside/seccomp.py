"""The filter of system calls: what a program needs, minus what opens the kernel to it.

Calls newer than the table are answered "no such call", so that nothing is allowed by being
forgotten; refused ones fail with EPERM, so that an honest program goes on. Read beside it: the
default profile of Docker, from which the list of refused calls was checked.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection

from .linux import MACHINE

_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_NEWEST = 456  # both tables; futex_requeue

# (x86-64, AArch64); None where the processor has no such call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "acct": (163, 89), "add_key": (248, 217), "adjtimex": (159, 171), "bpf": (321, 280),
    "chroot": (161, 51), "clock_adjtime": (305, 266), "clock_settime": (227, 112),
    "create_module": (174, None), "delete_module": (176, 106), "fanotify_init": (300, 262),
    "finit_module": (313, 273), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fsopen": (430, 430), "fspick": (433, 433), "get_kernel_syms": (177, None),
    "get_mempolicy": (239, 236), "init_module": (175, 105), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "io_uring_setup": (425, 425), "ioperm": (173, None),
    "iopl": (172, None), "kcmp": (312, 272), "kexec_file_load": (320, 294),
    "kexec_load": (246, 104), "keyctl": (250, 219), "lookup_dcookie": (212, 18),
    "map_shadow_stack": (453, 453), "mbind": (237, 235), "memfd_secret": (447, 447),
    "migrate_pages": (256, 238), "modify_ldt": (154, None), "mount": (165, 40),
    "mount_setattr": (442, 442), "move_mount": (429, 429), "move_pages": (279, 239),
    "mq_open": (240, 180), "mq_unlink": (241, 181), "msgget": (68, 186),
    "name_to_handle_at": (303, 264), "nfsservctl": (180, 42), "open_by_handle_at": (304, 265),
    "open_tree": (428, 428), "perf_event_open": (298, 241), "personality": (135, 92),
    "pidfd_getfd": (438, 438), "pivot_root": (155, 41), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "ptrace": (101, 117), "query_module": (178, None),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "reboot": (169, 142),
    "request_key": (249, 218), "semget": (64, 190), "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450), "setdomainname": (171, 162),
    "sethostname": (170, 161), "setns": (308, 268), "settimeofday": (164, 170),
    "shmget": (29, 194), "swapoff": (168, 225), "swapon": (167, 224), "syslog": (103, 116),
    "sysfs": (139, None), "_sysctl": (156, None), "umount2": (166, 39), "unshare": (272, 97),
    "uselib": (134, None), "userfaultfd": (323, 282), "ustat": (136, None), "vhangup": (153, 58),
}  # fmt: skip
_CLONE, _CLONE3, _FCNTL, _IOCTL = (56, 220), (435, 435), (72, 25), (16, 29)
_MEMFD_CREATE, _PRLIMIT, _SOCKET, _SOCKETPAIR = (319, 279), (302, 261), (41, 198), (53, 199)
# kill, tkill, rt_sigqueueinfo, pidfd_open, tgkill, rt_tgsigqueueinfo: the target comes first.
_SIGNALS = ((62, 129), (200, 130), (129, 138), (434, 434), (234, 131), (297, 240))
# sched_setaffinity, -scheduler, -param, -attr; then setpriority and ioprio_set, whose target is
# the second argument: only for oneself.
_SCHEDULING = ((203, 122), (144, 119), (142, 118), (314, 274))
_PRIORITIES = ((141, 140), (251, 30))
_PIDFD_SEND_SIGNAL = (424, 424)  # a descriptor of /proc/PID names a process too
_NEW_NAMESPACES = 0x7E020080
_TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP = 0x5412, 0x541C, 0x8901, 0x8902
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
_UNIX, _INET, _INET6 = 1, 2, 10

_LOAD, _EQUAL, _GREATER, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06


def _step(operation: int, k: int, yes: int = 0, no: int = 0) -> bytes:
    """One instruction; a test skips ``yes`` or ``no`` of those behind it."""
    return struct.pack("=HBBI", operation, yes, no, k & 0xFFFFFFFF)


def _fail(code: int) -> bytes:
    return _step(_RETURN, 0x00050000 | code)


_ALLOW = _step(_RETURN, 0x7FFF0000)
_REFUSE = _fail(errno.EPERM)
_NO_SUCH_CALL = _fail(errno.ENOSYS)


def _argument(index: int) -> bytes:
    """Load the lower half of an argument."""
    return _step(_LOAD, 16 + 8 * index)


def _one_of(values: Collection[int], yes: bytes, no: bytes) -> list[bytes]:
    """Return ``yes`` if what was loaded is one of these, else ``no``."""
    last = len(values)
    return [*(_step(_EQUAL, value, last - i) for i, value in enumerate(values)), no, yes]


def _when(number: int | None, *then: bytes) -> bytes:
    """For this call what follows, which ends with a return; nothing for other calls."""
    return b"" if number is None else _step(_EQUAL, number, 0, len(then)) + b"".join(then)


def program(
    families: Collection[int] = (_UNIX, _INET, _INET6),
    protected: Collection[int] = (),
    memfd: bool = True,
) -> bytes:
    """The filter as bytes for ``linux.load_seccomp``.

    Args:
        families: Socket families that may be made.
        protected: Process ids that must not be signalled (where no namespace hides them); sending
            to every process, or to another's group, and changing how others are scheduled, are
            refused then too.
        memfd: Whether files that live in memory alone may be made.
    """
    here = 0 if MACHINE == "x86_64" else 1
    parts = [
        _step(_LOAD, 4),  # the architecture
        _step(_EQUAL, _ARCH[MACHINE], 1, 0),
        _NO_SUCH_CALL,
        _step(_LOAD, 0),  # the call's number
        _step(_GREATER, _NEWEST, 0, 1),
        _NO_SUCH_CALL,
        _when(_CLONE3[here], _NO_SUCH_CALL),  # its flags are out of a filter's sight
        _when(_CLONE[here], _argument(0), _step(_ANY_BIT, _NEW_NAMESPACES, 0, 1), _REFUSE, _ALLOW),
    ]
    unknown = _fail(errno.EAFNOSUPPORT)
    for call in (_SOCKET, _SOCKETPAIR):
        parts.append(_when(call[here], _argument(0), *_one_of(families, _ALLOW, unknown)))
    requests = [_TIOCSTI, _TIOCLINUX, *((_FIOSETOWN, _SIOCSPGRP) if protected else ())]
    parts.append(_when(_IOCTL[here], _argument(1), *_one_of(requests, _REFUSE, _ALLOW)))
    # The limits of others: one's supervisor has the same user.
    parts.append(_when(_PRLIMIT[here], _argument(0), *_one_of([0], _ALLOW, _REFUSE)))
    parts += [_when(call[here], _REFUSE) for call in _REFUSED.values()]
    if not memfd:
        parts.append(_when(_MEMFD_CREATE[here], _REFUSE))
    if protected:
        parts += _no_signals_to(protected, here)
    return b"".join([*parts, _ALLOW])


def _no_signals_to(pids: Collection[int], here: int) -> list[bytes]:
    """Refuse the ways to signal these processes, their groups, or everybody."""
    targets = sorted({*pids, *(-pid & 0xFFFFFFFF for pid in pids), 0xFFFFFFFF})
    owners = _one_of([_F_SETOWN, _F_SETSIG, _F_SETOWN_EX], _REFUSE, _ALLOW)
    return [
        *(_when(call[here], _argument(0), *_one_of(targets, _REFUSE, _ALLOW)) for call in _SIGNALS),
        _when(_PIDFD_SEND_SIGNAL[here], _REFUSE),
        _when(_FCNTL[here], _argument(1), *owners),
        *(_when(c[here], _argument(0), *_one_of([0], _ALLOW, _REFUSE)) for c in _SCHEDULING),
        *(_when(c[here], _argument(1), *_one_of([0], _ALLOW, _REFUSE)) for c in _PRIORITIES),
    ]
