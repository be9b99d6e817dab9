"""Find the boxes that answers stand in.

Every function takes any text, however hostile, and works in time linear in its length.
"""

from __future__ import annotations

import re

_MAX_JOINED_BOXES = 64

BOX = re.compile(r"(?:\\(?:begin)?boxed|\\fbox|\x08oxed)(?![A-Za-z])[ \t]{0,9}")
_CONNECTIVE = re.compile(
    r"(?:[\s,;&$./|*•-]|\\(?:\\|lor\b|vee\b)|\b\d{1,2}[.)](?=\s)"
    r"|\\[()\[\],;! ]|\\q?quad|\\text\s?\{\s{0,9}(?:and|or)?\s{0,9}\}"
    r"|(?:and|or|maybe|perhaps|possibly|alternatively|also|else)\b)*\Z",
    re.IGNORECASE,
)
_LINK = re.compile(  # at the end of what stands between two boxes of one sentence
    r"(?:,|;|\b(?:and|or))[\s$,;}]*(?:(?:maybe|perhaps|possibly|alternatively|also)[\s$,]*)?"
    r"(?:\\[()\[\],;! ]|\\q?quad|[\s$])*(?:[A-Za-z][\w{}'()]{0,12}\s?=[\s$]*)?\Z",
    re.IGNORECASE,
)
_BREAK = re.compile(
    r"[.!?\n]\s|\n|\b(?:no|not|wait|actually|instead|but|then|rather|so|thus|hence|therefore|wrong"
    r"|incorrect)\b",
    re.IGNORECASE,
)
_OTHERWISE = re.compile(
    r"[\s$.,;)]{0,9}(?:or|otherwise|alternatively)\b[^.!?\n]{0,40}\Z", re.IGNORECASE
)
NEGATION = re.compile(
    r"(?:\b(?:not|never|than|cannot be|anything but|no longer)|n['’]t(?: be)?)\s{0,3}[$(]{0,2}\Z",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"[\s$.*)\\\]]{0,6}(?:is|was|would be)\s(?:not\s(?:correct|right|the\s)|wrong|incorrect)\b"
    r"|[\s$*)]{0,6}(?:is|was)n['’]t\s(?:correct|right|the\s)",
    re.IGNORECASE,
)


def boxed(text: str) -> str | None:
    r"""The inside of the last ``\boxed{...}`` or ``\fbox{...}``, braces matched.

    ``\boxed 42`` gives ``42``. A last box that never closes is a broken answer and gives None: an
    earlier box does not stand in for it.
    """
    starts = [match.end() for match in BOX.finditer(text)]
    span = _box_span(text, starts[-1], len(text)) if starts else None
    return None if span is None else text[slice(*span)].strip()


def joined_boxes(text: str) -> str | None:
    r"""The last box, with those before it that only commas, "and" or "or" separate from it.

    ``\boxed{1} and \boxed{2}`` gives ``1, 2``; equal boxes count once; any other text between two
    boxes keeps what follows it. So do boxes of one sentence, ``\boxed{1} cats and \boxed{2} dogs``.
    A last box after "not", or before "is wrong", is none. Sixty-four boxes in a row are no list:
    the last counts.
    """
    starts = [match.span() for match in BOX.finditer(text)][-_MAX_JOINED_BOXES:]
    found: list[str] = []
    limit = len(text)
    for command, content in reversed(starts):
        span = _box_span(text, content, limit)
        if span is None:
            break
        is_denied = NEGATION.search(text[max(0, command - 16) : command])
        if not found and (is_denied or _DENIED.match(text, span[1] + 1)):
            limit = command
            continue
        if found and not _joins(text[span[1] + 1 : limit]):
            break
        found.append(text[slice(*span)].strip())
        limit = command
    if len(found) == _MAX_JOINED_BOXES:
        return found[0]
    return ", ".join(dict.fromkeys(reversed(found))) if found else None


def _joins(between: str) -> bool:
    """Whether what stands between two boxes makes them one answer."""
    if len(between) <= 200 and _CONNECTIVE.match(between):
        return True
    if len(between) > 60 or _BREAK.search(between):
        return False
    return bool(_LINK.search(between) or _OTHERWISE.match(between))


def _box_span(text: str, start: int, limit: int) -> tuple[int, int] | None:
    """Where the content of a box begins and ends; ``start`` is just after the command."""
    if start >= limit or text[start] != "{":
        token = re.compile(r"[^\s$.,;{}\\]{1,40}").match(text, start, limit)
        return None if token is None else (token.start(), token.end())
    depth = 0
    for match in re.compile(r"\\[\s\S]|[{}]").finditer(text, start, limit):
        if match[0] == "{":
            depth += 1
        elif match[0] == "}":
            depth -= 1
            if depth == 0:
                return start + 1, match.start()
    return None
