"""Arithmetic that is too hard for the policy alone, and a calculator."""

from __future__ import annotations

import re
from functools import lru_cache, partial
from typing import Any

import numpy as np

from rl_envs.tasks import TEST_FRACTION, DataError, EnumeratedTasks, GeneratedTasks
from rl_envs.text.arithmetic import last_boxed_integer
from rl_envs.text.expressions import ExpressionError, evaluate
from rl_envs.tools import ToolEnv, ToolError, ToolResult, tool
from rl_envs.types import Message, Task, TaskSource
from rl_verifiers.extract import without_thinking
from rl_verifiers.score import Row, Score

QUESTIONS = {
    "compact": "{compact}=?",
    "spaced": "{spaced} = ?",
    "instruction": "What is {spaced}? Put the answer in \\boxed{{}}.",
}
MOST_EXAMPLES = 8
ENUMERABLE = 20_000
"""Problem sets up to this size are listed and split; larger ones are generated."""

_FORM = re.compile(r"[a-z]([-+*][a-z]){1,5}")
_SLIPS = {"*": ("x", " ", "**"), "+": ("&", " ", "++"), "-": ("_", " ", "--")}


class Calculator(ToolEnv):
    r"""Work out a product such as 37*24 with a calculator; the last \boxed{n} must be its value.

    The tool does one operation per call, so ``a*b+c`` takes two.

    Demonstrations: ``tool`` calls and copies; ``direct`` guesses (the true value, without a call);
    ``slip`` writes the first call wrongly, sees the error, and still boxes the true value.

    Args:
        form: The expression: one letter per operand, ``+ - *`` between them.
        low: The smallest operand.
        high: The largest operand.
        question: ``compact`` (``37*24=?``), ``spaced`` or ``instruction``.
        examples: How many solved problems, calls and results included, stand before the question.
        operations_per_call: How many operations one call may hold; 0 for any number.
        test_fraction: The share of problems kept for the test split.
        seed: Seeds generated problems (sets too large to list).
        options: Those of ``ToolEnv``.
    """

    max_turns = 4
    styles = ("tool", "direct", "slip")
    source = "all problems of a form, or generated"

    def __init__(
        self,
        *,
        form: str = "a*b",
        low: int = 11,
        high: int = 99,
        question: str = "instruction",
        examples: int = 0,
        operations_per_call: int = 1,
        test_fraction: float = TEST_FRACTION,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if not _FORM.fullmatch(form):
            raise DataError(f"form is {form!r}; it must be letters with + - * between, as a*b+c")
        if not 0 <= low <= high:
            raise DataError(f"operands from {low} to {high}; need 0 <= low <= high")
        if question not in QUESTIONS:
            raise DataError(f"question is {question!r}; it must be one of {', '.join(QUESTIONS)}")
        if not 0 <= examples <= MOST_EXAMPLES:
            raise DataError(f"examples is {examples}; it must be within 0..{MOST_EXAMPLES}")
        self.examples = examples
        self.form, self.low, self.high = form, low, high
        self.question = question
        self.operations_per_call = operations_per_call
        self.test_fraction = test_fraction
        self.seed_of_tasks = seed
        super().__init__(**options)

    def load_tasks(self, split: str) -> TaskSource:
        """Every problem of the split where they can be listed; generated ones otherwise."""
        return _tasks(
            self.form,
            self.low,
            self.high,
            self.question,
            split,
            self.test_fraction,
            self.seed_of_tasks,
        )

    def opening(self, task: Task) -> list[Message]:
        """The solved examples, if any, and the question."""
        solved = [m for example in self._examples(task) for m in self._solved(example)]
        return [*solved, Message(role="user", content=str(task.prompt))]

    def _examples(self, task: Task) -> list[Task]:
        """Fixed problems of the train split, never the one that is asked."""
        train = self.load_tasks("train")
        few = [train[index] for index in _spread(train.size, self.examples + 1)]
        return [example for example in few if example.id != task.id][: self.examples]

    def _solved(self, task: Task) -> list[Message]:
        turns = [Message(role="user", content=str(task.prompt))]
        for step in task.info["steps"]:
            call = self.call_text("calculate", expression=step)
            turns.append(Message(role="assistant", content=call))
            result = ToolResult("calculate", {}, self.calculate(step))
            turns.append(self.result_message(result))
        turns.append(Message(role="assistant", content=f"\\boxed{{{task.answer}}}"))
        return turns

    @tool(inline=True)
    def calculate(self, expression: str) -> str:
        """Work out an arithmetic expression exactly.

        Args:
            expression: Whole numbers with + - * / between them, such as 37*24.
        """
        signed = expression.lstrip().startswith("-")
        try:
            value, numbers = evaluate(f"0{expression.lstrip()}" if signed else expression)
        except ExpressionError as error:
            raise ToolError(f"cannot read the expression: {error}") from None
        if self.operations_per_call and len(numbers) - 1 - signed > self.operations_per_call:
            raise ToolError(f"at most {self.operations_per_call} operation(s) in one call")
        return str(value)

    def score(self, completion: str, row: Row) -> Score:
        """Right if the last box behind any thinking holds the value; no expression."""
        boxed = last_boxed_integer(without_thinking(completion) or "")
        if boxed == row["answer"]:
            return Score.correct(answer=boxed)
        reason = f"boxed {boxed}, value {row['answer']}"
        return Score.wrong(reason, status="no_answer" if boxed is None else "wrong", answer=boxed)

    def demonstrate(self, style: str, rng: np.random.Generator) -> str:
        """The next turn of a demonstration."""
        boxed = f"\\boxed{{{self.task.answer}}}"
        steps = self.task.info["steps"]
        done = self.turn
        if style == "direct" or done >= len(steps) or (style == "slip" and done):
            return boxed
        if style not in self.styles:
            raise DataError(f"Calculator has no style {style!r}; it has {', '.join(self.styles)}")
        step = steps[done]
        if style == "slip":
            operator = next(c for c in step[1:] if c in _SLIPS)
            slips = _SLIPS[operator]
            step = step[0] + step[1:].replace(operator, slips[int(rng.integers(len(slips)))], 1)
        return self.call_text("calculate", expression=step)


@lru_cache(maxsize=32)
def _tasks(
    form: str, low: int, high: int, question: str, split: str, test_fraction: float, seed: int
) -> TaskSource:
    letters = len(form) // 2 + 1
    count = (high - low + 1) ** letters
    if count <= ENUMERABLE:
        make = partial(_numbered, form, low, high, question)
        return EnumeratedTasks(make, count, split=split, test_fraction=test_fraction)
    drawn = partial(_drawn, form, low, high, question)
    return GeneratedTasks(drawn, seed=seed, split=split, test_fraction=test_fraction)


def _spread(size: int | None, n: int) -> list[int]:
    """``n`` indices far from one another."""
    stride = (size or 1_000_000) // (n + 1)
    return [stride * (place + 1) for place in range(n)]


def _numbered(form: str, low: int, high: int, question: str, index: int) -> Task:
    operands = []
    for _ in range(len(form) // 2 + 1):
        index, digit = divmod(index, high - low + 1)
        operands.append(low + digit)
    return _task(form, operands, question)


def _drawn(form: str, low: int, high: int, question: str, rng: np.random.Generator) -> Task:
    operands = rng.integers(low, high + 1, size=len(form) // 2 + 1).tolist()
    return _task(form, operands, question)


def _task(form: str, operands: list[int], question: str) -> Task:
    operators = form[1::2]
    pieces = [str(operands[0])]
    for operator, operand in zip(operators, operands[1:], strict=True):
        pieces += [operator, str(operand)]
    prompt = QUESTIONS[question].format(compact="".join(pieces), spaced=" ".join(pieces))
    steps, value = _steps(operands, list(operators))
    return Task(id="".join(pieces), prompt=prompt, answer=str(value), info={"steps": steps})


def _steps(operands: list[int], operators: list[str]) -> tuple[list[str], int]:
    """One expression per operation, products first, and the value."""
    left, steps = list(operands), []
    while operators:
        place = operators.index("*") if "*" in operators else 0
        step = f"{left[place]}{operators[place]}{left[place + 1]}"
        result = {"*": int.__mul__, "+": int.__add__, "-": int.__sub__}[operators.pop(place)](
            left[place], left.pop(place + 1)
        )
        left[place] = result
        steps.append(step)
    return steps, left[0]
