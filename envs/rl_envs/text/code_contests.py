"""Programming contests: programs that read standard input and write standard output."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import rl_verifiers
from rl_envs.files import load_rows
from rl_envs.tasks import DataError, ListTasks, bucket, content_id
from rl_envs.text.code import CodeEnv
from rl_envs.types import Task
from rl_sandboxes.types import JobError, Limits
from rl_verifiers.runner import score_sync
from rl_verifiers.score import Score

Row = Mapping[str, Any]

EXAMPLES = Path(__file__).with_name("code_contests_examples.jsonl")
QUESTION = (
    "{problem}\n\nWrite a Python program that reads standard input and writes standard output. "
    "Answer with the whole program in a ```python code block."
)
PROBLEM = ("problem", "description", "question", "prompt")
IDS = ("id", "task_id", "name")
TESTS = ("tests", "input_output", "public_tests", "private_tests", "generated_tests")
PYTHON3 = 3  # in DeepMind's column of solutions


class CodeContests(CodeEnv):
    """Contest problems from a file, with tests of standard input and output.

    Rows are read as ``docs/code.md`` describes: our own format, and the columns of APPS, TACO and
    DeepMind's code_contests. A column ``split`` says where a row belongs; without one the hash of
    the problem does. A row's
    ``time_limit_s`` and ``memory_mb`` are the limits of each of its runs.

    Args:
        data: A path, or a Hugging Face data set id. Default: a dozen example problems that come
            with the package.
        columns: Renames of columns, ``{"problem": "their_name"}``.
        max_tests: Most tests of a problem that are run, from the first on; 0: all.
        options: Those of ``CodeEnv``. Public tests may be shown where the data has them, else the
            first ``show_tests``.
    """

    reads_data = True
    source = "a JSONL file (docs/code.md); a dozen examples come with the package"

    def __init__(
        self,
        *,
        data: str | None = None,
        columns: dict[str, str] | None = None,
        max_tests: int = 0,
        **options: Any,
    ) -> None:
        if max_tests < 0:
            raise DataError(f"max_tests is {max_tests}; it must be 0 (all) or more")
        self.data = data
        self.columns = columns
        self.max_tests = max_tests
        super().__init__(**options)

    @property
    def judging(self) -> Any:
        """The ``code`` verifier under each row's own limits; another verifier as it is."""
        spec = self.verifier
        if isinstance(spec, Mapping) and spec.get("name") == "code":
            return RowLimits(spec)
        return super().judging

    def load_tasks(self, split: str) -> ListTasks:
        """The rows of the split, read once per process."""
        renames = tuple(sorted((self.columns or {}).items()))
        place = str(EXAMPLES) if self.data is None else self.data
        return _read(place, split, self.show_tests, self.max_tests, renames)


@dataclass(frozen=True)
class RowLimits:
    """The ``code`` verifier, made for each row with the limits that it asks for.

    Attributes:
        spec: ``{"name": "code", **options}``; limits among the options win over a row's.
    """

    spec: Mapping[str, Any]
    bounded = True

    def __call__(self, completion: str, row: Row) -> Score:
        """The score; blocks while the sandbox runs the program."""
        return score_sync(self, completion, row)

    def prepare(self) -> None:
        """As the verifier's, without a row's limits."""
        prepared: Any = self._verifier({})
        prepared.prepare()

    async def ascore(self, completion: str, row: Row) -> Score:
        """The score."""
        return (await self.report(completion, row)).score

    async def report(self, completion: str, row: Row) -> Any:
        """The score, and how each test went."""
        return await self._verifier(row).report(completion, row)

    def _verifier(self, row: Row) -> Any:
        options = {key: value for key, value in self.spec.items() if key != "name"}
        limits = {**row.get("limits", {}), **(options.get("limits") or {})}
        return rl_verifiers.make("code", **{**options, "limits": limits or None})


@lru_cache(maxsize=8)
def _read(
    place: str, split: str, show: int, most: int, renames: tuple[tuple[str, str], ...]
) -> ListTasks:
    rows = load_rows(place, split=split, columns=dict(renames) or None)
    tasks = []
    for number, row in enumerate(rows):
        try:
            task = contest_task(row, show, most)
        except DataError as error:
            label = next((f" ({row[name]!r})" for name in IDS if row.get(name)), "")
            raise DataError(f"{place}: row {number}{label}: {error}") from None
        if (row.get("split") or bucket(content_id(task.prompt))) == split:
            tasks.append(task)
    if not tasks:
        raise DataError(f"{place}: none of {len(rows)} rows belongs to the split {split!r}")
    return ListTasks(tasks)


