"""The filter of system calls: its numbers, its decisions, and what the kernel makes of it."""

from __future__ import annotations

import errno
import functools
import json
import os
import platform
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rl_sandboxes.inside import seccomp

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "i386": 0x40000003}
HEADERS = {"x86_64": "asm/unistd_64.h", "aarch64": "asm-generic/unistd.h"}
NAMESPACES = {
    "time": 0x80,
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
}
THREAD = 0x003D0F00  # the flags of a new thread
SIGCHLD = 17
OPENS_THE_KERNEL = """
    add_key bpf chroot delete_module fanotify_init finit_module fsconfig fsmount fsopen fspick
    init_module io_uring_enter io_uring_register io_uring_setup kcmp kexec_load keyctl mbind mount
    mount_setattr move_mount move_pages mq_open msgget name_to_handle_at open_by_handle_at open_tree
    perf_event_open personality pidfd_getfd pivot_root process_madvise process_vm_readv
    process_vm_writev ptrace quotactl reboot request_key semget sethostname setns shmget swapon
    syslog umount2 unshare userfaultfd acct settimeofday clock_settime vhangup memfd_secret
"""
HONEST = """
    read write openat close mmap munmap mprotect brk futex execve exit exit_group wait4 pipe2 dup3
    getpid clock_gettime nanosleep getrandom statx newfstatat lseek rt_sigaction rt_sigprocmask
    sigaltstack set_tid_address set_robust_list rseq sched_yield sched_getaffinity getrusage uname
    epoll_create1 epoll_ctl eventfd2 connect bind listen sendto recvfrom unlinkat mkdirat renameat2
    ftruncate fsync getcwd chdir fchmodat setsid setpgid getrlimit memfd_create timerfd_create
    landlock_create_ruleset close_range copy_file_range
"""
SIGNALS = ["kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open"]


def decide(program, number, *arguments, arch=ARCH["x86_64"]):
    """What the kernel would say: ``allow`` or the name of an error. A machine of classic BPF."""
    data = struct.pack("=IIQ", number & 0xFFFFFFFF, arch, 0)
    wide = [value & (2**64 - 1) for value in arguments] + [2**63 + 12345] * (6 - len(arguments))
    data += struct.pack("=6Q", *wide)
    steps = list(struct.iter_unpack("=HBBI", program))
    at, loaded = 0, 0
    while True:
        operation, yes, no, k = steps[at]
        at += 1
        if operation == 0x06:
            break
        if operation == 0x20:
            (loaded,) = struct.unpack_from("=I", data, k)
            continue
        tests = {0x15: loaded == k, 0x25: loaded > k, 0x35: loaded >= k, 0x45: bool(loaded & k)}
        at += yes if tests[operation] else no
    if k == 0x7FFF0000:
        return "allow"
    assert k >> 16 == 0x0005, f"neither an error nor leave: {k:#x}"
    return errno.errorcode[k & 0xFFFF]


@functools.cache
def header(machine):
    """Numbers of calls by name, from this machine's kernel headers."""
    for path in Path("/usr/include").glob(f"**/{HEADERS[machine]}"):
        text = path.read_text()
        return {
            name: int(number)
            for name, number in re.findall(r"#define\s+__NR(?:3264)?_(\w+)\s+(\d+)\b", text)
        }
    pytest.skip(f"no kernel headers for {machine} ({HEADERS[machine]})")


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request, monkeypatch):
    """The filter's own processor, whichever this one is."""
    monkeypatch.setattr(seccomp, "MACHINE", request.param)
    return request.param


@pytest.fixture
def numbers(machine):
    return header(machine)


@pytest.fixture
def judge(machine):
    """Decides a call by number under a filter with these options."""

    def decided(number, *arguments, **options):
        return decide(seccomp.program(**options), number, *arguments, arch=ARCH[machine])

    return decided


# Numbers.


def test_every_number_of_the_table_is_the_kernel_s(machine, numbers):
    column = list(HEADERS).index(machine)
    table = {name: both[column] for name, both in seccomp._REFUSED.items() if name in numbers}
    assert table == {name: numbers[name] for name in table}
    assert len(table) > 50


def test_what_a_processor_lacks_is_not_in_its_headers(machine, numbers):
    column = list(HEADERS).index(machine)
    lacking = {name for name, both in seccomp._REFUSED.items() if both[column] is None}
    assert lacking & numbers.keys() == set()


def test_calls_that_open_the_kernel_are_refused(judge, numbers):
    there = [name for name in OPENS_THE_KERNEL.split() if name in numbers]
    assert {name: judge(numbers[name]) for name in there} == dict.fromkeys(there, "EPERM")
    assert len(there) > 40


