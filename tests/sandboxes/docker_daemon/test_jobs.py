"""Jobs and sessions: which containers they use, and which of those stay."""

import pytest

from rl_sandboxes.docker_backend import DockerSandbox
from rl_sandboxes.types import Job, JobError, Limits, SandboxError


def test_a_job_runs(sandbox, double):
    assert sandbox.run(double).run.value == 42


@pytest.mark.parametrize(
    ("name", "value"), [("memory_mb", 1025), ("processes", 257), ("disk_mb", 65)]
)
def test_a_job_that_asks_for_more_than_the_walls_is_refused(sandbox, name, value):
    job = Job.program("", limits=Limits(**{name: value}))
    with pytest.raises(JobError, match=f"limit {name} is .*option {name}={value}"):
        sandbox.run(job)


def test_a_clean_job_leaves_its_container_for_the_next(api, double, ids):
    with DockerSandbox(workers=1, spare=0) as made:
        made.run(double)
        before = ids()
        made.run(double)
        assert ids() == before


def test_a_timeout_costs_the_container(api, double, wait_until, ids):
    others = ids()
    with DockerSandbox(workers=1, spare=0) as made:
        made.run(double)
        first = ids() - others
        made.run(Job.program("while True: pass", limits=Limits(wall_s=0.2)))
        assert made.run(double).run.value == 42
        wait_until(lambda: not ids() & first)


def test_a_session_has_a_container_of_its_own(api, double, wait_until, ids):
    with DockerSandbox(workers=1, spare=0) as made:
        made.run(double)
        before = ids()
        session = made.session("bash")
        said = session.run("echo hello > x; cat x").stdout
        during = ids() - before
        session.close()
        wait_until(lambda: ids() == before)
    assert (said, len(during)) == ("hello\n", 1)


def test_closing_leaves_nothing(api, double, ids):
    before = ids()
    made = DockerSandbox(workers=2, spare=1)
    made.run_many([double] * 4)
    made.close()
    assert ids() == before


def test_a_closed_sandbox_says_so(api, double):
    made = DockerSandbox(workers=1)
    made.close()
    with pytest.raises(SandboxError, match="docker is closed"):
        made.run(double)
