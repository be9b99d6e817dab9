"""Two scorings of the same rows, by two verifiers or two versions of one: what changed."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent_rl.errors import UserError
from agent_rl.runs.text import clean, clip
from agent_rl.scoring.outputs import new_columns

EXAMPLES = 20
"""Flips of each direction that are kept, the first ones."""

TEXT = 500
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Flip:
    """A sample that passed once and failed once.

    Attributes:
        row: Its place in the outputs, from 1.
        index: Which completion of the row, from 0.
        before: Status and reason in the first output.
        after: In the second.
        completion: The start of it, where a column of that name is there.
        answer: The reference, likewise.
    """

    row: int
    index: int
    before: str
    after: str
    completion: str = ""
    answer: str = ""


@dataclass(slots=True)
class Comparison:
    """What changed from one scoring to the other.

    Attributes:
        rows: Rows compared.
        samples: Completions in them.
        unjudged: Samples that one of the two failed to judge; they count for nothing else.
        passed: How many passed before, and after.
        gained: Samples that failed before and pass after.
        lost: Samples that passed before and fail after.
        moved: Samples whose reward changed though they pass, or fail, as before.
        statuses: How many samples went from one status to another one.
        first_gained: Examples.
        first_lost: Examples.
    """

    rows: int = 0
    samples: int = 0
    unjudged: int = 0
    passed: list[int] = field(default_factory=lambda: [0, 0])
    gained: int = 0
    lost: int = 0
    moved: int = 0
    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    first_gained: list[Flip] = field(default_factory=list)
    first_lost: list[Flip] = field(default_factory=list)

    def add(
        self, before: Sequence[Any], after: Sequence[Any], index: int, shown: Sequence[Any]
    ) -> None:
        """Take in a sample: (score, passed, status, reason) of each scoring.

        Args:
            before: Of the first scoring.
            after: Of the second.
            index: Which completion of the row, from 0.
            shown: The row's completion and answer, as they stand in their columns.
        """
        self.samples += 1
        statuses = (str(before[2]), str(after[2]))
        if statuses[0] != statuses[1]:
            self.statuses[statuses] += 1
        if "error" in statuses:
            self.unjudged += 1
            return
        was, is_now = bool(before[1]), bool(after[1])
        self.passed[0] += was
        self.passed[1] += is_now
        if was == is_now:
            self.moved += before[0] != after[0]
            return
        examples = self.first_gained if is_now else self.first_lost
        self.gained += is_now
        self.lost += was
        if len(examples) < EXAMPLES:
            texts = [_at(value, index) for value in shown]
            examples.append(Flip(self.rows, index, _said(before), _said(after), *texts))

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            **{name: getattr(self, name) for name in _COUNTS},
            "statuses": [
                {"before": before, "after": after, "count": count}
                for (before, after), count in self.statuses.most_common()
            ],
            "first_gained": [asdict(flip) for flip in self.first_gained],
            "first_lost": [asdict(flip) for flip in self.first_lost],
        }


_COUNTS = ("rows", "samples", "unjudged", "passed", "gained", "lost", "moved")


def compare(
    before: Iterable[Row],
    after: Iterable[Row],
    *,
    prefixes: tuple[str, str] = ("", ""),
    columns: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare row by row, holding one of each at a time.

    Args:
        before: The rows of one output of ``agent-rl score``.
        after: Those of another, of the same inputs in the same order.
        prefixes: Of the columns that scoring added, in each.
        columns: What ``completion`` and ``answer`` are called there, where they have other names.

    Raises:
        UserError: The outputs do not hold the same rows, or no scores.
    """
    looked_at = tuple(_looked_at(prefix) for prefix in prefixes)
    shown = [(columns or {}).get(name, name) for name in ("completion", "answer")]
    added = {name for prefix in ("", *prefixes) for name in new_columns(prefix)}
    found = Comparison()
    for first, second in zip_longest(before, after):
        if first is None or second is None:
            which = "second" if first is None else "first"
            raise UserError(f"the {which} output has more than {found.rows:,} rows, the other none")
        found.rows += 1
        _check_same(first, second, added, found.rows)
        samples = [_scores(row, looked_at[i], found.rows) for i, row in enumerate((first, second))]
        if len(samples[0]) != len(samples[1]):
            raise UserError(f"row {found.rows:,} has other numbers of completions in the outputs")
        for index, (old, new) in enumerate(zip(*samples, strict=True)):
            found.add(old, new, index, [second.get(name) for name in shown])
    return found


