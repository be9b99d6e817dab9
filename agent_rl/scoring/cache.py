"""Verdicts by content, on disk: what was judged once is not judged again by a later job."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from agent_rl.errors import UserError
from agent_rl.scoring.types import Sample
from rl_verifiers import Score, VerifierError

FILE = "scores.sqlite"
_AT_ONCE = 500
_FIELDS = ("value", "passed", "status", "reason", "parts", "error", "answer")


class ScoreCache:
    """Scores under the digest of the verifier, the completion and what is read of the row.

    Several processes may share a folder. Errors are never kept. Entries that cannot be read are
    judged again, and where nothing can be written nothing is kept.

    Args:
        folder: Where; made if needed.
        digest: Of the verifier (:class:`agent_rl.scoring.spec.VerifierSpec`).
        reads: The columns that the verifier reads; None: all of them.
        has_id: Whether ids are the rows' own; made ones say where a row stands, not what it is.

    Raises:
        UserError: The folder cannot be made, or what has the cache's name there is no cache.
    """

    def __init__(
        self, folder: Path, digest: str, reads: Sequence[str] | None, *, has_id: bool = True
    ) -> None:
        self._digest, self._reads, self._has_id = digest, reads, has_id
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(folder / FILE, timeout=60.0, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, score TEXT NOT NULL)"
                " WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"--cache {folder}: cannot be used: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def key(self, sample: Sample) -> bytes:
        """The key of a sample."""
        row: Mapping[str, Any] = sample.row
        if not self._has_id:
            row = {name: value for name, value in row.items() if name != "id"}
        return content_key(self._digest, Sample(sample.completion, row), self._reads)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Score]:
        """The scores that are there."""
        found: dict[bytes, Score] = {}
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, score FROM scores WHERE key IN ({marks})"
            try:
                rows = self._database.execute(query, some).fetchall()
                found.update((key, _score(text)) for key, text in rows)
            except (sqlite3.Error, ValueError, TypeError, VerifierError):
                continue
        return found

    def keep(self, scores: Iterable[tuple[bytes, Score]]) -> None:
        """Remember scores; errors are left out."""
        rows = [(key, _text(score)) for key, score in scores if not score.is_error]
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?)", rows)
            self._database.execute("COMMIT")
        except sqlite3.Error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")


def content_key(digest: str, sample: Sample, reads: Sequence[str] | None) -> bytes:
    """Sixteen bytes that are the same for equal questions."""
    row: Mapping[str, Any] = sample.row
    read = dict(row) if reads is None else {name: row.get(name) for name in reads}
    text = json.dumps([digest, sample.completion, read], sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _text(score: Score) -> str:
    fields = [getattr(score, name) for name in _FIELDS]
    fields[_FIELDS.index("parts")] = dict(score.parts)
    return json.dumps(fields)


def _score(text: str) -> Score:
    return Score(*json.loads(text))
