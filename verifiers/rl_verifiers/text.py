"""Verifiers that compare text: exact, contains, choice, JSON and regular expressions."""

from __future__ import annotations

import asyncio
import json
import re
import unicodedata
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from rl_verifiers import choices, extract
from rl_verifiers.extractions import Extraction, extraction
from rl_verifiers.option_checks import check_flags
from rl_verifiers.options import choice_in, option_letter
from rl_verifiers.score import Row, Score, VerifierError
from rl_verifiers.shown import shown
from rl_verifiers.workers import WorkerError, failure_score, inside_worker, shared_pool

__all__ = [
    "Choice", "Contains", "Exact", "Extraction", "JsonEqual", "Regex", "bad_reference", "choice",
    "choice_in", "contains", "exact", "extraction", "json_equal", "option_letter", "reference",
    "regex",
]  # fmt: skip


def reference(row: Row) -> str | None:
    """The row's answer as text; None where it is missing, empty, or neither text nor a number."""
    answer = row.get("answer")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        return None
    try:
        return str(answer).strip() or None
    except ValueError:  # a whole number of more digits than Python spells out
        return None


def bad_reference(row: Row) -> Score:
    """The score of a row whose answer cannot be used."""
    return Score.wrong(f"unusable answer {shown(row.get('answer'))}", status="bad_reference")


@dataclass(frozen=True)
class Exact:
    """See :func:`exact`."""

    extract: Extraction
    case: bool
    whitespace: bool
    bounded = True
    reads = ("answer",)
    needs = ("answer",)

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        wanted = reference(row)
        if wanted is None:
            return bad_reference(row)
        found = extraction(self.extract)(completion)
        if not found:
            return Score.wrong("no answer found", status="no_answer")
        if self._folded(found) == self._folded(wanted):
            return Score.correct(answer=found)
        return Score.wrong(f"{shown(found)} is not the answer", answer=found)

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
    extraction(extract, "exact")
    check_flags("exact", case=case, whitespace=whitespace)
    return Exact(extract, case, whitespace)


@dataclass(frozen=True)
class Choice:
    """See :func:`choice`."""

    extract: Extraction
    options: str
    bounded = True
    reads = ("answer", "options", "choices")

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        options = choices.offered(row)
        labels = options or dict.fromkeys(self.options, "")
        wanted = option_letter(reference(row) or "")
        if wanted not in labels and (options or isinstance(row.get("answer"), int)):
            wanted = choices.wanted_label(row.get("answer"), labels)
        if wanted is None or wanted not in labels:
            return bad_reference(row)
        found = self._found(completion, options)
        if found is None or found not in labels:
            return Score.wrong(f"no single option of {''.join(labels)}", status="no_answer")
        return (
            Score.correct(answer=found)
            if found == wanted
            else Score.wrong(f"{found} is not the answer", answer=found)
        )

    def _found(self, completion: str, options: Mapping[str, str]) -> str | None:
        """The label chosen: by the text of an option where the row has them, else by its letter."""
        text = self._announced(completion) if options else None
        by_text = choices.label_of_text(text, options) if text else None
        last = choices.last_letter(options)
        found = by_text or choice_in(completion, self.extract, last)
        if text and (found is None or (len(found) == 1 and found not in options)):
            found = choices.chosen_label(text, options)
        return found

    def _announced(self, completion: str) -> str | None:
        """The answer as text; all of a completion that announces none."""
        if self.extract != "final":
            return extraction(self.extract)(completion)
        final = extract.final_answer(completion)
        if final is not None and final.rule not in ("last_number", "last_math"):
            return final.text
        return (extract.without_thinking(completion) or "").strip()[:1_000]


def choice(*, extract: Extraction = "final", options: str = "ABCDEFGHIJ") -> Choice:
    """The option letter chosen is that of ``row["answer"]``: ``B``, ``(B)``, ``B.``, ``answer: B``.

    An answer that names several different letters is no answer. Where the row has its options (a
    column ``options`` or ``choices``: texts, ``{"A": text}``, or ARC's labels and texts), the
    answer may be one's text, too. ``row["answer"]`` may also be an index from 0, as in MMLU.

    Args:
        extract: Where the answer stands in the completion.
        options: The letters on offer, A to J at most, where the row does not have its options.

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
    reads = ("answer",)
    needs = ("answer",)

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
        return Score.wrong(f"{shown(missing[0])} is missing") if missing else Score.correct()


def contains(*, case: bool = False) -> Contains:
    """The completion contains ``row["answer"]``, a string or a list of strings that all must occur.

    Easily gamed by listing candidates: for filtering data rather than for training.
    """
    check_flags("contains", case=case)
    return Contains(case)


@dataclass(frozen=True)
class JsonEqual:
    """See :func:`json_equal`."""

    bounded = True
    reads = ("answer",)
    needs = ("answer",)

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
            expected = _canonical(wanted)
        except (TypeError, ValueError, RecursionError):  # a date, a Decimal, a thousand lists
            return bad_reference(row)
        try:
            found = extract.json_value(completion)
        except ValueError as error:
            return Score.wrong(str(error), status="no_answer")
        answer = _canonical(found)
        if answer == expected:
            return Score.correct(answer=answer)
        return Score.wrong(f"{found!r:.80} is not the answer", answer=answer)


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

    @property
    def reads(self) -> tuple[str, ...]:
        """The row's columns that the score depends on."""
        return () if self.group is None else ("answer",)

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
        answer = None if text is None else text.strip()
        if answer == wanted:
            return Score.correct(answer=answer)
        return Score.wrong(f"{shown(text)} is not the answer", answer=answer)


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
    check_flags("regex", full=full, ignore_case=ignore_case, multiline=multiline)
    if not isinstance(pattern, str):
        raise VerifierError(f"regex: pattern is {shown(pattern, 40)}; it must be a text")
    flags = (re.IGNORECASE if ignore_case else 0) | (re.MULTILINE if multiline else 0)
    try:
        compiled = re.compile(pattern, flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise VerifierError(f"regex: pattern {pattern!r:.80}: {error}") from None
    known = [*range(compiled.groups + 1), *compiled.groupindex, None]
    if isinstance(group, bool) or group not in known:
        groups = ", ".join(map(str, known[:-1]))
        raise VerifierError(
            f"regex: pattern {pattern!r:.80} has no group {shown(group, 40)}; it has {groups}"
        )
    return Regex(pattern, full, group, flags)
