import json

import pytest

from rl_sandboxes import Call
from rl_verifiers.code_rows import BadTests, CodeTest, Source, json_field, literal, read_tests


def read(*tests, **columns):
    return read_tests({"tests": list(tests), **columns})


@pytest.mark.parametrize(
    ("raw", "test"),
    [
        ({"args": [1], "expected": 2}, CodeTest("call", (Call([1]),), expected=2)),
        ({"args": [1], "expected": None}, CodeTest("call", (Call([1]),), expected=None)),
        (
            {"args": [], "kwargs": {"a": 1}, "expected": 2, "tol": 0.5, "strict": True},
            CodeTest("call", (Call([], {"a": 1}),), expected=2, tol=0.5, strict=True),
        ),
        (
            {"args_py": "[(1, 2)]", "kwargs_py": "{'a': {3}}", "expected_py": "b'x'"},
            CodeTest("call", (Call([(1, 2)], {"a": {3}}),), expected=b"x"),
        ),
        ({"args_py": "(1, 2)", "expected": 3}, CodeTest("call", (Call([1, 2]),), expected=3)),
        ({"args": [1], "truthy": False}, CodeTest("call", (Call([1]),), truthy=False)),
        (
            {"call": "f(N(1))", "setup": "x = 1", "expected": 2},
            CodeTest("call", (Source("f(N(1))", "x = 1"),), expected=2),
        ),
        (
            {"calls": [{"args": [1]}, {"call": "f(2)"}], "check": "r0 < r1", "setup": "import re"},
            CodeTest("check", (Call([1]), Source("f(2)")), source="r0 < r1", setup="import re"),
        ),
        (
            {"calls": [{"args": [1]}], "replay": "def check(f): f(1)"},
            CodeTest("replay", (Call([1]),), source="def check(f): f(1)"),
        ),
        (
            {"stdin": "1", "expected_stdout": "2"},
            CodeTest("stdio", expected="2", stdin="1"),
        ),
        (
            {"assert": "assert f(1)", "setup": "x = 1"},
            CodeTest("weak", source="assert f(1)", setup="x = 1"),
        ),
    ],
)
def test_every_form_is_read(raw, test):
    assert read(raw) == [test]


def test_a_row_has_a_tolerance_for_all_its_tests():
    tests = read({"args": [], "expected": 1}, {"args": [], "expected": 1, "tol": 0}, tol=0.1)
    assert [test.tol for test in tests] == [0.1, 0.0]


def test_the_answer_stands_in_for_the_tests():
    assert read_tests({"answer": [{"args": [], "expected": 1}]})[0].expected == 1


def test_tests_may_be_json_text():
    assert read_tests({"tests": json.dumps([{"args": [], "expected": 1}])})[0].expected == 1


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        (None, "no tests"),
        ([], "no tests"),
        ({"args": []}, "no tests"),
        ("assert f(1) == 2", "from_asserts"),
        ("[" * 100_000, "from_asserts"),
        (["assert f(1) == 2"], "test 1: a test is a dict, not str"),
        ([{"expected": 1}], "none of args, call, calls"),
        ([{"args": [1]}], "has no 'expected'"),
        ([{"args": 1, "expected": 1}], "args must be a list, not int"),
        ([{"args": [], "kwargs": [1], "expected": 1}], "kwargs must be a dict"),
        ([{"args_py": "open('x')", "expected": 1}], "args_py: no Python literal"),
        ([{"args_py": 3, "expected": 1}], "args_py must be text"),
        ([{"args": [], "expected": 1, "tol": float("nan")}], "tol is nan"),
        ([{"args": [], "expected": 1, "tol": "x"}], "tol is 'x'"),
        ([{"args": [], "expected": 1}, {"stdin": "1"}], "test 2: 'expected_stdout' must be text"),
        ([{"calls": [], "check": "r0"}], "list of the calls"),
        ([{"calls": [{"args": []}], "check": "r0 ="}], "'check' is no Python source"),
        ([{"assert": "assert ("}], "'assert' is no Python source"),
    ],
)
def test_bad_tests_say_what_is_wrong(tests, message):
    with pytest.raises(BadTests, match=message.replace("(", r"\(")):
        read_tests({"tests": tests})


@pytest.mark.parametrize(
    "value",
    [
        [1, -2.5, "a", None, True, {"k": []}],
        (1, (2,)),
        {1: "a", (2, 3): {4}},
        set(),
        frozenset({1}),
        frozenset(),
        b"\x00",
        [float("inf"), -float("inf")],
        1 - 2j,
        "\ud800",
    ],
)
def test_a_value_survives_its_json_field(value):
    stored = json.loads(json.dumps(json_field("x", value)))
    found = literal(stored["x_py"]) if "x_py" in stored else stored["x"]
    assert (found, type(found)) == (value, type(value))


def test_plain_json_stays_plain():
    assert json_field("x", [1, {"a": None}]) == {"x": [1, {"a": None}]}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("float('-inf')", -float("inf")),
        ("[set(), frozenset([1])]", [set(), frozenset([1])]),
        ("+1", 1),
    ],
)
def test_calls_that_stand_for_literals(source, value):
    assert literal(source) == value


@pytest.mark.parametrize(
    "source",
    ["f()", "x", "...", "set([1])", "-'a'", "1 + 1", "{**{}}", "{[]}", "", "(" * 5000, "f'{1}'"],
)
def test_anything_else_is_no_literal(source):
    with pytest.raises(ValueError, match="no Python literal"):
        literal(source)
