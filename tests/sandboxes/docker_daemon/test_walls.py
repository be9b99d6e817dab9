"""The walls of a container, by what the daemon says and by what a job finds."""

import time

import pytest

from rl_sandboxes.docker_backend import DockerSandbox
from rl_sandboxes.docker_containers import IMAGE, Containers
from rl_sandboxes.types import Job, Limits

LARGEST = Limits(memory_mb=200, processes=40, disk_mb=8)


@pytest.fixture
def containers(api):
    made = Containers(IMAGE, None, LARGEST)
    yield made
    made.close()


def say(container):
    """What a container writes to stdout, until it ends."""
    said, deadline = b"", time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            part = container.stream.recv(1 << 16)
        except BlockingIOError:
            time.sleep(0.01)
            continue
        if not part:
            return said.decode()
        said += part
    raise AssertionError("it did not end")


@pytest.fixture(scope="module")
def settings(api):
    """How the daemon says it keeps a container."""
    made = Containers(IMAGE, None, LARGEST)
    container = made.start(["sleep", "60"])
    yield api.inspect_container(container.id)
    made.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NetworkMode", "none"),
        ("CapAdd", None),
        ("CapDrop", ["ALL"]),
        ("SecurityOpt", ["no-new-privileges"]),
        ("ReadonlyRootfs", True),
        ("Privileged", False),
        ("Binds", None),
        ("Devices", None),
        ("PidMode", ""),
        ("IpcMode", "private"),
        ("UTSMode", ""),
        ("PidsLimit", 48),
        ("Memory", 296 << 20),
        ("MemorySwap", 296 << 20),
        ("OomScoreAdj", 500),
        ("LogConfig", {"Type": "none", "Config": {}}),
        ("AutoRemove", True),
        ("Init", False),
    ],
)
def test_a_container_is_hardened(settings, name, value):
    assert settings["HostConfig"][name] == value


def test_a_container_never_starts_again(settings):
    assert settings["HostConfig"]["RestartPolicy"]["Name"] in {"", "no"}


@pytest.mark.parametrize(
    "name", ["kernel.shmmni", "kernel.msgmni", "kernel.sem", "fs.mqueue.queues_max"]
)
def test_nothing_can_be_left_in_the_kernel(settings, name):
    assert set(settings["HostConfig"]["Sysctls"][name].split()) == {"0"}


@pytest.mark.parametrize(("name", "hard"), [("core", 0), ("msgqueue", 0), ("nofile", 4096)])
def test_resources_are_limited(settings, name, hard):
    limits = {limit["Name"]: limit["Hard"] for limit in settings["HostConfig"]["Ulimits"]}
    assert limits[name] == hard


@pytest.mark.parametrize("folder", ["/work", "/tmp", "/dev/shm"])
def test_folders_are_small_and_in_memory(settings, folder):
    options = settings["HostConfig"]["Tmpfs"][folder].split(",")
    assert {"size=8m", "nr_inodes=1024", "nosuid", "nodev", "exec"} <= set(options)


def test_a_container_has_an_ordinary_user_of_its_own(containers):
    assert 61_000 <= int(say(containers.start(["id", "-u"]))) < 63_000


def test_two_containers_have_two_users(api, containers):
    two = [containers.start(["sleep", "60"]) for _ in range(2)]
    users = {api.inspect_container(each.id)["Config"]["User"] for each in two}
    assert len(users) == 2


def shell(sandbox, command):
    return sandbox.run(Job.shell(command)).run


def test_a_job_has_no_rights(sandbox):
    found = shell(
        sandbox, "grep -E '^(Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/self/status"
    )
    assert {line.split(":")[0]: int(line.split()[1], 16) for line in found.stdout.splitlines()} == {
        "CapPrm": 0,
        "CapEff": 0,
        "CapBnd": 0,
        "CapAmb": 0,
        "NoNewPrivs": 1,
        "Seccomp": 2,
    }


def test_a_job_has_no_network_but_loopback(sandbox):
    assert shell(sandbox, "ls /sys/class/net").stdout.split() == ["lo"]


def test_a_job_writes_only_to_its_folders(sandbox):
    found = shell(sandbox, "find / -path /proc -prune -o -type d -writable -print 2>/dev/null")
    writable = {folder for folder in found.stdout.split() if folder != "/dev/mqueue"}  # holds none
    assert writable == {"/work", "/tmp", "/dev/shm"}


@pytest.mark.parametrize("what", ["-M 4096", "-Q", "-S 1"])
def test_a_job_leaves_no_memory_queue_or_semaphore_of_system_v(sandbox, what):
    assert shell(sandbox, f"ipcmk {what}").status != "ok"


def test_no_environment_of_the_client_is_in_the_container(api, monkeypatch):
    monkeypatch.setenv("AGENT_RL_SECRET", "open sesame")
    with DockerSandbox(workers=1, spare=0) as made:
        seen = made.run(Job.shell("cat /proc/[0-9]*/environ | tr '\\0' '\\n'; env")).run
    assert "sesame" not in seen.stdout
    assert "HOME=/work" in seen.stdout


def test_a_job_makes_no_message_queue(sandbox):
    assert shell(sandbox, "echo x > /dev/mqueue/queue").status != "ok"


def test_what_is_promised_names_the_walls(sandbox):
    promised = sandbox.guarantees()
    assert "1120 MiB" in promised.memory
    assert "264" in promised.process_limit
    assert any("runsc" in line for line in promised.missing)
