"""Equality by algebra: our own trees as sympy expressions, and whether their difference vanishes.

A tree is built node by node from the constructors listed here; sympy never sees text, except the
names of symbols, which it does not read. Every step is taken only below a limit that counts nodes,
bits, terms or degrees, never seconds, so that the same question gets the same verdict anywhere.
Importing this module imports sympy: only a worker does, and only when numbers could not refute.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import sympy
from sympy.core.random import seed

from rl_verifiers.expressions import Node, NotExactError, OverLimitError, exact, parts

MAX_NODES = 300
"""Parts of the two trees together."""
MAX_BITS = 40_000
"""Size of one number."""
MAX_ROOT_BITS = 1_500
"""Size of a number under a root (sympy looks for its factors), and of all where it evaluates."""
MAX_TERMS = 1_000
"""Terms that a sum may have when it is multiplied out."""
MAX_DEGREE = 16
"""Product of the degrees of the roots in an algebraic number whose minimal polynomial is found."""
MAX_OPERATIONS = 60
"""Operations in what is simplified by the identities of trigonometry."""
MAX_NESTED_FUNCTIONS = 4
"""Functions inside each other, roots aside: sympy's questions about them double at each level."""
MAX_FACTORED = 2**64
"""Largest number whose logarithm is split into those of its prime factors."""


class NotConvertibleError(ValueError):
    """The expression has a part that is not algebra as both sides understand it."""


def vanishes(left: Node, right: Node) -> bool | None:
    """Whether ``left - right`` is zero; None where that is not settled below the limits.

    Symbols are taken as positive numbers, where the usual rules of roots and logarithms hold: True
    is a proof for those only, False a refutation in general.
    """
    seed(0)  # sympy asks its questions in a random order
    try:
        if sum(1 for node in (left, right) for _ in parts(node)) > MAX_NODES:
            return None
        if max(_nested_functions(left), _nested_functions(right)) > MAX_NESTED_FUNCTIONS:
            return None
        difference = _converted(left) - _converted(right)
        return None if difference.has(*_UNDEFINED) else _settled(difference)
    except MemoryError:
        raise
    except Exception:  # whatever sympy stumbles over, it has settled nothing
        return None


def _nested_functions(node: Node) -> int:
    deepest = max(map(_nested_functions, node.args), default=0)
    return deepest + (node.op == "func" and node.value not in ("root", "abs"))


def _settled(difference: Any) -> bool | None:
    for form in (_as_it_is, _expanded, _numerator, _denested, _with_prime_logarithms, _by_angles):
        difference = form(difference)
        verdict = _is_zero(difference)
        if verdict is not None:
            return verdict
    return None


def _is_zero(expression: Any) -> bool | None:
    if expression.is_Rational:
        return bool(expression == 0)
    if expression.free_symbols:
        verdict = _has_no_terms(expression)
        if verdict is not None:
            return verdict
    return expression.is_zero if _is_light(expression) else None


def _has_no_terms(expression: Any) -> bool | None:
    """Powers of symbols with different exponents are independent: each coefficient must vanish."""
    coefficients: dict[Any, Any] = defaultdict(lambda: sympy.S.Zero)
    names = expression.free_symbols
    for term in sympy.Add.make_args(expression):
        coefficient, powers = term.as_independent(*names, as_Add=False)
        for base, exponent in powers.as_powers_dict().items():
            if powers != 1 and not (base.is_Symbol and exponent.is_Rational):
                return None
        coefficients[powers] += coefficient
    verdicts = [_is_zero(coefficient) for coefficient in coefficients.values()]
    return False if False in verdicts else None if None in verdicts else True


# Forms of one expression, each equal to the last or zero where that is.


def _as_it_is(expression: Any) -> Any:
    return expression


def _expanded(expression: Any) -> Any:
    return expression.expand() if _terms(expression) <= MAX_TERMS else expression


def _numerator(expression: Any) -> Any:
    return _expanded(sympy.fraction(sympy.together(expression))[0])


def _denested(expression: Any) -> Any:
    is_candidate = not expression.free_symbols and _is_light(expression)
    return sympy.sqrtdenest(expression).expand() if is_candidate else expression


