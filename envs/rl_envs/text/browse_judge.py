"""Whether an answer is right, and whether quotes show it: they occur where they are said to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rl_envs.text.browse_corpus import Page
from rl_verifiers import extract
from rl_verifiers.quotes import Quotes, quotes_verifier
from rl_verifiers.quotes_text import Span, fold, occurrences

MAX_ANSWER_CHARACTERS = 300
MIN_WORDS = 4
MAX_SHARE = 0.5

_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_TAGS = re.compile(r"</?\s{0,9}(?:quote|think|thought|reasoning)", re.IGNORECASE)
_EDGE = " \n\t.,;:!?\"'()[]{}*`"
_MAX_PLACES = 1_000


class Quote(NamedTuple):
    """A quote that was recorded: the page it is from and where on it it stands."""

    page: Page
    text: str
    span: Span


class Target(NamedTuple):
    """What a quote has to contain: ``text[start:end]`` of a page, or most of it."""

    page: str
    start: int
    end: int
    whole: bool = True


def verifier_of_quotes(max_quote_chars: int) -> Quotes:
    """The verifier that says whether a quote really occurs; nothing may be left out of one."""
    return quotes_verifier(
        min_words=MIN_WORDS, max_quote_chars=max_quote_chars, max_gap=0, max_share=MAX_SHARE
    )


def find_quote(verifier: Quotes, page: Page, text: str, question: str) -> Quote | str:
    """The quote of a page, or why it is none.

    Args:
        verifier: Of :func:`verifier_of_quotes`.
        page: Where it should stand.
        text: Any text.
        question: Repeating it shows nothing.
    """
    if _TAGS.search(text[:100_000]):
        return "a quote cannot hold tags"
    report = verifier.report(
        f'<quote source="1">{text}</quote>', {"sources": [{"id": "1", "text": page.text}]}
    )
    if not report.quotes:
        return "there is nothing to quote"
    finding = report.quotes[0]
    if not finding.supported:
        where = "it does not stand on this page, word for word"
        return where if finding.problem == "not_found" else finding.line[:300]
    if fold(text).text.strip(_EDGE) in fold(question).text:
        return "that is the question, which shows nothing"
    return Quote(page, text, Span(finding.spans[0].start, finding.spans[-1].end))


def copied_too_much(verifier: Quotes, quotes: Sequence[Quote]) -> str:
    """Why the quotes of an episode are too many words of a page; empty if they are not."""
    pages = {quote.page.id: quote.page for quote in quotes}
    names = {page: str(number) for number, page in enumerate(pages, start=1)}
    completion = "\n".join(
        f'<quote source="{names[quote.page.id]}">{quote.text}</quote>' for quote in quotes
    )
    sources = [{"id": names[page.id], "text": page.text} for page in pages.values()]
    score = verifier(completion, {"sources": sources})
    return "" if score.passed else score.reason


def is_supported(target: Target, quote: Quote) -> bool:
    """Whether a quote contains a target, or at least half of one that need not be whole."""
    if quote.page.id != target.page:
        return False
    start, end = max(quote.span.start, target.start), min(quote.span.end, target.end)
    wanted = target.end - target.start
    return end - start >= (wanted if target.whole else wanted / 2)


def places_of(text: str, page: Page, *, whole: bool = True) -> list[Target]:
    """Where a text stands on a page as whole words, typography and case aside."""
    folded = fold(page.text)
    wanted = fold(text).text.strip(_EDGE)
    found = occurrences(wanted, folded.text, _MAX_PLACES) if wanted else ()
    spans = (folded.span(place, place + len(wanted)) for place in found)
    return [Target(page.id, span.start, span.end, whole) for span in spans]


def answer_of(completion: str) -> str:
    """The answer in what was said last: in its ``<answer>`` if there is one, else all of it."""
    rest = extract.without_thinking(completion) or ""
    tagged = extract.answer_tag(rest)
    return rest.strip() if tagged is None else tagged


def is_right(answer: str, accepted: Sequence[str]) -> bool:
    """Whether an answer is one of those accepted.

    Case, typography, an article before it, marks around it and commas in numbers do not count.
    """
    if not answer or len(answer) > MAX_ANSWER_CHARACTERS:
        return False
    return _plain(answer) in {_plain(each) for each in accepted}


def _plain(text: str) -> str:
    words = _THOUSANDS.sub("", fold(text).text.strip(_EDGE)).split()
    if len(words) > 1 and words[0] in ("the", "a", "an"):
        words = words[1:]
    return " ".join(words)


def accepted_answers(answer: Any, info: Mapping[str, Any]) -> list[str]:
    """All ways to write a task's answer."""
    first = answer if isinstance(answer, list | tuple) else [answer]
    return [str(each) for each in (*first, *(info.get("accepted") or ())) if each is not None]
