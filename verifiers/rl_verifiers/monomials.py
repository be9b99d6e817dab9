"""Products of powers, and sums of them with rational coefficients: what algebra is made of."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

MAX_BITS = 5_000
"""Size of a coefficient."""
MAX_EXPONENT = 10_000
MAX_PRIME = 1_000
"""Roots are taken of numbers whose prime factors, but one, are smaller."""

Number = Fraction | int
"""A rational number; an int where it is whole, which is several times faster."""
Monomial = tuple[tuple[tuple[int, Any], Number], ...]
"""Atoms with exponents, sorted. An atom is a kind, as below, and a name."""
Sum = dict[Monomial, Number]

ONE: Sum = {(): 1}
PRIME, CONSTANT, SYMBOL, FUNCTION = range(4)
"""The kinds of atoms."""
IMAGINARY, EULER = (CONSTANT, "i"), (CONSTANT, "e")


class BeyondError(ValueError):
    """The question is not of the kind that is decided here, or too large."""


class OtherError(BeyondError):
    """A power or logarithm that is no product of powers of primes and constants."""


class Budget:
    """A number of steps of work."""

    def __init__(self, steps: int) -> None:
        self._left = steps
        self._whole: Budget | None = None

    def spend(self, steps: int) -> None:
        """Take ``steps`` away.

        Raises:
            BeyondError: There are no more.
        """
        self._left -= steps
        if self._left < 0:
            raise BeyondError("too many steps")
        if self._whole is not None:
            self._whole.spend(steps)

    def share(self, steps: int) -> Budget:
        """A budget of ``steps`` at most, which are taken from this one too."""
        share = Budget(steps)
        share._whole = self
        return share


def whole(value: Number) -> Number:
    """The number, as an int where it is one."""
    return value.numerator if value.denominator == 1 else value


def small(value: Number) -> Number:
    """The number itself, unless it is too large."""
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise BeyondError("a large number")
    return value


def without_zeros(terms: Sum) -> Sum:
    """The terms that have a coefficient."""
    return {key: value for key, value in terms.items() if value}


def times(left: Monomial, right: Monomial) -> tuple[Monomial, Number]:
    """The product of two monomials, and the rational factor that comes out of it."""
    if not left or not right:
        return left or right, 1
    exponents = dict(left)
    for atom, exponent in right:
        exponents[atom] = exponents.get(atom, 0) + exponent
    return _reduced(exponents)


def _reduced(exponents: dict[tuple[int, Any], Number]) -> tuple[Monomial, Number]:
    factor: Number = 1
    for atom, exponent in exponents.items():
        if atom[0] == PRIME:
            whole = exponent // 1
            if abs(whole) * atom[1].bit_length() > MAX_BITS:
                raise BeyondError("a large number")
            factor *= atom[1] ** whole if whole >= 0 else Fraction(1, atom[1] ** -whole)
            exponents[atom] = exponent - whole
        elif atom == IMAGINARY:
            factor *= -1 if exponent % 4 >= 2 else 1
            exponents[atom] = exponent % 2
    return tuple(sorted(item for item in exponents.items() if item[1])), factor


def one_term_raised(base: Sum, exponent: Number) -> Sum:
    """A power of a sum of one term. Only what is surely positive has fractional powers."""
    ((monomial, factor),) = base.items()
    if abs(exponent.numerator) > MAX_EXPONENT * exponent.denominator:
        raise BeyondError("a large exponent")
    if exponent.denominator == 1:
        size = max(factor.numerator.bit_length(), factor.denominator.bit_length())
        if factor not in (1, -1) and size * abs(exponent.numerator) > MAX_BITS:
            raise BeyondError("a large number")
        raised, carried = _reduced({atom: whole(power * exponent) for atom, power in monomial})
        return {raised: whole(Fraction(factor) ** int(exponent) * carried)}
    raised, carried = _reduced(
        {a: power * exponent for a, power in positive_exponents(base).items()}
    )
    return {raised: carried}


def positive_exponents(base: Sum) -> dict[tuple[int, Any], Number]:
    """The exponents of primes and constants in a sum of one term that is surely positive."""
    ((monomial, factor),) = base.items()
    if factor < 0 or any(atom[0] >= SYMBOL or atom == IMAGINARY for atom, _ in monomial):
        raise OtherError
    exponents = dict(monomial)
    for number, sign in ((factor.numerator, 1), (factor.denominator, -1)):
        for prime, count in _factors(number).items():
            exponents[PRIME, prime] = exponents.get((PRIME, prime), 0) + sign * count
    return exponents


def _factors(number: int) -> dict[int, int]:
    """The prime factors of a number whose factors, but one, are below ``MAX_PRIME``."""
    found: dict[int, int] = {}
    prime = 2
    while prime * prime <= number and prime < MAX_PRIME:
        while number % prime == 0:
            found[prime] = found.get(prime, 0) + 1
            number //= prime
        prime += 1 if prime == 2 else 2
    if number >= MAX_PRIME**2:
        raise OtherError
    if number > 1:
        found[number] = found.get(number, 0) + 1
    return found
