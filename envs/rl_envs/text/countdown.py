"""Reach a target with the four operations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from rl_envs.core import TextEnv
from rl_envs.tasks import DataError, GeneratedTasks
from rl_envs.text.expressions import ExpressionError, evaluate
from rl_envs.types import Task
from rl_verifiers.extract import boxed
from rl_verifiers.score import Row, Score

DIFFICULTY: dict[int, dict[str, int]] = {
    1: {"count": 2, "high": 9, "max_target": 99},
    2: {"count": 3, "high": 9, "max_target": 99},
    3: {"count": 3, "high": 25, "max_target": 200},
    4: {"count": 4, "high": 50, "max_target": 500},
    5: {"count": 6, "high": 100, "max_target": 999},
}
DEFAULTS = {"count": 4, "high": 25, "max_target": 100}

QUESTIONS = {
    "compact": "{numbers}>{target}",
    "instruction": (
        "Use the numbers {numbers} with + - * / and parentheses to make {target}, "
        "each number {times} once. Put the expression in \\boxed{{}}."
    ),
}


class Countdown(TextEnv):
    r"""Make a target from given numbers with + - * /; the last \boxed{} holds the expression.

    Problems are made backwards, by combining numbers, so that each has a solution.

    Args:
        count: How many numbers.
        high: The largest number; the smallest is 1.
        max_target: The largest target; the smallest is 1.
        difficulty: 1 to 5: a preset of the three above; any of them given beside it wins.
        exactly: Whether every number must be used (once); False: each at most once.
        question: ``instruction`` or ``compact`` (``3,7,25>46``).
        seed: Seeds the problems.
        options: Those of ``TextEnv``.
    """

    styles = ("solution",)
    source = "generated backwards from a solution"

    def __init__(
        self,
        *,
        count: int | None = None,
        high: int | None = None,
        max_target: int | None = None,
        difficulty: int | None = None,
        exactly: bool = False,
        question: str = "instruction",
        seed: int = 0,
        **options: Any,
    ) -> None:
        if difficulty is not None and difficulty not in DIFFICULTY:
            raise DataError(f"difficulty is {difficulty!r}; it must be 1 to {max(DIFFICULTY)}")
        given: dict[str, int | None] = {"count": count, "high": high, "max_target": max_target}
        preset = DEFAULTS if difficulty is None else DIFFICULTY[difficulty]
        sizes = {key: preset[key] if value is None else value for key, value in given.items()}
        if not 2 <= sizes["count"] <= 10 or sizes["high"] < 2 or sizes["max_target"] < 2:
            raise DataError(f"{sizes}: need count within 2..10, and high and max_target above 1")
        if question not in QUESTIONS:
            raise DataError(f"question is {question!r}; it must be one of {', '.join(QUESTIONS)}")
        self.rules = Rules(**sizes, exactly=exactly, question=question)
        self.seed_of_tasks = seed
        super().__init__(**options)

    def load_tasks(self, split: str) -> GeneratedTasks:
        """Problems without end; a problem is its numbers and its target, in any order."""
        return GeneratedTasks(partial(drawn, self.rules), seed=self.seed_of_tasks, split=split)

    def score(self, completion: str, row: Row) -> Score:
        """Right if the boxed expression has the target's value and uses only the given numbers."""
        expression = boxed(completion)
        if expression is None:
            return Score.wrong("no closed \\boxed{}", status="no_answer")
        try:
            value, used = evaluate(expression)
        except ExpressionError as error:
            return Score.wrong(str(error), status="unparsable")
        held: Counter[int] = Counter(row["numbers"])
        taken = Counter(used)
        if taken != held if row["exactly"] else taken - held:
            return Score.wrong(f"uses {sorted(used)} of {sorted(row['numbers'])}")
        if value != row["target"]:
            return Score.wrong(f"gives {value}, not {row['target']}")
        return Score.correct()

    def demonstration(self, task: Task, style: str, rng: np.random.Generator) -> str:
        """The solution that the problem was made from."""
        return f"\\boxed{{{task.answer}}}"


@dataclass(frozen=True)
class Rules:
    """What problems there are and how they are put."""

    count: int
    high: int
    max_target: int
    exactly: bool
    question: str


def drawn(rules: Rules, rng: np.random.Generator) -> Task:
    """A problem with a solution: numbers are combined two by two until the target is left."""
    while True:
        numbers = rng.integers(1, rules.high + 1, size=rules.count).tolist()
        fewest = rules.count if rules.exactly else max(2, rules.count - 1)
        used = int(rng.integers(fewest, rules.count + 1))
        target, solution = _combined(numbers[:used], rng)
        if 1 <= target <= rules.max_target and target not in numbers:
            break
    numbers = rng.permutation(numbers).tolist()  # or the order would give the solution away
    shown = ", ".join(map(str, numbers)) if rules.question == "instruction" else None
    times = "exactly" if rules.exactly else "at most"
    prompt = QUESTIONS[rules.question].format(
        numbers=shown or ",".join(map(str, numbers)), target=target, times=times
    )
    return Task(
        id=f"{','.join(map(str, sorted(numbers)))}>{target}",
        prompt=prompt,
        answer=solution,
        info={"numbers": tuple(numbers), "target": target, "exactly": rules.exactly},
    )


def _combined(numbers: list[int], rng: np.random.Generator) -> tuple[int, str]:
    """One value made of all the numbers, every step a non-negative integer, and how."""
    pool = [(number, str(number)) for number in numbers]
    kinds = rng.integers(len("+-*/"), size=len(numbers) - 1).tolist()
    for kind, (first, second) in zip(kinds, rng.random((len(kinds), 2)).tolist(), strict=True):
        right, how_right = pool.pop(int(first * len(pool)))
        left, how_left = pool.pop(int(second * len(pool)))
        if left < right:
            left, how_left, right, how_right = right, how_right, left, how_left
        if kind == 3 and right and left % right == 0:
            value, sign = left // right, "/"
        elif kind == 2:
            value, sign = left * right, "*"
        elif kind == 1:
            value, sign = left - right, "-"
        else:
            value, sign = left + right, "+"
        pool.append((value, f"({how_left}{sign}{how_right})"))
    value, how = pool[0]
    return value, how[1:-1]
