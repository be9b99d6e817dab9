"""A file of lines that grows by whole chunks: a stopped stage goes on after the last one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_rl.runs.files import append_line, read_json_lines, to_json, write_atomically


class ChunkFile:
    """One JSON line per item, in order; chunks of ``size`` items, the last one perhaps shorter.

    Args:
        path: The file.
        size: Items in a chunk.
        total: Items in all.
        resume: Keep the whole chunks that are there; a half-written one is removed.

    Attributes:
        n_items: How many items the file holds.
    """

    def __init__(self, path: Path, size: int, total: int, *, resume: bool) -> None:
        self.path, self.size, self.total = path, size, total
        kept = read_json_lines(path)[:total] if resume else []
        if len(kept) < total:
            kept = kept[: len(kept) // size * size]
        write_atomically(path, "".join(f"{to_json(row)}\n" for row in kept))
        self.n_items = len(kept)

    @property
    def n_chunks(self) -> int:
        """How many chunks there will be."""
        return -(-self.total // self.size)

    @property
    def done(self) -> int:
        """How many chunks the file holds."""
        return -(-self.n_items // self.size)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add one chunk, in one write."""
        append_line(self.path, "\n".join(to_json(row) for row in rows))
        self.n_items += len(rows)

    def rows(self) -> list[dict[str, Any]]:
        """Every line, as it stands in the file."""
        return read_json_lines(self.path)
