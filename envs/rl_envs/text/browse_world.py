"""A made-up world: towns, rivers, people, companies, buildings and events, and pages about them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from rl_envs.text import browse_words as words
from rl_envs.text.browse_corpus import Page, digest_of_pages
from rl_envs.text.browse_words import Relation

SHARES = {"town": 22, "river": 8, "person": 30, "company": 16, "building": 12, "event": 5}
"""Pages of each kind in a hundred; the others list names."""

FEWEST_PAGES, MOST_PAGES = 100, 20_000
SHORTEST_PAGE = 1_050
"""Characters: over those up to which the verifier of quotes lets a whole source be quoted."""

LONGEST_PAGE = 2_400
FIRST_YEAR, LAST_YEAR_OF_TOWNS, LAST_YEAR = 1180, 1740, 1990
BORN = (1740, 1930)
BEGUN_BY = {"founded": "founder", "opened": "architect", "first_held": "organiser"}
"""Years that depend on when a person was born."""

MOST_MENTIONS = 6
NUMBERS = {"population": (400, 90_000), "length": (20, 900), "employees": (12, 9_000)}

Fact = tuple[str, str]
"""The name of the subject and of the relation."""


@dataclass
class Thing:
    """A town, person, ...: its facts are texts as they stand on pages."""

    name: str
    kind: str
    page: str = ""
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def phrase(self) -> str:
        """How a question names it."""
        return words.PHRASES[self.kind].format(self.name)


class Evidence(NamedTuple):
    """Where a fact is stated: ``text[start:end]`` of a page, the value at ``value_start``."""

    page: str
    start: int
    end: int
    value_start: int
    value_end: int


@dataclass(frozen=True)
class World:
    """Things by name, pages in the order of their ids, and where each fact is stated."""

    things: dict[str, Thing]
    pages: list[Page]
    evidence: dict[Fact, list[Evidence]]
    digest: str

    @cached_property
    def list(self) -> Sequence[Thing]:
        """The things in the order in which they were made."""
        return tuple(self.things.values())


@lru_cache(maxsize=4)
def world(seed: int, pages: int) -> World:
    """The world of a seed, with that many pages; the same in every process."""
    rng = np.random.default_rng((seed, pages))
    things = _things(rng, pages)
    _add_facts(rng, things)
    lists = pages - len(things)
    ids = [f"p{number:04d}" for number in rng.permutation(pages) + 1]
    for thing, page in zip(things.values(), ids, strict=False):
        thing.page = page
    mentions = _mentions(rng, things)
    evidence: dict[Fact, list[Evidence]] = {}
    made = [_page(rng, thing, mentions[thing.name], evidence) for thing in things.values()]
    names = [[t.name for t in things.values() if t.kind == kind] for kind in words.KINDS]
    made += [_list_page(rng, page, n, names) for n, page in enumerate(ids[-lists:])]
    made.sort()
    return World(things, made, evidence, digest_of_pages(made))


class _Draw:
    """Choices from a generator, as plain values."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def one(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def stem(self) -> str:
        parts = (words.ONSETS, words.VOWELS, words.CENTRES, words.CODAS)
        return "".join(self.one(part) for part in parts).capitalize()

    def year(self, last: int = LAST_YEAR) -> str:
        return str(int(self.rng.integers(FIRST_YEAR, last + 1)))

    def someone(self) -> str:
        return f"{self.one(words.FIRST_NAMES)} {self.stem()}"


