"""Run queries in a sandbox: the databases of a row, the reference's result, a completion's."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rl_sandboxes.types import Call, Job, Limits, Run, Sandbox
from rl_verifiers.code_runs import OVER_LIMIT, RunError
from rl_verifiers.score import Row
from rl_verifiers.sql_compare import Reference, Table, ordered, unordered, with_ties
from rl_verifiers.sql_text import QueryError, is_ordered, ordering, single_query

MAX_DATABASE_BYTES = 256 << 20
_FILE_HEADER = b"SQLite format 3\0"
_KEPT_REFERENCES = 4096
_FILE = "database.sqlite"


class BadRowError(Exception):
    """A row that cannot be used: its databases or its answer must be mended."""


@dataclass(frozen=True)
class Budget:
    """What one query may use.

    Attributes:
        max_steps: Steps of SQLite's virtual machine.
        max_rows: Rows of its result.
        max_bytes: Bytes of its result.
        limits: Of the sandbox around it.
    """

    max_steps: int
    max_rows: int
    max_bytes: int
    limits: Limits


@dataclass(frozen=True)
class Database:
    """A database to be made: from a file's bytes, from statements, or from both in this order."""

    schema: str
    data: bytes = b""

    @property
    def digest(self) -> str:
        """Equal for equal contents."""
        schema = self.schema.encode("utf-8", "surrogatepass")
        return hashlib.sha256(b"%d:%b%b" % (len(schema), schema, self.data)).hexdigest()


@dataclass(frozen=True)
class Outcome:
    """What became of one query on one database; a table if its status is ``ok``.

    The other statuses: ``database``, ``syntax``, ``refused``, ``over_limit``, ``failed``.
    """

    status: str
    message: str = ""
    table: Table | None = None


def databases_of(row: Row, folder: str) -> list[Database]:
    """The databases that a row's ``schema``, ``database`` and ``databases`` describe.

    Raises:
        BadRowError: There is none, or one is not readable.
    """
    base = _database({key: row.get(key) for key in ("schema", "database")}, folder)
    instances = row.get("databases")
    if instances is None:
        if not base.schema and not base.data:
            raise BadRowError("no database: give the column schema, database or databases")
        return [base]
    if not isinstance(instances, list | tuple) or not instances:
        raise BadRowError("databases must be a list with at least one entry")
    return [_joined(base, each, folder, n) for n, each in enumerate(instances, start=1)]


def _joined(base: Database, instance: object, folder: str, number: int) -> Database:
    if isinstance(instance, str):
        instance = {"schema": instance}
    if not isinstance(instance, Mapping) or not set(instance) <= {"schema", "database"}:
        raise BadRowError(f"databases: entry {number} must be SQL text or {{schema, database}}")
    own = _database(instance, folder)
    if own.data and base.data:
        raise BadRowError(f"databases: entry {number} has a file, and so has the row")
    joined = Database(f"{base.schema}\n{own.schema}".strip(), own.data or base.data)
    if not joined.schema and not joined.data:
        raise BadRowError(f"databases: entry {number} is empty")
    return joined


def _database(source: Mapping[str, Any], folder: str) -> Database:
    schema, file = source.get("schema") or "", source.get("database")
    if isinstance(schema, list | tuple) and all(isinstance(part, str) for part in schema):
        schema = ";\n".join(schema)
    if not isinstance(schema, str):
        raise BadRowError(f"schema must be SQL text, not {type(schema).__name__}")
    if "\0" in schema or any("\ud800" <= letter <= "\udfff" for letter in schema):
        raise BadRowError("schema holds a null character or a lone surrogate")
    if file is None or file == "":
        return Database(schema)
    if not isinstance(file, str | os.PathLike):
        raise BadRowError(f"database must be the path of a file, not {type(file).__name__}")
    return Database(schema, _file_bytes(Path(folder) / file))


_files: dict[tuple[str, int, int], bytes] = {}


