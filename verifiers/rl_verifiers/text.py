"""Verifiers that compare text: exact, contains, choice, JSON and regular expressions."""

from __future__ import annotations

import asyncio
import json
import re
import unicodedata
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, get_args

from rl_verifiers import extract
from rl_verifiers.score import Row, Score, VerifierError
from rl_verifiers.workers import WorkerError, failure_score, inside_worker, shared_pool

Extraction = Literal["whole", "final", "boxed", "answer_tag", "last_number", "code"]


def extraction(name: str) -> Callable[[str], str | None]:
    """The function of :mod:`rl_verifiers.extract` behind an ``extract=`` option.

    Raises:
        VerifierError: There is no such rule.
    """
    if name not in _EXTRACTIONS:
        raise VerifierError(f"unknown extract {name!r}; one of {', '.join(_EXTRACTIONS)}")
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


def reference(row: Row) -> str | None:
    """The row's answer as text; None where it is missing, empty, or neither text nor a number."""
    answer = row.get("answer")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        return None
    return str(answer).strip() or None


def bad_reference(row: Row) -> Score:
    """The score of a row whose answer cannot be used."""
    return Score.wrong(f"unusable answer {row.get('answer')!r:.80}", status="bad_reference")


@dataclass(frozen=True)
class Exact:
    """See :func:`exact`."""

    extract: Extraction
    case: bool
    whitespace: bool
    bounded = True

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        wanted = reference(row)
        if wanted is None:
            return bad_reference(row)
        found = _EXTRACTIONS[self.extract](completion)
        if not found:
            return Score.wrong("no answer found", status="no_answer")
        if self._folded(found) == self._folded(wanted):
            return Score.correct()
        return Score.wrong(f"{found!r:.80} is not the answer")

    def _folded(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        text = text if self.case else text.casefold()
        return text if self.whitespace else " ".join(text.split())


def exact(*, extract: Extraction = "whole", case: bool = True, whitespace: bool = False) -> Exact:
    """The answer equals ``row["answer"]`` character by character.

    Args:
        extract: Where the answer stands in the completion.
        case: Whether upper and lower case differ.
        whitespace: Whether white space counts; by default runs of it are one space and the ends
            are trimmed.
    """
    extraction(extract)
    return Exact(extract, case, whitespace)


_REFERENCE_LETTER = re.compile(
    r"(?:\\text(?:bf)?|\\mathrm|\\mathbf)?\s?\{?\s?\(?\s?([A-J])\s?\)?\s?\}?"
)
# The words "A" and "I" name an option only where a clause ends after them.
_OPTION = re.compile(
    r"(?<![\w'’\\])(?:\((?P<a>[A-Ja-j])\)|(?P<b>[B-HJ](?![\w'’])"
    r"|[AI](?=\s*(?:[.,;:!?)]|\Z|(?:and|or|because)\b))))"
)
_LEADING = re.compile(r"\(?([A-Za-z])(?:\)|[.:](?=\s)|\Z)")
_CLAUSE = re.compile(
    r",?\s(?:because|since|which|where|but|so|as|it|not|can|cannot)\b|[.;!?](?=\s|\Z)|\n"
)


def option_letter(answer: str) -> str | None:
    r"""The letter of a reference that is an option: ``B``, ``(B)``, ``\text{(B)}``; else None."""
    match = _REFERENCE_LETTER.fullmatch(answer)
    return None if match is None else match[1]


def choice_letter(answer: str) -> str | None:
    r"""The option that an answer names: ``B``, ``(B) 42``, ``B. 42``, ``\text{B}``, ``for sure B``.

    None where it names no option, or several different ones.
    """
    answer = re.sub(r"\\(?:text|textbf|mathrm|mathbf)\s?\{([^{}]{0,200})\}", r"\1", answer)
    answer = answer.strip().strip("*$").strip()
    if match := _LEADING.match(answer):
        return match[1].upper()
    clause = _CLAUSE.split(answer, maxsplit=1)[0]
    found = {match["a"] or match["b"] for match in _OPTION.finditer(clause)}
    found = {letter.upper() for letter in found}
    return found.pop() if len(found) == 1 else None


def choice_in(completion: str, extract_by: Extraction) -> str | None:
    """The option that a completion ends on, or None.

    Where "final" finds no announced answer, a completion that starts with ``B.`` has chosen B, and
    else the last option named counts.
    """
    if extract_by != "final":
        found = extraction(extract_by)(completion)
        return None if found is None else choice_letter(found)
    final = extract.final_answer(completion)
    if final is not None and final.rule not in ("last_number", "last_math"):
        return choice_letter(final.text)
    rest = (extract.without_thinking(completion) or "").strip()
    if final is None and extract.boxed(rest) is None and "\\boxed" in rest:
        return None
    if match := _LEADING.match(rest):
        return match[1].upper()
    options = [match["a"] or match["b"] for match in _OPTION.finditer(rest)]
    return options[-1].upper() if options else None


@dataclass(frozen=True)
class Choice:
    """See :func:`choice`."""

    extract: Extraction
    options: str
    bounded = True

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        wanted = option_letter(reference(row) or "")
        if wanted is None or wanted not in self.options:
            return bad_reference(row)
        found = choice_in(completion, self.extract)
        if found is None or found not in self.options:
            return Score.wrong(f"no single option of {self.options}", status="no_answer")
        return Score.correct() if found == wanted else Score.wrong(f"{found} is not the answer")


def choice(*, extract: Extraction = "final", options: str = "ABCDEFGHIJ") -> Choice:
    """The option letter chosen is that of ``row["answer"]``: ``B``, ``(B)``, ``B.``, ``answer: B``.

    An answer that names several different letters is no answer.

    Args:
        extract: Where the answer stands in the completion.
        options: The letters on offer, A to J at most.

    Raises:
        VerifierError: Options that are not distinct letters from A to J.
    """
    extraction(extract)
    if not options or len(set(options)) != len(options) or not set(options) <= set("ABCDEFGHIJ"):
        raise VerifierError(
            f"choice: options must be distinct letters from A to J, not {options!r}"
        )
    return Choice(extract, options)


@dataclass(frozen=True)
class Contains:
    """See :func:`contains`."""

    case: bool
    bounded = True

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        answer = row.get("answer")
        wanted = [answer] if isinstance(answer, str) else answer
        if not isinstance(wanted, list | tuple) or not wanted:
            return bad_reference(row)
        if not all(isinstance(item, str) and item.strip() for item in wanted):
            return bad_reference(row)
        text = completion if self.case else completion.casefold()
        missing = [item for item in wanted if (item if self.case else item.casefold()) not in text]
        return Score.wrong(f"{missing[0]!r:.80} is missing") if missing else Score.correct()


def contains(*, case: bool = False) -> Contains:
    """The completion contains ``row["answer"]``, a string or a list of strings that all must occur.

    Easily gamed by listing candidates: for filtering data rather than for training.
    """
    return Contains(case)


@dataclass(frozen=True)
class JsonEqual:
    """See :func:`json_equal`."""

    bounded = True

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        wanted = row.get("answer")
        try:
            wanted = extract.json_value(wanted) if isinstance(wanted, str) else wanted
        except ValueError:
            return bad_reference(row)
        if wanted is None:
            return bad_reference(row)
        try:
            found = extract.json_value(completion)
        except ValueError as error:
            return Score.wrong(str(error), status="no_answer")
        same = _canonical(found) == _canonical(wanted)
        return Score.correct() if same else Score.wrong(f"{found!r:.80} is not the answer")


def json_equal() -> JsonEqual:
    """The last JSON value in the completion equals ``row["answer"]`` (a JSON text or a value).

    Objects compare without regard to the order of their keys; ``true`` is not ``1``.
    """
    return JsonEqual()


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


_INLINE_REGEX = 1_000
_REGEX_CPU_SECONDS = 2.0


@dataclass(frozen=True)
class Regex:
    """See :func:`regex`."""

    pattern: str
    full: bool
    group: int | str | None
    flags: int
    bounded = True

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks while a worker matches."""
        if self._is_cheap(completion) or inside_worker():
            return self._judged(self.found(completion), row)
        try:
            return self._judged(self._submit(completion).result(), row)
        except WorkerError as error:
            return failure_score(error)

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion; other tasks run while a worker matches."""
        if self._is_cheap(completion) or inside_worker():
            return self._judged(self.found(completion), row)
        try:
            return self._judged(await asyncio.wrap_future(self._submit(completion)), row)
        except WorkerError as error:
            return failure_score(error)

    def found(self, completion: str) -> tuple[bool, str | None]:
        """Whether the pattern matches, and the text of the group asked for."""
        compiled = re.compile(self.pattern, self.flags)
        match = compiled.fullmatch(completion) if self.full else compiled.search(completion)
        if match is None:
            return False, None
        return True, match[self.group] if self.group is not None else None

    def _is_cheap(self, completion: str) -> bool:
        """One repetition of a single item, and little text: quadratic time at the worst."""
        repeats = len(re.findall(r"[*+?{]", self.pattern))
        return len(completion) <= _INLINE_REGEX and (
            repeats == 0 or (repeats == 1 and not re.search(r"\)[*+?{]|\\\d", self.pattern))
        )

    def _submit(self, completion: str) -> Future[tuple[bool, str | None]]:
        return shared_pool().submit(
            Regex.found, self, completion, cpu_s=_REGEX_CPU_SECONDS, wall_s=60.0
        )

    def _judged(self, found: tuple[bool, str | None], row: Row) -> Score:
        matched, text = found
        if not matched:
            return Score.wrong("the pattern does not match", status="no_answer")
        if self.group is None:
            return Score.correct()
        wanted = reference(row)
        if wanted is None:
            return bad_reference(row)
        same = text is not None and text.strip() == wanted
        return Score.correct() if same else Score.wrong(f"{text!r:.80} is not the answer")


def regex(
    *,
    pattern: str,
    full: bool = False,
    group: int | str | None = None,
    ignore_case: bool = False,
    multiline: bool = False,
) -> Regex:
    """A pattern of the author's matches the completion.

    The pattern is trusted, the text is not: whatever could backtrack runs in a killable worker for
    at most two processor seconds and then scores ``over_limit``.

    Args:
        pattern: In the syntax of :mod:`re`.
        full: Whether the whole completion must match.
        group: A group whose text must equal ``row["answer"]``; None asks for a match only.
        ignore_case: Letters match in either case.
        multiline: ``^`` and ``$`` match at lines.

    Raises:
        VerifierError: The pattern does not compile or has no such group.
    """
    flags = (re.IGNORECASE if ignore_case else 0) | (re.MULTILINE if multiline else 0)
    try:
        compiled = re.compile(pattern, flags)
    except re.error as error:
        raise VerifierError(f"regex: pattern {pattern!r:.80}: {error}") from None
    known = {*range(compiled.groups + 1), *compiled.groupindex, None}
    if group not in known:
        raise VerifierError(f"regex: pattern {pattern!r:.80} has no group {group!r}")
    return Regex(pattern, full, group, flags)
