"""Lists, sets, tuples and points."""

from __future__ import annotations

from collections.abc import Sequence

from rl_verifiers.expressions import Node, NotExactError, OverLimitError, exact
from rl_verifiers.oracles import Comparison
from rl_verifiers.relations import named_value

MAX_UNORDERED = 64
"""Longest list that is matched item by item where the items are not plain numbers."""
SEQUENCES = ("list", "set", "tuple")


def sequences(gold: Node, found: Node, comparison: Comparison) -> bool | None:
    """Tuples in their order, sets and lists in any; the brackets must be of one kind."""
    gold, found = _as_tuples(gold, found)
    if found.op == "list" and gold.op not in SEQUENCES:  # the same value said more than once
        return all(comparison.same(gold, part) for part in found.args)
    if not (gold.op in SEQUENCES and found.op in SEQUENCES):
        return False if gold.op in SEQUENCES or found.op in SEQUENCES else None
    if "or" in (gold.value, found.value) and gold.value != found.value and _are_texts(gold):
        return False
    brackets = [node.value for node in (gold, found) if node.op == "tuple"]
    if brackets and (
        "set" in (gold.op, found.op)
        or len(set(brackets)) > 1
        or (len(brackets) == 1 and brackets != ["()"])
    ):
        return False
    if brackets:
        return (
            len(gold.args) == len(found.args)
            and (gold.op != "tuple" or _are_coordinates(found, gold))
            and all(comparison.same(a, b) for a, b in zip(gold.args, found.args, strict=True))
        )
    return same_collection(_distinct(gold), _distinct(found), comparison)


def _as_tuples(gold: Node, found: Node) -> tuple[Node, Node]:
    """Points without their names, and named coordinates in the order of their names."""
    if gold.op == "tuple" and found.op == "apply" and found.value.isupper():
        found = Node("tuple", found.args, "()")
    if found.op == "tuple" and gold.op == "apply" and gold.value.isupper():
        gold = Node("tuple", gold.args, "()")
    is_python_list = found.op == "tuple" and found.value == "[]" and len(found.args) > 2
    if is_python_list and gold.op in ("list", "set"):
        found = Node("list", found.args)
    if gold.op == "tuple" and found.op in ("list", "set") and len(found.args) > 1:
        found = _by_name(found)
    return gold, found


def _are_coordinates(node: Node, gold: Node) -> bool:
    """Whether the items of ``node`` go together: no alternatives, no sets, no name twice."""
    if node.value == "or":
        return False
    if any(b.op == "set" != a.op for a, b in zip(gold.args, node.args, strict=False)):
        return False
    if gold.args and gold.args[0].op == "rel":
        return True
    pairs = [named_value(item) for item in node.args]
    names = [pair[0] for pair in pairs if pair is not None]
    return not names or len(set(names)) == len(pairs)


def _by_name(node: Node) -> Node:
    pairs = [named_value(item) for item in node.args]
    names = [pair[0].value for pair in pairs if pair is not None and pair[0].op == "sym"]
    if len(set(names)) < len(node.args) or not set(names) <= set("abcdxyz"):
        return node
    return node._replace(args=tuple(item for _, item in sorted(zip(names, node.args, strict=True))))


def _are_texts(node: Node) -> bool:
    return all(item.op == "text" for item in node.args)


def _distinct(node: Node) -> tuple[Node, ...]:
    """The items of a set, or of a list of points, each once; those of another list as they are."""
    if node.op == "set" or all(item.op == "tuple" for item in node.args):
        return tuple(dict.fromkeys(node.args))
    return node.args


def same_collection(gold: Sequence[Node], found: Sequence[Node], comparison: Comparison) -> bool:
    """Whether two collections match one to one, in any order.

    Raises:
        OverLimitError: They are long and not plain numbers.
    """
    if len(gold) != len(found):
        return False
    try:
        return sorted(map(exact, gold)) == sorted(map(exact, found))
    except NotExactError:
        pass
    if len(gold) > MAX_UNORDERED:
        raise OverLimitError(f"a list of more than {MAX_UNORDERED} expressions")
    left = list(found)
    for item in gold:
        match = next((i for i, x in enumerate(left) if comparison.same(item, x)), None)
        if match is None:
            return False
        del left[match]
    return True
