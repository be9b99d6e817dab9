"""Problems that take a computer, and a Python session to work them out with."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from functools import partial
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np

import rl_verifiers
from rl_envs.tasks import DataError, GeneratedTasks, content_id
from rl_envs.text.box_env import DAY_S, DIFFICULTIES, BoxEnv, check_families
from rl_envs.text.python_problems import FAMILIES
from rl_envs.tools import tool
from rl_envs.types import Task
from rl_verifiers.score import Row, Score, Verdict, Verifier

SYSTEM = (
    "You have a Python session, whose names stay from one call to the next. Work the problem out "
    "with it, then answer with the result in \\boxed{}."
)


_NUMBER = re.compile(
    r"\d(?:[\d_]|(?:,|\{,\}|\\[, !]|\s)(?=\d{3}(?!\d)))*(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII
)
_SIDES = re.compile(r"=|\\approx|≈")
_FRACTION = re.compile(r"\\[cdt]?frac\s?(\d|\{[^{}]{0,300}\})\s?(\d|\{[^{}]{0,300}\})")
_OVER = re.compile(r"[\s)}]*(?:/|\\over(?![a-z]))[\s({+-]*")
_TIMES_TEN = re.compile(r"[\s{}]*(?:\*|×|·|x|\\times|\\cdot)[\s{}]*")
_TO_THE = re.compile(r"[\s{}]*(?:\^|\*\*)[\s({+-]*")
_WRAPPED = re.compile(
    r"\\(?:text|math)[a-z]{0,6}\s?\{([^{}]*)\}|([\"'`$])(.*)\2|\*\*(.*)\*\*", re.DOTALL
)


def is_worked_out(answer: str) -> bool:
    """Whether an answer is one number, as an integer, a decimal, a power of ten or a fraction.

    The ``math`` verifier works out what is left to be worked out; here that is the problem.
    """
    side = _FRACTION.sub(r"  \1/\2", _SIDES.split(answer)[-1])
    numbers = list(_NUMBER.finditer(side))
    if len(numbers) < 2:
        return "!" not in side.replace("\\!", "")
    between = [side[one.end() : two.start()] for one, two in pairwise(numbers)]
    *before, last = between
    if _OVER.fullmatch(last):  # with a whole number before it, or none
        return not before or (len(before) == 1 and not before[0].strip(" {}"))
    if numbers[-2][0] == "10" and _TO_THE.fullmatch(last):
        return not before or (len(before) == 1 and bool(_TIMES_TEN.fullmatch(before[0])))
    return False


def bare(text: str) -> str:
    """A text without what is put around one: LaTeX, quotes, a full stop."""
    for _ in range(8):
        before, text = text, text.strip().removesuffix(".")
        if match := _WRAPPED.fullmatch(text):
            text = next(group for group in match.group(1, 3, 4) if group is not None)
        if text == before:
            break
    return text


class PythonTool(BoxEnv):
    r"""Work out numbers, tables and texts with a Python session; the answer goes in \boxed{}.

    Twelve families of generated problems (``rl_envs.text.python_problems``), with exact answers:
    questions to a CSV table and to its groups, texts, number theory, digits, linear systems,
    polynomials, recurrences, counting, dates, simulations, shortest paths. Numbers are judged by
    the ``math`` verifier, texts letter by letter.

    Args:
        difficulty: 1 to 3; None mixes them.
        families: Which families, by name. Default: all.
        seed: Seeds the problems.
        options: Those of ``BoxEnv``.
    """

    system_prompt = SYSTEM
    session_kind = "python"
    styles = ("tool",)
    source = "generated, twelve families"

    def __init__(
        self,
        *,
        difficulty: int | None = None,
        families: Sequence[str] | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if difficulty is not None and difficulty not in DIFFICULTIES:
            raise DataError(f"difficulty is {difficulty!r}; it must be 1, 2 or 3, or None for all")
        self.difficulties = DIFFICULTIES if difficulty is None else (difficulty,)
        self.families = check_families("PythonTool", families, FAMILIES)
        self.seed_of_tasks = seed
        self._judges: dict[str, Verifier] = {}
        super().__init__(**options)

    def load_tasks(self, split: str) -> GeneratedTasks:
        """Problems without end; a problem is its text."""
        make = partial(drawn, self.families, self.difficulties)
        return GeneratedTasks(make, seed=self.seed_of_tasks, split=split)

    @tool(timeout_s=DAY_S)
    async def python(self, code: str) -> str:
        """Run Python code in the session; the value of a last expression and all output is shown.

        Args:
            code: The code to run.
        """
        return await self.in_box(code)

    def score(self, completion: str, row: Row) -> Verdict | Awaitable[Verdict]:
        """By the ``math`` verifier, if it is worked out; a text by the ``exact`` one."""
        kind = "math" if row["kind"] == "number" else "exact"
        if kind not in self._judges:
            options = {} if kind == "math" else {"extract": "final"}
            self._judges[kind] = rl_verifiers.make(kind, **options)
        verdict = self._judges[kind](completion, row)
        if not isinstance(verdict, Score) or verdict.answer is None:
            return verdict
        if kind == "math" and verdict.passed and not is_worked_out(verdict.answer):
            return Score.wrong("it is not worked out", answer=verdict.answer)
        if kind == "exact" and not verdict.passed and bare(verdict.answer) == row["answer"]:
            return Score.correct(answer=verdict.answer)
        return verdict

    def demonstrate(self, style: str, rng: np.random.Generator) -> str:
        """A call with a program that prints the answer; then what it printed."""
        if not self.results_of_turn:
            return self.call_text("python", code=self.task.info["code"])
        return f"\\boxed{{{self.results_of_turn[-1].content.strip()}}}"


def drawn(families: Sequence[str], difficulties: Sequence[int], rng: np.random.Generator) -> Task:
    """A problem of one of the families."""
    draw = Random(int(rng.integers(2**62)))
    family, difficulty = draw.choice(families), draw.choice(difficulties)
    problem = FAMILIES[family](draw, difficulty)
    return Task(
        id=content_id(problem.question),
        prompt=problem.question,
        answer=problem.answer,
        info={
            "family": family,
            "difficulty": difficulty,
            "kind": problem.kind,
            "code": problem.code,
        },
    )
