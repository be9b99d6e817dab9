import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rl_envs
from rl_envs import DataError


def make(**options):
    return rl_envs.make("text/ReverseText-v0", **options)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_answers_are_the_prompt_backwards(index, difficulty):
    task = make(difficulty=difficulty, question="{text}").tasks[index]
    assert task.prompt[::-1] == task.answer
    assert 4 * difficulty - 2 <= len(task.answer) <= 4 * difficulty


@pytest.mark.parametrize(
    ("text", "strict", "partly"),
    [
        ("abcd", 1.0, 1.0),
        (" abcd\n", 1.0, 1.0),
        ("abcx", 0.0, 0.75),
        ("ab", 0.0, 0.5),
        ("abcdabcd", 0.0, 0.5),
        ("xbcd", 0.0, 0.0),
        ("abcd abcd", 0.0, 4 / 9),
        ("", 0.0, 0.0),
    ],
)
def test_scores(text, strict, partly):
    row = {"answer": "abcd"}
    assert make().score(text, row).value == strict
    assert make(partial=True).score(text, row).value == partly


def test_partial_credit_never_passes():
    assert not make(partial=True).score("abc", {"answer": "abcd"}).passed


@pytest.mark.parametrize(
    "options", [{"difficulty": 0}, {"shortest": 9}, {"alphabet": "a"}, {"question": "no"}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(DataError):
        make(**options)
