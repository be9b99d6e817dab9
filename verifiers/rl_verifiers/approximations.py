"""Values that an answer joins by an approximately-equals sign."""

from __future__ import annotations

from fractions import Fraction

from rl_verifiers import units
from rl_verifiers.expressions import (
    Node,
    NotExactError,
    OverLimitError,
    contains,
    exact,
    num,
    symbols,
)
from rl_verifiers.oracles import MAX_PLACES, NeedsNumericError, Oracle, decimal_places

_MAX_ZEROS = 400


def approximations_hold(relation: Node, oracle: Oracle) -> bool:
    """Whether, at each approximately-equals sign, one side is the other rounded.

    A decimal may be rounded or cut off at its last place, a whole number rounded at its last digit
    that is no zero. An exact value with a decimal after it is not asked: the decimal adds nothing.
    Nor are sides with symbols or names.

    Raises:
        NeedsNumericError: From the oracle.
        OverLimitError: It would cost too much to tell.
    """
    links = zip(relation.args, relation.value, relation.args[1:], strict=False)
    return all(_rounds(left, right, oracle) for left, sign, right in links if sign == "≈")


def _rounds(left: Node, right: Node, oracle: Oracle) -> bool:
    if left == right or symbols(left) or contains(left, "text"):
        return True
    (value, unit), (other, stated) = _split(left), _split(right)
    if unit == "%" and stated != "%":
        value = Node("div", (value, num(100)))
    elif stated == "%" and unit != "%":
        value = Node("mul", (value, num(100)))
    elif units.differ(unit, stated):  # a conversion: nothing is known of it
        return True
    try:
        slack, rounded = _slack(value), _slack(other)
        if slack is None:
            return rounded is not None or oracle.equal(value, other)
        if rounded is None:
            return _is_within(other, value, slack, oracle)
        return _is_within(value, other, rounded, oracle)
    except (NeedsNumericError, OverLimitError):
        raise
    except ValueError:
        return False


def _split(node: Node) -> tuple[Node, str | None]:
    return (node.args[0], node.value) if node.op == "unit" else (node, None)


def _slack(node: Node) -> tuple[Fraction, Fraction] | None:
    """How far below and above a decimal what it rounds may be; None for what is no decimal."""
    try:
        value = exact(node)
    except NotExactError:
        return None
    places = decimal_places(value, MAX_PLACES)
    if places is None:
        return None
    if places:
        unit = Fraction(1, 10**places)
        return (unit / 2, unit) if value > 0 else (unit, unit / 2)
    whole, zeros = abs(value.numerator), 0
    while whole and whole % 10 == 0 and zeros < _MAX_ZEROS:
        whole, zeros = whole // 10, zeros + 1
    return Fraction(10**zeros, 2), Fraction(10**zeros, 2)


def _is_within(
    value: Node, decimal: Node, slack: tuple[Fraction, Fraction], oracle: Oracle
) -> bool:
    middle, (below, above) = exact(decimal), slack
    low, high = num(middle - below), num(middle + above)
    return oracle.order(value, low) >= 0 >= oracle.order(value, high)
