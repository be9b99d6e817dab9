"""SQL as text: find a query in a completion, read its statement, see what its order leaves open."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from rl_verifiers import extract

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*)|(?P<comment>/\*)|(?P<text>'[^']*')|(?P<name>"[^"]*"|`[^`]*`|\[[^\]]*\])
    |(?P<word>[^\W\d][\w$]*)|(?P<number>\d[\w.]*|\.\d\w*)|(?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_STARTS = ("select", "with", "values")
_STARTS_QUERY = re.compile(r"\s*(?:select|with|values)\b", re.IGNORECASE)
_COMPOUND = ("union", "intersect", "except")


class Token(NamedTuple):
    """A piece of a query that is not white space: ``depth`` counts the parentheses around it."""

    kind: str
    text: str
    start: int
    depth: int

    @property
    def word(self) -> str:
        """A keyword or bare name in small letters; empty for anything else."""
        return self.text.lower() if self.kind == "word" else ""


class QueryError(Exception):
    """No single query: the message says what it is instead."""


def find_query(completion: str) -> str | None:
    """The SQL of a completion, after ``</think>``; None where there is none.

    It is the last closed ``sql`` or ``sqlite`` fence, else the last ``<answer>`` (or the fence in
    it), else the last closed fence that begins like a query, else the whole text if it does.
    """
    rest = extract.without_thinking(completion)
    if rest is None:
        return None
    found = _fenced(rest)
    if found is None:
        tagged = extract.answer_tag(rest)
        if tagged is not None:
            found = _fenced(tagged) or extract.code_fence(tagged) or tagged
        else:
            candidates = (extract.code_fence(rest), rest)
            found = next((text for text in candidates if text and _STARTS_QUERY.match(text)), None)
    return found if found and found.strip() else None


def _fenced(text: str) -> str | None:
    found = extract.code_fence(text, "sql")
    return extract.code_fence(text, "sqlite") if found is None else found


def tokens_of(text: str) -> list[Token]:
    """The tokens of SQL text, comments and white space left out; linear in its length."""
    return list(_tokens(text))


def _tokens(text: str) -> Iterator[Token]:
    position, depth = 0, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None
        position = match.end()
        kind = match.lastgroup or "mark"
        if kind == "comment":
            end = text.find("*/", position)
            position = len(text) if end < 0 else end + 2
        elif kind != "space":
            depth -= match[0] == ")"
            yield Token(kind, match[0], match.start(), max(depth, 0))
            depth = max(depth, 0) + (match[0] == "(")


def single_query(text: str) -> tuple[str, list[Token]]:
    """The one query of a text, without its semicolon, and its tokens.

    Raises:
        QueryError: It holds none, several, or a statement that is no query.
    """
    tokens = tokens_of(text)
    ends = [token for token in tokens if token.text == ";" and token.kind == "mark"]
    if ends:
        after = [token for token in tokens if token.start > ends[0].start and token.text != ";"]
        if after:
            raise QueryError("several statements")
        text, tokens = text[: ends[0].start], tokens[: tokens.index(ends[0])]
    if not tokens:
        raise QueryError("no statement")
    if tokens[0].word not in _STARTS:
        raise QueryError(f"no query: it begins with {tokens[0].text[:40]!r}")
    return text, tokens


@dataclass(frozen=True)
class Ordering:
    """A query's ORDER BY at the top level, made so that ties can be seen.

    Attributes:
        query: The query without its LIMIT, with what it orders by as further columns at the end.
        keys: For each term the output column: its index (from 0), its name, or, as a negative
            index, one of the columns at the end.
        added: How many columns were added.
        offset: Rows that the query itself leaves out at the beginning.
    """

    query: str
    keys: Sequence[int | str]
    added: int
    offset: int


def is_ordered(tokens: Sequence[Token]) -> bool:
    """Whether a query has an ORDER BY at the top level."""
    return _order_by(tokens) is not None


def ordering(text: str, tokens: Sequence[Token]) -> Ordering | None:
    """How to see the ties of an ordered query; None where that cannot be told from its text.

    It can be told where the terms are names or numbers of output columns; in a plain SELECT with
    a FROM also where they are any expressions over its tables.
    """
    place = _order_by(tokens)
    if place is None:
        return None
    limit = next((i for i in range(place, len(tokens)) if _is(tokens[i], "limit")), len(tokens))
    offset = _offset(tokens[limit:])
    head = tokens[: place - 2]
    top = [token for token in head if token.depth == 0]
    select = [i for i, token in enumerate(top) if token.word == "select"]
    if offset is None or not select:
        return None
    source = _from(top, select[0])
    if any(token.word in _COMPOUND for token in top) or top[select[0] + 1].word == "distinct":
        source = None
    aliases = set() if source is None else _aliases(top[select[0] : source])
    keys: list[int | str | None] = []
    added: list[str] = []
    end = tokens[limit].start if limit < len(tokens) else len(text)
    for term in _terms(tokens[place:limit]):
        key = _output_column(term, aliases, anything_named=source is None)
        if key is None and source is None:
            return None
        if key is None:
            added.append(text[term[0].start : term[-1].start + len(term[-1].text)])
        keys.append(key)
    at_end = iter(range(-len(added), 0))
    resolved = [next(at_end) if key is None else key for key in keys]
    query = text[:end]
    if added and source is not None:
        cut = top[source].start
        query = f"{text[:cut]}{''.join(f', ({term})' for term in added)} {text[cut:end]}"
    return Ordering(query, resolved, len(added), offset)


def _is(token: Token, word: str) -> bool:
    return token.depth == 0 and token.word == word


def _order_by(tokens: Sequence[Token]) -> int | None:
    """The index of the first token after the top level's ORDER BY."""
    for i in range(len(tokens) - 2, 0, -1):
        if _is(tokens[i - 1], "order") and _is(tokens[i], "by"):
            return i + 1
    return None


