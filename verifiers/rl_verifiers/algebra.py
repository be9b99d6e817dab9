"""Exact algebra without a library: sums of products of symbols, roots of rationals, pi, e and i.

An expression becomes a quotient of two sums. A sum maps each monomial to its rational coefficient,
and monomials are independent: symbols are, real radicals of primes with exponents from 0 to 1 are
(A. S. Besicovitch, J. London Math. Soc. 15, 1940), i doubles them, and that pi and e might not be
is nobody's worry here (nor that logarithms of primes might not be). So two expressions are equal
if and only if their sums are, once multiplied crosswise. Any other function is taken for a symbol
of its own: what is equal then is equal, but what is not may still be. That, and what would take too
many steps, is left to others.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import factorial
from typing import Any, NamedTuple

from rl_verifiers.expressions import Node, NotExactError, OverLimitError, exact
from rl_verifiers.monomials import (
    CONSTANT,
    EULER,
    FUNCTION,
    ONE,
    PRIME,
    SYMBOL,
    BeyondError,
    Budget,
    Monomial,
    Number,
    OtherError,
    Sum,
    one_term_raised,
    positive_exponents,
    small,
    times,
    whole,
    without_zeros,
)

MAX_STEPS = 3_000
"""Products of two terms, and the like, in one comparison: some milliseconds."""
_MAX_BINOMIAL = 20
_ENTIRE = ("sin", "cos", "arcsin", "arccos", "arctan", "abs", "floor", "ceil")
"""Functions that have a value everywhere."""


class UndefinedError(ValueError):
    """The expression divides by zero, whatever the values of its symbols."""


class Quotient(NamedTuple):
    """``top / bottom``; a bottom of one term is always 1."""

    top: Sum
    bottom: Sum


def quotient(node: Node, budget: Budget) -> Quotient:
    """An expression as a quotient of two sums.

    Raises:
        BeyondError: It is of another kind, or the budget does not suffice.
    """
    return _Algebra(budget).read(node)


def equal(left: Quotient, right: Quotient, budget: Budget) -> bool:
    """Whether two expressions are the same for all values of their symbols.

    Raises:
        BeyondError: It is not decided here, or the budget does not suffice.
    """
    one, other = _crossed(left, right, budget)
    if one != other and FUNCTION in _kinds(one, other):
        raise BeyondError("other functions")
    return one == other


def ratio_sign(left: Quotient, right: Quotient, budget: Budget) -> int:
    """The sign of the rational c where ``left = c right`` everywhere; 0 where no constant is one.

    Raises:
        BeyondError: An irrational c may be one, there are functions that might be zero, or the
            budget does not suffice.
    """
    one, other = _crossed(left, right, budget)
    kinds = _kinds(one, other)
    if FUNCTION in kinds:
        raise BeyondError("other functions")
    if not one or not other:
        return 0
    monomial = next(iter(other))
    factor = Fraction(one.get(monomial, 0)) / other[monomial]
    if factor and one == {key: value * factor for key, value in other.items()}:
        return 1 if factor > 0 else -1
    if kinds <= {SYMBOL}:
        return 0
    if {_symbols(key) for key in one} != {_symbols(key) for key in other}:
        return 0
    raise BeyondError("an irrational factor")


def _crossed(left: Quotient, right: Quotient, budget: Budget) -> tuple[Sum, Sum]:
    """Two sums that are equal, or in proportion, just where the quotients are."""
    if left.bottom == right.bottom:
        return left.top, right.top
    algebra = _Algebra(budget)
    return algebra.product(left.top, right.bottom), algebra.product(right.top, left.bottom)


def _kinds(*sums: Sum) -> set[int]:
    return {atom[0] for terms in sums for monomial in terms for atom, _ in monomial}


def _symbols(monomial: Monomial) -> Monomial:
    return tuple(item for item in monomial if item[0][0] == SYMBOL)


class _Algebra:
    """Reads expressions, and counts the steps."""

    def __init__(self, budget: Budget) -> None:
        self._count = budget.spend

    def read(self, node: Node) -> Quotient:
        rule = _RULES.get(node.op)
        if rule is None:
            raise BeyondError(node.op)
        self._count(1)
        return rule(self, node)

    def product(self, left: Sum, right: Sum) -> Sum:
        if left is ONE or right is ONE:
            return right if left is ONE else left
        self._count(len(left) * len(right))
        found: Sum = {}
        for monomial, factor in left.items():
            for other, other_factor in right.items():
                key, value = times(monomial, other)
                value *= factor * other_factor
                found[key] = small(found.get(key, 0) + value)
        return without_zeros(found)

    def _add(self, node: Node) -> Quotient:
        total, rest = Sum(), []
        for part in node.args:
            term = self.read(part)
            if term.bottom == ONE:
                self._collect(total, term.top)
            else:
                rest.append(term)
        found = Quotient(without_zeros(total), ONE)
        for term in rest:
            top = dict(self.product(found.top, term.bottom))
            self._collect(top, self.product(term.top, found.bottom))
            found = _quotient(without_zeros(top), self.product(found.bottom, term.bottom))
        return found

    def _collect(self, total: Sum, term: Sum) -> None:
        self._count(len(term))
        for monomial, factor in term.items():
            total[monomial] = small(total.get(monomial, 0) + factor)

    def _negative(self, node: Node) -> Quotient:
        value = self.read(node.args[0])
        return Quotient({key: -factor for key, factor in value.top.items()}, value.bottom)

    def _multiply(self, node: Node) -> Quotient:
        found = Quotient(ONE, ONE)
        for part in node.args:
            found = self.multiplied(found, self.read(part))
        return found

    def multiplied(self, left: Quotient, right: Quotient) -> Quotient:
        top = self.product(left.top, right.top)
        return _quotient(top, self.product(left.bottom, right.bottom))

    def _divide(self, node: Node) -> Quotient:
        top, bottom = map(self.read, node.args)
        return self.multiplied(top, _inverse(bottom))

    def _power(self, node: Node) -> Quotient:
        base, exponent = map(self.read, node.args)
        try:
            return self._raised(base, _rational(exponent))
        except OtherError:
            return _function("pow", base, exponent)

    def _raised(self, base: Quotient, exponent: Number) -> Quotient:
        if exponent <= 0:
            _check_not_zero(base.top)
        if len(base.top) == 1 and base.bottom == ONE:
            return Quotient(one_term_raised(base.top, exponent), ONE)
        if exponent.denominator != 1:
            raise OtherError
        if not base.top or exponent == 0 or abs(exponent.numerator) > 64:
            raise BeyondError("a power")
        found = Quotient(ONE, ONE)
        for _ in range(abs(int(exponent))):
            found = self.multiplied(found, base)
        return found if exponent > 0 else _inverse(found)

    def _func(self, node: Node) -> Quotient:
        if node.value in ("root", "cbrt"):
            return self._root(node.args[0], _THREE if node.value == "cbrt" else node.args[1])
        if node.value == "exp":
            return self._power(Node("pow", (Node("const", value="e"), *node.args)))
        if node.value == "ln":
            return self._logarithm(self.read(node.args[0]))
        if node.value == "binom" and node.args[0].op != "num" and node.args[1].op == "num":
            return self._binomial(self.read(node.args[0]), node.args[1].value)
        try:
            return _constant(exact(node))
        except OverLimitError:
            raise BeyondError(node.value) from None
        except NotExactError:
            return _function(str(node.value), *map(self.read, node.args))

    def _root(self, argument: Node, order: Node) -> Quotient:
        """Of a rational number; the real root where there is one."""
        value, degree = self.read(argument), _rational(self.read(order))
        if degree.denominator != 1 or degree < 2:
            raise BeyondError("a root of this degree")
        try:
            if degree % 2 == 1 and set(value.top) == {()} and value.top[()] < 0:
                positive = Quotient({(): -value.top[()]}, value.bottom)
                return self.multiplied(_constant(-1), self._raised(positive, Fraction(1, degree)))
            return self._raised(value, Fraction(1, degree))
        except OtherError:
            return _function(f"root {degree}", value)

    def _logarithm(self, value: Quotient) -> Quotient:
        """Of a product of powers of primes and e: a sum of logarithms of primes."""
        try:
            if len(value.top) != 1 or value.bottom != ONE:
                raise OtherError
            exponents = positive_exponents(value.top)
            if any(atom[0] != PRIME and atom != EULER for atom in exponents):
                raise OtherError
        except OtherError:
            return _function("ln", value)
        logarithms: Sum = {
            () if atom == EULER else (((CONSTANT, f"ln {atom[1]}"), 1),): whole(exponent)
            for atom, exponent in exponents.items()
        }
        return Quotient(without_zeros(logarithms), ONE)

    def _binomial(self, top: Quotient, bottom: Fraction) -> Quotient:
        if bottom.denominator != 1 or not 0 <= bottom <= _MAX_BINOMIAL:
            return _function("binom", top, _constant(bottom))
        found = _constant(Fraction(1, factorial(int(bottom))))
        for i in range(int(bottom)):
            if top.bottom != ONE:
                raise BeyondError("a quotient in a binomial")
            factor = dict(top.top)
            self._collect(factor, {(): -i})
            found = self.multiplied(found, Quotient(without_zeros(factor), ONE))
        return found

    def _applied(self, node: Node) -> Quotient:
        """An unknown function of sums: another symbol for each of them."""
        arguments = [self.read(part) for part in node.args]
        if any(x.bottom != ONE or FUNCTION in _kinds(x.top) for x in arguments):
            return _function(str(node.value), *arguments)
        return _atom((SYMBOL, f"{node.value}{[sorted(x.top.items()) for x in arguments]}"))

    def _unit(self, node: Node) -> Quotient:
        if node.value not in _UNITS:
            raise BeyondError("a unit")
        return self.multiplied(self.read(node.args[0]), _UNITS[node.value])

    def _number(self, node: Node) -> Quotient:
        return _constant(exact(node))

    def _constant(self, node: Node) -> Quotient:
        if node.value not in ("pi", "e", "i"):
            raise BeyondError(node.value)
        return _atom((CONSTANT, node.value))

    def _symbol(self, node: Node) -> Quotient:
        return _atom((SYMBOL, node.value))


_RULES: dict[str, Callable[[_Algebra, Node], Quotient]] = {
    "num": _Algebra._number, "based": _Algebra._number, "const": _Algebra._constant,
    "sym": _Algebra._symbol, "add": _Algebra._add, "neg": _Algebra._negative,
    "mul": _Algebra._multiply, "div": _Algebra._divide, "pow": _Algebra._power,
    "func": _Algebra._func, "unit": _Algebra._unit, "apply": _Algebra._applied,
}  # fmt: skip


def _constant(value: Number) -> Quotient:
    return Quotient({(): small(whole(value))} if value else {}, ONE)


def _atom(atom: tuple[int, Any]) -> Quotient:
    return Quotient({((atom, 1),): 1}, ONE)


def _quotient(top: Sum, bottom: Sum) -> Quotient:
    if bottom == ONE:
        return Quotient(top, ONE)
    if len(bottom) != 1:
        return Quotient(top, bottom)
    ((monomial, factor),) = one_term_raised(bottom, -1).items()
    found: Sum = {}
    for key, value in top.items():
        product, carried = times(key, monomial)
        found[product] = small(value * factor * carried)
    return Quotient(found, ONE)


def _inverse(value: Quotient) -> Quotient:
    if not value.top:
        raise UndefinedError
    _check_not_zero(value.top)
    return _quotient(value.bottom, value.top)


def _function(name: str, *arguments: Quotient) -> Quotient:
    """A symbol of its own for each function of each arguments."""
    is_defined = name.startswith("root") or name in _ENTIRE
    if not is_defined and SYMBOL not in _kinds(*(x.top for x in arguments)):
        raise BeyondError("a function that may have no value there")
    key = tuple((tuple(sorted(x.top.items())), tuple(sorted(x.bottom.items()))) for x in arguments)
    return _atom((FUNCTION, (name, key)))


def _check_not_zero(terms: Sum) -> None:
    """Other functions may vanish where their sums do not; but no root of what is not zero."""
    for monomial in terms:
        for (kind, name), _ in monomial:
            if kind == FUNCTION and (
                len(terms) > 1
                or not name[0].startswith("root")
                or not name[1][0][0]
                or FUNCTION in _kinds(dict(name[1][0][0]))
            ):
                raise BeyondError("a divisor that may be zero")


def _rational(value: Quotient) -> Number:
    if value.bottom != ONE or set(value.top) - {()}:
        raise OtherError
    return value.top.get((), 0)


_THREE = Node("num", value=Fraction(3))
_UNITS = {
    "%": _constant(Fraction(1, 100)),
    "°": Quotient({(((CONSTANT, "pi"), 1),): Fraction(1, 180)}, ONE),
}