def test_calls_that_honest_programs_make_are_allowed(judge, numbers):
    there = [name for name in HONEST.split() if name in numbers]
    assert {name: judge(numbers[name]) for name in there} == dict.fromkeys(there, "allow")
    assert len(there) > 40


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
@example(457)
@example(0x40000000)  # the x32 calls
@example(0x40000000 + 101)
@example(2**32 - 1)
def test_a_number_that_is_not_in_the_table_is_no_such_call(number):
    said = decide(seccomp.program(), number, arch=ARCH[platform.machine()])
    assert (said == "ENOSYS") == (number > 456 or number == 435)  # clone3


@settings(deadline=None)
@given(st.integers(0, 500), st.sampled_from([0, 0xC00000B8, ARCH["i386"], 2**32 - 1]))
def test_calls_of_another_processor_are_no_such_call(number, arch):
    assert decide(seccomp.program(), number, arch=arch) == "ENOSYS"


# Arguments.


@pytest.mark.parametrize("name", sorted(NAMESPACES))
@pytest.mark.parametrize("beside", [0, SIGCHLD, THREAD, 1 << 40])
def test_a_clone_into_a_new_namespace_is_refused(judge, numbers, name, beside):
    assert judge(numbers["clone"], NAMESPACES[name] | beside) == "EPERM"


@pytest.mark.parametrize("flags", [SIGCHLD, THREAD, 0x4111])
def test_other_clones_are_allowed(judge, numbers, flags):
    assert judge(numbers["clone"], flags) == "allow"


def test_the_clone_whose_flags_are_out_of_sight_is_no_such_call(judge, numbers):
    assert judge(numbers["clone3"]) == "ENOSYS"


@pytest.mark.parametrize("call", ["socket", "socketpair"])
@pytest.mark.parametrize("family", range(48))
def test_sockets_of_three_families_alone_are_allowed(judge, numbers, call, family):
    wanted = "allow" if family in (1, 2, 10) else "EAFNOSUPPORT"
    assert judge(numbers[call], family) == wanted
    assert judge(numbers[call], family | 1 << 32) == wanted  # the kernel reads the lower half


def test_the_families_can_be_chosen(judge, numbers):
    said = [judge(numbers["socket"], family, families=(1,)) for family in (1, 2, 10, 16)]
    assert said == ["allow"] + ["EAFNOSUPPORT"] * 3


@pytest.mark.parametrize("upper", [0, 1 << 32, 0xFFFFFFFF << 32])
@pytest.mark.parametrize(("request_", "said"), [(0x5412, "EPERM"), (0x541C, "EPERM")])
def test_writing_to_another_s_terminal_is_refused(judge, numbers, request_, said, upper):
    assert judge(numbers["ioctl"], 0, request_ | upper) == said


@pytest.mark.parametrize("request_", [0x5401, 0x5413, 0x541B])
def test_other_requests_to_a_terminal_are_allowed(judge, numbers, request_):
    assert judge(numbers["ioctl"], 0, request_) == "allow"


@pytest.mark.parametrize(("memfd", "said"), [(True, "allow"), (False, "EPERM")])
def test_files_in_memory_can_be_refused(judge, numbers, memfd, said):
    assert judge(numbers["memfd_create"], memfd=memfd) == said


@pytest.mark.parametrize(("pid", "said"), [(0, "allow"), (1, "EPERM"), (4321, "EPERM")])
def test_the_limits_of_another_process_are_out_of_reach(judge, numbers, pid, said):
    assert judge(numbers["prlimit64"], pid, 0, 0x7000) == said


@pytest.mark.parametrize("call", SIGNALS)
@pytest.mark.parametrize("pid", [1, 4321, -1, -4321, 1 << 32 | 4321])
def test_protected_processes_are_not_signalled(judge, numbers, call, pid):
    assert judge(numbers[call], pid, protected=(1, 4321)) == "EPERM"


@pytest.mark.parametrize("call", SIGNALS)
@pytest.mark.parametrize("pid", [0, 2, 4320, -2, 43210])
def test_other_processes_may_be_signalled(judge, numbers, call, pid):
    assert judge(numbers[call], pid, protected=(1, 4321)) == "allow"


@pytest.mark.parametrize("call", [*SIGNALS, "pidfd_send_signal", "fcntl"])
@pytest.mark.parametrize("pid", [1, 4321, -1])
def test_where_a_namespace_hides_processes_signals_are_free(judge, numbers, call, pid):
    assert judge(numbers[call], pid) == "allow"


def test_signals_through_descriptors_are_refused_where_some_are_protected(judge, numbers):
    said = [judge(numbers["pidfd_send_signal"], fd, protected=(1,)) for fd in (0, 3, 100)]
    said += [judge(numbers["fcntl"], 0, command, protected=(1,)) for command in (8, 10, 15)]
    said += [judge(numbers["ioctl"], 0, request, protected=(1,)) for request in (0x8901, 0x8902)]
    assert said == ["EPERM"] * 8


@pytest.mark.parametrize("command", [0, 1, 2, 3, 4, 5, 6, 7, 1030, 1031])
def test_other_commands_for_descriptors_are_allowed(judge, numbers, command):
    assert judge(numbers["fcntl"], 0, command, protected=(1,)) == "allow"


