"""Is a completion in the language that is wanted?"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from typing import Literal, get_args

from rl_verifiers import extract
from rl_verifiers.languages import (
    LANGUAGES,
    closest_language,
    count_by_language,
    language_code,
)
from rl_verifiers.option_checks import check_number, check_one_of
from rl_verifiers.score import Row, Score, VerifierError
from rl_verifiers.shown import shown

Part = Literal["all", "thinking", "answer"]
SAME_AS_PROMPT = "prompt"

MAX_CODE, MAX_FORMULA, MAX_URL, MAX_IDENTIFIER = 100, 1_000, 200, 40
"""Characters up to which a code span, a formula, a URL and an identifier count as no language."""

_FENCE = re.compile(r"^[ ]{0,3}```([^`\n]*)$", re.MULTILINE)
_SPAN = re.compile(
    r"`[^`\n]+`"
    r"|\$\$[^$]+\$\$|\$[^$\n]+\$"  # mathematics
    r"|\\\([^\\]*(?:\\(?![()])[^\\]*)*\\\)|\\\[[^\\]*(?:\\(?![\[\]])[^\\]*)*\\\]"
    rf"|(?:https?://|www\.)[!-~]{{1,{MAX_URL}}}|(?<!\S)[A-Za-z0-9.+_-]{{1,64}}@[!-~]{{1,{MAX_URL}}}"
    r"|</?[A-Za-z][^<>\n]{0,60}>"  # tags
)
_PROSE = re.compile(
    r"(?<![^\W\d_])(?:[^\W\d_]{2,30}[,;:.]?[ \n]{1,3}){3}[^\W\d_]{2}|[^\x00-\u036f\W\d_]{8}"
)
_COMMAND = re.compile(r"\\(?:begin|end)\{[a-z*]{1,20}\}|\\[A-Za-z]+")
_SINGLE = re.compile(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])")
_NAME = re.compile(
    r"(?P<spelt>(?:\\[A-Za-z]{2,30}\s{0,3}){5,})|" + _COMMAND.pattern + "|"
    r"(?P<shout>\b(?:[A-Z]{2,20}[,;:.]?[ \n]{1,3}){3,}[A-Z]{2,20}\b)"
    r"|(?<![A-Za-z0-9_])[A-Za-z]*[0-9_][A-Za-z0-9_]*"  # identifiers
    r"|(?<![A-Za-z])[A-Z]{2,6}(?![A-Za-z])"  # abbreviations
)


@dataclass(frozen=True)
class Language:
    """See :func:`language_share`."""

    language: str | None
    part: Part
    threshold: float
    max_hidden: float
    bounded = True

    @property
    def reads(self) -> tuple[str, ...]:
        """The row's columns that the score depends on."""
        if self.language is None:
            return ("language",)
        return ("prompt",) if self.language == SAME_AS_PROMPT else ()

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        wanted = self._wanted(row)
        if wanted is None:
            place = "prompt" if self.language == SAME_AS_PROMPT else "language"
            return Score.wrong(
                f"no known language in column {place}: {shown(row.get(place))}",
                status="bad_reference",
            )
        text = part_of(completion, self.part)
        kept = prose(text)
        counts = count_by_language(kept, wanted)
        total = counts.total()
        if total == 0:
            return Score.wrong("no words", status="no_answer")
        share = counts[wanted] / total
        others = [f"{n} {code}" for code, n in counts.most_common(4) if code != wanted]
        reason = f"{counts[wanted]} of {total} words {wanted}" + (
            f"; {', '.join(others)}" if others else ""
        )
        hidden = hidden_share(text, kept)
        parts = {"language": share, "hidden": hidden}
        if hidden > self.max_hidden:
            reason += f"; {hidden:.0%} of the letters are in code, mathematics and names"
            return Score(0.0, False, "wrong", reason, parts)
        passed = share >= self.threshold
        return Score(share, passed, "correct" if passed else "wrong", reason, parts)

    def _wanted(self, row: Row) -> str | None:
        if self.language is None:
            stated = row.get("language")
            return language_code(stated) if isinstance(stated, str) else None
        if self.language == SAME_AS_PROMPT:
            return language_of(prompt_text(row.get("prompt")))
        return self.language


