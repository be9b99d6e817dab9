"""Programs in the local sandbox: attempts, feedback, rewards."""

import pytest

from rl_envs import DataError, Task
from rl_envs.text.code import CodeEnv
from rl_verifiers import Score

ROW = {
    "id": "double",
    "prompt": "Double x.",
    "entry_point": "f",
    "tests": [
        {"args": [1], "expected": 2},
        {"args": [0], "expected": 0},
        {"args": [777], "expected": 1554},
    ],
}
RIGHT = "```python\ndef f(x):\n    return 2 * x\n```"
WRONG = "```python\ndef f(x):\n    return x + 1\n```"  # right for 1 alone
OVERFITTED = "```python\ndef f(x):\n    return {1: 2, 0: 0}.get(x)\n```"


def play(*actions, **options):
    """The steps of an episode; an action may be left out once it is over."""
    env = CodeEnv(tasks=[ROW], **options)
    env.reset(options={"index": 0})
    return [env.step(action) for action in actions]


def said(step):
    return step[0][0]["content"]


def test_one_attempt_ends_the_episode():
    ((seen, reward, terminated, truncated, _),) = play(WRONG)
    assert (seen, reward, terminated, truncated) == ((), 0.0, True, False)


def test_a_second_attempt_can_pass():
    first, second = play(WRONG, RIGHT, attempts=2)
    assert first[1:4] == (0.0, False, False)
    assert second[1:4] == (1.0, True, False)


def test_the_last_attempt_terminates_and_does_not_truncate():
    *_, last = play(WRONG, WRONG, WRONG, attempts=3)
    assert last[1:4] == (0.0, True, False)


def test_a_first_attempt_that_passes_is_the_last():
    (only,) = play(RIGHT, attempts=3)
    assert only[1:3] == (1.0, True)


@pytest.mark.parametrize(("failures", "reward"), [(0, 1.0), (1, 0.5), (2, 0.25)])
def test_each_retry_is_discounted(failures, reward):
    steps = play(*[WRONG] * failures, RIGHT, attempts=3, retry_discount=0.5)
    assert [step[1] for step in steps] == [*[0.0] * failures, reward]


def test_the_reward_may_be_the_share_of_tests():
    assert play(OVERFITTED, reward="fraction")[0][1] == pytest.approx(2 / 3)


def test_a_failed_attempt_that_is_tried_again_earns_nothing():
    steps = play(OVERFITTED, OVERFITTED, attempts=2, reward="fraction", retry_discount=0.5)
    assert [step[1] for step in steps] == [0.0, pytest.approx(1 / 3)]


def test_feedback_shows_the_first_failing_test():
    first = play(WRONG, attempts=2, show_tests=2)[0]
    assert said(first) == (
        "Attempt 1 of 2 failed. f(0) gave 1, not 0. Try again: answer with the whole code."
    )


def test_feedback_shows_an_exceptions_last_line():
    first = play("```python\ndef f(x):\n    return 1 // 0\n```", attempts=2)[0]
    assert "f(1) raised ZeroDivisionError" in said(first)
    assert "Traceback" not in said(first)


def test_feedback_shows_no_test_that_may_not_be_shown():
    first = play(OVERFITTED, attempts=2, show_tests=2)[0]
    assert "The tests that you may see pass; another one fails." in said(first)
    assert "777" not in said(first)


def test_a_hidden_test_is_not_run_for_feedback():
    peeking = "```python\ndef f(x):\n    raise ValueError(x)\n```"
    assert "777" not in said(play(peeking, attempts=2, show_tests=2)[0])


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (WRONG, "A test fails."),
        ("no idea", "No code was found in the answer."),
        ("```python\ndef f(x) return\n```", "The code is not valid Python."),
    ],
)
def test_feedback_by_status_names_no_test(action, words):
    first = play(action, attempts=2, feedback="status", show_tests=3)[0]
    assert said(first) == f"Attempt 1 of 2 failed. {words} Try again: answer with the whole code."


def test_no_shown_tests_leaves_the_status():
    assert "A test fails." in said(play(WRONG, attempts=2, show_tests=0)[0])


def test_no_feedback_says_only_that_it_failed():
    first = play(WRONG, attempts=2, feedback="none")[0]
    assert said(first) == "Attempt 1 of 2 failed. Try again: answer with the whole code."


def test_a_task_says_itself_how_many_tests_may_be_shown():
    env = CodeEnv(tasks=[{**ROW, "n_shown": 0}], attempts=2, show_tests=3)
    env.reset(options={"index": 0})
    assert "A test fails." in said(env.step(WRONG))


def test_our_failure_is_tried_once_more_and_then_ends_the_episode():
    calls = []

    def broken(completion, row):
        calls.append(completion)
        return Score.failed("the sandbox died")

    ((_, _, terminated, _, info),) = play(WRONG, attempts=3, verifier=broken)
    assert (len(calls), terminated, info["score"].status) == (2, True, "error")


def test_a_row_without_tests_ends_the_episode():
    env = CodeEnv(tasks=[Task("none", "?", info={"tests": []})], attempts=3)
    env.reset(options={"index": 0})
    _, reward, terminated, _, info = env.step(RIGHT)
    assert (reward, terminated, info["score"].status) == (0.0, True, "bad_reference")


def test_another_verifier_gives_feedback_by_status():
    first = play(WRONG, attempts=2, verifier=lambda completion, row: 0.0)[0]
    assert "A test fails." in said(first)


def test_the_limits_are_those_given():
    endless = "```python\ndef f(x):\n    while True: pass\n```"
    ((_, reward, _, _, info),) = play(endless, limits={"cpu_s": 0.3})
    assert (reward, info["score"].status) == (0.0, "over_limit")


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos._exit(0)",
        "import sys\nsys.exit(0)",
        "def f(x):\n    print(2 * x)",
        "class Same:\n    def __eq__(self, other): return True\ndef f(x): return Same()",
        "import builtins\nbuiltins.len = lambda x: 0\ndef f(x): return True",
        "f = 2",
        "def g(x): return 2 * x",
        "def f(x, _=[0]):\n    raise SystemExit(0)",
    ],
)
def test_hostile_programs_earn_nothing_and_are_no_error(code):
    ((_, reward, _, _, info),) = play(f"```python\n{code}\n```")
    assert reward == 0.0
    assert not info["score"].is_error


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"feedback": "all"},
        {"retry_discount": 1.5},
        {"show_tests": -1},
    ],
)
def test_bad_options_are_named(options):
    with pytest.raises(DataError, match=f"CodeEnv: {next(iter(options))} is"):
        CodeEnv(tasks=[ROW], **options)


def test_no_solution_to_demonstrate_is_named():
    with pytest.raises(DataError, match="task double has no solution"):
        CodeEnv().demonstration(Task("double", "?"), "solution", None)
