"""Questions about the made-up world: one fact, a chain of facts, or two facts compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_envs.tasks import content_id
from rl_envs.text.browse_words import Relation
from rl_envs.text.browse_world import RELATIONS_OF, Fact, Thing, World
from rl_envs.types import Task

HOPS = {"lookup": 1, "chain": 2, "long_chain": 3, "comparison": 2}
"""Kinds of questions, and how many facts follow one another on the way to an answer."""


class _Asked(NamedTuple):
    """A question; ``final`` are the places, among its facts, of those that give the answer."""

    text: str
    facts: list[Fact]
    final: tuple[int, ...]
    answer: str
    accepted: tuple[str, ...] = ()


def drawn(world: World, kinds: Sequence[str], rng: np.random.Generator) -> Task:
    """A question about a world; its answer does not stand in it.

    ``info`` has ``kind``, ``accepted`` (other ways to write the answer), ``route`` (for each fact
    the page that is about it), ``support`` (for each fact where it is stated: page, start and end
    of the sentence, start and end of the value) and ``final`` (which of them give the answer).
    """
    kind = kinds[int(rng.integers(len(kinds)))]
    while True:
        asked = _compared(world, rng) if kind == "comparison" else _chain(world, HOPS[kind], rng)
        if asked is not None and asked.answer.casefold() not in asked.text.casefold():
            break
    info = {
        "kind": kind,
        "accepted": asked.accepted,
        "route": tuple(world.things[subject].page for subject, _ in asked.facts),
        "support": tuple(tuple(map(tuple, world.evidence[fact])) for fact in asked.facts),
        "final": asked.final,
    }
    return Task(id=content_id(asked.text), prompt=asked.text, answer=asked.answer, info=info)


def _one(rng: np.random.Generator, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def _described(
    world: World, hops: int, rng: np.random.Generator
) -> tuple[Thing, str, list[Fact]] | None:
    """A thing, described by ``hops`` facts that lead to it from another; None if none do."""
    thing: Thing = _one(rng, world.list)
    phrase, facts, seen = thing.phrase, list[Fact](), {thing.name}
    for _ in range(hops):
        links = [r for r in RELATIONS_OF[thing.kind] if r.phrase and r.name in thing.facts]
        if not links:
            return None
        relation: Relation = _one(rng, links)
        facts.append((thing.name, relation.name))
        phrase = relation.phrase.format(s=phrase)
        thing = world.things[thing.facts[relation.name]]
        seen.add(thing.name)
    return (thing, phrase, facts) if len(seen) == hops + 1 else None


def _chain(world: World, hops: int, rng: np.random.Generator) -> _Asked | None:
    """What is asked of a thing that ``hops - 1`` facts describe."""
    described = _described(world, hops - 1, rng)
    if described is None:
        return None
    thing, phrase, facts = described
    relation: Relation = _one(rng, [r for r in RELATIONS_OF[thing.kind] if r.name in thing.facts])
    answer = thing.facts[relation.name]
    text = _one(rng, relation.questions).format(s=phrase)
    facts = [*facts, (thing.name, relation.name)]
    return _Asked(text, facts, (hops - 1,), answer, _accepted(world, relation, answer))


def _compared(world: World, rng: np.random.Generator) -> _Asked | None:
    """Which of two things, each described by a fact, has more or was first."""
    both = [_described(world, 1, rng), _described(world, 1, rng)]
    one, other = both
    if one is None or other is None or one[0] is other[0] or one[0].kind != other[0].kind:
        return None
    relations = [r for r in RELATIONS_OF[one[0].kind] if r.compared]
    relation: Relation = _one(rng, relations)
    values = [_number(each[0].facts[relation.name]) for each in (one, other)]
    if values[0] == values[1]:
        return None
    question, larger = _one(rng, relation.compared)
    winner = other[0] if (values[1] > values[0]) == larger else one[0]
    facts = [fact for thing, _, way in (one, other) for fact in (*way, (thing.name, relation.name))]
    text = question.format(a=one[1], b=other[1])
    return _Asked(text, facts, (1, 3), winner.name, (winner.phrase,))


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _accepted(world: World, relation: Relation, answer: str) -> tuple[str, ...]:
    """Other ways to write an answer."""
    if relation.unit:
        return tuple(f"{answer} {unit}" for unit in relation.unit)
    if relation.name in ("mouth", "source"):
        return (f"{'Lake' if relation.name == 'mouth' else 'Mount'} {answer}",)
    return (world.things[answer].phrase,) if answer in world.things else ()
