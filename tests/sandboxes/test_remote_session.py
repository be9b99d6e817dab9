"""Sessions on a server: each command runs once, and a session that is gone says so."""

import asyncio
import threading

import pytest

from rl_sandboxes.remote import RemoteSandbox
from rl_sandboxes.types import JobError, Limits, SandboxError
from tests.sandboxes.fake_server import FakeServer, until


@pytest.fixture(scope="module")
def server():
    started = FakeServer(token="secret", max_body_mb=1)
    yield started
    started.close()


@pytest.fixture(scope="module")
def remote(server):
    with RemoteSandbox(server.url, token="secret", timeout_s=20) as opened:
        yield opened


@pytest.fixture
def session(remote):
    with remote.session() as opened:
        yield opened


def test_state_stays(session):
    session.run("a")
    assert session.run("b").stdout == "bash 10.0\na\nb"


def test_kind_and_limits_arrive(remote):
    with remote.session("python", Limits(wall_s=3)) as session:
        assert session.run("a").stdout == "python 3\na"


def test_a_commands_own_limit_arrives(session):
    assert session.run("a", timeout_s=7.5).wall_s == 7.5


def test_it_runs_inside_an_event_loop(session):
    assert asyncio.run(session.arun("a")).stdout == "bash 10.0\na"


def test_a_limit_that_is_none_is_a_job_error(session):
    with pytest.raises(JobError, match="run cannot be sent"):
        session.run("a", timeout_s=float("inf"))


def test_files_go_there_and_back(session):
    session.put("a", b"\0\xff")
    assert session.get("a") == b"\0\xff"


def test_an_absent_file_is_not_found(session):
    with pytest.raises(FileNotFoundError, match="absent"):
        session.get("absent")


def test_a_link_is_a_job_error(session):
    with pytest.raises(JobError, match="link is a link"):
        session.get("link")


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(session):
    with pytest.raises(JobError, match="the sandbox server takes"):
        session.put("a", bytes(1 << 20))


def test_background_processes(session):
    number = session.start("sleep")
    assert (number, session.poll(1), session.poll(2).exit_code) == (1, None, 3)
    assert session.stop(number).signal == 9


def test_snapshots(session):
    session.put("a", b"1")
    number = session.snapshot()
    session.put("a", b"2")
    session.restore(number)
    assert session.get("a") == b"1"


def test_a_snapshot_that_is_not_there_is_an_error(session):
    with pytest.raises(SandboxError, match="no snapshot 99"):
        session.restore(99)


def test_a_closed_session_is_gone(remote):
    session = remote.session()
    session.close()
    session.close()
    with pytest.raises(SandboxError, match="no such session"):
        session.run("a")


def test_a_session_that_does_not_open_says_why(remote):
    with pytest.raises(SandboxError, match="no luck"):
        remote.session(limits=Limits(memory_mb=13))


def test_a_full_server_is_an_error_in_time():
    server = FakeServer(max_sessions=1)
    try:
        with RemoteSandbox(server.url, timeout_s=0.5) as remote:
            remote.session()
            with pytest.raises(SandboxError, match=r"no session could be opened in .*1 sessions"):
                remote.session()
    finally:
        server.close()


def test_a_full_server_is_left_for_another():
    servers = [FakeServer(max_sessions=1) for _ in range(2)]
    try:
        with RemoteSandbox([server.url for server in servers], timeout_s=20) as remote:
            sessions = [remote.session() for _ in range(2)]
            assert [session.run("a").status for session in sessions] == ["ok", "ok"]
    finally:
        for server in servers:
            server.close()


def test_a_server_that_was_started_again_knows_no_session(tmp_path):
    server = FakeServer()
    try:
        with RemoteSandbox(server.url, timeout_s=20) as remote:
            session = remote.session()
            server.kill()
            server.start()
            with pytest.raises(SandboxError, match="the server was restarted"):
                session.run("a")
            assert remote.session().run("b").status == "ok"
    finally:
        server.close()


def test_closing_the_sandbox_ends_the_wait_of_others(server, tmp_path):
    remote = RemoteSandbox(server.url, token="secret")
    session = remote.session()
    errors = []

    def wait():
        try:
            session.run(f"wait {tmp_path}")
        except SandboxError as error:
            errors.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    until((tmp_path / "started").exists)
    remote.close()
    thread.join(60)
    (tmp_path / "go").touch()
    assert errors == ["this remote sandbox was closed"]
