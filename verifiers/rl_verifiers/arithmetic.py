r"""Check the arithmetic that a text states: every ``a op b = c`` in it, exactly.

Looked at are only equations of numbers, found between words: ``3 + 4 * 2 = 11``,
``\frac{1}{2} \cdot 6 = 3``, ``$1,200 / 12 = $100``, chains ``2 * 3 = 6 = 12 / 2``. Anything with a
variable is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from rl_verifiers.expressions import (
    Node,
    NotExactError,
    OverLimitError,
    UnparsableError,
    exact,
    parts,
)
from rl_verifiers.parse import parse_answer

MAX_SIDE = 200
"""Characters of one side of an equation."""
MAX_LINKS = 2_000
"""Pairs of sides in a text that are looked at."""

_COMMANDS = {
    r"\times": "*", r"\cdot": "*", r"\div": "/", r"\approx": "≈", r"\left": "", r"\right": "",
    r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\%": "%", r"\$": "$", r"\,": "", r"\;": " ",
    r"\!": "", r"\(": "\n", r"\)": "\n", r"\[": "\n", r"\]": "\n",
}  # fmt: skip
_COMMAND = re.compile(r"\\(?:[A-Za-z]+|[^A-Za-z])")
_SIGNS = str.maketrans({"×": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-", "∗": "*"})
_TIMES = re.compile(r"(?<=[\d)])\s{0,3}x\s{0,3}(?=[\d(])")
_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_TOKEN = re.compile(
    rf"(?P<number>{_NUMBER})|(?P<frac>\\frac(?![A-Za-z]))|(?P<sign>[-+*/^(){{}}%$=≈])"
)
_GLUED = re.compile(r"[\w\\^({\[]|\s?[*/^]|[.:]\d|\.\\")
_AMBIGUOUS = re.compile(rf"\d\s+[\d.]|/\s*(?:{_NUMBER})\s*/|(?<![\d.,])0\d|[,.]\Z")
_REMAINDER = re.compile(r"\s{0,3}(?:r(?:em(?:ainder)?)?|mod)\b", re.IGNORECASE)
_RELATIONS = "=≈"


class Equation(NamedTuple):
    """An equation as it is written, and whether it holds."""

    text: str
    holds: bool


def equations(text: str) -> Iterator[Equation]:
    """Every equation between numbers that a text states, in its order, each link of a chain.

    A side that is a decimal may be the other one rounded or cut off, and after ``≈`` a whole number
    may be one rounded to its last digit that is not 0; a percent may stand for its number. A
    division by zero equals nothing. What can be read in two ways is left out (``1 1/2``,
    ``6 / 1/2``, ``Day 2 = 3 + 4``), and so is what is too long, too large or does not parse.

    Raises:
        OverLimitError: There are more than ``MAX_LINKS``.
    """
    links = 0
    for run, after in _runs(_plain(text)):
        sides = re.split(r"([=≈])", run)
        for index in range(0, len(sides) - 2, 2):
            links += 1
            if links > MAX_LINKS:
                raise OverLimitError(f"over {MAX_LINKS:,} equations")
            left, right = sides[index].strip(), sides[index + 2].strip()
            is_last = index == len(sides) - 3
            if is_last and _REMAINDER.match(after):
                continue
            holds = _holds(left, right, roughly=sides[index + 1] == "≈")
            if holds is not None:
                yield Equation(f"{left} {sides[index + 1]} {right}", holds)


def _plain(text: str) -> str:
    """LaTeX commands and signs as the signs of a calculator; GSM8K's ``<<3+4=7>>`` left out."""
    text = re.sub(r"<<[^<>\n]{0,200}>>", "", text)
    text = _COMMAND.sub(lambda match: _COMMANDS.get(match[0], match[0]), text.translate(_SIGNS))
    return _TIMES.sub(" * ", text)


