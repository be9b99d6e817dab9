"""Text folded so that typography does not matter, with the way back to the original's offsets."""

from __future__ import annotations

import re
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

_QUOTES = dict.fromkeys("‘’‚‛ʼ′`´‹›", "'") | dict.fromkeys("“”„‟″«»〝〞〟", '"')
_DASHES = "‐‑‒–—―−﹘﹣－"
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
_MARKS = "\u0300-\u036f\u1ab0-\u1aff\u20d0-\u20ff\u3099\u309a"
_LOOSE = rf"\s{_INVISIBLE}{_DASHES}\-"
# Characters that folding leaves as they are, so that most text needs no work for each character.
_STABLE = "à-öø-ÿа-џぁ-ゖァ-ヺ一-龥가-힣"
_ODD = re.compile(
    rf"(?P<loose>(?![ \-](?:[^{_LOOSE}]|\Z))[{_LOOSE}]+)"
    rf"|(?P<jamo>[\u1100-\u11ff]{{1,30}})"
    rf"|(?P<other>[!-~]?[{_MARKS}]{{1,30}}|(?![{_STABLE}](?![{_MARKS}]))[^\x00-\x7f][{_MARKS}]{{0,30}}|`)"
)
_NOT_DASHES = re.compile(rf"[\s{_INVISIBLE}]+")
_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|neither|nor|without|cannot|hardly|n't|unlikely|fails?|failed)\b|n't\b"
)
_SENTENCE_END = re.compile(r"[.!?](?=[\s\"')\]]|\Z)")


class Span(NamedTuple):
    """Where text stands in an original: ``original[start:end]``."""

    start: int
    end: int


@dataclass(frozen=True)
class Folded:
    """Folded text and where its characters came from.

    Attributes:
        text: White space runs are one space, quotes are straight, dashes are ``-`` without space
            around them, soft hyphens and zero-width characters are gone, the rest is NFKC; small
            letters if asked for.
        length: Of the original, in characters.
    """

    text: str
    length: int
    _places: array[int] = field(repr=False)  # where a piece begins in the folded text,
    _starts: array[int] = field(repr=False)  # where it begins in the original,
    _ends: array[int] = field(repr=False)  # and where it ends there; -1: character by character

    def span(self, start: int, end: int) -> Span:
        """Where ``text[start:end]``, which is not empty, stands in the original."""
        return Span(self._original(start)[0], self._original(end - 1)[1])

    def _original(self, place: int) -> tuple[int, int]:
        piece = bisect_right(self._places, place) - 1
        start, end = self._starts[piece], self._ends[piece]
        if end >= 0:
            return start, end
        start += place - self._places[piece]
        return start, start + 1


def fold(text: str, *, case: bool = False) -> Folded:
    """Fold text, in time linear in its length.

    Args:
        text: Any text.
        case: Keep upper and lower case apart.
    """
    out: list[str] = []
    places, starts, ends = array("q"), array("q"), array("q")
    length = 0

    def put(piece: str, start: int, end: int) -> None:
        nonlocal length
        if piece:
            places.append(length)
            starts.append(start)
            ends.append(end)
            out.append(piece)
            length += len(piece)

    def put_plain(start: int, end: int) -> None:
        piece = text[start:end]
        put(piece if case else _lower(piece), start, -1)

    done = 0
    for match in _ODD.finditer(text):
        start, end = match.span()
        piece = _folded(match, case)
        if piece == match[0] and len(piece) == 1:  # part of the plain run around it
            continue
        put_plain(done, start)
        put(piece, start, end)
        done = end
    put_plain(done, len(text))
    return Folded("".join(out), len(text), places, starts, ends)


def _lower(text: str) -> str:
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)


def _folded(match: re.Match[str], case: bool) -> str:
    piece = match[0]
    if match.lastgroup == "loose":
        return _spaced(piece)
    return _folded_other(piece, case) if len(piece) < 9 else _other(piece, case)


