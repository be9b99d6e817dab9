"""Equality by evaluation: two expressions at many points, with more digits than chance can match.

An identity of the functions that the parser knows holds everywhere once it holds, to sixty digits,
at a few points taken without regard to it (Schwartz, J. ACM 27(4), 1980, for polynomials). Unlike a
search for a proof, this costs a fixed amount of work. ``mpmath`` is imported on first use.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from typing import Any

from rl_verifiers.answers import EXACT_DIGITS, rounding_slack, same_number
from rl_verifiers.expressions import Node, NotExactError, OverLimitError, contains, exact, symbols

LOW, HIGH = 30, 60
"""The two working precisions, in decimal digits."""
MAX_MAGNITUDE = 100_000
"""Largest power of two that a value on the way may reach."""
_POINTS, _AGREEING = 24, 4


class UndecidedError(ValueError):
    """The two expressions are not both defined at enough points to tell."""


class UndefinedError(ValueError):
    """An expression has no value at a point."""


@dataclass(frozen=True)
class NumericOracle:
    """Decides by evaluation; see :class:`rl_verifiers.answers.Oracle`."""

    digits: int = EXACT_DIGITS

    def equal(self, left: Node, right: Node) -> bool:
        """See :class:`~rl_verifiers.answers.Oracle`."""
        if left == right:
            return True
        try:
            return same_number(exact(left), exact(right), self.digits)
        except NotExactError:
            pass
        names = symbols(left) | symbols(right)
        if not names:
            return self._equal_constants(left, right)
        return _agree(lambda values: (values[0], values[1]), (left, right), names)

    def order(self, left: Node, right: Node) -> int:
        """See :class:`~rl_verifiers.answers.Oracle`."""
        pairs = [[_evaluated(node, {}, digits) for node in (left, right)] for digits in (LOW, HIGH)]
        if any(_is_complex(value) for pair in pairs for value in pair):
            raise UndecidedError("no order among complex numbers")
        if _coincide(pairs):
            return 0
        return 1 if pairs[1][0].real > pairs[1][1].real else -1

    def ratio_sign(self, left: Node, right: Node) -> int:
        """See :class:`~rl_verifiers.answers.Oracle`."""
        names = symbols(left) | symbols(right)
        signs: list[int] = []

        def cross(values: list[Any]) -> tuple[Any, Any]:
            here, there = values[:2], values[2:]
            if here[1] != 0 and not _is_complex(here[0] / here[1]):
                ratio = (here[0] / here[1]).real
                signs.append(int(ratio > 0) - int(ratio < 0))
            return here[0] * there[1], here[1] * there[0]

        if not _agree(cross, (left, right), names, pairs=True):
            return 0
        return signs[0] if signs and len(set(signs)) == 1 else 0

    def _equal_constants(self, left: Node, right: Node) -> bool:
        pairs = [[_evaluated(node, {}, digits) for node in (left, right)] for digits in (LOW, HIGH)]
        return _coincide(pairs) or self._is_rounding(left, right, pairs[1])

    def _is_rounding(self, left: Node, right: Node, values: list[Any]) -> bool:
        for node in (left, right):
            try:
                slack = rounding_slack(exact(node), self.digits)
            except NotExactError:
                continue
            if slack is not None:
                return bool(abs(values[0] - values[1]) * slack.denominator <= slack.numerator)
        return False


def _agree(
    combine: Callable[[list[Any]], tuple[Any, Any]],
    nodes: tuple[Node, Node],
    names: frozenset[str],
    *,
    pairs: bool = False,
) -> bool:
    """Whether the two combined values coincide at every point where both are defined."""
    is_real = not any(contains(node, "const") and _has_i(node) for node in nodes)
    agreeing = 0
    points = _points(names)
    for point in points:
        chosen = [point, next(points)] if pairs else [point]
        found = []
        try:
            for digits in (LOW, HIGH):
                values = [_evaluated(node, at, digits) for at in chosen for node in nodes]
                if is_real and any(_is_complex(value) for value in values):
                    raise UndefinedError
                found.append(list(combine(values)))
        except (UndefinedError, StopIteration):
            continue
        if not _coincide(found):
            return False
        agreeing += 1
        if agreeing == _AGREEING:
            return True
    raise UndecidedError("undefined at too many points")


def _points(names: frozenset[str]) -> Iterator[Mapping[str, Fraction]]:
    """Points with fixed pseudo-random coordinates: positive ones first, then of either sign."""
    generator = random.Random(20_260_101)
    for index in range(_POINTS):
        sizes = (3, 12) if index % 3 else (1, 1)
        point = {}
        for name in sorted(names):
            value = Fraction(generator.randrange(1, 10**6) * sizes[1], sizes[0] * 10**6)
            point[name] = value if index % 4 < 2 or generator.random() < 0.5 else -value
        yield point


def _coincide(pairs: list[list[Any]]) -> bool:
    """Whether the difference vanishes as precision grows.

    A true zero is rounding noise, which shrinks by the factor that the precision grows by; a small
    number that is not zero stays.
    """
    low, high = (abs(pair[0] - pair[1]) for pair in pairs)
    scale = max(abs(value) for value in pairs[1])
    return bool(high == 0 or high <= scale * 10 ** -(HIGH - 12) or high <= low * 10 ** -(LOW - 10))


def _has_i(node: Node) -> bool:
    return node == Node("const", value="i") or any(map(_has_i, node.args))


def _is_complex(value: Any) -> bool:
    return bool(abs(value.imag) > abs(value) * 1e-20)


def _evaluated(node: Node, point: Mapping[str, Fraction], digits: int) -> Any:
    mpmath: Any = import_module("mpmath")  # a tenth of a second that most runs never need
    with mpmath.workdps(digits):
        try:
            return +_value(node, point, mpmath.mp)
        except (ZeroDivisionError, ArithmeticError, TypeError):
            raise UndefinedError from None
        except mpmath.libmp.NoConvergence:
            raise UndefinedError from None


def _value(node: Node, point: Mapping[str, Fraction], mp: Any) -> Any:
    if node.op in ("num", "based", "sym"):
        return _number(point[node.value] if node.op == "sym" else exact(node), mp)
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
    return _bounded(rule(mp, *values), mp)


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


def _determinant(matrix: Node, point: Mapping[str, Fraction], mp: Any) -> Any:
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
