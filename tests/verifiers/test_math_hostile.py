"""Answers that are meant to hang, crash, exploit or confuse. Each gets a verdict by limits on work.

The worker's limit on processor time is a second wall: no test here may need it, so its message
must not appear.
"""

import pytest

from rl_verifiers import make, score_sync

WHOLE, FINAL = make("math", extract="whole"), make("math")
LARGE = ",".join(map(str, range(2000)))

HOSTILE = {
    "tower of powers": "9^{9^{9^{9}}}",
    "power of a power": "2^{10^{10}}",
    "python powers": "10**10**10",
    "negative tower": "10^{-10^{10}}",
    "tower of e": "e^{e^{e^{e^{10}}}}",
    "symbolic power": "x^{99999999}",
    "factorial": "1000000!",
    "factorial tower": "((((9!)!)!)!)!",
    "real factorial": "(\\sqrt{2}+10^{9})!",
    "binomial": "\\binom{10^6}{5\\cdot10^5}",
    "gamma": "\\Gamma(10^6)",
    "root of huge degree": "\\sqrt[10^{100}]{2}",
    "huge angle": "\\sin(10^{5000})",
    "long integer": "9" * 100_000,
    "long integer under the limit of characters": "9" * 15_000,
    "exponent": "1e1000000",
    "exponent in LaTeX": "1 \\times 10^{1000000000}",
    "deep fractions": "\\frac{1}{" * 500 + "1" + "}" * 500,
    "fractions without arguments": "\\frac" * 3000,
    "parentheses": "(" * 20_000 + "1" + ")" * 20_000,
    "braces": "{" * 5000,
    "roots": "\\sqrt{" * 200 + "2" + "}" * 200,
    "bars": "|" * 1000,
    "subscripts": "x_{" * 3000,
    "superscripts": "²" * 5000,
    "degrees": "1" + "^\\circ" * 2000,
    "applied functions": "f(" * 45 + "x" + ")" * 45,
    "sines": "\\sin(\\cos(" * 20 + "x" + "))" * 20,
    "long list": LARGE,
    "long set": f"\\{{{LARGE}\\}}",
    "list of expressions": ",".join(f"x+{i}" for i in range(300)),
    "long sum": "1+" * 9000 + "1",
    "long symbolic sum": "+".join(f"x^{{{i}}}" for i in range(800)),
    "long product": "x y " * 2000,
    "large matrix": "\\begin{pmatrix}" + "\\\\".join(["1" + "&1" * 59] * 60) + "\\end{pmatrix}",
    "unions": "(1,2)\\cup" * 200 + "(1,2)",
    "plus-minus": "1" + "\\pm 1" * 40,
    "infinite sum": "\\sum_{k=1}^{10^9} k",
    "integral": "\\int_0^1 e^{-x^2} dx",
    "import": "__import__('os').system('id')",
    "lambda": "(lambda: 42)()",
    "classes": "().__class__.__bases__[0].__subclasses__()",
    "zero-width space": "4\u200b2",
    "Arabic digits": "\u200f\u0664\u0662",
    "surrogate": "\ud800",
    "null": "42\0",
    "None": "None",
    "not a number": "nan",
    "near miss": "42+10^{-40}",
    "spaces": " " * 100_000 + "41",
    "commas": "," * 100_000,
}


@pytest.mark.parametrize("gold", ["42", "x^2+\\sqrt{2}"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_gets_a_verdict(name, gold):
    score = score_sync(WHOLE, HOSTILE[name], {"id": name, "answer": gold})
    assert score.status in ("wrong", "unparsable", "over_limit", "no_answer")
    assert "time" not in score.reason
    assert "deadline" not in score.reason


@pytest.mark.parametrize("unit", ["\\boxed{", "\\boxed{41}, ", "answer is ", "1, ", "(", "$"])
def test_a_hostile_completion_gets_a_verdict(unit):
    score = FINAL(unit * (900_000 // len(unit)), {"id": unit, "answer": "42"})
    assert score.status in ("wrong", "unparsable", "over_limit", "no_answer")


def test_the_right_box_after_many_wrong_ones_wins():
    text = "no, \\boxed{41} is wrong; " * 10_000 + "\\boxed{42}"
    assert FINAL(text, {"id": 1, "answer": "42"}).passed


def test_a_long_set_equals_itself_reversed():
    reverse = ",".join(map(str, reversed(range(2000))))
    assert WHOLE(f"\\{{{reverse}\\}}", {"id": 1, "answer": f"\\{{{LARGE}\\}}"}).passed


def test_the_same_huge_text_is_the_same_answer():
    assert WHOLE("9^{9^{9^{9}}}", {"id": 1, "answer": "9^{9^{9^{9}}}"}).passed
