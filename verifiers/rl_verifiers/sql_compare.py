"""Whether two results of queries are the same, order, ties and floats considered."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rl_verifiers.sql_text import Ordering

ABSOLUTE_TOLERANCE = 1e-9
_MAX_PAIRS = 10_000
_MAX_PERMUTATIONS = 200
_MAX_ORDER_STEPS = 20_000

Rows = Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Table:
    """The result of a query: the names of its columns and its rows, in their order."""

    columns: Sequence[str]
    rows: Rows


@dataclass(frozen=True)
class Block:
    """``size`` neighbouring rows of a reference, which may be any of ``pool`` in any order."""

    size: int
    pool: Rows


@dataclass(frozen=True)
class Reference:
    """What a right result looks like: ``width`` columns, and blocks of rows one after another."""

    width: int
    blocks: Sequence[Block]
    ordered: bool
    ties_seen: bool = True

    @property
    def size(self) -> int:
        """How many rows it has."""
        return sum(block.size for block in self.blocks)


def unordered(table: Table) -> Reference:
    """A reference whose rows may come in any order."""
    return Reference(len(table.columns), [Block(len(table.rows), table.rows)], ordered=False)


def ordered(table: Table) -> Reference:
    """A reference whose rows must come as they are."""
    blocks = [Block(1, [row]) for row in table.rows]
    return Reference(len(table.columns), blocks, ordered=True, ties_seen=False)


def with_ties(table: Table, keyed: Table, ordering: Ordering, tol: float) -> Reference:
    """A reference whose rows may change places where what they are ordered by is equal.

    Args:
        table: The result itself.
        keyed: That of ``ordering.query``: all rows, the LIMIT left out, with their keys.
        ordering: How the two hang together.
        tol: As for :func:`same`.

    Returns:
        Blocks of tied rows. A block that a LIMIT cuts takes any of the tied rows. Where the two
        results do not fit together, :func:`ordered`.
    """
    width = len(table.columns)
    keys = [_index(key, table.columns, width + ordering.added) for key in ordering.keys]
    if len(keyed.columns) != width + ordering.added or None in keys:
        return ordered(table)
    places = [key for key in keys if key is not None]
    first, last = ordering.offset, ordering.offset + len(table.rows)
    blocks, start = [], 0
    for _, tied in groupby(keyed.rows, key=lambda row: [_exact(row[i]) for i in places]):
        pool = [row[:width] for row in tied]
        size = min(start + len(pool), last) - max(start, first)
        if size > 0:
            blocks.append(Block(size, pool))
        start += len(pool)
    reference = Reference(width, blocks, ordered=True)
    return reference if same(reference, table.rows, tol=tol) else ordered(table)


def _index(key: int | str, columns: Sequence[str], width: int) -> int | None:
    if isinstance(key, str):
        found = [i for i, name in enumerate(columns) if name.lower() == key]
        return found[0] if len(found) == 1 else None
    index = key + width if key < 0 else key
    return index if index < width else None


def same(reference: Reference, rows: Rows, *, tol: float, column_order: bool = True) -> bool:
    """Whether rows are those of a reference.

    Numbers are equal as numbers (``1`` is ``1.0``); where the reference's own value is a float,
    also within ``tol`` of the larger one or 1e-9. What came cannot switch the tolerance on. NULL
    equals NULL alone, text never a number.

    Args:
        reference: What is right.
        rows: What came, each as wide as the reference.
        tol: Relative.
        column_order: Off, the columns may stand in any order.
    """
    if len(rows) != reference.size or any(len(row) != reference.width for row in rows):
        return False
    if column_order or not rows:
        return _same(reference, rows, tol)
    pool = [row for block in reference.blocks for row in block.pool]
    return any(
        _same(reference, [[row[i] for i in order] for row in rows], tol)
        for order in _orders(pool, rows, tol)
    )


def _same(reference: Reference, rows: Rows, tol: float) -> bool:
    floats = [
        any(isinstance(row[i], float) for block in reference.blocks for row in block.pool)
        for i in range(reference.width)
    ]
    start = 0
    for block in reference.blocks:
        if not _among(block.pool, rows[start : start + block.size], floats, tol):
            return False
        start += block.size
    return True


def _among(pool: Rows, rows: Rows, floats: Sequence[bool], tol: float) -> bool:
    """Whether each of ``rows`` is one of ``pool``, none of them used twice."""
    missing = Counter(map(_exact_row, rows))
    missing.subtract(Counter(map(_exact_row, pool)))
    if all(count <= 0 for count in missing.values()):
        return True
    if not any(floats) or not tol:
        return False
    wanted, found = _bucketed(pool, floats), _bucketed(rows, floats)
    return all(_paired(wanted.get(key, []), numbers, tol) for key, numbers in found.items())


def _bucketed(rows: Rows, floats: Sequence[bool]) -> dict[tuple[Any, ...], list[list[Any]]]:
    """The numbers of the float columns, by the rest of the row."""
    buckets: dict[tuple[Any, ...], list[list[Any]]] = {}
    for row in rows:
        loose = [near and _is_number(value) for near, value in zip(floats, row, strict=True)]
        key = tuple("~" if near else _exact(v) for near, v in zip(loose, row, strict=True))
        numbers = [value for near, value in zip(loose, row, strict=True) if near]
        buckets.setdefault(key, []).append(numbers)
    return buckets


def _paired(pool: list[list[Any]], rows: list[list[Any]], tol: float) -> bool:
    """Whether ``rows`` can be paired with different members of ``pool`` that are close to them."""
    pool, rows = sorted(pool), sorted(rows)
    if len(rows) > len(pool):
        return False
    if len(rows) == len(pool) and all(map(_Close(tol), rows, pool)):
        return True
    if len(rows) * len(pool) > _MAX_PAIRS:
        return False
    close = _Close(tol)
    near = [[j for j, other in enumerate(pool) if close(row, other)] for row in rows]
    taken: dict[int, int] = {}
    return all(_augmented(i, near, taken, set()) for i in range(len(rows)))


def _augmented(i: int, near: list[list[int]], taken: dict[int, int], seen: set[int]) -> bool:
    """One step of Kuhn's matching: give row ``i`` a partner, others moving over if they can."""
    for j in near[i]:
        if j not in seen:
            seen.add(j)
            if j not in taken or _augmented(taken[j], near, taken, seen):
                taken[j] = i
                return True
    return False


