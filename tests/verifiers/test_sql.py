import asyncio
import sqlite3
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_sandboxes.types import Result
from rl_verifiers import VerifierError, make
from rl_verifiers.sql_compare import Table, same, unordered
from rl_verifiers.sql_inside import answers
from rl_verifiers.sql_text import find_query, ordering, single_query, tokens_of

SCHEMA = """
CREATE TABLE pet (id INTEGER PRIMARY KEY, name TEXT, kind TEXT, weight REAL, age INTEGER);
INSERT INTO pet VALUES (1, 'Tom', 'cat', 4.5, 3), (2, 'Rex', 'dog', 30.0, 5),
  (3, 'Ada', 'cat', 4.5, NULL), (4, 'Bo', 'dog', 12.25, 3), (5, 'Kim', 'cat', 0.1, 3);
"""


def judged(query, answer, *, options=None, **columns):
    row = {"id": 1, "schema": SCHEMA, "answer": answer, **columns}
    return make("sql", **(options or {}))(f"```sql\n{query}\n```", row)


@pytest.mark.parametrize(
    ("query", "answer", "status"),
    [
        ("select name from pet where kind = 'dog'", "SELECT name FROM pet WHERE id IN (4, 2)",
         "correct"),
        ("SELECT name AS n FROM pet", "SELECT name FROM pet;", "correct"),
        ("SELECT name FROM pet WHERE age = 3", "SELECT name FROM pet WHERE kind = 'cat'", "wrong"),
        ("SELECT DISTINCT kind FROM pet", "SELECT kind FROM pet", "wrong"),
        ("SELECT count(*) * 1.0 FROM pet", "SELECT 5", "correct"),
        ("SELECT '5'", "SELECT 5", "wrong"),
        ("SELECT 0", "SELECT NULL", "wrong"),
        ("SELECT sum(weight) / 3 + 1e-12 FROM pet", "SELECT sum(weight) / 3 FROM pet", "correct"),
        ("SELECT 2000001", "SELECT 2000000", "wrong"),
        # the tolerance is the reference's to give: a float of the completion's own brings none
        ("SELECT 2000000.0 + 1", "SELECT 2000000", "wrong"),
        ("SELECT age * 1.0000005 FROM pet", "SELECT age FROM pet", "wrong"),
        ("SELECT 2000001", "SELECT 2000000.0", "correct"),
        ("SELECT 1, 2000000.5 UNION ALL SELECT 2, 2000001",
         "SELECT 1, 2000000.5 UNION ALL SELECT 2, 2000000", "wrong"),
        ("SELECT weight + 1e-9, id FROM pet", "SELECT weight, id FROM pet", "correct"),
        ("SELECT 2, 1", "SELECT 1, 2", "wrong"),
        ("WITH c AS (SELECT * FROM pet) SELECT max(age) FROM c", "SELECT 5", "correct"),
        ("SELECT name FROM pet WHERE", "SELECT 1", "unparsable"),
        ("SELEC name FROM pet", "SELECT 1", "wrong"),
        ("SELECT colour FROM pet", "SELECT 1", "wrong"),
        ("SELECT 1; SELECT 1", "SELECT 1", "wrong"),
        ("DELETE FROM pet", "SELECT 1", "wrong"),
        ("WITH c AS (SELECT 1) INSERT INTO pet SELECT 9, 'x', 'y', 1, 1", "SELECT 1", "wrong"),
        ("SELECT value FROM json_each('[5]')", "SELECT 5", "correct"),
        ("SELECT * FROM pragma_table_info('pet')", "SELECT 1", "wrong"),
        ("SELECT load_extension('x')", "SELECT 1", "wrong"),
        ("SELECT abs(random() % 1)", "SELECT 0", "wrong"),
        ("SELECT 1", "SELECT colour FROM pet", "bad_reference"),
        ("SELECT 1", "DROP TABLE pet", "bad_reference"),
        ("SELECT 1", None, "bad_reference"),
        ("SELECT name, age FROM pet WHERE id < 3", [["Rex", 5], ["Tom", 3]], "correct"),
        ("SELECT name FROM pet WHERE id < 3", ["Tom", "Bo"], "wrong"),
    ],
)  # fmt: skip
def test_statuses(query, answer, status):
    score = judged(query, answer)
    assert score.status == status, score.reason
    assert score.value == (status == "correct")


