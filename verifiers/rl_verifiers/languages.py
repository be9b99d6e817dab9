"""Which language a text is in: by its script first, by a detector where that is not enough.

A script is looked up exactly. Among languages that share one, ``py3langid`` (langid.py's method:
Lui and Baldwin, ACL 2012) decides, a segment at a time; it is deterministic and its time linear.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

_CLASSES = {
    "Latin": "A-Za-zªºÀ-ÖØ-öø-ʯ̀-ͯᴀ-ᶿḀ-ỿＡ-Ｚａ-ｚ",
    "Greek": "Ͱ-Ͻ\u037f-Ͽἀ-῿",
    "Cyrillic": "Ѐ-ԯᲀ-᲏",
    "Armenian": "Ա-֏",
    "Hebrew": "\u0591-\u05bd\u05d0-\u05f2",
    "Arabic": "\u0610-\u061a\u0620-\u065f\u066e-\u06d3\u06d5-\u06ef\u06fa-\u06ff\u0750-\u077f"
    "\u08a0-\u08ff\u200c\u200d\ufb50-\ufdff\ufe70-\ufefc",
    "Devanagari": "\u0900-\u0963\u0970-\u097f",
    "Bengali": "\u0980-\u09e3\u09f0-\u09fe",
    "Gurmukhi": "\u0a01-\u0a65\u0a70-\u0a76",
    "Gujarati": "\u0a81-\u0ae3\u0af9-\u0aff",
    "Odia": "\u0b01-\u0b63\u0b70-\u0b77",
    "Tamil": "\u0b82-\u0bd7",
    "Telugu": "\u0c00-\u0c63",
    "Kannada": "\u0c80-\u0ce3",
    "Malayalam": "\u0d00-\u0d63\u0d7a-\u0d7f",
    "Sinhala": "\u0d81-\u0df3",
    "Thai": "\u0e01-\u0e3a\u0e40-\u0e4e",
    "Lao": "\u0e81-\u0ece",
    "Tibetan": "\u0f00\u0f40-\u0fbc",
    "Myanmar": "\u1000-\u103f\u1050-\u109f",
    "Georgian": "\u10a0-\u10ff\u1c90-\u1cbf",
    "Hangul": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af",
    "Ethiopic": "\u1200-\u135f\u1380-\u139f",
    "Khmer": "\u1780-\u17d3",
    "Kana": "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "Han": "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
}
_RUN = re.compile("|".join(f"(?P<{name}>[{ranges}]+)" for name, ranges in _CLASSES.items()))

_LATIN = (
    "en de fr es it pt nl sv da no fi pl cs sk sl hr ro hu tr vi id tl sw et lv lt sq eu ca gl is "
    "ga cy af mt eo la az uz"
)
_BY_SCRIPT = {
    "Latin": _LATIN.split(),
    "Cyrillic": ["ru", "uk", "be", "bg", "sr", "mk", "kk", "ky", "mn", "tg"],
    "Arabic": ["ar", "fa", "ur", "ps", "ug"],
    "Devanagari": ["hi", "mr", "ne"],
    "Bengali": ["bn", "as"],
    "Greek": ["el"],
    "Armenian": ["hy"],
    "Hebrew": ["he"],
    "Gurmukhi": ["pa"],
    "Gujarati": ["gu"],
    "Odia": ["or"],
    "Tamil": ["ta"],
    "Telugu": ["te"],
    "Kannada": ["kn"],
    "Malayalam": ["ml"],
    "Sinhala": ["si"],
    "Thai": ["th"],
    "Lao": ["lo"],
    "Tibetan": ["bo"],
    "Myanmar": ["my"],
    "Georgian": ["ka"],
    "Hangul": ["ko"],
    "Ethiopic": ["am"],
    "Khmer": ["km"],
    "Han": ["zh"],
    "Kana": ["ja"],
}
_ALSO = {"ja": ("Han",), "sr": ("Latin",)}
_SAME = {"nb": "no", "nn": "no", "bs": "hr", "ms": "id", "yue": "zh", "wuu": "zh", "fil": "tl"}
_NAMES = {
    "english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it",
    "portuguese": "pt", "dutch": "nl", "russian": "ru", "ukrainian": "uk", "chinese": "zh",
    "japanese": "ja", "korean": "ko", "arabic": "ar", "persian": "fa", "hindi": "hi",
    "bengali": "bn", "turkish": "tr", "vietnamese": "vi", "thai": "th", "polish": "pl",
    "hebrew": "he", "greek": "el", "swedish": "sv", "finnish": "fi", "indonesian": "id",
}  # fmt: skip

LANGUAGES: dict[str, tuple[str, ...]] = {
    code: (script, *_ALSO.get(code, ())) for script, codes in _BY_SCRIPT.items() for code in codes
}
"""The languages by ISO 639-1 code, each with its scripts, the one that is its own first."""

SEGMENT_LETTERS = 40
"""Least letters of a segment that a detector is asked about; shorter sentences are joined."""
MAX_SEGMENTS = 1_000
CLEARLY = 9.0
"""By how much the log-likelihood of another language must exceed that of the one wanted."""
CODE_CHARACTERS = 3
_SENTENCE = re.compile(r"[.!?。！？।\n]+")
_JAPANESE_KANA, _CHINESE_HAN = 0.15, 10


class Word(NamedTuple):
    """A run of letters of one script: how many words it counts for, and its letters."""

    script: str
    words: int
    letters: str


def closest_language(name: str) -> str | None:
    """The code or name of a language that is written like ``name``, if there is one."""
    plain = name.strip().lower()[:100]
    known = [*LANGUAGES, *_SAME] if len(plain) <= CODE_CHARACTERS else [*_NAMES]
    close = difflib.get_close_matches(plain, known, 1, 0.5)
    return close[0] if close else None


def language_code(name: str) -> str | None:
    """The code of ``en``, ``en-GB``, ``English`` and their like; None where it is not known."""
    plain = re.split(r"[-_]", name.strip().lower(), maxsplit=1)[0]
    plain = _NAMES.get(plain, plain)
    plain = _SAME.get(plain, plain)
    return plain if plain in LANGUAGES else None


def words_of(text: str) -> Iterator[Word]:
    """The words of a text by script.

    Scripts without spaces count a word for every two Chinese or Japanese characters, or every four
    letters of Thai, Lao, Khmer and Burmese. Single letters of other scripts do not count: most are
    variables.
    """
    for match in _RUN.finditer(text):
        script, letters = str(match.lastgroup), match[0]
        if script in ("Han", "Kana"):
            yield Word(script, -(-len(letters) // 2), letters)
        elif script in ("Thai", "Lao", "Khmer", "Myanmar"):
            yield Word(script, -(-len(letters) // 4), letters)
        elif len(letters) > 1:
            yield Word(script, 1, letters)


def segments(text: str) -> Iterator[list[Word]]:
    """The words of whole sentences, joined until there are enough letters to tell a language."""
    least = max(SEGMENT_LETTERS, len(text) // MAX_SEGMENTS)
    waiting: list[Word] = []
    letters = position = 0
    for end in (*(match.end() for match in _SENTENCE.finditer(text)), len(text)):
        for word in words_of(text[position:end]):
            waiting.append(word)
            letters += len(word.letters) * (3 if word.script in ("Han", "Kana") else 1)
        position = end
        if letters >= least:
            yield waiting
            waiting, letters = [], 0
    if waiting:
        yield waiting


def count_by_language(text: str, wanted: str | None = None) -> Counter[str]:
    """How many words of a text are in which language.

    Args:
        text: Any text.
        wanted: A language to which words in its script belong unless another is clearly likelier:
            "Twelve." alone is too little to tell.

    Returns:
        Words by language code.
    """
    counts: Counter[str] = Counter()
    for segment in segments(text):
        by_script: dict[str, list[Word]] = {}
        for word in segment:
            by_script.setdefault(word.script, []).append(word)
        for script, words in by_script.items():
            counts[_language(script, words, by_script, wanted)] += sum(w.words for w in words)
    return counts


def _language(
    script: str, words: list[Word], segment: dict[str, list[Word]], wanted: str | None
) -> str:
    """The language of the words of one script in a segment."""
    if script in ("Han", "Kana"):
        return _chinese_or_japanese(script, segment, wanted)
    candidates = [code for code, scripts in LANGUAGES.items() if script in scripts]
    if len(candidates) == 1:
        return candidates[0]
    return detected(" ".join(word.letters for word in words), candidates, wanted)


def _chinese_or_japanese(script: str, segment: dict[str, list[Word]], wanted: str | None) -> str:
    """Japanese has kana between its Han characters, and Chinese none."""
    kana = sum(len(word.letters) for word in segment.get("Kana", ()))
    han = sum(len(word.letters) for word in segment.get("Han", ()))
    if kana >= _JAPANESE_KANA * (kana + han):
        return "ja"
    if script == "Kana":
        return "ja"
    return "ja" if wanted == "ja" and kana == 0 and han < _CHINESE_HAN else "zh"


def detected(text: str, candidates: list[str], wanted: str | None = None) -> str:
    """The likeliest of some languages; ``wanted`` unless another is clearly likelier."""
    from py3langid import rank  # noqa: PLC0415 - its model takes a third of a second to load

    best: tuple[str, float] | None = None
    for code, score in rank(text):
        known = _SAME.get(code, code)
        if known not in candidates:
            continue
        best = best or (known, score)
        if known == wanted:
            return known if best[1] - score < CLEARLY else best[0]
    return candidates[0] if best is None else best[0]
