"""Verifiers as TRL reward functions and verl scores, and theirs as verifiers.

The real trainer of TRL runs in ``tests/end_to_end/test_trl.py``. verl's reward managers are called
here as its source of January 2026 does.
"""

import asyncio
import inspect
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_verifiers import (
    Score,
    VerifierError,
    as_verifier,
    make,
    score_many,
    score_sync,
    weighted,
)
from rl_verifiers.interop import (
    UnscoredError,
    acompute_score,
    compute_score,
    compute_scores,
    from_trl,
    from_verl,
    trl_reward,
    verl_compute_score,
)

FILE = str(Path(__file__).with_name("foreign_rewards.py"))


def unreachable(completion, row):
    return Score.failed("no judge") if completion == "?" else Score.correct(value=0.25)


def chat(*texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


class Logs:
    def __init__(self):
        self.extra, self.metrics = {}, {}

    def log_extra(self, column, values):
        self.extra[column] = values

    def log_metric(self, name, value):
        self.metrics[name] = value


# Out: TRL.


def test_trl_calls_with_text_and_columns():
    reward = trl_reward("math")
    got = reward(
        prompts=["a", "b"],
        completions=["\\boxed{1/2}", "3"],
        completion_ids=[[1], [2]],
        answer=["0.5", "4"],
        trainer_state=object(),
    )
    assert (got, reward.__name__) == ([1.0, 0.0], "math")


def test_trl_calls_with_messages_of_which_the_last_answer_counts():
    conversation = [
        {"role": "assistant", "content": "5", "tool_calls": []},
        {"role": "tool", "content": "7"},
        {"role": "assistant", "content": [{"type": "text", "text": "so "}, {"text": "4"}]},
    ]
    silent = [{"role": "tool", "content": "4"}]
    reward = trl_reward("exact", extract="last_number", columns={"answer": "solution"})
    prompts = [[{"role": "user", "content": "2+2"}]] * 2
    got = reward(prompts=prompts, completions=[conversation, silent], solution=["4", "4"])
    assert got == [1.0, 0.0]


def test_trl_gets_none_for_what_could_not_be_judged():
    reward = trl_reward(unreachable)
    assert reward(prompts=["", ""], completions=["?", "a"]) == [None, 0.25]


def test_trl_logs_status_and_parts_but_of_errors_no_parts():
    logs = Logs()
    verifier = weighted({"ok": (unreachable, 1.0), "four": (make("exact"), 1.0)})
    trl_reward(verifier, name="both")(
        prompts=[""] * 3,
        completions=["4", "5", "?"],
        answer=["4"] * 3,
        log_extra=logs.log_extra,
        log_metric=logs.log_metric,
    )
    assert logs.extra["both_status"] == ["correct", "wrong", "error"]
    assert logs.metrics == {
        "both/error": pytest.approx(1 / 3),
        "both/passed": pytest.approx(1 / 3),
        "both/part/ok": 0.25,
        "both/part/four": 0.5,
    }


def test_an_async_reward_function_is_one_to_trl():
    reward = trl_reward("exact", asynchronous=True)
    assert inspect.iscoroutinefunction(type(reward).__call__)
    assert asyncio.run(reward(prompts=[""], completions=["4"], answer=["4"])) == [1.0]


def test_a_reward_function_pickles():
    reward = pickle.loads(pickle.dumps(trl_reward("exact", columns={"answer": "gold"})))
    assert reward(prompts=[""], completions=["4"], gold=["4"]) == [1.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"completions": ["a"], "solutions": ["a"]}, "no column 'solution'; did you mean"),
        ({"completions": ["a"], "solution": ["a", "b"]}, "'solution' has 2 values for 1 prompts"),
        ({"completions": [3], "solution": ["a"]}, "text or a list of messages, not int"),
    ],
)
def test_a_batch_that_cannot_be_scored_is_told(call, message):
    reward = trl_reward("exact", columns={"answer": "solution"})
    with pytest.raises(VerifierError, match=message):
        reward(prompts=["p"], **call)


def test_a_data_set_without_answers_is_told_and_gives_no_zeros():
    with pytest.raises(VerifierError, match="no column 'answer'; did you mean 'answers'"):
        trl_reward("exact")(prompts=["p"], completions=["a"], answers=["a"])


def test_options_of_a_verifier_that_has_its_own_are_told():
    with pytest.raises(VerifierError, match=r"options \(strict\) belong to a verifier"):
        trl_reward(make("math"), strict=False)


# In: TRL.


