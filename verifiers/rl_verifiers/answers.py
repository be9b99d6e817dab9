"""Whether two answers say the same: the conventions, and the kinds of answers that have few.

Whether two values are equal an :class:`~rl_verifiers.oracles.Oracle` decides.
"""

from __future__ import annotations

from fractions import Fraction

from rl_verifiers import units
from rl_verifiers.approximations import approximations_hold
from rl_verifiers.expressions import (
    Node,
    NotExactError,
    OverLimitError,
    contains,
    exact,
    num,
    parts,
    symbols,
)
from rl_verifiers.forms import same_time
from rl_verifiers.matrices import evaluated, from_brackets
from rl_verifiers.oracles import (
    EXACT_DIGITS,
    ROUNDED_DIGITS,
    Comparison,
    ExactOracle,
    NeedsNumericError,
    Oracle,
    Rule,
    decimal_places,
    rounding_slack,
    same_number,
)
from rl_verifiers.relations import assignments, names_something, relations, sets_of_reals
from rl_verifiers.sequences import SEQUENCES, sequences

__all__ = [
    "EXACT_DIGITS", "ROUNDED_DIGITS", "ExactOracle", "NeedsNumericError", "Oracle",
    "decimal_places", "is_over_limit", "rounding_slack", "same_answer", "same_number",
]  # fmt: skip

_HOLDERS = ("union", "intersection", "difference", "tuple", "rel", "set", "list",
            "ratio", "matrix", "row", "unit", "option")  # fmt: skip
_PIECEWISE = ("abs", "floor", "ceil", "root", "max", "min")
_FAR = 1_000


def same_answer(gold: Node, found: Node, oracle: Oracle) -> bool:
    """Whether ``found`` answers as ``gold`` does. Not symmetric: the reference sets the form.

    Raises:
        NeedsNumericError: From the oracle.
        OverLimitError: It would cost too much to tell.
    """
    if found.op == "rel" and "≈" in found.value and not approximations_hold(found, oracle):
        return False
    gold, found = _reconciled(_prepared(gold), _prepared(found))
    if gold == found:
        return True
    comparison = Comparison(oracle, lambda one, other: same_answer(one, other, oracle))
    for rule in _RULES:
        verdict = rule(gold, found, comparison)
        if verdict is not None:
            return verdict
    return oracle.equal(gold, found) and _is_equal_far_away(gold, found, oracle)


def _is_equal_far_away(gold: Node, found: Node, oracle: Oracle) -> bool:
    """A function in pieces may equal another on one of them only: ``|x-2|`` is ``2-x`` near 0."""
    names = symbols(gold) | symbols(found)
    nodes = [*parts(gold), *parts(found)]
    if not names or not any(node.op == "func" and node.value in _PIECEWISE for node in nodes):
        return True
    for shift in (_FAR, -_FAR):
        try:
            if not oracle.equal(_shifted(gold, shift), _shifted(found, shift)):
                return False
        except NeedsNumericError:
            raise
        except ValueError:  # not defined there
            continue
    return True


def _shifted(node: Node, shift: int) -> Node:
    if node.op == "sym":
        return Node("add", (node, num(shift)))
    return node._replace(args=tuple(_shifted(part, shift) for part in node.args))


def is_over_limit(node: Node, oracle: Oracle) -> bool:
    """Whether a value in ``node`` costs too much by itself."""
    if node.op in _HOLDERS:
        return any(is_over_limit(part, oracle) for part in node.args)
    try:
        oracle.equal(node, num(0))
    except OverLimitError:
        return True
    except ValueError:
        pass
    return False


def _prepared(node: Node) -> Node:
    """Cut what follows "approximately", unfold plus-minus, read ``x in A`` as ``A``."""
    if node.op == "rel" and node.value == ("≈",) and names_something(node.args[0]):
        return node.args[1]
    if node.op == "rel" and "≈" in node.value:
        count = node.value.index("≈")
        node = Node("rel", node.args[: count + 1], node.value[:count]) if count else node.args[0]
    node = _member(node)
    if node.op == "list" and all(item.op == "rel" and item.value == ("∈",) for item in node.args):
        node = Node("union", tuple(map(_member, node.args)))
    if node.op in ("list", "set") and any(contains(item, "pm") for item in node.args):
        node = node._replace(args=tuple(part for item in node.args for part in _unfolded(item)))
    elif node.op not in SEQUENCES and contains(node, "pm"):
        node = Node("list", tuple(_unfolded(node)))
    if node.op == "set" and len(node.args) == 1 and node.args[0].op != "const":
        return node.args[0]
    return node


def _member(node: Node) -> Node:
    """``A`` where ``node`` is ``x in A``, and the rest of the numbers where it is not in ``A``."""
    if node.op != "rel" or len(node.args) != 2 or not names_something(node.args[0]):
        return node
    if node.value == ("∉",):
        return Node("difference", (Node("const", value="reals"), node.args[1]))
    return node.args[1] if node.value == ("∈",) else node


def _unfolded(node: Node) -> list[Node]:
    if not contains(node, "pm"):
        return [node]
    return [_with_sign(node, 1), _with_sign(node, -1)]


def _with_sign(node: Node, sign: int) -> Node:
    args = tuple(_with_sign(part, sign) for part in node.args)
    if node.op != "pm":
        return node._replace(args=args)
    positive = (node.value == "±") == (sign > 0)
    return Node("add", (args[0], args[1] if positive else Node("neg", (args[1],))))


