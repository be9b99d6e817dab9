"""The labels in their file: a line for each, appended and synced before the page hears of it."""

from __future__ import annotations

import fcntl
import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from agent_rl.errors import UserError
from agent_rl.label.items import Item
from agent_rl.preferences.pairs import Pair
from agent_rl.preferences.statistics import LEFT, RIGHT
from agent_rl.runs.files import RunError, append_line, parse_object, to_json, write_atomically
from rl_envs import bucket, content_id

Choice = Literal["left", "right", "tie"]


class AlreadyLabelledError(Exception):
    """This annotator has judged the item before (in another tab); nothing was written."""


class LabelStore:
    """Who has judged what. One process at a time owns the file.

    Args:
        path: The output; rows of other items in it stay as they are.
        items: What there is to label.
        seed: Decides which answer stands on the left.

    Raises:
        UserError: Another process labels into the file, or it holds what is no label.
    """

    def __init__(self, path: Path, items: Sequence[Item], *, seed: int = 0) -> None:
        self.items = {item.key: item for item in items}
        self._path, self._seed = path.resolve(), seed
        self._lock = _lock(self._path)
        try:
            _end_whole(self._path)
            rows = [row for _, row in _lines(self._path) if row is not None]
        except BaseException:
            self.close()
            raise
        self._done: dict[str, dict[str, None]] = defaultdict(dict)  # keys in order, by annotator
        for row in rows:
            if row.get("item") in self.items:
                self._done[str(row.get("annotator", ""))][row["item"]] = None
        self._skipped: dict[str, dict[str, None]] = defaultdict(dict)

    def close(self) -> None:
        """Let another process have the file."""
        os.close(self._lock)

    def n_done(self, annotator: str) -> int:
        """How many items an annotator has judged."""
        return len(self._done[annotator])

    def next(self, annotator: str) -> Item | None:
        """The first item that an annotator has not judged; skipped ones come last, again."""
        done, skipped = self._done[annotator], self._skipped[annotator]
        fresh = (key for key in self.items if key not in done and key not in skipped)
        key = next(fresh, None) or next(iter(skipped), None)
        return None if key is None else self.items[key]

    def shown(self, item: Item, annotator: str) -> tuple[str, str]:
        """The two answers as they stand on the page: a coin decides, for each annotator anew."""
        coin = bucket(content_id(item.key, annotator, self._seed), 0.5)
        return item.answers if coin == "train" else (item.answers[1], item.answers[0])

    def choose(self, item: Item, annotator: str, choice: Choice, seconds: float | None) -> None:
        """Write a judgement; it is on the disk on return.

        Raises:
            AlreadyLabelledError: There is one by this annotator.
            RunError: The disk is full or refuses; nothing was written.
        """
        if item.key in self._done[annotator]:
            raise AlreadyLabelledError
        append_line(self._path, to_json(self._row(item, annotator, choice, seconds)))
        _sync(self._path)
        self._done[annotator][item.key] = None
        self._skipped[annotator].pop(item.key, None)

    def skip(self, item: Item, annotator: str) -> None:
        """Show an item again when all others are judged; nothing is written."""
        skipped = self._skipped[annotator]
        skipped.pop(item.key, None)
        skipped[item.key] = None

    def undo(self, annotator: str) -> Item | None:
        """Take an annotator's last judgement out of the file; None where there is none.

        Raises:
            RunError: The disk is full or refuses; nothing was changed.
        """
        if not self._done[annotator]:
            return None
        key = next(reversed(self._done[annotator]))
        lines = _lines(self._path)
        wanted = [
            n
            for n, (_, row) in enumerate(lines)
            if row and row.get("item") == key and str(row.get("annotator", "")) == annotator
        ]
        if not wanted:
            raise RunError(f"{self._path}: the label is no longer there; start agent-rl label anew")
        del lines[wanted[-1]]
        write_atomically(self._path, "".join(line + "\n" for line, _ in lines))
        del self._done[annotator][key]
        self._skipped[annotator].pop(key, None)
        return self.items[key]

    def _row(
        self, item: Item, annotator: str, choice: Choice, seconds: float | None
    ) -> Mapping[str, Any]:
        left, right = self.shown(item, annotator)
        chosen, rejected = (right, left) if choice == RIGHT else (left, right)
        about: dict[str, Any] = {**item.info, "item": item.key}
        about["labelled_at"] = datetime.now(UTC).isoformat(timespec="seconds")
        about |= {"chosen_position": choice} if choice in (LEFT, RIGHT) else {}
        about |= {} if seconds is None else {"seconds": round(seconds, 1)}
        pair = Pair(item.prompt, chosen, rejected, None, item.id, about, choice == "tie", annotator)
        return pair.row()


def _lines(path: Path) -> list[tuple[str, dict[str, Any] | None]]:
    """The lines of the output as they stand, each with what it holds; None for a blank one."""
    if not path.exists():
        return []
    try:
        lines = path.read_bytes().decode().split("\n")[:-1]
    except UnicodeDecodeError:
        raise RunError(f"{path} is no UTF-8 text; give another --output") from None
    return [
        (line, parse_object(line, f"{path}, line {n}") if line.strip() else None)
        for n, line in enumerate(lines, 1)
    ]


def _end_whole(path: Path) -> None:
    """Cut off what a killed server left half-written; another's last line just gets its end.

    Raises:
        UserError: The last line is no part of a label.
    """
    data = path.read_bytes() if path.exists() else b""
    last = data.rpartition(b"\n")[2]
    if not last:
        return
    with path.open("r+b") as file, suppress(ValueError, RecursionError):
        json.loads(last)
        file.seek(0, os.SEEK_END)
        file.write(b"\n")
        return
    if not last.startswith(b"{"):
        raise UserError(f"{path} holds no labels (its last line is no JSON); give another --output")
    os.truncate(path, len(data) - len(last))


def _lock(path: Path) -> int:
    """A lock that ends with the process, on a file beside the output (which undo replaces)."""
    beside = path.with_name(f".{path.name}.lock")
    handle = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise UserError(
            f"{path}: another agent-rl label writes to this file; end it, or give another --output"
        ) from None
    return handle


def _sync(path: Path) -> None:
    with path.open("rb") as file, suppress(OSError):
        os.fsync(file.fileno())
