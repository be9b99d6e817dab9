"""Boxes that stay: what a session keeps, what it survives, what it leaves."""

import asyncio
import time

import pytest

from rl_sandboxes import JobError, Limits, SandboxError
from rl_sandboxes.bait import MARK_NAME, marked_processes, new_mark

LIMITS = Limits(wall_s=10, memory_mb=256, disk_mb=32)


@pytest.fixture
def shell(sandbox):
    session = sandbox.session("bash", LIMITS)
    yield session
    session.close()


@pytest.fixture
def python(sandbox):
    session = sandbox.session("python", LIMITS)
    yield session
    session.close()


def ended(session, number):
    """The run of a background process, waited for."""
    deadline = time.monotonic() + 10
    while (run := session.poll(number)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return run


def gone(mark):
    """Whether the marked processes end soon."""
    deadline = time.monotonic() + 2
    while marked_processes(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not marked_processes(mark)


# A shell.


def test_a_shell_keeps_folder_variable_and_function(shell):
    shell.run("mkdir sub && cd sub && x='two words' && f() { echo \"<$1>\"; }")
    assert shell.run('basename "$PWD"; f "$x"').stdout == "sub\n<two words>\n"


def test_output_and_errors_are_kept_apart(shell):
    run = shell.run("echo out; echo err >&2; (exit 3)")
    assert (run.status, run.stdout, run.stderr, run.exit_code) == ("error", "out\n", "err\n", 3)


def test_a_shell_that_was_left_is_started_again(shell):
    shell.run("exit 0")
    assert shell.run("echo here").stdout == "here\n"


def test_leaving_the_shell_is_noted(shell):
    assert shell.run("exit 0").note


def test_a_background_job_is_not_waited_for(shell):
    started = time.monotonic()
    assert shell.run("sleep 100 & echo on").stdout == "on\n"
    assert time.monotonic() - started < 5


def test_a_timeout_keeps_what_was_printed(shell):
    run = shell.run("echo first; sleep 100", timeout_s=0.5)
    assert (run.status, run.stdout) == ("timeout", "first\n")


def test_a_timeout_keeps_the_state_where_it_can(shell):
    shell.run("x=kept")
    shell.run("sleep 100", timeout_s=0.5)
    assert shell.run("echo $x").stdout == "kept\n"


def test_a_timeout_is_noted(shell):
    assert "ended" in shell.run("sleep 100", timeout_s=0.5).note


def test_a_command_that_will_not_end_is_ended(shell):
    shell.run("trap '' INT TERM; while :; do :; done", timeout_s=0.5)
    assert shell.run("echo usable").stdout == "usable\n"


def test_a_time_limit_must_be_one(shell):
    with pytest.raises(JobError, match="timeout_s"):
        shell.run("true", timeout_s=0)


def test_long_output_keeps_both_ends(shell):
    run = shell.run("echo the-start; seq 1 100000; echo the-end")
    assert run.stdout_cut
    assert run.stdout.startswith("the-start\n")
    assert run.stdout.endswith("the-end\n")


def test_a_command_reads_no_input(shell):
    assert shell.run("cat; echo after").stdout == "after\n"


def test_commands_run_in_an_event_loop(shell):
    assert asyncio.run(shell.arun("echo $((6 * 7))")).stdout == "42\n"


def test_sessions_do_not_share_files(shell, sandbox):
    shell.run("echo mine > /tmp/f; echo mine > g")
    other = sandbox.session("bash", LIMITS)
    try:
        assert other.run("cat /tmp/f g 2>/dev/null").stdout == ""
    finally:
        other.close()


def test_nothing_of_a_session_is_left_for_the_next(sandbox):
    first = sandbox.session("bash", LIMITS)
    mark = new_mark()
    first.run("echo f > f; echo f > /tmp/f; echo f > /dev/shm/f")
    first.run(f"{MARK_NAME}={mark} setsid sleep 100 & (exec sleep 100) & sleep 0.1")
    first.close()
    assert gone(mark)
    second = sandbox.session("bash", LIMITS)
    assert second.run("ls -A . /tmp /dev/shm | grep -x f; pgrep sleep").stdout == ""
    second.close()


def test_the_disk_of_a_session_is_limited(shell, guarantees):
    if "tmpfs" not in guarantees.disk:
        pytest.skip("files are watched only")
    run = shell.run("for n in 1 2 3; do head -c 20M /dev/zero > f$n; done")
    assert "No space" in run.stderr


# A Python.


def test_cells_keep_their_names(python):
    python.run("import math\ndef area(r):\n    return math.pi * r * r")
    assert python.run("round(area(2), 3)").stdout == "12.566\n"


def test_only_a_last_expression_is_shown(python):
    assert python.run("1\n2\nx = 3").stdout == ""


def test_an_exception_leaves_the_names(python):
    python.run("x = 5")
    failed = python.run("1 / 0")
    assert (failed.status, "ZeroDivisionError" in failed.stderr) == ("error", True)
    assert python.run("x").stdout == "5\n"


def test_an_endless_cell_is_interrupted_and_leaves_the_names(python):
    python.run("x = 5")
    assert python.run("while True: pass", timeout_s=0.5).status == "timeout"
    assert python.run("x").stdout == "5\n"


def test_a_deaf_cell_is_ended(python):
    code = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    assert python.run(code, timeout_s=0.5).status == "timeout"
    assert python.run("'usable'").stdout == "'usable'\n"


@pytest.mark.parametrize(
    "code", ["import os; os._exit(0)", "exit()", "import os; os.kill(os.getpid(), 9)"]
)
def test_an_interpreter_that_ended_is_started_again(python, code):
    python.run(code)
    assert python.run("1 + 1").stdout == "2\n"


def test_a_cell_without_sense_is_an_error(python):
    assert "SyntaxError" in python.run("def f(:").stderr


def test_a_fork_does_not_answer_in_its_parents_place(python):
    python.run("import os\nchild = os.fork()\nos.waitpid(child, 0) if child else print('child')")
    assert [python.run("child > 0").stdout for _ in range(3)] == ["True\n"] * 3


# Files.


def test_a_file_goes_in_and_comes_back(shell):
    shell.put("deep/in/here.bin", bytes(range(256)))
    shell.run("cp deep/in/here.bin copy")
    assert shell.get("copy") == bytes(range(256))


def test_a_missing_file_is_missing(shell):
    with pytest.raises(FileNotFoundError):
        shell.get("nothing")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("a", "ln -s /etc/passwd a"),
        ("d/passwd", "ln -s /etc d"),
        ("a", "mkfifo a"),
        ("a", "mkdir a"),
        ("a", "truncate -s 1T a || truncate -s 3M a"),
        ("a", "ln -s a a"),
    ],
    ids=["link", "linked folder", "fifo", "folder", "sparse", "loop"],
)
def test_what_is_no_small_regular_file_does_not_come_back(shell, name, command):
    shell.run(command)
    with pytest.raises(JobError):
        shell.get(name)


