"""The rules by which an answer is found, by name: what an ``extract=`` option takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from rl_verifiers import extract
from rl_verifiers.option_checks import check_one_of

Extraction = Literal["whole", "final", "boxed", "answer_tag", "last_number", "code"]


def extraction(name: str, verifier: str = "verifier") -> Callable[[str], str | None]:
    """The function of :mod:`rl_verifiers.extract` behind an ``extract=`` option.

    Args:
        name: Of the rule.
        verifier: Of the verifier that has the option, for the message.

    Raises:
        VerifierError: There is no such rule.
    """
    check_one_of(verifier, "extract", name, _EXTRACTIONS)
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
