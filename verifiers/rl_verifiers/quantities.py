r"""The exact fast path of mathematics: normalised text, and numbers as rationals.

Nothing here approximates: ``0.5``, ``1/2``, ``\frac{1}{2}`` and ``50\%`` are read as fractions.
"""

from __future__ import annotations

import re
from fractions import Fraction

from rl_verifiers.typography import (
    latinised,
    unboxed,
    without_delimiters,
    without_double_escapes,
    without_entities,
    without_label,
)

MAX_DIGITS = 4000
"""Longer literals are refused: reading a number of n digits costs n squared."""
MAX_EXPONENT = 4000
"""Largest power of ten in a literal such as ``6e23``."""

_DROPPED = re.compile(
    r"\\(?:left|right)\s?\.|\\left(?![a-zA-Z])|\\right(?![a-zA-Z])|(?<!\\)\\[!,;: ]"
    r"|\\q?quad|\\displaystyle"
    r"|\\(?:[bB]igg?)[lrm]?(?![a-zA-Z])|\\(?:limits|nolimits|checkmark|strut|unit)(?![a-zA-Z])"
    r"|\\(?:textstyle|scriptstyle|bf|it|mathop|phantom\{\})(?![a-zA-Z])"
    r"|\\(?:color|textcolor)\s?\{[a-zA-Z]{1,20}\}|\\[hv]space\*?\{[^{}]{0,20}\}"
)
_REPLACED = {
    "{,}": ",", "\\dfrac": "\\frac", "\\tfrac": "\\frac", "\\cfrac": "\\frac",
    "\\nicefrac": "\\frac", "\\sfrac": "\\frac", "\\%": "%", "\\$": "$", "~": " ",
    "\\textdollar": "$", "\\mathdollar": "$", "\\pounds": "£", "\\euro": "€", "US$": "$",
    "a.m.": "am", "p.m.": "pm", "A.M.": "AM", "P.M.": "PM", "\\textdegree": "^\\circ",
    "\\lbrace": "\\{", "\\rbrace": "\\}", "\\lbrack": "[", "\\rbrack": "]",
    "\\dots": "...", "\\ldots": "...", "\\cdots": "...", ":=": "=", "\\coloneqq": "=",
}  # fmt: skip
_REPLACE = re.compile("|".join(re.escape(key) for key in sorted(_REPLACED, key=len, reverse=True)))
_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"),
             ("*", "*"), ('"', '"'), ("'", "'"))  # fmt: skip

_PLAIN = re.compile(r"-?[0-9]{1,300}(?:\.[0-9]{1,300})?")
_SINGLE_BACKSLASH = re.compile(r"(?<!\\)\\(?!\\)")
_ESCAPED = re.compile(r"\\\\(?:[a-zA-Z]{2}|[{}%$)\]!,;:])")
_TIGHT = re.compile(r"\\!\s*")
_SPACED = re.compile(r"-?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_GROUPED = re.compile(r"(?<=\d)(?:\\[,;: ]|~|_|')(?=\d{3}(?!\d))")
_PUNCTUATION = re.compile(
    r"(?<=\d)\s?(?:\\(?:text|math(?:bin|ord|punct|rel))\s?)?\{\s?([.,:])\s?\}\s?(?=\d)"
)

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.\d*)?|\.\d+)"
_LITERAL = re.compile(
    rf"(?P<sign>[-+])?\s*(?:[$€£¥]|USD)?\s*(?P<sign2>-)?(?P<whole>{_DECIMAL})"
    r"(?:\s*(?:[eE]|(?:\\times|\\cdot|\*|[xX])\s*10\s*(?:\^|\*\*))\s*"
    r"(?:\{\s*(?P<exp>[-+]?\d{1,6})\s*\}|\(?(?P<exp2>[-+]?\d{1,6})\)?))?"
)
_FRACTION = re.compile(
    rf"(?P<sign>[-+])?\s*(?:(?P<mixed>\d+)\s*)?\\frac\s*"
    rf"(?:\{{\s*(?P<n>[-+]?\s*{_INTEGER})\s*\}}|(?P<n1>\d))\s*"
    rf"(?:\{{\s*(?P<d>[-+]?\s*{_INTEGER})\s*\}}|(?P<d1>\d))"
)
_SLASH = re.compile(
    rf"(?P<sign>[-+])?\s*(?:(?P<mixed>\d+)\s+)?(?P<n>{_INTEGER})\s*/\s*(?P<d>[-+]?{_INTEGER})"
)


