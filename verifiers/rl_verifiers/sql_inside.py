"""Runs queries on one SQLite database. Sent into a sandbox as source; imports nothing of ours."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from typing import Any

_ALLOWED = {20, 21, 33}  # SQLITE_READ, SQLITE_SELECT, SQLITE_RECURSIVE
_FUNCTION = 31  # SQLITE_FUNCTION
_PRAGMA = 19  # SQLITE_PRAGMA
_REFUSED_FUNCTIONS = {"random", "randomblob", "load_extension"}
_SYNTAX = ("syntax error", "incomplete input", "unrecognized token", "parser stack overflow")
_TOO_MUCH = ("interrupted", "too big", "out of memory", "too many", "too large", "too complex")
PERIOD = 1000  # virtual machine steps between two looks at the count
_CELL_BYTES = 16
_MAX_FORMAT = 1000  # characters
_CONVERSION = re.compile(r"%([-+ #0!,.*0-9]*).?", re.DOTALL)
_UNBOUNDED = re.compile(r"\*|[0-9]{4}")


class Steps:
    """Counts steps of SQLite's virtual machine; a true result of a call interrupts it."""

    def __init__(self, most: int) -> None:
        self.left = most

    def __call__(self) -> int:
        """Another period has passed: whether that is too many."""
        self.left -= PERIOD
        return int(self.left < 0)


class Printf:
    """SQLite's own ``printf``, in one step of which a wide field could take minutes: bounded.

    It is called with what a query made of its arguments, so no spelling of the query gets past it.
    """

    def __init__(self, max_bytes: int) -> None:
        self.refused = ""
        self._connection = _limited(sqlite3.connect(":memory:"), max_bytes)

    def __call__(self, *arguments: Any) -> Any:
        """What SQLite gives.

        Raises:
            ValueError: A field is not bounded.
        """
        if not arguments or arguments[0] is None:
            return None
        form, *rest = arguments
        form = form.decode("utf-8", "replace") if isinstance(form, bytes) else form
        text = form if isinstance(form, str) else ""  # a number, as text, has no fields
        if len(text) > _MAX_FORMAT:
            self.refused = "printf with a format of over " + str(_MAX_FORMAT) + " characters"
        elif any(_UNBOUNDED.search(found[1]) for found in _CONVERSION.finditer(text)):
            self.refused = "printf with a width or precision that is * or over 999"
        if self.refused:
            raise ValueError(self.refused)
        query = "SELECT printf(?" + ", ?" * len(rest) + ")"
        return self._connection.execute(query, (form, *rest)).fetchone()[0]


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
    _limited(connection, max_bytes)
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


def _limited(connection: sqlite3.Connection, max_bytes: int) -> sqlite3.Connection:
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    if hasattr(connection, "setlimit"):
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max_bytes)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
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
    connection.set_progress_handler(Steps(max_steps), PERIOD)
    printf = Printf(max_bytes)
    for name in ("printf", "format"):
        connection.create_function(name, -1, printf, deterministic=True)
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
        if printf.refused:
            return _outcome("over_limit", printf.refused)
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
