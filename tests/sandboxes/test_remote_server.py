"""The server's protocol, spoken by hand: what a client of any language would see."""

import collections
import contextlib
import json
import socket
import threading

import httpx
import pytest

from rl_sandboxes import wire
from rl_sandboxes.types import Job
from tests.sandboxes.fake_server import FakeServer, until

JSON = {"Content-Type": "application/json"}


@contextlib.contextmanager
def serving(**options):
    server = FakeServer(**options)
    headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
    try:
        with httpx.Client(
            base_url=server.url, headers=headers, timeout=60, trust_env=False
        ) as client:
            client.server = server
            yield client
    finally:
        server.close()


@pytest.fixture(scope="module")
def client():
    with serving(token="secret", max_body_mb=1) as opened:
        yield opened


def job(code):
    return wire.job_tree(Job.program(code))


def post(client, *codes, keys=None):
    """The outcomes by key."""
    keys = keys or [f"{code} {index}" for index, code in enumerate(codes)]
    jobs = [{"key": key, "job": job(code)} for key, code in zip(keys, codes, strict=True)]
    answer = client.post("/v1/jobs", json={"jobs": jobs})
    assert answer.status_code == 200, answer.text
    lines = [json.loads(line) for line in answer.text.splitlines() if line]
    return {line["key"]: line for line in lines}


def error_of(answer):
    return answer.status_code, answer.json()["error"]["code"]


def test_a_batch_gives_each_job_its_result(client):
    outcomes = post(client, "echo a", "echo b", keys=["1", "2"])
    assert {key: line["result"]["runs"][0]["stdout"] for key, line in outcomes.items()} == {
        "1": "a",
        "2": "b",
    }


def test_a_result_is_sent_before_slower_ones_of_its_batch(client, tmp_path):
    jobs = [{"key": str(tmp_path), "job": job(f"wait {tmp_path}")}]
    jobs += [{"key": "fast", "job": job("echo fast")}]
    with client.stream("POST", "/v1/jobs", json={"jobs": jobs}) as answer:
        lines = answer.iter_lines()
        first = next(line for line in lines if line)
        (tmp_path / "go").touch()
        second = next(line for line in lines if line)
    assert [json.loads(line)["key"] for line in (first, second)] == ["fast", str(tmp_path)]


def test_an_empty_line_says_that_the_server_lives(client, tmp_path):
    jobs = [{"key": str(tmp_path), "job": job(f"wait {tmp_path}")}]
    with client.stream("POST", "/v1/jobs", json={"jobs": jobs}) as answer:
        chunk = next(chunk for chunk in answer.iter_raw() if chunk)
        (tmp_path / "go").touch()
    assert chunk == b"\n"


def test_a_defect_of_the_back_end_is_an_error_of_that_job_alone(client):
    outcomes = post(client, "raise boom", "echo b", keys=["boom", "b"])
    error = outcomes["boom"]["result"]["error"]
    assert error == "the server's back end failed: RuntimeError: boom"
    assert "error" not in outcomes["b"]["result"]


def test_the_same_key_gets_the_same_result_and_runs_once(client):
    first = post(client, "count again", keys=["again"])
    assert post(client, "count again", keys=["again"]) == first


def test_the_same_key_at_the_same_time_runs_once(client):
    outcomes = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(post(client, "count x", keys=["x"])))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [o["x"]["result"]["runs"][0]["value"] for o in outcomes] == [1] * 6


def test_a_key_of_another_job_is_refused(client):
    post(client, "echo a", keys=["taken"])
    refused = post(client, "echo b", keys=["taken"])["taken"]["error"]
    assert (refused["status"], refused["code"]) == (409, "key_reused")


def test_a_job_goes_on_when_its_client_is_gone(client, tmp_path):
    jobs = [{"key": "left", "job": job(f"wait {tmp_path}")}]
    with client.stream("POST", "/v1/jobs", json={"jobs": jobs}):
        until((tmp_path / "started").exists)
    (tmp_path / "go").touch()
    assert "result" in post(client, f"wait {tmp_path}", keys=["left"])["left"]
    assert not (tmp_path / "cancelled").exists()


def test_delete_ends_a_job(client, tmp_path):
    jobs = [{"key": "cut", "job": job(f"wait {tmp_path}")}]
    with client.stream("POST", "/v1/jobs", json={"jobs": jobs}) as answer:
        until((tmp_path / "started").exists)
        assert client.delete("/v1/jobs/cut").json() == {"cancelled": True}
        line = next(line for line in answer.iter_lines() if line)
    assert json.loads(line)["error"]["code"] == "cancelled"


