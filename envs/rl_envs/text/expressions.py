"""Arithmetic expressions a model wrote, evaluated exactly and without ``eval``."""

from __future__ import annotations

import re
from fractions import Fraction

MAX_CHARACTERS = 300
MAX_DEPTH = 20

_TOKEN = re.compile(r"\s*(?:([0-9]{1,9})(?![0-9])|([-+*/()]))")
_SPELLINGS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "[": "(", "]": ")"})
_LATEX = (("\\times", "*"), ("\\cdot", "*"), ("\\div", "/"), ("\\left", ""), ("\\right", ""))


class ExpressionError(ValueError):
    """The text is not an expression; the message says why."""


def evaluate(text: str) -> tuple[Fraction, list[int]]:
    r"""The exact value of an expression of non-negative integers, and the integers it uses.

    Knows ``+ - * /``, parentheses, ``× ÷`` and ``\times \cdot \div``; a sign is not an operator.

    Raises:
        ExpressionError: Too long, too deep, malformed, or a division by zero.
    """
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(f"longer than {MAX_CHARACTERS} characters")
    for spelling, plain in _LATEX:
        text = text.replace(spelling, plain)
    parser = _Parser(_tokens(text.translate(_SPELLINGS)))
    value = parser.sum(0)
    if parser.next is not None:
        raise ExpressionError(f"{parser.next!r} where the expression should end")
    return value, parser.numbers


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    text = text.rstrip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise ExpressionError(f"cannot read {text[position : position + 10]!r}")
        tokens.append(found.group(1) or found.group(2))
        position = found.end()
    return tokens


class _Parser:
    """Recursive descent over ``sum = product ((+|-) product)*``; depth is capped."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._place = 0
        self.numbers: list[int] = []

    @property
    def next(self) -> str | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def sum(self, depth: int) -> Fraction:
        value = self._product(depth)
        while self.next in ("+", "-"):
            operator = self._take()
            operand = self._product(depth)
            value = value + operand if operator == "+" else value - operand
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._atom(depth)
        while self.next in ("*", "/"):
            operator = self._take()
            operand = self._atom(depth)
            if operator == "/" and operand == 0:
                raise ExpressionError("division by zero")
            value = value * operand if operator == "*" else value / operand
        return value

    def _atom(self, depth: int) -> Fraction:
        token = self._take()
        if token.isdigit():
            self.numbers.append(int(token))
            return Fraction(int(token))
        if token != "(" or depth >= MAX_DEPTH:
            raise ExpressionError(f"{token!r} where a number should be, or too deep")
        value = self.sum(depth + 1)
        if self._take() != ")":
            raise ExpressionError("a parenthesis is not closed")
        return value

    def _take(self) -> str:
        token = self.next
        if token is None:
            raise ExpressionError("the expression breaks off")
        self._place += 1
        return token
