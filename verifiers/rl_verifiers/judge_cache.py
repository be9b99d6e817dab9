"""Replies of judges kept on disk by the content of what was asked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_verifiers.chat_endpoint import ChatReply
from rl_verifiers.score import VerifierError

_TABLE = """CREATE TABLE IF NOT EXISTS judge_replies (
  key TEXT PRIMARY KEY, model TEXT NOT NULL, text TEXT NOT NULL,
  prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL
) WITHOUT ROWID"""


def request_key(model: str, messages: object, params: Mapping[str, Any]) -> str:
    """A key that is equal for equal requests: model, messages and parameters."""
    text = json.dumps([model, messages, params], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class JudgeCache:
    """A SQLite file that many threads and processes may use at once.

    A connection is opened for each use, so that nothing is shared between threads or inherited by
    a fork.
    """

    path: str

    def prepare(self) -> None:
        """Make the file if it is not there.

        Raises:
            VerifierError: It cannot be made, or is something else.
        """
        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            with self._connection() as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(_TABLE)
                connection.execute("SELECT text FROM judge_replies LIMIT 1").fetchall()
        except (sqlite3.Error, OSError, ValueError) as error:
            raise VerifierError(
                f"judge: cache {self.path!r} cannot be used ({error}); give another path"
            ) from None

    def get(self, key: str) -> ChatReply | None:
        """The reply kept for a key; None without one, or where the file cannot be read."""
        with contextlib.suppress(sqlite3.Error), self._connection() as connection:
            asked = "SELECT text, prompt_tokens, completion_tokens FROM judge_replies WHERE key = ?"
            for text, prompt_tokens, completion_tokens in connection.execute(asked, (key,)):
                return ChatReply(text, prompt_tokens, completion_tokens)
        return None

    def put(self, key: str, model: str, reply: ChatReply) -> None:
        """Keep a reply; a full disk only means that it will be asked for again."""
        row = (key, model, reply.text, reply.prompt_tokens, reply.completion_tokens)
        asked = "INSERT OR REPLACE INTO judge_replies VALUES (?, ?, ?, ?, ?)"
        failures = contextlib.suppress(sqlite3.Error, UnicodeEncodeError)
        with failures, self._connection() as connection:
            connection.execute(asked, row)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=30.0)
        try:
            with connection:
                yield connection
        finally:
            connection.close()
