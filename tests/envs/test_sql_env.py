"""Questions over generated databases: that they are fair, and that only right queries earn."""

import asyncio
import re
import sqlite3
from collections import Counter
from functools import partial

import numpy as np
import pytest
import yaml

import rl_envs
import rl_sandboxes
from rl_envs import DataError
from rl_envs.text import sql as sql_env
from rl_envs.text.sql_questions import ANY_ORDER, FAMILIES, QUESTIONS
from rl_envs.text.sql_schemas import SCHEMAS
from rl_envs.text.sql_world import TOLERANCE, drawn, reference_of, slips
from rl_envs.tools import ToolFailure
from rl_sandboxes import SandboxError
from rl_verifiers import make, score_many
from rl_verifiers.sql_compare import Table, same

EVERY_ROW = re.compile(r"ORDER BY .*\b(name|title)( LIMIT \{k\})?$")


@pytest.fixture
def env():
    made = rl_envs.make("text/SQL-v0")
    made.reset(options={"index": 0})
    return made


def drawn_task(n, schemas=tuple(SCHEMAS), families=FAMILIES, hidden=2):
    return drawn(schemas, families, hidden, None, np.random.default_rng(n))


def act(env, name, **arguments):
    """The text that a call is answered with, and the reward."""
    seen, reward, *_ = env.step(env.call_text(name, **arguments))
    return (seen[0]["content"] if seen else ""), reward


# The questions.


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_family_is_asked_of_every_schema(schema):
    assert {q.family for q in QUESTIONS if q.schema == schema} == set(FAMILIES)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: f"{q.schema} {q.family}")
def test_a_question_says_what_it_leaves_open(question):
    if "ORDER BY" in question.sql:  # no two rows are tied: names and titles are unique
        assert EVERY_ROW.search(question.sql)
        assert "in alphabetical order" in question.text
    else:
        columns = question.sql.split(" FROM ")[0]
        is_single = "COUNT(" in columns or "SUM(" in columns or "AVG(" in columns
        is_single = is_single and "GROUP BY" not in question.sql
        assert is_single != (ANY_ORDER in question.text)
    assert ("different" in question.text) == ("DISTINCT" in question.sql)


def test_names_are_unique_where_questions_rely_on_it():
    tables = {name: text for schema in SCHEMAS.values() for name, text in schema.tables.items()}
    named = [text for text in tables.values() if re.search(r"^  (name|title) ", text, re.M)]
    assert all(re.search(r"^  (name|title) TEXT NOT NULL UNIQUE", text, re.M) for text in named)


@pytest.mark.parametrize("question", QUESTIONS[::4], ids=lambda q: f"{q.schema} {q.family}")
def test_a_misreading_is_wrong_on_some_database(question):
    """By the verifier's own judgment, for one question of each family."""
    task = drawn_task(0, (question.schema,), (question.family,))
    pattern = re.escape(question.sql)
    pattern = re.sub(r"\\\{(\w+)\\\}", lambda m: f"(?P<{m[1]}>.+?)", pattern, count=0)
    seen = set()

    def once(found):  # a parameter that stands twice is a group the first time only
        name = found[1]
        return found[0] if name not in seen and not seen.add(name) else f"(?P={name})"

    values = re.fullmatch(re.sub(r"\(\?P<(\w+)>\.\+\?\)", once, pattern), task.answer).groupdict()
    wrong = [mistake.format(**values) for mistake in question.mistakes]
    texts = [f"```sql\n{query}\n```" for query in (task.answer, *wrong)]
    scores = score_many(make("sql"), texts, [task.row()] * len(texts))
    assert [score.passed for score in scores] == [True] + [False] * len(wrong)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: f"{q.schema} {q.family}")
def test_a_slip_is_wrong_on_some_database(question):
    for n in range(5):
        task = drawn_task(n, (question.schema,), (question.family,))
        right = [result(task, number, task.answer) for number in range(3)]
        references = [reference_of(task.answer, Table([""] * len(r[0]), r)) for r in right]
        alike = partial(same, tol=TOLERANCE)
        assert all(map(alike, references, right))
        for slip in slips(task.answer):
            found = [result(task, number, slip) for number in range(3)]
            assert not all(map(alike, references, found)), slip


def result(task, number, query):
    connection = sqlite3.connect(":memory:")
    connection.executescript(task.info["schema"] + task.info["databases"][number])
    return [list(row) for row in connection.execute(query)]


