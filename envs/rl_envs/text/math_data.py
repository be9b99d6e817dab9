"""Math word problems and competition problems, judged by the ``math`` verifier."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rl_envs.adapters import tasks_from_rows
from rl_envs.core import TextEnv
from rl_envs.files import load_rows
from rl_envs.tasks import DataError, ListTasks
from rl_envs.types import Task

DATA_FOLDER = "AGENT_RL_DATA"
"""The environment variable that names a folder with the files below; they are used if there."""

_CALCULATION = re.compile(r"<<[^<>\n]{0,200}>>")  # GSM8K's calculator notes
BOXED = "Reason step by step, and put the final answer in \\boxed{}."


class MathData(TextEnv):
    """A data set of math problems.

    Args:
        data: A path or a Hugging Face data set id that holds the split asked for. Default: the
            files named in ``files`` in the folder that AGENT_RL_DATA names, else ``hub``.
        columns: Renames of columns, ``{"prompt": "their_name"}``.
        options: Those of ``TextEnv``.
    """

    verifier = "math"
    system_prompt = BOXED
    reads_data = True
    styles = ("solution",)

    files: ClassVar[dict[str, str]] = {}
    hub: ClassVar[dict[str, tuple[str, str | None, str]]] = {}  # split: (id, configuration, split)

    def __init__(
        self, *, data: str | None = None, columns: dict[str, str] | None = None, **options: Any
    ) -> None:
        self.data = data
        self.columns = columns
        super().__init__(**options)

    def load_tasks(self, split: str) -> ListTasks:
        """The rows of the split, read once per process."""
        source, name, wanted = self._place(split)
        renames = tuple(sorted((self.columns or {}).items()))
        return _read(source, name, wanted, renames)

    def demonstration(self, task: Task, style: str, rng: np.random.Generator) -> str:
        """The data set's solution, ending in the boxed answer.

        Raises:
            DataError: The row has no solution.
        """
        solution = task.info.get("solution")
        if not solution:
            raise DataError(f"task {task.id} has no solution column to demonstrate with")
        plain = _CALCULATION.sub("", solution).split("####")[0].strip()
        return plain if "\\boxed" in plain else f"{plain}\n\\boxed{{{task.answer}}}"

    def _place(self, split: str) -> tuple[str, str | None, str]:
        """Where the split is: a path or an id, a configuration, and the split's name there."""
        if self.data is not None:
            return self.data, self.hub[split][1] if self.data == self.hub[split][0] else None, split
        file = Path(os.environ.get(DATA_FOLDER, "")) / self.files[split]
        if DATA_FOLDER in os.environ and file.exists():
            return str(file), None, split
        return self.hub[split]


class GSM8K(MathData):
    """Grade-school word problems (Cobbe et al. 2021), integer answers."""

    source = "openai/gsm8k, or gsm8k_{train,test}.jsonl in $AGENT_RL_DATA"
    files: ClassVar = {"train": "gsm8k_train.jsonl", "test": "gsm8k_test.jsonl"}
    hub: ClassVar = {
        "train": ("openai/gsm8k", "main", "train"),
        "test": ("openai/gsm8k", "main", "test"),
    }


class MATH(MathData):
    """Competition problems (Hendrycks et al. 2021); the test split is MATH-500."""

    source = "MATH on the hub, or math500.jsonl and math_test_rest_60.jsonl in $AGENT_RL_DATA"
    files: ClassVar = {"train": "math_test_rest_60.jsonl", "test": "math500.jsonl"}
    hub: ClassVar = {
        "train": ("DigitalLearningGmbH/MATH-lighteval", None, "train"),
        "test": ("HuggingFaceH4/MATH-500", None, "test"),
    }


@lru_cache(maxsize=8)
def _read(
    source: str, name: str | None, split: str, renames: tuple[tuple[str, str], ...]
) -> ListTasks:
    rows = load_rows(source, split=split, name=name, columns=dict(renames) or None)
    try:
        tasks = tasks_from_rows(rows, need_answer=True)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    return ListTasks(tasks)
