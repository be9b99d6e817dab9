"""Problems on tables and texts."""

from __future__ import annotations

from fractions import Fraction
from random import Random
from statistics import median

from rl_envs.text.python_problems.problem import Problem

CITIES = ("Bergen", "Cork", "Delft", "Graz", "Lyon", "Porto", "Turin", "Vilnius")
GOODS = ("apples", "bricks", "cables", "lamps", "nails", "paper", "ropes", "tiles")
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "la", "me", "ni", "po", "ru", "sta", "tre", "vin", "zo")
ALPHABET = "abcdefghijklmnopqrstuvwxyz"

Row = tuple[str, str, int, int]
"""City, good, amount, price."""


def statistics(rng: Random, difficulty: int) -> Problem:
    """A question to a table: a sum, a mean, a variance."""
    rows = _rows(rng, 8 + 10 * difficulty)
    setting, reading = _shown(rows)
    city = rng.choice(rows)[0]
    low = sorted(row[2] for row in rows)[len(rows) // 3]
    if difficulty == 1:
        chosen = [row for row in rows if row[0] == city]
        return Problem(
            f"{setting}What is the sum of amount * price over the rows of {city}?",
            str(sum(row[2] * row[3] for row in chosen)),
            f"{reading}print(sum(int(r['amount']) * int(r['price']) for r in rows "
            f"if r['city'] == '{city}'))",
        )
    kept = [row for row in rows if row[0] != city and row[2] >= low]
    if difficulty == 2:
        return Problem(
            f"{setting}What is the mean price of the rows that are not of {city} and have an "
            f"amount of at least {low}? Give it as an integer or as a fraction in lowest terms.",
            str(Fraction(sum(row[3] for row in kept), len(kept))),
            f"from fractions import Fraction\n{reading}kept = [int(r['price']) for r in rows "
            f"if r['city'] != '{city}' and int(r['amount']) >= {low}]\n"
            "print(Fraction(sum(kept), len(kept)))",
        )
    values = [Fraction(row[2] * row[3]) for row in kept]
    mean = sum(values) / len(values)
    spread = sum((value - mean) ** 2 for value in values) / len(values)
    middle = Fraction(median([row[3] for row in kept]))
    return Problem(
        f"{setting}Take the rows that are not of {city} and have an amount of at least {low}. "
        "What is the population variance of amount * price over them, plus the median of their "
        "prices? Give it as an integer or as a fraction in lowest terms.",
        str(spread + middle),
        f"from fractions import Fraction as F\nfrom statistics import median, pvariance\n{reading}"
        f"kept = [r for r in rows if r['city'] != '{city}' and int(r['amount']) >= {low}]\n"
        "print(pvariance([F(int(r['amount']) * int(r['price'])) for r in kept]) "
        "+ F(median([int(r['price']) for r in kept])))",
    )


def groups(rng: Random, difficulty: int) -> Problem:
    """A question to the groups of a table."""
    rows = _rows(rng, 10 + 10 * difficulty)
    setting, reading = _shown(rows)
    by_good: dict[str, list[Row]] = {}
    for row in rows:
        by_good.setdefault(row[1], []).append(row)
    grouping = "by = {}\nfor r in rows:\n    by.setdefault(r['good'], []).append(r)\n"
    if difficulty == 1:
        return Problem(
            f"{setting}For each good take its largest price. What is the sum of these prices?",
            str(sum(max(row[3] for row in each) for each in by_good.values())),
            f"{reading}{grouping}"
            "print(sum(max(int(r['price']) for r in each) for each in by.values()))",
        )
    if difficulty == 2:
        totals = sorted((sum(row[2] for row in each), good) for good, each in by_good.items())
        ranked = [total for total, _ in totals]
        return Problem(
            f"{setting}Add up the amounts of each good, and sort these totals from the smallest to "
            "the largest. Multiply the first by 1, the second by 2, the third by 3 and so on. "
            "What is the sum of the products?",
            str(sum(n * total for n, total in enumerate(ranked, 1))),
            f"{reading}{grouping}"
            "totals = sorted(sum(int(r['amount']) for r in each) for each in by.values())\n"
            "print(sum((i + 1) * t for i, t in enumerate(totals)))",
        )
    total = Fraction(0)
    for each in by_good.values():
        mean = Fraction(sum(row[3] for row in each), len(each))
        total += sum(row[2] * (row[3] - mean) ** 2 for row in each)
    return Problem(
        f"{setting}For each row take the difference of its price and the mean price of all rows "
        "with the same good (a plain mean over rows), square it, and multiply it by the row's "
        "amount. What is the sum over all rows? Give it as an integer or as a fraction in lowest "
        "terms.",
        str(total),
        f"from fractions import Fraction as F\n{reading}{grouping}total = F(0)\n"
        "for each in by.values():\n    mean = F(sum(int(r['price']) for r in each), len(each))\n"
        "    total += sum(int(r['amount']) * (int(r['price']) - mean) ** 2 for r in each)\n"
        "print(total)",
    )


def strings(rng: Random, difficulty: int) -> Problem:
    """Letters and words of a text, counted, sorted, moved."""
    listed = [
        "".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(10 + 10 * difficulty)
    ]
    text = " ".join(listed)
    setting, reading = f"Text: {text}\n", f"words = '''{text}'''.split()\n"
    if difficulty == 1:
        letter = rng.choice("aeiou")
        value = sum(n * len(word) for n, word in enumerate(listed, 1) if letter in word)
        return Problem(
            f"{setting}Number the words from 1. For each word that contains the letter {letter}, "
            "multiply its number by its length. What is the sum?",
            str(value),
            f"{reading}print(sum((i + 1) * len(w) for i, w in enumerate(words) "
            f"if '{letter}' in w))",
        )
    if difficulty == 2:
        ranked = sorted(listed, key=lambda word: (word[::-1], word))
        value = sum(n * sum(map(_place, word)) for n, word in enumerate(ranked, 1))
        return Problem(
            f"{setting}Sort the words by their spelling backwards (as if each were read from its "
            "last letter to its first; a word that is the beginning of another comes before it). "
            "The worth of a word is the sum of the places of its letters in the alphabet (a = 1). "
            "Multiply the worth of the first word by 1, of the second by 2 and so on. "
            "What is the sum?",
            str(value),
            f"{reading}words.sort(key=lambda w: w[::-1])\n"
            "print(sum((i + 1) * sum(ord(c) - 96 for c in w) for i, w in enumerate(words)))",
        )
    step, start = rng.randint(3, 11), rng.randint(1, 25)
    joined = "".join(word[::-1] if n % 2 == 0 else word for n, word in enumerate(listed, 1))
    moved = "".join(
        ALPHABET[(_place(letter) - 1 + start + n) % 26] for n, letter in enumerate(joined)
    )
    return Problem(
        f"{setting}Reverse every second word (the 2nd, the 4th and so on), then join all words "
        f"without spaces. Move the first letter of the result {start} places on in the alphabet, "
        f"the second {start + 1}, the third {start + 2} and so on; after z comes a. Of this, take "
        f"the letters number {step}, {2 * step}, {3 * step} and so on (counted from 1). Which "
        "string do they make?",
        moved[step - 1 :: step],
        f"{reading}s = ''.join(w[::-1] if i % 2 else w for i, w in enumerate(words))\n"
        f"s = ''.join(chr((ord(c) - 97 + {start} + i) % 26 + 97) for i, c in enumerate(s))\n"
        f"print(s[{step} - 1::{step}])",
        "text",
    )


def _rows(rng: Random, count: int) -> list[Row]:
    cities, goods = rng.sample(CITIES, 4), rng.sample(GOODS, 5)
    return [
        (rng.choice(cities), rng.choice(goods), rng.randint(2, 99), rng.randint(105, 999))
        for _ in range(count)
    ]


def _shown(rows: list[Row]) -> tuple[str, str]:
    """A table in the question, and how a program reads it."""
    csv = "\n".join(["city,good,amount,price", *(",".join(map(str, row)) for row in rows)])
    reading = f"import csv, io\nrows = list(csv.DictReader(io.StringIO('''{csv}''')))\n"
    return f"A table in CSV:\n{csv}\n", reading


def _place(letter: str) -> int:
    return ALPHABET.index(letter) + 1
