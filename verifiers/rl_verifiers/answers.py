"""Whether two answers say the same: lists, tuples, sets, intervals, equations, units, values.

This module knows the conventions; whether two values are equal it asks an :class:`Oracle`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from rl_verifiers.expressions import (
    Node,
    NotExactError,
    OverLimitError,
    contains,
    exact,
    num,
    symbols,
)
from rl_verifiers.intervals import NotASetError, same_reals
from rl_verifiers.tokens import UNITS

MAX_PLACES = 1_000
"""Most places of a decimal that stands for the irrational number it rounds."""
MAX_UNORDERED = 64
"""Longest list that is matched item by item where the items are not plain numbers."""
EXACT_DIGITS = 10
"""A decimal with so many significant digits stands for the irrational number it rounds."""
ROUNDED_DIGITS = 3
"""The same when ``strict`` is off."""

_KNOWN_UNITS = frozenset(UNITS.values()) - {"square", "cubic", "unit"}
_SEQUENCES = ("list", "set", "tuple")
_REALS = ("union", "intersection", "difference", "tuple", "rel", "set", "list", "const")
_HOLDERS = (*_REALS[:-1], "ratio", "matrix", "row", "unit")


class NeedsNumericError(ValueError):
    """Exact arithmetic cannot decide: numeric evaluation must."""


class Oracle(Protocol):
    """Decides about values."""

    def equal(self, left: Node, right: Node) -> bool:
        """Whether two expressions have the same value, for all values of their symbols."""
        ...

    def order(self, left: Node, right: Node) -> int:
        """-1, 0 or 1 as ``left`` is less than, equal to or greater than ``right``."""
        ...

    def ratio_sign(self, left: Node, right: Node) -> int:
        """The sign of the constant c where ``left = c right`` everywhere; 0 without such a c."""
        ...


@dataclass(frozen=True)
class ExactOracle:
    """Decides by rational arithmetic, or raises :class:`NeedsNumericError`."""

    digits: int = EXACT_DIGITS

    def equal(self, left: Node, right: Node) -> bool:
        """See :class:`Oracle`."""
        if left == right:
            return True
        return same_number(*self._values(left, right), self.digits)

    def order(self, left: Node, right: Node) -> int:
        """See :class:`Oracle`."""
        one, other = self._values(left, right)
        return (one > other) - (one < other)

    def ratio_sign(self, left: Node, right: Node) -> int:
        """See :class:`Oracle`."""
        if left == right:
            return 1
        raise NeedsNumericError

    def _values(self, left: Node, right: Node) -> tuple[Fraction, Fraction]:
        try:
            return exact(left), exact(right)
        except NotExactError:
            raise NeedsNumericError from None


def same_number(left: Fraction, right: Fraction, digits: int) -> bool:
    """Whether two numbers are equal, or one rounds the other to ``digits`` digits or more.

    The other is then no finite decimal itself: 0.50000000001 is not one half.
    """
    if left == right:
        return True
    for decimal, value in ((left, right), (right, left)):
        slack = rounding_slack(decimal, digits)
        if slack is not None and decimal_places(value) is None:
            return abs(decimal - value) <= slack
    return False


def rounding_slack(value: Fraction, digits: int) -> Fraction | None:
    """How far a decimal fraction may be from the number it rounds; None where it rounds none.

    Half a unit of its last place; from ten digits on a whole one, for those come from floating
    point arithmetic.
    """
    places = decimal_places(value, MAX_PLACES)
    if not places:
        return None
    count = len(str(abs(value.numerator * 10**places // value.denominator)))
    unit = Fraction(1, 10**places)
    return None if count < digits else unit if count >= EXACT_DIGITS else unit / 2


def decimal_places(value: Fraction, most: int = 60) -> int | None:
    """How many digits ``value`` has after the point; None where they do not end within ``most``."""
    rest, fives = value.denominator, 0
    while rest % 5 == 0 and fives <= most:
        rest, fives = rest // 5, fives + 1
    twos = rest.bit_length() - 1
    places = max(twos, fives)
    is_short = value.numerator.bit_length() <= max(400, 4 * most)
    return places if rest == 1 << twos and places <= most and is_short else None


def same_answer(gold: Node, found: Node, oracle: Oracle) -> bool:
    """Whether ``found`` answers as ``gold`` does. Not symmetric: the reference sets the form.

    Raises:
        NeedsNumericError: From the oracle.
        OverLimitError: It would cost too much to tell.
    """
    gold, found = _prepared(gold), _prepared(found)
    if gold == found:
        return True
    for rule in _RULES:
        verdict = rule(gold, found, oracle)
        if verdict is not None:
            return verdict
    return oracle.equal(gold, found)


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


Rule = Callable[[Node, Node, Oracle], "bool | None"]
"""Decides, or gives None where it does not apply."""


def _prepared(node: Node) -> Node:
    """Cut what follows "approximately", unfold plus-minus, read ``x in A`` as ``A``."""
    if node.op == "rel" and node.value == ("≈",) and names_something(node.args[0]):
        return node.args[1]
    if node.op == "rel" and "≈" in node.value:
        count = node.value.index("≈")
        node = Node("rel", node.args[: count + 1], node.value[:count]) if count else node.args[0]
    if node.op == "rel" and node.value == ("∈",) and names_something(node.args[0]):
        node = node.args[1]
    if node.op in ("list", "set") and any(contains(item, "pm") for item in node.args):
        node = node._replace(args=tuple(part for item in node.args for part in _unfolded(item)))
    elif node.op not in _SEQUENCES and contains(node, "pm"):
        node = Node("list", tuple(_unfolded(node)))
    return node.args[0] if node.op == "set" and len(node.args) == 1 else node


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


def names_something(node: Node) -> bool:
    """Whether ``node`` can stand left of an equals sign as the name of what is asked for."""
    if node.op in ("sym", "text", "apply"):
        return True
    return node.op in ("tuple", "mul", "div") and all(map(names_something, node.args))


def assigned(node: Node) -> Node | None:
    """The value in ``name = value`` or ``value = name``; None where ``node`` is neither."""
    if node.op != "rel" or set(node.value) != {"="}:
        return None
    if names_something(node.args[0]):
        return node.args[-1]
    if names_something(node.args[-1]) and not symbols(node.args[0]) and len(node.args) == 2:
        return node.args[0]
    return None


# The rules, in the order in which they are asked.


def _texts(gold: Node, found: Node, oracle: Oracle) -> bool | None:
    return False if "text" in (gold.op, found.op) and gold.op != "rel" != found.op else None


def _assignments(gold: Node, found: Node, oracle: Oracle) -> bool | None:
    wanted, given = assigned(gold), assigned(found)
    if wanted is not None and given is not None:
        if gold.args[0] == found.args[0]:
            return same_answer(wanted, given, oracle)
        return None
    if wanted is not None and found.op != "rel" and gold.op == "rel":
        return same_answer(wanted, found, oracle)
    if given is not None and gold.op != "rel":
        return same_answer(gold, given, oracle)
    if found.op == "rel" and gold.op != "rel" and set(found.value) == {"="}:
        return not symbols(found) and all(same_answer(gold, part, oracle) for part in found.args)
    return None


def _reals(gold: Node, found: Node, oracle: Oracle) -> bool | None:
    described = [node.op in ("union", "intersection", "difference") for node in (gold, found)]
    described += [_is_inequality(node) for node in (gold, found)]
    described += [node.op == "const" and node.value == "reals" for node in (gold, found)]
    if not any(described) or gold.op not in _REALS or found.op not in _REALS:
        return None
    if len(symbols(gold)) > 1 or len(symbols(found)) > 1:
        return None
    if _is_inequality(gold) and _is_inequality(found) and symbols(gold) != symbols(found):
        return False
    try:
        return same_reals(gold, found, oracle.order)
    except NotASetError:
        return None


def _is_inequality(node: Node) -> bool:
    if node.op in ("list", "intersection"):
        return all(map(_is_inequality, node.args))
    return node.op == "rel" and bool(set(node.value) & set("<>≤≥≠"))


def _relations(gold: Node, found: Node, oracle: Oracle) -> bool | None:
    if gold.op != "rel" or found.op != "rel":
        return False if "rel" in (gold.op, found.op) and not _both_sequences(gold, found) else None
    if len(gold.args) == 2 and len(found.args) == 2:
        return _same_relation(gold, found, oracle)
    if len(gold.args) != len(found.args):
        return False
    return any(
        gold.value == chain.value
        and all(oracle.equal(a, b) for a, b in zip(gold.args, chain.args, strict=True))
        for chain in (found, _reversed(found))
    )


def _same_relation(gold: Node, found: Node, oracle: Oracle) -> bool:
    if "<" not in gold.value[0] + found.value[0] and gold.value != found.value:
        found = _reversed(found)
    gold, found = (_reversed(x) if x.value[0] in ">≥" else x for x in (gold, found))
    if gold.value != found.value:
        return False
    sign = oracle.ratio_sign(_difference(gold), _difference(found))
    return sign > 0 or (sign < 0 and gold.value[0] in "=≠")


def _difference(node: Node) -> Node:
    return Node("add", (node.args[0], Node("neg", (node.args[1],))))


def _reversed(node: Node) -> Node:
    flipped = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}
    return Node("rel", node.args[::-1], tuple(flipped.get(op, op) for op in node.value[::-1]))


def _units(gold: Node, found: Node, oracle: Oracle) -> bool | None:
    if "unit" not in (gold.op, found.op):
        return None
    (value, unit), (other, stated) = _quantity(gold), _quantity(found)
    if (unit == "%") != (stated == "%"):
        if {unit, stated} != {"%", None}:
            return False
        hundredth = Node("div", (value if unit == "%" else other, num(100)))
        plain = other if unit == "%" else value
        return oracle.equal(hundredth, plain) or oracle.equal(value, other)
    if unit != stated and _is_known(unit) and _is_known(stated):
        return False
    return same_answer(value, other, oracle)


def _quantity(node: Node) -> tuple[Node, str | None]:
    return (node.args[0], node.value) if node.op == "unit" else (node, None)


def _is_known(unit: str | None) -> bool:
    return unit is not None and unit.partition("^")[0] in _KNOWN_UNITS


def _both_sequences(gold: Node, found: Node) -> bool:
    return gold.op in _SEQUENCES and found.op in _SEQUENCES


def _sequences(gold: Node, found: Node, oracle: Oracle) -> bool | None:
    if found.op == "list" and gold.op not in _SEQUENCES:  # the same value said more than once
        return all(same_answer(gold, part, oracle) for part in found.args)
    if not _both_sequences(gold, found):
        return False if gold.op in _SEQUENCES or found.op in _SEQUENCES else None
    brackets = [node.value for node in (gold, found) if node.op == "tuple"]
    if brackets and (
        "set" in (gold.op, found.op)
        or len(set(brackets)) > 1
        or (len(brackets) == 1 and brackets != ["()"])
    ):
        return False
    if brackets:
        return len(gold.args) == len(found.args) and all(
            same_answer(a, b, oracle) for a, b in zip(gold.args, found.args, strict=True)
        )
    return same_collection(gold.args, found.args, oracle)


def same_collection(gold: Sequence[Node], found: Sequence[Node], oracle: Oracle) -> bool:
    """Whether two collections match one to one, in any order."""
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
        match = next((i for i, x in enumerate(left) if same_answer(item, x, oracle)), None)
        if match is None:
            return False
        del left[match]
    return True


def _matrices(gold: Node, found: Node, oracle: Oracle) -> bool | None:
    if "matrix" not in (gold.op, found.op):
        return None
    shapes = [[len(row.args) for row in node.args] for node in (gold, found)]
    if gold.op != found.op or shapes[0] != shapes[1]:
        return False
    cells = [[cell for row in node.args for cell in row.args] for node in (gold, found)]
    return all(oracle.equal(a, b) for a, b in zip(*cells, strict=True))


def _ratios(gold: Node, found: Node, oracle: Oracle) -> bool | None:
    if "ratio" not in (gold.op, found.op):
        return None
    if gold.op != found.op or len(gold.args) != len(found.args):
        return False
    return all(same_answer(a, b, oracle) for a, b in zip(gold.args, found.args, strict=True))


def _bases(gold: Node, found: Node, oracle: Oracle) -> bool | None:
    """Digits without the base count too: the question has named it."""
    if "based" not in (gold.op, found.op):
        return None
    if gold.op == found.op:
        return exact(gold) == exact(found)
    based, plain = (gold, found) if gold.op == "based" else (found, gold)
    if plain.op != "num":
        return False
    return plain.value == exact(based) or str(plain.value) == based.value[0]


def _infinities(gold: Node, found: Node, oracle: Oracle) -> bool | None:
    signs = [_infinity_sign(node) for node in (gold, found)]
    if any(signs):
        return signs[0] == signs[1]
    return (
        False
        if any(n.op == "const" and n.value in ("empty", "reals") for n in (gold, found))
        else None
    )


def _infinity_sign(node: Node) -> int:
    if node == Node("const", value="inf"):
        return 1
    return -1 if node == Node("neg", (Node("const", value="inf"),)) else 0


_RULES: tuple[Rule, ...] = (
    _texts, _assignments, _reals, _relations, _units, _bases, _ratios, _sequences, _matrices,
    _infinities,
)  # fmt: skip
