"""Answer questions over a database by SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

import rl_sandboxes
from rl_envs.tasks import DataError, GeneratedTasks
from rl_envs.text.sql_questions import FAMILIES
from rl_envs.text.sql_schemas import SCHEMAS
from rl_envs.text.sql_world import TOLERANCE, drawn, reference_of
from rl_envs.tools import Finish, ToolEnv, ToolError, ToolFailure, tool
from rl_envs.types import Message, Task
from rl_sandboxes import SandboxError
from rl_verifiers import extract
from rl_verifiers.code_runs import RunError
from rl_verifiers.score import Row, Score
from rl_verifiers.sql import DEFAULT_LIMITS, MAX_QUERY_CHARACTERS, SandboxChoice
from rl_verifiers.sql_compare import Table, same
from rl_verifiers.sql_runs import Budget, Database, run_queries
from rl_verifiers.sql_text import QueryError, find_query, single_query

ANSWERS = ("sql", "value")
DIFFICULTY = {
    1: ("filter and count", "date range"),
    2: ("filter and count", "date range", "missing", "distinct", "order and limit"),
    3: FAMILIES,
    4: ("join and aggregate", "group and having", "order and limit", "nested", "anti-join"),
}
MAX_STEPS = 5_000_000
MAX_ROWS = 1_000
MAX_BYTES = 1 << 20
MAX_ANSWER_CHARACTERS = 10_000
_MAX_CELL = 200


class SQL(ToolEnv):
    """Answer a question over a database: look at its tables, try queries, give the final query.

    The final query runs on the database that the policy saw and on others of the same tables with
    other contents, which it did not see; on each it must give what the right query gives. An
    answer written down by hand, and a query that is right by accident, fail there.

    Args:
        answer: What is to be given: ``sql``: a query, or ``value``: the result itself, compared
            on the database that was seen (easier, and right by accident more often).
        schemas: Which databases: some of ``shop``, ``library``, ``flights``, ``clinic``.
        families: Kinds of questions; default: all of ``rl_envs.text.sql_questions.FAMILIES``.
        difficulty: 1 to 4: a preset of ``families``.
        hidden: How many databases the policy does not see.
        max_shown_rows: Rows of a result that are shown.
        sandbox: Where queries run: a back end's name, ``{"name": ..., **options}`` or a Sandbox.
        seed: Seeds the questions.
        options: Those of ``ToolEnv``.
    """

    max_turns = 8
    styles = ("expert",)
    source = "generated databases"

    def __init__(
        self,
        *,
        answer: str = "sql",
        schemas: Sequence[str] = tuple(SCHEMAS),
        families: Sequence[str] | None = None,
        difficulty: int | None = None,
        hidden: int = 2,
        max_shown_rows: int = 30,
        sandbox: SandboxChoice = "local",
        seed: int = 0,
        **options: Any,
    ) -> None:
        if difficulty is not None and difficulty not in tuple(DIFFICULTY):
            raise DataError(f"difficulty is {difficulty!r}; it must be 1 to {max(DIFFICULTY)}")
        for name, names in (("schemas", schemas), ("families", families or ())):
            if isinstance(names, str) or not isinstance(names, Sequence):
                raise DataError(f"{name} is {names!r:.60}; it must be a list of names")
        preset = FAMILIES if difficulty is None else DIFFICULTY[difficulty]
        self.form = answer
        self.schemas = tuple(schemas)
        self.families = preset if families is None else tuple(families)
        self.hidden, self.max_shown_rows = hidden, max_shown_rows
        self.sandbox, self.seed_of_tasks = sandbox, seed
        if answer == "sql" and options.get("verifier") is None:
            options["verifier"] = {"name": "sql", "sandbox": sandbox, "max_steps": 4 * MAX_STEPS}
        if options.get("system_prompt") is None:
            options["system_prompt"] = _PROMPTS.get(answer, "")
        super().__init__(**options)
        self.looked = self.queried = False

    def _check_options(self) -> None:
        super()._check_options()
        if self.form not in ANSWERS:
            raise DataError(f"answer is {self.form!r}; it must be one of {', '.join(ANSWERS)}")
        for name, known in (("schemas", tuple(SCHEMAS)), ("families", FAMILIES)):
            given = getattr(self, name)
            if not given or not set(given) <= set(known):
                raise DataError(f"{name} is {list(given)}; it must be some of {', '.join(known)}")
        for name, most in (("hidden", 8), ("max_shown_rows", MAX_ROWS)):
            number = getattr(self, name)
            if type(number) is not int or not 1 <= number <= most:
                raise DataError(f"{name} is {number!r:.60}; it must be 1 to {most}")

    def load_tasks(self, split: str) -> GeneratedTasks:
        """Questions without end; no question is in both splits, whatever its database."""
        make = partial(drawn, self.schemas, self.families, self.hidden, split)
        return GeneratedTasks(make, seed=self.seed_of_tasks)  # ``drawn`` minds the split

    def opening(self, task: Task) -> Sequence[Message]:
        """The question."""
        if not task.info.get("schema"):
            raise DataError(
                f"task {task.id}: no column schema: the statements that make its tables"
            )
        self.looked = self.queried = False
        return [Message(role="user", content=str(task.prompt))]

    @tool(inline=True)
    def schema(self, table: str = "") -> str:
        """Show how the tables of the database are made.

        Args:
            table: The name of one table; without it all are shown.
        """
        statements = [each.strip() for each in self.task.info["schema"].split(";\n")]
        if table:
            wanted = table.strip().casefold()
            statements = [each for each in statements if _table_of(each) == wanted]
            if not statements:
                known = map(_table_of, self.task.info["schema"].split(";\n"))
                raise ToolError(f"no table {table[:80]!r}; there are {', '.join(known)}")
        self.looked = True
        return "\n\n".join(f"{each.rstrip(';')};" for each in statements)

    @tool
    async def query(self, sql: str) -> str:
        """Run a query (SQLite). It can only read.

        Args:
            sql: One SELECT, or WITH ... SELECT.
        """
        query = _single(sql)
        database = Database(f"{self.task.info['schema']}\n{self.task.info['databases'][0]}")
        budget = Budget(MAX_STEPS, MAX_ROWS, MAX_BYTES, DEFAULT_LIMITS)
        try:
            sandbox = rl_sandboxes.shared(self.sandbox)
            ((outcome,),) = await run_queries(sandbox, [database], [query], budget)
        except (RunError, SandboxError) as error:
            raise ToolFailure(f"the sandbox failed: {error}") from error
        if outcome.status == "database":
            raise ToolFailure(
                f"task {self.task.id}: its database cannot be made: {outcome.message}"
            )
        if outcome.table is None:
            raise ToolError(f"{outcome.status.replace('_', ' ')}: {outcome.message}")
        self.queried = True
        return shown_table(outcome.table, self.max_shown_rows)

    @tool(inline=True)
    def answer(self, text: str) -> Finish:
        """Give the final answer, as asked for. This ends the task.

        Args:
            text: The final answer.
        """
        return Finish(text)

    def score(self, completion: str, row: Row) -> Score:
        """Whether a result written as text is the right one."""
        rest = extract.without_thinking(completion) or ""
        text = extract.answer_tag(rest)
        text = (rest if text is None else text).strip()
        if not text:
            return Score.wrong("no answer", status="no_answer")
        if len(text) > MAX_ANSWER_CHARACTERS:
            return Score.wrong(f"over {MAX_ANSWER_CHARACTERS:,} characters", status="over_limit")
        right = [list(each) for each in row["rows"]]
        reference = reference_of(row["answer"], Table([""] * len(right[0]), right))
        found = rows_of(text, right)
        if same(reference, found, tol=TOLERANCE):
            return Score.correct(answer=text[:300])
        return Score.wrong(f"{text!r:.80} is not the result", answer=text[:300])

    # The oracle.

    def demonstration(self, task: Task, style: str, rng: np.random.Generator) -> str:
        """The right answer."""
        if self.form == "sql":
            return f"```sql\n{task.answer}\n```"
        return "\n".join(" | ".join(map(_shown, row)) for row in task.info["rows"])

    def demonstrate(self, style: str, rng: np.random.Generator) -> str:
        """Looks at the tables, runs the right query once, answers."""
        if not self.looked:
            return self.call_text("schema")
        if not self.queried:
            return self.call_text("query", sql=self.task.answer)
        text = self.task.answer
        if self.form == "value":
            text = self.demonstration(self.task, style, rng)
        return self.call_text("answer", text=text)


_PROMPTS = {
    "sql": (
        "Find a SQL query (SQLite) that answers the question. Look at the tables and try queries; "
        "the answer is the final query itself, which must also be right when the contents of the "
        "tables are others. It gives the columns that are asked for, in that order, and no more."
    ),
    "value": (
        "Answer the question from a database (SQLite). Look at the tables and try queries; the "
        "answer is the result: the value alone or, where there are several, each row on a line of "
        "its own with ' | ' between its values. Give what is asked for, in that order, and no more."
    ),
}


def _single(sql: str) -> str:
    """The one query in a text.

    Raises:
        ToolError: It holds none, or more, or characters that are no SQL.
    """
    if len(sql) > MAX_QUERY_CHARACTERS:
        raise ToolError(f"over {MAX_QUERY_CHARACTERS:,} characters of SQL")
    if "\0" in sql or any("\ud800" <= letter <= "\udfff" for letter in sql):
        raise ToolError("a null character or a lone surrogate")
    try:
        query, _ = single_query(find_query(sql) or sql)
    except QueryError as error:
        raise ToolError(f"only one SELECT is run: {error}") from None
    return query


def _table_of(statement: str) -> str:
    words = statement.split(maxsplit=3)
    return words[2].strip('("').casefold() if len(words) > 2 else ""


def shown_table(table: Table, most: int) -> str:
    """A result as text: names of columns, rows, how many there are."""
    lines = [" | ".join(map(_shown, table.columns))]
    lines += [" | ".join(map(_shown, row)) for row in table.rows[:most]]
    count = len(table.rows)
    rest = f", the first {most} are shown" if count > most else ""
    return "\n".join([*lines, f"({count} row{'' if count == 1 else 's'}{rest})"])


def _shown(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value[:_MAX_CELL].hex()}'"
    text = repr(value) if isinstance(value, float) else str(value)
    return text if len(text) <= _MAX_CELL else f"{text[:_MAX_CELL]}..."


def rows_of(text: str, like: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """The rows that a text writes down: as JSON, or a line for each with ``|`` between values.

    A value is read as a number where the column of ``like`` holds numbers.
    """
    rows = _json_rows(text)
    if rows is None:
        lines = [line for line in text.splitlines() if line.strip()]
        rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    numeric = [any(isinstance(row[i], int | float) for row in like) for i in range(len(like[0]))]
    return [
        [_read(cell, number) for cell, number in zip(row, numeric, strict=True)]
        if len(row) == len(numeric)
        else list(row)
        for row in rows
    ]


def _json_rows(text: str) -> list[list[Any]] | None:
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    rows = [each if isinstance(each, list) else [each] for each in found]
    plain = all(cell is None or isinstance(cell, str | int | float) for r in rows for cell in r)
    return rows if plain else None


def _read(cell: Any, number: bool) -> Any:
    if not isinstance(cell, str):
        return cell
    if cell == "NULL":
        return None
    if not number:
        return cell.strip("\"'`")
    plain = cell.replace(",", "").strip("\"'`. ")
    if not plain.isascii():
        return cell
    try:
        return int(plain) if plain.lstrip("-").isdecimal() else float(plain)
    except ValueError:
        return cell
