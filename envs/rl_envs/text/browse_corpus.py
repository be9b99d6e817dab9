"""A corpus of pages: one SQLite file with a full-text index (FTS5), only read once it is made."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from rl_envs.tasks import DataError
from rl_verifiers.sql_inside import PERIOD, Steps

CACHE_FOLDER = "AGENT_RL_CACHE"
"""The environment variable that names the folder of indexes; else the user's cache folder."""

MAX_QUERY_CHARACTERS = 1_000
MAX_TERMS = 16
MAX_TERM_CHARACTERS = 40
MAX_STEPS = 1_000_000
"""Steps of SQLite's virtual machine for one search; a page that matches takes about fifteen."""

_FORMAT = 1
_WORD = re.compile(r"[^\W_]+")
_SCHEMA = """
PRAGMA journal_mode = OFF;
CREATE TABLE page (number INTEGER PRIMARY KEY, id TEXT UNIQUE, title TEXT, text TEXT);
CREATE INDEX page_title ON page (title);
CREATE VIRTUAL TABLE found USING fts5(
    title, text, content='page', content_rowid='number',
    tokenize="porter unicode61 remove_diacritics 2");
INSERT INTO found (found, rank) VALUES ('rank', 'bm25(4.0, 1.0)');
"""
_COMMON_WORDS = """
a an and are as at by did do does for from had has have he her his how in is it its of on or she
than that the their there these they this to was were what when where which who whom whose why
will with
"""
_COMMON = frozenset(_COMMON_WORDS.split())


class Page(NamedTuple):
    """A page: its id, its title, its text."""

    id: str
    title: str
    text: str


class Hit(NamedTuple):
    """A page that a search found, with the passage that fits best."""

    id: str
    title: str
    snippet: str


class TooBroadError(Exception):
    """A search that would take too much work."""


class CorpusError(Exception):
    """The index cannot be read: nobody's fault who asks."""


@dataclass(frozen=True)
class Corpus:
    """The pages in an index file. It holds a path alone: it pickles, and any thread may use it."""

    path: str

    def search(self, query: str, count: int) -> list[Hit]:
        """The pages that fit a query best, the best one first.

        Any text is a query: its words count, in any order, each by how rare it is, twice as much
        in a title as bm25 would have it. FTS5's own syntax is not read. Common English words are
        left out where others remain.

        Args:
            query: Its first 1,000 characters are looked at, and 16 words in them.
            count: Pages at most.

        Raises:
            TooBroadError: Even the pages with all of the words are too many to be ranked.
            CorpusError: The file cannot be read.
        """
        words = query_words(query)
        if not words:
            return []
        terms = [f'"{word}"' for word in words]
        try:
            return self._ranked(" OR ".join(terms), count)
        except TooBroadError:
            return self._ranked(" AND ".join(terms), count)

    def _ranked(self, match: str, count: int) -> list[Hit]:
        statement = (
            "SELECT page.id, page.title, snippet(found, 1, '', '', ' ... ', 20) FROM found"
            " JOIN page ON page.number = found.rowid WHERE found MATCH ? ORDER BY rank LIMIT ?"
        )
        opened = _opened(self.path, "search")
        steps = Steps(MAX_STEPS)
        with opened.lock:
            opened.connection.set_progress_handler(steps, PERIOD)
            try:
                rows = opened.connection.execute(statement, (match, count)).fetchall()
            except sqlite3.Error as error:
                if steps.left < 0:
                    raise TooBroadError("the words are too common; use rarer ones") from None
                raise CorpusError(f"{self.path}: cannot be searched: {error}") from error
        return [Hit(page, title, " ".join(passage.split())) for page, title, passage in rows]

    def page(self, name: str) -> Page | None:
        """The page with an id, else the only one with a title; None where there is none.

        Raises:
            CorpusError: The file cannot be read.
        """
        return _page(self.path, name)

    @property
    def size(self) -> int:
        """How many pages there are."""
        opened = _opened(self.path, "pages")
        with opened.lock:
            return int(opened.connection.execute("SELECT count(*) FROM page").fetchone()[0])


def query_words(query: str) -> list[str]:
    """The words of a query that are looked up: different ones, at most ``MAX_TERMS``."""
    found = _WORD.findall(query[:MAX_QUERY_CHARACTERS])
    words = list(dict.fromkeys(word.casefold()[:MAX_TERM_CHARACTERS] for word in found))
    rare = [word for word in words if word not in _COMMON]
    return (rare or words)[:MAX_TERMS]


class _Opened(NamedTuple):
    connection: sqlite3.Connection
    lock: threading.Lock


_connections: dict[tuple[int, str, str], _Opened] = {}
_connections_lock = threading.Lock()