def _from(top: Sequence[Token], select: int) -> int | None:
    for i in range(select + 1, len(top)):
        if top[i].word == "from" and top[i - 1].word != "distinct":
            return i
    return None


def _aliases(columns: Sequence[Token]) -> set[str]:
    after = pairwise(columns)
    return {_name(token).lower() for previous, token in after if previous.word == "as"}


def _name(token: Token) -> str:
    return token.text[1:-1] if token.kind in ("name", "text") else token.text


def _terms(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The terms between commas, without direction, place of NULLs and collation."""
    term: list[Token] = []
    for token in [*tokens, Token("mark", ",", -1, 0)]:
        if token.text != "," or token.depth > 0:
            term.append(token)
            continue
        if len(term) > 2 and term[-2].word == "nulls":
            term = term[:-2]
        if len(term) > 1 and term[-1].word in ("asc", "desc"):
            term = term[:-1]
        if len(term) > 2 and term[-2].word == "collate":
            term = term[:-2]
        if term:
            yield term
        term = []


def _output_column(
    term: list[Token], aliases: set[str], *, anything_named: bool
) -> int | str | None:
    last = term[-1]
    if len(term) == 1 and last.kind == "number":
        return int(last.text) - 1 if last.text.isdecimal() and last.text != "0" else None
    if len(term) == 1 and last.kind in ("word", "name"):
        name = _name(last).lower()
        return name if anything_named or name in aliases else None
    dotted = len(term) == 3 and term[1].text == "." and last.kind in ("word", "name")
    return _name(last).lower() if dotted and anything_named else None


def _offset(tokens: Sequence[Token]) -> int | None:
    """The number of rows left out by LIMIT and what follows; None where it is no plain number."""
    texts = [token.text.lower() for token in tokens]
    if "offset" in texts:
        offset = texts[texts.index("offset") + 1 :]
    else:
        offset = texts[1:2] if "," in texts else ["0"]
    return int(offset[0]) if len(offset) == 1 and offset[0].isdecimal() else None
