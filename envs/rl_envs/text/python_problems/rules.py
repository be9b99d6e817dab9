"""Problems of counting, dates, rules that are followed, and roads."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from random import Random

from rl_envs.text.python_problems.problem import Problem

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def counting(rng: Random, difficulty: int) -> Problem:
    """Ways to pay; ways through a grid; texts without a pattern."""
    if difficulty == 1:
        coins = [2, 3, *sorted(rng.sample(range(5, 30), 3))]
        amount = rng.randint(150, 400)
        ways = [1] + [0] * amount
        for coin in coins:
            for total in range(coin, amount + 1):
                ways[total] += ways[total - coin]
        return Problem(
            f"In how many ways can {amount} be paid with coins of {_list(coins)}, any number of "
            "each, where the order does not matter?",
            str(ways[amount]),
            f"ways = [1] + [0] * {amount}\nfor c in {coins}:\n"
            f"    for t in range(c, {amount} + 1):\n        ways[t] += ways[t - c]\n"
            f"print(ways[{amount}])",
        )
    if difficulty == 2:
        return _grid(rng)
    length, banned = rng.randint(15, 40), "".join(rng.choice("abc") for _ in range(4))
    counts = {"": 1}
    for _ in range(length):
        after: dict[str, int] = {}
        for end, count in counts.items():
            for letter in "abc":
                text = end + letter
                if text.endswith(banned):
                    continue
                kept = next(text[i:] for i in range(len(text) + 1) if banned.startswith(text[i:]))
                after[kept] = after.get(kept, 0) + count
        counts = after
    return Problem(
        f"How many strings of {length} letters, each a, b or c, do not contain {banned!r} in "
        "consecutive places?",
        str(sum(counts.values())),
        "from collections import Counter\ncounts = Counter({'': 1})\n"
        f"for _ in range({length}):\n    after = Counter()\n"
        "    for end, n in counts.items():\n        for letter in 'abc':\n"
        f"            if end + letter != {banned!r}:\n"
        "                after[(end + letter)[-3:]] += n\n    counts = after\n"
        "print(sum(counts.values()))",
    )


def _grid(rng: Random) -> Problem:
    width, height = rng.randint(9, 16), rng.randint(9, 16)
    cells = [(x, y) for x in range(width) for y in range(height)][1:-1]
    blocked = sorted(rng.sample(cells, 8))
    ways = {(0, 0): 1}
    for x in range(width):
        for y in range(height):
            if (x, y) in blocked:
                ways[x, y] = 0
            elif (x, y) != (0, 0):
                ways[x, y] = ways.get((x - 1, y), 0) + ways.get((x, y - 1), 0)
    goal = (width - 1, height - 1)
    return Problem(
        f"On a grid of cells (x, y) with x from 0 to {goal[0]} and y from 0 to {goal[1]}, a step "
        f"adds 1 to x or adds 1 to y. The cells {_list(blocked)} must not be entered. How many "
        f"ways lead from (0, 0) to {goal}?",
        str(ways[goal]),
        f"from functools import cache\nblocked = {blocked}\n@cache\ndef ways(x, y):\n"
        "    if x < 0 or y < 0 or (x, y) in blocked:\n        return 0\n"
        "    return 1 if x == y == 0 else ways(x - 1, y) + ways(x, y - 1)\n"
        f"print(ways{goal})",
    )


def dates(rng: Random, difficulty: int) -> Problem:
    """Days between; a number of working days on; days of two kinds in a span."""
    first = date(1950, 1, 1) + timedelta(rng.randrange(30_000))
    if difficulty == 1:
        last = first + timedelta(rng.randint(2_000, 20_000))
        return Problem(
            f"How many days after {first} is {last} (Gregorian calendar, year-month-day)?",
            str((last - first).days),
            f"from datetime import date\n"
            f"print((date.fromisoformat('{last}') - date.fromisoformat('{first}')).days)",
        )
    if difficulty == 2:
        count, day = rng.randint(150, 1500), first
        for _ in range(count):
            day += timedelta(3 if day.weekday() == 4 else 2 if day.weekday() == 5 else 1)
        return Problem(
            f"Count {count} working days (Monday to Friday) on from {first}, which is not counted "
            "itself. What is the date of the last one? Answer as year-month-day, such as "
            "2031-05-17.",
            day.isoformat(),
            f"from datetime import date, timedelta\nday, left = date.fromisoformat('{first}'), "
            f"{count}\nwhile left:\n    day += timedelta(1)\n    left -= day.weekday() < 5\n"
            "print(day)",
            "text",
        )
    span, weekday, divisor = rng.randint(3_000, 9_000), rng.randrange(7), rng.randint(2, 7)
    days = [first + timedelta(n) for n in range(span)]
    value = sum(d.weekday() == weekday and (d.day + d.month) % divisor == 0 for d in days)
    return Problem(
        f"How many {_WEEKDAYS[weekday]}s from {first} to {days[-1]} (both included) have a day of "
        f"the month and a month number (1 to 12) whose sum is divisible by {divisor}?",
        str(value),
        "from datetime import date, timedelta\n"
        f"day, last, n = date.fromisoformat('{first}'), date.fromisoformat('{days[-1]}'), 0\n"
        f"while day <= last:\n    n += day.weekday() == {weekday} and "
        f"(day.day + day.month) % {divisor} == 0\n    day += timedelta(1)\nprint(n)",
    )


def simulation(rng: Random, difficulty: int) -> Problem:
    """A fixed rule, applied many times: a generator of numbers; an account; cells."""
    if difficulty == 1:
        x, a, c = rng.randint(1, 9999), rng.randint(100, 9999), rng.randint(1, 9999)
        m, times = rng.randint(10_000, 99_999), rng.randint(20, 300)
        value = x
        for _ in range(times):
            value = (a * value + c) % m
        return Problem(
            f"Begin with x = {x}. Replace x by the remainder of {a}*x + {c} divided by {m}; do "
            f"this {times} times. What is x then?",
            str(value),
            f"x = {x}\nfor _ in range({times}):\n    x = ({a} * x + {c}) % {m}\nprint(x)",
        )
    if difficulty == 2:
        return _account(rng)
    width, steps = rng.randint(18, 24), rng.randint(20, 60)
    state: list[int] = []
    while len(set(state)) < 2:  # or everything has died out
        rule, cells = rng.randint(30, 225), [rng.randint(0, 1) for _ in range(width)]
        state = cells
        for _ in range(steps):
            state = [
                rule >> (4 * state[i - 1] + 2 * state[i] + state[(i + 1) % width]) & 1
                for i in range(width)
            ]
    shown = "".join(map(str, cells))
    return Problem(
        f"A ring of {width} cells holds 0 or 1, at first {shown}. In a step each cell becomes bit "
        f"number 4*left + 2*itself + right of the number {rule} (bit 0 is the lowest), all at "
        f"once; the first and the last cell are neighbours. After {steps} steps the cells are "
        "read as a string, as above. Which?",
        "".join(map(str, state)),
        f"s = '{shown}'\nfor _ in range({steps}):\n    n = len(s)\n"
        f"    s = ''.join(str({rule} >> int(s[i - 1] + s[i] + s[(i + 1) % n], 2) & 1) "
        "for i in range(n))\nprint(s)",
        "text",
    )


def _account(rng: Random) -> Problem:
    cents, percent = rng.randint(10_000, 90_000), rng.randint(2, 9)
    fee, months = rng.randint(11, 99), rng.randint(24, 120)
    deposit, every = rng.randint(500, 5000), rng.randint(3, 7)
    value = cents
    for month in range(1, months + 1):
        value += value * percent // 1200 - fee + (deposit if month % every == 0 else 0)
    return Problem(
        f"An account holds {cents} cents. At the end of each month it earns {percent}/1200 of "
        f"what it holds, rounded down to whole cents, then {fee} cents are taken off, and in the "
        f"months {every}, {2 * every}, {3 * every} and so on {deposit} cents are paid in after "
        f"that. How many cents does it hold after {months} months?",
        str(value),
        f"v = {cents}\nfor month in range(1, {months} + 1):\n    v += v * {percent} // 1200\n"
        f"    v -= {fee}\n    if month % {every} == 0:\n        v += {deposit}\nprint(v)",
    )


def paths(rng: Random, difficulty: int) -> Problem:
    """The shortest way through a network of roads."""
    size = 3 + 4 * difficulty
    nodes = [chr(ord("A") + n) for n in range(size)]
    edges = {pair: rng.randint(101, 999) for pair in pairwise(rng.sample(nodes, size))}
    while len(edges) < 2 * size:
        pair = tuple(rng.sample(nodes, 2))
        if pair not in edges and pair[::-1] not in edges:
            edges[pair[0], pair[1]] = rng.randint(101, 999)
    far = {(a, b): 0 if a == b else 10**9 for a in nodes for b in nodes}
    for (a, b), length in edges.items():
        far[a, b] = far[b, a] = length
    for k in nodes:
        for a in nodes:
            for b in nodes:
                far[a, b] = min(far[a, b], far[a, k] + far[k, b])
    goal = max(nodes[1:], key=lambda node: far["A", node])
    roads = [(a, b, length) for (a, b), length in edges.items()]
    listed = ", ".join(f"{a}-{b} {length}" for a, b, length in roads)
    return Problem(
        f"Roads, both ways, with their lengths: {listed}. How long is the shortest way from A to "
        f"{goal}?",
        str(far["A", goal]),
        f"roads = {roads}\nfar = {{'A': 0}}\nfor _ in range({size}):\n"
        "    for a, b, n in roads + [(b, a, n) for a, b, n in roads]:\n"
        "        if a in far and far[a] + n < far.get(b, 1e9):\n            far[b] = far[a] + n\n"
        f"print(far['{goal}'])",
    )


def _list(items: list[int] | list[tuple[int, int]]) -> str:
    *most, last = map(str, items)
    return f"{', '.join(most)} and {last}"
