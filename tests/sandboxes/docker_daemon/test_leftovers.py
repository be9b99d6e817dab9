"""What clients that were killed leave behind, and who removes it."""

import signal
import subprocess
import sys

import pytest

from rl_sandboxes.docker_containers import IMAGE, Containers
from rl_sandboxes.types import Limits

CLIENT = """
from rl_sandboxes.docker_containers import IMAGE, Containers
from rl_sandboxes.types import Limits
containers = Containers(IMAGE, None, Limits())
print(containers.start({command}).id, flush=True)
input()
"""


def is_there(api, container):
    return bool(api.containers(all=True, filters={"id": container}))


def start_client(command):
    code = CLIENT.replace("{command}", repr(command))
    client = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return client, client.stdout.readline().strip()


def end_client(client):
    client.send_signal(signal.SIGKILL)
    client.communicate()


@pytest.fixture
def leftover(api):
    """A container that outlives the end of its stdin, of a client that was killed."""
    client, container = start_client(["sleep", "600"])
    end_client(client)
    assert is_there(api, container)
    return container


def test_the_next_start_removes_what_a_killed_client_left(api, leftover):
    Containers(IMAGE, None, Limits()).close()
    assert not is_there(api, leftover)


def test_reap_says_how_many_it_removed(api, sandbox, leftover):
    assert sandbox.reap() >= 1
    assert not is_there(api, leftover)


def test_the_containers_of_living_clients_stay(api, sandbox):
    client, container = start_client(["sleep", "600"])
    try:
        sandbox.reap()
        assert is_there(api, container)
    finally:
        end_client(client)
        sandbox.reap()


def test_a_container_ends_by_itself_when_its_client_is_killed(api, wait_until):
    client, container = start_client(["cat"])  # ends with its stdin, as the runner does
    end_client(client)
    wait_until(lambda: not is_there(api, container))
