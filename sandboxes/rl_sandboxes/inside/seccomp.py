"""The filter of system calls: what a program needs, minus what opens the kernel to it.

Calls newer than the table are answered "no such call", so that nothing is allowed by being
forgotten; refused ones fail with EPERM, so that an honest program goes on. Read beside it: the
default profile of Docker, from which the list of refused calls was checked.
"""

import errno
import struct

from .linux import MACHINE

_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_NEWEST = 456  # both tables; futex_requeue

# (x86-64, AArch64); None where the processor has no such call.
_REFUSED = {
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
_CLONE, _CLONE3, _SOCKET, _SOCKETPAIR, _IOCTL = (
    (56, 220),
    (435, 435),
    (41, 198),
    (53, 199),
    (16, 29),
)
_MEMFD_CREATE = (319, 279)
_SIGNALS = ((62, 129), (200, 130), (129, 138), (424, 424), (434, 434))  # pid is the first argument
_TGKILL = ((234, 131), (297, 240))
_NEW_NAMESPACES = 0x7E020080
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_UNIX, _INET, _INET6 = 1, 2, 10

_LOAD, _EQUAL, _GREATER, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW = 0x7FFF0000


def _fail(code):
    return 0x00050000 | code


def program(families=(_UNIX, _INET, _INET6), protected=(), memfd=True):
    """The filter as bytes for ``linux.load_seccomp``.

    Args:
        families: Socket families that may be made.
        protected: Process ids that must not be signalled (where no namespace hides them); sending
            to every process, or to another's group, is refused then too.
        memfd: Whether files that live in memory alone may be made.
    """
    here = 0 if MACHINE == "x86_64" else 1
    code = []

    def add(operation, k, yes=0, no=0):
        code.append(struct.pack("=HBBI", operation, yes, no, k & 0xFFFFFFFF))

    def when(number, *then):
        """``then``: instructions that end with a return; skipped for other calls."""
        if number is not None:
            add(_EQUAL, number, 0, len(then))
            code.extend(then)

    def one(operation, k, yes=0, no=0):
        return struct.pack("=HBBI", operation, yes, no, k & 0xFFFFFFFF)

    def argument(index):
        return one(_LOAD, 16 + 8 * index)

    add(_LOAD, 4)
    add(_EQUAL, _ARCH[MACHINE], 1, 0)
    add(_RETURN, _fail(errno.ENOSYS))
    add(_LOAD, 0)
    add(_GREATER, _NEWEST, 0, 1)
    add(_RETURN, _fail(errno.ENOSYS))
    when(_CLONE3[here], one(_RETURN, _fail(errno.ENOSYS)))  # its flags are out of a filter's sight
    refuse = one(_RETURN, _fail(errno.EPERM))
    allow = one(_RETURN, _ALLOW)
    when(_CLONE[here], argument(0), one(_ANY_BIT, _NEW_NAMESPACES, 0, 1), refuse, allow)
    checks = [one(_EQUAL, family, len(families) - i, 0) for i, family in enumerate(families)]
    unknown = one(_RETURN, _fail(errno.EAFNOSUPPORT))
    for call in (_SOCKET, _SOCKETPAIR):
        when(call[here], argument(0), *checks, unknown, allow)
    when(
        _IOCTL[here],
        argument(1),
        one(_EQUAL, _TIOCSTI, 1, 0),
        one(_EQUAL, _TIOCLINUX, 0, 1),
        refuse,
        allow,
    )
    for number in (call[here] for call in _REFUSED.values()):
        when(number, refuse)
    if not memfd:
        when(_MEMFD_CREATE[here], refuse)
    if protected:
        targets = sorted({*protected, *(-pid & 0xFFFFFFFF for pid in protected), 0xFFFFFFFF})
        tests = [one(_EQUAL, pid, len(targets) - i, 0) for i, pid in enumerate(targets)]
        for call in (*_SIGNALS, *_TGKILL):
            when(call[here], argument(0), *tests, allow, refuse)
    add(_RETURN, _ALLOW)
    return b"".join(code)
