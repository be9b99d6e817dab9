"""Equality by evaluation, confirmed by algebra.

Two expressions are evaluated at points taken without regard to them. Where they differ, they are
different: that is quick, and final. Where they agree to sixty digits (an identity of the functions
that the parser knows then holds everywhere; Schwartz, J. ACM 27(4), 1980, for polynomials),
:mod:`rl_verifiers.symbolic` has the last word, for sqrt(2) and sqrt(2) + 10^{-100} agree too. What
it cannot settle below its limits is evaluated again with digits by the size of the numbers in the
expressions, and that verdict stands: different values that agree in all those digits pass for
equal. Everything is bounded by a count of work, nothing by time. ``mpmath`` and ``sympy`` are
imported on first use.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from importlib import import_module
from typing import Any

from rl_verifiers.expressions import Node, NotExactError, OverLimitError, exact, parts, symbols
from rl_verifiers.oracles import EXACT_DIGITS, NeedsNumericError, rounding_slack
from rl_verifiers.points import NOWHERE, Point, UndecidedError, points
from rl_verifiers.quick import QuickOracle

COARSE = (30, 60)
"""The two working precisions that refute, in decimal digits."""
FINE = 600
"""Digits of the second look, beside twice those of the rational numbers in the expressions."""
MAX_DIGITS = 3_000
MAX_GAMMA_DIGITS = 300
"""The same with factorials and binomials, which cost far more."""
MAX_WORK = 50_000
"""Digits of the second look times the parts of the expressions."""
MAX_MAGNITUDE = 100_000
"""Largest power of two that a value on the way may reach."""
MAX_PARTS = 400
"""Parts of expressions to evaluate, after which a question asks for no more such comparisons."""
_AGREEING = 4
_EFFORT = 5
_COSTLY = 60
_ANGULAR = frozenset(["sin", "cos", "tan", "sec", "csc", "cot"])

Precision = tuple[int, int]


class UndefinedError(ValueError):
    """An expression has no value at a point."""


class NumericOracle:
    """Decides by evaluation; see :class:`rl_verifiers.oracles.Oracle`.

    One is made for each question: it counts the work of all that it is asked.
    """

    def __init__(self, digits: int = EXACT_DIGITS) -> None:
        self._digits, self._quick = digits, QuickOracle(digits, _EFFORT)
        self._parts = 0

    def equal(self, left: Node, right: Node) -> bool:
        """See :class:`~rl_verifiers.oracles.Oracle`."""
        with suppress(NeedsNumericError):
            return self._quick.equal(left, right)
        self._count(left, right)
        if _same(left, right):
            return True
        return not symbols(left) | symbols(right) and self._is_rounding(left, right)

    def order(self, left: Node, right: Node) -> int:
        """See :class:`~rl_verifiers.oracles.Oracle`."""
        with suppress(NeedsNumericError):
            return self._quick.order(left, right)
        self._count(left, right)
        values = _values((left, right), NOWHERE, COARSE[1])
        if any(map(_is_complex, values)):
            raise UndecidedError("no order among complex numbers")
        if _agree(left, right, COARSE):
            if _confirmed(left, right):
                return 0
            values = _values((left, right), NOWHERE, _fine(left, right)[1])
        return 1 if values[0].real > values[1].real else -1

    def ratio_sign(self, left: Node, right: Node) -> int:
        """See :class:`~rl_verifiers.oracles.Oracle`."""
        with suppress(NeedsNumericError):
            return self._quick.ratio_sign(left, right)
        self._count(left, right)
        for point in reversed(points(left, right)):
            try:
                top, bottom = _values((left, right), point, COARSE[1])
            except UndefinedError:
                continue
            if bottom != 0 and not _is_complex(top / bottom):
                sign = (top / bottom).real
                crossed = (Node("mul", pair) for pair in _crossed(left, right, point))
                return int(sign > 0) - int(sign < 0) if _same(*crossed) else 0
        return 0

    def _count(self, *nodes: Node) -> None:
        if self._parts > MAX_PARTS:
            raise OverLimitError(f"more than {MAX_PARTS} parts to evaluate")
        for node in nodes:
            for part in parts(node):
                self._parts += _COSTLY if part.value in _ANGULAR else 1

    def _is_rounding(self, left: Node, right: Node) -> bool:
        for node in (left, right):
            try:
                slack = rounding_slack(exact(node), self._digits)
            except NotExactError:
                continue
            if slack is not None:
                one, other = _values((left, right), NOWHERE, _fine(left, right)[1])
                return bool(abs(one - other) * slack.denominator <= slack.numerator)
        return False


def _crossed(left: Node, right: Node, point: Point) -> Iterator[tuple[Node, Node]]:
    """The factors of ``left(x) right(p)`` and of ``right(x) left(p)``."""
    yield left, _at(right, point)
    yield right, _at(left, point)


def _at(node: Node, point: Point) -> Node:
    if node.op == "sym":
        return Node("num", value=point.coordinates[node.value])
    return node._replace(args=tuple(_at(part, point) for part in node.args))


def _same(left: Node, right: Node) -> bool:
    try:
        return _agree(left, right, COARSE) and _confirmed(left, right)
    except UndecidedError:  # too few numbers to tell, but algebra may
        if (verdict := _vanishes(left, right)) is None:
            raise
        return verdict


def _confirmed(left: Node, right: Node) -> bool:
    """Whether two expressions that agree in a few digits are the same."""
    verdict = _vanishes(left, right)
    return _agree(left, right, _fine(left, right)) if verdict is None else verdict


def _vanishes(left: Node, right: Node) -> bool | None:
    from rl_verifiers.symbolic import vanishes  # noqa: PLC0415 - it imports sympy

    return vanishes(left, right)


def _fine(left: Node, right: Node) -> Precision:
    nodes = [*parts(left), *parts(right)]
    values = [value for node in (left, right) for value in _rationals(node)]
    size = sum(x.numerator.bit_length() + x.denominator.bit_length() for x in values)
    is_gamma = any(node.value in ("factorial", "binom") for node in nodes)
    most = min(MAX_GAMMA_DIGITS if is_gamma else MAX_DIGITS, MAX_WORK // len(nodes))
    digits = max(2 * COARSE[1], min(most, FINE + 2 * size * 3 // 10))
    return digits // 2, digits


def _rationals(node: Node) -> Iterator[Fraction]:
    """The values of the largest parts that are rational numbers."""
    try:
        yield exact(node)
    except (NotExactError, OverLimitError):
        for part in node.args:
            yield from _rationals(part)


def _agree(left: Node, right: Node, precision: Precision) -> bool:
    """Whether two expressions coincide at every point where both are defined."""
    names = symbols(left) | symbols(right)
    agreeing = 0
    for point in points(left, right) if names else [NOWHERE]:
        try:
            pairs = [_values((left, right), point, digits) for digits in precision]
        except UndefinedError:
            continue
        if not _coincide(pairs, precision):
            return False
        agreeing += 1
        if agreeing == _AGREEING or not names:
            return True
    raise UndecidedError("undefined at too many points" if names else "it has no value")


def _coincide(pairs: list[list[Any]], precision: Precision) -> bool:
    """Whether the difference vanishes as precision grows.

    A true zero is rounding noise, which shrinks by the factor that the precision grows by; a small
    number that is not zero stays. The first look also passes what is small beside one, whatever
    the values are: they may be the rest of larger ones.
    """
    low, high = (abs(pair[0] - pair[1]) for pair in pairs)
    noise, shrinkage = (_power_of_ten(n) for n in (12 - precision[1], 10 - precision[1] // 2))
    scale = max(*map(abs, pairs[1]), int(precision == COARSE))
    return bool(high == 0 or high <= scale * noise or high <= low * shrinkage)


def _power_of_ten(exponent: int) -> Any:
    return import_module("mpmath").mpf(10) ** exponent  # a float would be zero below 1e-324


def _is_complex(value: Any) -> bool:
    return bool(abs(value.imag) > abs(value) * 1e-20)


def _values(nodes: tuple[Node, Node], point: Point, digits: int) -> list[Any]:
    return [_evaluated(node, point, digits) for node in nodes]


def _evaluated(node: Node, point: Point, digits: int) -> Any:
    mpmath: Any = import_module("mpmath")  # a tenth of a second that most runs never need
    with mpmath.workdps(digits):
        try:
            return +_value(node, point, mpmath.mp)
        except (ZeroDivisionError, ArithmeticError, TypeError):
            raise UndefinedError from None
        except mpmath.libmp.NoConvergence:
            raise UndefinedError from None


def _value(node: Node, point: Point, mp: Any) -> Any:
    if node.op in ("num", "based", "sym"):
        value = exact(node) if node.op != "sym" else point.coordinates.get(node.value)
        if value is None:
            raise UndefinedError(node.value)
        return _number(value, mp)
    if node.op == "const" and node.value in ("pi", "e", "i"):
        return {"pi": mp.pi, "e": mp.e, "i": mp.mpc(0, 1)}[node.value] * 1
    if node.op == "func" and node.value == "det":
        return _determinant(node.args[0], point, mp)
    values = [_value(part, point, mp) for part in node.args]
    if node.op == "apply":
        return _unknown_function(node.value, values, mp)
    rule = _OPERATIONS.get(node.op) or _FUNCTIONS.get(node.value)
    if rule is None:
        raise UndefinedError(node.op)
    value = _bounded(rule(mp, *values), mp)
    if point.is_real and _is_complex(value):
        raise UndefinedError
    return value


def _number(value: Fraction, mp: Any) -> Any:
    return mp.mpf(value.numerator) / value.denominator


def _bounded(value: Any, mp: Any) -> Any:
    if not mp.isfinite(value):
        raise UndefinedError
    if value != 0 and abs(mp.mag(value)) > MAX_MAGNITUDE:
        raise OverLimitError(f"a value beyond 2^{MAX_MAGNITUDE}")
    return value


def _power(mp: Any, base: Any, exponent: Any) -> Any:
    if base == 0:
        if not exponent.real > 0:
            raise UndefinedError
        return mp.mpf(0)
    if abs(mp.log(base) * exponent) > MAX_MAGNITUDE:
        raise OverLimitError(f"a power beyond e^{MAX_MAGNITUDE}")
    return mp.power(base, exponent)


def _root(mp: Any, value: Any, degree: Any) -> Any:
    """The real root where there is one, as in textbooks: the cube root of -8 is -2."""
    if value.imag == 0 and value.real < 0 and degree.imag == 0 and degree.real % 2 == 1:
        return -_power(mp, -value.real, 1 / degree)
    return _power(mp, value, 1 / degree)


def _circular(function: str) -> Callable[..., Any]:
    def evaluate(mp: Any, value: Any) -> Any:
        if value != 0 and mp.mag(value) > 1000:
            raise OverLimitError("an angle too large")
        return getattr(mp, function)(value)

    return evaluate


def _exponential(function: str) -> Callable[..., Any]:
    def evaluate(mp: Any, value: Any) -> Any:
        if abs(value) > MAX_MAGNITUDE:
            raise OverLimitError("an exponent too large")
        return getattr(mp, function)(value)

    return evaluate


def _factorial(mp: Any, value: Any) -> Any:
    if abs(value) > 10_000:
        raise OverLimitError("a factorial too large")
    return mp.gamma(value + 1)


def _binomial(mp: Any, top: Any, bottom: Any) -> Any:
    if max(abs(top), abs(bottom)) > 10_000:
        raise OverLimitError("a binomial too large")
    return mp.binomial(top, bottom)


def _rounded(function: str) -> Callable[..., Any]:
    def evaluate(mp: Any, value: Any) -> Any:
        if value.imag != 0:
            raise UndefinedError
        return getattr(mp, function)(value.real)

    return evaluate


def _logarithm(mp: Any, value: Any) -> Any:
    if value == 0:
        raise UndefinedError
    return mp.log(value)


def _unknown_function(name: str, values: list[Any], mp: Any) -> Any:
    """A stand-in for f: equal arguments give equal values, and others do not."""
    seed = zlib.crc32(" ".join([name, *(mp.nstr(value, 15) for value in values)]).encode())
    return mp.mpf(seed + 1) / 2**31


def _determinant(matrix: Node, point: Point, mp: Any) -> Any:
    size = len(matrix.args)
    if size > 6 or any(len(row.args) != size for row in matrix.args):
        raise UndefinedError
    return mp.det(mp.matrix([[_value(x, point, mp) for x in row.args] for row in matrix.args]))


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda mp, *terms: mp.fsum(terms),
    "neg": lambda mp, a: -a,
    "mul": lambda mp, *factors: mp.fprod(factors),
    "div": lambda mp, a, b: a / b,
    "pow": _power,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: _circular(name) for name in ("sin", "cos", "tan", "sec", "csc", "cot")},
    **{name: _exponential(name) for name in ("exp", "sinh", "cosh", "tanh")},
    **{f"arc{name}": _circular(f"a{name}") for name in ("sin", "cos", "tan")},
    "ln": _logarithm,
    "°": lambda mp, value: value * mp.pi / 180,
    "%": lambda mp, value: value / 100,
    "root": _root,
    "cbrt": lambda mp, value: _root(mp, value, mp.mpf(3)),
    "abs": lambda mp, value: abs(value),
    "floor": _rounded("floor"),
    "ceil": _rounded("ceil"),
    "factorial": _factorial,
    "binom": _binomial,
}
