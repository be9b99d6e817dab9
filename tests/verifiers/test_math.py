import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_verifiers import make, score_one

WHOLE = make("math", extract="whole")


def judged(gold: str, found: str) -> str:
    return WHOLE(found, {"id": 1, "answer": gold}).status


@pytest.mark.parametrize(
    ("gold", "found"),
    [
        ("1234", "1,234"),
        ("1234", "1\\,234"),
        ("-2", "−2"),
        ("1/2", "0.50"),
        ("\\frac34", "\\dfrac{3}{4}"),
        ("1\\frac{1}{2}", "3/2"),
        ("1.5", "1 1/2"),
        ("28\\%", "28"),
        ("0.335", "33.5%"),
        ("\\$5", "5 dollars"),
        ("6.02\\times10^{23}", "6.02e23"),
        ("0.1\\overline{6}", "1/6"),
        ("10!", "3628800"),
        ("1011_2", "11"),
        ("\\sqrt{8}", "2\\sqrt2"),
        ("\\frac{\\sqrt3}{2}", "0.8660254037844386"),
        ("x^2-1", "(x-1)(x+1)"),
        ("\\sin 2x", "2\\sin x\\cos x"),
        ("\\binom{n}{2}", "\\frac{n(n-1)}{2}"),
        ("\\log_2 8", "3"),
        ("(1+i)^2", "2i"),
        ("e^{i\\pi/3}", "\\frac{1+i\\sqrt3}{2}"),
        ("\\sqrt[3]{-8}", "-2"),
        ("x=5", "5"),
        ("5", "n = 5"),
        ("y=2x+1", "y-2x-1=0"),
        ("(1,2)", "x=1, y=2"),
        ("\\{1,2\\}", "\\{2,1\\}"),
        ("1\\pm\\sqrt2", "1+\\sqrt2, 1-\\sqrt2"),
        ("[2,\\infty)", "x \\ge 2"),
        ("(1,2)\\cup(2,3)", "(1,3)\\setminus\\{2\\}"),
        ("(-\\sqrt2,\\sqrt2)", "|x|<\\sqrt{2}"),
        ("(1,3)", "x>1 and x<3"),
        ("(1,3)", "x>1 \\land x<3"),
        ("(-\\infty,1)\\cup(3,\\infty)", "x<1 or x>3"),
        ("(-\\infty,1)\\cup(3,\\infty)", "x<1, x>3"),
        ("x \\ne 1, x \\ne 3", "(-\\infty,1)\\cup(1,3)\\cup(3,\\infty)"),
        ("x>1, y<2", "y<2 and x>1"),
        ("2x>6", "3<x"),
        ("x \\ne 2", "(-\\infty,2)\\cup(2,\\infty)"),
        (
            "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
            "\\begin{bmatrix}1 & 2\\\\ 3 & 4\\end{bmatrix}",
        ),
        ("\\begin{vmatrix}1&2\\\\3&4\\end{vmatrix}", "-2"),
        ("15\\text{ cm}^2", "15 square centimeters"),
        ("90^\\circ", "90"),
        ("3:30", "3:30 \\text{ PM}"),
        ("\\text{Even}", "even"),
        ("B", "(B)"),
        ("\\text{(D)}", "D"),
    ],
)
def test_equal_answers_are_correct(gold, found):
    assert judged(gold, found) == "correct"


@pytest.mark.parametrize(
    ("gold", "found"),
    [
        ("42", "43"),
        ("5", "-5"),
        ("1/3", "0.333"),
        ("\\pi", "3.14"),
        ("\\pi", "3.14159265358979"[:9]),
        ("0.5", "0.50000000001"),
        ("\\frac{1}{2004!}", "\\frac{1}{2006!}"),
        ("2^{-99}", "2^{-98}"),
        ("9.1\\times10^{-31}", "0"),
        ("e^{-200}", "0"),
        ("1-1/e", "1+1/e"),
        ("\\sqrt{x^2}", "x"),
        ("x^{2}", "2x"),
        ("1:2:3", "1:4:9"),
        ("4210_5", "4210_6"),
        ("15\\text{ cm}^2", "15\\text{ cm}^3"),
        ("3:30 \\text{ PM}", "3:30 \\text{ AM}"),
        ("(1,2)", "(2,1)"),
        ("(1,2)", "[1,2]"),
        ("[2,\\infty)", "x>2"),
        ("\\{1,2\\}", "\\{1,2,3\\}"),
        ("42", "41, 42"),
        ("42", "\\{41,42\\}"),
        ("42", "41 \\text{ or } 42"),
        ("42", "[0,100]"),
        ("42", "x \\in \\mathbb{R}"),
        ("42", "x"),
        ("3", "x = -3"),
        ("42", "41 = 42"),
        ("y=2x+1", "y=2x-1"),
        ("x<1", "x>-1"),
        ("(-\\infty,\\infty)", "x>1 and x<3"),
        ("(-\\infty,1)\\cup(3,\\infty)", "x<1 and x>3"),
        ("(1,3)", "x>1 or x<3"),
        ("x \\ne 1, x \\ne 3", "x \\ne 1, x \\ne 5"),
        ("\\emptyset", "0"),
        ("\\infty", "-\\infty"),
        ("B", "A and B"),
        ("\\text{ellipse}", "hyperbola"),
    ],
)
def test_other_answers_are_wrong(gold, found):
    assert judged(gold, found) in ("wrong", "no_answer")