def language_share(
    *,
    language: str | None = None,
    part: Part = "all",
    threshold: float = 0.9,
    max_hidden: float = 0.8,
) -> Language:
    """The share of words in the wanted language: DeepSeek-R1's language consistency reward.

    (arXiv 2501.12948, section 2.3.2.) Code, mathematics, URLs, tags, identifiers and abbreviations
    are left out. Scripts decide where they can; among languages of one script a detector does,
    sentence by sentence. Short sentences are judged together. What the words say is not looked at,
    and one word again and again is in its language, too: combine it with a verifier of the answer.

    Args:
        language: A code or name (``en``, ``English``); ``prompt`` for that of ``row["prompt"]``;
            None takes the row's column ``language``.
        part: ``all``, what stands inside ``<think>`` tags, or the ``answer`` after them.
        threshold: The share that passes.
        max_hidden: The share of letters that may stand in what is left out; above it the value is
            0, so that nothing is gained by writing an answer as code. 1 allows all, as for answers
            that are programs.

    Raises:
        VerifierError: An unknown language or part, a threshold outside 0..1, or py3langid is not
            installed.
    """
    check_one_of("language", "part", part, get_args(Part))
    check_number("language", "threshold", threshold, most=1, above=True)
    check_number("language", "max_hidden", max_hidden, most=1)
    code = language
    if language is not None and language != SAME_AS_PROMPT:
        code = language_code(str(language))
        if code is None:
            close = closest_language(str(language))
            meant = f" (did you mean {close}?)" if close else ""
            raise VerifierError(
                f"language: unknown language {shown(language, 40)}{meant}; known: prompt, "
                f"{', '.join(LANGUAGES)}, and their English names"
            )
    if importlib.util.find_spec("py3langid") is None:
        raise VerifierError("language needs py3langid: pip install 'agent-rl[instructions]'")
    return Language(code, part, threshold, max_hidden)


def part_of(completion: str, part: Part) -> str:
    """The whole completion, its thinking, or what follows it; empty where there is no such part."""
    if part == "all":
        return completion
    if part == "answer":
        return extract.without_thinking(completion) or ""
    head, closed, tail = completion.rpartition("</think>")
    thought = head if closed else tail
    _, opened, inside = thought.partition("<think>")
    return inside if opened else (head if closed else "")


def prose(text: str) -> str:
    """The text without code, mathematics, URLs, tags, identifiers and abbreviations.

    A fence that is not closed hides nothing, and neither does a code span, formula or tag that is
    long or has four plain words in a row (or eight letters of another alphabet than Latin).
    """
    return _NAME.sub(_without_name, _SPAN.sub(_without_span, _without_fences(text)))


def hidden_share(text: str, kept: str) -> float:
    """The share of a text's letters that :func:`prose` left out; 0 for no letters.

    Commands of LaTeX and single letters of the alphabet are not counted: they are mathematics.
    """
    letters = _letters(text)
    return max(0.0, 1.0 - _letters(kept) / letters) if letters else 0.0


def _letters(text: str) -> int:
    return sum(map(str.isalpha, _SINGLE.sub(" ", _COMMAND.sub(" ", text))))


def _without_fences(text: str) -> str:
    pieces: list[str] = []
    position = 0
    opened: int | None = None
    for match in _FENCE.finditer(text):
        if opened is None:
            opened = match.start()
        elif not match[1].strip():
            pieces.append(text[position:opened])
            position, opened = match.end(), None
    return "\n".join([*pieces, text[position:]])


def _without_span(match: re.Match[str]) -> str:
    span = match[0]
    if span[0] not in "`$\\<":  # a URL or an address
        return " "
    longest = MAX_CODE if span[0] == "`" else MAX_FORMULA
    return span if len(span) > longest or _PROSE.search(span) else " "


def _without_name(match: re.Match[str]) -> str:
    name = match[0]
    if match["shout"]:
        return name
    if match["spelt"]:
        return name.replace("\\", " ")
    return name.replace("_", " ") if len(name) > MAX_IDENTIFIER and name[0] != "\\" else " "


def language_of(text: str) -> str | None:
    """The language that most words of a text are in; None where it has none."""
    counts = count_by_language(prose(text))
    return counts.most_common(1)[0][0] if counts else None


def prompt_text(prompt: object) -> str:
    """A prompt as text: of chat messages, what the last user message says."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list | tuple):
        for message in reversed(prompt):
            if isinstance(message, dict) and message.get("role") == "user":
                return _content_text(message.get("content"))
    return ""


def _content_text(content: object) -> str:
    """The text of a message: itself, or that of its parts ``{"type": "text", "text": ...}``."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list | tuple) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "\n".join(text for text in texts if isinstance(text, str))
