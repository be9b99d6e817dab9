"""Find the answer in a completion.

Every function takes any text, however hostile, and works in time linear in its length. None means
that there is no answer of that kind; the empty string means that there is one and it is empty.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

MAX_JSON_NESTING = 100
_MAX_JOINED_BOXES = 64

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])[ \t]{0,9}")
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_CONNECTIVE = re.compile(
    r"(?:[\s,;&$.]|\\[()\[\],;! ]|\\q?quad|\\text\s?\{\s{0,9}(?:and|or)?\s{0,9}\}|and|or)*\Z"
)
_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\\?[$€£])?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+|\\?%)?")
_PHRASE = re.compile(
    r"(?:\b(?:answer|result|solution|option|choice)\s{1,3}(?:(?:should|must|would|will)\s{1,3}be|is)"
    r"\b\s{0,3}:?|\banswer\s{0,3}\**\s{0,3}:|^\s{0,9}A:|####)\**[^\S\n]{0,9}",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE_END = re.compile(r"\n(?=\s|[^$\\])|[.!?](?=\s|\Z|<\||\*)|<\|")
_CLAUSE = re.compile(r",?\s(?:because|since|which|where|but|so|as|it)\b", re.IGNORECASE)
_MATH_DELIMITER = re.compile(r"\\\\|\\\$|\$\$|\$|\\[()\[\]]|\n\s{0,9}\n")
_CLOSES = {"$": "$", "$$": "$$", r"\(": r"\)", r"\[": r"\]"}
_FENCE = re.compile(r"^[ ]{0,3}(```|~~~)[^\S\n]{0,9}([^\s`]*)", re.MULTILINE)


class Found(NamedTuple):
    """An answer and the name of the rule that found it."""

    text: str
    rule: str


def boxed(text: str) -> str | None:
    r"""The inside of the last ``\boxed{...}`` or ``\fbox{...}``, braces matched.

    ``\boxed 42`` gives ``42``. A last box that never closes is a broken answer and gives None: an
    earlier box does not stand in for it.
    """
    starts = [match.end() for match in _BOX.finditer(text)]
    span = _box_span(text, starts[-1], len(text)) if starts else None
    return None if span is None else text[slice(*span)].strip()


def joined_boxes(text: str) -> str | None:
    r"""The last box, with those before it that only commas, "and" or "or" separate from it.

    ``\boxed{1} and \boxed{2}`` gives ``1, 2``; equal boxes count once; any other text between two
    boxes keeps what follows it. At most the last 64 boxes are looked at.
    """
    starts = [match.span() for match in _BOX.finditer(text)][-_MAX_JOINED_BOXES:]
    found: list[str] = []
    limit = len(text)
    for command, content in reversed(starts):
        span = _box_span(text, content, limit)
        if span is None:
            break
        between = text[span[1] + 1 : limit] if found else ""
        if len(between) > 200 or (found and not _CONNECTIVE.match(between)):
            break
        found.append(text[slice(*span)].strip())
        limit = command
    return ", ".join(dict.fromkeys(reversed(found))) if found else None


def answer_tag(text: str) -> str | None:
    """The inside of the last closed ``<answer>...</answer>``, in either case of letters."""
    start, found = None, None
    for match in _TAG.finditer(text):
        if not match[1]:
            start = match.end()
        elif start is not None:
            found, start = text[start : match.start()].strip(), None
    return found


def last_number(text: str) -> str | None:
    """The last number as written: sign, thousands separators, decimals, ``a/b``, percent sign."""
    numbers = list(_NUMBER.finditer(text))
    return numbers[-1][0].rstrip(",") if numbers else None


def last_math(text: str) -> str | None:
    r"""The inside of the last ``$...$``, ``$$...$$``, ``\(...\)`` or ``\[...\]``.

    Between dollars that have a space on the inside, or a digit after them, there must be a LaTeX
    command: "$5 and $6" is money.
    """
    spans = _math_spans(text)
    return text[slice(*spans[-1])].strip() if spans else None


def code_fence(text: str, language: str | None = None) -> str | None:
    """The inside of the last closed Markdown fence, without the fence lines.

    Args:
        text: The completion.
        language: Take only fences with this info string, in either case ("python" takes "py" too).
    """
    wanted = {"python": ("python", "py", "python3")}.get(language or "", (language,))
    found, opened = None, None
    for match in _FENCE.finditer(text):
        line_end = text.find("\n", match.end())
        if opened is None:
            opened = (match[1], match[2].lower(), line_end + 1 if line_end >= 0 else len(text))
        elif match[1] == opened[0] and not match[2]:
            if language is None or opened[1] in wanted:
                found = text[opened[2] : max(opened[2], match.start() - 1)]
            opened = None
    return found


def json_value(text: str) -> Any:
    """The last JSON object or array: of a ``json`` fence, else the whole text, else inside it.

    Raises:
        ValueError: There is none, or it nests deeper than ``MAX_JSON_NESTING``.
    """
    candidates = (code_fence(text, "json"), text, _last_bracketed(text))
    for candidate in candidates:
        if candidate is None or _nesting(candidate) > MAX_JSON_NESTING:
            continue
        try:
            return json.loads(candidate, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            continue
    raise ValueError("no JSON value found")


def without_thinking(text: str) -> str | None:
    """What follows the last ``</think>``; all of it without such a tag; None if still thinking."""
    head, closed, tail = text.rpartition("</think>")
    if closed:
        return None if "<think>" in tail else tail
    return None if "<think>" in head + tail else text


def final_answer(text: str) -> Found | None:
    r"""The answer a completion ends on; the first of these that it has decides.

    1. The last box (:func:`joined_boxes`); a last box left open means no answer.
    2. The last ``<answer>`` tag, and the last box in it if any.
    3. What follows the last ``####``, ``A:``, ``Answer:`` or "the answer is" (never "is not").
    4. The last mathematics between dollars or the last number, whichever comes later; a number
       after "or" is one of several and no answer.

    Thinking is left out first (:func:`without_thinking`).
    """
    rest = without_thinking(text)
    if rest is None:
        return None
    if _BOX.search(rest):
        inside = joined_boxes(rest)
        return None if inside is None else Found(inside, "boxed")
    tagged = answer_tag(rest)
    if tagged is not None:
        return Found(tagged, "answer_tag")
    return _stated(rest) or _last_value(rest)


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


def _math_spans(text: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    opened: tuple[str, int] | None = None
    for match in _MATH_DELIMITER.finditer(text):
        mark, start, end = match[0], *match.span()
        closes = opened is not None and mark == _CLOSES[opened[0]]
        if (
            opened is not None
            and closes
            and not (mark == "$" and _is_money(text, opened[1], start))
        ):
            spans.append((opened[1], start))
            opened = None
        elif mark in _CLOSES:
            opened = (mark, end)
        elif mark[0] == "\n":
            opened = None
    return [span for span in spans if span[0] < span[1]]


def _closes(text: str, opened: tuple[str, int], mark: str, end: int) -> bool:
    return mark == _CLOSES[opened[0]] and not (mark == "$" and _is_money(text, opened[1], end))


def _is_money(text: str, start: int, end: int) -> bool:
    """Whether the dollar signs around ``text[start:end]`` are money, as in "$5 and $6"."""
    loose = text[start].isspace() or text[end - 1].isspace() or text[end + 1 : end + 2].isdigit()
    return loose and text.find("\\", start, end) < 0


def _stated(text: str) -> Found | None:
    """Rule 3 of :func:`final_answer`: the sentence after the last phrase that announces one."""
    found = None
    for match in _PHRASE.finditer(text):
        if text[match.end() : match.end() + 4].lower() != "not ":
            found = match
    if found is None:
        return None
    end = _SENTENCE_END.search(text, found.end())
    sentence = text[found.end() : end.start() if end else len(text)].strip().strip("*").strip(" :")
    if not sentence:
        return None
    spans = _math_spans(sentence)
    clause = _CLAUSE.split(sentence, maxsplit=1)[0].strip()
    if spans and spans[0][0] <= 2:
        return Found(sentence[slice(*spans[0])], "stated")
    if re.match(r"[-+−\\({\[.$€£\d]|\w\b", clause):
        return Found(clause.rstrip(","), "stated")
    return _last_value(sentence) or Found(clause, "stated")


def _last_value(text: str) -> Found | None:
    """Rule 4 of :func:`final_answer`."""
    spans = _math_spans(text)
    numbers = list(_NUMBER.finditer(text))
    if spans and (not numbers or numbers[-1].end() <= spans[-1][1] + 2):
        return Found(text[slice(*spans[-1])].strip(), "last_math")
    if not numbers or re.search(
        r"\bor\s{0,3}\Z", text[max(0, numbers[-1].start() - 8) : numbers[-1].start()]
    ):
        return None
    return Found(numbers[-1][0].rstrip(","), "last_number")


def _last_bracketed(text: str) -> str | None:
    depth, start, found, quoted = 0, 0, None, False
    for match in re.compile(r'\\.|"|[\[{]|[\]}]').finditer(text):
        mark = match[0]
        if mark == '"':
            quoted = depth > 0 and not quoted
        elif quoted or mark[0] == "\\":
            continue
        elif mark in "[{":
            start = match.start() if depth == 0 else start
            depth += 1
        elif depth > 0:
            depth -= 1
            found = (start, match.end()) if depth == 0 else found
    return text[slice(*found)] if found else None


def _nesting(text: str) -> int:
    depth = deepest = 0
    for mark in re.findall(r"[\[{]|[\]}]", text):
        depth += 1 if mark in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
