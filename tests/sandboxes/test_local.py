"""The local back end on this machine: its levels, its errors, and what it leaves behind."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

import rl_sandboxes
from rl_sandboxes import levels
from rl_sandboxes.inside.frames import pack
from rl_sandboxes.local import LocalSandbox
from rl_sandboxes.stream import StreamWorker
from rl_sandboxes.types import Call, Job, Limits, SandboxError

ROOT = Path(rl_sandboxes.__file__).parents[1]
LEVELS = ("namespaces", "landlock")
LONG = 15
"""Seconds after which a test that waits has failed."""


def make(level="auto", **options):
    """A sandbox; a test of a level that this machine lacks is left out, by name."""
    options.setdefault("workers", 1)
    try:
        return LocalSandbox(level=level, **options)
    except SandboxError as error:
        if level in LEVELS and "PATH" not in changed:
            pytest.skip(f"level {level}: {error}")
        raise


changed: set[str] = set()


@pytest.fixture(params=LEVELS)
def level(request):
    return request.param


@pytest.fixture
def sandbox(level):
    with make(level) as made:
        yield made


def refusal(**options):
    """The one line that says why there is no sandbox."""
    with pytest.raises(SandboxError) as caught:
        LocalSandbox(**{"workers": 1, **options})
    line = str(caught.value)
    assert "\n" not in line
    assert 10 < len(line) < 800
    return line


def printed(sandbox, code):
    """What a Python program prints in a sandbox."""
    run = sandbox.run(Job.program(code)).run
    assert (run.status, run.stderr) == ("ok", "")
    return run.stdout.strip()


# Processes of this machine.


def stat_of(pid):
    """State, parent and start of a process; None if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (int(fields[1]), fields[19])


def descendants(pid):
    """``(pid, start)`` of the living processes beneath one."""
    parents = {int(name): stat_of(name) for name in os.listdir("/proc") if name.isdigit()}
    found, growing = {pid}, True
    while growing:
        more = {p for p, seen in parents.items() if seen and seen[0] in found} - found
        found |= more
        growing = bool(more)
    return {(p, parents[p][1]) for p in found - {pid}}


def alive(processes):
    return {(pid, start) for pid, start in processes if (stat_of(pid) or (0, ""))[1] == start}


def wait_until(condition):
    """Look until it holds; what it gave at last."""
    until = time.monotonic() + LONG
    while not (seen := condition()) and time.monotonic() < until:
        time.sleep(0.02)
    return seen


def sleepers(pid, before=frozenset()):
    """The processes beneath one, once the three that the job starts are there.

    Those of ``before`` are left out: they are other tests'.
    """
    found = descendants(pid) - before
    names = [Path(f"/proc/{p}/comm") for p, _ in found]
    asleep = sum(name.exists() and name.read_text() == "sleep\n" for name in names)
    return found if asleep == 3 else set()


def end(processes):
    for pid, _ in alive(processes):
        os.kill(pid, signal.SIGKILL)


SLEEPS = "sleep 1000 & (setsid sleep 1000 &); sleep 1000"
"""In the foreground, in the background, and in a session of its own."""


# What cannot be had is refused in one line.


def test_a_level_that_is_none_is_refused_with_those_that_are():
    said = "level is 'docker'; it must be one of auto, namespaces, landlock, none"
    assert refusal(level="docker") == said


def test_no_walls_at_all_must_be_meant():
    assert "pass allow_unsafe=True" in refusal(level="none")


def test_no_walls_at_all_say_so():
    with make("none", allow_unsafe=True) as sandbox:
        assert printed(sandbox, "print(6 * 7)") == "42"
        assert "nothing is kept from a job" in sandbox.guarantees().missing[0]


@pytest.mark.parametrize("level", ["auto", "namespaces"])
def test_without_bubblewrap_it_says_what_to_install(monkeypatch, level):
    monkeypatch.setattr(levels, "bubblewrap", lambda: None)
    said = refusal(level=level)
    assert said.startswith("bubblewrap is not installed: install it (apt-get install bubblewrap)")


