"""Scores of reasoning-gym's tasks; those that need the package are skipped where it is absent."""

import copy
import pickle
import random
import sys

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

import rl_envs
from rl_envs import DataError
from rl_envs.bridges import reasoning_gym_scores as scores

ID = "text/ReasoningGym-v0"


class Scorer:
    """A data set whose scorer is ``function(answer, entry)``."""

    def __init__(self, function):
        self.score_answer = function


def judged(function, answer, reference="4", task="sums", strict=True):
    entry = {"answer": reference}
    return scores.judged(Scorer(function), task, answer, entry, strict=strict)


def close(answer, entry):
    """As the base scorer: a ratio of lengths."""
    if answer == entry["answer"]:
        return 1.0
    return len(entry["answer"]) / len(answer) if entry["answer"] in answer else 0.0


def raising(answer, entry):
    raise TypeError("no such key")


@pytest.mark.parametrize(
    ("function", "answer", "strict", "value", "status"),
    [
        (close, "4", True, 1.0, "correct"),
        (close, " 4.0", True, 1.0, "correct"),
        (close, "4 or 5", True, 0.0, "wrong"),
        (close, "4 or 5", False, 1 / 6, "wrong"),
        (raising, "5", True, 0.0, "unparsable"),
        (raising, "5", False, 0.0, "unparsable"),
        (raising, "4", True, 1.0, "correct"),
        (lambda answer, entry: float("nan"), "5", True, 0.0, "unparsable"),
        (lambda answer, entry: answer == "2+2", "2+2", True, 1.0, "correct"),
        (close, "9" * 30_000, True, 0.0, "over_limit"),
    ],
)
def test_full_score_or_nothing_unless_told_otherwise(function, answer, strict, value, status):
    score = judged(function, answer, strict=strict)
    assert (score.value, score.status) == (pytest.approx(value), status)


@pytest.mark.parametrize("generous", [lambda a, e: 1.0, lambda a, e: float(e["answer"] in a)])
def test_a_scorer_that_pays_junk_is_not_believed(generous):
    scores._warn.cache_clear()
    with pytest.warns(RuntimeWarning, match="scorer of sums pays 1"):
        assert judged(generous, "4 or 5").value == 0.0
    assert judged(generous, "4").value == 1.0


def test_without_a_reference_a_generous_scorer_gives_no_verdict():
    scores._warn.cache_clear()
    with pytest.warns(RuntimeWarning):
        assert judged(lambda a, e: 1.0, "x", reference=None).status == "bad_reference"
    assert judged(lambda a, e: a == "x", "x", reference=None).passed


def test_known_bad_tasks_are_compared():
    assert not judged(lambda a, e: 1.0, "no", "True", task="game_of_life_halting").passed
    assert judged(lambda a, e: 0.0, "true", "True", task="game_of_life_halting").passed


@pytest.mark.parametrize(
    ("task", "fit", "unfit"),
    [
        ("n_queens", ["_ Q\nQ _", "[['_', 'Q']]"], ["__import__('os').getcwd()", "f'{1}'"]),
        ("spiral_matrix", ["1 2 3", "[1, 2]"], ["[1 for a in 'ab']", "9**9**9"]),
        ("countdown", ["(3 + 4) * 2"], ["9**9**9", "x", "1/0", "print(1)"]),
        (
            "polynomial_multiplication",
            ["2*x**2 - 3*x + 1", "-x**3", "2.5*x"],
            ["9**9**9**9", "(x+y)**99", "(x+1)**20*(y+1)**20*(z+1)**20", "x.real", "x[0]", "[1]"],
        ),
        (
            "simple_integration",
            ["exp(2*x)/2 + C", "sin(x)*x**2", "2**x"],
            ["().__class__", "eval(1)", "exp(1, 2)", "((9**30)**30)**30", "'a'*9"],
        ),
        ("coin_flip", ["1/2", "0.5"], ["1e999999999", "1/2/3"]),
        ("simple_integration", ["sqrt(" + "9" * 60 + ")"], ["sqrt(" + "9" * 1300 + ")"]),
        ("countdown", ["-100 + (37*(61 - 8) + 10)/9", "(-3+4)*2"], ["3*-4", "--3"]),
        ("complex_arithmetic", ["3 - 2i", "-i"], ["nan", "1+nani", "2 + Infi"]),
        ("decimal_arithmetic", ["1e5"], ["1e999999999", "nan", "-Infinity"]),
    ],
)
def test_scorers_that_evaluate_get_only_what_is_harmless(task, fit, unfit):
    assert [scores.refusal(task, answer) for answer in fit] == [None] * len(fit)
    assert all(scores.refusal(task, answer) for answer in unfit)


@pytest.mark.parametrize(
    ("task", "about", "right", "wrong"),
    [
        (
            "puzzle24",
            {"numbers": [2, 3, 6, 6]},
            ["6*(3+2)-6", "-6 + 6*(2+3)"],
            ["8+8+4+4", "6*(3+2)-6/1", "6*6-2*3-5", "3*6+6-2/3"],
        ),
        ("word_sorting", {"sorted_words": ["a", "b"]}, ["a, b", "a,b"], ["a, b, a", "a, b, c, d"]),
    ],
)
def test_what_generous_scorers_miss_is_looked_at(task, about, right, wrong):
    entry = {"answer": "?", "metadata": about}

    def paid(answer):
        scorer = Scorer(lambda text, entry: float(text == answer))
        return scores.judged(scorer, task, answer, entry, strict=True).value

    assert [paid(answer) for answer in right] == [1.0] * len(right)
    assert [paid(answer) for answer in wrong] == [0.0] * len(wrong)


