"""One answer, many spellings, and what looks much like it and must fail."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_verifiers import make

WHOLE = make("math", extract="whole")

SAME = {
    "1234567.89": "1 234 567.89|1\\,234\\,567.89",
    "1000000": "1,000,000|1{,}000{,}000|1\\,000\\,000|1 000 000|1'000'000|1_000_000|10**6|1e6|"
    "\\text{1,000,000}|1 million",
    "12": "12 (option B)|\\text{The sum is }12|12 \\approx 12.0|"
    "= 12|\\boxed{12}|**12**|n := 12|\\approx 12|{12 \\choose 1}|C(12,1)|{}_{12}C_1|12_{10}|"
    "\\max(3,12)|\\operatorname{lcm}(4,6)|\\sum_{k=1}^{3} 2k|\\prod_{k=1}^{2}(k+2)|12;|12\\\\",
    "\\frac{3}{4}": "{3 \\over 4}|3⁄4|^3/_4|\\nicefrac{3}{4}|¾|75\\%",
    "2\\frac{3}{4}": "2 3/4|2 and 3/4|2 \\text{ and } \\frac{3}{4}|2 3/4 cups|2{\\frac{3}{4}}|"
    "2¾|11/4",
    "3\\times 10^{8}": "3e8|3E+08|3*10**8|3 x 10^8|3.0\\cdot10^{8}|3 × 10⁸|"
    "3\\times10^8\\text{ m/s}",
    "0.\\overline{3}": "0.(3)|0.333...|0.\\dot{3}|0.{\\overline{3}}|0.3 repeating|"
    ".\\overline{3}|1/3",
    "1.2\\overline{34}": "1.2(34)|1.2343434...|1.2\\dot{3}\\dot{4}|611/495",
    "\\frac17": "0.\\dot{1}4285\\dot{7}|0.142857142857\\ldots",
    "3-4i": "3-4*I|3-4j|3-4\\mathrm{i}|3-4\\text{i}|-i(4+3i)|3+(-4)i",
    "\\frac{1}{2}+\\frac{\\sqrt{3}}{2}i": "e^{i\\pi/3}|\\operatorname{cis}\\frac{\\pi}{3}|"
    "\\text{cis }60^\\circ|cis(pi/3)|1\\angle 60^\\circ|\\cos 60^\\circ+i\\sin 60^\\circ",
    "1-\\frac1e": "1-\\frac{1}{\\mathrm{e}}|1-e^{-1}",
    "15\\text{ cm}^2": "15 cm²|15\\,\\mathrm{cm^2}|15\\text{ cm$^2$}|15 sq. cm|15 cm squared|15",
    "60\\text{ mph}": "60 miles per hour|60 mi/h|60\\frac{\\text{miles}}{\\text{hour}}|60",
    "60\\text{ km/h}": "60 km h^{-1}|60 kmh^{-1}|60 km/h fast",
    "15\\%": "15\\% increase",
    "-7": "negative 7|minus 7|\\text{negative }7",
    "2\\sqrt3": "2\\surd3",
    "\\frac{7}{12}": "\\frac7{12}\\approx 0.583",
    "100\\pi": "100\\pi\\approx 314|100\\pi \\text{ cm}^2 \\approx 314 \\text{ cm}^2",
    "180-2x": "(180-2x)^\\circ",
    "x=1,y=2": "x = 1 \\\\ y = 2|x=1 \\\\ y=\\frac42",
    "(-\\infty,3]": "]-\\infty,3]",
    "f'(x)=2x": "f^{\\prime}(x)=2x",
    "9.8\\,\\mathrm{m/s^2}": "9.8 m/s^2|9.8 ms^{-2}|9.8 m s^{-2}|9.8\\,\\mathrm{m\\,s^{-2}}|"
    "9.8\\text{ meters per second squared}",
    "\\$5": "5 dollars|USD 5|US\\$5|5.00",
    "90^\\circ": "90°|90^o|90^{\\text{o}}|90 deg|\\ang{90}|\\angle A = 90^\\circ",
    "22.5^\\circ": "22^\\circ30'|22°30'|22^{\\circ}30^{\\prime}",
    "[2,5)": "[2,5[|\\{x: 2\\le x<5\\}|\\{x\\mid 2\\le x<5\\}|x\\ge2, x<5|[2,3]\\cup(3,5)",
    "(-\\infty,2)\\cup(3,\\infty)": "x\\notin[2,3]|(-inf,2) U (3,inf)|\\mathbb{R}-[2,3]|"
    "x\\in(-\\infty,2) \\text{ or } x\\in(3,\\infty)",
    "(-\\infty,\\infty)": "\\text{all real numbers}|\\mathbb R|-\\infty<x<\\infty",
    "(0,1)": "0<f(x)<1",
    "\\emptyset": "\\{\\}|the empty set|\\text{no solution}|No real solutions exist|none",
    "\\{1,2,3\\}": "\\{1,2,3,3\\}|[1,2,3]|1\\\\2\\\\3|x=1,2,3|1, 2, and 3",
    "\\pm 3": "+/-3|3 or -3|x=\\pm3",
    "30^\\circ, 150^\\circ": "30,150",
    "(1,2)": "y=2, x=1|P(1,2)|⟨1,2⟩",
    "(2,3),(3,2)": "x=2,y=3 \\text{ or } x=3,y=2|(x,y)=(2,3) or (3,2)",
    "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}": "\\frac12\\begin{pmatrix}2&4\\\\6&8\\end{pmatrix}|"
    "\\begin{pmatrix}1&3\\\\2&4\\end{pmatrix}^T|\\begin{bmatrix}1&2\\\\[2pt]3&4\\end{bmatrix}|"
    "\\begin{pmatrix}1&2\\cr3&4\\end{pmatrix}\\begin{pmatrix}1&0\\\\0&1\\end{pmatrix}",
    "\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}": "[[1,2],[3,4]]|Matrix([[1, 2], [3, 4]])",
    "\\begin{vmatrix}1&2\\\\3&4\\end{vmatrix}":
    "\\left|\\begin{array}{cc}1&2\\\\3&4\\end{array}\\right|",
    "y=2x+1": "f(x)=2x+1|y(x)=2x+1",
    "f(x)=x^2": "f(t)=t^2|y=x^2|f:x\\mapsto x^2",
    "\\begin{cases}x=1\\\\y=2\\end{cases}": "\\begin{aligned}x&=1\\\\y&=2\\end{aligned}|(1,2)",
    "x=1 \\text{ or } x=2": "x_1=1,x_2=2|x=1or x=2|\\{1,2\\}",
    "|AB|=5": "5",
    "a:b=3:2": "3:2|3 to 2",
    "-1<x\\le2": "-2<2x\\le4|x\\le2 and x>-1",
    "x>3": "x \\text{ is greater than } 3",
    "x\\ge3": "x is greater than or equal to 3",
    "x \\ne 2": "x \\not= 2|x <> 2",
    "101_2": "101_{\\text{two}}|(101)_2|101 base 2|0b101",
    "1A_{16}": "1a_{16}|0x1A|\\text{1A}_{16}",
    "3:30 \\text{ PM}": "15:30|3:30 p.m.|03:30PM",
    "7\\text{ a.m.}": "7:00 AM",
    "A,C": "C, A|A and C|AC",
    "(D) 12": "D|12|D. 12",
    "\\text{hyperbola}": "a hyperbola|\"hyperbola\"|\\textsf{Hyperbola}",
    "\\text{Alice and Bob}": "Alice and Bob",
    "\\frac{2\\sqrt3}{1}": "3.4641016151377544",
}  # fmt: skip

OTHER = {
    "12": "12 \\approx 13|x = 12 \\approx 12 \\approx 13|12 \\approx 13 cm|12_5|"
    "12 (or 13)|12 (not sure)|negative 12|12 or 13|\\pm12|not 12|>12|12:00|12i|12...",
    "\\frac{3}{4}": "0.75\\%|3:4|34",
    "2\\frac{3}{4}": "2 4/3|2, 3/4|2(\\frac34)|2\\cdot\\frac34",
    "3\\times 10^{8}": "3e7|3\\times10^{-8}|3\\times 108",
    "0.\\overline{3}": "0.333|0.\\overline{03}|0.(34)|0.3...",
    "1.2\\overline{34}": "1.234|1.2\\overline{43}",
    "3-4i": "3+4j|4-3i|3\\pm4i|(3,-4)",
    "1-\\frac1e": "1+\\frac{1}{\\mathrm{e}}",
    "\\ln 2": "\\lg 2|\\log_{10} 2",
    "|x-2|": "2-x|x-2",
    "|x-500|": "500-x",
    "\\sqrt{(x-90)^2}": "90-x",
    "15\\text{ cm}^2": "15 cm|15 kg heavy|15 (kilograms)|15 cm³|15 square inches|15 m^2",
    "60\\text{ mph}": "60 km/h|60 miles",
    "60\\text{ km/h}": "60 km h^{-2}|60 km h|60 km m^{-1}",
    "\\pi": "\\pi^\\circ|\\pi \\approx \\sqrt{10}",
    "50\\%": "50\\%\\%",
    "5": "5 tenths|5\\text{ halves}|5\\text{ squared}",
    "42": "42_5|52_9",
    "45\\text{ units}^2": "45\\text{ units}^3|45 cubic units",
    "90^\\circ": "90'|90 rad|\\pi/2",
    "20\\text{ €}": "\\$20|20 pounds",
    "[2,5)": "]2,5[|x\\ge2 or x<5|\\{2,5\\}",
    "\\emptyset": "\\{\\emptyset\\}|\\{0\\}|0",
    "(1,2)": "y=1, x=2|(2,1)|12|x=1 or x=2|1 or 2|(1 or 2)|x=1, x=2|x=1, 2|\\{1\\},\\{2\\}|"
    "(1,2)\\cup(2,1)|"
    "(1,1)\\cup(1,2)",
    "(2,3),(3,2)": "(2,3),(2,3)|(2,3)",
    "f(2)<f(1)<f(4)": "f(2)<f(1)<f(5)|f(1)<f(2)<f(4)",
    "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}": "\\begin{pmatrix}1&3\\\\2&4\\end{pmatrix}|"
    "2\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}|\\begin{vmatrix}1&2\\\\3&4\\end{vmatrix}",
    "f(x)=x^2": "f(x)=t^2|f(t)=t^3",
    "1:2:3": "1:4:9|1:2|1,2,3",
    "a:b=1:20": "1:2|20",
    "101_2": "101_3|5_{10}|110_2|101_{16}",
    "3:30 \\text{ PM}": "3:30 AM|13:30|4:30 PM",
    "20:34": "8:34 AM|20:43",
    "B": "A and B|A/B|not B|neither B nor C|D. B",
    "A,C": "A|A,B|A,B,C",
    "(D) 12": "C|(C) 12|(D) 13",
    "\\text{Alice and Bob}": "Alice or Bob|Alice",
}  # fmt: skip


def cases(table):
    return [(gold, found) for gold, answers in table.items() for found in split(answers)]


def split(answers):
    """At the bars between answers: those without a bracket, sign or letter of LaTeX beside them."""
    return answers.replace("|AB|", "\0AB\0").replace("\\left|", "\\left\0").replace(
        "\\right|", "\\right\0").split("|")  # fmt: skip


def judged(gold: str, found: str) -> str:
    return WHOLE(found.replace("\0", "|"), {"id": 1, "answer": gold}).status


@pytest.mark.parametrize(("gold", "found"), cases(SAME))
def test_spellings_of_one_answer(gold, found):
    assert judged(gold, found) == "correct"


@pytest.mark.parametrize(("gold", "found"), cases(OTHER))
def test_what_looks_much_like_the_answer(gold, found):
    assert judged(gold, found) in ("wrong", "unparsable", "no_answer")


@given(st.integers(0, 999), st.text("0123456789", min_size=1, max_size=6), st.integers(0, 2))
def test_repeating_decimals(whole, digits, index):
    value = whole + Fraction(int(digits), 10 ** len(digits) - 1)
    gold = f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
    found = [f"{whole}.\\overline{{{digits}}}", f"{whole}.({digits})", f"{whole}.{digits * 3}..."]
    assert judged(gold, found[index]) == "correct"
    moved = f"\\frac{{{value.numerator + 1}}}{{{value.denominator}}}"
    assert judged(moved, found[index]) == "wrong"


@given(st.integers(1, 9999), st.integers(-30, 30), st.integers(0, 5))
def test_scientific_notation(mantissa, exponent, index):
    decimal = f"{mantissa // 1000}.{mantissa % 1000:03d}"
    found = [f"{decimal}e{exponent}", f"{decimal}E{exponent:+03d}", f"{decimal}*10**{exponent}",
             f"{decimal} x 10^{exponent}", f"{decimal}\\cdot 10^{{{exponent}}}",
             f"{decimal} × 10^({exponent})"][index]  # fmt: skip
    value = Fraction(mantissa, 1000) * Fraction(10) ** exponent
    assert judged(f"\\frac{{{value.numerator}}}{{{value.denominator}}}", found) == "correct"
    assert judged(f"{decimal}\\times 10^{{{exponent + 1}}}", found) == "wrong"


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 23), st.integers(0, 59))
def test_times_of_day(hour, minute, other_hour, other_minute):
    def marked(hour: int, minute: int) -> str:
        return f"{(hour - 1) % 12 + 1}:{minute:02d} {'PM' if hour > 11 else 'AM'}"

    same = (hour, minute) == (other_hour, other_minute)
    verdict = judged(marked(hour, minute), marked(other_hour, other_minute))
    assert (verdict == "correct") == same
    if hour == 0 or hour > 12:
        assert judged(marked(hour, minute), f"{hour}:{minute:02d}") == "correct"


@given(st.integers(0, 10**6), st.integers(2, 16), st.integers(2, 16))
def test_numbers_in_a_base(value, base, other):
    def digits(base: int) -> str:
        rest, found = value, ""
        while rest or not found:
            rest, digit = divmod(rest, base)
            found = "0123456789ABCDEF"[digit] + found
        return found

    gold, found = f"{digits(base)}_{{{base}}}", f"({digits(other)})_{other}"
    assert (judged(gold, found) == "correct") == (base == other)


@given(st.integers(-99, 99), st.integers(-99, 99), st.sampled_from("ijI"))
def test_complex_numbers(real, imaginary, unit):
    found = f"{real}{imaginary:+d}{unit}"
    assert judged(f"{real}{imaginary:+d}i", found) == "correct"
    assert judged(f"{real}{imaginary + 1:+d}i", found) == "wrong"
