"""Evaluation in machine numbers with a bound on the error: enough to tell most numbers apart.

Every value is a ball, a float or complex number and a radius within which the true value lies; each
operation widens the radius by what it may have lost. Two balls apart are two different numbers, and
that is all that is ever concluded. It costs microseconds, needs no library, and leaves what it
cannot do (a sign that is not certain, a huge number, an unknown function) to others.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from rl_verifiers.expressions import Node, NotExactError, OverLimitError, exact
from rl_verifiers.points import Point

_EPSILON = 2.0**-50
"""Relative error of one operation, with a margin: those of the C library are not quite exact."""
_SMALLEST, _LARGEST = 1e-250, 1e250
_MOST = 10_000
"""Largest exponent: what is larger is over the limits of the worker's arithmetic too."""


class VagueError(ValueError):
    """No ball that is worth anything."""


class Ball(NamedTuple):
    """All numbers within ``radius`` of ``middle``; of a real ``middle``, real ones."""

    middle: float | complex
    radius: float


def evaluated(node: Node, point: Point) -> Ball:
    """A ball with the value of ``node`` at ``point`` in it.

    Raises:
        VagueError: There is no value, or no bound.
    """
    if node.op == "sym" and node.value in point.coordinates:
        return _of(point.coordinates[node.value])
    if node.op == "const" and node.value in _CONSTANTS:
        middle = _CONSTANTS[node.value]
        return Ball(middle, abs(middle) * _EPSILON)
    if node.op in ("num", "based") or node.value in _EXACT:
        try:
            return _of(exact(node))
        except (NotExactError, OverLimitError):
            raise VagueError from None
    rule = _OPERATIONS.get(node.op)
    if node.op in ("func", "unit"):
        rule = _FUNCTIONS.get(node.value)
    if rule is None or not node.args:
        raise VagueError
    try:
        ball = _checked(rule(*[evaluated(part, point) for part in node.args]))
    except (ArithmeticError, TypeError, ValueError):
        raise VagueError from None
    if point.is_real:
        _real(ball)
    return ball


def apart(one: Ball, other: Ball) -> float:
    """A lower bound of the distance between two values; negative where they may be equal."""
    distance = abs(one.middle - other.middle)
    return distance * (1 - _EPSILON) - one.radius - other.radius


def _of(value: Fraction) -> Ball:
    try:
        middle = float(value)
    except OverflowError:
        raise VagueError from None
    return _checked(Ball(middle, abs(middle) * _EPSILON))


def _checked(ball: Ball) -> Ball:
    size = abs(ball.middle)
    if not size <= _LARGEST or not ball.radius <= 1e-6 * max(size, 1.0):
        raise VagueError
    return ball if size >= _SMALLEST else Ball(ball.middle, ball.radius + _SMALLEST)


def _real(*balls: Ball) -> None:
    if any(isinstance(ball.middle, complex) for ball in balls):
        raise VagueError


def _add(*balls: Ball) -> Ball:
    sizes = sum(abs(ball.middle) for ball in balls)
    radius = sum(ball.radius for ball in balls)
    return Ball(sum(ball.middle for ball in balls), radius + len(balls) * sizes * _EPSILON)


def _negative(a: Ball) -> Ball:
    return Ball(-a.middle, a.radius)


def _multiply(*balls: Ball) -> Ball:
    found = balls[0]
    for ball in balls[1:]:
        middle = found.middle * ball.middle
        radius = abs(found.middle) * ball.radius + abs(ball.middle) * found.radius
        radius += found.radius * ball.radius + abs(middle) * _EPSILON
        found = Ball(middle, radius)
    return found


def _divide(a: Ball, b: Ball) -> Ball:
    nearest = abs(b.middle) - b.radius
    if nearest <= 0:
        raise VagueError
    middle = a.middle / b.middle
    return Ball(middle, (a.radius + abs(middle) * b.radius) / nearest + abs(middle) * _EPSILON)


def _power(base: Ball, exponent: Ball) -> Ball:
    _real(exponent)
    if abs(exponent.middle) > _MOST:
        raise VagueError
    whole = exponent.middle
    if whole == int(whole.real) and abs(whole) <= 64 and exponent.radius <= abs(whole) * _EPSILON:
        count = int(whole.real)
        if count <= 0 and abs(base.middle) <= base.radius:
            raise VagueError
        found = _multiply(Ball(1.0, 0.0), *[base] * abs(count))
        return found if count > 0 else _divide(Ball(1.0, 0.0), found)
    return _exponential(_multiply(exponent, _logarithm(base)))


