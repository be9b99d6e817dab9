"""The verifier of quotes: words said to be a source's stand in that source, word for word."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, get_args

from rl_verifiers import extract
from rl_verifiers.option_checks import check_flags, check_one_of, check_whole
from rl_verifiers.quotes_sources import Source, folded_source, named_source, sources_of
from rl_verifiers.quotes_syntax import Citation, Syntax, find_citations
from rl_verifiers.quotes_text import (
    Span,
    chain,
    dropped_negation,
    fold,
    negated_before,
    occurrences,
    word_count,
)
from rl_verifiers.score import Row, Score, VerifierError

Problem = Literal[
    "",
    "malformed",
    "no_citation",
    "unknown_source",
    "too_short",
    "too_long",
    "not_found",
    "other_source",
    "negation_left_out",
]
Reward = Literal["all", "fraction"]

MAX_QUOTES = 100
MAX_ELISIONS = 3
MIN_FRAGMENT_WORDS = 2
SMALL_SOURCE = 1_000
"""Characters up to which a source may be quoted whole."""
_MAX_OCCURRENCES = 2_000

_ELISION = re.compile(r"\s?[\[(]?\s?\.(?:\s?\.){2,}\s?[\])]?\s?")
_BRACKETED_LETTER = re.compile(r"\[([^\W\d_])\](?=[^\W\d_])")
_EDGE = " \n\t\"'“”‘’«»,;:."


@dataclass(frozen=True)
class QuoteFinding:
    """What became of one quote.

    Attributes:
        text: The quote as written.
        cited: The sources that it names.
        problem: Empty if it is supported; else which rule it breaks.
        detail: What there is to say about the problem: an id, a word.
        source: The id of the source that it stands in; None where it stands in none.
        spans: Where in that source's own text its pieces stand: one, and one more for each elision.
        edits: Elisions, bracketed capitals, and 1 for other typography than the source's.
        repeated: Whether an earlier supported quote overlaps it.
    """

    text: str
    cited: tuple[str, ...]
    problem: Problem
    detail: str = ""
    source: str | None = None
    spans: tuple[Span, ...] = ()
    edits: int = 0
    repeated: bool = False

    @property
    def supported(self) -> bool:
        """Whether it stands in a source that it cites."""
        return not self.problem

    @property
    def line(self) -> str:
        """The finding in one line."""
        if self.supported:
            places = ", ".join(f"{span.start}:{span.end}" for span in self.spans)
            return f"{self.text!r:.80} stands in source {self.source!r:.40} at {places}"
        return f"{self.text!r:.80} {_WORDS[self.problem].format(self.detail)}"


_WORDS: Mapping[Problem, str] = {
    "malformed": "is opened as a quote, but not well formed or never closed",
    "no_citation": "cites no source",
    "unknown_source": "cites {}, which is no source",
    "too_short": "has {} words, too few for evidence",
    "too_long": "is {} characters long",
    "not_found": "stands in no source",
    "other_source": "stands in source {}, not in the cited one",
    "negation_left_out": "leaves out {}",
}


@dataclass(frozen=True)
class QuoteReport:
    """A score and what became of each quote."""

    score: Score
    quotes: tuple[QuoteFinding, ...] = ()


@dataclass(frozen=True)
class Quotes:
    """See :func:`quotes_verifier`."""

    syntax: Syntax
    reward: Reward
    min_quotes: int
    min_words: int
    max_quote_chars: int
    max_gap: int
    max_share: float
    case: bool
    negations: bool
    bounded = True
    reads = ("sources",)
    needs = ("sources",)

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion."""
        return self.report(completion, row).score

    def report(self, completion: str, row: Row) -> QuoteReport:
        """Score one completion and say where each of its quotes stands."""
        try:
            sources = sources_of(row)
        except ValueError as error:
            return QuoteReport(Score.wrong(str(error), status="bad_reference"))
        rest = extract.without_thinking(completion) or ""
        citations = []
        for citation in find_citations(rest, self.syntax):
            counts = citation.cited or word_count(citation.text[:1000]) >= self.min_words
            if self.syntax == "inline" and not counts:
                continue  # a word in scare quotes
            citations.append(citation)
            if len(citations) > MAX_QUOTES:
                reason = f"more than {MAX_QUOTES} quotes"
                return QuoteReport(Score.wrong(reason, status="over_limit"))
        findings = _mark_repeated([self._found(citation, sources) for citation in citations])
        return QuoteReport(self._scored(findings, sources), tuple(findings))

    def _found(self, citation: Citation, sources: Sequence[Source]) -> QuoteFinding:
        finding = QuoteFinding(citation.text[:2000], citation.cited, "not_found")
        if citation.malformed:
            return replace(finding, problem="malformed")
        if len(citation.text) > self.max_quote_chars:
            return replace(finding, problem="too_long", detail=str(len(citation.text)))
        words = word_count(citation.text)
        if words < self.min_words:
            return replace(finding, problem="too_short", detail=str(words))
        named = {name: named_source(name, sources) for name in citation.cited}
        cited = [source for source in named.values() if source is not None]
        found = [self._in_source(finding, citation.text, source) for source in cited]
        found.sort(key=lambda each: (not each.supported, each.problem == "not_found"))
        if found and found[0].problem != "not_found":
            return found[0]
        others = [source for source in sources if source not in cited]
        elsewhere = (self._in_source(finding, citation.text, source) for source in others)
        where = next((each for each in elsewhere if each.supported), None)
        return _unsupported(finding, where, any_cited=bool(cited))

    def _in_source(self, finding: QuoteFinding, quote: str, source: Source) -> QuoteFinding:
        """The finding for one source: supported, ``not_found`` or ``negation_left_out``."""
        folded = folded_source(source.text, case=self.case)
        wanted = fold(quote.strip(_EDGE), case=self.case).text.strip(_EDGE)
        first = next(occurrences(wanted, folded.text, _MAX_OCCURRENCES), None) if wanted else None
        if first is not None:
            places, fragments, edits = [first], [wanted], 0
        else:
            edited = self._edited(wanted, folded.text)
            if edited is None:
                return finding
            places, fragments, edits = edited
        ends = [place + len(part) for place, part in zip(places, fragments, strict=True)]
        pairs = zip(places, ends, strict=True)
        spans = tuple(folded.span(start, end) for start, end in pairs)
        if len(spans) == 1 and not edits:
            edits = int(source.text[spans[0].start : spans[0].end] != quote.strip(_EDGE))
        left_out = self._left_out(folded.text, places, ends)
        problem: Problem = "negation_left_out" if left_out else ""
        return replace(
            finding,
            problem=problem,
            detail=repr(left_out or ""),
            source=source.id,
            spans=spans,
            edits=edits,
        )

    def _edited(self, wanted: str, text: str) -> tuple[list[int], list[str], int] | None:
        """Where a quote's pieces stand, elisions and bracketed capitals undone, and their number.

        Where case counts, a letter in brackets still stands for either case.
        """
        letters = len(_BRACKETED_LETTER.findall(wanted))
        cases: list[Callable[[str], str]]
        cases = [str.lower, str.upper] if self.case and letters <= MAX_ELISIONS else [str]
        for turns in product(cases, repeat=letters):
            plain = _unbracketed(wanted, turns)
            fragments = [part.strip(_EDGE) for part in _ELISION.split(plain)]
            fragments = [part for part in fragments if part]
            edits = letters + len(fragments) - 1
            if not _may_be_elided(fragments, edits):
                return None
            found = chain(fragments, text, self.max_gap, _MAX_OCCURRENCES)
            if found is not None:
                return found, fragments, edits
        return None

    def _left_out(self, text: str, places: Sequence[int], ends: Sequence[int]) -> str | None:
        """The negation that a quote drops: right before it, or in an elision."""
        if not self.negations:
            return None
        gaps = [text[end:place] for end, place in zip(ends, places[1:], strict=False)]
        before = negated_before(text[max(0, places[0] - 40) : places[0]].lower())
        return before or next(filter(None, (dropped_negation(gap.lower()) for gap in gaps)), None)

    def _scored(self, findings: Sequence[QuoteFinding], sources: Sequence[Source]) -> Score:
        supported = sum(finding.supported for finding in findings)
        distinct = sum(finding.supported and not finding.repeated for finding in findings)
        copied, copied_from = _most_copied(findings, sources)
        parts = {
            "n_quotes": float(len(findings)),
            "supported": supported / len(findings) if findings else 0.0,
            "copied": copied,
            "edits": float(sum(finding.edits for finding in findings)),
        }
        bad = next((finding for finding in findings if not finding.supported), None)
        too_much = copied > self.max_share
        passed = bad is None and not too_much and distinct >= self.min_quotes
        value = float(passed)
        if self.reward == "fraction" and not too_much:
            repeated = supported - distinct
            value = distinct / max(len(findings) - repeated, self.min_quotes, 1)
            value = 1.0 if passed else value
        if passed:
            reason = "; ".join(finding.line for finding in findings)[:500]
            return Score(value, True, "correct", reason, parts)
        if not findings:
            return Score(0.0, False, "no_answer", "no quotes found", parts)
        if bad is not None:
            reason = bad.line
        elif too_much:
            reason = f"quotes {copied:.0%} of source {copied_from!r:.40}"
        else:
            reason = f"{distinct} different quotes, not {self.min_quotes}"
        return Score(value, False, "wrong", reason, parts)