def test_delete_of_an_unknown_key_does_nothing(client):
    assert client.delete("/v1/jobs/unknown").json() == {"cancelled": False}


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/jobs", "POST"),
        ("/v1/jobs/a", "DELETE"),
        ("/v1/drain", "POST"),
        ("/v1/sessions", "POST"),
        ("/v1/sessions/a/run", "POST"),
        ("/v1/sessions/a", "DELETE"),
    ],
)
@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer secre", "Bearer secret2", "Basic secret"])
def test_everything_wants_the_token(client, path, method, shown):
    answer = client.request(method, path, headers={"Authorization": shown})
    assert error_of(answer) == (401, "token")


def test_health_tells_those_without_the_token_little(client):
    tree = httpx.get(f"{client.server.url}/v1/health", trust_env=False).json()
    assert tree == {"service": "agent-rl-sandbox", "protocol": wire.PROTOCOL, "status": "ok"}


def test_health_refuses_a_wrong_token(client):
    answer = client.get("/v1/health", headers={"Authorization": "Bearer no"})
    assert error_of(answer) == (401, "token")


def test_health_tells_the_rest_to_those_with_it():
    with serving(token="t", workers=4, max_queue=7) as client:
        tree = client.get("/v1/health").json()
    assert tree.pop("guarantees")["missing"] == ["everything"]
    assert tree == {
        "service": "agent-rl-sandbox",
        "protocol": 1,
        "status": "ok",
        "backend": "fake",
        "workers": 4,
        "free_workers": 4,
        "queue": 0,
        "sessions": 0,
        "credits": 11,
        "max_batch": 64,
        "max_body_bytes": 64 << 20,
        "max_sessions": 32,
    }


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "not_json"),
        (b"\xff", 400, "not_json"),
        (b"[" * 100_000, 400, "not_json"),
        (b'{"jobs":[{"key":"a","job":' + b"[" * 100_000, 400, "not_json"),
        (b"", 400, "not_json"),
        (b"[]", 422, "invalid"),
        (b'{"jobs":{}}', 422, "invalid"),
        (b'{"jobs":[]}', 422, "invalid"),
        (b'{"jobs":[{}]}', 422, "invalid"),
        (b'{"jobs":[{"key":"","job":{}}]}', 422, "invalid"),
        (b'{"jobs":[{"key":"a","job":{},"x":1}]}', 422, "invalid"),
        (b'{"jobs":[{"key":"a","job":{}},{"key":"a","job":{}}]}', 422, "invalid"),
        (b'{"job":[]}', 422, "invalid"),
    ],
)
def test_a_broken_request_is_refused_with_a_line(client, body, status, code):
    answer = client.post("/v1/jobs", content=body, headers=JSON)
    assert error_of(answer) == (status, code)
    assert "\n" not in answer.json()["error"]["message"]


def test_a_broken_job_leaves_the_others_of_its_batch_alone(client):
    jobs = [{"key": "bad", "job": {"kind": "program", "code": 1}}]
    jobs += [{"key": "good", "job": job("echo a")}]
    answer = client.post("/v1/jobs", json={"jobs": jobs})
    bad, good = (json.loads(line) for line in answer.text.splitlines() if line)
    assert bad["error"]["message"] == "job.code must be text, not a number"
    assert good["key"] == "good"


def test_a_page_in_a_browser_cannot_post_jobs(client):
    answer = client.post("/v1/jobs", content=b"{}", headers={"Content-Type": "text/plain"})
    assert error_of(answer) == (415, "content_type")


def test_without_a_token_a_foreign_name_is_refused():
    with serving() as client:
        headers = {"Host": "evil.example"}
        answer = client.post("/v1/jobs", json={"jobs": []}, headers=headers)
    assert error_of(answer) == (403, "host")


def test_without_a_token_everyone_on_the_machine_is_served():
    with serving() as client:
        assert "result" in post(client, "echo a", keys=["a"])["a"]


@pytest.mark.parametrize(("path", "status"), [("/", 404), ("/v1/jobs", 405), ("/v2/jobs", 404)])
def test_another_address_is_refused_in_json(client, path, status):
    assert client.get(path).json()["error"]["status"] == status


def test_a_body_that_is_too_large_is_refused(client):
    answer = client.post("/v1/jobs", content=b" " * (3 << 19), headers=JSON)
    assert error_of(answer) == (413, "too_large")


def test_a_body_that_is_too_large_without_a_length_is_refused(client):
    answer = client.post("/v1/jobs", content=iter([b" " * 1000] * 1500), headers=JSON)
    assert error_of(answer) == (413, "too_large")


def test_a_body_that_says_it_is_huge_is_refused_before_it_is_sent(client):
    with socket.create_connection(("127.0.0.1", client.server.port), 30) as huge:
        huge.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\n"
            b"Content-Type: application/json\r\nContent-Length: 99999999999999\r\n\r\n"
        )
        assert huge.recv(12) == b"HTTP/1.1 413"


