"""Matrices: environments of cells, and sums, products and powers of matrices as one matrix."""

from __future__ import annotations

from rl_verifiers.cursor import Cursor
from rl_verifiers.expressions import Node, OverLimitError, UnparsableError, num

ENVIRONMENTS = frozenset(
    ("matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "Vmatrix", "array", "smallmatrix")
)
MAX_CELLS = 400
"""Cells of a product of matrices times the length of its sums."""
_MAX_POWER = 10


class EnvironmentParser(Cursor):
    r"""Reads ``\begin{...}...\end{...}``; a mixin for a parser that reads expressions."""

    def _expression(self, power: int) -> Node:
        raise NotImplementedError

    def _environment(self) -> Node:
        name = self._raw_group().strip("*")
        if name == "array":
            self._raw_group()
        rows = self._rows(20 if name == "cases" else 0)
        if self._raw_group().strip("*") != name or not rows:
            raise UnparsableError("an environment without its end")
        if name == "cases":
            return Node("list", tuple(row.args[0] for row in rows))
        if name not in ENVIRONMENTS:
            raise UnparsableError(f"unknown environment {name:.20}")
        if len({len(row.args) for row in rows}) != 1:
            raise UnparsableError("rows of different lengths")
        matrix = Node("matrix", tuple(rows))
        return Node("func", (matrix,), "det") if name == "vmatrix" else matrix

    def _rows(self, power: int) -> list[Node]:
        rows: list[Node] = []
        cells: list[Node] = []
        while True:
            value = self._peek_value()
            if value in ("&", "\\\\", "end"):
                self._position += 1
                if value != "&" and cells:
                    rows.append(Node("row", tuple(cells)))
                    cells = []
                if value == "end":
                    return rows
            elif value == "," and power:
                self._position += 1
            else:
                cells.append(self._expression(power))


def from_brackets(node: Node) -> Node:
    """``[[1, 2], [3, 4]]`` as a matrix; ``node`` where it is nothing like that."""
    rows = node.args
    sizes = {len(row.args) if row.op == "tuple" and row.value == "[]" else 0 for row in rows}
    if node.value != "[]" or len(sizes) > 1 or 0 in sizes:
        return node
    return Node("matrix", tuple(Node("row", row.args) for row in rows))


Cells = list[list[Node]]


def evaluated(node: Node) -> Node:
    """``node`` with its matrices added, multiplied and raised to powers, where they can be.

    Raises:
        OverLimitError: That would take more than ``MAX_CELLS`` products a step.
    """
    if node.op in ("add", "neg", "mul", "div", "pow") and _has_matrix(node):
        found = _evaluated(node)
        return node if found is None else _matrix(found)
    return node


def _has_matrix(node: Node) -> bool:
    return any(part.op == "matrix" or _has_matrix(part) for part in node.args
               if part.op in ("add", "neg", "mul", "div", "pow", "matrix"))  # fmt: skip


def _evaluated(node: Node) -> Cells | None:
    """The cells of a matrix; None for a scalar or what is not defined."""
    if node.op not in ("add", "neg", "mul", "div", "pow"):
        return [list(row.args) for row in node.args] if node.op == "matrix" else None
    parts = [_evaluated(part) for part in node.args]
    first = parts[0]
    if node.op in ("add", "mul"):
        return _sum(parts) if node.op == "add" else _product(node.args, parts)
    if first is None or len([part for part in parts if part is not None]) > 1:
        return None
    if node.op == "pow":
        return _power(first, node.args[1])
    return _scaled(first, num(-1) if node.op == "neg" else Node("div", (num(1), node.args[1])))


def _sum(parts: list[Cells | None]) -> Cells | None:
    found = parts[0]
    for part in parts[1:]:
        if found is None or part is None or _shape(found) != _shape(part):
            return None
        found = [
            [Node("add", pair) for pair in zip(*rows, strict=True)]
            for rows in zip(found, part, strict=True)
        ]
    return found


def _product(nodes: tuple[Node, ...], parts: list[Cells | None]) -> Cells | None:
    found: Cells | None = None
    scalars: list[Node] = []
    for node, part in zip(nodes, parts, strict=True):
        if part is None:
            scalars.append(node)
        else:
            found = part if found is None else _times(found, part)
            if found is None:
                return None
    if found is None:
        return None
    return _scaled(found, Node("mul", tuple(scalars))) if scalars else found


def _times(left: Cells, right: Cells) -> Cells | None:
    columns = list(zip(*right, strict=True))
    if len(left[0]) != len(right):
        return None
    if len(left) * len(columns) * len(right) > MAX_CELLS:
        raise OverLimitError(f"a product of matrices of more than {MAX_CELLS} terms")
    return [
        [
            Node("add", tuple(Node("mul", pair) for pair in zip(row, column, strict=True)))
            for column in columns
        ]
        for row in left
    ]


def _power(base: Cells, exponent: Node) -> Cells | None:
    if exponent == Node("sym", value="T"):
        return [list(column) for column in zip(*base, strict=True)]
    is_natural = exponent.op == "num" and exponent.value.denominator == 1
    if not is_natural or not 1 <= exponent.value <= _MAX_POWER:
        return None
    found: Cells | None = base
    for _ in range(int(exponent.value) - 1):
        found = None if found is None else _times(found, base)
    return found


def _scaled(cells: Cells, factor: Node) -> Cells:
    return [[Node("mul", (factor, cell)) for cell in row] for row in cells]


def _shape(cells: Cells) -> tuple[int, int]:
    return len(cells), len(cells[0])


def _matrix(cells: Cells) -> Node:
    return Node("matrix", tuple(Node("row", tuple(row)) for row in cells))
