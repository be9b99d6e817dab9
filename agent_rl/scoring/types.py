"""What the parts of offline scoring hand to each other.

A job is cut into *spans*: some consecutive rows of one input file that a worker can read by itself.
A worker reads a span, scores it and writes one *part* of the output beside one *tally*; a part
whose tally exists is finished and is never made again. The parts in order are the output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rl_verifiers import Score


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive rows of one file, readable without reading what comes before.

    Attributes:
        index: The number of the span in the job, from 0; its part has the same number.
        path: The file to read: the input itself, or a copy that can be split.
        name: What a person calls the input, for messages and rejects.
        kind: How to read it: ``jsonl``, ``csv``, ``parquet`` or ``arrow``.
        start: Where to begin: a byte offset (text), or the first row (tables).
        stop: Where to end, not included, in the same unit.
        line: Number of the first line (text, from 1) or of the first row (tables, from 1).
        rows: How many rows the span holds, where that is known without parsing them.
        group: What ``start`` counts within: the row group (Parquet), or the record batch, by the
            byte where its message begins (Arrow).
    """

    index: int
    path: Path
    name: str
    kind: str
    start: int
    stop: int
    line: int
    rows: int
    group: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """All spans of a job, made before anything is scored.

    Attributes:
        spans: In input order.
        rows: How many rows there are in all.
        columns: The columns found, in order of first appearance (of the first rows, for JSONL).
        fingerprint: Changes when an input changes; a resumed job must find the same.
        schema: The Arrow schema of the inputs where all are tables of one schema; else None.
    """

    spans: Sequence[Span]
    rows: int
    columns: Sequence[str]
    fingerprint: str
    schema: Any = None


@dataclass(frozen=True, slots=True)
class Record:
    """One input row.

    Attributes:
        line: Its number in the input: of the line (text) or of the row (tables), from 1.
        row: Its columns as they were.
    """

    line: int
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reject:
    """A line that is no row, or a row that cannot be scored; it is kept, with the reason."""

    name: str
    line: int
    error: str
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion to score: the text, and the row that the verifier sees."""

    completion: str
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scored:
    """A record, its scores in the order of its completions, and how long each took.

    Attributes:
        record: The input row.
        scores: One for each completion.
        is_list: Whether the row holds a list of completions; the new columns are then lists, too.
        seconds: Wall-clock seconds of each score.
    """

    record: Record
    scores: Sequence[Score]
    is_list: bool
    seconds: Sequence[float] = field(default_factory=tuple)
