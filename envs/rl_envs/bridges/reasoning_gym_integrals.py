"""Whether an antiderivative is right, by numbers.

reasoning-gym's scorer has sympy simplify a difference, which takes seconds over some right answers
and minutes over what a model may write. Here the answer and its derivative are worked out together
at a few points, in complex floats.
"""

from __future__ import annotations

import ast
import cmath
import math
from collections.abc import Callable, Mapping
from typing import Any

_POINTS = (0.3719, 1.2931, 2.0347, -0.8313, 0.0917, -1.7127)
_FEWEST = 3  # points at which both have a value
_TOLERANCE = 1e-8
_MOST_CHARACTERS = 2000

_Dual = tuple[complex, complex]
"""A value and its derivative."""

_KNOWN: Mapping[str, complex] = {"E": math.e, "pi": math.pi, "I": 1j}
_OTHER = 0.71  # any other name is a constant

_FUNCTIONS: Mapping[str, tuple[Callable[[complex], complex], Callable[[complex], complex]]] = {
    "sin": (cmath.sin, cmath.cos),
    "cos": (cmath.cos, lambda v: -cmath.sin(v)),
    "tan": (cmath.tan, lambda v: 1 / cmath.cos(v) ** 2),
    "sec": (lambda v: 1 / cmath.cos(v), lambda v: cmath.sin(v) / cmath.cos(v) ** 2),
    "csc": (lambda v: 1 / cmath.sin(v), lambda v: -cmath.cos(v) / cmath.sin(v) ** 2),
    "cot": (lambda v: cmath.cos(v) / cmath.sin(v), lambda v: -1 / cmath.sin(v) ** 2),
    "exp": (cmath.exp, cmath.exp),
    "log": (cmath.log, lambda v: 1 / v),
    "ln": (cmath.log, lambda v: 1 / v),
    "sqrt": (cmath.sqrt, lambda v: 0.5 / cmath.sqrt(v)),
    "asin": (cmath.asin, lambda v: 1 / cmath.sqrt(1 - v * v)),
    "acos": (cmath.acos, lambda v: -1 / cmath.sqrt(1 - v * v)),
    "atan": (cmath.atan, lambda v: 1 / (1 + v * v)),
}


def why_not_integral(answer: str, entry: Mapping[str, Any]) -> str | None:
    """Why an answer is no antiderivative; None where it is one.

    Args:
        answer: A formula that was found to be harmless.
        entry: reasoning-gym's item, with the integrand and its variable.
    """
    variable = entry["metadata"]["variable"]
    wanted = _tree(str(entry["metadata"]["integrand"]))
    given = _tree(answer)
    agreed = 0
    for point in _POINTS:
        try:
            target = _dual(wanted, variable, point)[0]
            slope = _dual(given, variable, point)[1]
        except (ArithmeticError, ValueError):  # a pole, or beyond floats
            continue
        except (KeyError, RecursionError, TypeError):
            return "not a plain formula"
        if not cmath.isfinite(slope) or not cmath.isfinite(target):
            continue
        if abs(slope - target) > _TOLERANCE * (1 + abs(target)):
            return "its derivative is another function"
        agreed += 1
    return None if agreed >= _FEWEST else "its derivative has too few values"


def _tree(text: str) -> ast.AST:
    return ast.parse(text.strip()[:_MOST_CHARACTERS], mode="eval").body


def _dual(node: ast.AST, variable: str, point: float) -> _Dual:
    match node:
        case ast.Constant(value=int() | float() as number):
            return complex(number), 0j
        case ast.Name(id=name):
            if name == variable:
                return complex(point), 1 + 0j
            return complex(_KNOWN.get(name, _OTHER)), 0j
        case ast.UnaryOp(op=operator, operand=inner):
            value, slope = _dual(inner, variable, point)
            return (-value, -slope) if isinstance(operator, ast.USub) else (value, slope)
        case ast.Call(func=ast.Name(id=name), args=[inner]):
            value, slope = _dual(inner, variable, point)
            function, derivative = _FUNCTIONS[name]
            return function(value), derivative(value) * slope
        case ast.BinOp(left=left, op=operator, right=right):
            first, second = _dual(left, variable, point), _dual(right, variable, point)
            return _combined(first, operator, second)
    raise TypeError(type(node).__name__)


def _combined(first: _Dual, operator: ast.AST, second: _Dual) -> _Dual:
    (a, da), (b, db) = first, second
    match operator:
        case ast.Add():
            return a + b, da + db
        case ast.Sub():
            return a - b, da - db
        case ast.Mult():
            return a * b, da * b + a * db
        case ast.Div():
            return a / b, (da * b - a * db) / (b * b)
        case ast.Pow():
            slope = b * a ** (b - 1) * da if da else 0j
            return a**b, slope + (a**b * cmath.log(a) * db if db else 0j)
    raise TypeError(type(operator).__name__)
