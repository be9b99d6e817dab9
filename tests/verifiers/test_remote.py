"""The verifier ``remote`` against real servers, and against what only claims to be one."""

import asyncio
import contextlib
import json
import pickle
import threading
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_verifiers import (
    STATUSES,
    Score,
    VerifierError,
    check_verifier,
    make,
    score_many,
    score_sync,
    weighted,
)
from rl_verifiers.score_wire import score_from, score_tree
from tests.agent_rl.served_verifier import ODD, Served, until

ROWS = [{"id": i, "prompt": f"Question {i}?", "answer": str(i)} for i in range(3)]


@pytest.fixture(scope="module")
def served():
    with Served(token="secret") as started:
        yield started


@pytest.fixture
def verifier(served, monkeypatch):
    monkeypatch.setenv("AGENT_RL_VERIFIER_TOKEN", "secret")
    return make("remote", url=served.url, timeout_s=60)


def test_it_keeps_the_contract(verifier):
    check_verifier(verifier, ROWS, gold=lambda row: row["answer"])


def test_scores_are_those_of_the_verifier_itself(verifier):
    completions = ["0", "1", " 2", "", "\ud800"] * 50
    rows = [ROWS[i % 3] for i in range(250)]
    assert score_many(verifier, completions, rows) == score_many(make("exact"), completions, rows)


def test_it_goes_where_other_verifiers_go(verifier):
    there = pickle.loads(pickle.dumps(verifier))
    both = weighted({"here": (make("exact"), 1.0), "there": (there, 1.0)})
    assert both("1", ROWS[1]).value == 2.0


