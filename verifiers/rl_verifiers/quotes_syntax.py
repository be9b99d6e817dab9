"""Find the quotes of a completion and what each of them cites. Time linear in the text's length."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from rl_verifiers.score import VerifierError

Syntax = Literal["tag", "gophercite", "markdown", "inline"]

_OPENING = re.compile(r"<quote\b([^<>]{0,300})>", re.IGNORECASE)
_CLOSING = re.compile(r"</quote\s{0,9}>", re.IGNORECASE)
_SOURCE = re.compile(
    r"""\bsource\s{0,9}=\s{0,9}(?:"([^"]*)"|'([^']*)'|([^\s"']+))""", re.IGNORECASE
)
_IDS = r"((?:\[[^\[\]\n]{1,100}\]\s?){1,5})"
_AFTER_INLINE = re.compile(rf"[.,;:!?]{{0,2}}\s{{0,2}}\(?{_IDS}")
_AT_END = re.compile(rf"\s{{0,9}}(?:\(|[-—–]{{1,2}}\s?)?{_IDS}[.)]?\s{{0,99}}\Z")
_NEXT_LINE = re.compile(rf"\s{{0,9}}(?:[-—–]{{1,2}}|\(|[Ss]ource:?)?\s{{0,3}}{_IDS}")
_QUOTED = re.compile(r"[\"“”]")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_LONGEST_END = 700


@dataclass(frozen=True)
class Citation:
    """A quote as it stands in a completion.

    Attributes:
        text: The words that are said to be another's.
        cited: The ids or titles named as their source; empty if none is.
        claim: GopherCite's claim that it is to support; else empty.
    """

    text: str
    cited: tuple[str, ...]
    claim: str = ""


def find_citations(text: str, syntax: Syntax) -> Iterator[Citation]:
    """The quotes of a text, in their order.

    Raises:
        VerifierError: There is no such syntax.
    """
    if syntax not in _SYNTAXES:
        raise VerifierError(
            f"quotes: syntax is {syntax!r:.40}; it must be one of {', '.join(_SYNTAXES)}"
        )
    return _SYNTAXES[syntax](text)


def _tags(text: str) -> Iterator[Citation]:
    position = 0
    while opening := _OPENING.search(text, position):
        closing = _CLOSING.search(text, opening.end())
        if closing is None:
            return
        source = _SOURCE.search(opening[1])
        cited = (
            next((group for group in source.groups() if group is not None), "") if source else ""
        )
        nested = text.rfind("<quote", opening.end(), closing.start())
        if nested >= 0:  # what was opened before it never closes
            position = nested
            if _OPENING.match(text, nested):
                continue
        yield Citation(
            text[opening.end() : closing.start()], (cited.strip(),) if cited.strip() else ()
        )
        position = closing.end()


def _gophercite(text: str) -> Iterator[Citation]:
    """``%<Claim>%(Document title)%[Quote from document]%`` of arXiv 2203.11147, section 2.1."""
    position = text.find("%<")
    while position >= 0:
        places = [position]
        for mark in (">%(", ")%[", "]%"):
            places.append(text.find(mark, places[-1] + 2))
            if places[-1] < 0:
                return
        claim = text[places[0] + 2 : places[1]].strip()
        title = text[places[1] + 3 : places[2]].strip()
        yield Citation(text[places[2] + 3 : places[3]], (title,) if title else (), claim)
        position = text.find("%<", places[-1] + 2)


def _markdown(text: str) -> Iterator[Citation]:
    lines = text.split("\n")
    block: list[str] = []
    for number, line in enumerate([*lines, ""]):
        stripped = line.lstrip(" ")
        if stripped.startswith(">"):
            block.append(stripped[1:].strip())
            continue
        if block:
            following = "\n".join(lines[number : number + 2])[:_LONGEST_END]
            yield _from_block("\n".join(block), following)
        block = []


def _from_block(quoted: str, following: str) -> Citation:
    tail = max(0, len(quoted) - _LONGEST_END)
    inside = _AT_END.search(quoted, tail)
    if inside is not None:
        return Citation(quoted[: inside.start()].strip(), _ids(inside[1]))
    after = _NEXT_LINE.match(following)
    return Citation(quoted.strip(), _ids(after[1]) if after else ())


def _inline(text: str) -> Iterator[Citation]:
    for paragraph in _BLANK_LINE.split(text):
        opened: int | None = None
        for match in _QUOTED.finditer(paragraph):
            if opened is None:
                opened = match.end() if match[0] != "”" else None
            elif match[0] == "“":
                opened = match.end()
            else:
                after = _AFTER_INLINE.match(paragraph, match.end())
                yield Citation(paragraph[opened : match.start()], _ids(after[1]) if after else ())
                opened = None


def _ids(brackets: str) -> tuple[str, ...]:
    inside = re.findall(r"\[([^\[\]]*)\]", brackets)
    return tuple(part.strip() for each in inside for part in each.split(",") if part.strip())


_SYNTAXES: Mapping[str, Callable[[str], Iterator[Citation]]] = {
    "tag": _tags,
    "gophercite": _gophercite,
    "markdown": _markdown,
    "inline": _inline,
}
