"""Verifiers that compare text: exact, contains, choice, JSON and regular expressions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from rl_verifiers import extract
from rl_verifiers.score import Row, Score, VerifierError

Extraction = Literal["whole", "final", "boxed", "answer_tag", "last_number", "code"]


def extraction(name: str) -> Callable[[str], str | None]:
    """The function of :mod:`rl_verifiers.extract` behind an ``extract=`` option.

    Raises:
        VerifierError: There is no such rule.
    """
    if name not in _EXTRACTIONS:
        raise VerifierError(f"unknown extract {name!r}; one of {', '.join(_EXTRACTIONS)}")
    return _EXTRACTIONS[name]


def _final(text: str) -> str | None:
    found = extract.final_answer(text)
    return None if found is None else found.text


_EXTRACTIONS: dict[str, Callable[[str], str | None]] = {
    "whole": lambda text: text.strip() or None,
    "final": _final,
    "boxed": extract.joined_boxes,
    "answer_tag": extract.answer_tag,
    "last_number": extract.last_number,
    "code": extract.code_fence,
}
assert set(_EXTRACTIONS) == set(get_args(Extraction))


def reference(row: Row) -> str | None:
    """The row's answer as text; None where it is missing, empty, or neither text nor a number."""
    answer = row.get("answer")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        return None
    return str(answer).strip() or None


def bad_reference(row: Row) -> Score:
    """The score of a row whose answer cannot be used."""
    return Score.wrong(f"unusable answer {row.get('answer')!r:.80}", status="bad_reference")


@dataclass(frozen=True)
class Exact:
    """See :func:`exact`."""

    extract: Extraction
    case: bool
    whitespace: bool
    bounded = True

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        wanted = reference(row)
        if wanted is None:
            return bad_reference(row)
        found = _EXTRACTIONS[self.extract](completion)
        if not found:
            return Score.wrong("no answer found", status="no_answer")
        if self._folded(found) == self._folded(wanted):
            return Score.correct()
        return Score.wrong(f"{found!r:.80} is not the answer")

    def _folded(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        text = text if self.case else text.casefold()
        return text if self.whitespace else " ".join(text.split())


def exact(*, extract: Extraction = "whole", case: bool = True, whitespace: bool = False) -> Exact:
    """The answer equals ``row["answer"]`` character by character.

    Args:
        extract: Where the answer stands in the completion.
        case: Whether upper and lower case differ.
        whitespace: Whether white space counts; by default runs of it are one space and the ends
            are trimmed.
    """
    extraction(extract)
    return Exact(extract, case, whitespace)


_LETTER = r"(?:\\text(?:bf)?\s?\{\s?)?\(?\s?([A-Za-z])\s?\)?(?:\s?\})?"
_OPTION = re.compile(_LETTER + r"(?=[.):,\s}]|\Z)")


def choice_letter(text: str) -> str | None:
    r"""The option letter that an answer starts with: ``B``, ``(B)``, ``B. 42``, ``\text{B}``."""
    text = text.strip().strip("*$").strip()
    match = _OPTION.match(text)
    return None if match is None else match[1].upper()
