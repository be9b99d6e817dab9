"""Work in a folder with bash, judged by the files that are there at the end."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np

from rl_envs.core import Reply
from rl_envs.tasks import DataError, GeneratedTasks, content_id
from rl_envs.text.box_env import DAY_S, DIFFICULTIES, BoxEnv, check_families
from rl_envs.text.terminal_tasks import FAMILIES, judge, packed
from rl_envs.tools import tool
from rl_envs.types import Task
from rl_verifiers.score import Score

SYSTEM = (
    "You have a bash session in a folder with files. Do what is asked, then say that it is done, "
    "without a call. The files of the folder are then compared with what was asked for: change "
    "nothing else, and leave no other files behind in it ($TMPDIR is for those)."
)
LOOK = "find . -type f | sort | head -n 40"


class Terminal(BoxEnv):
    """Do a task on files with bash in a sandbox; the files at the end are what is judged.

    Fourteen families of generated tasks (``rl_envs.text.terminal_tasks``): rename, move, make,
    delete, link, set modes, sum columns, count logs, replace, take doubles away, archive, extract
    fields, edit JSON, merge settings. When the policy says that it is done, everything in the box
    is ended, the host reads its files, and compares them with what should be there, which never
    was in the box.

    Args:
        difficulty: 1 to 3; None mixes them.
        families: Which families, by name. Default: all.
        partial: Give the share of the files that are as asked, in place of all or nothing; 0 where
            a file that was to be left alone was changed.
        seed: Seeds the tasks.
        options: Those of ``BoxEnv``.
    """

    system_prompt = SYSTEM
    max_turns = 16
    styles = ("direct", "look")
    source = "generated, fourteen families"

    def __init__(
        self,
        *,
        difficulty: int | None = None,
        families: Sequence[str] | None = None,
        partial: bool = False,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if difficulty is not None and difficulty not in DIFFICULTIES:
            raise DataError(f"difficulty is {difficulty!r}; it must be 1, 2 or 3, or None for all")
        self.difficulties = DIFFICULTIES if difficulty is None else (difficulty,)
        self.families = check_families("Terminal", families, FAMILIES)
        if not isinstance(partial, bool):
            raise DataError(f"Terminal: partial is {partial!r:.60}; it must be true or false")
        self.partial = partial
        self.seed_of_tasks = seed
        super().__init__(**options)

    def load_tasks(self, split: str) -> GeneratedTasks:
        """Tasks without end; a task is its question and its files."""
        make = functools.partial(drawn, self.families, self.difficulties)
        return GeneratedTasks(make, seed=self.seed_of_tasks, split=split)

    def files_of(self, task: Task) -> bytes:
        """The task's files."""
        return packed(task.info["start"])

    @tool(timeout_s=DAY_S)
    async def bash(self, command: str) -> str:
        """Run a command in the bash session; its output, errors and exit code are shown.

        Args:
            command: The command to run.
        """
        return await self.in_box(command)

    async def finished(self, answer: str) -> Reply:
        """Compares the files, once nothing runs any more.

        Raises:
            ToolFailure: We failed.
        """
        if not self._box.used:
            score = Score.wrong("no command was given", status="no_answer")
        else:
            tree = await self._box.collect()
            info = self.task.info
            score = judge(info["start"], info["goal"], tree, partial=self.partial)
        return Reply(reward=score.value, terminated=True, score=score)

    def demonstrate(self, style: str, rng: np.random.Generator) -> str:
        """``direct``: the task's own command; ``look``: a look at the files before it."""
        first = [LOOK] if style == "look" else []
        commands = [*first, self.task.info["solution"]]
        if self.turn < len(commands):
            return self.call_text("bash", command=commands[self.turn])
        return "It is done."


def drawn(families: Sequence[str], difficulties: Sequence[int], rng: np.random.Generator) -> Task:
    """A task of one of the families."""
    draw = Random(int(rng.integers(2**62)))
    family, difficulty = draw.choice(families), draw.choice(difficulties)
    chore = FAMILIES[family](draw, difficulty)
    return Task(
        id=content_id(chore.question, chore.start),
        prompt=chore.question,
        info={
            "family": family,
            "difficulty": difficulty,
            "start": chore.start,
            "goal": chore.goal,
            "solution": chore.solution,
        },
    )