def test_a_body_without_an_end_is_cut_off(client):
    with socket.create_connection(("127.0.0.1", client.server.port), 30) as endless:
        endless.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            collections.deque(map(endless.sendall, [chunk] * 10_000))


def test_a_client_that_leaves_in_the_middle_of_its_body_does_no_harm(client):
    with socket.create_connection(("127.0.0.1", client.server.port), 30) as rude:
        rude.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\n"
            b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        )
    assert "result" in post(client, "echo a", keys=["after"])["after"]


def test_beyond_the_queue_a_job_is_told_to_come_back(tmp_path):
    with serving(workers=1, max_queue=1) as client:
        held = [{"key": str(n), "job": job(f"wait {tmp_path}")} for n in range(2)]
        with client.stream("POST", "/v1/jobs", json={"jobs": held}):
            until((tmp_path / "started").exists)
            answer = client.post("/v1/jobs", json={"jobs": [{"key": "c", "job": job("echo c")}]})
            load = client.get("/v1/health").json()
            (tmp_path / "go").touch()
    assert (*error_of(answer), answer.headers["retry-after"]) == (429, "queue_full", "1")
    assert (load["free_workers"], load["queue"]) == (0, 1)


def test_a_batch_larger_than_the_queue_is_taken_in_part(tmp_path):
    with serving(workers=1, max_queue=1) as client:
        (tmp_path / "go").touch()
        outcomes = post(client, *[f"wait {tmp_path}"] * 4)
    kinds = [line.get("error", {}).get("code", "result") for line in outcomes.values()]
    assert sorted(kinds) == ["queue_full", "queue_full", "result", "result"]


def test_jobs_that_wait_may_not_be_large_in_all(tmp_path):
    with serving(workers=1, max_queue_bytes=2000) as client:
        large = wire.job_tree(Job.program(f"wait {tmp_path}", files={"a": bytes(1000)}))
        with client.stream("POST", "/v1/jobs", json={"jobs": [{"key": "a", "job": large}]}):
            until((tmp_path / "started").exists)
            answer = client.post("/v1/jobs", json={"jobs": [{"key": "b", "job": large}]})
    assert error_of(answer) == (429, "queue_full")


def test_waiting_for_a_worker_is_told_apart(tmp_path):
    with serving(workers=1) as client:
        outcomes = post(client, "sleep 0.3", "echo b", keys=["a", "b"])
    queued = outcomes["b"]["result"]["queue_s"]
    assert queued >= 0.25 + 0.3 - 0.05  # the back end's own 0.25, and the first job


@pytest.mark.parametrize("by", ["signal", "request"])
def test_draining_finishes_what_runs_and_takes_no_more(tmp_path, by):
    with serving() as client:
        held = [{"key": "a", "job": job(f"wait {tmp_path}")}]
        with client.stream("POST", "/v1/jobs", json={"jobs": held}) as answer:
            until((tmp_path / "started").exists)
            if by == "signal":
                client.server.terminate()
            else:
                assert client.post("/v1/drain").status_code == 202
            until(lambda: client.get("/v1/health").json()["status"] == "draining")
            refused = client.post("/v1/jobs", json={"jobs": [{"key": "b", "job": job("echo")}]})
            session = client.post("/v1/sessions", json={"key": "s", "kind": "bash"})
            (tmp_path / "go").touch()
            lines = [json.loads(line) for line in answer.iter_lines() if line]
        code = client.server.ended()
    assert (*error_of(refused), refused.headers["retry-after"]) == (503, "draining", "1")
    assert error_of(session) == (503, "draining")
    assert "result" in lines[0]
    assert code == 0


def test_draining_gives_back_the_jobs_that_wait(tmp_path):
    with serving(workers=1) as client:
        held = [{"key": key, "job": job(f"wait {tmp_path}")} for key in "ab"]
        with client.stream("POST", "/v1/jobs", json={"jobs": held}) as answer:
            until((tmp_path / "started").exists)
            client.post("/v1/drain")
            (tmp_path / "go").touch()
            lines = [json.loads(line) for line in answer.iter_lines() if line]
        assert client.server.ended() == 0
    outcomes = {line["key"]: line.get("error", {}).get("code", "result") for line in lines}
    assert outcomes == {"a": "result", "b": "draining"}


def test_an_idle_server_ends_when_it_is_told():
    with serving() as client:
        client.server.terminate()
        assert client.server.ended() == 0


def test_a_second_signal_ends_at_once(tmp_path):
    with serving() as client:
        held = [{"key": "a", "job": job(f"wait {tmp_path}")}]
        with client.stream("POST", "/v1/jobs", json={"jobs": held}):
            until((tmp_path / "started").exists)
            client.server.terminate()
            until(lambda: client.get("/v1/health").json()["status"] == "draining")
            client.server.terminate()
            code = client.server.ended()
    assert code == 1
    assert (tmp_path / "cancelled").exists()