@pytest.mark.parametrize(
    ("reward", "status", "value"),
    [
        (1.0, "correct", 1.0),
        (True, "correct", 1.0),
        (np.float32(0.5), "wrong", 0.5),
        (None, "error", 0.0),
        (float("nan"), "error", 0.0),
    ],
)
def test_what_a_trl_function_may_return(reward, status, value):
    score = score_sync(from_trl(lambda completions, **kwargs: [reward]), "a", {"prompt": "p"})
    assert (score.status, score.value) == (status, value)


@pytest.mark.parametrize("rewards", [[], [1.0, 2.0], 1.0, ["1"], [float("inf")]])
def test_what_a_trl_function_may_not_return(rewards):
    with pytest.raises(VerifierError, match="reward"):
        score_sync(from_trl(lambda completions, **kwargs: rewards), "a", {})


def test_a_trl_function_that_raises_has_failed():
    score = score_sync(from_trl(lambda completions: [1 / 0]), "a", {})
    assert score.error is not None
    assert "ZeroDivisionError" in score.error


def test_an_async_trl_function_is_awaited():
    async def reward(completions, answer, **kwargs):
        return [float(completions == answer)]

    assert from_trl(reward)("a", {"answer": "a"}).passed


def test_a_trl_function_gets_messages_and_what_it_names_only():
    verifier = from_trl(f"{FILE}:by_messages", columns={"solution": "answer"}, conversational=True)
    row = {"id": 1, "prompt": "p", "answer": "4", "other": 1}
    assert [verifier(text, row).passed for text in ("4", "5")] == [True, False]


def test_a_trl_function_that_needs_a_column_which_is_not_there():
    verifier = from_trl(lambda completions, solution: [1.0])
    with pytest.raises(VerifierError, match=r"needs 'solution'.* did you mean 'solutions'"):
        score_sync(verifier, "a", {"solutions": "a"})


def test_a_registered_trl_function_runs_in_workers():
    verifier = make("trl", target=f"{FILE}:exact")
    scores = score_many(verifier, ["a", "b"], [{"answer": "a"}] * 2, workers=1)
    assert [score.value for score in scores] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere", "not of the form"),
        ("no_such_module_1:f", "cannot import 'no_such_module_1'"),
        (f"{FILE}:exactly", "did you mean 'exact'"),
        ("/nowhere/rewards.py:f", "no Python file"),
        ("json:__name__", "must be callable"),
    ],
)
def test_a_target_that_is_not_there_is_told(target, message):
    with pytest.raises(VerifierError, match=message):
        make("trl", target=target)


VALUES = st.floats(-2, 2) | st.booleans() | st.none()


@given(st.lists(st.tuples(st.text(max_size=5), VALUES), min_size=1, max_size=4))
def test_there_and_back_the_values_are_the_same(samples):
    def verify(completion, row):
        value = row["value"]
        return Score.failed("none") if value is None else float(value)

    verifier = as_verifier(verify)
    back = from_trl(trl_reward(verifier))
    for completion, value in samples:
        row = {"prompt": "p", "value": value}
        there, here = score_sync(verifier, completion, row), score_sync(back, completion, row)
        assert (there.value, there.passed, there.status) == (here.value, here.passed, here.status)


@pytest.mark.parametrize("completion", ["\\boxed{1/2}", "0.5000001", "no idea", ""])
@pytest.mark.parametrize("export", ["trl", "verl"])
def test_there_and_back_the_math_verifier_says_the_same(export, completion):
    verifier = make("math")
    there = {
        "trl": from_trl(trl_reward(verifier)),
        "verl": from_verl(verl_compute_score(verifier)),
    }[export]
    row = {"prompt": "p", "answer": "0.5"}
    expected = verifier(completion, row)
    assert (there(completion, row).value, there(completion, row).passed) == (
        expected.value,
        expected.passed,
    )


def test_theirs_combine_with_ours():
    theirs = from_trl(lambda completions, **kwargs: [len(completions[0]) / 10])
    score = weighted({"short": (theirs, 0.1), "right": (make("exact"), 1.0)})("4", {"answer": "4"})
    assert score.parts == {"short": 0.1, "right": 1.0}


# Out: verl.


def naive(compute, solution, truth, info=None, source="gsm8k"):
    """As verl's managers ``naive``, ``dapo`` and the reward loop call it."""
    return compute(
        data_source=source, solution_str=solution, ground_truth=truth, extra_info=info or {}
    )


def test_verl_gets_the_same_fields_for_every_sample():
    compute = verl_compute_score("math")
    results = [naive(compute, text, "5") for text in ("\\boxed{5}", "6", "")]
    assert [result["score"] for result in results] == [1.0, 0.0, 0.0]
    assert [result["status"] for result in results] == ["correct", "wrong", "no_answer"]
    assert {tuple(result) for result in results} == {("score", "acc", "pred", "status", "reason")}
    assert all(isinstance(result["pred"], str) for result in results)  # verl votes on them


