"""After a thousand mixed jobs nothing is left: no process, file, mount, group or descriptor."""

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from rl_sandboxes import Job, Limits
from rl_sandboxes.bait import marked_processes, marking, new_mark
from tests.sandboxes.conftest import make_or_skip

JOBS = 1000
QUICK = Limits(wall_s=0.15, cpu_s=0.15, memory_mb=128, processes=16)
KINDS = {
    "ok": "print('fine')",
    "error": "raise ValueError",
    "crash": "import os\nos.abort()",
    "leaves": "import os\nos._exit(3)",
    "files": "import os, tempfile\n"
    "for d in ('.', tempfile.gettempdir(), '/dev/shm'):\n"
    "    try: open(os.path.join(d, '{mark}'), 'w').write('x' * 1000)\n"
    "    except OSError: pass\n",
    "thread": "import threading\nt = threading.Thread(target=print, args=('x',))\nt.start()",
}
RARE = {  # what costs time, or a worker
    "children": "import os, time\nfor _ in range(4):\n    if os.fork() == 0: time.sleep(30)\n",
    "daemon": "import os, time\nif os.fork() == 0:\n    os.setsid()\n"
    "    if os.fork() == 0: time.sleep(30)\n    os._exit(0)\nos.wait()",
    "timeout": "while True: pass",
    "sleep": "import time\ntime.sleep(30)",
    "forks": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "memory": "x = bytearray(b'x') * (300 << 20)",
    "flood": "while True: print('x' * 10000)",
}
PLACES = ("/tmp", "/dev/shm", "/var/tmp")
SAID = {
    "ok": {"ok"},
    "error": {"error"},
    "crash": {"crash"},
    "leaves": {"error"},
    "timeout": {"timeout"},
    "sleep": {"timeout"},
}


def jobs(mark):
    """A thousand jobs of every kind, the slow ones rarely, in an order of their own."""
    chosen = random.Random(0)
    names = [chosen.choice([*RARE] if n % 20 == 0 else [*KINDS]) for n in range(JOBS)]
    codes = {**KINDS, **RARE}
    made = [
        Job.program(
            marking(mark) + codes[name].replace("{mark}", mark),
            limits=QUICK if name in RARE else Limits(memory_mb=128),
        )
        for name in names
    ]
    return names, made


def mounts():
    """Mount points, without those of containers that others on this machine start and end."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return sorted(place for line in lines if "/docker/" not in (place := line.split()[4]))


def groups(owner):
    """Control groups that a process made."""
    found = Path("/sys/fs/cgroup").glob(f"*/agent-rl-sandboxes/{owner}-*")
    return sorted(str(path) for path in found)


def files(owner):
    """Entries of the folders for temporary files that a process made."""
    names = [entry.path for place in PLACES if Path(place).is_dir() for entry in os.scandir(place)]
    return sorted(name for name in names if f"/agent-rl-sandbox-{owner}-" in name)


def descriptors():
    return sorted(
        os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]
        for fd in os.listdir("/proc/self/fd")
        if os.path.islink(f"/proc/self/fd/{fd}")
    )


def children():
    """Processes that descend from this one."""
    parents = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found, growing = {os.getpid()}, True
    while growing:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        growing = bool(more)
    return sorted(found - {os.getpid()})


def containers():
    """The ids of this process's containers."""
    client = pytest.importorskip("docker").from_env()
    try:
        labels = {"label": f"agent-rl.owner.pid={os.getpid()}"}
        return {found.id for found in client.containers.list(all=True, sparse=True, filters=labels)}
    finally:
        client.close()


STATE = {"mounts": mounts, "descriptors": descriptors, "children": children}
MADE = {"control groups": groups, "files": files}


@pytest.fixture(scope="module")
def soaked(back_end):
    """What was there before the sandbox was made, after the jobs, and after it was closed."""
    mark = new_mark()
    make_or_skip(back_end).close()  # what stays of the first use of a library is not the jobs'
    contained = containers() if back_end == "docker" else set()
    others = {name: look(os.getpid()) for name, look in MADE.items()}  # of other tests' sandboxes
    before = {name: look() for name, look in STATE.items()}
    sandbox = make_or_skip(back_end)
    owner = getattr(sandbox, "owner", os.getpid())
    try:
        sandbox.run(Job.program("print(1)"))
        names, made = jobs(mark)
        results = sandbox.run_many(made)
        living = marked_processes(mark)
        mounted = mounts()
    finally:
        sandbox.close()
    return {
        "mark": mark,
        "named": list(zip(names, results, strict=True)),
        "living": living,
        "containers": contained,
        "mounted": mounted,
        "before": before,
        "after": {name: look() for name, look in STATE.items()},
        "made": {name: set(look(owner)) - set(others[name]) for name, look in MADE.items()},
    }


def test_every_job_ends_with_a_result(soaked):
    assert [result.error for _, result in soaked["named"] if result.error] == []


def test_every_job_says_what_it_should(soaked):
    odd = [
        (name, result.status)
        for name, result in soaked["named"]
        if result.status not in SAID.get(name, {result.status})
    ]
    assert odd == []


def test_no_process_of_a_job_lives_after_the_results(soaked):
    assert soaked["living"] == []


def test_no_file_of_a_job_is_on_the_host(soaked):
    places = [place for place in PLACES if Path(place).is_dir()]
    words = ["find", *places, "-name", soaked["mark"]]
    assert subprocess.run(words, capture_output=True, text=True, check=False).stdout == ""


def test_no_mount_is_left_even_before_it_is_closed(soaked):
    assert soaked["mounted"] == soaked["before"]["mounts"]


@pytest.mark.parametrize("what", STATE)
def test_all_is_as_before_after_it_is_closed(soaked, what):
    assert soaked["after"][what] == soaked["before"][what]


@pytest.mark.parametrize("what", MADE)
def test_nothing_that_it_made_is_left(soaked, what):
    assert soaked["made"][what] == set()


def test_no_container_is_left(soaked, back_end):
    if back_end != "docker":
        pytest.skip("it makes none")
    deadline = time.monotonic() + 60  # the daemon removes what has ended in its own time
    while (left := containers() - soaked["containers"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == set()
