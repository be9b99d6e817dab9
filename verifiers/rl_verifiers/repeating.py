r"""Repeating decimals in one spelling: ``0.(3)``, ``0.333...``, ``0.\dot{3}`` as ``\overline``."""

from __future__ import annotations

import re

_NUMBER = r"(?<![\d.])(\d{0,60}\.)"
_WRAPPED = re.compile(
    _NUMBER + r"(\d{0,60})\s?\{\s?\\(?:overline|bar)\s?\{?\s?(\d{1,60})\s?\}?\s?\}"
)
_OVERLINED = re.compile(
    _NUMBER + r"(\d{0,60})\s?\\(?:overline|bar|overbar|widebar)\s?(?:\{\s?(\d{1,60})\s?\}|(\d))"
    r"(?:\s?\.\.\.)?"
)
_DOTTED = re.compile(
    _NUMBER + r"(\d{0,60})\s?\\dot\s?\{?\s?(\d)\s?\}?(?:(\d{0,60})\s?\\dot\s?\{?\s?(\d)\s?\}?)?"
)
_PARENTHESES = re.compile(
    r"(?:^|(?<=[,;=({\[\s-]))(\d{0,60}\.)(\d{0,60})\((\d{1,60})\)(?=\s?(?:$|[,;)}\]]|\.\.\.|\\text))"
)
_DOTS = re.compile(_NUMBER + r"(\d{2,200})\s?\.\.\.(?!\s?,)")
_WORD = re.compile(
    _NUMBER + r"(\d{1,60})\s?(?:\\text\s?\{\s?)?\(?\s?(?:repeating|recurring)\s?\)?\}?"
)


def with_overlines(text: str) -> str:
    r"""``text`` with every repeating decimal as ``0.1\overline{6}``.

    Dots after a decimal repeat what its digits have shown twice at least; a decimal whose digits do
    not repeat (``3.14159...``) stays as it is.
    """
    if "." not in text:
        return text
    if "\\" in text:
        text = _WRAPPED.sub(r"\1\2\\overline{\3}", text)
        text = _OVERLINED.sub(lambda m: _spelt(m[1], m[2], m[3] or m[4]), text)
        text = _DOTTED.sub(_between_dots, text)
    if "(" in text:
        text = _PARENTHESES.sub(r"\1\2\\overline{\3}", text)
    if "..." in text:
        text = _DOTS.sub(_continued, text)
    if "rep" in text or "rec" in text:
        text = _WORD.sub(_last_digit, text)
    return text


def _spelt(whole: str, fixed: str, period: str) -> str:
    return rf"{whole}{fixed}\overline{{{period}}}"


def _between_dots(match: re.Match[str]) -> str:
    between = match[4] or ""
    if match[5] is None:
        return _spelt(match[1], match[2], match[3]) + between
    return _spelt(match[1], match[2], match[3] + between + match[5])


def _last_digit(match: re.Match[str]) -> str:
    digits = match[2]
    fixed = digits.rstrip(digits[-1]) if len(digits) > 1 else ""
    return _spelt(match[1], fixed, digits[-1])


def _continued(match: re.Match[str]) -> str:
    digits = match[2]
    fixed, period = _period(digits)
    return match[0] if not period else _spelt(match[1], fixed, period)


def _period(digits: str) -> tuple[str, str]:
    """Digits before the period, and the period that covers most of ``digits``, twice at least."""
    best = (0, 0)
    for size in range(1, min(30, len(digits) // 2) + 1):
        covered = size
        while covered < len(digits) and digits[-covered - 1] == digits[size - covered - 1]:
            covered += 1
        if covered >= 2 * size and covered > best[0]:
            best = (covered, size)
    covered, size = best
    start = len(digits) - covered
    return digits[:start], digits[start : start + size]
