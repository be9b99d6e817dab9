"""The graders themselves: a sandbox that does wrong is told so, one that does right is not."""

import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rl_sandboxes import Result, Run, SandboxError
from rl_sandboxes.attacks import ALSO, grade, limits_of, words_of
from rl_sandboxes.bait import Bait, marked_processes, marking, new_mark

ALIVE = Run("ok", stdout="hello\n", exit_code=0)


class Canned:
    """Gives the results that it was made with, then that of a working sandbox."""

    def __init__(self, *results, meanwhile=lambda job: None):
        self.results = [Result((r,)) if isinstance(r, Run) else r for r in results]
        self.meanwhile = meanwhile

    def run(self, job):
        self.meanwhile(job)
        return self.results.pop(0) if self.results else Result((ALIVE,))


class CannedSession:
    """Gives the runs that it was made with."""

    def __init__(self, *runs):
        self.runs = [Run("ok"), *runs]  # the first command marks the shell

    def run(self, command):
        return self.runs.pop(0)

    def close(self):
        pass


def row(expect="ok", **more):
    return {"id": "r", "category": "c", "kind": "exec", "code": "", "expect": expect, **more}


def problems(bait, row, *results, **options):
    return grade(Canned(*results, **options), row, bait, slack_s=10)


# Status.


@pytest.mark.parametrize(
    ("expect", "accept", "status", "right"),
    [
        ("ok", [], "ok", True),
        ("ok", [], "error", False),
        ("timeout", [], "timeout", True),
        ("timeout", [], "memory", False),
        ("timeout", ["killed"], "memory", True),
        ("memory_error", [], "memory", True),
        ("disk_limit", [], "disk", True),
        ("killed", [], "crash", True),
        ("killed", [], "timeout", False),
        ("any", [], "crash", True),
        ("any", ["ok"], "crash", False),
        ("denied", [], "error", True),
    ],
)
def test_how_it_ended_is_judged(bait, expect, accept, status, right):
    assert (problems(bait, row(expect, accept=accept), Run(status)) == []) is right


def test_a_memory_error_that_python_raised_is_one():
    assert "memory_error" in words_of(Run("error", stderr="Traceback\nMemoryError\n"))


def test_a_failure_of_the_sandbox_is_no_verdict(bait):
    assert problems(bait, row("any"), Result(error="lost")) == ["the sandbox failed: lost"]


# What came out, what was done.


