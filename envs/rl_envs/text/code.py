"""Programming tasks: code that is run in a sandbox, and may be mended after a failure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from rl_envs.core import Reply, TextEnv
from rl_envs.tasks import DataError
from rl_envs.types import Message, Task
from rl_verifiers.runner import MAX_CHARACTERS
from rl_verifiers.score import Score

FEEDBACK = ("first", "status", "none")
FENCED = "Answer with the whole function in a ```python code block."
AGAIN = "Try again: answer with the whole code."

_FAILURES = {
    "no_answer": "No code was found in the answer.",
    "unparsable": "The code is not valid Python.",
    "over_limit": "The code went over a limit of time, memory or output.",
}


class CodeEnv(TextEnv):
    """Programs judged by running them on tests, with more than one attempt if wanted.

    A task's ``info`` has the row that the ``code`` verifier reads (``tests``, ``entry_point``,
    ``prelude``) and may have ``n_shown``, the number of its tests, from the first on, that the
    policy may see; ``solution`` is a program that passes.

    Args:
        attempts: Answers per episode. After one that fails the environment says why, and the policy
            may answer again.
        feedback: What it says: ``first``: the first failing test among those that may be shown, its
            input, what was expected and what came; ``status``: the kind of failure alone;
            ``none``: only that it failed. Other tests are never shown.
        retry_discount: Each further attempt multiplies the reward by this, 0..1.
        show_tests: How many of a task's tests may be shown, where the task does not say.
        reward: ``all``: 1 if every test passes; ``fraction``: the share of tests that pass.
        sandbox: Where code is run: a name, or ``{"name": ..., **options}``.
        limits: Of each run, such as ``{"cpu_s": 2, "memory_mb": 128}``; default: the verifier's.
        options: Those of ``TextEnv``. A ``verifier`` among them judges in the place of ``code``.
    """

    styles: ClassVar[tuple[str, ...]] = ("solution",)
    show_tests: int = 1

    def __init__(
        self,
        *,
        attempts: int = 1,
        feedback: Literal["first", "status", "none"] = "first",
        retry_discount: float = 1.0,
        show_tests: int | None = None,
        reward: Literal["all", "fraction"] = "all",
        sandbox: str | Mapping[str, Any] = "local",
        limits: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.attempts = attempts
        self.feedback = feedback
        self.sandbox = sandbox
        self.retry_discount = retry_discount
        if show_tests is not None:
            self.show_tests = show_tests
        ours: dict[str, Any] = {"max_turns": attempts}
        if self.verifier is None:  # or that of a subclass
            judge = {"name": "code", "sandbox": sandbox, "reward": reward, "limits": limits}
            ours["verifier"] = judge
        super().__init__(**{**ours, **options})

    def _check_options(self) -> None:
        name = type(self).__name__
        if self.attempts < 1:
            raise DataError(f"{name}: attempts is {self.attempts}; it must be at least 1")
        if self.feedback not in FEEDBACK:
            known = ", ".join(FEEDBACK)
            raise DataError(f"{name}: feedback is {self.feedback!r}; it must be one of {known}")
        if not 0.0 <= self.retry_discount <= 1.0:
            given = self.retry_discount
            raise DataError(f"{name}: retry_discount is {given}; it must be within 0..1")
        if self.show_tests < 0:
            raise DataError(f"{name}: show_tests is {self.show_tests}; it must be 0 or more")
        super()._check_options()

    async def respond(self, action: str) -> Reply:
        """Judges the code; ends the episode where it passes or the attempts are used up."""
        score = await self.judge(action)
        hopeless = score.is_error or score.status == "bad_reference"
        if score.passed or hopeless or self.turn >= self.attempts:
            earned = score.value * self.retry_discount ** (self.turn - 1)
            return Reply(reward=earned, terminated=True, score=score)
        failed = f"Attempt {self.turn} of {self.attempts} failed."
        why = await self._why(action, score)
        content = " ".join(part for part in (failed, why, AGAIN) if part)
        return Reply(messages=[Message(role="user", content=content)], score=score)

    def demonstration(self, task: Task, style: str, rng: np.random.Generator) -> str:
        """The task's solution in a code block.

        Raises:
            DataError: It has none.
        """
        solution = task.info.get("solution")
        if not solution:
            raise DataError(f"task {task.id} has no solution to demonstrate with")
        return fenced(solution)

    async def _why(self, action: str, score: Score) -> str:
        if self.feedback == "none":
            return ""
        said = _FAILURES.get(score.status, "A test fails.")
        return (await self._first_failure(action) or said) if self.feedback == "first" else said

    async def _first_failure(self, action: str) -> str | None:
        """How the code fails the tests that may be shown; the judge is given no others."""
        row = self.task.row()
        shown = list(row["tests"])[: row.get("n_shown", self.show_tests)]
        report = getattr(self.judging, "report", None)
        if not shown or report is None or len(action) > MAX_CHARACTERS:
            return None
        outcomes = (await report(action, {**row, "tests": shown})).tests
        failed = next((outcome for outcome in outcomes if not outcome.passed), None)
        if failed is not None:
            return f"{failed.line}."
        return "The tests that you may see pass; another one fails." if outcomes else None


def fenced(code: str) -> str:
    """Code as a Markdown block."""
    return f"```python\n{code.rstrip()}\n```"
