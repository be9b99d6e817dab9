"""Small programming tasks without end, generated with their tests."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from rl_envs.tasks import DataError, GeneratedTasks
from rl_envs.text.code import FENCED, CodeEnv, fenced
from rl_envs.text.code_programs import (
    ENTRY_POINT,
    SIGNATURES,
    STYLES,
    Families,
    choose_tests,
    draw,
    identity_of,
)
from rl_envs.text.code_steps import KINDS
from rl_envs.types import Task

DIFFICULTY = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6}
"""How many operations a program has."""

QUESTIONS = {
    "compact": "{compact}",
    "instruction": (
        "Write a Python function {signature}. Apply these steps, one after the other, and return "
        "the result:\n{words}\n\n{examples}" + FENCED
    ),
}


class Code(CodeEnv):
    """Write a small Python function that takes given steps; hidden tests run it in a sandbox.

    The steps are drawn from more than fifty operations on integers, lists, strings and pairs of
    integers. A problem is what its function does: functions that do the same are in the same split,
    however they are put.

    Args:
        difficulty: 1 to 5: 1, 2, 3, 4 or 6 steps.
        steps: How many steps, whatever the difficulty.
        families: Which operations, by their names or by what they take (``number``, ``numbers``,
            ``text``, ``pair``). Default: all.
        question: ``instruction``, in words; or ``compact`` (``numbers: add_each 3, total``).
        n_tests: Tests of each task.
        seed: Seeds the tasks.
        options: Those of ``CodeEnv``. ``show_tests`` of the tests stand in the instruction.
    """

    styles = STYLES
    source = "generated, more than 50 operations composed"
    show_tests = 2

    def __init__(
        self,
        *,
        difficulty: int = 2,
        steps: int | None = None,
        families: Sequence[str] | None = None,
        question: str = "instruction",
        n_tests: int = 8,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if difficulty not in DIFFICULTY:
            raise DataError(f"difficulty is {difficulty!r}; it must be 1 to {max(DIFFICULTY)}")
        count = DIFFICULTY[difficulty] if steps is None else steps
        if not 1 <= count <= 10:
            raise DataError(f"steps is {count}; it must be 1 to 10")
        if question not in QUESTIONS:
            raise DataError(f"question is {question!r}; it must be one of {', '.join(QUESTIONS)}")
        if not 4 <= n_tests <= 32:
            raise DataError(f"n_tests is {n_tests}; it must be 4 to 32")
        self.families = Families(tuple(families or KINDS), count)
        self.question = question
        self.n_tests = n_tests
        self.seed_of_tasks = seed
        super().__init__(**options)

    def load_tasks(self, split: str) -> GeneratedTasks:
        """Problems without end."""
        n_shown = min(self.show_tests, self.n_tests)
        make = partial(drawn, self.families, self.question, self.n_tests, n_shown)
        return GeneratedTasks(make, seed=self.seed_of_tasks, split=split)

    def demonstration(self, task: Task, style: str, rng: np.random.Generator) -> str:
        """``steps``: a line for each step; ``expression``: a single nested one.

        It is a code block, and the bare code where the question is ``compact``.
        """
        if style not in STYLES:
            raise DataError(f"Code has no style {style!r}; it has {', '.join(STYLES)}")
        code: str = task.info[style]
        return code if self.question == "compact" else fenced(code)


def drawn(
    families: Families, question: str, n_tests: int, n_shown: int, rng: np.random.Generator
) -> Task:
    """A task: its question, its tests and its solution in each style."""
    program, outputs = draw(families, rng)
    tests = choose_tests(program, outputs, n_tests, rng)
    calls = (f"{_call(test['args'])} must return {test['expected']!r}." for test in tests[:n_shown])
    prompt = QUESTIONS[question].format(
        compact=program.compact,
        signature=SIGNATURES[program.takes],
        words=program.words,
        examples="".join(f"{call}\n" for call in calls) + ("\n" if n_shown else ""),
    )
    return Task(
        id=identity_of(program, outputs),
        prompt=prompt,
        info={
            "program": program.compact,
            "entry_point": ENTRY_POINT,
            "tests": tests,
            "n_shown": n_shown,
            **{style: program.source(style) for style in STYLES},
        },
    )


def _call(args: Sequence[Any]) -> str:
    return f"{ENTRY_POINT}({', '.join(map(repr, args))})"
