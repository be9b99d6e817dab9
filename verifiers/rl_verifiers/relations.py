"""Equations, inequalities and what they stand for: values with a name, sets of real numbers."""

from __future__ import annotations

from collections.abc import Sequence

from rl_verifiers.expressions import Node, parts, symbols
from rl_verifiers.intervals import NotASetError, same_reals, unknowns
from rl_verifiers.oracles import Comparison, Oracle

_REALS = ("union", "intersection", "difference", "tuple", "rel", "set", "list", "const")
_NAMED_FUNCTIONS = ("abs", "sin", "cos", "tan", "cot", "sec", "csc")
_FLIPPED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}
MAX_LINKS = 16
"""Longest chain of inequalities that is compared link by link."""


def names_something(node: Node) -> bool:
    """Whether ``node`` can stand left of an equals sign as the name of what is asked for."""
    if node.op in ("sym", "text", "apply"):
        return True
    if node.op == "func":
        return node.value in _NAMED_FUNCTIONS and all(map(names_something, node.args))
    return node.op in ("tuple", "mul", "div", "ratio") and all(map(names_something, node.args))


def named_value(node: Node) -> tuple[Node, Node] | None:
    """Name and value in ``name = value`` or ``value = name``; None where ``node`` is neither."""
    if node.op != "rel" or set(node.value) != {"="}:
        return None
    if names_something(node.args[0]):
        return node.args[0], node.args[-1]
    if names_something(node.args[-1]) and not symbols(node.args[0]) and len(node.args) == 2:
        return node.args[1], node.args[0]
    return None


def assignments(gold: Node, found: Node, comparison: Comparison) -> bool | None:
    """Named values: by their values; a bare value needs no name."""
    wanted, given = named_value(gold), named_value(found)
    if wanted is not None and given is not None:
        (name, value), (other_name, other_value) = wanted, given
        other_value = _renamed(other_value, other_name, name)
        if _same_name(name, other_name):
            return comparison.same(value, other_value)
        return None
    if wanted is not None and found.op != "rel":
        return comparison.same(wanted[1], found)
    if given is not None and gold.op != "rel":
        return comparison.same(gold, given[1])
    if found.op == "rel" and gold.op != "rel" and set(found.value) == {"="}:
        return not symbols(found) and all(comparison.same(gold, part) for part in found.args)
    return None


def _same_name(one: Node, other: Node) -> bool:
    """Equal names; ``x`` and ``x_1``; ``f(x)`` and ``f(t)``; ``y`` and ``f(x)``."""
    if one == other:
        return True
    if one.op == other.op == "sym":
        (base, _, index), (other_base, _, other_index) = (
            node.value.partition("_") for node in (one, other)
        )
        return base == other_base and not (index and other_index)
    if one.op == other.op == "apply":
        return one.value == other.value and _is_definition(one) and _is_definition(other)
    defined = [node for node in (one, other) if node.op == "apply" and _is_definition(node)]
    return len(defined) == 1 and Node("sym", value="y") in (one, other)


def _is_definition(name: Node) -> bool:
    arguments = {node.value for node in name.args if node.op == "sym"}
    return len(arguments) == len(name.args)


def _renamed(value: Node, name: Node, wanted: Node) -> Node:
    """``value`` with the arguments of the function ``name`` called as those of ``wanted``."""
    if not (name.op == wanted.op == "apply" and len(name.args) == len(wanted.args)):
        return value
    pairs = {one.value: other for one, other in zip(name.args, wanted.args, strict=True)
             if one.op == other.op == "sym" and one != other}  # fmt: skip
    taken = {other.value for other in pairs.values()} & symbols(value)
    return value if not pairs or taken - set(pairs) else _substituted(value, pairs)


def _substituted(node: Node, values: dict[str, Node]) -> Node:
    if node.op == "sym":
        return values.get(node.value, node)
    return node._replace(args=tuple(_substituted(part, values) for part in node.args))


def sets_of_reals(gold: Node, found: Node, comparison: Comparison) -> bool | None:
    """Intervals, unions and inequalities in one unknown: by the numbers in them."""
    described = [node.op in ("union", "intersection", "difference") for node in (gold, found)]
    described += [is_inequality(node) for node in (gold, found)]
    described += [node.op == "const" and node.value == "reals" for node in (gold, found)]
    if not any(described) or gold.op not in _REALS or found.op not in _REALS:
        return None
    if len(unknowns(gold)) > 1 or len(unknowns(found)) > 1:
        return None
    if is_inequality(gold) and is_inequality(found) and unknowns(gold) != unknowns(found):
        return False
    try:
        return same_reals(gold, found, comparison.oracle.order)
    except NotASetError:
        return None


def is_inequality(node: Node) -> bool:
    """Whether ``node`` is an inequality, or some of them."""
    if node.op in ("list", "intersection"):
        return all(map(is_inequality, node.args))
    return node.op == "rel" and bool(set(node.value) & set("<>≤≥≠"))


def relations(gold: Node, found: Node, comparison: Comparison) -> bool | None:
    """Equations and inequalities: up to sides, a factor, and the order of a chain's links."""
    if "rel" not in (gold.op, found.op):
        return None
    if gold.op == found.op and len(gold.args) == len(found.args) == 2:
        return _same_relation(gold, found, comparison.oracle)
    links, other_links = _links(gold), _links(found)
    if links is None or other_links is None:
        return False if "list" not in (gold.op, found.op) else None
    if len(links) != len(other_links) or len(links) > MAX_LINKS:
        return False
    return _matched(links, other_links, comparison.oracle)


def _links(node: Node) -> list[Node] | None:
    """The single relations of a chain or of inequalities that hold together."""
    if node.op == "rel":
        pairs = zip(node.args, node.value, node.args[1:], strict=False)
        return [Node("rel", (left, right), (operator,)) for left, operator, right in pairs]
    if node.op not in ("list", "intersection") or node.value == "or" or not is_inequality(node):
        return None
    found = [_links(part) for part in node.args]
    return [link for links in found for link in links or ()]


def _matched(links: Sequence[Node], others: Sequence[Node], oracle: Oracle) -> bool:
    left = list(others)
    for link in links:
        match = next((i for i, x in enumerate(left) if _same_relation(link, x, oracle)), None)
        if match is None:
            return False
        del left[match]
    return True


def _same_relation(gold: Node, found: Node, oracle: Oracle) -> bool:
    if "<" not in gold.value[0] + found.value[0] and gold.value != found.value:
        found = _reversed(found)
    gold, found = (_reversed(x) if x.value[0] in ">≥" else x for x in (gold, found))
    if gold.value != found.value:
        return False
    inside = [part.op for node in (gold, found) for part in parts(node)]
    if "sym" not in inside and "apply" in inside:  # values of a function that nothing is known of
        return all(oracle.equal(a, b) for a, b in zip(gold.args, found.args, strict=True))
    if not any(op in _HOLDERS for op in inside):
        sign = oracle.ratio_sign(_difference(gold), _difference(found))
        return sign > 0 or (sign < 0 and gold.value[0] in "=≠")
    return gold == found


_HOLDERS = ("tuple", "set", "list", "matrix", "union", "text")


def _difference(node: Node) -> Node:
    return Node("add", (node.args[0], Node("neg", (node.args[1],))))


def _reversed(node: Node) -> Node:
    return Node("rel", node.args[::-1], tuple(_FLIPPED.get(op, op) for op in node.value[::-1]))