def test_many_protected_processes_fit_in_a_filter(judge, numbers):
    pids = tuple(range(1000, 1100))
    said = {judge(numbers["kill"], pid, protected=pids) for pid in pids}
    assert (said, judge(numbers["kill"], 999, protected=pids)) == ({"EPERM"}, "allow")


# The kernel.

_UNDER_THE_FILTER = """
import ctypes, errno, json, os, sys
from rl_sandboxes.inside import linux, seccomp
libc = ctypes.CDLL(None, use_errno=True)
wanted, options = json.load(sys.stdin)
os.setsid()
parent = os.getppid()
if options.get("protected"):
    options["protected"] = [os.getppid()]
linux.no_new_privileges()
linux.load_seccomp(seccomp.program(**options))
said = {}
for name, number, arguments in wanted:
    ctypes.set_errno(0)
    arguments = [parent if a == "parent" else -parent if a == "group" else a for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in arguments))
    said[name] = errno.errorcode[ctypes.get_errno()] if result == -1 else "allow"
print(json.dumps(said))
"""


def kernel_says(calls, **options):
    """What the kernel answers to raw calls ``(name, number, arguments)`` under the filter."""
    if platform.machine() not in HEADERS:
        pytest.skip(f"no table for {platform.machine()}")
    done = subprocess.run(
        [sys.executable, "-c", _UNDER_THE_FILTER],
        input=json.dumps([calls, options]),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(seccomp.__file__).parents[2])},
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def here():
    return header(platform.machine())


HARMLESS = [-1] * 6
"""Arguments that no call could do anything with, were it let through."""


def test_the_kernel_refuses_every_refused_call():
    column = list(HEADERS).index(platform.machine())
    table = {name: both[column] for name, both in seccomp._REFUSED.items() if both[column]}
    said = kernel_says([[name, number, HARMLESS] for name, number in table.items()])
    assert said == dict.fromkeys(table, "EPERM")


def test_the_kernel_knows_no_call_beyond_the_table():
    numbers = [435, 457, 463, 470, 500, 1000, 0x40000000 + 39, 0x7FFFFFFF]
    said = kernel_says([[str(number), number, HARMLESS] for number in numbers])
    assert said == dict.fromkeys(map(str, numbers), "ENOSYS")


@pytest.mark.parametrize(("family", "said"), [(1, "allow"), (16, "EAFNOSUPPORT")])
def test_the_kernel_makes_sockets_of_known_families_alone(here, family, said):
    assert kernel_says([["socket", here["socket"], [family, 2, 0]]]) == {"socket": said}


def test_the_kernel_lets_no_clone_into_a_namespace(here):
    calls = [
        [name, here["clone"], [flag | SIGCHLD, 0, 0, 0, 0]] for name, flag in NAMESPACES.items()
    ]
    assert kernel_says(calls) == dict.fromkeys(NAMESPACES, "EPERM")


def test_the_kernel_lets_no_signal_through_to_the_protected(here):
    calls = [
        ["kill", here["kill"], ["parent", 0]],
        ["kill its group", here["kill"], ["group", 0]],
        ["kill all", here["kill"], [-1, 0]],
        ["tkill", here["tkill"], ["parent", 0]],
        ["tgkill", here["tgkill"], ["parent", "parent", 0]],
        ["pidfd_open", here["pidfd_open"], ["parent", 0]],
        ["prlimit64", here["prlimit64"], ["parent", 7, 0, 0]],
    ]
    assert kernel_says(calls, protected=True) == {name: "EPERM" for name, _, _ in calls}


def test_the_kernel_lets_a_process_signal_itself(here):
    assert kernel_says([["kill", here["kill"], [0, 0]]], protected=True) == {"kill": "allow"}


_HONEST_PROGRAM = """
import multiprocessing, socket, subprocess, tempfile, threading
from rl_sandboxes.inside import linux, seccomp
linux.no_new_privileges()
linux.load_seccomp(seccomp.program(protected=(1,), memfd=False))
seen = []
thread = threading.Thread(target=lambda: seen.append("thread"))
thread.start()
thread.join()
seen.append(subprocess.run(["echo", "shell"], capture_output=True, text=True).stdout.strip())
with tempfile.TemporaryFile() as file:
    file.write(b"x")
one, other = socket.socketpair()
one.sendall(b"pair")
seen.append(other.recv(10).decode())
with multiprocessing.get_context("fork").Pool(1) as pool:
    seen.append(pool.apply(str.lower, ("POOL",)))
print(*seen)
"""


def test_an_honest_program_notices_nothing():
    done = subprocess.run(
        [sys.executable, "-c", _HONEST_PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(seccomp.__file__).parents[2])},
    )
    assert (done.stdout, done.stderr) == ("thread shell pair pool\n", "")
