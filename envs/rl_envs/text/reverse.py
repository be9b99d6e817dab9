"""Write a string backwards."""

from __future__ import annotations

import string
from functools import partial
from typing import Any

import numpy as np

from rl_envs.core import TextEnv
from rl_envs.tasks import DataError, GeneratedTasks
from rl_envs.types import Task
from rl_verifiers.score import Row, Score


class ReverseText(TextEnv):
    """Write a string of letters backwards.

    Args:
        difficulty: 1, 2, ...: strings of up to 4, 8, 12, ... letters; sets both lengths.
        shortest: The fewest letters.
        longest: The most letters.
        alphabet: The letters.
        question: The prompt, with ``{text}`` in it.
        partial: Whether a wrong reply earns the share of its length that is right from the start
            (never 1); False: all or nothing.
        seed: Seeds the strings.
        options: Those of ``TextEnv``.
    """

    styles = ("plain",)
    source = "generated strings"

    def __init__(
        self,
        *,
        difficulty: int | None = None,
        shortest: int = 4,
        longest: int = 8,
        alphabet: str = string.ascii_lowercase,
        question: str = "Reverse: {text}",
        partial: bool = False,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if difficulty is not None:
            if difficulty < 1:
                raise DataError(f"difficulty is {difficulty}; it must be at least 1")
            shortest, longest = 4 * difficulty - 2, 4 * difficulty
        if not 1 <= shortest <= longest:
            raise DataError(f"lengths {shortest} to {longest}; need 1 <= shortest <= longest")
        if len(set(alphabet)) < 2 or "{text}" not in question:
            raise DataError("reverse text needs two letters or more, and {text} in its question")
        self.lengths = (shortest, longest)
        self.alphabet = alphabet
        self.question = question
        self.partial = partial
        self.seed_of_tasks = seed
        super().__init__(**options)

    def load_tasks(self, split: str) -> GeneratedTasks:
        """Random strings without end."""
        make = partial(_drawn, self.lengths, self.alphabet, self.question)
        return GeneratedTasks(make, seed=self.seed_of_tasks, split=split)

    def score(self, completion: str, row: Row) -> Score:
        """Right if the reply, blanks at its ends aside, is the reversed string and nothing else."""
        answer = row["answer"]
        given = completion.strip()
        if given == answer:
            return Score.correct()
        share = _common_prefix(given, answer) / max(len(given), len(answer)) if given else 0.0
        return Score.wrong(
            status="wrong" if given else "no_answer", value=share if self.partial else 0.0
        )

    def demonstration(self, task: Task, style: str, rng: np.random.Generator) -> str:
        """The reversed string."""
        return str(task.answer)


def _drawn(
    lengths: tuple[int, int], alphabet: str, question: str, rng: np.random.Generator
) -> Task:
    count = int(rng.integers(lengths[0], lengths[1] + 1))
    text = "".join(alphabet[place] for place in rng.integers(len(alphabet), size=count))
    return Task(id=text, prompt=question.replace("{text}", text), answer=text[::-1])


def _common_prefix(left: str, right: str) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
        min(len(left), len(right)),
    )