def compare_files(
    before: Path | str,
    after: Path | str,
    *,
    prefixes: tuple[str, str] = ("", ""),
    columns: Mapping[str, str] | None = None,
) -> Comparison:
    """:func:`compare` for files, of any kind that ``agent-rl score`` writes.

    Raises:
        UserError: A file cannot be read, or as for :func:`compare`.
    """
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        spools = [Path(folder, name) for name in ("before", "after")]
        paths = (str(before), str(after))
        read = [_rows(path, spool) for path, spool in zip(paths, spools, strict=True)]
        return compare(*read, prefixes=prefixes, columns=columns)


def render(found: Comparison, console: Console) -> None:
    """Print it; what models wrote is printed as plain characters."""
    judged = found.samples - found.unjudged
    facts = [
        ("samples", f"{found.samples:,} of {found.rows:,} rows"),
        ("passed before", _of(found.passed[0], judged)),
        ("passed after", _of(found.passed[1], judged)),
        ("failed before, pass now", f"{found.gained:,}"),
        ("passed before, fail now", f"{found.lost:,}"),
        ("another reward, same verdict", f"{found.moved:,}"),
        ("not judged in one of them", f"{found.unjudged:,}"),
    ]
    _print(console, "", ("", ""), facts)
    changes = [(old, new, f"{n:,}") for (old, new), n in found.statuses.most_common()]
    _print(console, "statuses that changed", ("before", "after", "samples"), changes)
    heads = ("row", "before", "after", "answer", "completion")
    for title, flips in (("pass now", found.first_gained), ("fail now", found.first_lost)):
        rows = [(_place(f), f.before, f.after, f.answer, f.completion) for f in flips]
        _print(console, f"{title}, the first", heads, rows)


def _rows(path: str, spool: Path) -> Iterator[Row]:
    from agent_rl.scoring import inputs  # noqa: PLC0415
    from agent_rl.scoring.types import Record  # noqa: PLC0415

    for span in inputs.plan([path], spool).spans:
        for record in inputs.read(span):
            if not isinstance(record, Record):
                raise UserError(f"{path}, line {record.line}: {record.error}; score it again")
            yield record.row


def _looked_at(prefix: str) -> tuple[str, ...]:
    return tuple(prefix + name for name in ("score", "passed", "status", "reason"))


def _check_same(first: Row, second: Row, added: set[str], number: int) -> None:
    for name in first.keys() & second.keys() - added:
        if first[name] != second[name] and repr(first[name]) != repr(second[name]):  # NaN
            raise UserError(
                f"row {number:,}: column {name!r} differs between the outputs; compare two "
                "scorings of the same inputs, in the same order"
            )


def _scores(row: Row, columns: Sequence[str], number: int) -> list[tuple[Any, ...]]:
    """(score, passed, status, reason) of each completion."""
    missing = [name for name in columns[:3] if name not in row]
    if missing:
        found = ", ".join(map(str, row))
        raise UserError(f"row {number:,} has no column {missing[0]!r}; columns found: {found}")
    values = [_unpacked(row.get(name)) for name in columns]
    if not isinstance(values[2], list):
        return [_read(values)]
    lists = [value if isinstance(value, list) else [None] * len(values[2]) for value in values]
    return [_read(sample) for sample in zip(*lists, strict=False)]


def _unpacked(value: Any) -> Any:
    """A list that stands in CSV as its JSON text."""
    if not (isinstance(value, str) and value.startswith("[") and value.endswith("]")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _read(values: Sequence[Any]) -> tuple[Any, ...]:
    """A CSV file has text in place of numbers and booleans."""
    score, passed, status, reason = values
    if isinstance(score, str):
        score = float(score) if score else None
    if isinstance(passed, str):
        passed = passed.casefold() == "true"
    return score, passed, status, reason


def _said(sample: Sequence[Any]) -> str:
    return f"{sample[2]}: {clip(str(sample[3]), 200)}" if sample[3] else str(sample[2])


def _at(value: Any, index: int) -> str:
    if isinstance(value, list) and index < len(value) and not isinstance(value[0], Mapping):
        value = value[index]
    return "" if value is None else clip(value if isinstance(value, str) else repr(value), TEXT)


def _place(flip: Flip) -> str:
    return f"{flip.row:,}" + (f", completion {flip.index + 1}" if flip.index else "")


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,} ({100 * count / total if total else 0.0:.2f} %)"


def _print(
    console: Console, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    if not rows:
        return
    if title:
        console.print(Text(title, style="bold"))
    table = Table(box=None, show_header=any(heads))
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        cells = (clean(clip(" ".join(c.split()), 160), console.encoding or "utf-8") for c in row)
        table.add_row(*map(Text, cells))
    console.print(table)
