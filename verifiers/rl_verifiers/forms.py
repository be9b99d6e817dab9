r"""Answers that have a form of their own: numbers in a base, times of day, options."""

from __future__ import annotations

import re
from collections.abc import Callable

from rl_verifiers.expressions import Node, UnparsableError, num

_BASES = {
    name: base
    for base, name in enumerate(
        [
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
        ],
        start=2,
    )
} | {"binary": 2, "bin": 2, "octal": 8, "oct": 8, "decimal": 10, "dec": 10, "hex": 16}
_BASE = r"(?P<base>\d{1,2}|[a-z]{3,9})"
_TEXTUAL = r"\\(?:text|textrm|mathrm|rm|operatorname|textbf|mathbf)\s?\{\s?"
_BASED = re.compile(
    rf"(?P<sign>-)?\s?(?:{_TEXTUAL}|[({{]\s?)?(?P<digits>[0-9A-Za-z]{{1,200}})\s?[)}}]?"
    rf"(?:{_TEXTUAL}(?P<more>[0-9A-Za-z]{{1,200}})\s?\}}(?P<rest>[0-9A-Za-z]{{0,200}}))?"
    rf"\s?_\s?\{{?\s?(?:{_TEXTUAL})?\(?\s?{_BASE}\s?\)?\s?\}}{{0,2}}"
)
_SPELT = re.compile(
    rf"(?P<digits>[0-9A-Fa-f]{{1,200}})\s?(?:{_TEXTUAL})?\(?\s?(?:in\s)?base[\s\-]?\}}?\s?{_BASE}\)?\s?\}}?"
)
_PREFIXED = re.compile(r"0(?P<base>[bxo])(?P<digits>[0-9A-Fa-f]{1,200})")
_PREFIXES = {"b": 2, "o": 8, "x": 16}
_HALF = rf"\s?(?:{_TEXTUAL})?(?P<half>[aApP])\.?\s?[mM]\.?\s?\}}?"
_TIME = re.compile(
    rf"(?:{_TEXTUAL})?(?P<hour>\d{{1,2}}):(?P<minute>\d{{2}})(?::(?P<second>\d{{2}}))?\}}?(?:{_HALF})?"
)
_HOUR = re.compile(rf"(?:{_TEXTUAL})?(?P<hour>\d{{1,2}}){_HALF}")
_OPTION = re.compile(
    r"(?:\\(?:text|textbf|mathbf|mathrm|bf)\s?\{\s?)?(?:\((?P<a>[A-J])\)|(?P<b>[A-J])[.)]|(?P<c>[B-HJ])(?=\s[A-Z][a-z]))"
    r"\s?\}?\s?(?P<content>\S.*)"
)


def special(text: str, parse: Callable[[str], Node]) -> Node | None:
    """The node of an answer that has one of the forms of this module; None for any other.

    Args:
        text: A rewritten answer.
        parse: Reads the content of an option.

    Raises:
        UnparsableError: Digits that the base does not have.
    """
    if "_" in text or "base" in text or text[:1] == "0":
        match = _BASED.fullmatch(text) or _SPELT.fullmatch(text) or _PREFIXED.fullmatch(text)
        if match is not None and (node := _number(match)) is not None:
            return node
    if ":" in text[:12] and (match := _TIME.fullmatch(text)):
        return _time(match)
    if text[:1].isdigit() and len(text) < 30 and (match := _HOUR.fullmatch(text)):
        return _time(match)
    return _option(text, parse) if text[:1] in "(\\ABCDEFGHIJ" else None


def _option(text: str, parse: Callable[[str], Node]) -> Node | None:
    match = _OPTION.fullmatch(text)
    if match is None or _OPTION.match(match["content"]):
        return None
    try:
        content = parse(match["content"])
    except ValueError:
        return None
    return Node("option", (content,), match["a"] or match["b"] or match["c"])


def _number(match: re.Match[str]) -> Node | None:
    groups = match.groupdict()
    digits = groups["digits"] + (groups.get("more") or "") + (groups.get("rest") or "")
    name = groups["base"]
    base = _PREFIXES.get(name) or _BASES.get(name) or (int(name) if name.isdigit() else 0)
    if not 2 <= base <= 36 or (digits.isalpha() and not _are_digits(digits, base, match[0])):
        return None
    node = based(digits, base)
    return Node("neg", (node,)) if groups.get("sign") else node


def _are_digits(letters: str, base: int, text: str) -> bool:
    """Whether letters alone are digits: ``AB_{16}``; but ``x_2``, ``A_2``, ``S_{20}`` are names."""
    is_marked = letters.isupper() or text.lstrip("- ").startswith(("\\", "("))
    return is_marked and all(int(letter, 36) < base for letter in letters)


def based(digits: str, base: int) -> Node:
    """A number in a base.

    Raises:
        UnparsableError: The base lacks one of the digits.
    """
    try:
        int(digits, base)
    except ValueError:
        raise UnparsableError(f"{digits!r:.20} is not a number in base {base}") from None
    return Node("based", value=(digits.upper().lstrip("0") or "0", base))


def _time(match: re.Match[str]) -> Node | None:
    groups = match.groupdict()
    hour, minute = int(groups["hour"]), int(groups.get("minute") or 0)
    second, half = int(groups.get("second") or 0), (groups["half"] or "").lower()
    if hour > 24 or minute > 59 or second > 59:
        return None
    return Node("time", (num(hour), num(minute)), (hour, minute, second, half))


def same_time(one: Node, other: Node) -> bool:
    """Whether two times of day agree; one without a.m. or p.m. may be either, up to 12:59."""
    (hour, *rest, half), (other_hour, *other_rest, other_half) = one.value, other.value
    if rest != other_rest:
        return False
    if bool(half) == bool(other_half):
        return bool(half == other_half and hour == other_hour)
    marked, marker, plain = (hour, half, other_hour) if half else (other_hour, other_half, hour)
    if plain == 0 or plain > 12:
        return bool(plain % 24 == marked % 12 + (12 if marker == "p" else 0))
    return bool(plain == marked)