def test_without_bubblewrap_landlock_is_to_be_had(monkeypatch):
    monkeypatch.setattr(levels, "bubblewrap", lambda: None)
    with make("landlock") as sandbox:
        assert printed(sandbox, "print(6 * 7)") == "42"


@pytest.mark.parametrize("workers", [0, -1, "two", 1.5])
def test_a_number_of_workers_that_cannot_be_starts_none(workers):
    before = descendants(os.getpid())
    assert "workers" in refusal(workers=workers)
    assert descendants(os.getpid()) <= before


@pytest.mark.parametrize("level", ["auto", *LEVELS])
def test_a_folder_of_packages_that_is_not_there_is_named(level):
    said = refusal(level=level, packages=["/no/such/folder"])
    assert said == "sandbox local: package folder /no/such/folder does not exist"


def test_a_module_that_cannot_be_loaded_is_named():
    said = refusal(preload=["no_such_module"])
    assert "No module named 'no_such_module'" in said
    assert "namespaces" not in said


@pytest.mark.parametrize("python", ["/no/such/python", "no-such-python", ""])
def test_a_python_that_is_not_there_is_named(python):
    assert refusal(python=python).startswith(f"python {python!r} for jobs cannot be used: ")


def program_file(folder, name, body):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_a_program_that_is_no_python_is_refused(tmp_path):
    for body in ("exit 0", "echo hello", "printf 'a\\nb\\nc\\n'", "printf '/usr\\n3\\n'"):
        python = program_file(tmp_path, "python", body)
        assert refusal(python=python) == f"python {python!r} for jobs is no Python"


def test_a_python_that_is_too_old_is_refused(tmp_path):
    python = program_file(tmp_path, "python", "printf '/usr\\n3\\n8\\n'")
    assert refusal(python=python) == f"python {python!r} for jobs is older than 3.9"


def test_a_python_that_fails_is_refused(tmp_path):
    python = program_file(tmp_path, "python", "echo no library >&2; exit 1")
    assert refusal(python=python).startswith(f"python {python!r} for jobs cannot be used: ")


# A bubblewrap that may not do its work.