def _things(rng: np.random.Generator, pages: int) -> dict[str, Thing]:
    """Names, similar ones among them: a stem serves several towns, and other kinds of things."""
    draw = _Draw(rng)
    stems = list(dict.fromkeys(draw.stem() for _ in range(max(12, pages // 8))))
    families = list(dict.fromkeys(draw.stem() for _ in range(max(8, pages // 12))))
    found: dict[str, Thing] = {}
    for kind, share in SHARES.items():
        count = max(3, pages * share // 100)
        while count:
            name = _name(draw, kind, stems, families)
            if name not in found:
                found[name] = Thing(name, kind)
                count -= 1
    return found


def _name(draw: _Draw, kind: str, stems: list[str], families: list[str]) -> str:
    if kind == "town":
        return draw.one(words.TOWN_FORMS).format(draw.one(stems))
    if kind == "river":
        return draw.one(stems) + draw.one("aeo")
    if kind == "person":
        initial = draw.one("ABCDEFGHKLMNPRSTW")
        middle = f" {initial}." if draw.rng.random() < 0.6 else ""
        return f"{draw.one(words.FIRST_NAMES)}{middle} {draw.one(families)}"
    if kind == "company":
        return f"{draw.one(families + stems)} {draw.one(words.COMPANIES)}"
    endings = words.BUILDINGS if kind == "building" else words.EVENTS
    return f"{draw.one(stems)} {draw.one(endings)}"


def _add_facts(rng: np.random.Generator, things: dict[str, Thing]) -> None:
    """Facts that agree: nobody founds anything as a child, and teachers are older than pupils."""
    draw = _Draw(rng)
    names = {kind: [t.name for t in things.values() if t.kind == kind] for kind in words.KINDS}
    regions = [draw.stem() for _ in range(12)]
    mayors = iter(rng.permutation(names["person"]).tolist())
    born = {name: int(rng.integers(*BORN)) for name in names["person"]}
    by_age = sorted(born, key=lambda name: born[name])
    years = [born[name] for name in by_age]
    for thing in things.values():
        for relation in RELATIONS_OF[thing.kind]:
            if relation.name == "mayor":
                value = next(mayors)
            elif relation.name == "born":
                value = str(born[thing.name])
            elif relation.name == "teacher":
                year = born[thing.name]
                older = by_age[bisect_left(years, year - 60) : bisect_left(years, year - 14)]
                if not older:
                    continue
                value = draw.one(older)
            elif relation.value in names:
                value = draw.one(names[relation.value])
            else:
                value = _plain_value(draw, relation, regions)
            thing.facts[relation.name] = value
        for what, who in BEGUN_BY.items():
            if what in thing.facts and who in thing.facts:
                thing.facts[what] = str(born[thing.facts[who]] + int(rng.integers(20, 55)))


def _plain_value(draw: _Draw, relation: Relation, regions: list[str]) -> str:
    if relation.value == "year":
        return draw.year(LAST_YEAR_OF_TOWNS)
    if relation.value == "number":
        low, high = NUMBERS.get(relation.name, (8, 190))
        return f"{int(np.exp(draw.rng.uniform(np.log(low), np.log(high)))):,}"
    options = {"region": regions, "profession": words.PROFESSIONS, "product": words.PRODUCTS}
    return draw.one(options[relation.name]) if relation.name in options else draw.stem()


RELATIONS_OF = {
    kind: tuple(relation for relation in words.RELATIONS if relation.kind == kind)
    for kind in words.KINDS
}


class _Said(NamedTuple):
    """A sentence before it has a place; ``fact`` is what it states, if anything."""

    before: str
    value: str = ""
    after: str = ""
    fact: Fact | None = None


def _said(template: str, thing: Thing, relation: Relation, subject: str) -> _Said:
    value = thing.facts[relation.name]
    before, _, after = template.partition("{v}")
    names = {"n": thing.name, "S": subject}
    return _Said(before.format(**names), value, after.format(**names), (thing.name, relation.name))


def _mentions(rng: np.random.Generator, things: dict[str, Thing]) -> dict[str, list[_Said]]:
    """Facts that are stated on the page of their value, too."""
    draw = _Draw(rng)
    found: dict[str, list[_Said]] = {name: [] for name in things}
    for thing in things.values():
        for relation in RELATIONS_OF[thing.kind]:
            value = thing.facts.get(relation.name, "")
            if value and relation.reverse and len(found[value]) < MOST_MENTIONS:
                said = _said(draw.one(relation.reverse), thing, relation, thing.name)
                found[value].append(said)
    return found


def _page(
    rng: np.random.Generator,
    thing: Thing,
    mentioned: list[_Said],
    evidence: dict[Fact, list[Evidence]],
) -> Page:
    draw = _Draw(rng)
    sentences = list(mentioned)
    for relation in RELATIONS_OF[thing.kind]:
        if relation.name not in thing.facts:
            continue
        article = "The " if words.PHRASES[thing.kind] == "the {}" else ""
        subject = draw.one((f"{article}{thing.name}", *words.SHORT_FORMS[thing.kind]))
        sentences.append(_said(draw.one(relation.statements), thing, relation, subject))
    length = int(rng.integers(SHORTEST_PAGE, LONGEST_PAGE))
    total = sum(len("".join(each[:3])) + 1 for each in sentences)
    for template in _fillers(draw, thing.kind):
        if total > length:
            break
        sentences.append(_filler(draw, template))
        total += len(sentences[-1].before) + 1
    order = rng.permutation(len(sentences)).tolist()
    opening = _Said(draw.one(words.INTRODUCTIONS[thing.kind]).format(n=thing.name))
    said = [opening, *(sentences[i] for i in order)]
    return Page(thing.page, thing.name, _text(thing.page, said, evidence))


def _fillers(draw: _Draw, kind: str) -> list[str]:
    """Filler in random order, as much as the longest page takes."""
    templates = [*words.FILLER[kind], *words.FILLER[""]]
    return [templates[i] for _ in range(3) for i in draw.rng.permutation(len(templates)).tolist()]


def _filler(draw: _Draw, template: str) -> _Said:
    number = str(int(draw.rng.integers(3, 400)))
    text = template.format(year=draw.year(), number=number, someone=draw.someone())
    return _Said(text[0].upper() + text[1:])


def _text(page: str, sentences: list[_Said], evidence: dict[Fact, list[Evidence]]) -> str:
    """The text of a page: paragraphs of four sentences; notes where facts are stated."""
    parts: list[str] = []
    place = 0
    for number, said in enumerate(sentences):
        if number:
            parts.append("\n\n" if number % 4 == 0 else " ")
            place += len(parts[-1])
        text = f"{said.before}{said.value}{said.after}"
        if said.fact is not None:
            start = place + len(said.before)
            found = Evidence(page, place, place + len(text), start, start + len(said.value))
            evidence.setdefault(said.fact, []).append(found)
        parts.append(text)
        place += len(text)
    return "".join(parts)


def _list_page(rng: np.random.Generator, page: str, number: int, names: list[list[str]]) -> Page:
    """Names that a search finds and that say nothing."""
    draw = _Draw(rng)
    some = names[int(rng.integers(len(names)))]
    chosen = [some[i] for i in rng.permutation(len(some))[:30].tolist()]
    sentences = [
        f"Entry {n} of this list is {name}, on which there is a page of its own."
        for n, name in enumerate(chosen, start=1)
    ]
    fillers = [_filler(draw, template).before for template in _fillers(draw, "")[:12]]
    return Page(page, f"List {number + 1}: a choice of names", " ".join([*sentences, *fillers]))