@pytest.mark.parametrize(
    ("query", "answer", "passes"),
    [
        # equal ages: any order among them, none across
        ("SELECT name FROM pet ORDER BY age, name", "SELECT name FROM pet ORDER BY age", True),
        ("SELECT name FROM pet ORDER BY age, name DESC", "SELECT name FROM pet ORDER BY age", True),
        ("SELECT name FROM pet ORDER BY name", "SELECT name FROM pet ORDER BY age", False),
        ("SELECT name FROM pet ORDER BY age DESC", "SELECT name FROM pet ORDER BY age", False),
        # three pets of age 3, one of which the LIMIT keeps: any of them will do, no other
        ("SELECT 'Kim'", "SELECT name FROM pet WHERE age > 0 ORDER BY age LIMIT 1", True),
        ("SELECT 'Rex'", "SELECT name FROM pet WHERE age > 0 ORDER BY age LIMIT 1", False),
        ("VALUES ('Kim'), ('Kim')",
         "SELECT name FROM pet WHERE age = 3 ORDER BY age LIMIT 2", False),
        ("SELECT 'Kim'", "SELECT name FROM pet ORDER BY age LIMIT 1 OFFSET 1", True),
        ("SELECT 'Ada'", "SELECT name FROM pet ORDER BY age LIMIT 1 OFFSET 1", False),
        ("VALUES ('dog', 2), ('cat', 3)",
         "SELECT kind, count(*) AS n FROM pet GROUP BY kind ORDER BY n", True),
        ("VALUES ('cat', 3), ('dog', 2)",
         "SELECT kind, count(*) AS n FROM pet GROUP BY kind ORDER BY 2", False),
        ("VALUES ('dog'), ('cat')",
         "SELECT kind FROM pet GROUP BY kind ORDER BY max(age) - max(age)", True),
        ("VALUES ('dog'), ('cat')", "SELECT DISTINCT kind FROM pet ORDER BY kind DESC", True),
        # the tie cannot be told from the text: the reference's order is the only one
        ("SELECT name FROM pet ORDER BY age DESC, name",
         "SELECT name, age AS a FROM pet ORDER BY a * 0, id DESC", False),
        # an inner ORDER BY orders nothing
        ("SELECT name FROM pet ORDER BY name",
         "SELECT * FROM (SELECT name FROM pet ORDER BY id)", True),
    ],
)  # fmt: skip
def test_order(query, answer, passes):
    score = judged(query, answer)
    assert score.passed is passes, score.reason


@pytest.mark.parametrize(
    "query",
    [
        "WITH c AS (SELECT 1) INSERT INTO pet SELECT 9, 'x', 'y', 1, 1",
        "SELECT * FROM pragma_table_info('pet')",
        "SELECT load_extension('x')",
        "SELECT random()",
    ],
)
def test_only_reading_is_allowed(query):
    assert judged(query, "SELECT 1").reason.startswith("not a query that only reads: ")


def test_columns_may_stand_in_any_order_if_asked():
    answer = "SELECT kind, name, weight FROM pet"
    free = {"column_order": False}
    assert not judged("SELECT weight, kind, name FROM pet", answer).passed
    assert judged("SELECT weight, kind, name FROM pet", answer, options=free).passed
    # each column fits another one by itself, but the rows are torn apart
    torn = "SELECT a.kind, b.name, b.weight FROM pet a JOIN pet b ON a.id = b.id % 5 + 1"
    assert not judged(torn, answer, options=free).passed


def test_work_is_limited_by_steps_not_by_time():
    count = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c"
    endless = f"{count}) SELECT count(*) FROM c"
    score = judged(endless, "SELECT 1", options={"max_steps": 200_000})
    assert (score.status, score.reason) == ("over_limit", "over the limit: interrupted")
    many = f"{count} LIMIT 99) SELECT * FROM c"
    assert judged(many, "SELECT 1", options={"max_rows": 98}).status == "over_limit"
    assert judged("SELECT hex(zeroblob(900000000))", "SELECT 1").status == "over_limit"
    assert judged("SELECT " + "1," * 11_000 + "1", "SELECT 1").status == "over_limit"
    assert judged("SELECT " + "(" * 5_000, "SELECT 1").status in ("unparsable", "over_limit")


@pytest.mark.parametrize(
    "call",
    [
        "printf('%.*c', 900000000, 'x')",
        "printf('%.900000000c', 'x')",
        "printf('%' || '.9' || '00000000c', 'x')",
        "printf('%%%-+,.9999d', 1)",
        "printf('%s' || char(10) || '%.*c', 1, 900000000, 'x')",
        "printf(x'252e2a63', 900000000, 'x')",
        "format(replace(hex(zeroblob(500)), '0', '%d'), 1)",
    ],
)
def test_one_step_of_printf_is_bounded(call):
    before = time.process_time()
    (outcome,) = answers("", "", [f"SELECT {call}"], 5_000_000, 1_000, 1 << 20)
    assert time.process_time() - before < 1.0
    assert (outcome["status"], outcome["message"][:12]) == ("over_limit", "printf with ")