def _exponential(a: Ball) -> Ball:
    middle = math.exp(a.middle) if isinstance(a.middle, float) else cmath.exp(a.middle)
    if a.radius > 0.01:
        raise VagueError
    return Ball(middle, abs(middle) * (1.02 * a.radius + (2 + abs(a.middle)) * _EPSILON))


def _logarithm(a: Ball) -> Ball:
    _real(a)
    nearest = a.middle.real - a.radius
    if nearest <= 0:
        raise VagueError
    middle = math.log(a.middle.real)
    return Ball(middle, a.radius / nearest + (1 + abs(middle)) * _EPSILON)


def _root(a: Ball, degree: Ball) -> Ball:
    _real(a, degree)
    count = round(degree.middle.real)
    if count < 2 or abs(degree.middle - count) + degree.radius > 1e-9:
        raise VagueError
    if a.middle == 0 == a.radius:
        return a
    if abs(a.middle) <= a.radius:
        raise VagueError
    if a.middle.real > 0:
        return _exponential(_divide(_logarithm(a), Ball(float(count), 0.0)))
    positive = _root(_negative(a), degree)
    if count % 2:
        return _negative(positive)
    if count > 2:
        raise VagueError
    return Ball(positive.middle * 1j, positive.radius)


def _circular(function: Callable[[float], float]) -> Callable[[Ball], Ball]:
    def evaluate(a: Ball) -> Ball:
        _real(a)
        if abs(a.middle) > 1e6:
            raise VagueError
        return Ball(function(a.middle.real), a.radius + (1 + abs(a.middle)) * _EPSILON)

    return evaluate


def _inverse_circular(function: Callable[[float], float]) -> Callable[[Ball], Ball]:
    def evaluate(a: Ball) -> Ball:
        _real(a)
        edge = abs(a.middle) + a.radius
        if edge >= 0.999:
            raise VagueError
        return Ball(function(a.middle.real), a.radius / math.sqrt(1 - edge * edge) + 4 * _EPSILON)

    return evaluate


def _tangent_inverse(a: Ball) -> Ball:
    _real(a)
    return Ball(math.atan(a.middle.real), a.radius + 4 * _EPSILON)


def _rounded(function: Callable[[float], int]) -> Callable[[Ball], Ball]:
    def evaluate(a: Ball) -> Ball:
        _real(a)
        low, high = function(a.middle.real - a.radius), function(a.middle.real + a.radius)
        if low != high:
            raise VagueError
        return Ball(float(low), 0.0)

    return evaluate


def _absolute(a: Ball) -> Ball:
    return Ball(abs(a.middle), a.radius + abs(a.middle) * _EPSILON)


_sin, _cos, _ONE = _circular(math.sin), _circular(math.cos), Ball(1.0, 0.0)
_CONSTANTS: dict[str, float | complex] = {"pi": math.pi, "e": math.e, "i": 1j}
_EXACT = frozenset(["factorial", "binom", "gcd"])
_OPERATIONS: dict[str, Callable[..., Ball]] = {
    "add": _add, "neg": _negative, "mul": _multiply, "div": _divide, "pow": _power,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Ball]] = {
    "sin": _sin,
    "cos": _cos,
    "tan": lambda a: _divide(_sin(a), _cos(a)),
    "cot": lambda a: _divide(_cos(a), _sin(a)),
    "sec": lambda a: _divide(_ONE, _cos(a)),
    "csc": lambda a: _divide(_ONE, _sin(a)),
    "arcsin": _inverse_circular(math.asin),
    "arccos": _inverse_circular(math.acos),
    "arctan": _tangent_inverse,
    "exp": _exponential,
    "ln": _logarithm,
    "root": _root,
    "cbrt": lambda a: _root(a, Ball(3.0, 0.0)),
    "abs": _absolute,
    "floor": _rounded(math.floor),
    "ceil": _rounded(math.ceil),
    "°": lambda a: _multiply(a, Ball(math.pi / 180, _EPSILON)),
    "%": lambda a: _divide(a, Ball(100.0, 0.0)),
}