@pytest.mark.parametrize(
    ("name", "command"),
    [("a", "ln -s {}/victim.txt a"), ("d/new.txt", "ln -s {} d"), ("a", "ln -s {}/new.txt a")],
    ids=["link", "linked folder", "dangling"],
)
def test_nothing_is_written_through_a_link(shell, bait, name, command):
    shell.run(command.format(bait.folder))
    with pytest.raises(JobError):
        shell.put(name, b"x")
    assert bait.damage() == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", "a\0b"])
@pytest.mark.parametrize("method", ["get", "put"])
def test_paths_stay_in_the_working_folder(shell, method, path):
    with pytest.raises(JobError, match="relative to the working folder"):
        shell.get(path) if method == "get" else shell.put(path, b"x")


def test_a_file_over_the_limit_of_the_caller_does_not_come_back(shell):
    shell.put("a", b"x" * 1000)
    with pytest.raises(JobError):
        shell.get("a", max_bytes=999)


# Background processes.


def test_a_background_process_is_followed_to_its_end(shell):
    number = shell.start("sleep 0.2; echo done; exit 3")
    run = ended(shell, number)
    assert (run.status, run.stdout, run.exit_code) == ("error", "done\n", 3)


def test_a_running_background_process_has_no_run_yet(shell):
    assert shell.poll(shell.start("sleep 100")) is None


