"""Sets of real numbers as unions of intervals, and inequalities in one variable as such sets."""

from __future__ import annotations

from collections.abc import Callable
from functools import cmp_to_key, reduce
from typing import Any, NamedTuple

from rl_verifiers.expressions import Node, OverLimitError, num

Order = Callable[[Node, Node], int]
"""Tells of two finite real numbers which is larger: -1, 0 or 1."""

MAX_INTERVALS = 64
_INFINITY = Node("const", value="inf")
_MINUS_INFINITY = Node("neg", (_INFINITY,))
_FLIPPED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤", "≠": "≠", "=": "="}


class NotASetError(ValueError):
    """The expression is not a set of real numbers."""


class Cut(NamedTuple):
    """A place between real numbers: just before ``at``, or just after it."""

    at: Node
    after: bool


Pieces = list[tuple[Cut, Cut]]
_START, _END = Cut(_MINUS_INFINITY, False), Cut(_INFINITY, True)
_ALL: Pieces = [(_START, _END)]


def same_reals(left: Node, right: Node, order: Order) -> bool:
    """Whether two descriptions (intervals, unions, inequalities) are of the same set.

    Raises:
        NotASetError: One of them is not a set that we can read as intervals.
    """
    a, b = reals(left, order), reals(right, order)
    if len(a) != len(b):
        return False
    return all(
        _compare(one, other, order) == 0
        for pair, match in zip(a, b, strict=True)
        for one, other in zip(pair, match, strict=True)
    )


def reals(node: Node, order: Order) -> Pieces:
    """The disjoint, sorted pieces of a set of real numbers."""
    if node.op == "const" and node.value in ("reals", "empty"):
        return _ALL if node.value == "reals" else []
    if node.op == "tuple" and len(node.args) == 2 and node.value[0] in "([":
        low, high = node.args
        piece = Cut(low, node.value[0] == "("), Cut(high, node.value[1] == "]")
        if _compare(*piece, order) >= 0:  # (2,1) is a point or a mistake
            raise NotASetError
        return _clean([piece], order)
    if node.op == "set":
        return _clean([(Cut(item, False), Cut(item, True)) for item in node.args], order)
    if node.op in ("union", "list"):
        return _together(node, order)
    if node.op in ("intersection", "difference"):
        left, right = (reals(part, order) for part in node.args)
        right = right if node.op == "intersection" else _complement(right)
        return _intersection(left, right, order)
    if node.op == "rel":
        return _inequality(node, order)
    raise NotASetError


def _together(node: Node, order: Order) -> Pieces:
    """A union; but inequalities with commas between them hold together where they can."""
    found = [reals(part, order) for part in node.args]
    if node.op == "list" and node.value != "or" and all(part.op == "rel" for part in node.args):
        common = reduce(lambda left, right: _intersection(left, right, order), found)
        if common:
            return common
    return _clean([piece for pieces in found for piece in pieces], order)


def unknowns(node: Node) -> frozenset[Node]:
    """The symbols in ``node``, and its unknown functions with their arguments."""
    if node.op in ("sym", "apply"):
        return frozenset([node])
    return frozenset(unknown for part in node.args for unknown in unknowns(part))


def _inequality(node: Node, order: Order) -> Pieces:
    found = _ALL
    for left, operator, right in zip(node.args, node.value, node.args[1:], strict=False):
        if operator not in _FLIPPED:
            raise NotASetError
        if _is_unknown(right) or _is_absolute(right):
            part = _solutions(right, _FLIPPED[operator], left, order)
        else:
            part = _solutions(left, operator, right, order)
        found = _intersection(found, part, order)
    return found


def _solutions(unknown: Node, operator: str, bound: Node, order: Order) -> Pieces:
    if _is_absolute(unknown):
        return _absolute(operator, bound, order)
    if _is_unknown(unknown):
        return _half_line(operator, bound, order)
    raise NotASetError


def _is_unknown(node: Node) -> bool:
    return node.op in ("sym", "apply")


def _is_absolute(node: Node) -> bool:
    return node.op == "func" and node.value == "abs" and _is_unknown(node.args[0])


def _half_line(operator: str, bound: Node, order: Order) -> Pieces:
    before, after = Cut(bound, False), Cut(bound, True)
    pieces = {
        "<": [(_START, before)],
        "≤": [(_START, after)],
        ">": [(after, _END)],
        "≥": [(before, _END)],
        "=": [(before, after)],
        "≠": [(_START, before), (after, _END)],
    }[operator]
    return _clean(pieces, order)


def _absolute(operator: str, bound: Node, order: Order) -> Pieces:
    """``|x| < c``, ``|x| > c`` and the like, for a bound that is not negative."""
    if order(bound, num(0)) < 0:
        raise NotASetError
    low = Node("neg", (bound,))
    inside = {"<": True, "≥": True, "≤": False, ">": False}.get(operator)
    if inside is None:
        raise NotASetError
    middle = _clean([(Cut(low, inside), Cut(bound, not inside))], order)
    return middle if operator in "<≤" else _complement(middle)


def _complement(pieces: Pieces) -> Pieces:
    edges = [_START, *(cut for piece in pieces for cut in piece), _END]
    pairs = list(zip(edges[::2], edges[1::2], strict=True))
    return [(low, high) for low, high in pairs if low != high]


def _intersection(left: Pieces, right: Pieces, order: Order) -> Pieces:
    key = _key(order)
    found = [(max(a, c, key=key), min(b, d, key=key)) for a, b in left for c, d in right]
    return _clean(found, order)


def _clean(pieces: Pieces, order: Order) -> Pieces:
    """Sort, drop what is empty, join what touches."""
    if len(pieces) > MAX_INTERVALS:
        raise OverLimitError(f"more than {MAX_INTERVALS} intervals")
    key = _key(order)
    kept = [piece for piece in pieces if _compare(*piece, order) < 0]
    found: Pieces = []
    for low, high in sorted(kept, key=lambda piece: key(piece[0])):
        if found and _compare(low, found[-1][1], order) <= 0:
            found[-1] = (found[-1][0], max(found[-1][1], high, key=key))
        else:
            found.append((low, high))
    return found


def _key(order: Order) -> Callable[[Cut], Any]:
    def compare(one: Cut, other: Cut) -> int:
        return _compare(one, other, order)

    return cmp_to_key(compare)


def _compare(one: Cut, other: Cut, order: Order) -> int:
    ranks = [{_MINUS_INFINITY: -1, _INFINITY: 1}.get(cut.at, 0) for cut in (one, other)]
    if any(ranks):
        return (ranks[0] > ranks[1]) - (ranks[0] < ranks[1])
    return order(one.at, other.at) or one.after - other.after