def _spaced(piece: str) -> str:
    """A run of white space, dashes and invisible characters."""
    dashes = _NOT_DASHES.sub("", piece)
    spaced = "".join(" " if letter.isspace() else letter for letter in piece)
    spaced = spaced.translate(dict.fromkeys(map(ord, _INVISIBLE)))
    if not dashes:
        return " " if spaced else ""
    if dashes == "-" and not (spaced.startswith(" ") and spaced.endswith(" ")):
        return re.sub(" +", " ", spaced)
    return "-"


def _other(piece: str, case: bool) -> str:
    piece = "".join(_QUOTES.get(letter, letter) for letter in piece)
    piece = unicodedata.normalize("NFKC", piece)
    piece = "".join(_QUOTES.get(letter, letter) for letter in piece)
    return piece if case else piece.casefold()


_folded_other = lru_cache(maxsize=1 << 14)(_other)


def word_count(text: str) -> int:
    """How many words: runs of letters and digits; each CJK character is one."""
    return len(re.findall(r"[\u2e80-\u9fff\uac00-\ud7af]|[^\W_\u2e80-\u9fff\uac00-\ud7af]+", text))


def occurrences(needle: str, text: str, most: int) -> Iterator[int]:
    """Where ``needle`` stands in ``text`` as whole words, first to last, at most ``most`` tries."""
    place = text.find(needle)
    while place >= 0 and most > 0:
        if _whole_words(text, place, place + len(needle)):
            yield place
        place = text.find(needle, place + 1)
        most -= 1


def _whole_words(text: str, start: int, end: int) -> bool:
    return not (_joined(text, start) or _joined(text, end))


def _joined(text: str, place: int) -> bool:
    """Whether a word goes on over a place; CJK text has no places between words."""
    around = text[max(0, place - 1) : place + 1] if place else ""
    return len(around) == 2 and all(
        letter.isalnum() and not "\u2e80" <= letter <= "\ud7af" for letter in around
    )


def chain(fragments: Sequence[str], text: str, gap: int, most: int) -> list[int] | None:
    """Where the fragments stand one after another, each at most ``gap`` characters after the last.

    Time is linear in the number of occurrences. Of several ways the one that ends first is taken,
    and for it the nearest fragments.

    Args:
        fragments: Folded, not empty.
        text: Folded.
        gap: Characters that an elision may leave out.
        most: Occurrences of one fragment that are looked at.
    """
    reached: list[tuple[int, int]] = []  # (start, index in the level before) of each level
    levels: list[list[tuple[int, int]]] = []
    for number, fragment in enumerate(fragments):
        found = occurrences(fragment, text, most)
        if number == 0:
            reached = [(place, -1) for place in found]
        else:
            reached = _next_level(reached, len(fragments[number - 1]), found, gap)
        if not reached:
            return None
        levels.append(reached)
    places, index = [], 0
    for level in reversed(levels):
        place, index = level[index]
        places.append(place)
    return places[::-1]


def _next_level(
    reached: Sequence[tuple[int, int]], length: int, found: Iterator[int], gap: int
) -> list[tuple[int, int]]:
    level, nearest = [], -1
    for place in found:
        while nearest + 1 < len(reached) and reached[nearest + 1][0] + length <= place:
            nearest += 1
        if nearest >= 0 and place - (reached[nearest][0] + length) <= gap:
            level.append((place, nearest))
    return level


def negated_before(before: str) -> str | None:
    """The English negation that ends a text in small letters, at most one word before its end."""
    words = re.findall(r"[^\s]+", before)[-2:] if before[-1:] == " " else []
    for place, word in enumerate(reversed(words)):
        if not word.replace("'", "").isalpha() or (place and word == "no"):
            return None  # a sentence or clause ends here
        if _NEGATION.fullmatch(word) or word.endswith("n't"):
            return word
    return None


def dropped_negation(gap: str) -> str | None:
    """An English word of negation that an elision leaves out of the sentences on either side.

    Whole sentences between may go; what is left of the first and of the last may not be negated.
    """
    ends = [match.end() for match in _SENTENCE_END.finditer(gap)]
    parts = [gap[: ends[0]], gap[ends[-1] :]] if ends else [gap]
    found = next((match for part in parts if (match := _NEGATION.search(part))), None)
    return found[0] if found else None
