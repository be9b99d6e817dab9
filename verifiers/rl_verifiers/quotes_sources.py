"""The sources that a row's quotes may come from."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rl_verifiers.quotes_text import Folded, fold
from rl_verifiers.score import Row

MAX_SOURCE_CHARACTERS = 20_000_000
"""Of all sources of a row together."""
_KEPT_CHARACTERS = 20_000_000


@dataclass(frozen=True)
class Source:
    """A document that can be quoted."""

    id: str
    title: str
    text: str


def sources_of(row: Row) -> list[Source]:
    """The sources of a row.

    Raises:
        ValueError: There are none, or one has no text, or an id stands twice.
    """
    given = row.get("sources")
    if isinstance(given, Mapping):
        given = [{"id": name, "text": text} for name, text in given.items()]
    if not isinstance(given, list | tuple) or not given:
        raise ValueError(
            "no sources: give a list of {id, title, text} or a mapping from id to text"
        )
    sources = []
    for number, each in enumerate(given, start=1):
        each = {"text": each} if isinstance(each, str) else each  # noqa: PLW2901
        if not isinstance(each, Mapping) or not isinstance(each.get("text"), str):
            raise ValueError(f"source {number} has no text")
        name = each.get("id")
        title = each.get("title")
        name = str(number if name is None else name).strip()
        sources.append(Source(name, str(title or "").strip(), each["text"]))
    if len({source.id for source in sources}) < len(sources):
        raise ValueError("two sources have the same id")
    if sum(len(source.text) for source in sources) > MAX_SOURCE_CHARACTERS:
        raise ValueError(f"the sources have over {MAX_SOURCE_CHARACTERS:,} characters")
    return sources


def named_source(name: str, sources: Sequence[Source]) -> Source | None:
    """The source with an id, else the only one with a title, typography and case aside."""
    for source in sources:
        if source.id == name:
            return source
    if len(name) > 1000:
        return None
    wanted = fold(name).text.strip()
    found = [s for s in sources if fold(s.title[:1000]).text.strip() == wanted and wanted]
    return found[0] if len(found) == 1 else None


_kept: OrderedDict[tuple[str, bool], Folded] = OrderedDict()
_kept_lock = threading.Lock()


def folded_source(text: str, *, case: bool) -> Folded:
    """A source folded; the latest ones are kept, for the other completions of the same row."""
    with _kept_lock:
        found = _kept.get((text, case))
        if found is not None:
            _kept.move_to_end((text, case))
            return found
    found = fold(text, case=case)
    with _kept_lock:
        _kept[text, case] = found
        total = sum(folded.length for folded in _kept.values())
        while total > _KEPT_CHARACTERS and len(_kept) > 1:
            total -= _kept.popitem(last=False)[1].length
    return found