def test_it_works_in_threads_and_in_loops_of_their_own(verifier):
    values = []
    threads = [
        threading.Thread(
            target=lambda: values.append(asyncio.run(verifier.ascore("1", ROWS[1])).value)
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == [1.0] * 8


def test_columns_that_are_no_json_are_sent_as_far_as_they_go():
    row = {
        "a": np.float32(0.5),
        "b": float("nan"),
        "c": np.arange(2),
        "d": (1,),
        "e": date(1, 1, 1),
    }
    with Served("--verifier.target", ODD.replace(":reward", ":sent"), verifier="trl") as odd:
        assert make("remote", url=odd.url)("a", row).value == 1.0


def test_a_column_that_cannot_be_sent_fails_its_own_sample_only(verifier):
    future = verifier._submit("1", ROWS[1])
    with pytest.raises(VerifierError, match="column 'answer' holds bytes"):
        score_sync(verifier, "1", {"answer": b"1"})
    assert future.result().passed


def test_a_wrong_token_is_told(served, monkeypatch):
    monkeypatch.setenv("OTHER_TOKEN", "wrong")
    wrong = make("remote", url=served.url, token_variable="OTHER_TOKEN")
    for ask in (wrong.prepare, lambda: score_sync(wrong, "1", ROWS[1])):
        with pytest.raises(VerifierError, match="put the server's token into OTHER_TOKEN"):
            ask()


def test_a_broken_contract_over_there_is_one_here():
    told = pytest.raises(VerifierError, match="a reward is a finite number")
    with Served("--verifier.target", ODD, verifier="trl") as odd, told:
        score_sync(make("remote", url=odd.url), "text", {})


def test_no_server_is_an_error_of_ours_and_told_before_training():
    nowhere = make("remote", url="http://127.0.0.1:1", retries=1)
    score = score_sync(nowhere, "1", ROWS[1])
    assert (score.status, score.value) == ("error", 0.0)
    assert "tried 2 times" in score.error
    with pytest.raises(VerifierError, match="start a server there with agent-rl serve-verifier"):
        nowhere.prepare()


def test_a_server_that_dies_in_the_middle_is_an_error_of_ours(tmp_path):
    with Served("--verifier.target", ODD, verifier="trl") as odd:
        remote = make("remote", url=odd.url, retries=1)
        assert remote("a", {}).passed
        future = remote._submit(f"wait {tmp_path / 'never'}", {})
        until(lambda: odd.info()["running"] == 1)
        odd.process.kill()
        score = future.result()
    assert score.status == "error"
    assert odd.url in score.error


def test_a_server_that_is_started_again_gets_what_is_open(tmp_path):
    flag = tmp_path / "go"
    with Served("--verifier.target", ODD, verifier="trl") as odd:
        remote = make("remote", url=odd.url, retries=10)
        futures = [remote._submit(f"wait {flag}", {}) for _ in range(20)]
        until(lambda: odd.info()["running"] == 1)
        odd.process.kill()
        odd.ended()
        flag.touch()
        odd.start()
        assert [future.result().value for future in futures] == [1.0] * 20


# Servers that answer what ours does not.


@contextlib.contextmanager
def answering(*answers):
    """A server that gives ``(status, headers, body)`` in turn to /score, the last for ever."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            about = {"service": "agent-rl-verifier", "protocol": 1, "status": "ok", "max_rows": 9}
            self.answer(200, {}, json.dumps({**about, "reads": ["answer"]}).encode())

        def do_POST(self):
            self.server.asked.append(
                json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            )
            self.answer(*(left.pop(0) if len(left) > 1 else left[0]))

        def answer(self, status, headers, body):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


OK = (200, {}, json.dumps({"scores": [score_tree(Score.correct(value=0.5))]}).encode())
BUSY = (429, {"Retry-After": "0"}, b"{}")


@pytest.mark.parametrize("first", [BUSY, (503, {"Retry-After": "0"}, b""), (500, {}, b"oh")])
def test_a_server_that_is_busy_or_fails_is_asked_again(first):
    with answering(first, first, OK) as (url, asked):
        assert make("remote", url=url, retries=2)("a", {}).value == 0.5
    assert len(asked) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b"{}",
        b'{"scores": []}',
        b'{"scores": [{"value": "1", "passed": true, "status": "correct"}]}',
        b'{"scores": [{"value": 1e999, "passed": true, "status": "correct"}]}',
        b'{"scores": [{"value": 1, "passed": true, "status": "fine"}]}',
        b'{"scores": [{"value": 1, "passed": true, "status": "error"}]}',
    ],
)
def test_an_answer_that_is_no_score_is_an_error_of_ours(body):
    with answering((200, {}, body)) as (url, _):
        assert make("remote", url=url, retries=0)("a", {}).status == "error"


def test_a_server_that_stays_busy_is_given_up():
    with answering(BUSY) as (url, _):
        score = make("remote", url=url, timeout_s=0.3)("a", {})
    assert score.error.startswith(f"no score from {url} in 0.3 s; last: {url} answers HTTP 429")


def test_a_server_that_finds_a_batch_too_large_gets_halves():
    def large(n):
        return (200, {}, json.dumps({"scores": [score_tree(Score.correct())] * n}).encode())

    both_are_there = threading.Event()
    with answering((413, {}, b""), large(1), large(1)) as (url, asked):
        remote = make("remote", url=url)
        remote._link()._loop.call_soon_threadsafe(both_are_there.wait)
        futures = [remote._submit(text, {"answer": text, "long": "x"}) for text in "ab"]
        both_are_there.set()
        assert [future.result().passed for future in futures] == [True, True]
    assert [request["completions"] for request in asked] == [["a", "b"], ["a"], ["b"]]
    assert asked[0]["rows"][0] == {"answer": "a"}  # what the verifier reads, and nothing else


def test_a_sample_that_is_too_large_alone_is_an_error_of_ours():
    with answering((413, {}, b"")) as (url, _):
        assert "--max-body-mb" in make("remote", url=url)("a", {}).error


def test_another_program_at_the_address_is_told():
    from http.server import SimpleHTTPRequestHandler

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(VerifierError, match="answers HTTP 404"):
            make("remote", url=f"http://127.0.0.1:{server.server_port}").prepare()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "127.0.0.1:8766"}, "must look like http"),
        ({"url": "http://a:b"}, "must look like http"),
        ({"url": None}, "must look like http"),
        ({"url": "http://a", "timeout_s": 0}, "timeout_s is 0"),
        ({"url": "http://a", "retries": -1}, "retries is -1"),
    ],
)
def test_a_wrong_option_is_told(options, message):
    with pytest.raises(VerifierError, match=message):
        make("remote", **options)


TEXT = st.text(st.characters(), max_size=5)


@given(
    value=st.floats(allow_nan=False, allow_infinity=False),
    passed=st.booleans(),
    status=st.sampled_from(STATUSES),
    parts=st.dictionaries(TEXT, st.floats(-1, 1), max_size=2),
    texts=st.tuples(TEXT, TEXT, st.none() | TEXT),
)
def test_a_score_comes_through_as_it_was(value, passed, status, parts, texts):
    reason, error, answer = texts
    error = error if status == "error" else None
    score = Score(value, passed, status, reason, parts, error, answer)
    there = score_from(json.loads(json.dumps(score_tree(score))))
    assert (there, there.answer) == (score, answer)
