"""Is a completion in the language that is wanted?"""

from __future__ import annotations

import difflib
import importlib.util
import re
from dataclasses import dataclass
from typing import Literal, get_args

from rl_verifiers import extract
from rl_verifiers.languages import LANGUAGES, count_by_language, language_code
from rl_verifiers.score import Row, Score, VerifierError

Part = Literal["all", "thinking", "answer"]
SAME_AS_PROMPT = "prompt"

_NOT_LANGUAGE = re.compile(
    r"^[ ]{0,3}```.*?(?:^[ ]{0,3}```[^\S\n]{0,9}$|\Z)"  # fenced code
    r"|`[^`\n]+`"
    r"|\$\$[^$]+\$\$|\$[^$\n]+\$"  # mathematics
    r"|\\\([^\\]*(?:\\(?![()])[^\\]*)*\\\)|\\\[[^\\]*(?:\\(?![\[\]])[^\\]*)*\\\]"
    r"|\\(?:begin|end)\{[a-z*]{1,20}\}|\\[A-Za-z]+"
    r"|(?:https?://|www\.)\S+|(?<!\S)[\w.+-]{1,64}@\S{1,255}"
    r"|</?[A-Za-z][^<>\n]{0,60}>"  # tags
    r"|(?<![A-Za-z0-9_])[A-Za-z]*[0-9_][A-Za-z0-9_]*"  # identifiers
    r"|(?<![A-Za-z])[A-Z]{2,6}(?![A-Za-z])",  # abbreviations
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Language:
    """See :func:`language_share`."""

    language: str | None
    part: Part
    threshold: float
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
                f"no known language in column {place}: {row.get(place)!r:.80}",
                status="bad_reference",
            )
        text = part_of(completion, self.part)
        counts = count_by_language(prose(text), wanted)
        total = counts.total()
        if total == 0:
            return Score.wrong("no words", status="no_answer")
        share = counts[wanted] / total
        others = [f"{n} {code}" for code, n in counts.most_common(4) if code != wanted]
        reason = f"{counts[wanted]} of {total} words {wanted}" + (
            f"; {', '.join(others)}" if others else ""
        )
        passed = share >= self.threshold
        return Score(share, passed, "correct" if passed else "wrong", reason, {"language": share})

    def _wanted(self, row: Row) -> str | None:
        if self.language is None:
            stated = row.get("language")
            return language_code(stated) if isinstance(stated, str) else None
        if self.language == SAME_AS_PROMPT:
            return language_of(prompt_text(row.get("prompt")))
        return self.language


def language_share(
    *, language: str | None = None, part: Part = "all", threshold: float = 0.9
) -> Language:
    """The share of words in the wanted language: DeepSeek-R1's language consistency reward.

    (arXiv 2501.12948, section 2.3.2.) Code, mathematics, URLs, tags, identifiers and abbreviations
    are left out. Scripts decide where they can; among languages of one script a detector does,
    sentence by sentence. Short sentences are judged together.

    Args:
        language: A code or name (``en``, ``English``); ``prompt`` for that of ``row["prompt"]``;
            None takes the row's column ``language``.
        part: ``all``, what stands inside ``<think>`` tags, or the ``answer`` after them.
        threshold: The share that passes.

    Raises:
        VerifierError: An unknown language or part, a threshold outside 0..1, or py3langid is not
            installed.
    """
    if part not in get_args(Part):
        raise VerifierError(f"language: unknown part {part!r}; one of {', '.join(get_args(Part))}")
    if not 0 < threshold <= 1:
        raise VerifierError(f"language: threshold must be above 0, at most 1, not {threshold!r}")
    code = language
    if language is not None and language != SAME_AS_PROMPT:
        code = language_code(str(language))
        if code is None:
            close = difflib.get_close_matches(str(language).lower(), LANGUAGES, 1, 0.5)
            meant = f" (did you mean {close[0]}?)" if close else ""
            raise VerifierError(
                f"language: unknown language {language!r}{meant}; known: {', '.join(LANGUAGES)}"
            )
    if importlib.util.find_spec("py3langid") is None:
        raise VerifierError("language needs py3langid: pip install 'agent-rl[instructions]'")
    return Language(code, part, threshold)


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
    """The text without code, mathematics, URLs, tags, identifiers and abbreviations."""
    return _NOT_LANGUAGE.sub(" ", text)


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
                return str(message.get("content") or "")
    return ""