@pytest.fixture
def bwrap(tmp_path, monkeypatch):
    """Puts a ``bwrap`` of these shell lines before the real one."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setitem(globals(), "changed", {"PATH"})
    return lambda body: program_file(tmp_path, "bwrap", body)


NO_NAMESPACES = [
    "bwrap: No permissions to create new namespace, likely because the kernel does not allow "
    "non-privileged user namespaces. On e.g. debian this can be enabled with "
    "'sysctl kernel.unprivileged_userns_clone=1'.",
    "bwrap: No permissions to creating new namespace, likely because the kernel does not allow "
    "non-privileged user namespaces.",
    "bwrap: Creating new namespace failed: Operation not permitted",
    "bwrap: Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces "
    "exceeded (ENOSPC)",
    "bwrap: setting up uid map: Permission denied",
    "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted",
    "bwrap: Can't mount proc on /newroot/proc: Operation not permitted",
    "bwrap: Failed to make / slave: Permission denied",
]


@pytest.mark.parametrize("said", NO_NAMESPACES, ids=range(len(NO_NAMESPACES)))
def test_where_namespaces_are_refused_it_runs_at_landlock_and_says_so(bwrap, caplog, said):
    bwrap(f'echo "{said}" >&2; exit 1')
    with caplog.at_level(logging.WARNING, "rl_sandboxes"), make() as sandbox:
        assert sandbox.level == "landlock"
    (record,) = caplog.records
    line = record.getMessage()
    assert line.startswith("sandbox local runs at level landlock: user namespaces are refused here")
    assert said[:40] in line
    assert "\n" not in line


def test_a_sandbox_that_fell_to_landlock_runs_jobs_and_says_what_is_missing(bwrap):
    bwrap(f"echo '{NO_NAMESPACES[2]}' >&2; exit 1")
    with make() as sandbox:
        assert printed(sandbox, "print(6 * 7)") == "42"
        assert sandbox.guarantees().missing


def test_where_namespaces_were_asked_for_nothing_less_is_given(bwrap):
    bwrap(f"echo '{NO_NAMESPACES[2]}' >&2; exit 1")
    said = refusal(level="namespaces")
    assert said.startswith("user namespaces are refused here (bwrap: Creating new namespace")
    assert "docker" in said


@pytest.mark.parametrize(
    "body",
    [
        "echo 'bwrap: Unknown option --perms' >&2; exit 1",
        'echo "bwrap: Can\'t find source path /x: No such file or directory" >&2; exit 1',
        "exit 0",
        "exit 1",
        "kill -9 $$",
        "echo 'this is a namespace of words' >&2; exit 1",
        "cat >/dev/null; exit 1",
        "printf '\\0\\0\\0\\2{}'",
        "printf 'garbage that is no frame'",
    ],
)
def test_another_failure_never_lowers_the_level(bwrap, monkeypatch, body):
    monkeypatch.setattr("rl_sandboxes.launch._START_S", 1.0)
    bwrap(body)
    assert "does not start" in refusal()


def test_a_bubblewrap_that_hangs_is_given_up(bwrap, monkeypatch):
    monkeypatch.setattr("rl_sandboxes.launch._START_S", 0.5)
    monkeypatch.setattr("rl_sandboxes.launch._LEAVE_S", 0.1)
    bwrap("exec sleep 1000")
    before = descendants(os.getpid())
    refused = []
    thread = threading.Thread(target=lambda: refused.append(refusal()), daemon=True)
    thread.start()
    thread.join(10)
    end(descendants(os.getpid()) - before)  # whatever comes, the sleep must not stay
    thread.join(LONG)
    assert ["in time" in said for said in refused] == [True]


def test_a_start_that_fails_leaves_nothing_behind(bwrap, monkeypatch):
    monkeypatch.setattr("rl_sandboxes.launch._START_S", 1.0)
    bwrap("exit 1")
    refusal()
    before = (open_files(), descendants(os.getpid()), left_folders())
    for _ in range(3):
        refusal()
    assert (open_files(), descendants(os.getpid()), left_folders()) == before


def open_files():
    return len(os.listdir("/proc/self/fd"))


def left_folders():
    """Folders and control groups of this process's workers."""
    found = list(Path(tempfile.gettempdir()).glob(f"agent-rl-sandbox-{os.getpid()}-*"))
    return found + list(Path("/sys/fs/cgroup").glob(f"*/agent-rl-sandboxes/{os.getpid()}-*"))


# What a job sees.


def test_the_host_s_environment_is_not_visible(level, monkeypatch):
    monkeypatch.setenv("AGENT_RL_TEST_SECRET", "do-not-tell")
    with make(level) as sandbox:
        names = printed(sandbox, "import os; print(*sorted(os.environ))").split()
        look = "cat /proc/self/environ /proc/*/environ /proc/*/cmdline 2>/dev/null; env; export"
        seen = sandbox.run(Job.shell(look)).run.stdout
    assert "do-not-tell" not in seen
    wanted = "HOME LANG OMP_NUM_THREADS OPENBLAS_NUM_THREADS PATH PYTHONHASHSEED PYTHONUTF8 TERM"
    assert names == [*wanted.split(), "TMPDIR"]


def test_no_process_of_a_worker_holds_the_host_s_environment(level, monkeypatch):
    """A job may find a way to look at its worker, or at bubblewrap."""
    monkeypatch.setenv("AGENT_RL_TEST_SECRET", "do-not-tell")
    before = descendants(os.getpid())
    with make(level):
        started = descendants(os.getpid()) - before
        held = [Path(f"/proc/{pid}/environ").read_bytes() for pid, _ in started]
    assert len(held) > 0
    assert [environment for environment in held if b"do-not-tell" in environment] == []


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "LD_PRELOAD"])
def test_the_host_s_settings_for_python_do_not_reach_the_worker(name):
    code = f"import os, rl_sandboxes; os.environ[{name!r}] = '/no/such/place'\n"
    code += "from rl_sandboxes.types import Job\nimport sys\n"
    code += "sandbox = rl_sandboxes.make('local', workers=1)\n"
    code += "print(sandbox.run(Job.program('print(6 * 7)')).run.stdout)\nsandbox.close()"
    assert run_python(code).stdout.strip() == "42"


