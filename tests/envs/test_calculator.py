import re

import numpy as np
import pytest

import rl_envs
from rl_envs import DataError

TAGS = {"question": "compact", "call_format": "tag", "describe_tools": False}


def played(env, style="tool", **reset):
    env.reset(seed=0, **reset)
    total, rng = 0.0, np.random.default_rng(0)
    while not env.done:
        total += env.step(env.demonstrate(style, rng))[1]
    return total, [message["content"] for message in env.messages]


def test_one_call_and_the_copied_result():
    env = rl_envs.make("text/Calculator-v0", tasks=None, **TAGS)
    total, said = played(env, options={"index": 0})
    left, right = map(int, re.findall(r"\d+", said[0]))
    product = left * right
    assert total == 1.0
    assert said == [
        f"{left}*{right}=?",
        f"<tool>{left}*{right}</tool>",
        str(product),
        f"\\boxed{{{product}}}",
    ]


@pytest.mark.parametrize("form", ["a*b+c", "a-b*c", "a-b-c", "a*b-c*d", "a+b", "a-b+c*d"])
def test_the_oracle_takes_one_call_per_operation(form):
    env = rl_envs.make("text/Calculator-v0", form=form, max_turns=6, **TAGS)
    for index in range(40):
        total, said = played(env, options={"index": index})
        assert total == 1.0, said
        assert env.counts["calls"] == sum(form.count(operator) for operator in "+-*")
        assert said[-1] == f"\\boxed{{{eval(env.task.id)}}}"


def test_two_operations_in_one_call_are_refused_unless_allowed():
    env = rl_envs.make("text/Calculator-v0", **TAGS)
    env.reset(seed=0)
    assert env.step("<tool>2*3+4</tool>")[0][0]["content"].startswith("Error: at most 1 operation")
    env = rl_envs.make("text/Calculator-v0", operations_per_call=0, **TAGS)
    env.reset(seed=0)
    assert env.step("<tool>2*3+4</tool>")[0][0]["content"] == "10"


@pytest.mark.parametrize(("call", "result"), [("-7+2", "-5"), ("7/2", "7/2"), (" 6 * 7 ", "42")])
def test_the_calculator_is_exact(call, result):
    env = rl_envs.make("text/Calculator-v0", **TAGS)
    env.reset(seed=0)
    assert env.step(f"<tool>{call}</tool>")[0][0]["content"] == result


@pytest.mark.parametrize(
    "call", ["9**9**9", "x", "", "1/0", "(" * 9999, "9" * 400, "__import__('os')"]
)
def test_no_expression_is_an_error_and_not_a_crash(call):
    env = rl_envs.make("text/Calculator-v0", **TAGS)
    env.reset(seed=0)
    seen, reward, terminated, _, info = env.step(f"<tool>{call}</tool>")
    assert seen[0]["content"].startswith("Error: ")
    assert (reward, terminated) == (0.0, False)
    assert info["tools"]["errors"] + info["tools"]["malformed"] == 1


def test_the_expression_in_a_box_is_no_answer():
    env = rl_envs.make("text/Calculator-v0", **TAGS)
    env.reset(seed=0)
    assert env.step(f"\\boxed{{{env.task.id}}}")[1] == 0.0


def test_a_slip_is_an_error_and_a_guess_needs_no_call():
    env = rl_envs.make("text/Calculator-v0", error_text="e", **TAGS)
    total, said = played(env, "slip")
    assert (total, said[2], env.counts["errors"]) == (1.0, "e", 1)
    total, said = played(env, "direct")
    assert (total, len(said), env.counts["calls"]) == (1.0, 2, 0)


def test_solved_examples_stand_before_the_question():
    env = rl_envs.make("text/Calculator-v0", examples=2, **TAGS)
    seen, _ = env.reset(seed=0)
    assert [m["role"] for m in seen] == ["user", "assistant", "tool", "assistant"] * 2 + ["user"]
    asked = {seen[0]["content"], seen[4]["content"], seen[8]["content"]}
    assert len(asked) == 3


@pytest.mark.parametrize(
    "options",
    [{"form": "ab"}, {"form": "a/b"}, {"low": 9, "high": 3}, {"question": "x"}, {"examples": 99}],
)
def test_options_that_make_no_problem_are_refused(options):
    with pytest.raises(DataError):
        rl_envs.make("text/Calculator-v0", **options)


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("<think>\\boxed{ANSWER}", 0.0),
        ("<think>\\boxed{ANSWER}</think>", 0.0),
        ("<think>\\boxed{1}</think>\\boxed{ANSWER}", 1.0),
        ("\\boxed{ANSWER} \\boxed{1}", 0.0),
        ("\\boxed{ +ANSWER }", 1.0),
    ],
)
def test_the_last_box_behind_the_thinking_counts(text, reward):
    env = rl_envs.make("text/Calculator-v0")
    env.reset(seed=0, options={"index": 0})
    assert env.step(text.replace("ANSWER", env.task.answer))[1] == reward


def test_commas_between_thousands_are_read():
    env = rl_envs.make("text/Calculator-v0")
    env.reset(options={"task": rl_envs.Task("63*17", "", "1071", {"steps": ["63*17"]})})
    assert env.step("\\boxed{1,071}")[1] == 1.0