@pytest.mark.parametrize(
    ("integrand", "right", "wrong"),
    [
        ("3*x**2", ["x**3", "x**3 + C", "x*x*x - 7", "x**4/x"], ["3*x**2", "x**3 + x", "x**3/y"]),
        (
            "2*sin(x)*cos(x)",
            ["sin(x)**2 + C", "-cos(x)**2", "-cos(2*x)/2"],
            ["sin(x)", "tan(tan(tan(tan(tan(tan(x))))))", "1/0", "x**x", "exp(99999*x)", ""],
        ),
        ("E**x + 1/x", ["exp(x) + log(x)", "E**x + ln(3*x)"], ["exp(x) + log(x)**2"]),
        ("2**x*log(2)", ["2**x + pi"], ["x*2**x"]),
    ],
)
def test_antiderivatives_are_judged_by_numbers(integrand, right, wrong):
    entry = {"answer": "?", "metadata": {"integrand": integrand, "variable": "x"}}

    def never(answer, entry):
        raise AssertionError("sympy may take minutes")

    def paid(answer):
        score = scores.judged(Scorer(never), "simple_integration", answer, entry, strict=True)
        return score.value

    assert [paid(answer) for answer in right] == [1.0] * len(right)
    assert [paid(answer) for answer in wrong] == [0.0] * len(wrong)


@given(st.text(), st.sampled_from(sorted(scores.GATES)))
def test_no_text_makes_a_gate_raise(answer, task):
    refusal = scores.refusal(task, answer)
    assert refusal is None or refusal


def test_deep_answers_are_refused():
    for answer in ("(" * 1900, "-" * 1999 + "x", "x+" * 900 + "x", "(" * 90 + "x" + ")" * 90):
        assert scores.refusal("simple_integration", answer) is None or len(answer) > 300


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(DataError, match=r"pip install 'agent-rl\[reasoning-gym\]'"):
        _ = rl_envs.make(ID, task="leg_counting").tasks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extract": "last"}, "extract is 'last'"),
        ({"size": 0}, "size is 0"),
        ({"task": ["a"], "config": {"x": 1}}, "each entry has its own"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(DataError, match=message):
        rl_envs.make(ID, **options)


@pytest.fixture
def real():
    return pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")


@pytest.mark.parametrize(
    "task",
    [
        "leg_counting",
        "word_ladder",
        [{"name": "basic_arithmetic", "weight": 3.0}, "spell_backward"],
    ],
)
def test_its_tasks_are_environments(real, task):
    env = rl_envs.make(ID, task=task)
    check_env(env)
    env.reset(seed=3)
    twins = copy.deepcopy(env), pickle.loads(pickle.dumps(env))
    action = env.expert(np.random.default_rng(0))
    told = env.step(action)
    assert (told[1], told[2]) == (1.0, True)
    assert all(twin.step(action) == told for twin in twins)
    for split in ("train", "test"):
        tasks = rl_envs.make(ID, task=task, split=split).tasks
        assert tasks[7] == rl_envs.make(ID, task=task, split=split).tasks[7]


def test_no_reference_is_an_integral_that_sympy_left_alone(real):
    tasks = rl_envs.make(ID, task="intermediate_integration").tasks
    assert not [tasks[i].answer for i in range(60) if "Integral" in tasks[i].answer]


def test_splits_share_nothing_and_seeds_differ(real):
    def ids(split, seed=0):
        tasks = rl_envs.make(ID, task="basic_arithmetic", split=split, seed=seed).tasks
        return {tasks[index].id for index in range(300)}

    assert not ids("train") & ids("test")
    assert len(ids("train", 0) & ids("train", 1)) < 10


def test_weights_mix_and_config_reaches_the_task(real):
    task = [
        {"name": "leg_counting", "weight": 4.0, "config": {"max_animals": 3}},
        {"name": "basic_arithmetic"},
    ]
    tasks = rl_envs.make(ID, task=task).tasks
    names = [tasks[index].info["task"] for index in range(300)]
    assert 210 < names.count("leg_counting") < 270
    assert tasks[names.index("leg_counting")].info["config"] == '{"max_animals": 3}'


@pytest.mark.parametrize("task", ["game_of_life_halting", "boxnet", "prime_factorization"])
@pytest.mark.parametrize("answer", ["no idea", "", "0", "None", "[" * 1000, "\ud800"])
def test_broken_scorers_pay_nothing_and_never_raise(real, task, answer):
    env = rl_envs.make(ID, task=task)
    env.reset(options={"index": 0})
    assert env.step(f"<answer>{answer}</answer>")[1] == 0.0


def test_nothing_else_feels_its_randomness(real):
    random.seed(1)
    np.random.seed(1)
    state = random.getstate(), np.random.get_state()[1].tolist()
    env = rl_envs.make(ID, task="pool_matrix")
    env.reset(seed=0)
    env.step(env.expert(np.random.default_rng(0)))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == state


def test_what_it_does_not_have_is_said(real):
    with pytest.raises(DataError, match="did you mean leg_counting"):
        _ = rl_envs.make(ID, task="leg_countin").tasks
    with pytest.raises(DataError, match="leg_counting cannot be made"):
        _ = rl_envs.make(ID, config={"legs": 3}).tasks[0]
    with pytest.raises(DataError, match="an entry has name, weight and config"):
        _ = rl_envs.make(ID, task=[{"nam": "x"}]).tasks