def test_a_stopped_background_process_is_gone_with_its_children(shell):
    mark = new_mark()
    number = shell.start(f"export {MARK_NAME}={mark}; echo up; sleep 100 & sleep 100")
    time.sleep(0.3)
    assert shell.stop(number).stdout == "up\n"
    assert gone(mark)


def test_a_background_process_sees_the_files_of_the_shell(shell):
    shell.run("echo text > f")
    assert ended(shell, shell.start("cat f")).stdout == "text\n"


def test_an_unknown_number_is_refused(shell):
    with pytest.raises(JobError, match="no background process 77"):
        shell.poll(77)


# Snapshots.


def test_a_restored_shell_has_its_files_variables_and_folder(shell):
    shell.run("mkdir d; cd d; x=old; echo old > f; g() { echo g-$x; }")
    number = shell.snapshot()
    shell.run("x=new; echo new > f; cd ..; rm -r d; g() { :; }; touch more")
    shell.restore(number)
    assert shell.run('basename "$PWD"; cat f; g; ls ..').stdout == "d\nold\ng-old\nd\n"


def test_a_snapshot_can_be_restored_twice(shell):
    shell.run("x=1")
    number = shell.snapshot()
    for _ in range(2):
        shell.run("x=2")
        shell.restore(number)
        assert shell.run("echo $x").stdout == "1\n"


def test_a_restored_interpreter_has_its_names_and_files(python):
    python.run("x = [1]; f = open('a', 'w'); _ = f.write('old'); f.close()")
    number = python.snapshot()
    python.run("x.append(2); open('a', 'w').write('new')")
    python.restore(number)
    assert python.run("x, open('a').read()").stdout == "([1], 'old')\n"


def test_background_processes_end_at_a_restore(shell):
    number, mark = shell.snapshot(), new_mark()
    shell.start(f"export {MARK_NAME}={mark}; sleep 100 & sleep 100")
    shell.restore(number)
    assert gone(mark)


def test_an_unknown_snapshot_is_refused(shell):
    with pytest.raises(JobError, match="no snapshot 5"):
        shell.restore(5)


# The end.


@pytest.mark.parametrize("kind", ["bash", "python"])
def test_closing_leaves_no_process(sandbox, kind):
    session, mark = sandbox.session(kind, LIMITS), new_mark()
    session.run(
        f"export {MARK_NAME}={mark}; setsid sleep 100 & sleep 100 &"
        if kind == "bash"
        else f"import os, subprocess\nos.environ[{MARK_NAME!r}] = {mark!r}\n"
        "p = [subprocess.Popen(['sleep', '100'], start_new_session=True) for _ in range(3)]"
    )
    session.start(f"export {MARK_NAME}={mark}; sleep 100 & sleep 100")
    session.close()
    assert gone(mark)


def test_a_closed_session_says_so(sandbox):
    session = sandbox.session("bash", LIMITS)
    session.close()
    session.close()
    with pytest.raises(SandboxError, match="closed"):
        session.run("true")


def test_an_unknown_kind_is_refused(sandbox):
    with pytest.raises(SandboxError, match="bash"):
        sandbox.session("ruby")


def test_jobs_run_while_a_session_is_open(shell, sandbox):
    from rl_sandboxes import Job

    assert sandbox.run(Job.program("print(1)")).run.stdout == "1\n"
    assert shell.run("echo 2").stdout == "2\n"
