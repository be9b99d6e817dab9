"""Whose container is it, and is that process gone?"""

import json
import os
import subprocess
import sys

import pytest

from rl_sandboxes import docker_owner

PRINT = "import json; from rl_sandboxes.docker_owner import labels; print(json.dumps(labels()))"


@pytest.fixture(scope="module")
def of_the_dead():
    """The labels of a process that has ended."""
    done = subprocess.run([sys.executable, "-c", PRINT], capture_output=True, check=True)
    return json.loads(done.stdout)


def test_the_mark_is_on_every_container():
    assert docker_owner.labels()[docker_owner.MARK] == "1"


def test_a_living_owner_is_not_gone():
    assert not docker_owner.is_gone(docker_owner.labels())


def test_an_ended_owner_is_gone(of_the_dead):
    assert docker_owner.is_gone(of_the_dead)


def test_a_process_with_the_owners_id_is_not_the_owner():
    later = docker_owner.labels() | {"agent-rl.owner.start": "1"}
    assert docker_owner.is_gone(later)


def test_a_zombie_is_gone():
    child = subprocess.Popen(
        [sys.executable, "-c", f"{PRINT}; import sys; sys.stdout.flush(); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    found = json.loads(child.stdout.readline())
    alive = docker_owner.is_gone(found)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, nobody took it away
    gone = docker_owner.is_gone(found)
    child.stdin.close()
    child.wait()
    child.stdout.close()
    assert (alive, gone) == (False, True)


@pytest.mark.parametrize("key", ["host", "boot", "namespace"])
def test_nothing_is_said_of_owners_elsewhere(of_the_dead, key):
    assert not docker_owner.is_gone(of_the_dead | {f"agent-rl.owner.{key}": "another"})


@pytest.mark.parametrize("pid", ["", "x", "-1"])
def test_nothing_is_said_of_owners_without_a_process(pid):
    assert not docker_owner.is_gone(docker_owner.labels() | {"agent-rl.owner.pid": pid})


def test_nothing_is_said_of_containers_without_labels():
    assert not docker_owner.is_gone({docker_owner.MARK: "1"})
