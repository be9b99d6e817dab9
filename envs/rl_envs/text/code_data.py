"""HumanEval and MBPP: functions to be written, judged by their tests in a sandbox."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

from rl_envs.files import load_rows
from rl_envs.tasks import DataError, EnumeratedTasks
from rl_envs.text.code import FENCED, CodeEnv, fenced
from rl_envs.text.math_data import DATA_FOLDER
from rl_envs.types import Task
from rl_verifiers.code_tests import from_asserts

Row = Mapping[str, Any]

MBPP_IDS = {
    "prompt": range(1, 11),
    "test": range(11, 511),
    "validation": range(511, 601),
    "train": range(601, 975),
}
"""The official splits by task id."""


class CodeData(CodeEnv):
    """A data set of functions to write.

    Args:
        data: A path or a Hugging Face data set id. Default: ``file`` in the folder that
            AGENT_RL_DATA names, else ``hub``.
        columns: Renames of columns, ``{"prompt": "their_name"}``.
        options: Those of ``CodeEnv``.
    """

    reads_data = True

    file: ClassVar[str] = ""
    hub: ClassVar[tuple[str, str | None]] = ("", None)  # id, configuration

    def __init__(
        self, *, data: str | None = None, columns: dict[str, str] | None = None, **options: Any
    ) -> None:
        self.data = data
        self.columns = columns
        super().__init__(**options)

    @property
    def place(self) -> tuple[str, str | None]:
        """Where the data is: a path or an id, and a configuration."""
        if self.data is not None:
            return self.data, self.hub[1] if self.data == self.hub[0] else None
        file = Path(os.environ.get(DATA_FOLDER, "")) / self.file
        return (str(file), None) if DATA_FOLDER in os.environ and file.exists() else self.hub

    def rows(self, *wanted: str) -> Sequence[Row]:
        """The rows, read once per process.

        Raises:
            DataError: There are none, or one lacks a wanted column.
        """
        renames = tuple(sorted((self.columns or {}).items()))
        return _rows(*self.place, self.split, renames, wanted)


@lru_cache(maxsize=8)
def _rows(
    place: str,
    name: str | None,
    split: str,
    renames: tuple[tuple[str, str], ...],
    wanted: tuple[str, ...],
) -> Sequence[Row]:
    rows = load_rows(place, split=split, name=name, columns=dict(renames) or None)
    for number, row in enumerate(rows):
        missing = [column for column in wanted if not row.get(column)]
        if missing:
            found = ", ".join(map(str, row))
            raise DataError(
                f"{place}: row {number}: no {', '.join(missing)}; columns found: {found}"
            )
    return rows


class HumanEval(CodeData):
    """Complete 164 Python functions from their docstrings (Chen et al. 2021); a test split only.

    The answer is the whole function. What the prompt defines before it (imports, helper functions)
    is there without being repeated. By default no test is ever shown, beside the examples in the
    docstrings.
    """

    splits = ("test",)
    source = "openai/openai_humaneval, or humaneval.jsonl in $AGENT_RL_DATA"
    file = "humaneval.jsonl"
    hub = ("openai/openai_humaneval", None)
    show_tests = 0

    def __init__(self, *, split: str = "test", **options: Any) -> None:
        super().__init__(split=split, **options)

    def load_tasks(self, split: str) -> EnumeratedTasks:
        """The rows, read once per process; the tests of each are made when it is played."""
        rows = self.rows("task_id", "prompt", "entry_point", "canonical_solution", "test")
        return EnumeratedTasks(partial(_human_eval, rows, self.sandbox), len(rows))


class MBPP(CodeData):
    """Write 974 short Python functions from a sentence and tests (Austin et al. 2021).

    Splits are the official ones by task id: 601-974 train, 511-600 validation, 11-510 test, 1-10
    prompt.

    Args:
        show_tests: How many of the tests (there are three, mostly) stand in the prompt, as in the
            paper by default; with 0 the prompt names the function.
        options: Those of ``CodeData``.
    """

    splits = ("train", "validation", "test", "prompt")
    source = "google-research-datasets/mbpp, or mbpp.jsonl in $AGENT_RL_DATA"
    file = "mbpp.jsonl"
    hub = ("google-research-datasets/mbpp", "full")
    show_tests = 3

    def load_tasks(self, split: str) -> EnumeratedTasks:
        """The rows of the split, read once per process; the tests of each made when it is played.

        Raises:
            DataError: No row belongs to the split.
        """
        rows = self.rows("task_id", "text", "code", "test_list")
        ours = [row for row in rows if int(row["task_id"]) in MBPP_IDS[split]]
        if not ours:
            ids = MBPP_IDS[split]
            raise DataError(
                f"{self.place[0]}: no task_id of the split {split!r}, {ids[0]} to {ids[-1]}"
            )
        return EnumeratedTasks(partial(_mbpp, ours, self.show_tests, self.sandbox), len(ours))


def _human_eval(rows: Sequence[Row], sandbox: Any, index: int) -> Task:
    row = rows[index]
    prompt, name = row["prompt"], row["entry_point"]
    solution = prompt.rstrip() + "\n" + row["canonical_solution"].strip("\n")
    return Task(
        id=str(row["task_id"]),
        prompt=f"Complete this Python function.\n\n{fenced(prompt.strip())}\n\n{FENCED}",
        info={
            "entry_point": name,
            "prelude": prompt[: _definition(prompt, name)].strip(),
            "tests": tests_of(row["test"], name, "", solution, sandbox),
            "solution": solution,
        },
    )


def _mbpp(rows: Sequence[Row], show: int, sandbox: Any, index: int) -> Task:
    row = rows[index]
    code = "\n".join(row["code"].splitlines())
    asserts: Sequence[str] = row["test_list"]
    name = called(asserts, code)
    if name is None:
        raise DataError(f"MBPP row {row['task_id']}: its tests call no function of its code")
    asked = f"The function is called {name}."
    if show:
        asked = "Your code should pass these tests:\n\n" + "\n".join(asserts[:show])
    setup = row.get("test_setup_code") or ""
    return Task(
        id=f"MBPP/{row['task_id']}",
        prompt=f"{row['text'].strip()}\n{asked}\n\n{FENCED}",
        info={
            "entry_point": name,
            "tests": tests_of("\n".join(asserts), name, setup, code, sandbox),
            "n_shown": show,
            "solution": code,
        },
    )


def tests_of(
    source: str, entry_point: str, setup: str, reference: str, sandbox: Any
) -> list[dict[str, Any]]:
    """The tests that asserts make, made once per process; some need the sandbox to be made."""
    key = (source, entry_point, setup, reference)
    if key not in _made:
        _made[key] = from_asserts(
            source, entry_point, setup=setup, reference=reference, sandbox=sandbox
        )
    return _made[key]


_made: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}


def called(asserts: Sequence[str], code: str) -> str | None:
    """The function of ``code`` that the tests call; the outermost call of the first one."""
    defined = set(re.findall(r"^(?:def|class)[ \t]+(\w+)", code, re.MULTILINE))
    for text in asserts:
        try:
            nodes = list(ast.walk(ast.parse(text.strip())))
        except SyntaxError:
            continue
        for node in nodes:
            called_name = node.func if isinstance(node, ast.Call) else None
            if isinstance(called_name, ast.Name) and called_name.id in defined:
                return called_name.id
    return None


def _definition(prompt: str, name: str) -> int:
    """Where the function to be completed begins."""
    found = re.search(rf"^def[ \t]+{re.escape(name)}\b", prompt, re.MULTILINE)
    return found.start() if found else 0