def contest_task(row: Row, show: int = 1, most: int = 0) -> Task:
    """The task of a row.

    Args:
        row: As ``docs/code.md`` describes.
        show: How many tests may be shown, where the row has no public ones.
        most: Most tests that are kept; 0: all.

    Raises:
        DataError: A column is missing or malformed; the message names it.
    """
    problem = next((row[name] for name in PROBLEM if row.get(name)), None)
    if not isinstance(problem, str):
        found = ", ".join(map(str, row))
        raise DataError(f"no text in {', '.join(PROBLEM)}; columns found: {found}")
    tests = [test for name in TESTS if row.get(name) for test in _tests(row[name], name)]
    if not tests:
        found = ", ".join(map(str, row))
        raise DataError(f"no tests in {', '.join(TESTS)}; columns found: {found}")
    public = len(_tests(row["public_tests"], "public_tests")) if row.get("public_tests") else show
    tests = tests[:most] if most else tests
    name = next((str(row[column]) for column in IDS if row.get(column)), content_id(problem))
    return Task(
        id=name,
        prompt=QUESTION.format(problem=problem.strip()),
        info={
            "tests": tests,
            "n_shown": min(public, len(tests)),
            "limits": _limits(row),
            "solution": _solution(row),
        },
    )


def _tests(given: Any, column: str) -> list[dict[str, str]]:
    """The tests of a column: a list of pairs, two lists side by side, or the JSON text of either.

    Raises:
        DataError: It is none of these.
    """
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            raise DataError(f"{column}: text that is not JSON") from None
    if isinstance(given, Mapping):
        if given.get("fn_name"):
            raise DataError(f"{column}: tests of a function (fn_name), not of a program")
        inputs = given.get("input", given.get("inputs"))
        outputs = given.get("output", given.get("outputs"))
        if not isinstance(inputs, Sequence) or not isinstance(outputs, Sequence):
            raise DataError(f"{column}: needs the lists input and output")
        if len(inputs) != len(outputs):
            raise DataError(f"{column}: {len(inputs)} inputs but {len(outputs)} outputs")
        given = [{"stdin": a, "expected_stdout": b} for a, b in zip(inputs, outputs, strict=True)]
    if not isinstance(given, Sequence):
        raise DataError(f"{column}: needs a list of {{stdin, expected_stdout}}")
    return [_test(test, f"{column}, test {number}") for number, test in enumerate(given)]


def _test(test: Any, where: str) -> dict[str, str]:
    pair = test if isinstance(test, Mapping) else {}
    return {
        "stdin": _text(pair.get("stdin", pair.get("input")), f"{where}: needs the text stdin"),
        "expected_stdout": _text(
            pair.get("expected_stdout", pair.get("output")),
            f"{where}: needs the text expected_stdout",
        ),
    }


def _text(value: Any, needed: str) -> str:
    if isinstance(value, list):  # APPS has some of these: a line each
        return "\n".join(map(str, value))
    if not isinstance(value, str):
        raise DataError(needed)
    return value


def _limits(row: Row) -> dict[str, Any]:
    """The limits that the row asks for, in the verifier's words.

    Raises:
        DataError: One is not a number above 0.
    """
    seconds = row.get("time_limit_s", row.get("time_limit"))
    if isinstance(seconds, Mapping):  # DeepMind's
        seconds = (seconds.get("seconds") or 0) + (seconds.get("nanos") or 0) / 1e9
    megabytes = row.get("memory_mb")
    if megabytes is None and row.get("memory_limit_bytes"):
        megabytes = row["memory_limit_bytes"] / 2**20
    for name, value in {"time_limit_s": seconds, "memory_mb": megabytes}.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and value > 0):
            raise DataError(f"{name}: {value!r} is not a number above 0")
    limits: dict[str, Any] = {}
    if seconds is not None:
        limits |= {"cpu_s": float(seconds), "wall_s": max(10.0, 3.0 * float(seconds))}
    if megabytes is not None:
        limits["memory_mb"] = max(1, round(megabytes))
    try:
        Limits(**limits)
    except JobError as error:
        raise DataError(str(error)) from None
    return limits


def _solution(row: Row) -> str | None:
    """A Python solution, if the row has one."""
    given = row.get("solution") or row.get("solutions")
    if isinstance(given, str):
        try:
            listed = json.loads(given) if row.get("solution") is None else given
        except (ValueError, RecursionError):
            listed = given
        given = listed
    if isinstance(given, Mapping):
        languages, sources = given.get("language") or [], given.get("solution") or []
        pairs = zip(languages, sources, strict=False)
        given = [source for language, source in pairs if language == PYTHON3]
    if isinstance(given, Sequence) and not isinstance(given, str):
        given = next((source for source in given if isinstance(source, str)), None)
    return given if isinstance(given, str) else None