@pytest.mark.parametrize(
    ("query", "slipped"),
    [
        ("SELECT a FROM t WHERE b >= 5", ["SELECT a FROM t WHERE b > 5"]),
        ("SELECT a FROM t WHERE b < '5'", ["SELECT a FROM t WHERE b <= '5'"]),
        (
            "SELECT a FROM t WHERE d BETWEEN '1' AND '2'",
            [
                "SELECT a FROM t WHERE d > '1' AND d <= '2'",
                "SELECT a FROM t WHERE d >= '1' AND d < '2'",
            ],
        ),
        (
            "SELECT AVG(t.a) FROM t",
            ["SELECT SUM(t.a) / COUNT(t.a) FROM t", "SELECT AVG(DISTINCT t.a) FROM t"],
        ),
        ("SELECT n, SUM(a) FROM t", ["SELECT n, SUM(DISTINCT a) FROM t"]),
        (
            "SELECT a FROM t ORDER BY b DESC, t.c LIMIT 3",
            ["SELECT a FROM t ORDER BY b DESC LIMIT 3"],
        ),
        ("SELECT a FROM t WHERE b > (SELECT AVG(b) FROM t)", []),
    ],
)
def test_slips_of_a_query(query, slipped):
    assert slips(query) == slipped


def test_equal_ids_are_equal_tasks():
    tasks = [drawn_task(n, ("shop",), ("distinct",)) for n in range(200)]
    by_id = {task.id: task for task in tasks}
    assert len({task.prompt for task in tasks}) < len(by_id) < 200
    assert all(by_id[task.id] == task for task in tasks)


def test_no_question_is_in_both_splits():
    train, test = (rl_envs.make("text/SQL-v0", split=split).tasks for split in ("train", "test"))
    asked = {test[n].prompt for n in range(40)}
    assert not asked & {train[n].prompt for n in range(150)}


# Play.


@pytest.mark.parametrize("answer", ["sql", "value"])
def test_the_oracle_is_right(answer):
    env = rl_envs.make("text/SQL-v0", answer=answer)
    for index in range(8):
        env.reset(options={"index": index})
        for _ in range(3):
            _, reward, terminated, _, info = env.step(env.expert(np.random.default_rng(0)))
        assert (reward, terminated, info["tools"]["errors"]) == (1.0, True, 0)


def literal(rows):
    """A query that gives rows without looking at anything."""
    values = ", ".join(
        "(" + ", ".join(repr(v) if not isinstance(v, str) else f"'{v}'" for v in row) + ")"
        for row in rows
    )
    return f"VALUES {values}"


def test_an_answer_written_down_by_hand_fails_on_what_was_not_seen(env):
    for index in range(6):
        env.reset(options={"index": index})
        _, reward, _, _, info = env.step(
            env.call_text("answer", text=literal(env.task.info["rows"]))
        )
        assert reward == 0.0
        assert info["score"].parts["databases"] == pytest.approx(1 / 3)  # the first one only


def test_constant_and_frequent_answers_earn_little():
    env = rl_envs.make("text/SQL-v0")
    tasks = [env.tasks[n] for n in range(40)]
    frequent = Counter(task.answer for task in tasks).most_common(1)[0][0]
    scores = score_many(make("sql"), [frequent] * 12, [task.row() for task in tasks[:12]])
    assert sum(score.passed for score in scores) <= 2
    value = rl_envs.make("text/SQL-v0", answer="value")
    assert sum(value.score("2", task.row()).passed for task in tasks) < 8


# The tools.


def test_schema_shows_one_table_or_all(env):
    tables = SCHEMAS[env.task.info["topic"]].tables
    text, _ = act(env, "schema")
    assert all(statement in text for statement in tables.values())
    name = next(iter(tables))
    assert act(env, "schema", table=name.upper())[0] == f"{tables[name]};"
    assert act(env, "schema", table="x")[0] == f"Error: no table 'x'; there are {', '.join(tables)}"


def test_query_shows_rows(env):
    text, _ = act(env, "query", sql="```sql\nSELECT 1 AS a, NULL, 'x|y', 2.5 AS b;\n```")
    assert text == "a | NULL | 'x|y' | b\n1 | NULL | x|y | 2.5\n(1 row)"
    numbers = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 40) "
    text, _ = act(env, "query", sql=f"{numbers} SELECT n FROM c")
    assert text.endswith("30\n(40 rows, the first 30 are shown)")


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("DELETE FROM product", "only one SELECT is run"),
        ("SELECT 1; DROP TABLE product", "only one SELECT is run: several statements"),
        ("PRAGMA writable_schema = 1", "only one SELECT is run"),
        ("SELECT random()", "refused"),
        ("SELECT load_extension('x')", "refused"),
        ("SELECT FROM WHERE", "syntax"),
        ("SELECT missing", "failed: no such column: missing"),
        ("", "only one SELECT is run"),
        ("SELECT '\0'", "null character"),
        (f"SELECT '{'x' * 30_000}'", "over 20,000 characters"),
        (
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT MAX(n) FROM c",
            "over limit: interrupted",
        ),
        ("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c",
         "over limit: more than 1000 rows"),
        ("SELECT hex(zeroblob(100000000))", "over limit"),
    ],
)  # fmt: skip
def test_a_query_that_is_not_run_is_told(env, query, error):
    text, _ = act(env, "query", sql=query)
    assert text.startswith("Error: ")
    assert error in text


