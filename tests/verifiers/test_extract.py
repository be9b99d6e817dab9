import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_verifiers import extract

FINDERS = [
    extract.boxed,
    extract.joined_boxes,
    extract.answer_tag,
    extract.last_number,
    extract.last_math,
    extract.code_fence,
    extract.without_thinking,
    extract.final_answer,
]
FRAGMENTS = st.sampled_from(
    ["\\boxed{", "}", "{", "\\fbox{", "$", "$$", "\\(", "\\)", "<answer>", "</answer>", "<think>",
     "</think>", "#### ", "42", "-1,234.5", " and ", "\n", "```", "json\n", "[", "]", '"', "\\",
     "the answer is ", "A: ", "not ", " or ", "."]
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=40).map("".join) | st.text(max_size=200))
def test_no_text_makes_a_finder_raise(text):
    for find in FINDERS:
        find(text)


@given(st.text(alphabet="ab12+-^_(){}", max_size=30))
def test_what_is_boxed_is_found(inside):
    if inside.count("{") == inside.count("}") == 0:
        assert extract.boxed(f"so \\boxed{{{inside}}}.") == inside.strip()


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{1} then \\boxed{2}", "2"),
        ("\\fbox{3}", "3"),
        ("\\boxed{\\{1,2\\}}", "\\{1,2\\}"),
        ("\\boxed 42", "42"),
        ("\\boxed{}", ""),
        ("\\boxed{1} and \\boxed{2", None),
        ("\\boxedness{1}", None),
        ("no box", None),
    ],
)
def test_boxed(text, inside):
    assert extract.boxed(text) == inside


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("\\boxed{1} and \\boxed{2}", "1, 2"),
        ("$\\boxed{1}$, $\\boxed{2}$ or $\\boxed{3}$", "1, 2, 3"),
        ("\\boxed{1} \\quad \\text{and} \\quad \\boxed{2}", "1, 2"),
        ("\\boxed{1}\n\\boxed{1}", "1"),
        ("\\boxed{1} no, it is \\boxed{2}", "2"),
        ("\\boxed{1} cats and \\boxed{2} dogs", "1, 2"),
        ("\\boxed{1} and then \\boxed{2}", "2"),
        ("$a = \\boxed{1}$ and $b_1 = \\boxed{2}$", "1, 2"),
        ("\\boxed{1} or maybe \\boxed{2}", "1, 2"),
        ("\\boxed{1}. Alternatively, \\boxed{2}.", "1, 2"),
        ("\\boxed{1}. So that $x$ is not 3 and \\boxed{2}", "2"),
        ("\\boxed{5} apples, not $\\boxed{6}$", "5"),
        ("not \\boxed{6}", None),
        ("- \\boxed{1}\n- \\boxed{2}", "1, 2"),
        ("1. \\boxed{1}\n2. \\boxed{2}", "1, 2"),
        ("\\boxed{1} \\lor \\boxed{2} | \\boxed{3} / \\boxed{4}", "1, 2, 3, 4"),
        ("\\boxed{1} or it could be \\boxed{2}", "1, 2"),
        ("\\boxed{1}; otherwise \\boxed{2}", "1, 2"),
        ("\\boxed{1}, or rather \\boxed{2}", "2"),
        ("$\\boxed{1}$ is wrong, it should be 2", None),
        ("\\boxed{1} isn't correct", None),
        ("anything but \\boxed{1}", None),
        ("\\boxed{1} is the largest", "1"),
        ("\\boxed{1} and \\boxed{2", None),
    ],
)
def test_joined_boxes(text, inside):
    assert extract.joined_boxes(text) == inside


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("<answer> 7 </answer>", "7"),
        ("<answer>1</answer> <ANSWER>2</ANSWER>", "2"),
        ("<answer>1</answer><answer>2", "1"),
        ("<answer><answer>1</answer>2</answer>", "<answer>1</answer>2"),
        ("in <answer> tags: <answer>1</answer>", "1"),
        ("<answer>1", None),
        ("</answer>", None),
    ],
)
def test_answer_tag(text, inside):
    assert extract.answer_tag(text) == inside


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1 and 2", "2"),
        ("it is -1,234.50.", "-1,234.50"),
        ("3/4 of them", "3/4"),
        ("12%", "12%"),
        ("x2 has none but 5", "5"),
        ("none", None),
    ],
)
def test_last_number(text, number):
    assert extract.last_number(text) == number


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("so $x=1$ holds", "x=1"),
        ("it costs $5 and $6", None),
        ("is $ \\frac12 $.", "\\frac12"),
        ("\\[ a+b \\]", "a+b"),
        ("\\(a\\) and $b", "a"),
    ],
)
def test_last_math(text, inside):
    assert extract.last_math(text) == inside


@pytest.mark.parametrize(
    ("text", "language", "code"),
    [
        ("```python\nx = 1\n```", "python", "x = 1"),
        ("```py\nx = 1\n```", "python", "x = 1"),
        ("```\na\n```\n```\nb\nc\n```", None, "b\nc"),
        ("```js\na\n```", "python", None),
        ("```python\nopen", "python", None),
        ("```python\n```", "python", ""),
    ],
)
def test_code_fence(text, language, code):
    assert extract.code_fence(text, language) == code


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("7", 7),
        ('I say {"a": [1, 2]} twice, {"b": "}"} last.', {"b": "}"}),
        ('```json\n{"a": 1}\n```\nand {"b": 2}', {"a": 1}),
    ],
)
def test_json_value(text, value):
    assert extract.json_value(text) == value


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, "[NaN]", "9" * 5000, "[" * 500 + "]" * 500, "{'a': 1}"]
)
def test_json_value_refuses_what_is_not_json(text):
    with pytest.raises(ValueError, match="no JSON"):
        extract.json_value(text)


