"""Problems with a Python session: exact answers, and a session that lasts."""

from random import Random

import numpy as np
import pytest

import rl_envs
from rl_envs import Task
from rl_envs.text.python_problems import FAMILIES

DIFFICULTIES = (1, 2, 3)
TASK = Task("t", "What is 6*7?", "42", {"kind": "number", "code": "print(6 * 7)"})


@pytest.fixture
def env():
    made = rl_envs.make("text/PythonTool-v0", tool_timeout_s=1)
    made.reset(options={"task": TASK})
    yield made
    made.close()


def said(env, code):
    (message,), *_ = env.step(env.call_text("python", code=code))
    return message["content"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_program_of_every_problem_prints_its_answer(family):
    env = rl_envs.make("text/PythonTool-v0", max_turns=100)
    env.reset(options={"task": TASK})
    for difficulty in DIFFICULTIES:
        for seed in range(8):
            problem = FAMILIES[family](Random(seed), difficulty)
            assert said(env, problem.code) == problem.answer, (difficulty, problem.question)
    env.close()


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_answer_is_common_or_stands_in_the_question(family, difficulty):
    problems = [FAMILIES[family](Random(seed), difficulty) for seed in range(60)]
    answers = [problem.answer for problem in problems]
    assert max(map(answers.count, answers)) <= 5
    assert not any(set(problem.question.split()) >= {problem.answer} for problem in problems)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_demonstration_calls_then_answers(split):
    env = rl_envs.make("text/PythonTool-v0", split=split)
    for index in range(6):
        env.reset(options={"index": index})
        env.step(env.demonstrate("tool", np.random.default_rng(0)))
        *_, info = env.step(env.demonstrate("tool", np.random.default_rng(0)))
        assert (info["score"].value, info["turn"]) == (1.0, 2), env.task


@pytest.mark.parametrize("answer", ["0", "1", "42", "\\boxed{0}", "\\boxed{}", "I do not know."])
def test_a_constant_answer_earns_next_to_nothing(answer):
    env = rl_envs.make("text/PythonTool-v0")
    rewards = []
    for index in range(40):
        env.reset(options={"index": index})
        rewards.append(env.step(answer)[1])
    assert sum(rewards) <= 1


@pytest.mark.parametrize(
    ("kind", "reference", "answer", "right"),
    [
        ("number", "42", "It is \\boxed{42}.", True),
        ("number", "42", "\\boxed{42.0}", True),
        ("number", "10/4", "\\boxed{\\frac{5}{2}}", True),
        ("number", "42", "\\boxed{43}", False),
        ("number", str(7**99), f"\\boxed{{{7**99}}}", True),
        ("number", str(7**99), f"\\boxed{{{7**99 + 1}}}", False),
        ("text", "abcXY", "\\boxed{abcXY}", True),
        ("text", "abcXY", "\\boxed{abcxy}", False),
        ("text", "0110", "\\boxed{110}", False),
        ("text", "2031-05-17", "\\boxed{2031-05-17}", True),
        ("text", "2031-05-17", "\\boxed{2009}", False),
        ("text", "0110", "\\boxed{\\text{0110}}", True),
        ("text", "0110", "\\boxed{$\\mathtt{0110}$}", True),
        ("text", "0110", "\\boxed{'0110'}", True),
        ("text", "0110", "\\boxed{0110.}", True),
        ("text", "0110", "\\boxed{\\text{0111}}", False),
    ],
)
def test_numbers_are_judged_as_numbers_and_texts_as_texts(kind, reference, answer, right):
    env = rl_envs.make("text/PythonTool-v0")
    env.reset(options={"task": Task("t", "?", reference, {"kind": kind})})
    assert env.step(answer)[1] == float(right)


@pytest.mark.parametrize(
    "answer",
    [
        *("3*101^2+5", "30600+8", "2(15304)", "\\binom{30608}{1}", "\\max(30608, 7)"),
        *("\\sum_{k=30608}^{30608} k", "x = 30600 + 8", "30609 - 1", "4^2*1913", "61216/2/1"),
        *("\\frac{30600+8}{1}", "\\frac{61216}{2} + 0", "C(30608, 1)", "\\gcd(30608, 61216)"),
    ],
)
def test_what_is_left_to_be_worked_out_is_no_answer(answer):
    env = rl_envs.make("text/PythonTool-v0")
    env.reset(options={"task": Task("t", "p(101)?", "30608", {"kind": "number"})})
    _, reward, *_, info = env.step(f"\\boxed{{{answer}}}")
    assert (reward, info["score"].passed) == (0.0, False)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        *(
            ("100000", text)
            for text in ("1e5", "10^5", "1 \\times 10^{5}", "1\\cdot10^5", "100,000")
        ),
        *(
            ("100000", text)
            for text in ("100_000", "100{,}000", "100\\,000", "100 000", "100000.0")
        ),
        *(
            ("100000", text)
            for text in ("x = 100000", "100000 cents", "\\text{100000}", "$100000$")
        ),
        *(
            ("22/7", text)
            for text in ("22/7", "\\frac{22}{7}", "\\dfrac{22}7", "3 1/7", "3\\frac{1}{7}")
        ),
        *(("22/7", text) for text in ("{22 \\over 7}", "-22/-7", "(22)/(7)", "3.142857142857143")),
        *(("-5/3", text) for text in ("-5/3", "\\frac{-5}{3}", "-\\frac{5}{3}", "-1\\frac23")),
    ],
)
def test_a_number_may_be_written_in_many_ways(reference, answer):
    env = rl_envs.make("text/PythonTool-v0")
    env.reset(options={"task": Task("t", "?", reference, {"kind": "number"})})
    assert env.step(f"\\boxed{{{answer}}}")[1] == 1.0


# The session.


def test_names_stay_from_call_to_call_and_go_with_the_episode(env):
    assert said(env, "x = 5\ndef f(n):\n    return n * x") == "(no output)"
    assert said(env, "f(3)") == "15"
    env.reset(options={"task": TASK})
    assert "NameError" in said(env, "x")


def test_an_exception_is_shown_and_leaves_the_names(env):
    shown = said(env, "x = 1\nprint('before')\nx / 0")
    assert shown.startswith("before\nTraceback")
    assert shown.endswith("ZeroDivisionError: division by zero")
    assert said(env, "x") == "1"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("import os; os._exit(0)", "a new one was started"),
        ("import os; os.kill(os.getpid(), 9)", "a new one was started"),
        ("import os; os.close(199); os.close(198)", "a new one was started"),
        ("x = bytearray(10**9)", ""),
        ("import time\ntime.sleep(60)", "over the time limit of 1 s"),
        ("while True:\n    try:\n        while True: pass\n    except BaseException: pass", "over"),
        ("import os\nwhile True:\n    os.fork()", "Resource temporarily unavailable"),
        ("import os; os.fork()", ""),
        ("print('a' * 10**7)", "left out"),
        ("while True: print('a' * 1000)", ""),
        ("def f(:", "SyntaxError"),
        ("input()", "EOFError"),
        ("\0", ""),
        ("'\\ud800'", ""),
        ("exit()", ""),
    ],
)
def test_whatever_the_code_does_is_told_and_the_session_is_of_use(env, code, shown):
    assert shown in said(env, code)
    assert len(env.messages[-1]["content"]) < 5000
    assert "of use" in said(env, "print('of', 'use')")


def test_no_session_is_opened_for_an_answer_alone(env):
    env.step("\\boxed{42}")
    assert env._box._held is None
