"""Every back end keeps the contract, and the check itself finds out those that do not."""

import dataclasses
import json
import threading

import pytest

import rl_sandboxes
from agent_rl import cli, sandbox_commands
from rl_sandboxes import Call, Guarantees, Job, JobError, Limits, Result, Run
from rl_sandboxes.conformance import ASPECTS, CHECKS, check_sandbox
from tests.sandboxes.conftest import make_or_skip

ECHO = "def f(x):\n    return x\n"


@pytest.fixture(scope="module")
def verdicts(back_end):
    """What the check says of a back end."""
    return check_sandbox(lambda: make_or_skip(back_end, workers=1))


def test_every_promise_holds(verdicts):
    assert [verdict for verdict in verdicts if verdict.failed] == []


def test_every_guarantee_is_checked():
    assert {check.rests_on for check in CHECKS} - {""} == set(ASPECTS)


def test_what_is_not_promised_is_said_to_be_missing(guarantees):
    silent = [aspect for aspect in ASPECTS if not getattr(guarantees, aspect)]
    assert not silent or guarantees.missing


# Jobs.


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -(2**70),
        1.5,
        float("inf"),
        1 + 2j,
        "ä\0\ud800",
        b"\xff\0",
        [1, [2]],
        (1,),
        {1, 2},
        frozenset({"a"}),
        {"a": {(1, 2): None}},
    ],
    ids=repr,
)
def test_plain_values_go_in_and_come_out(sandbox, value):
    run = sandbox.run(Job.call(ECHO, "f", [Call((value,))])).run
    assert run.returned, run
    assert (run.value, type(run.value)) == (value, type(value))


def test_each_call_has_a_fresh_process(sandbox):
    code = "seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)\n"
    runs = sandbox.run(Job.call(code, "f", [Call((n,)) for n in range(3)])).runs
    assert [run.value for run in runs] == [1, 1, 1]


def test_a_method_is_called(sandbox):
    code = "class Solution:\n    def solve(self, x, y=1):\n        return x + y\n"
    assert sandbox.run(Job.call(code, "Solution().solve", [Call((1,), {"y": 5})])).run.value == 6


def test_an_exception_is_told(sandbox):
    run = sandbox.run(Job.call("def f():\n    raise KeyError('k')\n", "f", [Call()])).run
    assert (run.status, run.returned, run.exception) == ("error", False, "KeyError: 'k'")


def test_a_value_that_is_no_plain_data_is_refused(sandbox):
    run = sandbox.run(Job.call("def f():\n    return object()\n", "f", [Call()])).run
    assert (run.status, run.returned) == ("error", False)
    assert "odd_type" in run.suspicious


def test_a_value_over_its_limit_is_refused(sandbox):
    job = Job.call("def f():\n    return 'x' * 10**6\n", "f", [Call()], limits=Limits(value_kb=10))
    assert not sandbox.run(job).run.returned


def test_a_run_over_a_limit_ends_a_job_that_stops_early(sandbox):
    code = "if input() == 'loop':\n    while True: pass\n1 / 0"
    job = Job.program(
        code, ["error", "loop", "error"], stop_early=True, limits=Limits(wall_s=1.0, cpu_s=0.3)
    )
    assert [run.status for run in sandbox.run(job).runs] == ["error", "timeout"]


def test_a_job_that_stops_early_ends_when_its_runs_have_taken_long_together(sandbox):
    code = "import time; time.sleep(0.05)"
    job = Job.program(code, [""] * 40, stop_early=True, limits=Limits(wall_s=0.1))
    assert len(sandbox.run(job).runs) < 40


def test_a_shell_command_reads_its_input(sandbox):
    run = sandbox.run(Job.shell("tr a-z A-Z; echo err >&2; exit 3", "abc")).run
    assert (run.status, run.stdout, run.stderr, run.exit_code) == ("error", "ABC", "err\n", 3)


def test_files_go_in_and_come_back(sandbox):
    code = "import os\nos.mkdir('out')\nopen('out/b', 'w').write(open('in/a').read() * 2)"
    result = sandbox.run(Job.program(code, files={"in/a": b"xy"}, collect=["out/b", "out/c"]))
    assert dict(result.files) == {"out/b": b"xyxy"}
    assert list(result.refused) == ["out/c"]


def test_results_come_in_the_order_of_the_jobs(sandbox):
    jobs = [Job.program(f"import time\ntime.sleep({0.1 / (n + 1)})\nprint({n})") for n in range(6)]
    assert [int(result.run.stdout) for result in sandbox.run_many(jobs)] == list(range(6))


def test_a_failing_job_is_told_from_a_failing_sandbox(sandbox):
    result = sandbox.run(Job.program("raise ValueError"))
    assert (result.status, result.error) == ("error", None)


def test_time_is_measured(sandbox):
    run = sandbox.run(Job.program("import time\ntime.sleep(0.2)\nsum(range(10**6))")).run
    assert run.wall_s >= 0.2
    assert 0 < run.cpu_s < run.wall_s + 0.2


def test_an_argument_that_is_no_plain_data_is_the_callers_error(sandbox):
    with pytest.raises(JobError, match="plain data"):
        sandbox.run(Job.call(ECHO, "f", [Call((object(),))]))