@pytest.mark.parametrize(
    "found", ["\\frac{1}{", "2 +", "\\foo{3}", "3 4", "((1)", "1 @ 2", "x>1 and x<3 or x>5"]
)
def test_what_is_not_understood_is_unparsable(found):
    assert judged("42", found) == "unparsable"


@pytest.mark.parametrize("gold", ["\\frac{1}{", "\\foo", "9^{", "(" * 99])
def test_a_reference_that_cannot_be_read_is_told_from_a_wrong_answer(gold):
    assert judged(gold, "7") == "bad_reference"


@pytest.mark.parametrize(
    "gold", ["9^{9^{9}}", "(1, 9^{9^{9}})", "x > 9^{9^{9}}", "e^{e^{e^{9}}}", "5+x^{99999999}"]
)
def test_a_reference_over_the_limits_is_the_reference_s_fault(gold):
    assert judged(gold, gold.replace("5", "1").replace("9", "7", 1)) == "bad_reference"
    assert judged("7", gold) in ("over_limit", "wrong")


@pytest.mark.parametrize("answer", [None, "", "  ", "$$", True, ["1"], {}])
def test_a_missing_reference_gives_no_reward(answer):
    score = WHOLE("7", {"id": 1, "answer": answer})
    assert (score.status, score.passed) == ("bad_reference", False)


def test_a_row_without_the_column_gives_no_reward():
    assert WHOLE("7", {"id": 1}).status == "bad_reference"


def test_numbers_are_references_too():
    assert WHOLE("42", {"answer": 42}).status == "correct"


@pytest.mark.parametrize("completion", ["", "I do not know.", "\\boxed{42", "\\boxed{}"])
def test_no_answer(completion):
    assert make("math")(completion, {"answer": "42"}).status == "no_answer"


def test_without_strict_a_rounded_decimal_counts():
    loose = make("math", extract="whole", strict=False)
    assert loose("3.14", {"answer": "\\pi"}).passed
    assert not loose("3.1", {"answer": "\\pi"}).passed
    assert not loose("3.15", {"answer": "\\pi"}).passed


@given(st.integers(-(10**30), 10**30))
def test_an_integer_equals_itself_with_separators_and_not_its_neighbour(number):
    assert judged(str(number), f"{number:,}") == "correct"
    assert judged(str(number), str(number + 1)) == "wrong"


@given(st.fractions(max_denominator=10**6), st.integers(1, 1000))
def test_a_fraction_equals_itself_expanded(value, factor):
    gold = f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
    assert judged(gold, f"{value.numerator * factor}/{value.denominator * factor}") == "correct"


@given(st.lists(st.integers(-99, 99), min_size=2, max_size=6), st.randoms())
def test_a_set_equals_itself_in_any_order_and_a_tuple_does_not(items, random):
    shuffled = random.sample(items, len(items))
    inside, other = ", ".join(map(str, items)), ", ".join(map(str, shuffled))
    assert judged(f"\\{{{inside}\\}}", f"\\{{{other}\\}}") == "correct"
    assert (judged(f"({inside})", f"({other})") == "correct") == (items == shuffled)


def test_symbolic_answers_are_judged_from_any_thread():
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(judged("\\sqrt{8}", "2\\sqrt2")))
    thread.start()
    thread.join()
    assert statuses == ["correct"]


def test_symbolic_answers_are_judged_inside_an_event_loop():
    async def many():
        row = {"id": 1, "answer": "\\sqrt{8}"}
        return await asyncio.gather(*(score_one(WHOLE, f"{n}\\sqrt2", row) for n in range(1, 4)))

    assert [score.passed for score in asyncio.run(many())] == [False, True, False]


@pytest.mark.parametrize("echo", ["{}", "{} {}", "Q: {}\nA:", "\n{}\n\n"])
def test_a_question_that_ends_in_its_answer_is_no_answer(echo):
    question = "Tom has 3 bags of 4 apples. How many apples are in 3 bags of 12?"
    row = {"prompt": question, "answer": "12"}
    said = echo.format(question, question)
    assert make("math")(said, row).status == "no_answer"
    assert make("math", strict=False)(said, row).passed
    asked = {**row, "prompt": [{"role": "user", "content": question}]}
    assert make("math")(said, asked).status == "no_answer"
    assert make("math")(said + " The answer is 12.", row).passed
    for other in (question.upper(), question.replace(" ", "  "), question.rstrip("?")):
        assert make("math")(other, row).status == "no_answer"


def test_a_short_prompt_may_stand_in_an_answer():
    assert make("math")("12", {"prompt": "12", "answer": "12"}).passed


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ("10 kg", True),
        ("The mass is 10 kg.", True),
        ("The mass is 10 kilograms in all.", True),
        ("The mass is 10.", True),
        ("10 cm", False),
        ("So it weighs 10 grams.", False),
    ],
)
def test_a_unit_behind_the_last_number_counts(said, passes):
    assert make("math")(said, {"answer": "10\\text{ kg}"}).passed is passes


@pytest.mark.parametrize(
    "said",
    [
        "The answer is 42, I think.",
        "The answer is 42 - done",
        "The answer is 42, then.",
        "The answer is 42 because 6 * 7 is 42",
        "I believe the answer is 42 though I am not sure",
    ],
)
def test_what_follows_a_stated_answer_is_not_a_part_of_it(said):
    assert make("math")(said, {"answer": "42"}).passed


def test_a_base_behind_the_last_number_counts():
    assert not make("math")("It is 101_3.", {"answer": "101_2"}).passed
    assert make("math")("It is 101_2.", {"answer": "101_2"}).passed
    assert not make("math")("It's 42_5", {"answer": "42"}).passed
