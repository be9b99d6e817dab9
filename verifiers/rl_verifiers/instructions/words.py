"""English words as the Penn Treebank splits them, the way NLTK 3.9 does it."""

from __future__ import annotations

import re
from functools import lru_cache

_CLOSING_OR_SPACE = "])}>\"'»”’ "
_CLOSING = "])}>\"'"
_OPENING_RULES = [
    (re.compile(r"([«“‘„]|`+)"), r" \1 "),
    (re.compile(r'\A"'), "``"),
    (re.compile(r"(``)"), r" \1 "),
    (re.compile(r"([ (\[{<])(\"|'')"), r"\1 `` "),
    (re.compile(r"(?i)(')(?!re|ve|ll|m|t|s|d|n)(\w)\b"), r"\1 \2"),
]
_INNER_RULES = [
    (re.compile(r"([:,])([^\d])"), r" \1 \2"),
    (re.compile(r"([:,])$"), r" \1 "),
    (re.compile(r"(\.{2,})"), r" \1 "),
    (re.compile(r"([;@#$%&])"), r" \1 "),
]
_LATE_RULES = [
    (re.compile(r"([?!])"), r" \1 "),
    (re.compile(r"([^'])' "), r"\1 ' "),
    (re.compile(r"([*\]\[(){}<>])"), r" \1 "),
    (re.compile(r"(--)"), r" \1 "),
]
_CLOSING_RULES = [
    (re.compile(r"([»”’])"), r" \1 "),
    (re.compile(r"''|\""), " '' "),
    (re.compile(r"\s+"), " "),
    (re.compile(r"([^' ])('[sS]|'[mM]|'[dD]|') "), r"\1 \2 "),
    (re.compile(r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) "), r"\1 \2 "),
]
_FUSED = [
    re.compile(rf"(?i)\b({first})({second}){end}")
    for first, second, end in (
        ("can", "not", r"\b"),
        ("d", "'ye", r"\b"),
        ("gim", "me", r"\b"),
        ("gon", "na", r"\b"),
        ("got", "ta", r"\b"),
        ("lem", "me", r"\b"),
        ("more", "'n", r"\b"),
        ("wan", "na", r"(?=\s)"),
    )
] + [re.compile(rf"(?i) ('t)({second})\b") for second in ("is", "was")]


_CACHED_CHARACTERS = 500


def treebank_words(sentence: str) -> list[str]:
    """The words and punctuation marks of one sentence; quotes become `` and ''."""
    if len(sentence) <= _CACHED_CHARACTERS:
        return _split_cached(sentence).split()
    return _split(sentence).split()


@lru_cache(maxsize=4_000)
def _split_cached(sentence: str) -> str:
    """:func:`_split` for the short sentences that the readings of a response share."""
    return _split(sentence)


def _split(sentence: str) -> str:
    text = _substituted(sentence, _OPENING_RULES)
    text = _final_period(text, _CLOSING_OR_SPACE, " . {} ")
    text = _substituted(text, _INNER_RULES)
    text = _final_period(text, _CLOSING, " .{} ")
    text = _substituted(text, _LATE_RULES)
    text = _substituted(f" {text} ", _CLOSING_RULES)
    for fused in _FUSED:
        text = fused.sub(r" \1 \2 ", text)
    return text


def _substituted(text: str, rules: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _final_period(text: str, closing: str, form: str) -> str:
    """Set apart a period that only closing marks and white space follow."""
    period = text.rfind(".")
    if period < 1 or text[period - 1] == ".":
        return text
    tail = text[period + 1 :]
    rest = tail.lstrip(closing)
    if rest.strip():
        return text
    return text[:period] + form.format(tail[: len(tail) - len(rest)])
