"""The operators of an answer: how tightly each binds, and the node that it makes."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from rl_verifiers.expressions import Node, UnparsableError, num, symbols

RELATIONS = frozenset(["=", "<", ">", "≤", "≥", "≠", "∈", "≈", "→"])
_ORDERINGS = frozenset("<>≤≥≠")
SEPARATORS = frozenset((";", ",", "and", "or"))
MATRICES = frozenset(("matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "array", "smallmatrix"))
POWER = {
    ";": 10, ",": 20, "and": 20, "or": 20, **dict.fromkeys(RELATIONS, 30), "∪": 40,
    "∩": 45, "∖": 40, ":": 48, "+": 50, "-": 50, "±": 50, "∓": 50, "*": 60, "/": 60, "^": 80,
    "!": 90, "%": 90, "°": 90, "'": 90, "_": 95, "$": 90, "€": 90, "£": 90,
}  # fmt: skip
IMPLICIT = 60
UNARY = 55
ARGUMENT = 61
CLOSING = {"(": ")]", "[": ")]", "⟨": "⟩", "{{": "}}", "⌊": "⌋", "⌈": "⌉"}
APPLIED = frozenset("fghFGHPQWO")
ALIASES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "lg": "log"}
CURRENCY = "$€£"


def natural(node: Node) -> bool:
    """Whether ``node`` is a positive whole number as written."""
    return node.op == "num" and node.value.denominator == 1 and node.value > 0


def plain(node: Node) -> str:
    """A number as text, for the name of a unit; a question mark for anything else."""
    return str(node.value) if node.op == "num" else "?"


def quotient_of_logarithms(argument: Node, base: Node) -> Node:
    """The logarithm of ``argument`` to ``base``."""
    top, bottom = Node("func", (argument,), "ln"), Node("func", (base,), "ln")
    return Node("div", (top, bottom))


def product(left: Node, right: Node) -> Node:
    r"""``4 \pi cm`` is a quantity of ``4 \pi``, not four times one."""
    if right.op == "unit" and right.value not in "°%":
        return Node("unit", (Node("mul", (left, right.args[0])),), right.value)
    return _chained("mul", left, right)


def _chained(op: str, left: Node, right: Node) -> Node:
    """One node for a whole sum, product or ratio, so that a long one is not a deep one."""
    return Node(op, (*left.args, right) if left.op == op else (left, right))


def ratio(left: Node, right: Node) -> Node:
    """``a:b``, and ``a:b:c`` as one ratio of three."""
    return _chained("ratio", left, right)


def joined(items: tuple[Node, ...], separators: set[str]) -> Node:
    """A list; but inequalities joined by "and", and all of those that exclude, hold together.

    Raises:
        UnparsableError: Inequalities are joined by both "and" and "or", or bare symbols by either:
            that is logic, not a list.
    """
    if {"and", "or"} & separators and all(node.op == "sym" for node in items):
        raise UnparsableError("a logical formula")
    if not all(node.op == "rel" and set(node.value) <= _ORDERINGS for node in items):
        return Node("list", items)
    if {"and", "or"} <= separators:
        raise UnparsableError("inequalities joined by both 'and' and 'or'")
    excluding = "or" not in separators and all(node.value == ("≠",) for node in items)
    is_one_unknown = len(frozenset().union(*map(symbols, items))) == 1
    if is_one_unknown and ("and" in separators or excluding):
        return reduce(lambda left, right: Node("intersection", (left, right)), items)
    return Node("list", items)


POSTFIX: dict[str, Callable[[Node], Node]] = {
    "!": lambda node: Node("func", (node,), "factorial"),
    "'": lambda node: Node("unit", (node,), "'"),
    **{mark: lambda node, mark=mark: Node("unit", (node,), mark) for mark in "%°$€£"},  # type: ignore[misc]
}
BINARY: dict[str, Callable[[Node, Node], Node]] = {
    "+": lambda left, right: _chained("add", left, right),
    "-": lambda left, right: _chained("add", left, Node("neg", (right,))),
    "*": product,
    "/": lambda left, right: Node("div", (left, right)),
    "±": lambda left, right: Node("pm", (left, right), "±"),
    "∓": lambda left, right: Node("pm", (left, right), "∓"),
    ":": ratio,
    "∪": lambda left, right: _chained("union", left, right),
    "∩": lambda left, right: Node("intersection", (left, right)),
    "∖": lambda left, right: Node("difference", (left, right)),
}
SIGNS: dict[str, Callable[[Node], Node]] = {
    "-": lambda node: Node("neg", (node,)),
    "+": lambda node: node,
    "±": lambda node: Node("pm", (num(0), node), "±"),
    "∓": lambda node: Node("pm", (num(0), node), "∓"),
    **{mark: POSTFIX[mark] for mark in CURRENCY},
}
