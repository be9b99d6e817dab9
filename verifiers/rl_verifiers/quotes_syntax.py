"""Find the quotes of a completion and what each of them cites. Time linear in the text's length."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from rl_verifiers.option_checks import check_one_of

Syntax = Literal["tag", "gophercite", "markdown", "inline"]

_TAG = re.compile(
    r"(?P<opens><quote\b)(?:(?P<attributes>[^<>]{0,300})>)?|</quote\s{0,9}>", re.IGNORECASE
)
_ATTRIBUTE = re.compile(r"""([^\s=\"']{1,100})\s{0,9}=\s{0,9}(?:"([^"]*)"|'([^']*)'|([^\s"']+))""")
_IDS = r"((?:\[[^\[\]\n]{1,100}\]\s?){1,5})"
_AFTER_INLINE = re.compile(rf"[.,;:!?]{{0,2}}\s{{0,2}}\(?{_IDS}")
_AT_END = re.compile(rf"\s{{0,9}}(?:\(|[-—–]{{1,2}}\s?)?{_IDS}[.)]?\s{{0,99}}\Z")
_NEXT_LINE = re.compile(rf"\s{{0,9}}(?:[-—–]{{1,2}}|\(|[Ss]ource:?)?\s{{0,3}}{_IDS}")
_QUOTED = re.compile(r"[\"“”]")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_LONGEST_END = 700
_SHOWN_OF_MALFORMED = 300


@dataclass(frozen=True)
class Citation:
    """A quote as it stands in a completion.

    Attributes:
        text: The words that are said to be another's.
        cited: The ids or titles named as their source; empty if none is.
        claim: GopherCite's claim that it is to support; else empty.
        malformed: Whether it is opened but not as the syntax has it, or never closed: its words are
            then those after it, and it supports nothing.
    """

    text: str
    cited: tuple[str, ...]
    claim: str = ""
    malformed: bool = False


def find_citations(text: str, syntax: Syntax) -> Iterator[Citation]:
    """The quotes of a text, in their order.

    Raises:
        VerifierError: There is no such syntax.
    """
    check_one_of("quotes", "syntax", syntax, _SYNTAXES)
    return _SYNTAXES[syntax](text)


def _tags(text: str) -> Iterator[Citation]:
    opened: re.Match[str] | None = None
    for tag in _TAG.finditer(text):
        if not tag["opens"]:
            if opened is not None:
                cited = _source(opened["attributes"])
                yield Citation(text[opened.end() : tag.start()], (cited,) if cited else ())
            opened = None
            continue
        if opened is not None:
            yield _malformed(text, opened.start())
        opened = tag
        if tag["attributes"] is None or tag["attributes"].endswith("/"):
            yield _malformed(text, tag.start())
            opened = None
    if opened is not None:
        yield _malformed(text, opened.start())


def _malformed(text: str, start: int) -> Citation:
    return Citation(text[start : start + _SHOWN_OF_MALFORMED], (), malformed=True)


def _source(attributes: str) -> str:
    """The value of the attribute ``source``; empty without one."""
    for name, *values in _ATTRIBUTE.findall(attributes):
        if name.lower() == "source":
            return "".join(values).strip()
    return ""


def _gophercite(text: str) -> Iterator[Citation]:
    """``%<Claim>%(Document title)%[Quote from document]%`` of arXiv 2203.11147, section 2.1."""
    position = text.find("%<")
    while position >= 0:
        places = [position]
        for mark in (">%(", ")%[", "]%"):
            places.append(text.find(mark, places[-1] + 2))
            if places[-1] < 0:
                if len(places) > 2:  # the claim is there, so this was to be a citation
                    yield _malformed(text, position)
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