def quotes_verifier(
    *,
    syntax: Syntax = "tag",
    reward: Reward = "all",
    min_quotes: int = 1,
    min_words: int = 4,
    max_quote_chars: int = 1_000,
    max_gap: int = 300,
    max_share: float = 0.5,
    case: bool = False,
    negations: bool = True,
) -> Quotes:
    """The completion's quotes stand word for word in the sources that they cite.

    The sources are ``row["sources"]``: a list of ``{id, title, text}`` (without an id it is the
    number in the list, from 1), or a mapping from id to text. A quote cites an id or a title. The
    idea is that of GopherCite (arXiv 2203.11147) and WebGPT (arXiv 2112.09332); gate another
    verifier with this one where the answer must be right, too.

    Quote and source are compared with typography folded (quotation marks, dashes, white space,
    ligatures and the rest of Unicode's compatibility forms, soft hyphens; case unless ``case``),
    as whole words. A full stop, comma or the like at a quote's ends does not count, ``[T]he`` may
    stand for ``the`` (also with ``case``), and ``...`` or ``[...]`` leaves out at most ``max_gap``
    characters, at most three times. Any other change makes a quote invented. A quote that is
    opened, but is not well formed or never closed, is unsupported.

    The status is ``no_answer`` without quotes. Parts: ``n_quotes``, ``supported`` (their share),
    ``copied`` (the largest share of a source that is quoted, of sources over 1,000 characters),
    ``edits``. :meth:`Quotes.report` gives every quote's place in its source's own text.

    Args:
        syntax: ``tag``: ``<quote source="id">...</quote>``; ``gophercite``:
            ``%<Claim>%(Title)%[Quote]%``; ``markdown``: lines that begin with ``>``, with ``[id]``
            at their end or on the line below; ``inline``: ``"..." [id]``, where quoted text without
            an id lacks its citation if it has ``min_words`` words.
        reward: ``all``: 1 if every quote is supported, else 0; ``fraction``: the share that is.
        min_quotes: Different quotes at the least; repeated or overlapping ones count once.
        min_words: Words that a quote has at the least: "the" is no evidence.
        max_quote_chars: Characters that a quote has at the most.
        max_gap: Characters that an elision may leave out.
        max_share: Of a source over 1,000 characters, how much may be quoted.
        case: Whether upper and lower case differ.
        negations: Refuse a quote that leaves out a negation (in English): right before it, or in
            the sentences that its elision breaks.

    Raises:
        VerifierError: An option that is not one of these.
    """
    find_citations("", syntax)
    check_one_of("quotes", "reward", reward, get_args(Reward))
    check_whole("quotes", min_quotes=min_quotes, min_words=min_words)
    check_whole("quotes", max_quote_chars=max_quote_chars)
    check_whole("quotes", 0, max_gap=max_gap)
    check_flags("quotes", case=case, negations=negations)
    if isinstance(max_share, bool) or not isinstance(max_share, int | float) or not max_share > 0:
        raise VerifierError(f"quotes: max_share is {max_share!r:.40}; it must be a number above 0")
    return Quotes(
        syntax,
        reward,
        min_quotes,
        min_words,
        max_quote_chars,
        max_gap,
        float(max_share),
        case,
        negations,
    )