def test_the_ground_truth_is_the_answer_whatever_extra_info_says():
    info = {"index": 3, "answer": "the whole solution", "question": "q"}
    seen = {}

    def verify(completion, row):
        seen.update(row)
        return 1.0

    naive(verl_compute_score(verify, columns={"prompt": "question"}), "a", "4", info)
    assert (seen["answer"], seen["prompt"], seen["id"]) == ("4", "q", 3)


def test_prime_calls_by_position_in_processes_and_wants_a_number():
    compute = verl_compute_score("math", extras=False)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(compute, "math", "\\boxed{5}", "5", None).result() == 1.0


def test_many_threads_score_at_once():
    compute = verl_compute_score("math")
    with ThreadPoolExecutor(8) as pool:
        futures = [
            pool.submit(naive, compute, f"\\boxed{{\\sqrt{{{n}}}}}", "\\sqrt{3}") for n in range(6)
        ]
        assert [future.result()["score"] for future in futures] == [0, 0, 0, 1, 0, 0]


def test_a_plain_function_that_hangs_is_ended():
    compute = verl_compute_score(_hangs, timeout=1)
    assert naive(compute, "a", "b")["status"] == "over_limit"


def _hangs(completion, row):
    while True:
        pass


def test_the_batch_manager_gets_a_list():
    got = verl_compute_score("exact", extras=False).batch(
        data_sources=np.array(["a", "b"]),
        solution_strs=["4", "5"],
        ground_truths=["4", "4"],
        extra_infos=np.array([{"x": 1}, {"x": 2}]),
    )
    assert got == [1.0, 0.0]


def test_what_could_not_be_judged_stops_verl_or_gets_the_value_that_was_asked_for():
    with pytest.raises(UnscoredError, match="row 7 could not be judged: no judge"):
        naive(verl_compute_score(unreachable), "?", "", {"index": 7})
    result = naive(verl_compute_score(unreachable, on_error=-1), "?", "")
    assert (result["score"], result["status"]) == (-1.0, "error")


def test_what_a_verl_configuration_names():
    keywords = {"verifier": "math", "options": {"strict": False}}
    loose = compute_score("s", "3.14", "\\pi", {}, **keywords)
    assert (loose["score"], compute_score("s", "3.14", "\\pi", verifier="math")["score"]) == (1, 0)
    assert asyncio.run(acompute_score("s", "3.14", "\\pi", {}, **keywords)) == loose
    assert compute_scores(["s"], ["3.14"], ["\\pi"], [{}], **keywords) == [loose]


def test_the_path_for_a_verl_configuration_is_printed():
    done = subprocess.run(
        [sys.executable, "-m", "rl_verifiers.interop"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).name == "interop.py"


# In: verl.


@pytest.mark.parametrize(
    ("result", "value", "passed", "status"),
    [
        (1, 1.0, True, "correct"),
        ((0.5, "x"), 0.5, False, "wrong"),
        ({"score": -1.0, "acc": False}, -1.0, False, "wrong"),
        ({"score": 0.9, "acc": True}, 0.9, True, "correct"),
        ({"score": 0.0, "status": "error", "reason": "r"}, 0.0, False, "error"),
        (None, 0.0, False, "error"),
    ],
)
def test_what_a_compute_score_may_return(result, value, passed, status):
    score = from_verl(lambda data_source, solution_str, ground_truth, extra_info: result)(
        "a", {"answer": "b"}
    )
    assert (score.value, score.passed, score.status) == (value, passed, status)


def test_a_dict_keeps_its_numbers_and_its_answer():
    result = {"score": 1.0, "acc": True, "pred": "7", "format": 0.5, "bad": float("nan")}
    score = from_verl(lambda **kwargs: result)("a", {"answer": "b"})
    assert (score.parts, score.answer) == ({"format": 0.5}, "7")


@pytest.mark.parametrize(
    "row",
    [
        {"ground_truth": "4", "answer": "no"},
        {"reward_model": {"style": "rule", "ground_truth": "4"}, "answer": "no"},
        {"answer": "4"},
    ],
)
def test_where_the_ground_truth_stands(row):
    assert make("verl", target=f"{FILE}:compute_score")("4", row).passed


def test_a_row_without_a_ground_truth_is_told():
    with pytest.raises(VerifierError, match=r"no ground_truth.* it has gold"):
        make("verl", target=f"{FILE}:compute_score")("4", {"gold": "4"})


def test_a_dict_without_a_score_is_told():
    with pytest.raises(VerifierError, match="without 'score': points"):
        from_verl(lambda **kwargs: {"points": 1})("a", {"answer": "b"})
