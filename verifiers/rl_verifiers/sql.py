"""The verifier of SQL: run a query in a sandbox, compare its result with the reference's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import rl_sandboxes
from rl_sandboxes.types import JobError, Limits, Sandbox, SandboxError
from rl_verifiers.code_compare import cut, shown
from rl_verifiers.code_runs import RunError
from rl_verifiers.option_checks import check_flags, check_one_of, check_whole
from rl_verifiers.runner import run_sync, score_sync
from rl_verifiers.score import Row, Score, Status, VerifierError
from rl_verifiers.sql_compare import Reference, Table, same
from rl_verifiers.sql_runs import (
    BadRowError,
    Budget,
    Database,
    Outcome,
    cached_references,
    databases_of,
    run_queries,
)
from rl_verifiers.sql_text import QueryError, find_query, single_query

SandboxChoice = str | Mapping[str, Any] | Sandbox

DEFAULT_LIMITS = Limits(cpu_s=10.0, wall_s=30.0)
MAX_QUERY_CHARACTERS = 20_000
_EMPTY = "the reference's result is empty on every database"
_STATUS: Mapping[str, Status] = {"syntax": "unparsable", "over_limit": "over_limit"}


@dataclass(frozen=True)
class SqlVerifier:
    """See :func:`sql_verifier`."""

    sandbox: SandboxChoice
    ordered: bool | None
    column_order: bool
    tol: float
    folder: str
    allow_empty: bool
    budget: Budget
    bounded = True
    reads = ("schema", "database", "databases", "answer")

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks while the sandbox runs its query."""
        return score_sync(self, completion, row)

    def prepare(self) -> None:
        """Open the sandbox and try a query, so that what cannot work is known at once.

        Raises:
            VerifierError: The sandbox cannot be used, or not with these limits.
        """
        trying = run_queries(self._open(), [Database("SELECT 1")], ["SELECT 1"], self.budget)
        try:
            (outcome,), *_ = run_sync(trying)
        except (RunError, SandboxError) as error:
            raise VerifierError(f"sql: {error}") from error
        if outcome.table is None:
            raise VerifierError(f"sql: the sandbox cannot run SELECT 1: {outcome.message}")

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion; other tasks run while the sandbox does.

        Raises:
            VerifierError: The sandbox cannot be used at all (no bubblewrap, say).
        """
        try:
            databases = databases_of(row, self.folder)
        except BadRowError as error:
            return _bad(str(error))
        sandbox = self._open()
        try:
            references = await cached_references(
                sandbox,
                databases,
                row.get("answer"),
                self.budget,
                order=self.ordered,
                tol=self.tol,
            )
        except (BadRowError, JobError) as error:
            return _bad(str(error))
        except (RunError, SandboxError) as error:
            return Score.failed(f"sandbox: {cut(str(error), 300)}")
        if not self.allow_empty and not any(reference.size for reference in references):
            return _bad(_EMPTY)
        return await self._scored(completion, sandbox, databases, references)

    async def _scored(
        self,
        completion: str,
        sandbox: Sandbox,
        databases: list[Database],
        references: list[Reference],
    ) -> Score:
        found = find_query(completion)
        if found is None:
            return Score.wrong("no query found", status="no_answer")
        refused = _refused(found)
        if refused is not None:
            return refused
        query, _ = single_query(found)
        try:
            outcomes = await run_queries(sandbox, databases, [query], self.budget)
        except JobError as error:
            return _bad(str(error))
        except (RunError, SandboxError) as error:
            return Score.failed(f"sandbox: {cut(str(error), 300)}")
        return self._compared([each[0] for each in outcomes], references)

    def _compared(self, outcomes: list[Outcome], references: list[Reference]) -> Score:
        agrees = [
            outcome.table is not None
            and _equal(reference, outcome.table, self.tol, column_order=self.column_order)
            for outcome, reference in zip(outcomes, references, strict=True)
        ]
        parts = {
            "databases": sum(agrees) / len(agrees),
            "empty_result": sum(not reference.size for reference in references) / len(references),
        }
        answer = _answer(outcomes)
        if all(agrees):
            empty = _EMPTY if parts["empty_result"] == 1 else ""
            return replace(Score.correct(empty, answer=answer), parts=parts)
        first = agrees.index(False)
        outcome, reference = outcomes[first], references[first]
        status = _STATUS.get(outcome.status, "wrong")
        if outcome.status == "database":
            status = "bad_reference"
        where = f"database {first + 1} of {len(agrees)}: " if len(agrees) > 1 else ""
        reason = f"{where}{_reason(outcome, reference)}"
        return replace(Score.wrong(reason, status=status, answer=answer), parts=parts)

    def _open(self) -> Sandbox:
        try:
            return rl_sandboxes.shared(self.sandbox)
        except SandboxError as error:
            raise VerifierError(f"sql: {error}") from error


def sql_verifier(
    *,
    sandbox: SandboxChoice = "local",
    ordered: bool | None = None,
    column_order: bool = True,
    tol: float = 1e-6,
    folder: str = "",
    allow_empty: bool = False,
    max_steps: int = 100_000_000,
    max_rows: int = 10_000,
    limits: Limits | Mapping[str, Any] | None = None,
) -> SqlVerifier:
    """The completion's query gives what ``row["answer"]`` gives: SQLite, run in a sandbox.

    The database is ``row["schema"]`` (statements), ``row["database"]`` (the path of a file, which
    is only read), or each of ``row["databases"]``: a list of statements or of ``{schema,
    database}``, run after the row's own ``schema``. On all of them the results must agree, which
    is what keeps a query that is right by coincidence from passing (Zhong et al. 2020,
    arXiv 2010.02840). ``row["answer"]`` is a query, or for one database the rows of its result.

    Rows compare as a multiset, or in order where the reference query has an ORDER BY at its top
    level. Rows that this leaves tied may come in any order, and where its LIMIT cuts a tie any of
    the tied rows will do. Where ties cannot be told (see :func:`rl_verifiers.sql_text.ordering`),
    the order must be the reference's. Numbers compare as numbers, NULL equals NULL, names of
    columns do not count.

    The query is one SELECT, VALUES or WITH that only reads: an authorizer denies the rest, and
    ``random``. Statuses: ``no_answer`` without a query, ``unparsable`` for a syntax error,
    ``over_limit``, ``wrong`` (other rows, an unknown column, a statement that is no query),
    ``bad_reference`` for a row whose database or reference query fails, or whose reference gives
    no rows on any of its databases. Parts: ``databases``
    (share that agrees), ``empty_result`` (share on which the reference gives no rows).

    Args:
        sandbox: A back end's name, ``{"name": ..., **options}``, or a Sandbox.
        ordered: Whether the order of rows counts; None: as said above.
        column_order: Off, the columns may stand in any order.
        tol: Relative tolerance where the reference's value is a float; 0 compares exactly.
        folder: Where relative paths of ``database`` begin.
        allow_empty: Accept a reference that gives no rows anywhere, which any query whose condition
            is never true solves as well.
        max_steps: Steps of SQLite's virtual machine for one query.
        max_rows: Rows of a result.
        limits: Of the sandbox around it, as ``rl_sandboxes.Limits``.

    Raises:
        VerifierError: An option that is not one of these.
    """
    if not isinstance(sandbox, str | Mapping | Sandbox):
        raise VerifierError(
            f"sql: sandbox is {sandbox!r:.60}; it must be a name, {{name: ..., options}} "
            "or a Sandbox"
        )
    if not isinstance(sandbox, Sandbox):
        name = sandbox if isinstance(sandbox, str) else sandbox.get("name", "local")
        check_one_of("sql", "sandbox", name, rl_sandboxes.BACKENDS)
    if ordered is not None and not isinstance(ordered, bool):
        raise VerifierError(f"sql: ordered is {ordered!r:.40}; it must be true, false or null")
    if isinstance(tol, bool) or not isinstance(tol, int | float) or not 0 <= tol < 1:
        raise VerifierError(f"sql: tol is {tol!r:.40}; it must be a number from 0 to below 1")
    check_whole("sql", max_steps=max_steps, max_rows=max_rows)
    check_flags("sql", column_order=column_order, allow_empty=allow_empty)
    if not isinstance(folder, str | os.PathLike):
        raise VerifierError(f"sql: folder is {folder!r:.40}; it must be a path")
    budget = Budget(max_steps, max_rows, 4 << 20, _limits(limits))
    return SqlVerifier(
        sandbox, ordered, column_order, float(tol), os.fspath(folder), allow_empty, budget
    )


def _limits(limits: Limits | Mapping[str, Any] | None) -> Limits:
    if isinstance(limits, Limits):
        return limits
    known = [spec.name for spec in fields(Limits)]
    if not isinstance(limits or {}, Mapping) or not set(limits or ()) <= set(known):
        raise VerifierError(
            f"sql: limits is {limits!r:.60}; it must be a mapping with some of {', '.join(known)}"
        )
    try:
        return replace(DEFAULT_LIMITS, **(limits or {}))
    except JobError as error:
        raise VerifierError(f"sql: {error}") from None


def _bad(reason: str) -> Score:
    return Score.wrong(reason, status="bad_reference")


def _refused(query: str) -> Score | None:
    """The score of what need not be run."""
    if len(query) > MAX_QUERY_CHARACTERS:
        return Score.wrong(f"over {MAX_QUERY_CHARACTERS:,} characters of SQL", status="over_limit")
    if "\0" in query or any("\ud800" <= letter <= "\udfff" for letter in query):
        return Score.wrong("a null character or a lone surrogate", status="unparsable")
    try:
        single_query(query)
    except QueryError as error:
        return Score.wrong(f"only one SELECT is run: {error}")
    return None


def _equal(reference: Reference, table: Table, tol: float, *, column_order: bool) -> bool:
    if not reference.size and not table.rows:
        return reference.width in (0, len(table.columns))
    return same(reference, table.rows, tol=tol, column_order=column_order)


def _reason(outcome: Outcome, reference: Reference) -> str:
    if outcome.table is None:
        what = {"database": "the database cannot be made", "syntax": "not SQL that SQLite reads"}
        what |= {"refused": "not a query that only reads", "over_limit": "over the limit"}
        return f"{what.get(outcome.status, 'the query fails')}: {cut(outcome.message, 200)}"
    rows, width = outcome.table.rows, len(outcome.table.columns)
    if reference.width not in (0, width):
        return f"{width} columns, not {reference.width}"
    if len(rows) != reference.size:
        return f"{len(rows)} rows, not {reference.size}"
    how = "other rows or another order" if reference.ordered else "other rows"
    return f"{how}; the first is {shown(tuple(rows[0]), 120)}" if rows else how


def _answer(outcomes: list[Outcome]) -> str | None:
    """What a majority vote counts: equal for equal results, whatever the order of rows."""
    if any(outcome.table is None for outcome in outcomes):
        return None
    tables = [outcome.table for outcome in outcomes if outcome.table is not None]
    texts = [sorted(repr([_plain(value) for value in row]) for row in t.rows) for t in tables]
    digest = hashlib.sha256(repr(texts).encode("utf-8", "replace")).hexdigest()[:12]
    return f"{sum(len(table.rows) for table in tables)} rows #{digest}"


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