def _reconciled(gold: Node, found: Node) -> tuple[Node, Node]:
    """Readings of ``found`` that only the reference tells.

    ``1,234`` as a list, ``3 and 1/4`` as a mixed number, ``[[1,2],[3,4]]`` as a matrix, j as i.
    """
    if found.op == "num" and found.args:
        is_list = gold.op in SEQUENCES and len(gold.args) == len(found.args)
        found = Node("list", found.args) if is_list else num(found.value)
    if found.op == "list" and found.value == "and" and gold.op not in SEQUENCES:
        found = Node("add", found.args)
    if gold.op == "matrix" and found.op == "tuple":
        found = from_brackets(found)
    if gold.op == "num" and gold.args:
        gold = num(gold.value)
    if "j" in symbols(found) - symbols(gold) and Node("const", value="i") in parts(gold):
        found = _with_i(found)
    return gold, found


def _with_i(node: Node) -> Node:
    if node == Node("sym", value="j"):
        return Node("const", value="i")
    return node._replace(args=tuple(map(_with_i, node.args)))


# The rules for answers of one kind, in the order in which they are asked.


def _options(gold: Node, found: Node, comparison: Comparison) -> bool | None:
    """``(D) 12`` is both D and 12."""
    if gold.op == found.op == "option":
        return gold.value == found.value and comparison.same(gold.args[0], found.args[0])
    if gold.op == "option":
        if found.op == "sym" and len(found.value) == 1 and found.value.isupper():
            return bool(found.value == gold.value)
        return comparison.same(gold.args[0], found)
    if found.op == "option":
        return gold == Node("sym", value=found.value) or comparison.same(gold, found.args[0])
    return None


def _texts(gold: Node, found: Node, _: Comparison) -> bool | None:
    return False if "text" in (gold.op, found.op) and gold.op != "rel" != found.op else None


def _times(gold: Node, found: Node, comparison: Comparison) -> bool | None:
    if gold.op == found.op == "time":
        return same_time(gold, found)
    if {gold.op, found.op} == {"time", "ratio"}:
        time = gold if gold.op == "time" else found
        _, minute, _, half = time.value
        return not half and minute > 9 and gold.args == found.args
    return False if "time" in (gold.op, found.op) else None


def _units(gold: Node, found: Node, comparison: Comparison) -> bool | None:
    if "unit" not in (gold.op, found.op):
        return None
    (value, unit), (other, stated) = _quantity(gold, found), _quantity(found, gold)
    if (unit == "%") != (stated == "%"):
        return _percent(value, other, (unit, stated), comparison.oracle)
    if stated and units.is_fraction_or_power(stated) and unit != stated:
        return False
    if stated == "°" and unit is None and not (symbols(other) or _is_rational(other)):
        return False
    return not units.differ(unit, stated) and comparison.same(value, other)


def _percent(
    value: Node, other: Node, stated: tuple[str | None, str | None], oracle: Oracle
) -> bool:
    """Half and 50 % are the same; 5 and 5 % are, too, unless one is a fraction of one."""
    if set(stated) != {"%", None}:
        return False
    percent, plain = (value, other) if stated[0] == "%" else (other, value)
    if oracle.equal(Node("div", (percent, num(100))), plain):
        return True
    return oracle.equal(value, other) and (stated[0] == "%" or not _is_small(plain))


def _is_rational(node: Node) -> bool:
    try:
        exact(node)
    except NotExactError:
        return False
    return True


def _is_small(node: Node) -> bool:
    try:
        return abs(exact(node)) < Fraction(1)
    except NotExactError:
        return False


def _quantity(node: Node, beside: Node) -> tuple[Node, str | None]:
    """Value and unit; in bare letters, ``10 m``, only beside a unit that is spelt out."""
    if node.op == "unit":
        return node.args[0], node.value
    is_spelt = beside.op == "unit" and units.factors_of(beside.value) is not None
    split = units.split_letters(node) if is_spelt and not symbols(beside) else None
    return split or (node, None)


def _ratios(gold: Node, found: Node, comparison: Comparison) -> bool | None:
    if "ratio" not in (gold.op, found.op):
        return None
    if gold.op != found.op or len(gold.args) != len(found.args):
        return False
    return all(comparison.same(a, b) for a, b in zip(gold.args, found.args, strict=True))


def _bases(gold: Node, found: Node, _: Comparison) -> bool | None:
    """Digits without the base of the reference count too: the question has named it."""
    if "based" not in (gold.op, found.op):
        return None
    if gold.op == found.op == "based":
        return gold.value[1] == found.value[1] and exact(gold) == exact(found)
    if not {gold.op, found.op} <= {"based", "num"}:
        return False
    is_same_text = gold.op == "based" and str(found.value) == gold.value[0]
    return is_same_text or exact(gold) == exact(found)


def _matrices(gold: Node, found: Node, comparison: Comparison) -> bool | None:
    gold, found = evaluated(gold), evaluated(found)
    if "matrix" not in (gold.op, found.op):
        return None
    shapes = [[len(row.args) for row in node.args] for node in (gold, found)]
    if gold.op != found.op or shapes[0] != shapes[1]:
        return False
    cells = [[cell for row in node.args for cell in row.args] for node in (gold, found)]
    return all(comparison.oracle.equal(a, b) for a, b in zip(*cells, strict=True))


def _infinities(gold: Node, found: Node, _: Comparison) -> bool | None:
    signs = [_infinity_sign(node) for node in (gold, found)]
    if any(signs):
        return signs[0] == signs[1]
    constants = [node.value for node in (gold, found) if node.op == "const"]
    return False if {"empty", "reals"} & set(constants) else None


def _infinity_sign(node: Node) -> int:
    if node == Node("const", value="inf"):
        return 1
    return -1 if node == Node("neg", (Node("const", value="inf"),)) else 0


_RULES: tuple[Rule, ...] = (
    _options, _texts, assignments, _times, sets_of_reals, relations, _units, _bases, _ratios,
    sequences, _matrices, _infinities,
)  # fmt: skip
