import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_verifiers import Score, VerifierError, gate, make, score_sync
from rl_verifiers.arithmetic import equations
from rl_verifiers.process import aggregated, steps_of


def stated(text):
    return [(equation.text, equation.holds) for equation in equations(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so 3 + 4 * 2 = 11 apples", [("3 + 4 * 2 = 11", True)]),
        ("3 x 4 = 13", [("3 * 4 = 13", False)]),
        (r"\(\frac{1}{2} \cdot 6 = 4\)", [(r"\frac{1}{2} * 6 = 4", False)]),
        ("$1,200 / 12 = $100", [("$1,200 / 12 = $100", True)]),
        ("48/2 = <<48/2=24>>24 clips", [("48/2 = 24", True)]),
        ("2 + 3 = 5 * 2 = 10", [("2 + 3 = 5 * 2", False), ("5 * 2 = 10", True)]),
        ("10/3 = 3.33, not 10/3 = 3.34", [("10/3 = 3.33", True), ("10/3 = 3.34", False)]),
        ("2/3 = 0.67 = 67%", [("2/3 = 0.67", True)]),
        (r"22/7 \approx 3.1", [("22/7 ≈ 3.1", True)]),
        ("287 + 12 ≈ 300 and 22/7 ≈ 3", [("287 + 12 ≈ 300", True), ("22/7 ≈ 3", True)]),
        ("1 + 1 ≈ 2.01", [("1 + 1 ≈ 2.01", False)]),
        ("150 * 2 ≈ 298", [("150 * 2 ≈ 298", False)]),
        ("5/0 = 5", [("5/0 = 5", False)]),
        (r"\frac{3}{2 - 2} = 0", [(r"\frac{3}{2 - 2} = 0", False)]),
        ("5 * 20% = 1", [("5 * 20% = 1", True)]),
        ("f(3) = 3 + 4 = 7", [("3 + 4 = 7", True)]),
        (".4(80) + .6(90) = 86", [(".4(80) + .6(90) = 86", True)]),
        ("0.1 + 0.2 = 0.3.", [("0.1 + 0.2 = 0.3", True)]),
    ],
)
def test_equations_between_numbers_are_checked(text, expected):
    assert stated(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "2x + 3 = 8", "y + 3 = 8", "3 + 4 = 8x", "3 + 4 = 8 + y", "3 + 4 = 8 x",
        "apples - 3 = 8", "Day 2 = 3 + 4", "101_2 + 1 = 7", "17 / 5 = 3 remainder 2",
        "8 * 1 1/2 = 13", "6 / 1/2 = 11", "3 = 4", "0900 - 0130 = 0730", "5 = 0.\\overline{3} + 1",
        "9^9^9^9 = 1", "3 + = 4", "1.2.3 + 1 = 9",
    ],
)  # fmt: skip
def test_what_is_no_arithmetic_or_ambiguous_is_left_alone(text):
    assert stated(text) == []


@given(st.integers(-999, 999), st.integers(1, 999), st.sampled_from("+-*/"), st.integers(0, 3))
def test_true_equations_hold_and_changed_ones_do_not(a, b, operator, change):
    value = {"+": a + b, "-": a - b, "*": a * b, "/": a}[operator]
    left = f"{a * b} / {b}" if operator == "/" else f"{a} {operator} {b}"
    assert [e.holds for e in equations(f"{left} = {value + change}")] == [change == 0]


SOLUTION = "First 3 + 4 = 7.\n\nThen 7 * 2 = 15 and 1 + 1 = 2.\n\nSo the answer is 15."


def test_arithmetic_is_the_reward_of_each_step():
    score = make("steps")(SOLUTION, {})
    assert score.parts == {
        "step_0": 1.0, "step_1": 0.5, "step_2": 1.0, "first_wrong_step": 1.0, "equations": 3.0,
    }  # fmt: skip
    assert (score.value, score.status) == (0.5, "wrong")
    assert score.reason == "3 steps; step 1: 7 * 2 = 15 does not hold"
    assert make("steps")("3 + 4 = 7", {}).parts["first_wrong_step"] == -1.0
    assert make("steps")("No numbers.\n\nAt all.", {}).status == "no_answer"
    assert make("steps")("1+1=2 " * 3_000, {}).status == "over_limit"
    assert make("steps")("a\n\n" * 1_001, {}).status == "over_limit"


