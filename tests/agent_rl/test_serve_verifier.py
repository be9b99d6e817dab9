"""``agent-rl serve-verifier``: a real process on a loopback address."""

import asyncio
import json
import os
import socket
import sys
import threading
import time

import pytest

from agent_rl.cli import main
from agent_rl.verifier_queue import ScoreQueue, waits
from rl_verifiers import Score, gate, make, score_sync, weighted
from tests.agent_rl.served_verifier import ODD, Served, until

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def served():
    options = ("--max-rows", "100", "--max-body-mb", "1", "--verifier.extract", "last_number")
    with Served(*options, token="secret") as started:
        yield started


@pytest.fixture(scope="module")
def odd():
    with Served("--verifier.target", ODD, "--timeout-s", "1", verifier="trl", workers=2) as started:
        yield started


# Answers.


def test_scores_come_in_order_and_are_what_the_verifier_says(served):
    completions = ["It is 4", "5", "no number", "4 \ud800", ""]
    got = served.score(completions).json()["scores"]
    verifier = make("exact", extract="last_number")
    expected = [score_sync(verifier, text, {"answer": "4"}) for text in completions]
    assert [(s["value"], s["passed"], s["status"], s["reason"]) for s in got] == [
        (s.value, s.passed, s.status, s.reason) for s in expected
    ]


def test_no_samples_are_no_scores(served):
    assert served.score([]).json() == {"scores": []}


def test_info_says_what_is_served_and_health_only_that_it_is(served):
    info = served.info()
    assert (info["verifier"], info["options"]) == ("exact", {"extract": "last_number"})
    assert info["max_rows"] == 100
    health = served.ask("GET", "/health", headers={"Authorization": ""})
    assert health.json() == {"service": "agent-rl-verifier", "protocol": 1, "status": "ok"}


def test_many_small_requests_are_all_answered(served):
    answers = {}

    def ask(number):
        rows = [{"answer": str(number)}, {"answer": "-1"}]
        answers[number] = served.score([str(number)] * 2, rows).json()["scores"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: [s["value"] for s in answers[n]] for n in answers} == {
        n: [1.0, 0.0] for n in range(40)
    }


# Refusals: a status, and one line that says what to do.


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "not_json"),
        (b"\xff", "not_json"),
        (b'{"completions": ["4"], "rows": [{"answer": NaN}]}', "not_json"),
        (b"[" * 100_000, "not_json"),
        (b"[]", "invalid"),
        (b"{}", "invalid"),
        (b'{"completions": ["4"], "rows": [{}], "verifier": "math"}', "invalid"),
        (b'{"completions": "4", "rows": [{}]}', "invalid"),
        (b'{"completions": [4], "rows": [{}]}', "invalid"),
        (b'{"completions": ["4"], "rows": [null]}', "invalid"),
        (b'{"completions": ["4"], "rows": []}', "invalid"),
        (json.dumps({"completions": ["4"] * 101, "rows": [{}] * 101}).encode(), "invalid"),
    ],
)
def test_a_body_that_is_no_request(served, body, code):
    answer = served.ask("POST", "/score", content=body, headers=JSON)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, code)
    assert "\n" not in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/info", {"headers": {"Authorization": "Bearer wrong"}}, 401),
        ("POST", "/score", {"headers": {"Authorization": ""}}, 401),
        ("POST", "/score", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
        ("POST", "/score", {"content": b" " * (1 << 20) + b"{}", "headers": JSON}, 413),
        ("GET", "/score", {}, 405),
        ("GET", "/", {}, 404),
    ],
)
def test_a_request_that_is_refused(served, method, path, options, status):
    answer = served.ask(method, path, **options)
    assert (answer.status_code, answer.json()["error"]["status"]) == (status, status)


# Failures of one sample.


def test_a_worker_that_dies_is_our_error_and_harms_no_other(odd):
    scores = odd.score(["a", "die", "b", "none", "c"]).json()["scores"]
    assert [score["status"] for score in scores] == [
        *("correct", "error", "correct", "error", "correct")
    ]
    assert "exit status 3" in scores[1]["error"]


def test_a_sample_that_hangs_is_over_the_limit_and_harms_no_other(odd):
    scores = odd.score(["a", "spin", "b"]).json()["scores"]
    assert [score["status"] for score in scores] == ["correct", "over_limit", "correct"]


def test_a_verifier_that_breaks_its_contract_is_told_for_that_sample(odd):
    scores = odd.score(["a", "text"]).json()["scores"]
    assert [score.get("broken", False) for score in scores] == [False, True]
    assert "a reward is a finite number or None" in scores[1]["error"]


# The end.


def test_a_full_queue_says_when_to_come_back(tmp_path):
    flag = tmp_path / "go"
    options = ("--verifier.target", ODD, "--max-queue", "1", "--max-batch", "1")
    with Served(*options, verifier="trl") as served:
        waiting = [
            threading.Thread(target=served.score, args=([f"wait {flag}"],)) for _ in range(2)
        ]
        waiting[0].start()
        until(lambda: served.info()["running"] == 1)
        waiting[1].start()
        until(lambda: served.info()["queue"] == 1)
        answer = served.score(["a"])
        flag.touch()
        for thread in waiting:
            thread.join()
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert answer.json()["error"]["code"] == "queue_full"