@pytest.mark.parametrize("expect", ["ok", "denied", "no_network", "any"])
def test_a_breach_is_found(bait, expect):
    assert problems(bait, row(expect), Run("ok", stdout="x\nBREACH 1\n")) == ["BREACH 1"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_secret_is_found(bait, stream):
    assert problems(bait, row(), Run("ok", **{stream: f"<{bait.secret}>"})) == [
        "the secret came out"
    ]


def test_the_secret_in_a_file_is_found(bait):
    result = Result((Run("ok"),), files={"a": bait.secret.encode()})
    assert "the secret came out" in problems(bait, row(collect=["a"]), result)


def test_a_datagram_that_arrived_is_found(bait):
    def send(job):
        bait.received.append(("udp", b"x"))

    assert problems(bait, row("no_network"), Run("ok"), meanwhile=send) != []


def test_a_changed_host_file_is_found():
    with Bait() as bait:
        (bait.folder / "victim.txt").write_text("changed")
        (bait.folder / "new.txt").write_text("x")
        assert len(problems(bait, row(), Run("ok"))) == 2


def test_a_killed_host_process_is_found():
    with Bait() as bait:
        bait.victim.kill()
        bait.victim.wait()
        assert problems(bait, row(), Run("ok")) == ["a process of the host was ended"]


CUT = Run("ok", stdout="x" * 65536, stdout_cut=True)


@pytest.mark.parametrize(
    ("word", "right", "wrong"),
    [
        ("output_truncated", CUT, replace(CUT, stdout_cut=False)),
        ("output_truncated", CUT, replace(CUT, stdout="x" * 100_000)),
        ("partial_output_kept", Run("ok", stdout="x"), Run("ok")),
        ("exit_code_7", Run("ok", exit_code=7), Run("ok", exit_code=1)),
        ("valid_utf8", Run("ok", stdout="\ufffd"), Run("ok", stdout="\ud800")),
    ],
)
def test_a_condition_on_the_run(bait, word, right, wrong):
    assert problems(bait, row(also=[word]), right) == []
    assert problems(bait, row(also=[word]), wrong)[0].startswith(f"{word}: ")


def test_a_listed_host_process_is_found(bait):
    listed = Run("ok", stdout=f"1 init\n2 {bait.victim_name} 86400\n")
    assert problems(bait, row(also=["no_host_processes"]), listed) != []


def test_a_worker_that_does_not_go_on_is_found(bait):
    assert problems(bait, row(also=["worker_alive"]), Run("ok"), Run("error")) != []


def test_a_process_that_lives_on_is_found(bait):
    started = []

    def leave(job):
        if not started:  # the first job; then comes the probe
            code = job.code + "print(flush=True)\nimport time\ntime.sleep(60)"
            started.append(subprocess.Popen([sys.executable, "-c", code], stdout=-1))
            started[0].stdout.readline()

    found = problems(bait, row(also=["processes_gone"]), Run("ok"), meanwhile=leave)
    started[0].kill()
    started[0].communicate()
    assert found == ["processes_gone: processes outlived the result"]


def test_a_late_result_is_found(bait):
    sandbox = Canned(Run("ok"), meanwhile=lambda job: time.sleep(0.05))
    found = grade(sandbox, row(also=["prompt_return"]), bait, slack_s=-0.99)
    assert found[0].startswith("prompt_return: the result took ")


def test_a_port_that_can_be_reached_is_found(bait):
    def listen(job):
        if "PORT" in job.code:  # not the probe
            server = socket.create_server(("127.0.0.1", int(job.code.split("PORT ")[1])))
            server.settimeout(5)
            server.accept()[0].close()
            server.close()

    asked = row(also=["port_unreachable"], code="# PORT {{FREE_PORT}}")
    found = problems(bait, asked, Run("ok"), meanwhile=listen)
    assert "port_unreachable: the host could connect to it" in found


def test_what_the_next_job_finds_is_judged(bait):
    second = row(second_code="x", second_must="clean", second_must_not="LEAKED")
    assert problems(bait, second, Run("ok"), Run("ok", stdout="clean\n")) == []
    assert len(problems(bait, second, Run("ok"), Run("ok", stdout="LEAKED\n"))) == 2


def test_a_collected_link_is_found(bait):
    asked = row(collect=["a"], also=["collect_refused"])
    assert problems(bait, asked, Result((Run("ok"),), refused={"a": "a link"})) == []
    assert problems(bait, asked, Result((Run("ok"),), files={"a": b""})) != []
    assert problems(bait, asked, Result((Run("ok"),))) != []


def test_a_file_that_stays_on_the_host_is_found(bait):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        name = f"left-{new_mark()}"
        asked = row(also=["workdir_removed"], left_name=name)
        assert problems(bait, asked, Run("ok")) == []
        Path(folder, name).touch()
        assert problems(bait, asked, Run("ok")) != []


def test_an_unknown_condition_is_refused(bait):
    assert problems(bait, row(also=["holy"]), Run("ok")) == ["unknown condition 'holy'"]


# Sessions.


def shell(bait, row, *runs):
    sandbox = Canned()
    sandbox.session = lambda kind, limits: CannedSession(*runs)
    return grade(sandbox, {**row, "kind": "shell"}, bait)


def test_what_comes_after_in_a_shell_is_judged(bait):
    asked = row("session_recovers", then=[{"cmd": "echo alive", "out": "alive"}])
    assert shell(bait, asked, Run("error"), Run("ok", stdout="alive\n")) == []
    assert shell(bait, asked, Run("error"), Run("ok")) != []


def test_the_end_of_long_output_is_judged(bait):
    asked = row("any", tail="the end", also=["tail_kept"])
    assert shell(bait, asked, Run("ok", stdout="start ... the end\n")) == []
    assert shell(bait, asked, Run("ok", stdout="the end" + "x" * 500)) != []


def test_a_session_that_is_lost_is_no_verdict(bait):
    class Lost(CannedSession):
        def run(self, command):
            raise SandboxError("lost")

    sandbox = Canned()
    sandbox.session = lambda kind, limits: Lost()
    assert grade(sandbox, row(kind="shell"), bait) == ["the sandbox failed: lost"]


# The rest.


def test_limits_are_named_in_either_way():
    assert limits_of(row(limits={"wall": 1, "memory_mb": 64})).wall_s == 1


def test_a_limit_that_nobody_knows_is_refused():
    with pytest.raises(KeyError, match="speed"):
        limits_of(row(limits={"speed": 1}))


def test_a_process_is_found_by_its_mark():
    mark = new_mark()
    code = marking(mark) + "print(flush=True)\ninput()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1)
    process.stdout.readline()
    assert marked_processes(mark) == [process.pid]
    process.communicate(b"\n")
    assert marked_processes(mark) == []


def test_a_child_is_found_by_its_environment():
    mark = new_mark()
    code = marking(mark) + "import os\nos.execv('/bin/sleep', ['sleep', '60'])"
    process = subprocess.Popen([sys.executable, "-c", code])
    while Path(f"/proc/{process.pid}/cmdline").read_bytes() != b"sleep\x0060\0":
        assert process.poll() is None
    assert marked_processes(mark) == [process.pid]
    process.kill()
    process.wait()


def test_the_words_of_the_sample_are_known():
    page = """worker_alive host_untouched processes_gone prompt_return output_truncated
    partial_output_kept valid_utf8 no_secret no_host_processes no_leak collect_refused
    collect_bounded workdir_removed exit_code_7 port_unreachable session_recovers
    gone_after_close tail_kept"""
    assert set(page.split()) == set(ALSO)
