"""Problems of numbers and algebra."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random

from rl_envs.text.python_problems.problem import Problem

_PRIMES = [p for p in range(2, 200) if all(p % d for d in range(2, p))]


def number_theory(rng: Random, difficulty: int) -> Problem:
    """A modular power; a sum of divisors; a system of congruences."""
    if difficulty == 1:
        base, power = rng.randint(1000, 99_999), rng.randint(1000, 999_999)
        modulus = rng.randint(10_000, 999_999)
        return Problem(
            f"What is the remainder of {base}^{power} divided by {modulus}?",
            str(pow(base, power, modulus)),
            f"print(pow({base}, {power}, {modulus}))",
        )
    if difficulty == 2:
        factors = {rng.choice(_PRIMES): rng.randint(1, 3) for _ in range(4)}
        number = math.prod(p**k for p, k in factors.items())
        total = math.prod((p ** (k + 1) - 1) // (p - 1) for p, k in factors.items())
        return Problem(
            f"What is the sum of all positive divisors of {number}, 1 and itself included?",
            str(total),
            f"n = {number}\ntotal, p = 1, 2\nwhile n > 1:\n    term = 1\n"
            "    while n % p == 0:\n        n //= p\n        term = term * p + 1\n"
            "    total *= term\n    p += 1\nprint(total)",
        )
    moduli = rng.sample(_PRIMES[3:], 6)
    number = rng.randrange(math.prod(moduli) // 100, math.prod(moduli))
    rests = [(p, number % p) for p in moduli]
    asked = ", ".join(f"{rest} modulo {p}" for p, rest in rests)
    return Problem(
        f"What is the smallest non-negative integer that is congruent to {asked}?",
        str(number),
        f"x, step = 0, 1\nfor p, rest in {rests}:\n    while x % p != rest:\n        x += step\n"
        "    step *= p\nprint(x)",
    )


def linear_system(rng: Random, difficulty: int) -> Problem:
    """Equations with one solution; a weighted sum of the unknowns is asked for."""
    size = difficulty + 2
    while True:
        rows = [[rng.randint(-9, 9) for _ in range(size)] for _ in range(size)]
        if _determinant(rows) != 0:
            break
    names = [f"x{n + 1}" for n in range(size)]
    if difficulty < 3:
        solution = [Fraction(rng.randint(-40, 40)) for _ in names]
    else:
        solution = [Fraction(rng.randint(-99, 99), rng.choice((2, 3, 5, 7))) for _ in names]
        common = math.lcm(*(x.denominator for x in solution))
        rows = [[common * a for a in row] for row in rows]
    right = [int(sum(a * x for a, x in zip(row, solution, strict=True))) for row in rows]
    weights = [rng.randint(2, 30) for _ in names]
    answer = sum(w * x for w, x in zip(weights, solution, strict=True))
    lines = [f"{_sum(row, names)} = {b}" for row, b in zip(rows, right, strict=True)]
    matrix = [[*row, b] for row, b in zip(rows, right, strict=True)]
    return Problem(
        "Solve the system\n" + "\n".join(lines) + f"\nWhat is {_sum(weights, names)}? "
        "Give it as an integer or as a fraction in lowest terms.",
        str(answer),
        f"from fractions import Fraction\nm = [[Fraction(v) for v in row] for row in {matrix}]\n"
        "n = len(m)\nfor i in range(n):\n"
        "    p = next(r for r in range(i, n) if m[r][i])\n    m[i], m[p] = m[p], m[i]\n"
        "    m[i] = [v / m[i][i] for v in m[i]]\n    for r in range(n):\n        if r != i:\n"
        "            m[r] = [a - m[r][i] * b for a, b in zip(m[r], m[i])]\n"
        f"print(sum(w * row[-1] for w, row in zip({weights}, m)))",
    )


def polynomials(rng: Random, difficulty: int) -> Problem:
    """A value; a coefficient of a product of powers; an iterated value."""
    coefficients = [rng.randint(-30, 30) or 1 for _ in range(3 + difficulty)]
    shown = _polynomial(coefficients)
    if difficulty == 1:
        x = rng.randint(101, 999)
        return Problem(
            f"What is p({x}) for p(x) = {shown}?",
            str(_horner(coefficients, x)),
            f"x = {x}\nprint({_as_code(coefficients)})",
        )
    if difficulty == 2:
        (a, b), (c, d) = ((rng.randint(2, 9), rng.randint(2, 9)) for _ in range(2))
        n, m = rng.randint(6, 12), rng.randint(6, 12)
        k = rng.randint(5, n + m - 5)
        value = sum(
            math.comb(n, i) * b**i * a ** (n - i)
            * math.comb(m, k - i) * d ** (k - i) * c ** (m - k + i)
            for i in range(max(0, k - m), min(n, k) + 1)
        )  # fmt: skip
        return Problem(
            f"What is the coefficient of x^{k} in ({a} + {b}x)^{n} * ({c} + {d}x)^{m}?",
            str(value),
            f"p = [1]\nfor a, b, n in (({a}, {b}, {n}), ({c}, {d}, {m})):\n"
            "    for _ in range(n):\n"
            "        p = [a * u + b * v for u, v in zip(p + [0], [0] + p)]\n"
            f"print(p[{k}])",
        )
    x, times, modulus = rng.randint(2, 99), rng.randint(50, 2000), rng.randint(10**6, 10**7)
    value = x
    for _ in range(times):
        value = _horner(coefficients, value) % modulus
    return Problem(
        f"Let f(x) be the remainder (non-negative) of {shown} divided by {modulus}. Beginning "
        f"with x = {x}, f is applied {times} times, each time to the last result. "
        "What is the result?",
        str(value),
        f"x = {x}\nfor _ in range({times}):\n    x = ({_as_code(coefficients)}) % {modulus}\n"
        "print(x)",
    )


def digits(rng: Random, difficulty: int) -> Problem:
    """Digits of a power; numbers with a sum of digits; a number in another base."""
    if difficulty == 1:
        base, power = rng.randint(12, 99), rng.randint(60, 300)
        return Problem(
            f"What is the sum of the decimal digits of {base}^{power}?",
            str(sum(map(int, str(base**power)))),
            f"print(sum(map(int, str({base} ** {power}))))",
        )
    if difficulty == 2:
        found = 0
        while not found:  # some divisors and sums of digits exclude each other
            top, divisor = rng.randint(5_000, 20_000), rng.randint(3, 13)
            total = rng.randint(12, 24)
            found = sum(n for n in range(0, top, divisor) if sum(map(int, str(n))) == total)
        return Problem(
            f"What is the sum of all positive integers below {top} that are divisible by "
            f"{divisor} and whose decimal digits add up to {total}?",
            str(found),
            f"print(sum(n for n in range({top}) if n % {divisor} == 0 and "
            f"sum(map(int, str(n))) == {total}))",
        )
    number, base = rng.randint(10**18, 10**24), rng.randint(3, 9)
    places, left = [], number
    while left:
        left, place = divmod(left, base)
        places.append(place)
    value = sum(n * place for n, place in enumerate(reversed(places), 1))
    return Problem(
        f"Write {number} in base {base}. Multiply the first digit from the left by 1, the second "
        "by 2, the third by 3 and so on. What is the sum of the products?",
        str(value),
        f"n, found = {number}, []\nwhile n:\n    found.insert(0, n % {base})\n    n //= {base}\n"
        "print(sum((i + 1) * d for i, d in enumerate(found)))",
    )


def recurrence(rng: Random, difficulty: int) -> Problem:
    """A far term of a recurrence, modulo a number."""
    order = difficulty + 1
    factors = [rng.randint(1, 9) for _ in range(order)]
    first = [rng.randint(1, 99) for _ in range(order)]
    index = rng.randint(300 * difficulty, 1000 * difficulty)
    modulus = rng.randint(10**5, 10**6)
    terms = list(first)
    while len(terms) <= index:
        terms.append(sum(f * t for f, t in zip(factors, terms[: -order - 1 : -1], strict=True)))
        terms[-1] %= modulus
    rule = " + ".join(f"{f}*a(n-{k})" for k, f in enumerate(factors, 1))
    starts = ", ".join(f"a({n}) = {value}" for n, value in enumerate(first))
    return Problem(
        f"A sequence has {starts}, and a(n) = {rule} from n = {order} on. What is the remainder "
        f"of a({index}) divided by {modulus}?",
        str(terms[index] % modulus),
        f"a = {first}\nfor n in range({order}, {index} + 1):\n"
        f"    a = a[1:] + [sum(f * v for f, v in zip({factors}, a[::-1])) % {modulus}]\n"
        f"print(a[-1] % {modulus})",
    )


def _sum(factors: list[int], names: list[str]) -> str:
    terms = [f"{f}*{name}" for f, name in zip(factors, names, strict=True) if f]
    return " + ".join(terms).replace("+ -", "- ")


def _polynomial(coefficients: list[int]) -> str:
    top = len(coefficients) - 1
    terms = [f"{c}*x^{top - n}" for n, c in enumerate(coefficients[:-1])]
    return " + ".join([*terms, str(coefficients[-1])]).replace("+ -", "- ")


def _as_code(coefficients: list[int]) -> str:
    return _polynomial(coefficients).replace("^", "**")


def _horner(coefficients: list[int], x: int) -> int:
    value = 0
    for coefficient in coefficients:
        value = value * x + coefficient
    return value


def _determinant(rows: list[list[int]]) -> Fraction:
    matrix = [[Fraction(value) for value in row] for row in rows]
    product = Fraction(1)
    while matrix:
        pivot = next((row for row in matrix if row[0]), None)
        if pivot is None:
            return Fraction(0)
        matrix.remove(pivot)
        product *= pivot[0]
        matrix = [
            [a - row[0] / pivot[0] * b for a, b in zip(row[1:], pivot[1:], strict=True)]
            for row in matrix
        ]
    return product
