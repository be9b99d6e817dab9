"""Decides about values in this process, in microseconds to milliseconds, or says that it cannot.

Rational arithmetic first, then algebra (:mod:`rl_verifiers.algebra`), which is exact and final,
then machine numbers with a bound on their error (:mod:`rl_verifiers.balls`), which tell different
values apart. All agree with :mod:`rl_verifiers.numeric` wherever they decide; what they leave goes
there, to a worker.
"""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from typing import NamedTuple

from rl_verifiers import algebra
from rl_verifiers.algebra import Quotient
from rl_verifiers.balls import Ball, VagueError, apart, evaluated
from rl_verifiers.expressions import Node, NotExactError, exact, parts
from rl_verifiers.monomials import BeyondError, Budget
from rl_verifiers.oracles import EXACT_DIGITS, NeedsNumericError, rounding_slack, same_number
from rl_verifiers.points import NOWHERE, Point, UndecidedError, points_of

MAX_STEPS = 10_000
"""Steps of work for one question, all its parts together: some milliseconds."""
_COMPARISON = 5
_POINTS = 6
_COLLECTIONS = ("list", "set", "tuple", "ratio", "union", "intersection", "difference")
_VALUELESS = frozenset((*_COLLECTIONS, "rel", "text", "option", "pm"))


class _Facts(NamedTuple):
    """Of an expression: what it costs to evaluate, its symbols, and whether it has a real value."""

    nodes: int
    steps: int
    symbols: frozenset[str]
    has_value: bool
    is_real: bool