def normalised(text: str) -> str:
    """``text`` without what never changes its meaning: dollars, spacing, labels, a full stop."""
    if _PLAIN.fullmatch(text):
        return text
    if not text.isascii():
        text = latinised(text)
    if "&" in text:
        text = without_entities(text)
    if "\\\\" in text and _ESCAPED.search(text) and not _SINGLE_BACKSLASH.search(text):
        text = text.replace("\\\\", "\\")  # escaped once too often, as by a JSON writer
    text = without_label(text.strip())
    if "\\" in text or "$" in text:
        text = without_delimiters(text)
    if "\\\\" in text:
        text = without_double_escapes(text)
    if "{" in text:
        text = _PUNCTUATION.sub(r"\1", unboxed(text.strip()))
    text = _GROUPED.sub("", _TIGHT.sub("", text))
    text = _REPLACE.sub(lambda match: _REPLACED[match[0]], text)
    text = " ".join(_DROPPED.sub(" ", text).split())
    if _SPACED.fullmatch(text):
        text = text.replace(" ", "")
    text = _without_wrappers(text)
    return text[:-1] if text.endswith("!") and text[:-1].isalpha() and len(text) > 2 else text


def _without_wrappers(text: str) -> str:
    for _ in range(4):
        before = text
        if not text.endswith("..."):
            text = text.rstrip(" .,;\\")
        for opening, closing in _WRAPPERS:
            if text.startswith(opening):
                text = _unwrapped(text, opening, closing)
        if text == before:
            break
    return text


def _unwrapped(text: str, opening: str, closing: str) -> str:
    inside = text[len(opening) : len(text) - len(closing)]
    wrapped = bool(inside) and text.startswith(opening) and text.endswith(closing)
    return text if not wrapped or opening in inside or closing in inside else inside.strip()


def number(text: str) -> Fraction | None:
    r"""The exact value of a normalised number literal; None where it is anything else.

    Read are ``-1,234.50``, ``$5``, ``3/4``, ``1 3/4``, ``\frac{3}{4}``, ``1\frac34``, ``6.02e23``
    and ``6.02 \times 10^{23}``. Percent signs and units are left to the caller.
    """
    if not text or len(text) > MAX_DIGITS or not text.isascii():
        return None
    if match := _LITERAL.fullmatch(text):
        return _literal(match)
    match = _FRACTION.fullmatch(text) or _SLASH.fullmatch(text)
    return None if match is None else _fraction(match)


def _literal(match: re.Match[str]) -> Fraction | None:
    exponent = int(match["exp"] or match["exp2"] or 0)
    if abs(exponent) > MAX_EXPONENT:
        return None
    whole, _, decimals = match["whole"].replace(",", "").partition(".")
    if match["sign"] and match["sign2"]:
        return None
    value = Fraction(_integer(whole + decimals), 10 ** len(decimals))
    value *= Fraction(10) ** exponent
    return -value if "-" in (match["sign"], match["sign2"]) else value


def _fraction(match: re.Match[str]) -> Fraction | None:
    groups = match.groupdict()
    top = _integer(groups["n"] or groups.get("n1") or "")
    bottom = _integer(groups["d"] or groups.get("d1") or "")
    if bottom == 0:
        return None
    value = Fraction(top, bottom)
    if match["mixed"]:
        if value < 0:
            return None
        value += _integer(match["mixed"])
    return -value if match["sign"] == "-" else value


def _integer(digits: str) -> int:
    return int(digits.replace(",", "").replace(" ", "") or "0")
