"""The rules by which an answer is found, by name: what an ``extract=`` option takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from rl_verifiers import extract
from rl_verifiers.score import VerifierError

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
