"""Options of multiple choice: which letters a reference or a completion names."""

from __future__ import annotations

import re

from rl_verifiers import extract
from rl_verifiers.extractions import Extraction, extraction

_REFERENCE_LETTER = re.compile(
    r"(?:\\text(?:bf|rm|it)?|\\mathrm|\\mathbf)?\s?\{?\s?\(?\s?([A-J])\s?\)?\s?\}?"
)
_REFERENCE_LETTERS = re.compile(
    r"\{?\(?[A-J]\)?(?:\s?(?:[,;&/]|and\b|\\text\s?\{\s?and\s?\})\s?(?:and\s)?\(?[A-J]\)?){1,9}\}?"
)
# The words "A" and "I" name an option only where a clause or a list of options goes on after them.
_OPTION = re.compile(
    r"(?<![\w'’\\])(?:\((?P<a>[A-Ja-j])\)|(?P<b>[B-HJ](?![\w'’])"
    r"|[AI](?=\s*(?:[.,;:!?)&/]|\Z|(?:and|or|because)\b|[A-J](?![\w'’])))))"
)
_DENIED = re.compile(
    r"(?:\b(?:not|never|neither|nor|except|without)|n['’]t|n['’]t be|not be|but)\s{1,3}"
    r"(?:option\s|choice\s)?\(?\Z",
    re.IGNORECASE,
)
_REJECTED = re.compile(
    r"\s(?:is|are|was|would be)\s(?:not|wrong|incorrect|false|impossible)\b"
    r"|\s(?:isn|can|doesn)['’]t\b"
)
_LINKED = re.compile(r"[\s,;]*(?:(?:and|or|nor|&)\b)?[\s,;(]*")
_TOGETHER = re.compile(r"[A-J]{2,10}")
_LEADING = re.compile(r"\(?([A-Za-z])(?:\)|[.:](?=\s)|\Z)")
_CLAUSE = re.compile(r",?\s(?:because|since|which|where|so|as|it|can|cannot)\b|[.;!?](?=\s|\Z)|\n")


def option_letter(answer: str) -> str | None:
    r"""The letter of a reference that is an option: ``B``, ``(B)``, ``\text{(B)}``; else None.

    Of several options, ``A, C``, the letters in their order: ``AC``.
    """
    match = _REFERENCE_LETTER.fullmatch(answer)
    if match is not None:
        return match[1]
    if not _REFERENCE_LETTERS.fullmatch(answer):
        return None
    return "".join(sorted(set(re.findall("[A-J]", answer))))


def choice_letter(answer: str) -> str | None:
    r"""The option that an answer names: ``B``, ``(B) 42``, ``B. 42``, ``\text{B}``, ``for sure B``.

    Several letters, in their order, where it names several options; None where it names none. One
    that it denies ("not B") does not count.
    """
    answer = re.sub(r"\\(?:text|textbf|mathrm|mathbf)\s?\{([^{}]{0,200})\}", r"\1", answer)
    answer = answer.strip().strip("*$\"'`{}[]").strip()
    if match := _LEADING.match(answer):
        return match[1].upper()
    if _TOGETHER.fullmatch(answer) and list(answer) == sorted(set(answer)):
        return answer
    clause = _CLAUSE.split(answer, maxsplit=1)[0]
    found = sorted({letter for letter, _, _ in _named(clause)})
    return "".join(found) or None


def _named(text: str) -> list[tuple[str, int, int]]:
    """The options that a text names and does not deny, and where."""
    named: list[tuple[str, int, int]] = []
    denied_until = -1
    for match in _OPTION.finditer(text):
        start, end = match.span()
        is_listed = denied_until >= 0 and _LINKED.fullmatch(text[denied_until:start])
        if is_listed or _DENIED.search(text[max(0, start - 24) : start]):
            denied_until = end
        elif not _REJECTED.match(text, end):
            named.append(((match["a"] or match["b"]).upper(), start, end))
    return named


def choice_in(completion: str, extract_by: Extraction) -> str | None:
    """The option that a completion ends on, or None.

    Where "final" finds no announced answer, a completion that starts with ``B.`` has chosen B, and
    else the last option named counts, or the last ones where "and" or "or" join several.
    """
    if extract_by != "final":
        found = extraction(extract_by)(completion)
        return None if found is None else choice_letter(found)
    final = extract.final_answer(completion)
    if final is not None and final.rule not in ("last_number", "last_math", "bare"):
        return choice_letter(final.text)
    rest = (extract.without_thinking(completion) or "").strip()
    if final is None and extract.boxed(rest) is None and "\\boxed" in rest:
        return None
    if match := _LEADING.match(rest):
        return match[1].upper()
    options = _named(rest)
    last = len(options) - 1
    while last > 0 and _LINKED.fullmatch(rest[options[last - 1][2] : options[last][1]]):
        last -= 1
    return "".join(sorted({letter for letter, _, _ in options[last:]})) or None