def _runs(text: str) -> Iterator[tuple[str, str]]:
    """Stretches of numbers and signs that have a relation in them, and the text right after each.

    One that begins right after a letter, or with an operator after a word, is part of something
    else, and its first side is left out; the same goes for its end.
    """
    position = 0
    while (match := _TOKEN.search(text, position)) is not None:
        start = end = match.start()
        token: re.Match[str] | None = match
        while token is not None:
            end = token.end()
            space = re.compile(r"[^\S\n]*").match(text, end)
            token = _TOKEN.match(text, space.end() if space else end)
        position = end
        run = text[start:end]
        if "=" in run or "≈" in run:
            yield _whole_sides(run, text[max(0, start - 3) : start], text[end : end + 16])


def _whole_sides(run: str, before: str, after: str) -> tuple[str, str]:
    near = before.rstrip(" \t")
    inside = bool(re.search(r"[\w\\^_.,:]\Z", before)) or (
        bool(re.match(r"\s*[-+*/^)}%]", run)) and bool(re.search(r"[\w)\]}]\Z", near))
    )
    variable = re.search(r"(?<![A-Za-z])[A-Za-z]\Z", near)
    label = near[-1:].isalpha() and re.match(r"[\d.,]+\s*[=≈]", run)
    if inside or label or (variable and variable[0] not in "aI"):
        run = run[min(run.find(sign) for sign in _RELATIONS if sign in run) :]
    if _GLUED.match(after) or re.match(r"\s[A-Za-z](?![A-Za-z])", after):
        run = run[: max(map(run.rfind, _RELATIONS)) + 1]
    return run, after


def _holds(left: str, right: str, *, roughly: bool) -> bool | None:
    """Whether two sides are equal; None where they are no arithmetic, or none is computed."""
    if not re.search(r"[\d)}]\s*[-+*/^]|frac|\d\(", f"{left}#{right}"):
        return None
    try:
        first, second = _value(left), _value(right)
    except ZeroDivisionError:
        return False
    if first is None or second is None:
        return None
    factors = (1, 100, Fraction(1, 100)) if "%" in left + right else (1,)
    return any(
        first * by == second
        or _rounds(first * by, second, right, roughly)
        or _rounds(second, first * by, left, roughly)
        for by in factors
    )


def _value(side: str) -> Fraction | None:
    side = side.replace("$", " ").strip()
    if not side or len(side) > MAX_SIDE or not re.search(r"\d", side):
        return None
    if side[0] in "*/^+)}%" or side[-1] in "-+*/^({" or _AMBIGUOUS.search(side):
        return None
    side = re.sub(r"(?<=\d),(?=\d{3})", "", side)
    side = re.sub(r"(\d*\.?\d+)\s?%", r"(\1/100)", side)
    side = re.sub(r"(\.\d+)\(", r"\1*(", side)  # .4(80) is no repeating decimal here
    try:
        node = parse_answer(side)
    except (UnparsableError, OverLimitError):
        return None
    try:
        return exact(node)
    except NotExactError:
        if _divides_by_zero(node):
            raise ZeroDivisionError from None
        return None
    except OverLimitError:
        return None


def _divides_by_zero(node: Node) -> bool:
    """Whether a quotient in an expression has a divisor that is 0, as far as it is computed."""
    for part in parts(node):
        try:
            if part.op == "div" and exact(part.args[1]) == 0:
                return True
        except (NotExactError, OverLimitError):
            continue
    return False


def _rounds(value: Fraction, shown: Fraction, text: str, roughly: bool) -> bool:
    """Whether a side that is a plain number gives the other, to the places that it has."""
    match = re.fullmatch(r"[-$\s]*([\d,]*)(?:\.(\d+))?\s?%?", text)
    if match is None or not (match[2] or roughly):
        return False
    unit = Fraction(1, 10 ** len(match[2] or ""))
    if not match[2]:
        digits = match[1].replace(",", "")
        unit *= 10 ** (len(digits) - len(digits.rstrip("0")) if digits.strip("0") else 0)
    if "%" in text:
        unit /= 100
    difference = abs(value) - abs(shown)
    return -unit / 2 <= difference < unit and (value < 0) == (shown < 0)
