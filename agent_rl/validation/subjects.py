"""What is validated: an environment, or the rows of a data set with a verifier by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import rl_envs
from agent_rl.errors import UserError
from agent_rl.validation.findings import Findings
from agent_rl.validation.golds import Gold, golds_of, programs_of, prompt_text
from rl_envs.adapters import ADAPTERS, find_adapter
from rl_envs.tasks import DataError
from rl_envs.types import Task
from rl_verifiers import Verifier
from rl_verifiers.runner import verifier_name

ENDLESS = 200
"""Tasks looked at where a source has no end and no number is given."""

EPISODES = 20
"""Tasks looked at, likewise, where there is no verifier and the environment is played."""

MOST_OTHERS = 20_000
"""Tasks of another split or file that are compared."""

_ID = re.compile(r"[\w.-]+/[\w.-]+-v\d+")


@dataclass(frozen=True, slots=True)
class Case:
    """A row to check: its number from 1, the task, and completions of which one should pass."""

    number: int
    task: Task
    golds: tuple[Gold, ...]


@dataclass(slots=True)
class Subject:
    """What is validated.

    Attributes:
        name: For people.
        cases: The rows.
        verifier: What judges; None for a game, which is played instead.
        verifier_name: For people.
        others: Tasks that must not be among the cases, by the name of where they are.
        endless: Whether rows are generated, so that equal ones are no fault of the data.
        env: The environment, where there is one.
    """

    name: str
    cases: list[Case]
    verifier: Verifier | None
    verifier_name: str
    others: dict[str, list[Task]] = field(default_factory=dict)
    endless: bool = False
    env: rl_envs.TextEnv | None = None

    @property
    def is_played(self) -> bool:
        """Whether it is an environment of several turns, or one that judges in play only."""
        return self.env is not None and (self.verifier is None or self.env.max_turns > 1)


def is_env(name: str) -> bool:
    """Whether a name means an environment: a registered id, ``.py`` or something like an id."""
    if name in rl_envs.ids() or name.endswith(".py") or ".py:" in name:
        return True
    return bool(_ID.fullmatch(name)) and not Path(name).exists()


def open_env(
    name: str,
    options: Mapping[str, Any],
    findings: Findings,
    *,
    tasks: int = 0,
    seed: int = 0,
    on_read: Callable[[int, int], None] = lambda done, total: None,
) -> Subject:
    """The tasks of an environment with its oracle's completions.

    Args:
        name: An id, or ``file.py[:Class]``.
        options: Of its constructor.
        findings: Where tasks go that cannot be made.
        tasks: How many, from the first on; 0 for all (``ENDLESS`` where there is no end,
            ``EPISODES`` where there is no verifier).
        seed: Of the oracle's choices.
        on_read: Called with how many tasks are read, and how many will be.

    Raises:
        DataError: No such environment or option.
        VerifierError: What judges cannot work.
    """
    env = rl_envs.make(name, **options)
    env.prepare()
    try:
        judge: Verifier | None = env.judging
    except DataError:
        judge = None
    size = env.tasks.size
    count = tasks or (EPISODES if judge is None else ENDLESS if size is None else size)
    count = count if size is None else min(size, count)
    cases = []
    for index in range(count):
        try:
            task = env.tasks[index]
            golds = _demonstrations(env, task, seed) if judge is not None else []
            cases.append(Case(index + 1, task, tuple(golds)))
        except (DataError, KeyError, TypeError, ValueError) as error:
            findings.add("unanswerable", f"#{index + 1}", index + 1, "task", f"{error!s:.300}")
        on_read(index + 1, count)
    return Subject(
        name=name,
        cases=cases,
        verifier=judge,
        verifier_name=_named(env, judge),
        others=_other_splits(env, name, options),
        endless=size is None,
        env=env,
    )


def open_data(
    source: str,
    verifier: Verifier,
    findings: Findings,
    *,
    columns: Mapping[str, str] | None = None,
    against: str | None = None,
    tasks: int = 0,
) -> Subject:
    """The rows of a file, folder or Hugging Face data set.

    Args:
        source: As :func:`rl_envs.load_rows` reads it.
        verifier: What judges.
        findings: Where rows go that have no prompt or cannot be read.
        columns: Ours to theirs.
        against: Another such source, whose rows must not be among these.
        tasks: How many, from the first on; 0 for all.

    Raises:
        DataError: Missing, empty or broken data, or no column for the prompt.
    """
    cases = []
    for number, task in _tasks(source, columns, findings, tasks):
        cases.append(Case(number, task, tuple(golds_of(task))))
    others = {}
    if against is not None:
        others[against] = [task for _, task in _tasks(against, columns, Findings(), MOST_OTHERS)]
    return Subject(source, cases, verifier, verifier_name(verifier), others)


def _tasks(
    source: str, columns: Mapping[str, str] | None, findings: Findings, most: int
) -> Iterable[tuple[int, Task]]:
    """Every row as a task; one that cannot be a task is a finding and left out."""
    rows = rl_envs.load_rows(source, columns=columns)
    column, read = ADAPTERS[find_adapter(list(rows[0]))]
    for number, row in enumerate(islice(rows, most or None), start=1):
        row_id = str(row.get("id", f"#{number}"))
        if not row.get(column):
            found = ", ".join(map(str, row))
            problem = f"empty or missing; columns found: {found}"
            findings.add("unanswerable", row_id, number, column, problem)
            continue
        try:
            prompt, answer = read(row)
        except (DataError, KeyError, TypeError, AttributeError, ValueError) as error:
            findings.add("unanswerable", row_id, number, column, f"cannot be read: {error!r:.200}")
            continue
        info = {str(key): value for key, value in row.items() if key not in (column, "id")}
        yield number, Task(row_id, prompt, answer, info)


def _demonstrations(env: rl_envs.TextEnv, task: Task, seed: int) -> list[Gold]:
    """What the environment shows as right, in each of its styles; else its answer in our forms."""
    found = []
    answer = task.answer if isinstance(task.answer, str) and task.answer else None
    for style in env.styles or ("",):
        try:
            text = env.demonstration(task, style, np.random.default_rng(seed))
        except DataError:
            break
        found.append(Gold(style or "demonstration", text, None if programs_of(task) else answer))
    return found or golds_of(task)


def _other_splits(
    env: rl_envs.TextEnv, name: str, options: Mapping[str, Any]
) -> dict[str, list[Task]]:
    """The tasks of the other splits; those that cannot be read are left out."""
    found = {}
    for split in env.splits:
        if split == env.split or env._given_tasks is not None:
            continue
        try:
            tasks = rl_envs.make(name, **{**options, "split": split}).tasks
            size = ENDLESS if tasks.size is None else min(tasks.size, MOST_OTHERS)
            found[split] = [tasks[index] for index in range(size)]
        except (DataError, IndexError):
            continue
    return found


def _named(env: rl_envs.TextEnv, judge: Verifier | None) -> str:
    if judge is None:
        return "none: it is played"
    spec = env.verifier
    name = spec.get("name") if isinstance(spec, Mapping) else spec
    return name if isinstance(name, str) else verifier_name(judge)


def parse_columns(words: Iterable[str]) -> dict[str, str]:
    """``answer=gold`` words: ours to theirs.

    Raises:
        UserError: A word of another form.
    """
    found = {}
    for word in words:
        ours, equals, theirs = word.partition("=")
        if not (ours and equals and theirs):
            raise UserError(f"--column {word!r}: write it as OURS=THEIRS, such as answer=gold")
        found[ours] = theirs
    return found


__all__ = ["Case", "Subject", "is_env", "open_data", "open_env", "parse_columns", "prompt_text"]