def run_python(code):
    return subprocess.run(
        [sys.executable, "-W", "ignore:This process", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_jobs_run_on_the_python_that_runs_this():
    with make("namespaces") as sandbox:
        assert printed(sandbox, "import sys; print(sys.version)") == sys.version.strip()


OTHER = next((p for p in ("/usr/bin/python3", "/usr/local/bin/python3") if os.path.exists(p)), None)


@pytest.mark.skipif(OTHER is None, reason="no other Python in /usr")
def test_jobs_run_on_the_python_that_was_asked_for(level):
    ask = "import sys; print(sys.version, sys.base_prefix)"
    wanted = subprocess.run([OTHER, "-c", ask], capture_output=True, text=True, check=True).stdout
    with make(level, python=OTHER) as sandbox:
        assert printed(sandbox, ask) == wanted.strip()


def test_a_python_of_a_virtual_environment_gives_its_base():
    with make("namespaces", python=sys.executable) as sandbox:
        assert printed(sandbox, "import sys; print(sys.base_prefix)") == sys.base_prefix


def test_packages_can_be_read_and_not_written(level):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        Path(folder, "given_module.py").write_text("VALUE = 42\n")
        with make(level, packages=[folder]) as sandbox:
            assert printed(sandbox, "import given_module; print(given_module.VALUE)") == "42"
            sandbox.run(Job.shell(f"echo 'VALUE = 7' >{folder}/given_module.py; rm -rf {folder}/*"))
        assert Path(folder, "given_module.py").read_text() == "VALUE = 42\n"


def test_modules_are_loaded_ahead():
    code = "import sys; print('fractions' in sys.modules)"
    with make(preload=["fractions"]) as sandbox, make() as bare:
        assert (printed(sandbox, code), printed(bare, code)) == ("True", "False")


# Workers.


def test_a_worker_starts_for_a_job_and_no_sooner():
    before = descendants(os.getpid())
    with make("landlock", workers=3) as sandbox:
        first = descendants(os.getpid()) - before
        for _ in range(3):
            sandbox.run(Job.shell("true"))
        assert len(first) == 1  # it proved that the level works
        assert descendants(os.getpid()) - before == first


def test_each_worker_has_one_job_at_a_time():
    before = descendants(os.getpid())
    with make("landlock", workers=2) as sandbox:
        assert {r.status for r in sandbox.run_many([Job.shell("true")] * 6)} == {"ok"}
        assert len(descendants(os.getpid()) - before) <= 2


def children():
    return {(p, s) for p, s in descendants(os.getpid()) if (stat_of(p) or (0,))[0] == os.getpid()}


def test_a_job_whose_worker_is_killed_is_run_again(level, monkeypatch):
    """The worker dies with the job in its hands; the caller notices nothing."""
    others, real = children(), StreamWorker.request
    lost = []

    def request(self, frame, timeout_s):
        if frame.get("op") != "job" or lost:
            return real(self, frame, timeout_s)
        idle, until = descendants(os.getpid()), time.monotonic() + timeout_s
        self.send(pack(frame), until)
        assert wait_until(lambda: descendants(os.getpid()) - idle)
        for pid, _ in children() - others:
            lost.append(pid)
            os.kill(pid, signal.SIGKILL)
        return self.receive(until)

    monkeypatch.setattr(StreamWorker, "request", request)
    with make(level) as sandbox:
        result = sandbox.run(Job.program("import time; time.sleep(0.3); print(6 * 7)"))
    assert len(lost) == 1
    assert (result.error, result.run.stdout) == (None, "42\n")


def test_a_job_after_the_worker_was_killed_runs_on_a_fresh_one(level):
    before = children()
    with make(level) as sandbox:
        sandbox.run(Job.shell("true"))
        for pid, _ in children() - before:
            os.kill(pid, signal.SIGKILL)
        assert printed(sandbox, "print(6 * 7)") == "42"


def test_a_worker_that_is_stopped_is_given_up_and_replaced(level, monkeypatch):
    monkeypatch.setattr("rl_sandboxes.pool.GRACE_S", -1.5)  # 1.5 s in all
    monkeypatch.setattr("rl_sandboxes.launch._LEAVE_S", 0.1)
    before = descendants(os.getpid())
    with make(level) as sandbox:
        workers = descendants(os.getpid()) - before
        for pid, _ in workers:
            os.kill(pid, signal.SIGSTOP)
        job = Job.program("print(6 * 7)", limits=Limits(wall_s=2))
        assert sandbox.run(job).run.stdout == "42\n"
        assert alive(workers) == set()


@pytest.mark.parametrize("workers", [1, 2])
def test_closing_ends_every_process_and_removes_every_folder(level, workers):
    before = (descendants(os.getpid()), left_folders())
    with make(level, workers=workers) as sandbox:
        sandbox.run_many([Job.shell("true")] * 4)
        sandbox.session().start("sleep 1000")
    assert (descendants(os.getpid()), left_folders()) == before
    sandbox.close()


def test_closing_before_the_first_job_ends_the_worker_too(level):
    before = (descendants(os.getpid()), left_folders())
    make(level).close()
    assert (descendants(os.getpid()), left_folders()) == before


def test_no_descriptor_is_left_open(level):
    def use():
        with make(level) as sandbox:
            sandbox.run(Job.call("def f(): return 1", "f", [Call()] * 3))
            sandbox.session().close()

    use()
    before = open_files()
    for _ in range(3):
        use()
    assert open_files() == before


def test_what_a_dead_process_left_is_removed_by_the_next():
    dead = subprocess.Popen(["true"])
    dead.wait()
    folder = Path(tempfile.gettempdir()) / f"agent-rl-sandbox-{dead.pid}-left"
    folder.mkdir()
    make("landlock").close()
    assert not folder.exists()


def test_a_left_folder_may_be_as_deep_as_a_job_could_make_it():
    dead = subprocess.Popen(["true"])
    dead.wait()
    folder = Path(tempfile.gettempdir()) / f"agent-rl-sandbox-{dead.pid}-deep"
    made = Path(tempfile.mkdtemp(dir=tempfile.gettempdir()))
    make_deep = "import os\nfor _ in range(1100): os.mkdir('d'); os.chdir('d')"
    subprocess.run([sys.executable, "-c", make_deep], cwd=made, check=True)
    made.rename(folder)  # from now on whoever starts a sandbox may remove it
    try:
        make("landlock").close()
        assert not folder.exists()
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


def test_a_job_that_makes_deep_folders_is_cleaned_up_after(level):
    before = left_folders()
    sandbox = make(level)
    code = "import os\nfor _ in range(1100): os.mkdir('d'); os.chdir('d')"
    assert sandbox.run(Job.program(code, limits=Limits(wall_s=30))).status == "ok"
    assert printed(sandbox, "import os; print(os.listdir())") == "['main.py']"
    sandbox.close()
    assert left_folders() == before


def test_what_a_living_process_uses_is_left_alone():
    folder = Path(tempfile.gettempdir()) / f"agent-rl-sandbox-{os.getppid()}-used"
    folder.mkdir()
    make("landlock").close()
    assert folder.exists()
    shutil.rmtree(folder)


# Whoever goes leaves nothing behind.

_HOST = f"""
import sys, rl_sandboxes
from rl_sandboxes.types import Job, Limits
sandbox = rl_sandboxes.make("local", level=sys.argv[1], workers=1)
if sys.argv[2] == "job":
    sandbox.run(Job.shell({SLEEPS!r}, limits=Limits(wall_s=1000)))
else:
    session = sandbox.session(limits=Limits(wall_s=1000))
    session.run({SLEEPS!r})
"""


@pytest.mark.parametrize("what", ["job", "session"])
def test_a_host_that_is_killed_leaves_no_process_behind(level, what):
    make(level).close()  # or this machine lacks it
    host = subprocess.Popen(
        [sys.executable, "-c", _HOST, level, what],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    left = set()
    try:
        left = wait_until(lambda: sleepers(host.pid))
        assert left
        host.kill()
        host.wait()
        wait_until(lambda: not alive(left))
        assert alive(left) == set()
    finally:
        host.kill()
        host.wait()
        end(left)


def test_a_job_that_is_cancelled_leaves_no_process_behind(sandbox):
    before = descendants(os.getpid())

    async def main():
        task = asyncio.create_task(sandbox.arun(Job.shell(SLEEPS, limits=Limits(wall_s=1000))))
        left = await asyncio.to_thread(wait_until, lambda: sleepers(os.getpid(), before))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return left

    left = asyncio.run(main())
    try:
        assert left
        wait_until(lambda: not alive(left))
        assert alive(left) == set()
        assert printed(sandbox, "print(6 * 7)") == "42"
    finally:
        end(left)


def test_a_job_of_a_sandbox_that_is_closed_leaves_no_process_behind(sandbox):
    caught, before = [], descendants(os.getpid())

    def run():
        with pytest.raises(SandboxError, match="closed"):
            sandbox.run(Job.shell(SLEEPS, limits=Limits(wall_s=1000)))
        caught.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    left = wait_until(lambda: sleepers(os.getpid(), before))
    try:
        assert left
        sandbox.close()
        thread.join(LONG)
        assert caught
        wait_until(lambda: not alive(left))
        assert alive(left) == set()
    finally:
        end(left)


# The supervisor is out of a job's reach.


@pytest.mark.parametrize(
    "limit", ["RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_AS", "RLIMIT_NPROC"]
)
def test_a_job_cannot_lower_the_limits_of_its_supervisor(sandbox, limit):
    code = f"import os, resource\nresource.prlimit(os.getppid(), resource.{limit}, (0, 0))"
    result = sandbox.run(Job.program(code))
    assert (result.error, result.run.status) == (None, "error")
    assert "PermissionError" in result.run.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT])
def test_a_job_cannot_signal_its_supervisor(sandbox, number):
    code = "import os, time\nfor pid in (os.getppid(), 1):\n    try:\n"
    code += f"        os.kill(pid, {int(number)})\n    except PermissionError:\n        pass\n"
    result = sandbox.run(Job.program(code + "print('alive')"))
    assert (result.error, result.run.stdout) == (None, "alive\n")


def test_a_forked_process_makes_its_own_shared_sandbox():
    done = run_python(_FORKED)
    assert (done.stdout.split(), done.stderr) == (["parent", "child", "parent"], "")


_FORKED = """
import os, sys
from rl_sandboxes import registry
from rl_sandboxes.types import Job
spec = {"name": "local", "workers": 1}
first = registry.shared(spec)
def say(sandbox, word):
    print(sandbox.run(Job.shell("echo " + word)).run.stdout.strip(), flush=True)
say(first, "parent")
pid = os.fork()
if pid == 0:
    mine = registry.shared(spec)
    assert mine is not first
    say(mine, "child")
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert registry.shared(spec) is first
say(first, "parent")
"""


def test_the_end_of_a_process_that_shares_a_sandbox_leaves_nothing_behind():
    code = "import os, rl_sandboxes; from rl_sandboxes.types import Job\n"
    code += "rl_sandboxes.shared().run(Job.shell('true'))\nprint(os.getpid())"
    done = run_python(code)
    assert done.stderr == ""
    pid = int(done.stdout)
    folders = list(Path(tempfile.gettempdir()).glob(f"agent-rl-sandbox-{pid}-*"))
    assert folders + list(Path("/sys/fs/cgroup").glob(f"*/agent-rl-sandboxes/{pid}-*")) == []