def test_nothing_of_the_hidden_databases_is_seen(env):
    text, _ = act(env, "query", sql="SELECT COUNT(*) FROM sqlite_master WHERE type = 'table'")
    assert text.splitlines()[1] == str(len(SCHEMAS[env.task.info["topic"]].tables))
    text, _ = act(env, "query", sql="SELECT file FROM pragma_database_list")
    assert text.startswith("Error: ")


def test_a_dead_sandbox_is_our_failure(env, monkeypatch):
    class Dead:
        async def arun(self, job):
            raise SandboxError("gone")

    monkeypatch.setattr(rl_sandboxes, "shared", lambda choice: Dead())
    with pytest.raises(ToolFailure, match="the sandbox failed: gone"):
        env.step(env.call_text("query", sql="SELECT 1"))
    *_, info = env.step(env.call_text("answer", text="SELECT 1"))
    assert info["score"].status == "error"


def test_many_episodes_at_once_do_not_mix():
    async def last_row(env, number):
        await env.areset(options={"index": 0})
        text = env.call_text("query", sql=f"SELECT {number}")
        observation, *_ = await env.astep(text)
        return observation[0]["content"].splitlines()[1]

    async def play_all():
        env = rl_envs.make("text/SQL-v0")
        return await asyncio.gather(*(last_row(env.clone(), n) for n in range(8)))

    assert asyncio.run(play_all()) == [str(n) for n in range(8)]


# Values.


@pytest.mark.parametrize(
    ("text", "rows", "query", "right"),
    [
        ("1234", [[1234]], "SELECT 1", True),
        ("1,234", [[1234]], "SELECT 1", True),
        ("<answer>0.3333333</answer>", [[1 / 3]], "SELECT 1", True),
        ("0.33", [[1 / 3]], "SELECT 1", False),
        ('[["Tom", 2], ["Ann", 1]]', [["Ann", 1], ["Tom", 2]], "SELECT 1", True),
        ("Tom | 2\nAnn | 1", [["Ann", 1], ["Tom", 2]], "SELECT 1", True),
        ("Tom | 2\nAnn | 1", [["Ann", 1], ["Tom", 2]], "SELECT a FROM t ORDER BY a", False),
        ("Ann\nTom", [["Ann"], ["Tom"]], "SELECT a FROM t ORDER BY a", True),
        ("Ann", [["Ann"], ["Tom"]], "SELECT 1", False),
        ("Ann\nTom\nTom", [["Ann"], ["Tom"]], "SELECT 1", False),
        ("nan", [[1]], "SELECT 1", False),
        ("[" * 100_000, [[1]], "SELECT 1", False),
        ("[[[1]]]", [[1]], "SELECT 1", False),
        ("9" * 5_000, [[1]], "SELECT 1", False),
        ("٣", [[3]], "SELECT 1", False),
    ],
)
def test_how_values_are_read(text, rows, query, right):
    env = rl_envs.make("text/SQL-v0", answer="value")
    assert env.score(text, {"rows": rows, "answer": query}).passed is right


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answer": "rows"}, "answer is 'rows'; it must be one of sql, value"),
        ({"schemas": ["zoo"]}, "schemas is .*; it must be some of shop"),
        ({"families": []}, "families is"),
        ({"hidden": 0}, "hidden is 0"),
        ({"difficulty": 0}, "must be 1 to 4"),
        ({"difficulty": [1]}, "must be 1 to 4"),
        ({"hidden": "x"}, "hidden is 'x'; it must be 1 to 8"),
        ({"max_shown_rows": 0}, "max_shown_rows is 0; it must be 1 to 1000"),
        ({"schemas": "shop"}, "schemas is 'shop'; it must be a list of names"),
        ({"families": 3}, "families is 3; it must be a list of names"),
    ],
)
def test_bad_options_are_told(options, message):
    with pytest.raises(DataError, match=message):
        rl_envs.make("text/SQL-v0", **options)


def test_the_prompt_says_what_an_answer_is():
    prompts = {
        form: rl_envs.make("text/SQL-v0", answer=form).system_prompt for form in ("sql", "value")
    }
    assert prompts == sql_env._PROMPTS


def test_no_family_is_a_word_that_yaml_reads_as_something_else():
    assert yaml.safe_load(f"[{', '.join(FAMILIES)}]") == list(FAMILIES)
