"""Runs queries on one SQLite database. Sent into a sandbox as source; imports nothing of ours."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

_ALLOWED = {20, 21, 33}  # SQLITE_READ, SQLITE_SELECT, SQLITE_RECURSIVE
_FUNCTION = 31  # SQLITE_FUNCTION
_PRAGMA = 19  # SQLITE_PRAGMA
_REFUSED_FUNCTIONS = {"random", "randomblob", "load_extension"}
_SYNTAX = ("syntax error", "incomplete input", "unrecognized token", "parser stack overflow")
_TOO_MUCH = ("interrupted", "too big", "out of memory", "too many", "too large", "too complex")
_PERIOD = 1000  # virtual machine steps between two looks at the count
_CELL_BYTES = 16


class _Steps:
    """Counts steps of SQLite's virtual machine; a true result of a call interrupts it."""

    def __init__(self, most: int) -> None:
        self.left = most

    def __call__(self) -> int:
        self.left -= _PERIOD
        return int(self.left < 0)


def answers(
    schema: str, file: str, queries: list[str], max_steps: int, max_rows: int, max_bytes: int
) -> list[dict[str, Any]]:
    """What each query gives.

    Args:
        schema: Statements that make the database, or add to that of ``file``; trusted.
        file: Name of a database file in the working folder, or empty.
        queries: One statement each, not trusted.
        max_steps: Steps of SQLite's virtual machine for each query.
        max_rows: Rows of a result.
        max_bytes: Bytes of a result; also the longest string that a query may build.

    Returns:
        For each query ``{"status", "message", "columns", "rows"}``; the status is ``ok``,
        ``database`` (the database cannot be made), ``syntax``, ``refused``, ``over_limit`` or
        ``failed``.
    """
    try:
        connection = _opened(schema, file)
    except (sqlite3.Error, sqlite3.Warning, ValueError, MemoryError) as error:
        return [_outcome("database", str(error)) for _ in queries]
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    if hasattr(connection, "setlimit"):
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max_bytes)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.set_authorizer(_authorize)
    return [_answer(connection, query, max_steps, max_rows, max_bytes) for query in queries]


def _opened(schema: str, file: str) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.isolation_level = None
    if file:
        source = sqlite3.connect("file:" + file + "?mode=ro&immutable=1", uri=True)
        if schema:
            source.backup(connection)
        else:
            connection = source
    connection.executescript(schema)
    tables = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
    virtual = [name for name, sql in tables if (sql or "")[:15].upper() == "CREATE VIRTUAL "]
    # A virtual table is connected by statements that the authorizer would deny: so do it now.
    for name in ["json_each", "json_tree", *virtual]:
        with contextlib.suppress(sqlite3.Error):
            connection.execute('SELECT * FROM "' + name.replace('"', '""') + '" LIMIT 0')
    return connection


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    if action == _FUNCTION:
        refused = (second or "").lower() in _REFUSED_FUNCTIONS
        return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK
    if action == _PRAGMA and first == "data_version":  # full-text search asks for it
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _answer(
    connection: sqlite3.Connection, query: str, max_steps: int, max_rows: int, max_bytes: int
) -> dict[str, Any]:
    connection.set_progress_handler(_Steps(max_steps), _PERIOD)
    rows: list[list[Any]] = []
    size = 0
    try:
        cursor = connection.execute(query)
        for row in cursor:
            size += sum(_size(value) for value in row)
            if len(rows) == max_rows:
                return _outcome("over_limit", "more than " + str(max_rows) + " rows")
            if size > max_bytes:
                return _outcome("over_limit", "more than " + str(max_bytes) + " bytes")
            rows.append(list(row))
    except MemoryError:
        return _outcome("over_limit", "out of memory")
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
        return _outcome(_status(str(error)), str(error)[:300])
    columns = [column[0] for column in cursor.description or ()]
    return dict(_outcome("ok", ""), columns=columns, rows=rows)


def _size(value: Any) -> int:
    return _CELL_BYTES + (len(value) if isinstance(value, (str, bytes)) else 0)


def _status(message: str) -> str:
    if any(words in message for words in _SYNTAX):
        return "syntax"
    if any(words in message for words in ("not authorized", "authorization denied", "prohibited")):
        return "refused"
    return "over_limit" if any(words in message for words in _TOO_MUCH) else "failed"


def _outcome(status: str, message: str) -> dict[str, Any]:
    return {"status": status, "message": message, "columns": [], "rows": []}
