"""A real daemon for the tests of the docker back end."""

import os
import time

import pytest

from rl_sandboxes.docker_backend import DockerSandbox
from rl_sandboxes.docker_containers import IMAGE, Containers, connect
from rl_sandboxes.docker_owner import MARK
from rl_sandboxes.types import Call, Job, Limits, SandboxError


@pytest.fixture(scope="session")
def api():
    """The daemon; without one the tests are skipped, or fail where Docker is required."""
    try:
        client = connect()
        Containers(IMAGE, None, Limits()).close()
    except SandboxError as error:
        required = os.environ.get("AGENT_RL_REQUIRE_SANDBOXES", "").split(",")
        if {"docker", "all"} & set(required):
            pytest.fail(f"docker is required and cannot be used: {error}")
        pytest.skip(f"docker: {error}")
    yield client
    client.close()


@pytest.fixture(scope="module")
def sandbox(api):
    with DockerSandbox(workers=1) as made:
        yield made


@pytest.fixture
def double():
    """A job that returns 42."""
    return Job.call("def double(x):\n    return 2 * x", "double", [Call((21,))])


@pytest.fixture
def ids(api):
    """Asks for the containers that this process has now."""
    mine = [f"{MARK}=1", f"agent-rl.owner.pid={os.getpid()}"]
    return lambda: {each["Id"] for each in api.containers(all=True, filters={"label": mine})}


@pytest.fixture
def wait_until():
    """Waits for what must happen some time."""

    def wait(true, seconds=30):
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.02)

    return wait