def _file_bytes(path: Path) -> bytes:
    """The bytes of a database file; the last few small files are kept."""
    try:
        stat = path.stat()
        if stat.st_size > MAX_DATABASE_BYTES:
            raise BadRowError(f"database {path.name!r} is over {MAX_DATABASE_BYTES >> 20} MiB")
        key = (os.fspath(path), stat.st_mtime_ns, stat.st_size)
        data = _files.get(key) or path.read_bytes()
    except (OSError, ValueError) as error:
        raise BadRowError(f"database {os.fspath(path)!r:.200} cannot be read: {error}") from None
    if not data.startswith(_FILE_HEADER):
        raise BadRowError(f"database {os.fspath(path)!r:.200} is no SQLite file")
    if len(data) <= 4 << 20:
        while len(_files) >= 8:
            _files.pop(next(iter(_files)), None)
        _files[key] = data
    return data


async def run_queries(
    sandbox: Sandbox, databases: Sequence[Database], queries: Sequence[str], budget: Budget
) -> list[list[Outcome]]:
    """What each query gives on each database: a list for each database.

    Raises:
        RunError: The sandbox failed.
        JobError: No sandbox can take such a job.
    """
    outcomes: list[list[Outcome] | None] = [None] * len(databases)
    jobs = []
    for data in {database.data: None for database in databases}:
        places = [i for i, database in enumerate(databases) if database.data == data]
        jobs.append((places, _job([databases[i] for i in places], data, list(queries), budget)))
    results = await asyncio.gather(*(sandbox.arun(job) for _, job in jobs))
    for (places, _), result in zip(jobs, results, strict=True):
        if result.error is not None:
            raise RunError(result.error)
        runs = [*result.runs, *[None] * (len(places) - len(result.runs))]
        for place, run in zip(places, runs, strict=True):
            outcomes[place] = _outcomes(run, len(queries))
    return [each for each in outcomes if each is not None]


@cache
def inside_source() -> str:
    """The source of what runs in the sandbox."""
    return Path(__file__).with_name("sql_inside.py").read_text(encoding="utf-8")