def _unbracketed(quote: str, turns: Sequence[Callable[[str], str]]) -> str:
    """A quote whose letters in brackets are turned, each by one of ``turns``, and set free."""
    left = iter(turns)
    return _BRACKETED_LETTER.sub(lambda found: next(left)(found[1]), quote)


def _unsupported(
    finding: QuoteFinding, elsewhere: QuoteFinding | None, *, any_cited: bool
) -> QuoteFinding:
    """The finding for a quote that is in none of the cited sources; where it stands if anywhere."""
    if not finding.cited:
        return replace(finding if elsewhere is None else elsewhere, problem="no_citation")
    if elsewhere is not None:
        return replace(elsewhere, problem="other_source", detail=repr(elsewhere.source))
    if not any_cited:
        return replace(finding, problem="unknown_source", detail=f"{finding.cited[0]!r:.80}")
    return finding


def _may_be_elided(fragments: Sequence[str], edits: int) -> bool:
    if not fragments or not edits or len(fragments) > MAX_ELISIONS + 1:
        return False
    return len(fragments) == 1 or all(word_count(p) >= MIN_FRAGMENT_WORDS for p in fragments)


def _mark_repeated(findings: Sequence[QuoteFinding]) -> list[QuoteFinding]:
    """Mark supported quotes that overlap an earlier one in the same source."""
    marked: list[QuoteFinding] = []
    for finding in findings:
        repeated = finding.supported and any(
            earlier.supported
            and earlier.source == finding.source
            and any(
                a.start < b.end and b.start < a.end for a in earlier.spans for b in finding.spans
            )
            for earlier in marked
        )
        marked.append(replace(finding, repeated=repeated))
    return marked


def _most_copied(
    findings: Sequence[QuoteFinding], sources: Sequence[Source]
) -> tuple[float, str | None]:
    """The largest share of a source that supported quotes cover, and which source it is."""
    most: tuple[float, str | None] = (0.0, None)
    for source in sources:
        if len(source.text) <= SMALL_SOURCE:
            continue
        spans = [s for f in findings if f.supported and f.source == source.id for s in f.spans]
        covered = done = 0
        for span in sorted(spans):
            covered += max(0, span.end - max(span.start, done))
            done = max(done, span.end)
        most = max(most, (covered / len(source.text), source.id), key=lambda each: each[0])
    return most
