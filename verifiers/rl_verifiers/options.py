"""Options of multiple choice: which letters a reference or a completion names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from rl_verifiers import extract
from rl_verifiers.extractions import Extraction, extraction

_REFERENCE_LETTER = re.compile(
    r"(?:\\text(?:bf|rm|it)?|\\mathrm|\\mathbf)?\s?\{?\s?\(?\s?([A-J])\s?\)?\s?\}?"
)
_REFERENCE_LETTERS = re.compile(
    r"\{?\(?[A-J]\)?(?:\s?(?:[,;&/]|and\b|\\text\s?\{\s?and\s?\})\s?(?:and\s)?\(?[A-J]\)?){1,9}\}?"
)
_DENIED = re.compile(
    r"(?:\b(?:not|never|neither|nor|except|without)|n['’]t|n['’]t be|not be|but)\s{1,3}"
    r"(?:option\s|choice\s)?\(?\Z",
    re.IGNORECASE,
)
_REJECTED = re.compile(
    r"\s(?:is|(?P<several>are|were)|was|would be)\s(?:not|wrong|incorrect|false|impossible)\b"
    r"|\s(?:isn|can|doesn|(?P<more>aren))['’]t\b"
)
_LINKED = re.compile(r"[\s,;/|]*(?:(?:and|or|nor|&)\b)?[\s,;(]*")
_ADJACENT = re.compile(r"[\s.,;:/|)\]*]*(?:(?:and|or|nor|&)\b)?[\s,;(\[*]*")
_MOST_LINK = 40
"""Characters between two options that belong together."""
_TOGETHER = re.compile(r"[A-J]{2,10}")
_LEADING = re.compile(r"\(?([A-Za-z])(?:\)|[.:](?=\s)|\Z)")
_AFTER_LABEL = re.compile(r"\s{0,9}(?:[.,;:!?)\]&/|*]|\Z|(?:and|or)\b|\(?[A-Z](?![\w'’]))")
_LINE_LABEL = re.compile(
    r"^[ \t>*#-]{0,9}[(\[]?(?P<a>[A-Z])(?:[)\]][.:]?|[.:])(?=[\s*]|\Z)", re.MULTILINE
)
_INNER_LABEL = re.compile(
    r"(?<![\w'’])(?:(?P<a>[A-Z])[.:)]|\((?P<b>[A-Z])\)|\[(?P<c>[A-Z])\])(?=[\s*]|\Z)"
)
_ALTERNATIVE = re.compile(r"\bor\s{1,3}(?:option\s|choice\s)?\Z", re.IGNORECASE)
_LEAST_LISTED = 3
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


@cache
def _options(last: str) -> re.Pattern[str]:
    """A letter from A to ``last`` that is an option.

    The words "A" and "I" name one only where a clause or a list of options goes on after them.
    """
    letters = "".join(chr(code) for code in range(ord("A"), ord(last) + 1))
    plain = letters.replace("A", "").replace("I", "") or "A"
    return re.compile(
        rf"(?<![\w'’\\])(?:\((?P<a>[{letters}{letters.lower()}])\)|(?P<b>[{plain}](?![\w'’])"
        rf"|[AI](?=\s*(?:[.,;:!?)&/|]|\Z|(?:and|or|because)\b|[{letters}](?![\w'’])))))"
    )


def choice_letter(answer: str, last: str = "J") -> str | None:
    r"""The option that an answer names: ``B``, ``(B) 42``, ``B. 42``, ``\text{B}``, ``for sure B``.

    Several letters, in their order, where it names several options; None where it names none. One
    that it denies ("not B") does not count.

    Args:
        answer: The text that was found.
        last: The last letter on offer.
    """
    answer = re.sub(r"\\(?:text|textbf|mathrm|mathbf)\s?\{([^{}]{0,200})\}", r"\1", answer)
    answer = answer.strip().strip("*$\"'`{}[]").strip()
    if match := _LEADING.match(answer):
        return _letters({match[1].upper()} | _listed(answer)[0] | _beside(answer, match.end()))
    if _TOGETHER.fullmatch(answer) and list(answer) == sorted(set(answer)):
        return answer
    clause = _CLAUSE.split(answer, maxsplit=1)[0]
    return _letters({letter for letter, _, _ in _named(clause, last)})


def _letters(found: set[str]) -> str | None:
    return "".join(sorted(found)) or None


def _named(text: str, last: str) -> list[tuple[str, int, int]]:
    """The options that a text names and does not deny, and where."""
    named: list[tuple[str, int, int]] = []
    denied_until = -1
    for match in _options(last).finditer(text):
        start, end = match.span()
        if _follows(text, denied_until, start) or _DENIED.search(text[max(0, start - 24) : start]):
            denied_until = end
        elif rejected := _REJECTED.match(text, end):
            while (  # "A and C are wrong" is said of both
                (rejected["several"] or rejected["more"])
                and named
                and _LINKED.fullmatch(text[named[-1][2] : start][: _MOST_LINK + 1])
            ):
                start = named.pop()[1]
        else:
            named.append(((match["a"] or match["b"]).upper(), start, end))
    return named


def _follows(text: str, end: int, start: int, link: re.Pattern[str] = _LINKED) -> bool:
    """Whether nothing but a link stands between the end of an option and the start of another."""
    return end >= 0 and start - end <= _MOST_LINK and link.fullmatch(text[end:start]) is not None


def _beside(text: str, end: int) -> set[str]:
    """The letters that follow an option, directly or after "or": ``(A) 4 or (B) 5``."""
    found: set[str] = set()
    clause_end = match.start() if (match := _CLAUSE.search(text, end)) else len(text)
    for label in _single_letters(text):
        start = label.start()
        if start < end:
            continue
        is_next = _follows(text, end, start, _ADJACENT) and _AFTER_LABEL.match(text, label.end())
        before = text[max(0, start - 12) : start]
        is_other = start < clause_end and label["a"] and _ALTERNATIVE.search(before)
        if not (is_next or is_other):
            if start > clause_end:
                break
            continue
        found.add(label[0].strip("()").upper())
        end = label.end() if is_next else end
    return found


def _single_letters(text: str) -> Iterator[re.Match[str]]:
    return re.finditer(r"(?<![\w'’\\])(?:\((?P<a>[A-Z])\)|[A-Z](?![\w'’]))", text)


def _listed(text: str) -> tuple[set[str], int]:
    """The letters of a list of options, one a line or one after the other, and its last label."""
    lines = [m for m in _LINE_LABEL.finditer(text) if not _REJECTED.match(text, m.end())]
    letters = {match["a"] for match in lines}
    if len(letters) > 1:
        return letters, lines[-1].end()
    run: list[str] = []
    until = 0
    end = 0
    for match in _INNER_LABEL.finditer(text):
        letter = match["a"] or match["b"] or match["c"]
        goes_on = run and ord(letter) == ord(run[-1]) + 1
        if goes_on and _CLAUSE.search(text[end : match.start()].rstrip(" .;\n")) is None:
            run.append(letter)
            until = match.end()
        elif len(run) < _LEAST_LISTED:
            run = [letter]
        end = match.end()
    return (set(run), until) if len(run) >= _LEAST_LISTED else (set(), 0)


def choice_in(completion: str, extract_by: Extraction, last: str = "J") -> str | None:
    """The option that a completion ends on, or None; several letters where it decides on none.

    Where "final" finds no announced answer, a completion that lists options has chosen what it
    names after the list; one that starts with ``B.`` has chosen B; and else the last option named
    counts, or the last ones where nothing but "and", "or" or punctuation is between several.

    Args:
        completion: The model's text.
        extract_by: Where the answer stands.
        last: The last letter on offer.
    """
    if extract_by != "final":
        found = extraction(extract_by)(completion)
        return None if found is None else choice_letter(found, last)
    final = extract.final_answer(completion)
    rest = (extract.without_thinking(completion) or "").strip()
    if final is not None and final.rule not in ("last_number", "last_math", "bare"):
        letters = choice_letter(final.text, last)
        if final.rule == "stated" and letters is not None and len(letters) == 1:
            return _letters({letters} | _beside_statement(rest, letters))
        return letters
    if final is None and extract.boxed(rest) is None and "\\boxed" in rest:
        return None
    return _chosen(rest, last)


def _chosen(rest: str, last: str) -> str | None:
    """The option that a text without an announced answer chooses."""
    listed, end = _listed(rest)
    if listed:
        after = rest.find("\n", end)
        return _last_named(rest[after:] if after >= 0 else "", last) or _letters(listed)
    if match := _LEADING.match(rest):
        return _letters({match[1].upper()} | _beside(rest, match.end()))
    return _last_named(rest, last)


def _beside_statement(text: str, letter: str) -> set[str]:
    """The letters right after the statement of an answer, as in "The answer is A. B. C"."""
    start = max(text.rfind("answer"), text.rfind("Answer"), text.rfind("####"), 0)
    line_end = text.find("\n", start)
    line = text[start : line_end if line_end >= 0 else len(text)]
    first = next((m for m in _single_letters(line) if m[0].strip("()") == letter), None)
    return set() if first is None else _beside(line, first.end())


def _last_named(text: str, last: str) -> str | None:
    options = _named(text, last)
    first = len(options) - 1
    while first > 0 and _follows(text, options[first - 1][2], options[first][1], _ADJACENT):
        first -= 1
    return _letters({letter for letter, _, _ in options[max(first, 0) :]})