@pytest.mark.parametrize(("aggregate", "value"), [("last", 0.0), ("mean", 0.5)])
def test_a_step_without_arithmetic_makes_up_for_no_wrong_one(aggregate, value):
    text = "1 + 1 = 2.\n\n1 + 1 = 3.\n\nWell.\n\nSo it is.\n\nIt is done."
    score = make("steps", aggregate=aggregate)(text, {})
    assert (score.value, score.parts["step_4"], score.passed) == (value, 1.0, False)


def test_a_step_that_is_not_closed_hides_nothing():
    steps = make("steps", split="tag")
    for text in ("<step>7*7=3<step>1+1=2</step>", "<step>1+1=2</step><step>7*7=3"):
        assert (steps(text, {}).value, steps(text, {}).parts["equations"]) == (0.0, 2.0)


def test_aggregates():
    values = [0.5, 1.0, 0.8]
    assert [aggregated(values, how) for how in ("min", "product", "mean", "last")] == pytest.approx(
        [0.5, 0.4, 2.3 / 3, 0.8]
    )


@pytest.mark.parametrize(
    ("split", "text", "expected"),
    [
        ("paragraph", "<think>a\nb\n \nc</think>d", ["a\nb", "c", "d"]),
        ("line", "a\n\nb", ["a", "b"]),
        ("step", "So.\n**Step 1**: a\nStep 2: b", ["So.", "**Step 1**: a", "Step 2: b"]),
        ("tag", "x <step>a</step> y <step>b</step><step>c", ["a", "b", "c"]),
    ],
)
def test_splits(split, text, expected):
    assert steps_of(text, split) == expected


@pytest.mark.parametrize(
    ("labels", "status", "value"),
    [
        ([1, 0.5, 1], "wrong", 0.5),
        (["+", "+", "+"], "correct", 1.0),
        ("[true, true, false]", "wrong", 0.0),
        ([1, 1], "bad_reference", 0.0),
        ([1, 1, -1], "bad_reference", 0.0),
        (None, "bad_reference", 0.0),
    ],
)
def test_labels_of_the_row(labels, status, value):
    score = make("steps", verifier="labels")(SOLUTION, {"step_labels": labels})
    assert (score.status, score.value) == (status, value)


def test_a_verifier_scores_each_step_alone_or_with_those_before():
    inner = {"name": "contains"}
    row = {"answer": "a"}
    alone = make("steps", verifier=inner, aggregate="mean", threshold=0.6)("a\n\nb", row)
    assert (alone.value, alone.parts["first_wrong_step"], alone.passed) == (0.5, 1.0, False)
    assert make("steps", verifier=inner, so_far=True)("a\n\nb", row).passed
    assert make("steps", verifier=inner).reads == ("answer",)


def test_an_error_in_a_step_is_no_reward():
    def broken(completion, row):
        return Score.failed("judge away") if "b" in completion else 1.0

    score = score_sync(make("steps", verifier=broken), "a\n\nb", {})
    assert (score.status, score.error) == ("error", "step 1: judge away")


def test_steps_behind_an_answer():
    verifier = gate(make("math"), make("steps"))
    row = {"answer": "14"}
    assert verifier("7 * 2 = 14.\n\nThe answer is 14.", row).value == 1.0
    assert verifier("7 * 2 = 14.\n\nThe answer is 15.", row).value == 0.0
    assert verifier("7 * 2 = 15.\n\nThe answer is 14.", row).value == 0.0


def test_bad_options_are_refused():
    with pytest.raises(VerifierError, match=r"steps: split is 'lines'.*did you mean 'line'"):
        make("steps", split="lines")
    for wrong, meant in (("arithmetics", "arithmetic"), ("labls", "labels"), ("maths", "math")):
        with pytest.raises(VerifierError, match=rf"steps: verifier is .*did you mean '{meant}'"):
            make("steps", verifier=wrong)
    for bad in (0, -1, "x", float("nan"), True, 1.5):
        with pytest.raises(VerifierError, match=r"steps: threshold is"):
            make("steps", threshold=bad)
    with pytest.raises(VerifierError, match="steps: so_far is 'no'; it must be true or false"):
        make("steps", so_far="no")


@pytest.mark.parametrize("labels", ["[" * 100_000, [[[]] * 1_000_000]])
def test_labels_that_cannot_be_read_are_the_rows_fault(labels):
    score = make("steps", verifier="labels")("a", {"step_labels": labels})
    assert (score.status, len(score.reason) < 120) == ("bad_reference", True)
