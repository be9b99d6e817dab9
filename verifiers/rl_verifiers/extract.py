"""Find the answer in a completion.

Every function takes any text, however hostile, and works in time linear in its length. None means
that there is no answer of that kind; the empty string means that there is one and it is empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from rl_verifiers.boxes import BOX, NEGATION, boxed, joined_boxes
from rl_verifiers.formula_runs import formula_around
from rl_verifiers.units import is_unit_word

__all__ = [
    "Found", "answer_tag", "boxed", "code_fence", "final_answer", "joined_boxes", "json_value",
    "last_math", "last_number", "without_thinking",
]  # fmt: skip

MAX_JSON_NESTING = 100
_MAX_LISTED = 64

_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_DENIAL = re.compile(
    r"\s{0,3}(?:is|was|would be)(?:\s(?:not|wrong|incorrect)|n['’]t)\b", re.IGNORECASE
)
_THINKING = re.compile(r"<(/?)(?:think(?:ing)?|thought|reasoning)>", re.IGNORECASE)
_BARE = re.compile(r"[a-zA-Z]\w?\s?=[^\n]{1,80}|[^\W\d_]{2,20}[.!]?")
_BEFORE = re.compile(r"(?<!\d)\d{1,2}:\Z")
_AFTER = re.compile(
    r":\d{2}|_\{?\d{1,2}(?:\}|(?!\d))|\s?[aApP]\.?[mM]\b\.?|\s?(?P<unit>[a-zA-Z]{1,4}(?:\^\{?[23]\}?|[²³]))"
)
_FINAL = re.compile(
    r"\b(?:(?:final|correct|right) answer\s{0,3}(?:is|:)|but the answer is\b)", re.IGNORECASE
)
_ALTERNATIVE = re.compile(r"[\s,;]*\b(?:and|or)\b[\s,;]*", re.IGNORECASE)
_RANGE = re.compile(r"\bbetween\s{0,3}[$\\(]{0,3}\Z", re.IGNORECASE)
_NO_VALUE = re.compile(r"\b(?:not equal to|mod(?:ulo)?|base)\s\Z", re.IGNORECASE)
_RATIO = re.compile(r"\bratio\b[^\n.]{0,40}\Z|\A\s{0,9}\Z", re.IGNORECASE)
_UNIT = re.compile(
    r"\s((?:square|cubic|sq\.?)\s(?P<base>[a-zA-Z]{1,12})"
    r"|(?P<unit>[a-zA-Z]{1,12})\s(?:squared|cubed|per\s[a-zA-Z]{1,12}))\b"
)
_PLAIN_UNIT = re.compile(r"\s?([a-zA-Z]{2,14})\b(?!\s?[\^²³(=/*-])")
_NO_UNITS = frozenset(["in", "are", "as", "at", "bar", "us", "per"])
"""Units that are words of a sentence far more often."""
_KIND = re.compile(
    r"(?:\A|(?<=\s))((?:all|any|every|no|odd|even|prime|composite|positive|negative|integers?|real"
    r"|natural|rational|numbers?)(?:\s(?:positive|negative|odd|even|integers?|real|numbers?)){0,3})"
    r"\s{1,3}[$\\(]{1,3}\Z",
    re.IGNORECASE,
)
_LISTED = re.compile(
    r"[\s,;.]*(?:(?:and|or)\b)?(?:\s(?:maybe|perhaps|possibly)\b)?[\s,;.]*", re.IGNORECASE
)
_CONDITION = re.compile(
    r"[\s,;(]*(?:for|where|with|when|whenever|if|such that|given|as long as|provided)"
    r"(?:\s(?:some|all|any|every|each|that))?\s{0,3}",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.^])[-+−]?(?:\\?[$€£])?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+|\\?%)?")
_PHRASE = re.compile(
    r"(?:\b(?:answer|result|solution|option|choice)\s{1,3}(?:(?:should|must|would|will)\s{1,3}be|is)"
    r"\b\s{0,3}:?|\banswer\s{0,3}\**\s{0,3}:|^\s{0,9}A:|####)\**[^\S\n]{0,9}",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE_END = re.compile(r"\n(?=\s|[^$\\])|(?<!\.\.)[.!?](?=\s|\Z|<\||\*)|<\|")
_CLAUSE = re.compile(
    r",?\s(?:because|since|which|where|but|so|as|it|though|although)\b|,\s(?:with|then|right|ok)\b"
    r"|,?\sI\s(?:think|believe|guess|hope|suppose|am)\b|\s[-–—]\s(?=[a-z]{3})",
    re.IGNORECASE,
)
_CONTRAST = re.compile(
    r",?\s(?:(?:and|but)\s)?(?:not|never|rather than|instead of)\b", re.IGNORECASE
)
_END_MARK = re.compile(
    r"</s>|<eos>|<eot>|<end_of_turn>|<endoftext>|<[|｜][^<>\n]{1,32}[|｜]>", re.IGNORECASE
)
_MAX_END_MARKS, _MAX_END_MARK = 8, 40
_MATH_DELIMITER = re.compile(r"\\\\|\\\$|\$\$|\$|\\[()\[\]]|\n\s{0,9}\n")
_CLOSES = {"$": "$", "$$": "$$", r"\(": r"\)", r"\[": r"\]"}
_FENCE = re.compile(r"^[ ]{0,3}(```|~~~)[^\S\n]{0,9}([^\s`]*)", re.MULTILINE)


class Found(NamedTuple):
    """An answer and the name of the rule that found it."""

    text: str
    rule: str


def answer_tag(text: str) -> str | None:
    """The inside of the last closed ``<answer>...</answer>``, in either case of letters.

    Of tags inside each other the outermost that is closed last counts, with those in it.
    """
    opened: list[int] = []
    found: slice | None = None
    for match in _TAG.finditer(text):
        if not match[1]:
            opened.append(match.end())
        elif opened:
            found = slice(opened.pop(), match.start())
    return None if found is None else text[found].strip()


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


def json_value(
    text: str, pairs: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None
) -> Any:
    """The last JSON object or array: of a ``json`` fence, else the whole text, else inside it.

    Args:
        text: Any text.
        pairs: What makes an object of its members, in place of ``dict``.

    Raises:
        ValueError: There is none, or it nests deeper than ``MAX_JSON_NESTING``.
    """
    candidates = (code_fence(text, "json"), text, *bracketed(text)[-1:])
    for candidate in candidates:
        if candidate is None or _nesting(candidate) > MAX_JSON_NESTING:
            continue
        try:
            return json.loads(candidate, parse_constant=_refuse_constant, object_pairs_hook=pairs)
        except (ValueError, RecursionError):
            continue
    raise ValueError("no JSON value found")


def without_thinking(text: str) -> str | None:
    """What follows the last ``</think>``; all of it without such a tag; None if still thinking.

    ``<thinking>``, ``<thought>`` and ``<reasoning>`` are such tags too, in either case of letters.
    """
    if "<" not in text:
        return text
    end, is_open = 0, False
    for match in _THINKING.finditer(text):
        is_open = not match[1]
        end = end if is_open else match.end()
    return None if is_open else text[end:]


def final_answer(text: str) -> Found | None:
    r"""The answer a completion ends on; the first of these that it has decides.

    1. The last box (:func:`joined_boxes`), unless "the final answer is" and mathematics follow it;
       a last box left open means no answer.
    2. The last ``<answer>`` tag, and the last box in it if any.
    3. What follows the last ``####``, ``A:``, ``Answer:`` or "the answer is" (never "is not").
    4. The last mathematics between dollars or the last number, whichever comes later, with the
       others that "and" or "or" join to it; but not the condition in "$x^2$ for $x>0$". A
       completion of one word, or of one equation, is all answer.

    Thinking is left out first (:func:`without_thinking`), and so are marks of the end of a turn
    (``</s>``, ``<|im_end|>``).
    """
    rest = without_thinking(text)
    if rest is None:
        return None
    rest = _without_end_marks(rest)
    if BOX.search(rest):
        inside = joined_boxes(rest)
        return None if inside is None else _final_statement(rest) or Found(inside, "boxed")
    tagged = answer_tag(rest)
    if tagged is not None:
        return Found(tagged, "answer_tag")
    return _stated(rest) or _last_value(rest)


def _without_end_marks(text: str) -> str:
    for _ in range(_MAX_END_MARKS):
        rest = text.rstrip()
        start = rest.rfind("<", max(0, len(rest) - _MAX_END_MARK)) if rest.endswith(">") else -1
        if start < 0 or not _END_MARK.fullmatch(rest, start):
            break
        text = rest[:start]
    return text


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


def _is_money(text: str, start: int, end: int) -> bool:
    """Whether the dollar signs around ``text[start:end]`` are money, as in "$5 and $6"."""
    loose = text[start].isspace() or text[end - 1].isspace() or text[end + 1 : end + 2].isdigit()
    return loose and text.find("\\", start, end) < 0


def _stated(text: str) -> Found | None:
    """Rule 3 of :func:`final_answer`: the sentence after the last phrase that announces one."""
    found = _last_phrase(text)
    if found is None:
        return None
    end = _SENTENCE_END.search(text, found.end())
    sentence = text[found.end() : end.start() if end else len(text)].strip().strip("*").strip(" :")
    if not sentence:
        return None
    spans = _math_spans(sentence)
    clause = _CLAUSE.split(sentence, maxsplit=1)[0].strip()
    if spans and spans[0][0] <= 2:
        last = _linked(sentence, spans, 0, 1, _LISTED)
        rest = sentence[spans[last][1] + 1 :]
        if (match := _ALTERNATIVE.match(rest)) and re.match(r"[-+−\d.$\\(]", rest[match.end() :]):
            return Found(clause, "stated")
        return Found(_joined(sentence, spans[: last + 1]), "stated")
    if re.match(r"[-+−–±√π\\({\[.$€£\d]|(?:\w|pi|sqrt|log|ln|sin|cos|tan|exp)\b", clause):
        clause = _CONTRAST.split(clause, maxsplit=1)[0]
        return Found(clause.rstrip(","), "stated")
    return _last_value(sentence) or Found(clause, "stated")


def _final_statement(text: str) -> Found | None:
    """The answer that "the final answer is" announces after the last box, if it is mathematics."""
    tail = text[text.rfind("oxed") :]
    if not _FINAL.search(tail):
        return None
    found = _stated(tail)
    return found if found and re.match(r"[-+−\d.$\\(\[{]", found.text) else None


def _linked(
    text: str, spans: list[tuple[int, int]], index: int, step: int, link: re.Pattern[str]
) -> int:
    """How far from ``index`` the formulas follow each other with only ``link`` between them."""
    while 0 <= index + step < len(spans):
        low, high = sorted((index, index + step))
        between = text[spans[low][1] : spans[high][0]].strip("$\\()[]")
        if not link.fullmatch(between):
            break
        index += step
    return index


def _joined(text: str, spans: list[tuple[int, int]]) -> str:
    return ", ".join(text[slice(*span)].strip() for span in spans)


def _last_phrase(text: str) -> re.Match[str] | None:
    """The last phrase that announces an answer: it stands near the end, so tails are tried."""
    length = 64
    while True:
        start = max(0, len(text) - length)
        found = None
        for match in _PHRASE.finditer(text, start):
            if text[match.end() : match.end() + 4].lower() != "not ":
                found = match
        if found is not None or start == 0:
            return found
        length *= 8


def _last_value(text: str) -> Found | None:
    """Rule 4 of :func:`final_answer`."""
    spans = _math_spans(text)
    numbers = list(_NUMBER.finditer(text))
    if spans and (not numbers or numbers[-1].end() <= spans[-1][1] + 2):
        return Found(_last_formulas(text, spans), "last_math")
    bare = text.strip()
    if len(bare) < 100 and _BARE.fullmatch(bare) and not re.search(r"[^\W\d_]{4} ", bare):
        return Found(bare, "bare")
    return _last_numbers(text, numbers) if numbers else None


def _last_formulas(text: str, spans: list[tuple[int, int]]) -> str:
    """The last formulas that belong together, before a condition if there is one."""
    last = _linked(text, spans, len(spans) - 1, -1, _CONDITION)
    first = _linked(text, spans, last, -1, _ALTERNATIVE)
    if first < last and _RANGE.search(text[max(0, spans[first][0] - 12) : spans[first][0]]):
        first = last  # "between 1 and 2" is no list
    everything = _linked(text, spans, last, -1, _LISTED)
    if everything == 0 and not text[: spans[0][0]].strip("$\\([ \n"):
        first = 0  # nothing but formulas
    kind = _KIND.search(text[max(0, spans[first][0] - 60) : spans[first][0]])
    return (kind[1] + " " if kind else "") + _joined(text, spans[first : last + 1])


def _last_numbers(text: str, numbers: list[re.Match[str]]) -> Found | None:
    """The last number; with those before it where "and", "or" or commas list several."""
    if (ratio := _ratio(text, numbers)) is not None:
        return ratio
    first, links = len(numbers) - 1, ""
    while first > 0 and len(numbers) - first < _MAX_LISTED:
        between = text[numbers[first - 1].end() : numbers[first].start()]
        before = text[max(0, numbers[first - 1].start() - 12) : numbers[first - 1].start()]
        if _RANGE.search(before) and between.strip().lower() == "and":
            return None  # "between 1 and 2"
        if len(between) > 16 or not _LISTED.fullmatch(between) or "." in between:
            break
        first, links = first - 1, links + between
    start, end = numbers[first].start(), numbers[-1].end()
    if _is_denied(text, start, end):
        return None
    if first < len(numbers) - 2 or re.search(r"\b(?:and|or)\b", links, re.IGNORECASE):
        return Found(text[start:end], "last_number")
    return Found(_with_context(text, *numbers[-1].span()), "last_number")


def _ratio(text: str, numbers: list[re.Match[str]]) -> Found | None:
    """``3 to 5`` after the word "ratio" or as the start of a completion."""
    if len(numbers) < 2 or text[numbers[-2].end() : numbers[-1].start()].strip().lower() != "to":
        return None
    start = numbers[-2].start()
    is_ratio = _RATIO.search(text[max(0, start - 60) : start])
    return Found(text[start : numbers[-1].end()], "last_number") if is_ratio else None


def _is_denied(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - 16) : start]
    is_other = _NO_VALUE.search(before) or re.search(r"\bor\s{0,3}\Z", before)
    return bool(is_other or NEGATION.search(before) or _DENIAL.match(text, end))


def _with_context(text: str, start: int, end: int) -> str:
    """A number with its time of day, the formula it is a part of, or its unit."""
    if match := _BEFORE.search(text[max(0, start - 3) : start]):  # a time of day
        start -= len(match[0])
    elif formula := formula_around(text, start, end):
        return formula
    number = text[start:end].rstrip(",")
    named = _UNIT.match(text, end)
    if named is not None and is_unit_word(named["base"] or named["unit"]):
        return number + rf"\text{{ {named[1]}}}"
    plain = _PLAIN_UNIT.match(text, end)
    if plain is not None and plain[1].lower() not in _NO_UNITS and is_unit_word(plain[1]):
        return number + rf"\text{{ {plain[1]}}}"
    after = _AFTER.match(text, end)
    if after is None or after["unit"]:
        return number + (rf"\text{{ {after['unit']}}}" if after else "")
    return text[start : after.end()]


def bracketed(text: str) -> list[str]:
    """The outermost objects and arrays in a text, by their brackets."""
    depth, start, quoted = 0, 0, False
    found: list[str] = []
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
            if depth == 0:
                found.append(text[start : match.end()])
    return found


def _nesting(text: str) -> int:
    depth = deepest = 0
    for mark in re.findall(r"[\[{]|[\]}]", text):
        depth += 1 if mark in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
