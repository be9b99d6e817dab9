"""The options of a multiple-choice row, by label and by text."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping

from rl_verifiers import extract
from rl_verifiers.score import Row

LETTERS = string.ascii_uppercase
_LABEL = re.compile(r"[\s(*$]{0,4}([A-Z]|\d{1,2})(?=[\s).:,*$]|\Z)")
_OTHER = re.compile(
    r"\((?P<a>[A-Z]|\d{1,2})\)|^[ \t>*#-]{0,9}(?P<b>[A-Z]|\d{1,2})[.):](?=\s)"
    r"|(?<![\w.])(?P<c>[A-Z]|\d{1,2})(?![\w'’])",
    re.MULTILINE,
)
_LINK = re.compile(r"[\s.,;:/|)*]*(?:(?:and|or|&)\b)?[\s(*]*")
_MOST_LINK = 40


def offered(row: Row) -> dict[str, str]:
    """The options in ``row["options"]`` or ``row["choices"]``: label to text, in their order.

    Read are a list of texts (labelled A, B, ...), an object ``{"A": text}``, and ARC's
    ``{"label": [...], "text": [...]}``. Empty without such a column, or where it is anything else.
    """
    stated = row.get("options") if row.get("options") is not None else row.get("choices")
    if isinstance(stated, Mapping):
        labels, texts = stated.get("label"), stated.get("text")
        if not isinstance(labels, list | tuple) or not isinstance(texts, list | tuple):
            labels, texts = list(stated.keys()), list(stated.values())
    elif isinstance(stated, list | tuple):
        labels, texts = list(LETTERS), stated
    else:
        return {}
    if not texts or len(texts) > len(labels) or not all(map(_is_plain, texts)):
        return {}
    pairs = zip(labels, texts, strict=False)
    return {str(label).strip().upper(): str(text) for label, text in pairs}


def wanted_label(answer: object, options: Mapping[str, str]) -> str | None:
    """The label that a row's answer stands for, given as label, text of an option, or index from 0.

    A whole number is an index (MMLU); text that is a label is that label (ARC's ``"3"``). None
    where it is nothing of the kind, or the text of several options.
    """
    labels = list(options)
    if isinstance(answer, int) and not isinstance(answer, bool):
        return labels[answer] if 0 <= answer < len(labels) else None
    if not isinstance(answer, str):
        return None
    plain = answer.strip().strip("().").upper()
    if plain in options:
        return plain
    by_text = label_of_text(answer, options)
    if by_text is None and plain.isascii() and plain.isdecimal() and len(plain) <= 3:
        return labels[int(plain)] if int(plain) < len(labels) else None
    return by_text


def label_of_text(text: str, options: Mapping[str, str]) -> str | None:
    """The label of the one option that has this text, case and punctuation at the ends aside."""
    wanted = _folded(text)
    found = [label for label, option in options.items() if _folded(option) == wanted]
    return found[0] if wanted and len(found) == 1 else None


def chosen_label(answer: str, options: Mapping[str, str]) -> str | None:
    """The label that a found answer names: by the text of an option, or as ``12``, ``(12) ...``.

    None where another label goes on after it: "1 or 2", "(1) (2)", a list of the options.
    """
    by_text = label_of_text(extract.joined_boxes(answer) or answer, options)
    if by_text is not None:
        return by_text
    match = _LABEL.match(answer)
    if match is None or match[1] not in options:
        return None
    if _folded(answer[match.end() :].lstrip(").:, ")) == _folded(options[match[1]]):
        return match[1]
    end = match.end()
    for other in _OTHER.finditer(answer, end):
        label, between = other["a"] or other["b"] or other["c"], answer[end : other.start()]
        is_linked = len(between) <= _MOST_LINK and _LINK.fullmatch(between) is not None
        if label in options and label != match[1] and (other["a"] or other["b"] or is_linked):
            return None
    return match[1]


def last_letter(options: Mapping[str, str]) -> str:
    """The last of the letters that label the options; J where there are others than letters."""
    return max(options) if options and all(label in LETTERS for label in options) else "J"


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,;:!?*$\"'`")


def _is_plain(text: object) -> bool:
    return isinstance(text, str | int | float) and not isinstance(text, bool)