def _opened(path: str, use: str) -> _Opened:
    """This process's connection to a file, one for each use; SQLite's do not survive a fork."""
    key = (os.getpid(), path, use)
    with _connections_lock:
        found = _connections.get(key)
        if found is None:
            where = f"{Path(path).resolve().as_uri()}?mode=ro&immutable=1"
            try:
                connection = sqlite3.connect(where, uri=True, check_same_thread=False)
            except sqlite3.Error as error:
                raise CorpusError(f"{path}: cannot be opened: {error}") from error
            found = _connections[key] = _Opened(connection, threading.Lock())
        return found


def _forget_after_fork() -> None:
    global _connections_lock  # noqa: PLW0603  # another thread may have held it
    _connections_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)


@lru_cache(maxsize=512)
def _page(path: str, name: str) -> Page | None:
    if len(name) > MAX_QUERY_CHARACTERS or any("\ud800" <= letter <= "\udfff" for letter in name):
        return None
    opened = _opened(path, "pages")
    with opened.lock:
        for column in ("id", "title"):
            statement = f"SELECT id, title, text FROM page WHERE {column} = ? LIMIT 2"
            try:
                rows = opened.connection.execute(statement, (name,)).fetchall()
            except sqlite3.Error as error:
                raise CorpusError(f"{path}: cannot be read: {error}") from error
            if len(rows) == 1:
                return Page(*rows[0])
    return None


def parts_of(text: str, size: int) -> list[tuple[int, int]]:
    """A text cut into parts of about ``size`` characters: at a paragraph's end, else at a space."""
    parts: list[tuple[int, int]] = []
    start = 0
    while start < len(text):
        end = min(start + size, len(text))
        if end < len(text):
            cuts = (text.rfind(mark, start + size // 2, end) for mark in ("\n\n", ". ", " "))
            end = next((cut + 1 for cut in cuts if cut >= 0), end)
        parts.append((start, end))
        start = end
    return parts or [(0, 0)]


def part_at(parts: Sequence[tuple[int, int]], place: int) -> int:
    """The number of the part, from 1 on, in which a place is."""
    return next((n for n, (_, end) in enumerate(parts, start=1) if place < end), len(parts))


# Building.


def cached_corpus(digest: str, pages: Callable[[], Iterable[Page]], cache: str = "") -> Corpus:
    """The corpus of a digest, built where it is not yet in the cache.

    The file appears whole or not at all: each builder writes one of its own and renames it, so
    that several may build at once, and one that dies leaves nothing that others would read.

    Args:
        digest: Equal digests mean equal pages.
        pages: Called to build it.
        cache: The folder; default: ``AGENT_RL_CACHE``, else the user's cache folder.

    Raises:
        DataError: The folder cannot be written.
    """
    folder = _cache_folder(cache)
    path = folder / f"{digest}-{_FORMAT}.sqlite"
    with _building:
        if not _is_whole(path):
            _build(pages(), path)
    return Corpus(str(path))


def digest_of_pages(pages: Sequence[Page]) -> str:
    """Equal for equal pages in equal order."""
    digest = hashlib.blake2b(digest_size=12)
    for page in pages:
        for part in page:
            data = part.encode("utf-8", "surrogatepass")
            digest.update(b"%d:%b" % (len(data), data))
    return digest.hexdigest()


_building = threading.Lock()


def _cache_folder(cache: str) -> Path:
    named = cache or os.environ.get(CACHE_FOLDER, "")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "agent_rl"
    folder = (Path(named) if named else base) / "browse"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if not named:
            return _own_folder()
        raise DataError(f"{folder}: the cache cannot be made: {error.strerror}") from error
    return folder if named or os.access(folder, os.W_OK) else _own_folder()


@lru_cache(maxsize=1)
def _own_folder() -> Path:
    """A folder of this process alone, where the user has no cache that can be written."""
    return Path(tempfile.mkdtemp(prefix="agent_rl_browse_"))


def _is_whole(path: Path) -> bool:
    """Whether a file is an index; a disk may have lost one that was renamed into place."""
    if not path.is_file():
        return False
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (size,) = connection.execute("PRAGMA page_size").fetchone()
    except sqlite3.Error:
        return False
    return bool(version == _FORMAT and path.stat().st_size == pages * size)


def _build(pages: Iterable[Page], path: Path) -> None:
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise DataError(f"{path.parent}: no index can be written: {error.strerror}") from error
    try:
        with contextlib.closing(sqlite3.connect(name)) as connection:
            connection.executescript(_SCHEMA)
            rows = ((n, *page) for n, page in enumerate(pages, start=1))
            connection.executemany("INSERT INTO page VALUES (?, ?, ?, ?)", rows)
            connection.execute("INSERT INTO found (found) VALUES ('rebuild')")
            connection.execute("INSERT INTO found (found) VALUES ('optimize')")
            connection.execute(f"PRAGMA user_version = {_FORMAT}")
            connection.commit()
        Path(name).chmod(0o644)
        os.replace(name, path)
    except (sqlite3.Error, OSError) as error:
        raise DataError(f"{path}: the index cannot be written: {error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