def test_told_to_end_it_answers_what_it_accepted_and_takes_no_more(tmp_path):
    flag = tmp_path / "go"
    with Served("--verifier.target", ODD, verifier="trl") as served:
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(served.score([f"wait {flag}", "a"] * 3))
        )
        thread.start()
        until(lambda: served.info()["running"] == 1)
        served.terminate()
        until(lambda: served.ask("GET", "/health").json()["status"] == "draining")
        for _ in range(20):  # it stays there as long as something runs
            refused = served.score(["a"])
            time.sleep(0.02)
        flag.touch()
        thread.join()
        assert served.ended() == (0, "")
    assert [score["value"] for score in answers[0].json()["scores"]] == [1.0] * 6
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")


def test_told_twice_it_gives_up(tmp_path):
    with Served("--verifier.target", ODD, verifier="trl") as served:
        thread = threading.Thread(target=lambda: _quietly(served, [f"wait {tmp_path / 'never'}"]))
        thread.start()
        until(lambda: served.info()["running"] == 1)
        served.terminate()
        until(lambda: served.ask("GET", "/health").json()["status"] == "draining")
        served.terminate()
        assert served.ended() == (1, "ended at once: what still ran was given up\n")
        thread.join()


def _quietly(served, completions):
    import httpx

    try:
        served.score(completions)
    except httpx.HTTPError:
        return


def test_its_workers_end_with_it():
    with Served() as served:
        assert served.score(["4"]).status_code == 200
        children = _children(served.process.pid)
        served.terminate()
        assert served.ended()[0] == 0
    assert children
    until(lambda: not any(os.path.exists(f"/proc/{child}") for child in children))


def _children(pid):
    """Of every thread: the workers are started by those of the pool."""
    try:
        found = []
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += file.read().split()
        return found
    except FileNotFoundError:
        pytest.skip("no /proc with children")


# The queue.


class Counting:
    """A scorer that is busy until it is told."""

    def __init__(self, places, max_batch):
        self.places, self.max_batch = places, max_batch
        self.sizes = []
        self.go = asyncio.Event()

    async def score(self, completions, rows):
        self.sizes.append(len(completions))
        await self.go.wait()
        return [Score.correct(text) for text in completions]

    def close(self):
        self.go.set()


def scored(scorer, *requests, max_queue=100):
    async def run():
        queue = ScoreQueue(scorer, max_queue=max_queue, wait_s=0.001)
        asking = [
            asyncio.create_task(queue.score(request, [{}] * len(request))) for request in requests
        ]
        while not scorer.sizes:
            await asyncio.sleep(0)
        scorer.go.set()
        scores = [[score.reason for score in await task] for task in asking]
        await queue.idle()
        return scores

    return asyncio.run(run())


def test_small_requests_go_together():
    scorer = Counting(places=1, max_batch=8)
    assert scored(scorer, ["a"], ["b", "c"], ["d"]) == [["a"], ["b", "c"], ["d"]]
    assert scorer.sizes == [4]


def test_a_large_request_is_shared_by_all_places():
    scorer = Counting(places=2, max_batch=8)
    scored(scorer, list("abcdefgh"))
    assert scorer.sizes == [4, 4]


def test_no_batch_is_larger_than_it_may_be():
    scorer = Counting(places=1, max_batch=3)
    scored(scorer, list("abcdefgh"))
    assert scorer.sizes == [3, 3, 2]


def test_a_scorer_that_raises_gives_errors():
    class Raising(Counting):
        async def score(self, completions, rows):
            self.sizes.append(len(completions))
            raise RuntimeError("a defect")

    assert scored(Raising(1, 8), ["a"]) == [["the server failed: RuntimeError: a defect"]]


async def judged(completion, row):
    return 1.0


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: make("math"), False),
        (lambda: make("code"), True),
        (lambda: make("remote", url="http://127.0.0.1:1"), True),
        (lambda: judged, True),
        (lambda: gate(make("format"), make("code")), True),
        (lambda: weighted({"a": (make("exact"), 1.0), "b": (judged, 1.0)}), True),
        (
            lambda: weighted({"a": (make("exact"), 1.0), "b": (make("regex", pattern="a"), 1.0)}),
            False,
        ),
    ],
)
def test_what_waits_is_known(build, expected):
    assert waits(build()) is expected


# The command.


def fails(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(["serve-verifier", *words])
    assert ended.value.code in (1, 2)
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: --verifier"),
        (["--verifier", "maths"], "unknown verifier 'maths'"),
        (["--verifier", "exact", "--verifier.cases", "true"], "no option"),
        (["--verifier", "exact", "--host", "0.0.0.0"], "AGENT_RL_VERIFIER_TOKEN"),
        (["--verifier", "exact", "--max-rows", "0"], "--max-rows is 0; it must be 1 to"),
        (["--verifier", "exact", "--timeout-s", "nan"], "--timeout-s is nan"),
        (["--verifier", "exact", "--worker", "2"], "no option --worker"),
    ],
)
def test_a_wrong_option_is_told(capsys, monkeypatch, words, message):
    monkeypatch.delenv("AGENT_RL_VERIFIER_TOKEN", raising=False)
    assert message in fails(capsys, *words)


def test_a_port_that_is_taken_is_told(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1:{port}" in fails(
            capsys, "--verifier", "exact", "--port", port
        )


def test_a_missing_library_is_told(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "rl_sandboxes.serving", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "pip install 'agent-rl[serve]'" in fails(capsys, "--verifier", "exact")