@pytest.mark.parametrize(
    ("text", "answer", "rule"),
    [
        ("#### 5\n\\boxed{7}", "7", "boxed"),
        ("\\boxed{7", None, None),
        ("<answer>7</answer> #### 5", "7", "answer_tag"),
        ("3 + 4\n#### 1,200", "1,200", "stated"),
        ("A: 26", "26", "stated"),
        ("The answer is 42 because 6*7=42.", "42", "stated"),
        ("The answer is 17, not 18.", "17", "stated"),
        ("The answer is 17 rather than 18.", "17", "stated"),
        ("The answer is sqrt(18)", "sqrt(18)", "stated"),
        ("The answer is y = 2x, with slope 2.", "y = 2x", "stated"),
        ("The answer is 17</s>", "17", "stated"),
        ("The answer is 17<end_of_turn>\n", "17", "stated"),
        ("#### 17<|im_end|></s>", "17", "stated"),
        ("The answer is $x<5$. I hope so.", "x<5", "stated"),
        ("The answer is 7\n\nCheck: 3+4=9.", "7", "stated"),
        ("The answer is not 42, it is 43.", "43", "last_number"),
        ("Since $a=3$ we have 5 cases", "5", "last_number"),
        ("Therefore $x \\geq 5$ is the solution.", "x \\geq 5", "last_math"),
        ("It is $f(x)=x^a$ for some $a>0$", "f(x)=x^a", "last_math"),
        ("so $1$ or $2$", "1, 2", "last_math"),
        ("between $12$ and $13$", "13", "last_math"),
        ("The answer is $41$ or $42$.", "41, 42", "stated"),
        ("The answer is 0.333...", "0.333...", "stated"),
        ("one of 40, 41, 42", "40, 41, 42", "last_number"),
        ("It is not 42", None, None),
        ("42 is not the answer", None, None),
        ("arrives at 3:30 p.m.", "3:30 p.m.", "last_number"),
        ("The area is 15 cm^2.", "15\\text{ cm^2}", "last_number"),
        ("\\boxed{5}. Final answer: 7", "7", "stated"),
        ("First \\boxed{42}, but the answer is 43.", "43", "stated"),
        ("\\boxed{5}. I checked my final answer: it holds", "5", "boxed"),
        ("Yes.", "Yes.", "bare"),
        ("x = 1 or x = 2", "x = 1 or x = 2", "bare"),
        ("The circumference is 2π.", "2π", "last_number"),
        ("that makes 2^10", "2^10", "last_number"),
        ("We need x >= 2.", "x >= 2", "last_number"),
        ("The area is 3x^2.", "3x^2", "last_number"),
        ("It is 5 squared", "5 squared", "last_number"),
        ("It takes 2 1/2 hours.", "2 1/2", "last_number"),
        ("It equals sqrt(2).", "sqrt(2)", "last_number"),
        ("The point is (1, 2).", "(1, 2)", "last_number"),
        ("The line is y = 2x + 1.", "2x + 1", "last_number"),
        ("P(A) = \\frac{1}{3}", "\\frac{1}{3}", "last_number"),
        ("It costs $5 million", "$5 million", "last_number"),
        ("The ratio is 3 to 5.", "3 to 5", "last_number"),
        ("It grew from 3 to 5", "5", "last_number"),
        ("It covers 30 square feet.", "30\\text{ square feet}", "last_number"),
        ("so 3 * 5 = 15 apples", "15", "last_number"),
        ("<<3*5=15>>15 apples", "15", "last_number"),
        ("Step 3: it is a 5-year plan", "5", "last_number"),
        ("Total:\n- 5", "5", "last_number"),
        ("It gives => **5**", "5", "last_number"),
        ("It is between 12 and 13", None, None),
        ("It is not equal to 12", None, None),
        ("either 41 or 42", "41 or 42", "last_number"),
        ("<think>\\boxed{1}</think>\\boxed{2}", "2", "boxed"),
        ("<think>\\boxed{1}", None, None),
        ("<THINK>\\boxed{1}", None, None),
        ("<thinking>\\boxed{1}", None, None),
        ("<reasoning>\\boxed{1}</reasoning> It ends", None, None),
        ("42 would be wrong", None, None),
        ("", None, None),
    ],
)
def test_final_answer_keeps_its_priorities(text, answer, rule):
    found = extract.final_answer(text)
    assert found == (None if answer is None else extract.Found(answer, rule))


HOSTILE = [
    "\\boxed{", "\\boxed{a}, ", "$", "$$", "\\(", "<answer>", "<think>", "```\n", "{", '{"', "[",
    "answer is ", "A:\n", "#### ", "1,", "1/", " ", "\n", "\\", "}", "or 1 ", ".", "*",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_work_is_linear_in_the_length(unit):
    """Within the time in which quadratic work on so long a text would not end."""
    text = unit * (200_000 // len(unit))
    started = time.process_time()
    for find in FINDERS:
        find(text)
    assert time.process_time() - started < 10
