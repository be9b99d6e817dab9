"""Expressions as plain trees, and the limits on the work that one of them may cost.

The limits count characters, nodes and digits, never seconds, so that the same answer gets the same
verdict on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

MAX_CHARACTERS = 20_000
MAX_NESTING = 50
MAX_NODES = 5_000
MAX_DEPTH = 100
MAX_BITS = 100_000
"""Size of an exact number, numerator and denominator together."""
MAX_FACTORIAL = 5_000


class UnparsableError(ValueError):
    """The text is not mathematics that we read."""


class OverLimitError(ValueError):
    """The text asks for more work than an answer is worth."""


class NotExactError(ValueError):
    """The value is not a rational number that exact arithmetic finds."""


class Node(NamedTuple):
    """A node of a tree.

    ``op`` is one of: ``num`` (value: Fraction), ``sym`` (value: name), ``const`` (``pi``, ``e``,
    ``i``, ``inf``, ``reals``, ``empty``), ``text`` (value: folded words), ``add``, ``neg``,
    ``mul``, ``div``, ``pow``, ``pm`` (value: ``±`` or ``∓``), ``func`` (value: name), ``apply``
    (value: name of an unknown function), ``based`` (value: digits and base), ``unit`` (value:
    unit), ``tuple`` (value: its two brackets), ``set``, ``list``, ``ratio``, ``matrix`` of ``row``,
    ``union``, ``intersection``, ``difference``, ``rel`` (value: the tuple of operators between the
    arguments).
    """

    op: str
    args: tuple[Node, ...] = ()
    value: Any = None


def num(value: int | Fraction) -> Node:
    """A number."""
    return Node("num", value=Fraction(value))


def exact(node: Node) -> Fraction:
    """The rational value of ``node``.

    Raises:
        NotExactError: It has a symbol, an irrational or undefined part.
        OverLimitError: It, or a number on the way to it, is too large.
    """
    if node.op == "num":
        return _checked(node.value)
    rule = _RULES.get(node.op)
    if rule is None:
        raise NotExactError
    return _checked(rule(node))


def _checked(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise OverLimitError(f"a number of more than {MAX_BITS} bits")
    return value


def _add(node: Node) -> Fraction:
    total = Fraction(0)
    for part in node.args:
        total = _checked(total + exact(part))
    return total


def _mul(node: Node) -> Fraction:
    product = Fraction(1)
    for part in node.args:
        product = _checked(product * exact(part))
    return product


def _div(node: Node) -> Fraction:
    top, bottom = map(exact, node.args)
    if bottom == 0:
        raise NotExactError
    return top / bottom


def _pow(node: Node) -> Fraction:
    base, exponent = map(exact, node.args)
    if exponent.denominator != 1 or (base == 0 and exponent <= 0):
        raise NotExactError
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if base not in (0, 1, -1) and size * abs(exponent) > MAX_BITS:
        raise OverLimitError(f"a power of more than {MAX_BITS} bits")
    if base in (0, 1, -1):
        return base if exponent % 2 else abs(base)
    return base ** int(exponent)


def _func(node: Node) -> Fraction:
    values = [exact(argument) for argument in node.args]
    if any(value.denominator != 1 for value in values) and node.value not in _ANY_RATIONAL:
        raise NotExactError
    if node.value in _ANY_RATIONAL:
        return _ANY_RATIONAL[node.value](values)
    whole = [int(value) for value in values]
    if node.value == "factorial" and whole[0] >= 0:
        return Fraction(math.factorial(_small(whole[0])))
    if node.value == "binom" and min(whole) >= 0:
        return Fraction(math.comb(_small(whole[0]), _small(whole[1])))
    if node.value in ("gcd", "lcm"):
        return Fraction(math.gcd(*whole) if node.value == "gcd" else math.lcm(*whole))
    raise NotExactError


_ANY_RATIONAL: dict[str, Callable[[list[Fraction]], Fraction]] = {
    "abs": lambda values: abs(values[0]),
    "floor": lambda values: Fraction(math.floor(values[0])),
    "ceil": lambda values: Fraction(math.ceil(values[0])),
    "max": max,
    "min": min,
}


def _small(value: int) -> int:
    if value > MAX_FACTORIAL:
        raise OverLimitError(f"a factorial or binomial above {MAX_FACTORIAL}")
    return value


def _based(node: Node) -> Fraction:
    digits, base = node.value
    return Fraction(int(digits, base))


_RULES = {
    "add": _add,
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "neg": lambda node: -exact(node.args[0]),
    "func": _func,
    "based": _based,
}


def check_depth(node: Node) -> None:
    """Raise :class:`OverLimitError` where ``node`` is too deep to walk by recursion."""
    level = [node]
    for _ in range(MAX_DEPTH):
        level = [part for parent in level for part in parent.args]
        if not level:
            return
    raise OverLimitError(f"an expression deeper than {MAX_DEPTH}")


def parts(node: Node) -> Iterator[Node]:
    """``node`` and all that is below it, in no particular order."""
    waiting = [node]
    while waiting:
        part = waiting.pop()
        yield part
        waiting.extend(part.args)


def symbols(node: Node) -> frozenset[str]:
    """The names of the free symbols and unknown functions in ``node``."""
    return frozenset(part.value for part in parts(node) if part.op in ("sym", "apply"))


def contains(node: Node, op: str) -> bool:
    """Whether ``node`` has a part of kind ``op``."""
    return any(part.op == op for part in parts(node))