def _job(databases: Sequence[Database], data: bytes, queries: Sequence[str], budget: Budget) -> Job:
    """One job: its calls differ in the schema, its file is the same."""
    room = (len(data) >> 20) + 1
    limits = replace(
        budget.limits,
        disk_mb=max(budget.limits.disk_mb, room),
        memory_mb=budget.limits.memory_mb + 2 * room,
        value_kb=max(budget.limits.value_kb, len(queries) * budget.max_bytes // 256),
    )
    file = _FILE if data else ""
    most = (budget.max_steps, budget.max_rows, budget.max_bytes)
    calls = [Call([database.schema, file, [*queries], *most]) for database in databases]
    files = {file: data} if file else {}
    return Job.call(inside_source(), "answers", calls, files=files, limits=limits, stop_early=True)


def _outcomes(run: Run | None, n_queries: int) -> list[Outcome]:
    if run is None:
        return [Outcome("over_limit", "was not run after one that went over a limit")] * n_queries
    if run.status in OVER_LIMIT:
        return [Outcome("over_limit", OVER_LIMIT[run.status])] * n_queries
    if run.status == "crash":
        return [Outcome("failed", "SQLite crashed")] * n_queries
    if not run.returned:
        raise RunError(run.exception or f"the query's run ended with status {run.status}")
    return [_outcome(found) for found in run.value]


def _outcome(found: Mapping[str, Any]) -> Outcome:
    table = Table(found["columns"], found["rows"]) if found["status"] == "ok" else None
    return Outcome(found["status"], found["message"], table)


async def references_of(
    sandbox: Sandbox,
    databases: Sequence[Database],
    answer: object,
    budget: Budget,
    *,
    order: bool | None,
    tol: float,
) -> list[Reference]:
    """What is right on each database.

    Args:
        sandbox: Where the reference query runs, in a job of its own.
        databases: The databases.
        answer: The reference: a query, or the rows of its result for a single database.
        budget: As for a completion's query.
        order: Whether the order of rows counts; None: where the query has an ORDER BY.
        tol: For comparing floats.

    Raises:
        BadRowError: The answer is no query or rows, or the query fails.
        RunError: The sandbox failed.
        JobError: No sandbox can take such a job.
    """
    if not isinstance(answer, str):
        if len(databases) != 1:
            raise BadRowError("an answer of rows is for one database; give a query for several")
        given = _given_rows(answer)
        return [ordered(given) if order else unordered(given)]
    try:
        query, tokens = single_query(answer)
    except QueryError as error:
        raise BadRowError(f"the answer is no query: {error}") from None
    if "\0" in query or any("\ud800" <= letter <= "\udfff" for letter in query):
        raise BadRowError("the answer holds a null character or a lone surrogate")
    counts = is_ordered(tokens) if order is None else order
    ties = ordering(query, tokens) if counts else None
    queries = [query] if ties is None else [query, ties.query]
    found: list[Reference] = []
    for n, outcomes in enumerate(await run_queries(sandbox, databases, queries, budget), start=1):
        table, keyed = outcomes[0].table, outcomes[-1].table
        if table is None:
            where = f" on database {n}" if len(databases) > 1 else ""
            raise BadRowError(f"the reference query fails{where}: {outcomes[0].message}")
        if ties is not None and keyed is not None:
            found.append(with_ties(table, keyed, ties, tol))
        else:
            found.append(ordered(table) if counts else unordered(table))
    return found


def _given_rows(answer: object) -> Table:
    if not isinstance(answer, list | tuple):
        raise BadRowError(f"the answer must be a query or rows, not {type(answer).__name__}")
    rows = [list(row) if isinstance(row, list | tuple) else [row] for row in answer]
    values = [value for row in rows for value in row]
    if not all(value is None or isinstance(value, int | float | str | bytes) for value in values):
        raise BadRowError("the answer's rows must hold NULL, numbers and text")
    if (
        any(isinstance(value, float) and math.isnan(value) for value in values)
        or len({len(row) for row in rows}) > 1
    ):
        raise BadRowError("the answer's rows must be equally wide, without NaN")
    return Table([""] * (len(rows[0]) if rows else 0), rows)


class _ReferenceCache:
    """The latest references by what they were made from; those who ask at once share one run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[str, Future[list[Reference]]] = OrderedDict()

    async def get(
        self, key: str, make: Callable[[], Awaitable[list[Reference]]]
    ) -> list[Reference]:
        while True:
            with self._lock:
                future = self._found.get(key)
                ours = future is None
                if future is None:
                    future = self._found[key] = Future()
                self._found.move_to_end(key)
                while len(self._found) > _KEPT_REFERENCES:
                    self._found.popitem(last=False)
            if ours:
                return await self._made(key, future, make)
            try:
                return await asyncio.wrap_future(_follower(future))
            except _AbandonedError:
                continue

    async def _made(
        self,
        key: str,
        future: Future[list[Reference]],
        make: Callable[[], Awaitable[list[Reference]]],
    ) -> list[Reference]:
        try:
            found = await make()
        except BaseException as error:
            if not isinstance(error, BadRowError):
                with self._lock:
                    self._found.pop(key, None)
            future.set_exception(error if isinstance(error, Exception) else _AbandonedError())
            raise
        future.set_result(found)
        return found


class _AbandonedError(Exception):
    """Whoever made a reference was cancelled: another one who waits makes it."""


def _follower(future: Future[list[Reference]]) -> Future[list[Reference]]:
    """A future with the same result, which may be cancelled without cancelling that one."""
    follower: Future[list[Reference]] = Future()

    def hand_over(done: Future[list[Reference]]) -> None:
        if follower.set_running_or_notify_cancel():
            error = done.exception()
            follower.set_exception(error) if error else follower.set_result(done.result())

    future.add_done_callback(hand_over)
    return follower


_references = _ReferenceCache()


def _forget_after_fork() -> None:
    """A child must not wait for what a thread of its parent was to make."""
    global _references  # noqa: PLW0603
    _references = _ReferenceCache()


os.register_at_fork(after_in_child=_forget_after_fork)


async def cached_references(
    sandbox: Sandbox,
    databases: Sequence[Database],
    answer: object,
    budget: Budget,
    *,
    order: bool | None,
    tol: float,
) -> list[Reference]:
    """:func:`references_of`, once for each content in this process."""

    async def make() -> list[Reference]:
        return await references_of(sandbox, databases, answer, budget, order=order, tol=tol)

    parts = [repr(answer), repr(budget), repr((order, tol)), *(db.digest for db in databases)]
    text = json.dumps(parts).encode()
    return await _references.get(hashlib.sha256(text).hexdigest(), make)
