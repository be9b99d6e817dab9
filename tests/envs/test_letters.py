import numpy as np
import pytest

import rl_envs
from rl_envs import DataError


def make(**options):
    return rl_envs.make("text/Letters-v0", **options)


@pytest.mark.parametrize(
    ("text", "value", "status"),
    [
        ("b" * 20, 0.0, "wrong"),
        ("a" * 4 + "b" * 16, 0.5, "wrong"),
        ("cq" + "aeiou" + "aei" + "b" * 10, 1.0, "correct"),
        (" cqaeiouaei\n", 1.0, "correct"),
        ("aeiou" + "aei" + "b" * 12, 1.0, "wrong"),  # right in number, begun otherwise
        ("a" * 9, 7 / 8, "wrong"),
        ("a" * 20, -0.5, "wrong"),
        ("", 0.0, "no_answer"),
        ("aaaaAAAA", 0.0, "unparsable"),
        ("aeio uaei", 0.0, "unparsable"),
        ("éa", 0.0, "unparsable"),
        ("a" * 10_001, 0.0, "over_limit"),
    ],
)
def test_gold_rises_to_its_peak_and_falls(text, value, status):
    score = make().score(text, {"answer": "cq"})
    assert (score.value, score.status, score.passed) == (value, status, status == "correct")


def test_peak_moves_the_turn():
    assert make(peak=4).score("aaaabb", {"answer": "aa"}).passed
    assert make(peak=4).score("a" * 12, {"answer": "aa"}).value == -1.0


def test_parts_say_what_was_counted():
    parts = make().score("cqae", {"answer": "cq"}).parts
    assert parts == {"vowels": 2.0, "letters": 4.0, "start": 1.0}
    assert make().score("qcae", {"answer": "cq"}).parts["start"] == 0.0


def test_the_oracle_is_at_the_peak_of_every_task():
    env, rng = make(peak=2, length=4), np.random.default_rng(0)
    for split in ("train", "test"):
        for task in make(split=split).tasks:
            text = env.demonstration(task, "best", rng)
            assert env.score(text, task.row()).passed
            assert len(text) == 4
            assert text.startswith(task.prompt[6:8])


def test_random_strings_hardly_reach_the_peak():
    env, rng = make(), np.random.default_rng(0)
    tasks = env.tasks
    scores = [
        env.score(env.demonstration(tasks[n % tasks.size], "random", rng), tasks[n % 500].row())
        for n in range(2000)
    ]
    vowels = np.array([score.parts["vowels"] for score in scores])
    assert {score.parts["letters"] for score in scores} == {20.0}
    assert 4.1 < vowels.mean() < 4.8
    assert 0.02 < (vowels >= 8).mean() < 0.15


@pytest.mark.parametrize(
    "options",
    [
        *({"peak": 1}, {"peak": 19}, {"peak": 8.5}, {"peak": "8"}, {"length": float("inf")}),
        *({"vowel_rates": rates} for rates in ((0.4, 0.1), (0.1,), ("a", "b"), 3, None)),
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(DataError):
        make(**options)
