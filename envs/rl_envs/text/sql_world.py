"""Draws questions about generated databases that tell right queries from wrong ones."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from rl_envs.tasks import DataError, bucket, content_id
from rl_envs.text.sql_questions import PARAMETERS, QUESTIONS, Question
from rl_envs.text.sql_schemas import SCHEMAS, Draw, inserts
from rl_envs.types import Task
from rl_verifiers.sql_compare import Reference, Table, ordered, same, unordered
from rl_verifiers.sql_text import is_ordered, tokens_of

TOLERANCE = 1e-6
MOST_ROWS = 10
"""Of a right result, on any database of a task."""

POOL = 64
"""Databases of a schema that questions are asked about, so that a process makes each only once."""

VARIANTS = 16
"""Sets of databases that a question is asked about."""

_TRIES = 12  # for the databases of one question
_PARAMETER_DRAWS = 40  # for one family of questions
_DRAWS = 200  # of families
_PARAMETER = re.compile(r"\{(\w+)\}")


class Instance(NamedTuple):
    """A database's contents, and the result of each of the asked queries."""

    contents: str
    results: list[Table]


def drawn(
    schemas: Sequence[str],
    families: Sequence[str],
    hidden: int,
    split: str | None,
    rng: np.random.Generator,
) -> Task:
    """A question with its databases.

    A question is asked about several sets of databases, but its words alone decide its split.
    ``info`` has ``schema`` (statements), ``databases`` (contents; the policy sees the first),
    ``topic``, ``family`` and ``rows`` (the right result on the first). ``answer`` is the query.

    Args:
        schemas: Names of schemas to choose from.
        families: Families of questions to choose from.
        hidden: How many databases the policy does not see.
        split: Only questions of this split; None: of any.
        rng: Where choices come from.

    Raises:
        DataError: No question can be made of these.
    """
    chosen = [q for q in QUESTIONS if q.schema in schemas and q.family in families]
    draw = Draw(rng)
    for _ in range(_DRAWS):
        question: Question = draw.one(chosen)
        for _ in range(_PARAMETER_DRAWS):
            names = dict.fromkeys(_PARAMETER.findall(question.text + question.sql))
            values = {name: draw.one(PARAMETERS[name]) for name in names}
            variant = draw.between(1, VARIANTS)
            if split is not None and bucket(content_id(question.text.format(**values))) != split:
                continue
            found = _databases(question, tuple(values.items()), variant, hidden)
            if found is not None:
                return _task(question, values, variant, found)
    raise DataError("no question can be told from its misreadings: give more schemas or families")


def _task(
    question: Question, values: dict[str, Any], variant: int, found: Sequence[Instance]
) -> Task:
    text, sql = question.text.format(**values), question.sql.format(**values)
    schema = SCHEMAS[question.schema]
    return Task(
        id=content_id(question.schema, text, variant, len(found)),
        prompt=f"The database is that of {schema.topic}. {text}",
        answer=sql,
        info={
            "schema": schema.ddl,
            "databases": tuple(instance.contents for instance in found),
            "topic": schema.name,
            "family": question.family,
            "rows": tuple(tuple(row) for row in found[0].results[0].rows),
        },
    )


@lru_cache(maxsize=4096)
def _databases(
    question: Question, values: tuple[tuple[str, Any], ...], variant: int, hidden: int
) -> tuple[Instance, ...] | None:
    """Databases on which the question can be told from others; None if none are found."""
    given = dict(values)
    text = question.text.format(**given)
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
    queries = [each.format(**given) for each in (question.sql, *question.mistakes)]
    queries += slips(queries[0])
    queries += [
        question.sql.format(**{**given, name: other})
        for name, value in values
        for other in PARAMETERS[name]
        if other != value
    ]
    for attempt in range(_TRIES):
        rng = np.random.default_rng((seed, variant, attempt))
        found: list[Instance] = []
        for number in rng.permutation(POOL)[: hidden + 1].tolist():
            instance = _instance(question.schema, number, queries)
            if instance is None:
                break
            found.append(instance)
        else:
            if _tells_apart(found, queries[0]):
                return tuple(found)
    return None


_BOUND = re.compile(r"(?<= )([<>])(=?)(?= ?[\d'])")
_BETWEEN = re.compile(r"(\S+) BETWEEN ('[^']*') AND ('[^']*')")
_OTHER = {"": "=", "=": ""}
_SLIPS = (
    (_BETWEEN, r"\1 > \2 AND \1 <= \3"),
    (_BETWEEN, r"\1 >= \2 AND \1 < \3"),
    (re.compile(r"^SELECT AVG\(([^)]*)\)"), r"SELECT SUM(\1) / COUNT(\1)"),
    (re.compile(r"^SELECT AVG\("), "SELECT AVG(DISTINCT "),
    (re.compile(r"^(SELECT[^(]*) SUM\("), r"\1 SUM(DISTINCT "),
    (re.compile(r"(ORDER BY \w+ DESC), [\w.]+"), r"\1"),
)


def slips(query: str) -> list[str]:
    """A right query with one slip each, of the kinds that are easily made.

    A bound that is included or is not, whole numbers divided, equal values taken once, and ties
    left to chance.
    """
    bounds = [
        f"{query[: m.start()]}{m[1]}{_OTHER[m[2]]}{query[m.end() :]}"
        for m in _BOUND.finditer(query)
    ]
    others = (pattern.sub(slip, query, count=1) for pattern, slip in _SLIPS)
    return list(dict.fromkeys([*bounds, *(each for each in others if each != query)]))


class _Made(NamedTuple):
    contents: str
    connection: sqlite3.Connection
    lock: threading.Lock


@lru_cache(maxsize=POOL * len(SCHEMAS))
def _database(schema: str, number: int) -> _Made:
    contents = inserts(SCHEMAS[schema].fill(Draw(np.random.default_rng(number))))
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.executescript(f"{SCHEMAS[schema].ddl}\n{contents}")
    return _Made(contents, connection, threading.Lock())


os.register_at_fork(after_in_child=_database.cache_clear)


def _instance(schema: str, number: int, queries: Sequence[str]) -> Instance | None:
    """A database with the results of queries; None where the first one's says nothing."""
    contents, connection, lock = _database(schema, number)
    results: list[Table] = []
    with lock:
        for query in queries:
            cursor = connection.execute(query)
            rows = [list(row) for row in cursor]
            results.append(Table([column[0] for column in cursor.description], rows))
            if not _is_fit(results[0]):
                return None
    return Instance(contents, results)


def _is_fit(right: Table) -> bool:
    """Whether a right result says something: a few rows, neither NULL nor a bare 0."""
    if not 0 < len(right.rows) <= MOST_ROWS:
        return False
    values = [value for row in right.rows for value in row]
    return None not in values and values != [0]


def _tells_apart(found: Sequence[Instance], query: str) -> bool:
    """Whether no database gives what another does, and each other query shows on one of them."""
    references = [reference_of(query, instance.results[0]) for instance in found]
    results = [instance.results for instance in found]
    for n, reference in enumerate(references):
        others = [each[0] for m, each in enumerate(results) if m != n]
        if any(same(reference, other.rows, tol=TOLERANCE) for other in others):
            return False
    mistakes = range(1, len(results[0]))
    return not any(
        all(
            same(ref, each[m].rows, tol=TOLERANCE)
            for ref, each in zip(references, results, strict=True)
        )
        for m in mistakes
    )


def reference_of(query: str, right: Table) -> Reference:
    """What is right, in order where the query has one (and then its ORDER BY leaves no ties)."""
    return ordered(right) if is_ordered(tokens_of(query)) else unordered(right)