class QuickOracle:
    """Decides, or raises :class:`NeedsNumericError`; see :class:`rl_verifiers.oracles.Oracle`.

    One is made for each question: it counts the work of all that it is asked.

    Args:
        digits: A decimal of so many may round an irrational number.
        effort: The limits on work, in those of an answer that must not hold up an event loop.
    """

    def __init__(self, digits: int = EXACT_DIGITS, effort: int = 1) -> None:
        self._digits, self._effort = digits, effort
        self._budget = Budget(effort * MAX_STEPS)
        self._kept: dict[int, Node] = {}  # what is known of a node goes by its id
        self._facts: dict[int, _Facts] = {}
        self._quotients: dict[int, Quotient | None] = {}
        self._balls: dict[tuple[int, int], Ball | None] = {}
        self._points: dict[int, Point] = {}

    def equal(self, left: Node, right: Node) -> bool:
        """See :class:`~rl_verifiers.oracles.Oracle`."""
        if left == right:
            return True
        if left.op != right.op and (left.op in _VALUELESS or right.op in _VALUELESS):
            return False
        one, other = self._begin(left, right)
        values = _exact(left), _exact(right)
        if values[0] is not None and values[1] is not None:
            return same_number(values[0], values[1], self._digits)
        self._check(one, other)
        slacks = [rounding_slack(value, self._digits) for value in values if value is not None]
        if slacks and slacks[0] is not None and not one.symbols | other.symbols:
            return self._rounds(left, right, slacks[0])
        return self._same(left, right)

    def order(self, left: Node, right: Node) -> int:
        """See :class:`~rl_verifiers.oracles.Oracle`."""
        facts = self._begin(left, right)
        one, other = _exact(left), _exact(right)
        if one is not None and other is not None:
            return (one > other) - (one < other)
        self._check(*facts)
        balls = self._ball(left, NOWHERE), self._ball(right, NOWHERE)
        if any(isinstance(ball.middle, complex) for ball in balls):
            raise NeedsNumericError
        if apart(*balls) > 0:
            return 1 if balls[0].middle.real > balls[1].middle.real else -1
        if self._is_equal(left, right):
            return 0
        raise NeedsNumericError

    def ratio_sign(self, left: Node, right: Node) -> int:
        """See :class:`~rl_verifiers.oracles.Oracle`."""
        if left == right:
            return 1
        one, other = self._begin(left, right)
        try:
            self._check(one, other)
        except UndecidedError:
            return 0
        if one.symbols | other.symbols:
            with suppress(BeyondError, algebra.UndefinedError):
                quotients = self._quotient(left), self._quotient(right)
                return algebra.ratio_sign(*quotients, self._share())
        raise NeedsNumericError

    def _begin(self, left: Node, right: Node) -> tuple[_Facts, _Facts]:
        """Pay for a comparison; what is known of its sides."""
        facts = []
        for node in (left, right):
            if id(node) not in self._facts:
                self._kept[id(node)] = node
                self._facts[id(node)] = _facts(node)
                self._spend(self._facts[id(node)].nodes // 2)
            facts.append(self._facts[id(node)])
        self._spend(_COMPARISON + facts[0].steps + facts[1].steps)
        return facts[0], facts[1]

    @staticmethod
    def _check(left: _Facts, right: _Facts) -> None:
        if not (left.has_value and right.has_value):
            raise UndecidedError("it has no value")

    def _spend(self, steps: int) -> None:
        try:
            self._budget.spend(steps)
        except BeyondError:
            raise NeedsNumericError from None

    def _share(self) -> Budget:
        return self._budget.share(self._effort * algebra.MAX_STEPS)

    def _quotient(self, node: Node) -> Quotient:
        if id(node) not in self._quotients:
            self._quotients[id(node)] = None
            self._quotients[id(node)] = algebra.quotient(node, self._share())
        found = self._quotients[id(node)]
        if found is None:
            raise BeyondError
        return found

    def _ball(self, node: Node, point: Point) -> Ball:
        key = (id(node), id(point))  # the points are kept too
        if key not in self._balls:
            self._spend(self._facts[id(node)].nodes // 2)
            self._balls[key] = None
            with suppress(VagueError):
                self._balls[key] = evaluated(node, point)
        found = self._balls[key]
        if found is None:
            raise NeedsNumericError
        return found

    def _is_equal(self, left: Node, right: Node) -> bool | None:
        try:
            return algebra.equal(self._quotient(left), self._quotient(right), self._share())
        except algebra.UndefinedError:
            raise UndecidedError("it divides by zero") from None
        except BeyondError:
            return None

    def _same(self, left: Node, right: Node) -> bool:
        one, other = self._facts[id(left)], self._facts[id(right)]
        names = one.symbols | other.symbols
        places: tuple[Point, ...] = (NOWHERE,)
        if names:
            places = points_of(names, is_real=one.is_real and other.is_real)[:_POINTS]
            self._points.update((id(point), point) for point in places)
        if self._differ(left, right, places[0]):
            return False
        verdict = self._is_equal(left, right)
        if verdict is not None:
            return verdict
        if any(self._differ(left, right, point) for point in places[1:]):
            return False
        raise NeedsNumericError

    def _differ(self, left: Node, right: Node, point: Point) -> bool:
        try:
            return apart(self._ball(left, point), self._ball(right, point)) > 0
        except NeedsNumericError:
            return False

    def _rounds(self, left: Node, right: Node, slack: Fraction) -> bool:
        """Whether a decimal is close enough to the irrational number that it may round."""
        one, other = self._ball(left, NOWHERE), self._ball(right, NOWHERE)
        distance, error = abs(one.middle - other.middle), one.radius + other.radius
        if abs(distance - float(slack)) <= error + float(slack) * 1e-9:
            raise NeedsNumericError
        return distance < slack


def _facts(node: Node) -> _Facts:
    nodes = steps = 0
    names, has_value, is_real = set(), True, True
    for part in parts(node):
        nodes += 1
        if part.op in ("sym", "apply"):
            names.add(part.value)
        elif part.op == "pow" or (part.op == "func" and part.value in ("factorial", "binom")):
            steps += _weight(part)
        elif part.op in _VALUELESS or (part.op == "unit" and part.value not in ("%", "°")):
            has_value = False
        elif part.op == "const":
            is_real = is_real and part.value != "i"
            has_value = has_value and part.value in ("pi", "e", "i")
    return _Facts(nodes, steps, frozenset(names), has_value, is_real)


def _weight(node: Node) -> int:
    """The steps that a large number costs: one for about a hundred of its bits."""
    last = node.args[-1] if node.op == "pow" else node.args[0]
    if last.op != "num":
        return 2 if node.op == "pow" else 500
    size = abs(last.value.numerator) // (50 if node.op == "pow" else 10)
    if node.op == "pow" and node.args[0].op == "num":
        base = node.args[0].value
        size = size * max(base.numerator.bit_length(), base.denominator.bit_length()) // 2
    return min(size, 1_000)


def _exact(node: Node) -> Fraction | None:
    if node.op == "num":
        value: Fraction = node.value
        return value
    try:
        return exact(node)
    except NotExactError:
        return None
