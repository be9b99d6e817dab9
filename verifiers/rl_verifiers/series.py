"""Finite sums and products."""

from __future__ import annotations

from rl_verifiers.expressions import MAX_NODES, Node, OverLimitError, num, parts

MAX_TERMS = 300
"""Longest sum that is written out; a longer one stands for itself."""


def series(name: str, body: Node, bounds: tuple[Node, Node, Node]) -> Node:
    """The sum or product of ``body`` for a symbol from one bound to another.

    Between whole numbers that are near each other it is written out; else it is a function that is
    known to equal itself only.

    Args:
        name: ``sum`` or ``prod``.
        body: The term.
        bounds: The symbol, its first value and its last.

    Raises:
        OverLimitError: Written out, it has too many parts.
    """
    symbol, low, high = bounds
    first, last = _whole(low), _whole(high)
    index = Node("sym", value="\N{SECTION SIGN}")
    if first is None or last is None or last - first >= MAX_TERMS or last < first:
        return Node("apply", (_with(body, symbol, index), low, high), name)
    count = last - first + 1
    if count * sum(1 for _ in parts(body)) > MAX_NODES:
        raise OverLimitError(f"a {name} of more than {MAX_NODES} parts")
    terms = tuple(_with(body, symbol, num(first + i)) for i in range(count))
    return terms[0] if count == 1 else Node("add" if name == "sum" else "mul", terms)


def _with(node: Node, symbol: Node, value: Node) -> Node:
    if node == symbol:
        return value
    return node._replace(args=tuple(_with(part, symbol, value) for part in node.args))


def _whole(node: Node) -> int | None:
    if node.op == "neg":
        value = _whole(node.args[0])
        return None if value is None else -value
    return int(node.value) if node.op == "num" and node.value.denominator == 1 else None
