import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rl_envs
from rl_envs import DataError
from rl_envs.text.countdown import DIFFICULTY
from rl_envs.text.expressions import ExpressionError, evaluate

ROW = {"numbers": (3, 7, 25), "target": 46, "exactly": False}


def make(**options):
    return rl_envs.make("text/Countdown-v0", **options)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(sorted(DIFFICULTY)), st.booleans())
def test_every_problem_is_solved_by_its_demonstration(index, difficulty, exactly):
    env = make(difficulty=difficulty, exactly=exactly)
    task = env.tasks[index]
    assert env.score(env.demonstration(task, "solution", None), task.row()).passed
    assert 1 <= task.info["target"] <= DIFFICULTY[difficulty]["max_target"]
    assert len(task.info["numbers"]) == DIFFICULTY[difficulty]["count"]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (r"\boxed{3*7+25}", "correct"),
        (r"\boxed{25 + (7 \times 3)}", "correct"),
        (r"so \boxed{1}, no: \boxed{(3 × 7) + 25}", "correct"),
        (r"\boxed{3*7+26}", "wrong"),
        (r"\boxed{3*7}", "wrong"),
        (r"\boxed{46}", "wrong"),
        (r"\boxed{25+7+7+7}", "wrong"),
        (r"\boxed{3*7+25=46}", "unparsable"),
        (r"\boxed{3**7}", "unparsable"),
        (r"\boxed{25--21}", "unparsable"),
        (r"\boxed{}", "unparsable"),
        ("3*7+25", "no_answer"),
    ],
)
def test_scores(text, status):
    assert make().score(text, ROW).status == status


def test_exactly_needs_every_number():
    row = {"numbers": (3, 7, 25), "target": 21, "exactly": True}
    assert make().score(r"\boxed{3*7}", row).status == "wrong"
    assert make().score(r"\boxed{3*7}", {**row, "exactly": False}).status == "correct"


def test_compact_question():
    prompt = make(question="compact", difficulty=1).tasks[0].prompt
    assert prompt.replace(",", "").replace(">", "").isdigit()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("8-3-2", 3),
        ("8/4/2", 1),
        ("1/3+1/6", Fraction(1, 2)),
        (" 2 ÷ 4 ", Fraction(1, 2)),
    ],
)
def test_evaluate(text, value):
    assert evaluate(text)[0] == value


@pytest.mark.parametrize(
    "text",
    ["", "1+", "+1", "(1", "1)", "1 2", "1/0", "1/(2-2)", "2^3", "x", "1e9", "1.5", "٣", "9" * 10],
)
def test_malformed_expressions(text):
    with pytest.raises(ExpressionError):
        evaluate(text)


def expressions():
    """Text of an expression beside Python's own value of it, None for a division by zero."""

    def joined(parts):
        (left, a), operator, (right, b) = parts
        if a is None or b is None or (operator == "/" and b == 0):
            return f"({left}{operator}{right})", None
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[operator]
        return f"({left} {operator} {right})", value

    leaf = st.integers(0, 99).map(lambda n: (str(n), Fraction(n)))
    grow = lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(joined)  # noqa: E731
    return st.recursive(leaf, grow, max_leaves=8)


@given(expressions())
def test_evaluate_is_exact(expression):
    text, value = expression
    if value is None:
        with pytest.raises(ExpressionError, match="division by zero"):
            evaluate(text)
    else:
        assert evaluate(text)[0] == value


@given(st.text(alphabet="0123456789+-*/() \\x{}", max_size=60))
def test_evaluate_reads_or_refuses_and_never_raises_otherwise(text):
    try:
        _, numbers = evaluate(text)
    except ExpressionError:
        return
    assert numbers == [int(part) for part in re.findall(r"[0-9]+", text)]


def test_depth_and_length_are_capped():
    assert evaluate("(" * 20 + "1" + ")" * 20)[0] == 1
    with pytest.raises(ExpressionError, match="too deep"):
        evaluate("(" * 21 + "1" + ")" * 21)
    with pytest.raises(ExpressionError, match="longer than"):
        evaluate("1+" * 200 + "1")


@pytest.mark.parametrize("options", [{"difficulty": 0}, {"count": 1}, {"question": "poem"}])
def test_bad_options_are_named(options):
    with pytest.raises(DataError, match=next(iter(options))):
        make(**options)