def _with_prime_logarithms(expression: Any) -> Any:
    arguments = [log.args[0] for log in expression.atoms(sympy.log)]
    numbers = [n for x in arguments for n in x.atoms(sympy.Rational)]
    if not arguments or any(max(abs(n.p), n.q) > MAX_FACTORED for n in numbers):
        return expression
    return _expanded(sympy.expand_log(expression, factor=True))


def _by_angles(expression: Any) -> Any:
    has_angles = expression.has(sympy.cos, sympy.sin, sympy.tan, sympy.cot, sympy.sec, sympy.csc)
    if not has_angles or expression.count_ops() > MAX_OPERATIONS or not _is_light(expression):
        return expression
    return _expanded(sympy.trigsimp(expression))


# The limits.


def _is_light(expression: Any) -> bool:
    """Whether sympy may evaluate, and look for minimal polynomials and factors."""
    degree = math.prod(
        power.exp.q for power in expression.atoms(sympy.Pow) if power.exp.is_Rational
    )
    return (
        degree <= MAX_DEGREE and sum(map(_bits, expression.atoms(sympy.Rational))) <= MAX_ROOT_BITS
    )


def _bits(number: Any) -> int:
    return int(number.p).bit_length() + int(number.q).bit_length()


def _terms(expression: Any) -> int:
    """At most so many terms has ``expression`` when multiplied out."""
    inside = [_terms(part) for part in expression.args]
    if expression.is_Mul:
        return math.prod(inside)
    if expression.is_Pow and expression.exp.is_Integer and expression.base.is_Add:
        power = abs(int(expression.exp))
        return math.comb(power + inside[0] - 1, inside[0] - 1)
    return max(1, sum(inside))


# The trees.


def _converted(node: Node) -> Any:
    try:
        return _number(exact(node))
    except (NotExactError, OverLimitError):
        pass
    if node.op == "sym":
        return sympy.Symbol(node.value, positive=True)
    rule = _CONSTANTS.get(node.value) if node.op == "const" else _OPERATIONS.get(node.op)
    rule = _FUNCTIONS.get(node.value) if node.op == "func" else rule
    if rule is None:
        raise NotConvertibleError(node.op)
    return rule(*map(_converted, node.args))


def _number(value: Fraction) -> Any:
    number = sympy.Rational(value.numerator, value.denominator)
    if _bits(number) > MAX_BITS:
        raise NotConvertibleError("a number too large")
    return number


def _power(base: Any, exponent: Any) -> Any:
    if base.is_Rational and not exponent.is_Integer and _bits(base) > MAX_ROOT_BITS:
        raise NotConvertibleError("a number too large under a root")
    return sympy.Pow(base, exponent)


def _root(value: Any, degree: Any) -> Any:
    """The real root where there is one; see :mod:`rl_verifiers.numeric`."""
    if not degree.is_Integer or degree < 2:
        raise NotConvertibleError("a root of this degree")
    if degree % 2 == 0 or (_is_light(value) and value.is_nonnegative):
        return _power(value, 1 / degree)
    if _is_light(value) and value.is_negative:
        return -_power(-value, 1 / degree)
    raise NotConvertibleError("an odd root of a number whose sign is not known")


def _binomial(top: Any, bottom: Any) -> Any:
    if not bottom.is_Integer or not 0 <= bottom <= 20:
        raise NotConvertibleError("a binomial that is no polynomial")
    return sympy.Mul(*(top - i for i in range(int(bottom)))) / sympy.factorial(bottom)


_UNDEFINED = (sympy.nan, sympy.zoo, sympy.oo, -sympy.oo)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "pi": lambda: sympy.pi,
    "e": lambda: sympy.E,
    "i": lambda: sympy.I,
}
_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": sympy.Add,
    "mul": sympy.Mul,
    "neg": lambda value: -value,
    "div": lambda top, bottom: top / bottom,
    "pow": _power,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan,
    "sec": sympy.sec, "csc": sympy.csc, "cot": sympy.cot,
    "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan,
    "sinh": sympy.sinh, "cosh": sympy.cosh, "tanh": sympy.tanh,
    "exp": sympy.exp, "ln": sympy.log, "abs": sympy.Abs,
    "root": _root, "cbrt": lambda value: _root(value, sympy.Integer(3)),
    "factorial": lambda value: sympy.gamma(value + 1), "binom": _binomial,
    "°": lambda value: value * sympy.pi / 180, "%": lambda value: value / 100,
}  # fmt: skip
