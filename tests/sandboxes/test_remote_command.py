"""``agent-rl serve-sandbox`` with the real back end, and what it says to those who misuse it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import rl_sandboxes
from agent_rl.cli import main
from rl_sandboxes.types import Call, Job, SandboxError
from tests.sandboxes.fake_server import until

ADD = Job.call(
    "def add(a, b):\n    return a + b", "add", [Call((1, 2)), Call((), {"a": 3, "b": 4})]
)


class Served:
    """The command in a process of its own, with a token in a file."""

    def __init__(self, folder, *options):
        self.token = folder / "token"
        self.token.write_text("secret\n")
        self.options = options
        self.port = 0
        self.start()

    def start(self):
        words = ["--port", str(self.port), "--token-file", str(self.token), "--json"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent_rl.cli", "serve-sandbox", *words, *self.options],
            stderr=subprocess.PIPE,
            text=True,
        )
        said = json.loads(self.process.stderr.readline())
        self.url = said["url"]
        self.port = int(self.url.rpartition(":")[2])

    def ended(self):
        code = self.process.wait(60)
        rest = self.process.stderr.read()
        self.process.stderr.close()
        return code, rest


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    try:
        rl_sandboxes.make("local", workers=1).close()
    except SandboxError as error:
        pytest.skip(f"local: {error}")
    started = Served(tmp_path_factory.mktemp("served"), "--workers", "2")
    yield started
    started.process.kill()
    started.ended()


@pytest.fixture(scope="module")
def remote(served):
    with rl_sandboxes.make("remote", url=served.url, token="secret", timeout_s=60) as opened:
        yield opened


def test_calls_come_back_with_values(remote):
    assert [run.value for run in remote.run(ADD).runs] == [3, 7]


def test_programs_read_their_input(remote):
    assert remote.run(Job.program("print(input()[::-1])", "abc")).run.stdout == "cba\n"


def test_commands_and_files(remote):
    result = remote.run(Job.shell("cat a > b", files={"a": b"\xff"}, collect=["b", "c"]))
    assert (dict(result.files), list(result.refused)) == ({"b": b"\xff"}, ["c"])


def test_a_limit_is_a_status_and_no_error(remote):
    limits = rl_sandboxes.Limits(wall_s=0.3)
    assert remote.run(Job.program("while True: pass", limits=limits)).status == "timeout"


def test_a_session_keeps_its_state(remote):
    with remote.session() as session:
        session.put("a", b"1")
        session.run("b=$(cat a)")
        assert session.run("echo $b").stdout == "1\n"


def test_the_guarantees_are_the_local_ones(remote):
    with rl_sandboxes.make("local", workers=1) as local:
        assert remote.guarantees() == local.guarantees()


def test_killed_and_started_again_no_job_is_lost(tmp_path):
    served = Served(tmp_path, "--workers", "2")
    try:
        with rl_sandboxes.make("remote", url=served.url, token="secret", timeout_s=60) as remote:
            results = []
            jobs = [ADD] * 100
            thread = threading.Thread(target=lambda: results.extend(remote.run_many(jobs)))
            thread.start()
            time.sleep(0.2)  # somewhere in the middle; every moment is a good one
            served.process.kill()
            served.ended()
            served.start()
            thread.join(120)
        assert [result.status for result in results] == ["ok"] * 100
    finally:
        served.process.kill()
        served.ended()


def test_it_ends_when_told_with_nothing_left(tmp_path):
    served = Served(tmp_path, "--workers", "1")
    with rl_sandboxes.make("remote", url=served.url, token="secret") as remote:
        remote.session()
        remote.run(ADD)
        children = children_of(served.process.pid)
        served.process.send_signal(signal.SIGTERM)
        assert served.ended() == (0, "")
    assert children
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children))


def test_told_twice_it_gives_up_in_one_line(tmp_path):
    served = Served(tmp_path, "--workers", "1")
    with rl_sandboxes.make("remote", url=served.url, token="secret") as remote:
        remote.session()
        served.process.send_signal(signal.SIGINT)
        served.process.send_signal(signal.SIGTERM)  # two of a kind could become one
        assert served.ended() == (1, "ended at once: what still ran was given up\n")


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        own = file.read().split()
    return own + [grandchild for child in own for grandchild in children_of(child)]


def fails(capsys, *words):
    """The one line that a wrong command line gives."""
    with pytest.raises(SystemExit) as ended:
        main(["serve-sandbox", *words])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


@pytest.fixture(autouse=True)
def _no_token(monkeypatch):
    monkeypatch.delenv("AGENT_RL_SANDBOX_TOKEN", raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.org"])
def test_it_serves_no_network_without_a_token(capsys, host):
    assert "without a token; give --token-file" in fails(capsys, "--host", host)


def test_a_port_that_is_taken_is_told(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert "give another --host or --port" in fails(capsys, "--port", port)


def test_an_address_that_is_not_ours_is_told(capsys, monkeypatch):
    monkeypatch.setenv("AGENT_RL_SANDBOX_TOKEN", "secret")
    assert "cannot listen on 192.0.2.1:8765" in fails(capsys, "--host", "192.0.2.1")


def test_a_token_file_that_is_absent_is_told(capsys, tmp_path):
    path = str(tmp_path / "absent")
    assert f"{path}: No such file" in fails(capsys, "--token-file", path)


@pytest.mark.parametrize(
    "content", [b"", b" \n", b"two words", b"two\nlines", b"\xff", "é".encode()]
)
def test_a_token_that_is_none_is_told(capsys, tmp_path, content):
    path = tmp_path / "token"
    path.write_bytes(content)
    assert "must hold a token" in fails(capsys, "--token-file", str(path))


def test_an_empty_token_in_the_environment_is_no_permission(capsys, monkeypatch):
    monkeypatch.setenv("AGENT_RL_SANDBOX_TOKEN", "")
    assert "AGENT_RL_SANDBOX_TOKEN must hold a token" in fails(capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backend", "remote"], "--backend is 'remote'; it must be local or docker"),
        (["--workers", "0"], "--workers is 0; it must be 1 to"),
        (["--port", "70000"], "--port is 70000; it must be 0 to 65535"),
        (["--max-queue", "-1"], "--max-queue is -1"),
        (["--max-body-mb", "0"], "--max-body-mb is 0"),
        (["--max-sessions", "0"], "--max-sessions is 0"),
        (["--idle-timeout-s", "0"], "--idle-timeout-s is 0"),
        (["--idle-timeout-s", "nan"], "--idle-timeout-s is nan"),
        (["--port", "0", "--level", "steel"], "level is 'steel'"),
        (["--port", "0", "--colour", "red"], "colour"),
        (["--port", "0", "red"], "unrecognized arguments: red"),
    ],
)
def test_a_wrong_option_is_told(capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        main(["serve-sandbox", *words])
    assert ended.value.code in (1, 2)
    assert message in capsys.readouterr().err


def test_a_missing_library_is_told(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "rl_sandboxes.serving", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "pip install 'agent-rl[serve]'" in fails(capsys)
