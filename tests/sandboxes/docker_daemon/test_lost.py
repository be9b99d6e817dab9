"""Containers that die and daemons that go away while jobs run."""

import contextlib
import os
import socket
import threading

import pytest

from rl_sandboxes.docker_backend import DockerSandbox
from rl_sandboxes.docker_containers import IMAGE, Containers
from rl_sandboxes.types import Job, Limits, SandboxError


def running(api, container, what):
    """Whether a container runs a command with this word."""
    from docker.errors import APIError

    try:
        processes = api.top(container)["Processes"] or []  # None of one that just died
    except APIError:
        return False
    return any(what in " ".join(process) for process in processes)


@pytest.fixture
def kill_once_running(api, ids, wait_until):
    """Kills as many containers as asked, one after the other, each once it runs a command."""
    threads = []

    def kill(what, times):
        for _ in range(times):
            wait_until(lambda: any(running(api, each, what) for each in ids()))
            api.kill(next(each for each in ids() if running(api, each, what)))

    def start(what, times=1):
        threads.append(threading.Thread(target=kill, args=(what, times)))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()


def test_a_job_whose_container_dies_is_run_again(kill_once_running):
    with DockerSandbox(workers=1, spare=1) as made:
        kill_once_running("sleep 1.5")
        result = made.run(Job.shell("sleep 1.5; echo done"))
    assert (result.status, result.run.stdout) == ("ok", "done\n")


def test_a_job_whose_container_dies_twice_is_our_failure(kill_once_running):
    with DockerSandbox(workers=1, spare=1) as made:
        kill_once_running("sleep 31.5", times=2)
        result = made.run(Job.shell("sleep 31.5", limits=Limits(wall_s=60)))
    assert result.status == "sandbox_error"


def test_a_session_whose_container_dies_says_so(kill_once_running):
    with DockerSandbox(workers=1, spare=0) as made:
        session = made.session("bash", Limits(wall_s=60))
        kill_once_running("sleep 33.5")
        with pytest.raises(SandboxError, match="lost"):
            session.run("sleep 33.5")


class Relay:
    """A Unix socket that leads to the daemon's until it is cut, as if the daemon had died."""

    def __init__(self, path, target):
        self.path, self.target, self._ends = str(path), target, []
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(self.path)
        self._door.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                near, _ = self._door.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self.target)
            self._ends += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def cut(self):
        os.unlink(self.path)
        for end in (self._door, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.fixture
def relay(api, tmp_path, monkeypatch):
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if not host.startswith("unix://"):
        pytest.skip("the daemon is not behind a Unix socket")
    made = Relay(tmp_path / "docker.sock", host.removeprefix("unix://"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{made.path}")
    yield made
    if os.path.exists(made.path):
        made.cut()


def test_a_daemon_that_dies_while_a_job_runs_is_our_failure(api, relay, wait_until, ids):
    def cut_when_it_runs():
        wait_until(lambda: any(running(api, each, "sleep 32.5") for each in ids()))
        relay.cut()

    before = ids()
    with DockerSandbox(workers=1, spare=0) as made:
        killer = threading.Thread(target=cut_when_it_runs)
        killer.start()
        result = made.run(Job.shell("sleep 32.5", limits=Limits(wall_s=60)))
        killer.join()
    assert result.error is not None
    assert "no Docker daemon answers" in result.error
    wait_until(lambda: ids() <= before)  # the runner ends when its client is gone


def test_jobs_run_again_when_the_daemon_is_back(api, relay, double):
    with DockerSandbox(workers=1, spare=0) as made:
        made.run(double)
        relay.cut()
        assert made.run(double).status == "sandbox_error"
        again = Relay(relay.path, relay.target)
        try:
            assert made.run(double).run.value == 42
        finally:
            made.close()
            again.cut()


def test_a_start_without_a_daemon_says_so(relay):
    made = Containers(IMAGE, None, Limits())
    relay.cut()
    with pytest.raises(SandboxError, match="no Docker daemon answers"):
        made.start(["sleep", "60"])
    made.close()