def test_printf_is_sqlites_own():
    formats = (
        "'%.2f', 3.14159",
        "'%d %s %f %05d %,d %% %-6s|%x %e %q %Q', 1, 'é', 2.5, 42, 1234567, 'a', 255, 0.1, 'it''s'",
        "'%s%s', 'one'",
        "'%%*d%999d', 7",
        "NULL, 1",
        "2.5",
        "1e20",
        "",
    )
    query = "SELECT " + ", ".join(f"printf({each})" for each in formats)
    (outcome,) = answers("", "", [query], 5_000_000, 1_000, 1 << 20)
    expected = sqlite3.connect(":memory:").execute(query).fetchall()
    assert (outcome["message"], outcome["rows"]) == ("", [list(row) for row in expected])
    assert outcome["rows"][0][0] == "3.14"
    assert judged(
        "SELECT printf('%.2f', weight) FROM pet", [["4.50"]] * 2 + [["30.00"], ["12.25"], ["0.10"]]
    ).passed


def test_a_coincidence_is_found_by_a_second_instance():
    ddl = "CREATE TABLE t (a INT, b INT);"
    rows = ["INSERT INTO t VALUES (1, 1), (2, 2)", {"schema": "INSERT INTO t VALUES (1, 2)"}]
    verifier = make("sql")
    row = {"schema": ddl, "databases": rows, "answer": "SELECT a FROM t"}
    score = verifier("SELECT b FROM t", row)
    assert (score.status, score.parts["databases"]) == ("wrong", 0.5)
    assert score.reason.startswith("database 2 of 2:")
    assert verifier("SELECT b FROM t", {**row, "databases": rows[:1]}).passed
    assert verifier("SELECT t.a FROM t", row).parts == {"databases": 1.0, "empty_result": 0.0}
    assert verifier("SELECT 1", {**row, "answer": [[1]]}).status == "bad_reference"
    broken = {**row, "databases": ["INSERT INTO x VALUES (1)"]}
    assert verifier("SELECT 1", broken).status == "bad_reference"


def test_a_reference_that_is_empty_everywhere_is_unusable_unless_allowed():
    nothing = "SELECT name FROM pet WHERE id = 77"
    assert judged("SELECT 1 WHERE 0", nothing).status == "bad_reference"
    assert judged("SELECT 1 WHERE 0", []).status == "bad_reference"
    allowed = {"allow_empty": True}
    score = judged("SELECT name FROM pet WHERE id = 99", nothing, options=allowed)
    assert (score.passed, score.parts["empty_result"]) == (True, 1.0)
    assert not judged("SELECT name, id FROM pet WHERE 0", nothing, options=allowed).passed
    half = {"databases": ["SELECT 1", "DELETE FROM pet"]}  # empty on one of two only
    score = judged("SELECT name FROM pet", "SELECT name FROM pet", **half)
    assert (score.passed, score.parts["empty_result"]) == (True, 0.5)


@pytest.mark.parametrize("one", [1, 1.0])
def test_whole_numbers_are_equal_as_floats_without_a_tolerance(one):
    assert same(unordered(Table(["a"], [[1]])), [[one]], tol=0.0)
    assert same(unordered(Table(["a"], [[1.0]])), [[one]], tol=0.0)
    assert not same(unordered(Table(["a"], [[1]])), [["1"]], tol=0.0)


def test_a_database_file_is_read_and_stays_as_it_is(tmp_path):
    path = tmp_path / "pets.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(SCHEMA)
    connection.close()
    before = path.read_bytes()
    verifier = make("sql", folder=str(tmp_path))
    row = {"database": "pets.sqlite", "answer": "SELECT count(*) FROM pet"}
    assert verifier("<answer>SELECT 5</answer>", row).passed
    extended = {**row, "schema": "DELETE FROM pet WHERE id = 1"}
    assert verifier("SELECT 4", extended).passed
    assert path.read_bytes() == before
    (tmp_path / "not.sqlite").write_text("text")
    for name in ("not.sqlite", "gone.sqlite", "\0"):
        assert verifier("SELECT 5", {**row, "database": name}).status == "bad_reference"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("So:\n```sql\nSELECT 1\n```\nor\n```sql\nSELECT 2\n```", "SELECT 2"),
        ("```\nselect 3\n```", "select 3"),
        ("```python\nprint(1)\n```", None),
        ("<think>```sql\nSELECT 1\n```</think> <answer>SELECT 4</answer>", "SELECT 4"),
        ("<answer>```sqlite\nSELECT 5\n```</answer>", "SELECT 5"),
        ("  WITH a AS (SELECT 1) SELECT * FROM a", "  WITH a AS (SELECT 1) SELECT * FROM a"),
        ("I think the answer is 42.", None),
        ("```sql\nSELECT 1", None),
        ("<think>SELECT 1", None),
    ],
)
def test_where_the_query_stands(text, found):
    assert find_query(text) == found


