"""What is missing or wrong, in one line that says what to do."""

import io
import os
import sys
import tarfile

import pytest

from rl_sandboxes.docker_backend import DockerSandbox
from rl_sandboxes.docker_containers import IMAGE
from rl_sandboxes.types import SandboxError


def line_of(**options):
    with pytest.raises(SandboxError) as caught:
        DockerSandbox(**options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_without_the_sdk(monkeypatch):
    monkeypatch.setitem(sys.modules, "docker", None)
    assert "pip install 'agent-rl[docker]'" in line_of()


@pytest.mark.parametrize("host", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:9", "odd://x"])
def test_without_a_daemon(monkeypatch, host):
    pytest.importorskip("docker")
    monkeypatch.setenv("DOCKER_HOST", host)
    assert line_of().startswith(f"no Docker daemon answers at {host} (")


def test_without_the_right_to_talk_to_the_daemon(monkeypatch, tmp_path):
    pytest.importorskip("docker")

    def refuse():
        raise PermissionError(13, "Permission denied")  # root cannot be refused

    monkeypatch.setattr("rl_sandboxes.docker_containers.knock", refuse)
    assert "add the user to the group docker" in line_of()


def test_without_the_image(api, monkeypatch):
    monkeypatch.setattr("rl_sandboxes.docker_containers.IMAGE", "agent-rl-absent:1")
    assert "make sandbox-image" in line_of(image="agent-rl-absent:1")


def test_without_an_image_of_the_users_own(api):
    assert line_of(image="agent-rl-absent:2").endswith("docker pull agent-rl-absent:2")


def test_with_an_unknown_runtime(api):
    text = line_of(runtime="runsx")
    assert text.startswith("the Docker daemon knows no runtime 'runsx', only ")
    assert "daemon.json" in text


@pytest.fixture
def image(api):
    """Makes images that lack something; they are removed afterwards."""
    made = []

    def make(command=None):
        name = f"agent-rl-test:{os.getpid()}-{len(made)}"
        if command is None:
            empty = io.BytesIO()
            tarfile.open(fileobj=empty, mode="w").close()
            api.import_image_from_data(empty.getvalue(), *name.split(":"))
        else:
            alone = api.create_host_config(network_mode="none")
            words = ["sh", "-c", command]
            box = api.create_container(IMAGE, words, user="0", host_config=alone)["Id"]
            api.start(box)
            api.wait(box)
            api.commit(box, *name.split(":"))
            api.remove_container(box, force=True)
        made.append(name)
        return name

    yield make
    for name in made:
        api.remove_image(name, force=True)


def test_with_an_image_without_python(image):
    assert "no python3 on its PATH" in line_of(image=image())


def test_with_an_image_whose_python_lacks_ctypes(image):
    text = line_of(image=image("rm -rf /usr/lib/python3*/ctypes"))
    assert "No module named 'ctypes'" in text
    assert "not python3-minimal" in text


def test_with_a_module_to_preload_that_the_image_lacks(api):
    assert "No module named 'no_such_module'" in line_of(preload=["no_such_module"])


def test_a_failed_start_leaves_no_container(api, ids):
    before = ids()
    line_of(preload=["no_such_module"])
    assert ids() == before