@dataclass(frozen=True)
class _Close:
    tol: float

    def __call__(self, one: Sequence[float], other: Sequence[float]) -> bool:
        """Whether the numbers ``one`` are those of a reference: near where that has a float."""
        return all(
            math.isclose(a, b, rel_tol=self.tol, abs_tol=ABSOLUTE_TOLERANCE)
            if isinstance(b, float)
            else a == b
            for a, b in zip(one, other, strict=True)
        )


def _orders(pool: Rows, rows: Rows, tol: float) -> Iterator[list[int]]:
    """Orders of the columns of ``rows`` that each fit by themselves, at most 200."""
    width = len(rows[0])
    fitting = []
    for i in range(width):
        wanted = [[row[i]] for row in pool]
        near = [any(isinstance(row[0], float) for row in wanted)]
        fitting.append(
            [j for j in range(width) if _among(wanted, [[row[j]] for row in rows], near, tol)]
        )
    stack: list[list[int]] = [[]]
    tried = steps = 0
    while stack and tried < _MAX_PERMUTATIONS and steps < _MAX_ORDER_STEPS:
        order = stack.pop()
        steps += 1
        if len(order) == width:
            tried += 1
            yield order
            continue
        stack.extend([*order, j] for j in reversed(fitting[len(order)]) if j not in order)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _exact(value: Any) -> tuple[str, Any]:
    """A key that keeps NULL, number, text and bytes apart."""
    if value is None:
        return ("null", None)
    return ("number", value) if _is_number(value) else (type(value).__name__, value)


def _exact_row(row: Sequence[Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(map(_exact, row))