def test_a_query_is_read_past_strings_and_comments():
    text = "SELECT ';' -- ; SELECT\n/* ; ORDER BY */ FROM \"a;b\" ; -- end"
    query, tokens = single_query(text)
    assert query == text.partition(" ; -- end")[0] + " "
    assert ordering(query, tokens) is None
    ties = ordering(*single_query("SELECT a IS DISTINCT FROM b FROM t ORDER BY c+1 DESC LIMIT 2"))
    assert ties.query == "SELECT a IS DISTINCT FROM b , (c+1) FROM t ORDER BY c+1 DESC "


@given(st.text(alphabet="SELECT 'a\"`[]();-*/\n1.é", max_size=200))
def test_any_text_is_tokens(text):
    tokens = tokens_of(text)
    assert all(text.startswith(token.text, token.start) and token.depth >= 0 for token in tokens)


FLOATS = st.floats(-2, 2).map(lambda x: round(x, 1))
CELLS = st.one_of(st.none(), st.integers(-3, 3), FLOATS, st.text("ab", max_size=1))


@given(st.lists(st.tuples(CELLS, CELLS), max_size=6), st.randoms(use_true_random=False))
def test_a_multiset_equals_its_shuffles_and_nothing_else(rows, random):
    reference = unordered(Table(["a", "b"], rows))
    other = rows[:]
    random.shuffle(other)
    noisy = [[x * (1 + 1e-9) if isinstance(x, float) else x for x in row] for row in other]
    assert same(reference, noisy, tol=1e-6)
    assert not same(reference, [*other, (7, 7)], tol=1e-6)
    if rows:
        assert not same(reference, [(9, 9), *other[1:]], tol=1e-6)


def test_close_rows_are_paired_however_they_sort():
    pool = [[1.0, 5.0], [1.0 + 1e-9, 4.0]]
    found = [[1.0 + 1e-9, 5.0], [1.0, 4.0]]
    assert same(unordered(Table(["a", "b"], pool)), found, tol=1e-6)
    assert not same(unordered(Table(["a", "b"], pool)), found, tol=0.0)


class Counting:
    """A sandbox that counts its jobs, and dies after some."""

    name = "counting"

    def __init__(self, lives=1_000):
        from rl_sandboxes import shared

        self.sandbox, self.jobs, self.lives = shared("local"), [], lives

    async def arun(self, job):
        self.jobs.append(job)
        if len(self.jobs) > self.lives:
            return Result(error="the worker died")
        return await self.sandbox.arun(job)

    def run(self, job):
        raise NotImplementedError

    guarantees = run_many = session = close = run


def test_the_reference_runs_once_apart_and_a_dead_sandbox_is_an_error():
    sandbox = Counting()
    verifier = make("sql", sandbox=sandbox)
    row = {"schema": "CREATE TABLE once AS SELECT 1", "answer": "SELECT 'secret' FROM once"}

    async def group():
        return await asyncio.gather(*(verifier.ascore(f"SELECT {n}", row) for n in range(5)))

    assert [score.status for score in asyncio.run(group())] == ["wrong"] * 5
    secrets = ["secret" in repr(job.calls) for job in sandbox.jobs]
    assert sorted(secrets) == [False] * 5 + [True]
    dying = make("sql", sandbox=Counting(lives=1))
    assert dying("SELECT 1", {**row, "answer": "SELECT 2"}).error == "sandbox: the worker died"
    sandbox = Counting(lives=0)
    reviving = make("sql", sandbox=sandbox)
    assert reviving("SELECT 1", {**row, "answer": "SELECT 3"}).status == "error"
    sandbox.lives = 9  # a failure is not kept
    assert reviving("SELECT 3", {**row, "answer": "SELECT 3"}).status == "correct"


def test_what_cannot_work_is_said_early():
    make("sql").prepare()
    for options, message in [
        ({"tol": -1}, "sql: tol is -1"),
        ({"max_rows": 0}, "sql: max_rows is 0"),
        ({"limits": {"cpu": 1}}, "sql: limits is"),
        ({"sandbox": 3}, "sql: sandbox is 3"),
        ({"sandbox": "locl"}, "sql: sandbox is 'locl'.*did you mean 'local'"),
        ({"column_order": "no"}, "sql: column_order is 'no'; it must be true or false"),
        ({"ordered": "yes"}, "sql: ordered is 'yes'"),
    ]:
        with pytest.raises(VerifierError, match=message):
            make("sql", **options)
