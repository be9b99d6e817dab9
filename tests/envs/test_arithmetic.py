import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rl_envs
import rl_verifiers
from rl_envs import DataError
from rl_envs.text.arithmetic import DIFFICULTY

RNG = np.random.default_rng(0)


def make(**options):
    return rl_envs.make("text/Arithmetic-v0", **options)


def scored(text, answer="16", **options):
    return make(**options).score(text, {"answer": answer})


def test_default_set_is_every_sum_of_four_dice():
    assert make().tasks.size + make(split="test").tasks.size == 6**4
    assert make(split="test").tasks.size == 188


def test_index_gives_this_problem():
    task = make().tasks[0]
    assert (task.id, task.prompt, task.answer) == ("1+1+1+1", "1+1+1+1=?", "4")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(sorted(DIFFICULTY)))
def test_answers_are_exact(index, difficulty):
    task = make(difficulty=difficulty).tasks.take(10**9)
    task = task[index % task.size]
    assert set(task.id) <= set("0123456789+-*")
    assert task.answer == str(eval(task.id))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6))
def test_every_step_of_worked_answers_is_true(index):
    env = make(difficulty=5)
    task = env.tasks[index]
    work, _, boxed = env.demonstration(task, "worked", RNG).rpartition(" ")
    steps = [step.split("=") for step in work.split(",")]
    assert len(steps) == 5
    assert all(eval(left) == int(right) for left, right in steps)
    assert boxed == f"\\boxed{{{steps[-1][1]}}}" == env.demonstration(task, "terse", RNG)


def test_worked_answer_as_text():
    task = rl_envs.Task("3+5+2+6", "", "16")
    assert make().demonstration(task, "worked", RNG) == r"3+5=8,8+2=10,10+6=16 \boxed{16}"


@pytest.mark.parametrize(
    ("problem", "answer", "style", "text"),
    [
        ("3+5+2", "10", "english", r"first 3+5=8, then 8+2=10, so the sum is \boxed{10}"),
        ("3+5+2", "10", "german", r"zuerst 3+5=8, dann 8+2=10, also ist die summe \boxed{10}"),
        ("9-2*3", "3", "english", r"first 2*3=6, then 9-6=3, so the result is \boxed{3}"),
        ("9-2*3", "3", "german", r"zuerst 2*3=6, dann 9-6=3, also ist das ergebnis \boxed{3}"),
    ],
)
def test_answers_in_words_are_in_their_language(problem, answer, style, text):
    task = rl_envs.Task(problem, "", answer)
    assert make().demonstration(task, style, RNG) == text
    is_english = rl_verifiers.make("language", language="en")(text, task.row()).passed
    assert is_english == (style == "english")


def test_products_are_worked_first():
    task = rl_envs.Task("9-2*3-4", "", "-1")
    assert make().demonstration(task, "worked", RNG) == r"2*3=6,9-6=3,3-4=-1 \boxed{-1}"


def test_unknown_style_is_named():
    with pytest.raises(DataError, match="no style 'poem'; it has worked, terse, english, german"):
        make().demonstration(make().tasks[0], "poem", RNG)


@pytest.mark.parametrize("text", [r"\boxed{16}", r"no, \boxed{3}, then \boxed{16}. Done"])
def test_right(text):
    assert (scored(text).value, scored(text).status) == (1.0, "correct")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{ 16 }", "16"),
        (r"\boxed{+16}", "16"),
        (r"\boxed{ -16}", "-16"),
        (r"\boxed{1,071}", "1071"),
        (r"\boxed{-12,345,678 }", "-12345678"),
    ],
)
def test_the_same_number_in_another_way_is_right_but_not_the_bare_box(text, answer):
    assert scored(text, answer).status == "correct"
    score = scored(text, answer, format_reward=0.2)
    assert (score.value, score.parts) == (0.8, {"answer": 1.0, "format": 0.0})


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (r"\boxed{17}", "wrong"),
        (r"\boxed{16} or \boxed{17}", "wrong"),
        (r"\boxed{016}", "wrong"),
        (r"\boxed{-16}", "wrong"),
        ("16", "no_answer"),
        (r"\boxed{16", "no_answer"),
        (r"\boxed{16.0}", "no_answer"),
        (r"\boxed{+-16}", "no_answer"),
        (r"\boxed{1,6}", "no_answer"),
        (r"\boxed{0,016}", "no_answer"),
        (r"\boxed{1 6}", "no_answer"),
        (r"\boxed{" + " " * 50_000, "no_answer"),
        (r"\boxed{16} \boxed{x}", "no_answer"),
        (r"\boxed{1６}", "no_answer"),
    ],
)
def test_anything_else_is_not(text, status):
    assert (scored(text).value, scored(text).status) == (0.0, status)


@pytest.mark.parametrize(
    ("text", "value", "passed"),
    [
        (r"\boxed{16}", 1.0, True),
        (r"\boxed{17}", 0.2, False),
        (r"it is \boxed{16}", 0.8, True),
        (r"it is \boxed{17}", 0.0, False),
        ("\\boxed{16}\n", 0.8, True),
    ],
)
def test_format_reward(text, value, passed):
    score = scored(text, format_reward=0.2)
    assert (score.value, score.passed) == (pytest.approx(value), passed)
    assert score.parts == {"answer": float(passed), "format": float(value in (1.0, 0.2))}


def test_examples_are_solved_turns_before_the_question():
    env = make(terms=2, low=1, high=9, question="spaced", examples=1)
    seen, _ = env.reset(seed=0)
    assert [message["content"] for message in seen[:2]] == ["3 + 4 = ?", "\\boxed{7}"]
    assert [message["role"] for message in seen] == ["user", "assistant", "user"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_examples_never_show_the_task_or_a_test_problem(split):
    env = make(terms=2, low=1, high=9, examples=8, split=split)
    held_out = {task.prompt for task in make(terms=2, low=1, high=9, split="test").tasks}
    for index in range(env.tasks.size):
        seen, _ = env.reset(options={"index": index})
        shown = {message["content"] for message in seen[:-1]}
        assert len(seen) == 17
        assert seen[-1]["content"] not in shown
        assert not shown & held_out


def test_more_examples_than_there_are_is_an_error():
    with pytest.raises(DataError, match="examples is 50; this range gives only"):
        make(terms=2, low=1, high=3, examples=50).reset(seed=0)


def test_questions():
    prompts = [make(question=q).tasks[0].prompt for q in ("compact", "spaced", "instruction")]
    assert prompts == [
        "1+1+1+1=?",
        "1 + 1 + 1 + 1 = ?",
        "What is 1 + 1 + 1 + 1? Put the answer in \\boxed{}.",
    ]


def test_the_split_of_a_problem_does_not_depend_on_its_wording():
    ids = [{task.id for task in make(question=q).tasks} for q in ("compact", "spaced")]
    assert ids[0] == ids[1]


def test_given_options_win_over_a_difficulty():
    assert (
        make(difficulty=1, high=3).tasks.size + make(difficulty=1, high=3, split="test").tasks.size
        == 9
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"difficulty": 9}, "difficulty is 9"),
        ({"terms": 1}, "terms is 1"),
        ({"low": 5, "high": 4}, "operands from 5 to 4"),
        ({"operators": "+^"}, "operators is"),
        ({"question": "poem"}, "question is 'poem'"),
        ({"format_reward": 2.0}, "format_reward is 2.0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(DataError, match=message):
        make(**options)
