"""The client: whatever happens to servers and connections, every job ends, and is run once."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import warnings

import pytest

import rl_sandboxes
from rl_sandboxes import wire
from rl_sandboxes.remote import RemoteSandbox
from rl_sandboxes.types import Call, Job, JobError, Limits, Result, SandboxError
from rl_sandboxes.types import Sandbox as SandboxProtocol
from tests.sandboxes.fake_server import FakeServer, until


@contextlib.contextmanager
def serving(**options):
    server = FakeServer(**options)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def server():
    with serving(token="secret") as started:
        yield started


@pytest.fixture(scope="module")
def remote(server):
    with RemoteSandbox(server.url, token="secret") as opened:
        yield opened


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def echo(text):
    return Job.program(f"echo {text}")


def in_thread(function):
    """Start a function; its result, later."""
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(function()))
    thread.start()

    def result():
        thread.join(60)
        return outcome[0]

    return result


def test_it_is_a_sandbox(remote):
    assert isinstance(remote, SandboxProtocol)


def test_a_job_comes_back_with_its_result(remote):
    result = remote.run(Job.program("echo hello", files={"a": b"\0\xff"}))
    assert (result.status, result.run.stdout) == ("ok", "hello")
    assert result.files == {"a": b"\0\xff"}


def test_waiting_on_the_server_is_part_of_the_queue_time(remote):
    assert remote.run(echo("a")).queue_s >= 0.25


def test_results_are_in_the_order_of_the_jobs(remote):
    results = remote.run_many([Job.program("sleep 0.2"), *map(echo, "abc")])
    assert [result.run.stdout for result in results] == ["0.2", "a", "b", "c"]


def test_no_jobs_have_no_results(remote):
    assert remote.run_many([]) == []


def test_it_runs_inside_an_event_loop(remote):
    assert asyncio.run(remote.arun(echo("a"))).run.stdout == "a"


def test_two_event_loops_share_one_sandbox(remote):
    async def many(prefix):
        return await asyncio.gather(*(remote.arun(echo(f"{prefix}{n}")) for n in range(30)))

    halves = [in_thread(lambda prefix=prefix: asyncio.run(many(prefix))) for prefix in "ab"]
    texts = [[result.run.stdout for result in half()] for half in halves]
    assert texts == [[f"{prefix}{n}" for n in range(30)] for prefix in "ab"]


def test_of_200_jobs_from_20_threads_none_is_lost(remote):
    threads = [
        in_thread(lambda t=t: [remote.run(echo(f"{t}.{n}")).run.stdout for n in range(10)])
        for t in range(20)
    ]
    assert [thread() for thread in threads] == [[f"{t}.{n}" for n in range(10)] for t in range(20)]


def test_our_failure_on_the_server_is_our_failure_here(remote):
    assert remote.run(Job.program("fail no luck")).error == "no luck"


def test_cancelling_ends_the_job_on_the_server(remote, tmp_path):
    async def cancelled():
        task = asyncio.create_task(remote.arun(Job.program(f"wait {tmp_path}")))
        await asyncio.to_thread(until, (tmp_path / "started").exists)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.to_thread(until, (tmp_path / "cancelled").exists)

    asyncio.run(cancelled())


def test_guarantees_are_those_of_the_servers_back_end(remote):
    assert remote.guarantees().missing == ("everything",)


def test_a_way_over_the_network_without_encryption_is_told():
    with serving(token="t") as server:
        url = f"http://127.0.0.2:{server.port}"
        with pytest.raises(SandboxError, match="no sandbox server answers"):
            RemoteSandbox(url, token="t")
        with RemoteSandbox(server.url, token="t") as remote:
            remote._urls = ["http://far.example"]
            assert remote.guarantees().missing[1:] == (
                "the connection to http://far.example is not encrypted",
            )


def test_a_wrong_token_is_told_in_a_line(server):
    with pytest.raises(SandboxError, match=r"refuses the token: give the one .* token=") as error:
        RemoteSandbox(server.url, token="wrong")
    assert "\n" not in str(error.value)


def test_a_missing_token_is_told(server):
    with pytest.raises(SandboxError, match="wants a token"):
        RemoteSandbox(server.url)


def test_the_token_may_be_in_the_environment(server, monkeypatch):
    monkeypatch.setenv("AGENT_RL_SANDBOX_TOKEN", "secret")
    with RemoteSandbox(server.url) as remote:
        assert remote.run(echo("a")).run.stdout == "a"


def test_a_server_that_is_down_is_told_with_what_to_do():
    url = f"http://127.0.0.1:{unused_port()}"
    with pytest.raises(SandboxError, match=f"no sandbox server answers at {url} .*serve-sandbox"):
        RemoteSandbox(url)


def test_another_program_at_the_address_is_told():
    with (
        subprocess.Popen(
            [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as other,
    ):
        port = other.stdout.readline().split(b"port ")[1].split()[0].decode()
        try:
            with pytest.raises(SandboxError, match=r"is no sandbox server .HTTP 404"):
                RemoteSandbox(f"http://127.0.0.1:{port}")
        finally:
            other.kill()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": []}, "at least one url"),
        ({"url": "localhost:1"}, "must look like http://"),
        ({"url": "ftp://a"}, "must look like http://"),
        ({"url": "http://"}, "must look like http://"),
        ({"url": "http://a:99999"}, "must look like http://"),
        ({"url": "http://a/?b"}, "must look like http://"),
        ({"url": [None]}, "must look like http://"),
        ({"url": "http://me:pass@a"}, "no user name or password"),
        ({"url": "http://a", "credits": 0}, "credits is 0"),
        ({"url": "http://a", "retries": -1}, "retries is -1"),
        ({"url": "http://a", "timeout_s": 0}, "timeout_s is 0"),
        ({"url": "http://a", "timeout_s": float("nan")}, "timeout_s is nan"),
        ({"url": "http://a", "token": "a\nb"}, "printable ASCII"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(SandboxError, match=message):
        RemoteSandbox(**options)


def test_a_job_that_is_too_large_is_refused_before_it_is_sent():
    with serving(max_body_mb=1) as server, RemoteSandbox(server.url) as remote:
        with pytest.raises(JobError, match=r"the job is .* bytes, and .* takes .*--max-body-mb"):
            remote.run(Job.program("echo a", files={"a": bytes(1 << 20)}))
        assert remote.run(echo("a")).run.stdout == "a"


def test_large_jobs_at_once_are_sent_in_several_requests():
    job = Job.program("echo a", files={"a": bytes(300_000)})
    with serving(max_body_mb=1) as server, RemoteSandbox(server.url) as remote:
        assert [result.status for result in remote.run_many([job] * 10)] == ["ok"] * 10


def test_an_argument_that_is_no_plain_data_is_a_job_error(remote):
    with pytest.raises(JobError, match="no plain data"):
        remote.run(Job.call("", "f", [Call((object(),))]))


def test_a_full_server_is_asked_again():
    with (
        serving(workers=1, max_queue=0) as server,
        RemoteSandbox(server.url, credits=4) as remote,
    ):
        results = remote.run_many([Job.program("sleep 0.1")] * 4)
    assert [result.error for result in results] == [None] * 4


def test_no_more_jobs_are_sent_than_there_are_credits(tmp_path):
    with serving(workers=4) as server, RemoteSandbox(server.url, credits=2) as remote:
        results = in_thread(lambda: remote.run_many([Job.program(f"wait {tmp_path}")] * 6))
        until((tmp_path / "started").exists)
        load = remote._link.submit(remote._link.fleet._health(remote._link.fleet.hosts[0]))
        assert load.result()["free_workers"] == 2
        (tmp_path / "go").touch()
        assert len(results()) == 6


def test_every_job_has_a_result_when_the_server_is_killed_and_started_again(tmp_path):
    with serving(workers=2) as server, RemoteSandbox(server.url, timeout_s=60) as remote:
        jobs = [Job.program(f"wait {tmp_path}"), *(echo(str(n)) for n in range(100))]
        jobs += [Job.program(f"wait {tmp_path}")]
        results = in_thread(lambda: remote.run_many(jobs))
        until((tmp_path / "started").exists)
        server.kill()
        (tmp_path / "go").touch()
        server.start()
        assert [result.error for result in results()] == [None] * len(jobs)


def test_every_job_has_a_result_when_the_server_is_drained_and_started_again(tmp_path):
    with serving(workers=1) as server, RemoteSandbox(server.url, timeout_s=60) as remote:
        jobs = [Job.program(f"wait {tmp_path}"), *(echo(str(n)) for n in range(30))]
        results = in_thread(lambda: remote.run_many(jobs))
        until((tmp_path / "started").exists)
        server.terminate()
        (tmp_path / "go").touch()
        server.ended()
        server.start()
        assert [result.error for result in results()] == [None] * len(jobs)


def test_a_server_that_stays_down_is_an_error_in_time():
    with serving() as server, RemoteSandbox(server.url, timeout_s=0.5) as remote:
        server.kill()
        results = remote.run_many([echo("a")] * 50)
    assert {result.status for result in results} == {"sandbox_error"}
    assert "no sandbox server answers at" in results[0].error


def test_a_connection_that_always_breaks_is_an_error():
    with breaking_server() as url, RemoteSandbox(url, retries=2) as remote:
        error = remote.run(echo("a")).error
    assert "tried 3 times" in error


def test_a_broken_connection_is_tried_again_with_the_same_key():
    with breaking_server() as url, RemoteSandbox(url, retries=2) as remote:
        remote.run(echo("a"))
        keys = breaking_server.keys
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_a_server_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr("rl_sandboxes.remote_link.SILENCE_S", 0.3)
    with (
        breaking_server(silent=True) as url,
        RemoteSandbox(url, retries=1, timeout_s=20) as remote,
    ):
        assert "tried 2 times" in remote.run(echo("a")).error


def test_a_job_ends_at_its_deadline_and_is_ended_on_the_server(tmp_path):
    job = Job.program(f"wait {tmp_path}", limits=Limits(wall_s=0.1))
    with serving(workers=1) as server, RemoteSandbox(server.url, timeout_s=1.0) as remote:
        error = remote.run(job).error
        assert error.startswith(f"no result from {server.url} in 2 s")
        until((tmp_path / "cancelled").exists)


def test_a_server_that_sends_no_result_is_an_error():
    sent = b'{"runs":[{"status":"fine"}]}'
    with breaking_server(result=sent) as url, RemoteSandbox(url) as remote:
        assert "sent no result: result.runs[0].status is 'fine'" in remote.run(echo("a")).error


def test_jobs_are_spread_over_the_servers(tmp_path):
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(serving(workers=1)).url for _ in range(2)]
        remote = stack.enter_context(RemoteSandbox(urls, credits=1))
        folders = [tmp_path / "1", tmp_path / "2"]
        for folder in folders:
            folder.mkdir()
        results = in_thread(lambda: remote.run_many([Job.program(f"wait {f}") for f in folders]))
        until(lambda: all((folder / "started").exists() for folder in folders))
        for folder in folders:
            (folder / "go").touch()
        assert [result.status for result in results()] == ["ok", "ok"]


def test_another_server_takes_over_and_the_first_comes_back(tmp_path):
    with serving() as one, serving() as two, RemoteSandbox([one.url, two.url]) as remote:
        one.kill()
        assert {r.error for r in remote.run_many([echo("a")] * 40)} == {None}
        one.start()
        two.kill()
        assert {r.error for r in remote.run_many([echo("a")] * 40)} == {None}


def test_of_several_servers_one_may_be_down_at_the_start(server):
    urls = [f"http://127.0.0.1:{unused_port()}", server.url]
    with RemoteSandbox(urls, token="secret") as remote:
        assert remote.run(echo("a")).run.stdout == "a"


def test_of_several_servers_none_may_refuse_the_token(server):
    with serving(token="other") as other, pytest.raises(SandboxError, match="refuses the token"):
        RemoteSandbox([server.url, other.url], token="secret")


def test_a_closed_sandbox_takes_no_jobs(server):
    remote = RemoteSandbox(server.url, token="secret")
    remote.close()
    remote.close()
    with pytest.raises(SandboxError, match="closed"):
        remote.run(echo("a"))


def test_closing_ends_the_wait_of_others(server, tmp_path):
    remote = RemoteSandbox(server.url, token="secret")
    result = in_thread(lambda: remote.run(Job.program(f"wait {tmp_path}")))
    until((tmp_path / "started").exists)
    remote.close()
    (tmp_path / "go").touch()
    assert result() == Result(error="this remote sandbox was closed")


def test_it_works_in_a_process_that_was_forked(remote):
    remote.run(echo("a"))
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads; newer Pythons say so
        pid = os.fork()
    if pid == 0:
        try:
            os.write(write, remote.run(echo("child")).run.stdout.encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"child"
    os.waitpid(pid, 0)
    assert remote.run(echo("parent")).run.stdout == "parent"


def test_a_missing_library_is_told(monkeypatch):
    for name in ("remote", "remote_link", "remote_hosts"):
        monkeypatch.delitem(sys.modules, f"rl_sandboxes.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(SandboxError, match=r"needs httpx: pip install 'agent-rl\[remote\]'"):
        rl_sandboxes.make("remote", url="http://127.0.0.1:1")


def test_importing_the_package_imports_no_http():
    code = "import sys, rl_sandboxes; print({'httpx', 'starlette', 'uvicorn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@contextlib.contextmanager
def breaking_server(silent=False, result=None):
    """Healthy by its own account; to jobs it says nothing, breaks off, or sends ``result``."""
    breaking_server.keys = keys = []
    with serving() as server:
        import httpx

        health = httpx.get(f"{server.url}/v1/health", trust_env=False).content
    listener = socket.create_server(("127.0.0.1", 0))
    kept = []

    def answer(connection):
        with connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                length = 0
                while (header := stream.readline().strip()) != b"":
                    name, _, value = header.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                body = stream.read(length)
                if line.startswith(b"GET"):
                    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
                    connection.sendall(head % len(health) + health)
                    continue
                if line.startswith(b"DELETE"):
                    return
                key = wire.loads(body)["jobs"][0]["key"]
                keys.append(key)
                if silent:
                    kept.append(connection.dup())
                    time.sleep(2)
                if result is not None:
                    sent = b'{"key":"%s","result":%s}\n' % (key.encode(), result)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + sent)
                return

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in kept:
            connection.close()