def test_no_caller_is_starved(sandbox, back_end):
    """Callers that come back at once must not overtake one that waits."""
    if back_end == "local-as-ordinary-user":
        pytest.skip("what stands between takes one call at a time")
    others = []

    def repeat():
        while len(others) < 200:
            sandbox.run(Job.program("pass"))
            others.append(1)

    threads = [threading.Thread(target=repeat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        sandbox.run(Job.program("pass"))
    overtaken = len(others)
    others += [1] * 200
    for thread in threads:
        thread.join()
    assert overtaken < 100


def test_many_runs_in_one_job(sandbox):
    runs = sandbox.run(Job.call(ECHO, "f", [Call((n,)) for n in range(50)])).runs
    assert [run.value for run in runs] == list(range(50))


# The check of the check.


class Broken:
    """Says that all is well, whatever is asked; promises everything."""

    name = "broken"
    run_made = Run("ok", stdout="hello\n")

    def guarantees(self):
        return Guarantees(**dict.fromkeys(ASPECTS, "certainly"))

    def run(self, job):
        return Result((self.run_made,) * job.n_runs)

    async def arun(self, job):
        return self.run(job)

    def run_many(self, jobs):
        return [self.run(job) for job in jobs]

    def session(self, kind="bash", limits=None):
        raise rl_sandboxes.SandboxError("no sessions")

    def close(self):
        self.is_closed = True


def failed(sandbox, *names):
    checks = [check for check in CHECKS if check.name in names] or None
    return {verdict.name for verdict in check_sandbox(lambda: sandbox, checks) if verdict.failed}


def test_a_sandbox_that_runs_nothing_is_found_out():
    assert {"a function is called", "a loop is ended", "a crash is told"} <= failed(Broken())


def test_a_sandbox_is_closed_after_the_check():
    broken = Broken()
    failed(broken)
    assert broken.is_closed


def test_a_sandbox_without_walls_is_found_out():
    try:
        sandbox = rl_sandboxes.make("local", level="none", allow_unsafe=True, workers=1)
    except rl_sandboxes.SandboxError as error:
        pytest.skip(str(error))
    promised = Guarantees(**dict.fromkeys(ASPECTS, "certainly"))
    sandbox.guarantees = lambda: promised
    assert failed(sandbox, "host files", "network") == {"host files", "network"}


# The command.


@pytest.fixture
def command(capsys):
    """``command("sandboxes", ...)``: exit code and standard output."""

    def call(*words):
        with pytest.raises(SystemExit) as left:
            cli.main(["sandboxes", *words])
        return left.value.code, capsys.readouterr()

    return call


def faked(monkeypatch, sandbox):
    def make(name, **options):
        if name != "local":
            raise rl_sandboxes.SandboxError(f"{name} is not here:\ninstall it")
        return sandbox

    monkeypatch.setattr(rl_sandboxes, "make", make)
    return sandbox


def test_the_command_lists_every_back_end(command, monkeypatch):
    faked(monkeypatch, Broken())
    code, shown = command("--json")
    found = {entry["name"]: entry for entry in json.loads(shown.out)}
    assert code == 0
    assert set(found) == set(rl_sandboxes.BACKENDS)
    assert found["local"]["guarantees"]["network"] == "certainly"
    assert found["docker"]["error"] == "docker is not here: install it"


def test_the_table_has_a_line_for_each_promise(command, monkeypatch):
    promised = dataclasses.replace(Broken().guarantees(), disk="", missing=("files are unlimited",))
    sandbox = faked(monkeypatch, Broken())
    sandbox.guarantees = lambda: promised
    lines = [" ".join(line.split()) for line in command()[1].out.splitlines()]
    assert "local network certainly" in lines
    assert "local disk NOT PROMISED" in lines
    assert "local missing files are unlimited" in lines
    assert "docker not usable docker is not here: install it" in lines


def test_a_broken_promise_is_shown_and_counts(command, monkeypatch):
    faked(monkeypatch, Broken())
    code, shown = command("local", "--check")
    assert code == 1
    assert any("a crash is told" in line and "FAIL" in line for line in shown.out.splitlines())


def test_what_was_not_promised_does_not_count(command, monkeypatch):
    sandbox = faked(monkeypatch, Broken())
    sandbox.guarantees = lambda: Guarantees(**dict.fromkeys(ASPECTS, ""))
    lines = command("local", "--check")[1].out.splitlines()
    assert any("left-overs" in line and "not promised" in line for line in lines)


def test_a_named_back_end_that_is_absent_counts(command, monkeypatch):
    faked(monkeypatch, Broken())
    assert command("docker")[0] == 1


def test_a_remote_server_must_be_named(command):
    code, shown = command("remote", "--json")
    assert code == 1
    assert "--url" in json.loads(shown.out)[0]["error"]


def test_options_belong_to_one_back_end(command, monkeypatch):
    faked(monkeypatch, Broken())
    code, shown = command("local", "docker", "--level", "landlock")
    assert code == 1
    assert shown.err == "error: --level is an option of one back end; name just that one\n"


def test_the_check_of_the_command_is_the_check(monkeypatch):
    faked(monkeypatch, Broken())
    entry = sandbox_commands._described("local", {}, True)
    assert [verdict["name"] for verdict in entry["checks"]] == [check.name for check in CHECKS]
