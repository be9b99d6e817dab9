"""The operators of an answer: how tightly each binds, and the node that it makes."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from rl_verifiers import units
from rl_verifiers.expressions import Node, UnparsableError, num, symbols

RELATIONS = frozenset(["=", "<", ">", "≤", "≥", "≠", "∈", "∉", "≈", "→"])
_ORDERINGS = frozenset("<>≤≥≠")
SEPARATORS = frozenset((";", ",", "and", "or"))
POWER = {
    ";": 10, ",": 20, "and": 20, "or": 20, **dict.fromkeys(RELATIONS, 30), "∪": 40,
    "∩": 45, "∖": 40, ":": 48, "+": 50, "-": 50, "±": 50, "∓": 50, "*": 60, "/": 60, "^": 80,
    "!": 90, "%": 90, "°": 90, "'": 90, "''": 90, "_": 95,
    **dict.fromkeys("$€£¥₹", 90),
}  # fmt: skip
IMPLICIT = 60
UNARY = 55
ARGUMENT = 61
CLOSING = {"(": ")]", "[": ")]", "⟨": "⟩", "{{": "}}", "⌊": "⌋", "⌈": "⌉"}
APPLIED = frozenset("fghFGHPQWO")

ALIASES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "lg": "log"}
CURRENCY = "$€£¥₹"
_ARCS = {"'": 60, "inch": 3600}


def natural(node: Node) -> bool:
    """Whether ``node`` is a positive whole number as written."""
    return node.op == "num" and node.value.denominator == 1 and node.value > 0


def quotient_of_logarithms(argument: Node, base: Node) -> Node:
    """The logarithm of ``argument`` to ``base``."""
    top, bottom = Node("func", (argument,), "ln"), Node("func", (base,), "ln")
    return Node("div", (top, bottom))


def product(left: Node, right: Node) -> Node:
    r"""``4 \pi cm`` is a quantity of ``4 \pi``, not four times one."""
    if left.op == "unit" and left.value == "°" and right.op == "unit" and right.value in _ARCS:
        minutes = Node("div", (right.args[0], num(_ARCS[right.value])))
        return left._replace(args=(_chained("add", left.args[0], minutes),))
    if right.op == "unit" and right.value not in ("°", "%"):
        return Node("unit", (_chained("mul", left, right.args[0]),), right.value)
    if left.op == "unit" and left.value not in ("°", "%") and (unit := units.written(right)):
        return left._replace(value=units.multiplied(left.value, unit))
    if (unit := units.written(right)) is not None and left.op != "text":
        return Node("unit", (left,), unit)
    if left.op == "unit" and right.op == "pow" and right.args[1].op == "neg":  # 60 km h^-1
        unit = units.written(right, letters=True)
        if unit is not None and left.value not in ("°", "%") and units.factors_of(left.value):
            return left._replace(value=units.multiplied(left.value, unit))
    return _chained("mul", left, right)


def quotient(left: Node, right: Node) -> Node:
    """``left / right``; ``10 m / s`` is a quantity in metres a second."""
    if right.op == "unit":  # 1/2 cm
        return right._replace(args=(Node("div", (left, right.args[0])),))
    unit = units.written(right)
    if unit is None or left.op == "text":
        return Node("div", (left, right))
    if left.op == "unit":
        return left._replace(value=units.multiplied(left.value, unit, -1))
    return Node("unit", (left,), units.multiplied("", unit, -1))


def less(left: Node, right: Node) -> Node:
    """``left - right``: of numbers, or of sets where the left one is the real numbers."""
    if left == Node("const", value="reals"):
        return Node("difference", (left, right))
    return _chained("add", left, Node("neg", (right,)))


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
    if "or" in separators and all(node.op == "text" for node in items):
        return Node("list", items, "or")
    if not all(node.op == "rel" and set(node.value) <= _ORDERINGS for node in items):
        if separators == {"and"} and _is_mixed(items):
            return Node("list", items, "and")
        return Node("list", _solutions(items), "or" if "or" in separators else None)
    if {"and", "or"} <= separators:
        raise UnparsableError("inequalities joined by both 'and' and 'or'")
    excluding = "or" not in separators and all(node.value == ("≠",) for node in items)
    is_one_unknown = len(frozenset().union(*map(symbols, items))) == 1
    if is_one_unknown and ("and" in separators or excluding):
        return reduce(lambda left, right: Node("intersection", (left, right)), items)
    return Node("list", items, "or" if "or" in separators else None)


def _is_mixed(items: tuple[Node, ...]) -> bool:
    """``3 and 1/4``: a whole number and a proper fraction."""
    if len(items) != 2 or not natural(items[0]) or items[1].op != "div":
        return False
    return all(map(natural, items[1].args)) and items[1].args[0].value < items[1].args[1].value


def _solutions(items: tuple[Node, ...]) -> tuple[Node, ...]:
    """``x=1, y=2, x=2, y=1`` as two tuples: one for each round of the same names."""
    if not all(node.op == "rel" and node.value == ("=",) for node in items):
        return items
    names = [node.args[0] for node in items]
    size = names.index(names[0], 1) if names[0] in names[1:] else 1
    if size == 1 or len(items) % size or names != names[:size] * (len(items) // size):
        return items
    rounds = range(0, len(items), size)
    return tuple(Node("tuple", items[i : i + size], "()") for i in rounds)


def _percent(node: Node) -> Node:
    if node.op == "unit" and node.value == "%":
        raise UnparsableError("two percent signs")
    return Node("unit", (node,), "%")


POSTFIX: dict[str, Callable[[Node], Node]] = {
    "!": lambda node: Node("func", (node,), "factorial"),
    "'": lambda node: Node("unit", (node,), "'"),
    "''": lambda node: Node("unit", (node,), "inch"),
    **{mark: lambda node, mark=mark: Node("unit", (node,), mark) for mark in "°" + CURRENCY},  # type: ignore[misc]
    "%": _percent,
}
BINARY: dict[str, Callable[[Node, Node], Node]] = {
    "+": lambda left, right: _chained("add", left, right),
    "-": less,
    "*": product,
    "/": quotient,
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
