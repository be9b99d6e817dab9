import asyncio
import functools
import math
import os
from dataclasses import dataclass

import pytest

from rl_verifiers import Score, VerifierError, as_verifier, make, score_many, score_one, score_sync
from rl_verifiers.workers import WorkerPool

ROW = {"id": "r1", "answer": "1"}

MODULE = """
import os, pathlib, time

def shout(completion, row):
    return float(completion == row["answer"])

def misbehave(completion, row):
    print("noise on standard output")
    if completion == "loop":
        while True: pass
    if completion == "die":
        os._exit(3)
    if completion == "die once":
        marker = pathlib.Path(row["marker"])
        if not marker.exists():
            marker.touch()
            os._exit(3)
    if completion == "eat":
        return len(bytearray(3 << 30))
    if completion == "raise":
        raise ValueError("bad text")
    if completion == "nan":
        return float("nan")
    return 1.0
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "verifiers_for_workers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return __import__("verifiers_for_workers")


@pytest.mark.parametrize(
    ("result", "score"),
    [
        (1.0, Score(1.0, True, "correct")),
        (0.5, Score(0.5, False, "wrong")),
        (True, Score(1.0, True, "correct")),
        (False, Score(0.0, False, "wrong")),
        (Score.correct("why"), Score.correct("why")),
        (-2, Score(-2.0, False, "wrong")),
    ],
)
def test_a_plain_function_is_a_verifier(result, score):
    assert score_sync(lambda completion, row: result, "x", ROW) == score


def test_an_async_function_is_a_verifier():
    async def judge(completion, row):
        await asyncio.sleep(0)
        return len(completion) / 10

    assert score_sync(judge, "four", ROW).value == 0.4
    assert score_sync(as_verifier(judge), "four", ROW).value == 0.4


def test_the_threshold_decides_what_passes():
    assert as_verifier(lambda c, r: 0.5, threshold=0.5)("x", ROW).passed
    assert not as_verifier(lambda c, r: 0.5)("x", ROW).passed


def test_a_function_of_one_argument_is_refused():
    with pytest.raises(VerifierError, match=r"must take \(completion, row\), not \(completion\)"):
        as_verifier(lambda completion: 1.0)


def nothing(completion, row):
    return row["result"]


@pytest.mark.parametrize("result", [math.nan, math.inf, -math.inf, None, "1", [1.0], 1j])
@pytest.mark.parametrize("wrap", [as_verifier, lambda function: function])
def test_what_is_no_number_stops_with_the_verifier_and_the_row(result, wrap):
    with pytest.raises(VerifierError, match=r"row 'r1': verifier nothing returned .*finite number"):
        score_sync(wrap(nothing), "x", {**ROW, "result": result})


@pytest.mark.parametrize("wrap", [as_verifier, lambda function: function])
def test_a_verifier_that_raises_is_our_failure(wrap):
    def broken(completion, row):
        raise KeyError("column")

    score = score_sync(wrap(broken), "x", ROW)
    assert score.is_error
    assert "broken raised KeyError: 'column'" in score.error


def test_a_completion_over_the_cap_is_not_read():
    assert score_sync(lambda c, r: 1.0, "a" * 1_000_001, ROW).status == "over_limit"
    assert score_sync(lambda c, r: 1.0, "a" * 1_000_000, ROW).passed


def test_a_completion_is_text():
    with pytest.raises(VerifierError, match="a completion is a str, not NoneType"):
        score_sync(make("exact"), None, ROW)


def test_score_sync_works_inside_an_event_loop():
    async def caller():
        return score_sync(make("exact"), "1", ROW)

    assert asyncio.run(caller()).passed


def test_many_samples_run_concurrently_on_one_loop():
    """Each waits for all: they would never end one after the other."""

    async def caller():
        barrier = asyncio.Barrier(8)

        async def judge(completion, row):
            await barrier.wait()
            return 1.0

        return await asyncio.gather(*(score_one(judge, "x", ROW) for _ in range(8)))

    assert all(score.passed for score in asyncio.run(caller()))


def test_score_many_keeps_the_order(module):
    texts = [str(i) for i in range(20)]
    rows = [{"id": i, "answer": str(i if i % 3 else -1)} for i in range(20)]
    expected = [bool(i % 3) for i in range(20)]
    assert [s.passed for s in score_many(module.shout, texts, rows, workers=2)] == expected
    assert [s.passed for s in score_many(make("exact"), texts, rows)] == expected
    assert [s.passed for s in score_many(lambda c, r: c == r["answer"], texts, rows)] == expected


def test_a_misbehaving_sample_harms_no_other(module):
    texts = ["fine", "loop", "fine", "die", "fine", "eat", "fine", "raise", "fine"]
    rows = [{"id": i} for i in range(len(texts))]
    scores = score_many(module.misbehave, texts, rows, workers=2, timeout=1.0)
    statuses = [score.status for score in scores]
    assert statuses[::2] == ["correct"] * 5
    assert statuses[1::2] == ["over_limit", "error", "over_limit", "error"]


def test_a_worker_that_died_is_tried_again_once(module, tmp_path):
    row = {"id": 1, "marker": str(tmp_path / "died")}
    assert score_many(module.misbehave, ["die once"], [row], workers=1)[0].passed


def test_a_nan_from_a_worker_stops_too(module):
    with pytest.raises(VerifierError, match="row 'r1': verifier misbehave returned nan"):
        score_many(module.misbehave, ["nan"], [ROW], workers=1)


def test_what_cannot_be_sent_to_a_worker_says_so():
    with pytest.raises(VerifierError, match="cannot be sent to a worker"):
        score_many(lambda c, r: 1.0, ["x"], [ROW], workers=1)


def test_lengths_must_agree():
    with pytest.raises(VerifierError, match="2 completions but 1 rows"):
        score_many(make("exact"), ["a", "b"], [ROW])


def test_an_error_is_tried_again_once():
    calls = []

    async def judge(completion, row):
        calls.append(completion)
        return Score.failed("down") if len(calls) == 1 else 1.0

    assert score_many(judge, ["x"], [ROW])[0].passed
    assert len(calls) == 2


def test_an_async_verifier_that_hangs_is_our_failure():
    async def judge(completion, row):
        await asyncio.sleep(60)

    assert "no verdict within" in score_many(judge, ["x"], [ROW], timeout=0.01)[0].error


def score_in_worker(function, texts, rows):
    with WorkerPool(1, memory_bytes=1 << 30) as pool:
        call = pool.submit(score_many, function, texts, rows, cpu_s=30.0, wall_s=60.0)
        return call.result()


def test_inside_a_worker_a_sample_that_runs_away_costs_only_itself(module):
    texts = ["fine", "loop", "fine", "eat", "raise", "fine"]
    limited = functools.partial(score_many, module.misbehave, timeout=0.5)
    with WorkerPool(1, memory_bytes=1 << 30) as pool:
        rows = [{"id": i} for i in range(len(texts))]
        scores = pool.submit(limited, texts, rows, cpu_s=30.0, wall_s=60.0).result()
    statuses = [score.status for score in scores]
    assert statuses == ["correct", "over_limit", "correct", "over_limit", "error", "correct"]


def test_inside_a_worker_symbolic_answers_are_judged_there():
    texts = ["\\boxed{\\sin 2x}", "\\boxed{7}", "\\boxed{\\sin 3x}"]
    rows = [{"answer": "2\\sin x\\cos x"}, {"answer": "7"}, {"answer": "2\\sin x\\cos x"}]
    scores = score_in_worker(make("math"), texts, rows)
    assert [score.passed for score in scores] == [True, True, False]
    assert [score.answer for score in scores] == ["\\sin 2x", "7", "\\sin 3x"]


def test_a_bounded_verifier_may_be_spread_over_workers():
    texts = [f"\\boxed{{{i}}}" for i in range(1200)]
    rows = [{"id": i, "answer": str(i if i % 3 else -1), "prompt": object} for i in range(1200)]
    there = score_many(make("math"), texts, rows, workers=2)
    assert there == score_many(make("math"), texts, rows)
    assert [score.answer for score in there] == [str(i) for i in range(1200)]
    assert [score.passed for score in there] == [bool(i % 3) for i in range(1200)]


@dataclass(frozen=True)
class Fragile:
    """Says that it is bounded, and is not."""

    bounded = True

    def __call__(self, completion, row):
        if completion == "die":
            os._exit(3)
        if completion == "bad":
            raise VerifierError("mend me")
        return 1.0


def test_a_worker_that_dies_loses_one_sample_of_its_chunk():
    texts = ["fine"] * 5 + ["die"] + ["fine"] * 5
    scores = score_many(Fragile(), texts, [{"id": i} for i in range(11)], workers=1)
    assert [score.status for score in scores] == ["correct"] * 5 + ["error"] + ["correct"] * 5


def test_a_verifier_to_be_mended_stops_from_a_chunk_too():
    with pytest.raises(VerifierError, match="row 'r1': mend me"):
        score_many(Fragile(), ["bad"], [ROW], workers=1)


def test_a_verifier_that_leaves_work_to_others_goes_on_meanwhile():
    log = []

    class Patient:
        bounded = True

        def begin(self, completion, row):
            log.append(f"begun {completion}")
            return lambda: log.append(f"ended {completion}") or Score.correct()

    scores = score_many(Patient(), ["a", "b"], [ROW, ROW])
    assert log == ["begun a", "begun b", "ended a", "ended b"]
    assert all(score.passed for score in scores)


def test_a_lambda_that_gives_coroutines_is_awaited():
    async def judge(completion, row):
        await asyncio.sleep(0)
        return 0.5

    scores = score_many(lambda c, r: judge(c + "!", r), ["x", "y"], [ROW, ROW])
    assert [score.value for score in scores] == [0.5, 0.5]


def test_nothing_to_score_gives_nothing(module):
    assert score_many(module.shout, [], []) == []
    assert score_many(make("exact"), [], []) == []