def open_session(client, key="s", **more):
    answer = client.post("/v1/sessions", json={"key": key, "kind": "bash", **more})
    assert answer.status_code == 200, answer.text
    return f"/v1/sessions/{answer.json()['id']}"


def test_a_command_with_the_same_key_runs_once(client):
    at = open_session(client, "once")
    for _ in range(2):
        client.post(f"{at}/run", json={"key": "1", "command": "a"})
    answer = client.post(f"{at}/run", json={"key": "2", "command": "b"})
    assert answer.json()["run"]["stdout"] == "bash 10.0\na\nb"


def test_a_key_of_another_command_is_refused(client):
    at = open_session(client, "other")
    client.post(f"{at}/run", json={"key": "1", "command": "a"})
    answer = client.post(f"{at}/run", json={"key": "1", "command": "b"})
    assert error_of(answer) == (409, "key_reused")


def test_opening_twice_with_the_same_key_opens_one(client):
    assert open_session(client, "twice") == open_session(client, "twice")


@pytest.mark.parametrize(
    ("action", "more", "status", "code"),
    [
        ("run", {}, 422, "invalid"),
        ("run", {"command": 1}, 422, "invalid"),
        ("run", {"command": "a", "timeout": 1}, 422, "invalid"),
        ("put", {"path": "a", "data": "%"}, 422, "invalid"),
        ("put", {"data": ""}, 422, "invalid"),
        ("get", {"path": "absent"}, 404, "no_file"),
        ("get", {"path": "link"}, 422, "invalid"),
        ("stop", {"number": "1"}, 422, "invalid"),
        ("restore", {"number": 99}, 502, "sandbox_error"),
        ("dance", {}, 404, "no_endpoint"),
    ],
)
def test_a_wrong_request_to_a_session_is_refused(client, action, more, status, code):
    at = open_session(client, "wrong")
    answer = client.post(f"{at}/{action}", json={"key": str([action, more]), **more})
    assert error_of(answer) == (status, code)


@pytest.mark.parametrize(
    "more", [{"kind": "tcsh"}, {"limits": {"wall_s": 0}}, {"limits": 1}, {"colour": 1}]
)
def test_a_session_that_cannot_be_is_refused(client, more):
    answer = client.post("/v1/sessions", json={"key": "x", "kind": "bash", **more})
    assert error_of(answer) == (422, "invalid")


def test_a_session_that_does_not_open_says_why(client):
    asked = {"key": "luckless", "kind": "bash", "limits": {"memory_mb": 13}}
    answer = client.post("/v1/sessions", json=asked)
    assert answer.json()["error"] == {"status": 502, "code": "sandbox_error", "message": "no luck"}


def test_a_closed_session_is_gone(client):
    at = open_session(client, "closed")
    assert client.delete(at).json() == {"closed": True}
    answer = client.post(f"{at}/run", json={"key": "1", "command": "a"})
    assert error_of(answer) == (404, "session_gone")


def test_sessions_are_counted():
    with serving(max_sessions=1) as client:
        at = open_session(client, "a")
        answer = client.post("/v1/sessions", json={"key": "b", "kind": "bash"})
        client.delete(at)
        open_session(client, "c")
    assert (*error_of(answer), answer.headers["retry-after"]) == (429, "too_many_sessions", "1")


def test_an_idle_session_is_closed(tmp_path):
    with serving(idle_timeout_s=0.2) as client:
        mark_when_closed(client, tmp_path)
        until((tmp_path / "closed").exists)
        assert client.get("/v1/health").json()["sessions"] == 0


def test_a_session_is_not_idle_while_a_command_runs(tmp_path):
    with serving(idle_timeout_s=0.2) as client:
        at = open_session(client)
        answers = []
        command = {"key": "1", "command": f"wait {tmp_path}"}
        thread = threading.Thread(
            target=lambda: answers.append(client.post(f"{at}/run", json=command))
        )
        thread.start()
        until((tmp_path / "started").exists)
        other = open_session(client, "other")
        until(lambda: client.get("/v1/health").json()["sessions"] == 1)  # the other one closed
        (tmp_path / "go").touch()
        thread.join()
        assert client.post(f"{other}/run", json={"key": "1", "command": ""}).status_code == 404
    assert answers[0].status_code == 200


def test_draining_closes_sessions(tmp_path):
    with serving() as client:
        mark_when_closed(client, tmp_path)
        client.server.terminate()
        client.server.ended()
    assert (tmp_path / "closed").exists()


def mark_when_closed(client, folder):
    data = wire.bytes_tree(str(folder / "closed").encode())
    client.post(f"{open_session(client)}/put", json={"key": "1", "path": "mark", "data": data})
