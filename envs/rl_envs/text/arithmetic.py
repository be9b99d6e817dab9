"""Sums and products of a few small integers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from rl_envs.core import TextEnv
from rl_envs.tasks import TEST_FRACTION, DataError, EnumeratedTasks, GeneratedTasks, bucket
from rl_envs.types import Message, Task, TaskSource
from rl_verifiers.score import Row, Score

DIFFICULTY: dict[int, dict[str, Any]] = {
    1: {"terms": 2, "low": 1, "high": 9, "operators": "+"},
    2: {"terms": 3, "low": 1, "high": 9, "operators": "+"},
    3: {"terms": 4, "low": 1, "high": 9, "operators": "+-"},
    4: {"terms": 4, "low": 1, "high": 20, "operators": "+-*"},
    5: {"terms": 6, "low": 10, "high": 99, "operators": "+-*"},
}
DEFAULTS: dict[str, Any] = {"terms": 4, "low": 1, "high": 6, "operators": "+"}

QUESTIONS = {
    "compact": "{compact}=?",
    "spaced": "{spaced} = ?",
    "instruction": "What is {spaced}? Put the answer in \\boxed{{}}.",
}
ENUMERABLE = 20_000
"""Problem sets up to this size are listed and split; larger ones are generated."""

_BARE_BOX = re.compile(r"\\boxed\{-?[0-9]{1,100}\}")
_DIGITS = r"[1-9][0-9]{0,2}(?:,[0-9]{3}){1,33}|[0-9]{1,100}"
_BOXED_INTEGER = re.compile(rf"\\boxed\{{ {{0,9}}(?:\+(?!-))?(-?(?:{_DIGITS})) {{0,9}}\}}")


class Arithmetic(TextEnv):
    r"""Work out a sum such as 3+5+2+6; the last \boxed{n} must be its value.

    Spaces inside the box, a plus and commas between thousands do no harm to the value.

    Args:
        terms: Operands in a problem.
        low: The smallest operand.
        high: The largest operand.
        operators: Which of ``+-*`` may stand between operands; ``*`` binds first.
        difficulty: 1 to 5: a preset of the four above; any of them given beside it wins.
        question: ``compact`` (``3+5=?``), ``spaced`` (``3 + 5 = ?``) or ``instruction``.
        examples: How many solved problems stand before the question, as chat turns.
        format_reward: The part of the reward for a reply that is exactly ``\boxed{integer}``, no
            space, plus or comma; the rest is for the right value. 0: the value alone counts.
        test_fraction: The share of problems kept for the test split.
        seed: Seeds generated problems (sets too large to list).
        options: Those of ``TextEnv``.
    """

    styles = ("worked", "terse", "english", "german")
    source = "all problems of a range, or generated"

    def __init__(
        self,
        *,
        terms: int | None = None,
        low: int | None = None,
        high: int | None = None,
        operators: str | None = None,
        difficulty: int | None = None,
        question: str = "compact",
        examples: int = 0,
        format_reward: float = 0.0,
        test_fraction: float = TEST_FRACTION,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if difficulty is not None and difficulty not in DIFFICULTY:
            raise DataError(f"difficulty is {difficulty!r}; it must be 1 to {max(DIFFICULTY)}")
        given = {"terms": terms, "low": low, "high": high, "operators": operators}
        preset = DEFAULTS if difficulty is None else DIFFICULTY[difficulty]
        problems: dict[str, Any] = {
            k: preset[k] if value is None else value for k, value in given.items()
        }
        self.problems = Problems(**problems)
        if question not in QUESTIONS:
            raise DataError(f"question is {question!r}; it must be one of {', '.join(QUESTIONS)}")
        if not 0.0 <= format_reward <= 1.0:
            raise DataError(f"format_reward is {format_reward}; it must be within 0..1")
        self.question = question
        self.examples = examples
        self.format_reward = format_reward
        self.test_fraction = test_fraction
        self.seed_of_tasks = seed
        super().__init__(**options)

    def load_tasks(self, split: str) -> TaskSource:
        """Every problem of the split where they can be listed; generated ones otherwise."""
        asked = Asked(self.problems, self.question, self.examples, self.test_fraction)
        if self.problems.count <= ENUMERABLE:
            return _enumerated(asked, split)
        return GeneratedTasks(
            partial(_drawn, asked),
            seed=self.seed_of_tasks,
            split=split,
            test_fraction=self.test_fraction,
        )

    def score(self, completion: str, row: Row) -> Score:
        """Right if the last box holds the value; the format is right without anything beside it."""
        boxed = last_boxed_integer(completion)
        right = boxed == row["answer"]
        exact = _BARE_BOX.fullmatch(completion) is not None
        value = self.format_reward * exact + (1.0 - self.format_reward) * right
        return Score(
            value=value,
            passed=right,
            status="correct" if right else "no_answer" if boxed is None else "wrong",
            reason=f"boxed {boxed}, value {row['answer']}",
            parts={"answer": float(right), "format": float(exact)} if self.format_reward else {},
        )

    def demonstration(self, task: Task, style: str, rng: np.random.Generator) -> str:
        r"""``worked``: ``3+5=8,8+2=10 \boxed{10}``; ``terse``: ``\boxed{10}``.

        ``english``: ``first 3+5=8, then 8+2=10, so the sum is \boxed{10}``; ``german``: ``zuerst
        3+5=8, dann 8+2=10, also ist die summe \boxed{10}`` (where there are products or
        differences, ``result`` and ``das ergebnis``).
        """
        if style not in self.styles:
            raise DataError(f"Arithmetic has no style {style!r}; it has {', '.join(self.styles)}")
        boxed = f"\\boxed{{{task.answer}}}"
        if style == "terse":
            return boxed
        steps = _work(*_parse(task.id))
        if style == "worked":
            return f"{','.join(steps)} {boxed}"
        words = _WORDS[style]
        name = words.sum if set(_parse(task.id)[1]) == {"+"} else words.result
        return f"{words.first} {f', {words.then} '.join(steps)}, {words.so} {name} {boxed}"


class _Words(NamedTuple):
    """What stands between the steps of a demonstration in words."""

    first: str
    then: str
    so: str
    sum: str
    result: str


_WORDS = {
    "english": _Words("first", "then", "so", "the sum is", "the result is"),
    "german": _Words("zuerst", "dann", "also ist", "die summe", "das ergebnis"),
}


@dataclass(frozen=True)
class Problems:
    """A set of arithmetic problems.

    Raises:
        DataError: The set is empty or malformed.
    """

    terms: int
    low: int
    high: int
    operators: str

    def __post_init__(self) -> None:
        if self.terms < 2:
            raise DataError(f"terms is {self.terms}; it must be at least 2")
        if not 0 <= self.low <= self.high:
            raise DataError(f"operands from {self.low} to {self.high}; need 0 <= low <= high")
        if not self.operators or set(self.operators) - set("+-*"):
            raise DataError(f"operators is {self.operators!r}; it must be made of + - *")

    @property
    def count(self) -> int:
        """How many problems there are."""
        return (self.high - self.low + 1) ** self.terms * len(self.operators) ** (self.terms - 1)


def last_boxed_integer(text: str) -> str | None:
    r"""The integer of the last ``\boxed{``, or None where that box holds anything else.

    Spaces inside the box, a leading plus and commas between thousands are left out of it:
    ``\boxed{ +1,071 }`` gives ``1071``.
    """
    start = text.rfind("\\boxed{")
    found = _BOXED_INTEGER.match(text, start) if start >= 0 else None
    return found.group(1).replace(",", "") if found else None


@dataclass(frozen=True)
class Asked:
    """How problems are asked: the question's form, and solved problems as chat turns before it."""

    problems: Problems
    question: str
    examples: int
    test_fraction: float

    def task(self, operands: Sequence[int], operators: Sequence[str]) -> Task:
        """The task of a problem; its prompt is a text, or messages where there are examples."""
        task = _task(operands, operators, self.question)
        if not self.examples:
            return task
        turns: list[Message] = []
        for example in self._solved(task):
            turns.append(Message(role="user", content=str(example.prompt)))
            turns.append(Message(role="assistant", content=f"\\boxed{{{example.answer}}}"))
        return replace(task, prompt=(*turns, Message(role="user", content=str(task.prompt))))

    def _solved(self, task: Task) -> list[Task]:
        """Fixed problems of the train split, never the one that is asked."""
        problems, found = self.problems, dict[str, Task]()
        width = problems.high - problems.low + 1
        for start in range(2, 2 + width * width):
            stride = 1 + start // width
            steps = range(start, start + stride * problems.terms, stride)
            operands = [problems.low + step % width for step in steps]
            operator = problems.operators[start % len(problems.operators)]
            example = _task(operands, operator * (problems.terms - 1), self.question)
            if example.id != task.id and bucket(example.id, self.test_fraction) == "train":
                found[example.id] = example
            if len(found) == self.examples:
                return list(found.values())
        raise DataError(f"examples is {self.examples}; this range gives only {len(found)}")


@lru_cache(maxsize=32)
def _enumerated(asked: Asked, split: str) -> EnumeratedTasks:
    make, count = partial(_numbered, asked), asked.problems.count
    return EnumeratedTasks(make, count, split=split, test_fraction=asked.test_fraction)


def _numbered(asked: Asked, index: int) -> Task:
    """Problem ``index``, its digits in mixed base: operands first, then operators."""
    problems = asked.problems
    width = problems.high - problems.low + 1
    operands, operators = [], []
    for _ in range(problems.terms):
        index, digit = divmod(index, width)
        operands.append(problems.low + digit)
    for _ in range(problems.terms - 1):
        index, digit = divmod(index, len(problems.operators))
        operators.append(problems.operators[digit])
    return asked.task(operands, operators)


def _drawn(asked: Asked, rng: np.random.Generator) -> Task:
    problems = asked.problems
    operands = rng.integers(problems.low, problems.high + 1, size=problems.terms).tolist()
    places = rng.integers(len(problems.operators), size=problems.terms - 1)
    return asked.task(operands, [problems.operators[place] for place in places])


def _task(operands: Sequence[int], operators: Sequence[str], question: str) -> Task:
    joined = zip(operators, operands[1:], strict=True)
    compact = str(operands[0]) + "".join(f"{op}{number}" for op, number in joined)
    spaced = re.sub(r"([-+*])", r" \1 ", compact)
    prompt = QUESTIONS[question].format(compact=compact, spaced=spaced)
    return Task(id=compact, prompt=prompt, answer=str(_value(operands, operators)))


def _value(operands: Sequence[int], operators: Sequence[str]) -> int:
    """The exact value; products first."""
    total, sign, product = 0, 1, operands[0]
    for operator, number in zip(operators, operands[1:], strict=True):
        if operator == "*":
            product *= number
        else:
            total += sign * product
            sign, product = (1 if operator == "+" else -1), number
    return total + sign * product


def _parse(expression: str) -> tuple[list[int], list[str]]:
    """The operands and operators of a task's id."""
    return [int(n) for n in re.findall(r"\d+", expression)], re.findall(r"[-+*]", expression)


def _work(operands: list[int], operators: list[str]) -> list[str]:
    """One line per operation, products first: ``["3+5=8", "8+2=10"]``."""
    steps = []
    while operators:
        place = operators.index("*") if "*" in operators else 0
        left, right = operands[place], operands[place + 1]
        result = _value([left, right], [operators[place]])
        steps.append(f"{left}{operators[place]}{right}={result}")
        operands[place : place + 2] = [result]
        del operators[place]
    return steps
