import json

import pytest

from rl_verifiers import VerifierError, from_asserts
from rl_verifiers.code import code_verifier
from rl_verifiers.code_tests import guessed_entry


class NoSandbox:
    """A sandbox that must not be used."""

    name = "none"

    def _refuse(self, *arguments, **options):
        raise AssertionError("literal asserts need no sandbox")

    run = arun = run_many = guarantees = session = _refuse

    def close(self):
        pass


def of(source, entry_point="f", **options):
    tests = from_asserts(source, entry_point, **options)
    return json.loads(json.dumps(tests))


def passes(code, tests, entry_point="f"):
    return code_verifier(extract="whole")(code, {"entry_point": entry_point, "tests": tests}).passed


@pytest.mark.parametrize(
    ("source", "test"),
    [
        ("assert f(1, 'a') == [2]", {"args": [1, "a"], "expected": [2]}),
        ("assert [2] == f(1)", {"args": [1], "expected": [2]}),
        ("assert f(1, b=-2) == None", {"args": [1], "kwargs": {"b": -2}, "expected": None}),
        ("assert f((1,)) == {2}", {"args_py": "[(1,)]", "expected_py": "{2}"}),
        ("assert f({1: 2}) == (3,)", {"args_py": "[{1: 2}]", "expected_py": "(3,)"}),
        ("assert (f(float('inf'))) == 1", {"args_py": "[inf]", "expected": 1}),
        ("assert f(1) is True", {"args": [1], "expected": True, "strict": True}),
        ("assert f(1) is None, 'why'", {"args": [1], "expected": None, "strict": True}),
        ("assert f(1)", {"args": [1], "truthy": True}),
        ("assert not f(1)", {"args": [1], "truthy": False}),
        ("assert abs(f(1) - 0.5) < 1e-6", {"args": [1], "expected": 0.5, "tol": 1e-6}),
        (
            "assert abs(f(1) - 2.5) < 1e-6",
            {"calls": [{"args": [1]}], "check": "abs(r0 - 2.5) < 1e-06"},
        ),
        ("assert f(1) in (1, 2)", {"calls": [{"args": [1]}], "check": "r0 in (1, 2)"}),
        (
            "import math\nassert math.isclose(f(1), 2)",
            {"calls": [{"args": [1]}], "check": "math.isclose(r0, 2)", "setup": "import math"},
        ),
        (
            "assert set(f(1)) == set(f(2)) != {1}",
            {"calls": [{"args": [1]}, {"args": [2]}], "check": "set(r0) == set(r1) != {1}"},
        ),
        ("assert f(1).strip() == 'a'", {"calls": [{"args": [1]}], "check": "r0.strip() == 'a'"}),
        (
            "assert f(1) == 1 and f(2) == 2",
            {"calls": [{"args": [1]}, {"args": [2]}], "check": "r0 == 1 and r1 == 2"},
        ),
    ],
)
def test_literal_asserts_need_no_sandbox(source, test):
    assert of(source, sandbox=NoSandbox()) == [test]


@pytest.mark.parametrize(
    ("source", "test"),
    [
        ("assert f([0] * 3, 2 * 3) == 1 + 1", {"args": [[0, 0, 0], 6], "expected": 2}),
        ("x = [1]\nx.append(2)\nassert f(x) == len(x)", {"args": [[1, 2]], "expected": 2}),
        ("def g(n): return n + 1\nassert f(g(1)) == g(2)", {"args": [2], "expected": 3}),
        ("assert f(1, int) == 2", {"call": "f(1, int)", "expected": 2}),
        ("assert f(f(1)) == 2", {"call": "f(f(1))", "expected": 2}),
        ("assert f(Node(1)) == 2", {"call": "f(Node(1))", "expected": 2}),
        ("assert f(*[1, 2]) == 2", {"call": "f(*[1, 2])", "expected": 2}),
        (
            "n = Node(1)\nm = 5\nn.x = Node(m)\nsecret = 9\nassert f(n) == 2",
            {"call": "f(n)", "setup": "n = Node(1)\nm = 5\nn.x = Node(m)", "expected": 2},
        ),
    ],
)
def test_constants_are_evaluated_and_other_arguments_stay_source(source, test):
    assert of(source) == [test]


def test_an_expected_value_is_not_in_the_setup_of_a_call():
    source = "want = 17\nn = Node(1)\nassert f(n) == want"
    assert of(source) == [{"call": "f(n)", "setup": "n = Node(1)", "expected": 17}]


def test_the_setup_is_used_where_it_is_needed():
    tests = of("assert f(K) == 1\nassert f(2) == 3", setup="K = 4\nL = 5")
    assert tests == [{"args": [4], "expected": 1}, {"args": [2], "expected": 3}]


def test_the_reference_defines_names_for_the_tests():
    tests = of("assert f(1) == helper(2)", reference="def f(x): ...\ndef helper(x): return 2 * x")
    assert tests == [{"args": [1], "expected": 4}]


def test_a_check_function_is_taken_apart():
    source = """
METADATA = {}
def check(candidate):
    assert True, "fine"
    assert candidate([1]) == 1
    print
    values = list(range(3))
    assert candidate(values) == sum(values)
check(f)
"""
    assert of(source) == [
        {"args": [[1]], "expected": 1},
        {"args": [[0, 1, 2]], "expected": 3},
    ]


def test_a_check_function_reads_the_entry_point_as_the_reference():
    source = "def check(candidate):\n    assert tuple(candidate(1)) == tuple(f(1))"
    tests = of(source, reference="def f(x): return [x]")
    assert passes("def f(x): return (1,)", tests)
    assert not passes("def f(x): return (2,)", tests)


LOOP = """
def check(candidate):
    import random
    assert candidate(0) == 0
    for _ in range(5):
        n = random.randint(1, 99)
        root = candidate(n)
        assert abs(root * root - n) < 1e-6
"""


def test_a_loop_becomes_a_replay_with_fixed_inputs():
    first, second = of(LOOP, reference="def f(n): return n ** 0.5")
    assert first == {"args": [0], "expected": 0}
    assert len({json.dumps(call) for call in second["calls"]}) == 5
    assert "candidate(0)" not in second["replay"]


def test_another_right_solution_passes_a_replay():
    tests = of(LOOP, reference="def f(n): return n ** 0.5")
    assert passes("import math\ndef f(n): return -math.sqrt(n)", tests)


@pytest.mark.parametrize(
    "code",
    [
        "def f(n): return n / 2",
        "def f(n): return None",
        "def f(n): raise ValueError",
        "def f(n): return float('nan')",
    ],
)
def test_a_wrong_solution_fails_a_replay(code):
    assert not passes(code, of(LOOP, reference="def f(n): return n ** 0.5"))


RAISES = """
try:
    f(-1)
except ValueError:
    pass
else:
    assert False
"""


@pytest.mark.parametrize(
    ("code", "passed"),
    [
        ("def f(n):\n    raise ValueError('negative')", True),
        ("def f(n):\n    raise KeyError(n)", False),
        ("def f(n):\n    return n", False),
    ],
)
def test_an_expected_exception_is_replayed(code, passed):
    reference = "def f(n):\n    if n < 0: raise ValueError(n)\n    return n"
    assert passes(code, of(RAISES, reference=reference)) is passed


def test_a_loop_without_a_reference_is_weak():
    (test,) = of("for n in range(3):\n    assert f(n) == n + 1")
    assert list(test) == ["assert"]
    assert passes("def f(n): return n + 1", [test])
    assert not passes("def f(n): return n", [test])


@pytest.mark.parametrize(
    "source",
    [
        "import random\nassert f(random.random()) == 1",
        "import random\nx = random.random()\nassert f(x) == x",
    ],
)
def test_random_inputs_without_a_reference_are_weak(source):
    (test,) = of(source)
    assert "assert" in test


def test_a_loop_over_too_many_calls_is_weak():
    tests = of("for n in range(501):\n    assert f(n) == n", reference="def f(n): return n")
    assert list(tests[0]) == ["assert"]


def test_results_that_are_no_plain_data_make_a_weak_test():
    source = "from fractions import Fraction\nassert f(2) == Fraction(1, 2)"
    reference = "from fractions import Fraction\ndef f(n): return Fraction(1, n)"
    (test,) = of(source, reference=reference)
    assert list(test) == ["assert", "setup"]
    assert passes(reference, [test])


def test_asserts_after_a_loop_keep_their_order():
    source = "total = 0\nfor n in (1, 2):\n    total += f(n)\nassert total == 3\nassert f(5) == 5"
    literal, replay = of(source, reference="def f(n): return n")
    assert literal == {"args": [5], "expected": 5}
    assert "total == 3" in replay["replay"]


@pytest.mark.parametrize(
    ("source", "options", "name"),
    [
        ("assert int(f(1)) == 1", {}, "f"),
        ("assert f(Pair(1)) == 1\nassert f(Pair(2)) == 1", {}, "f"),
        ("assert set(f(1)) == g(2)", {"reference": "def g(x): ...\ndef f(x): ..."}, "f"),
        ("assert top(f(1)) == 1", {"setup": "def top(x): return x"}, "f"),
    ],
)
def test_the_entry_point_is_guessed(source, options, name):
    assert guessed_entry(source, **options) == name


@pytest.mark.parametrize(
    ("source", "entry_point", "message"),
    [
        ("assert f(", "f", "the test source is no Python"),
        ("x = 1", "f", "no assert that calls the solution"),
        ("assert 1 == 1", None, "cannot tell which function"),
        ("def check(candidate):\n    assert candidate(1)", None, "need an entry_point"),
        ("assert f(1)", "1 +", "is no function's name"),
    ],
)
def test_unusable_source_is_refused(source, entry_point, message):
    with pytest.raises(VerifierError, match=message):
        from_asserts(source, entry_point)


def test_a_method_is_an_entry_point():
    tests = of("assert Solution().add(1, 2) == 3", "Solution().add", sandbox=NoSandbox())
    assert tests == [{"args": [1, 2], "expected": 3}]
    code = "class Solution:\n    def add(self, a, b): return a + b"
    assert passes(code, tests, "Solution().add")


def test_a_class_is_called_by_source():
    tests = of("assert Stack([1, 2]).pop() == 2", None, sandbox=NoSandbox())
    assert tests == [{"call": "Stack([1, 2]).pop()", "expected": 2}]


def test_a_careless_escape_in_the_data_is_no_error():
    assert of(r"assert f('\d') == '\w'", sandbox=NoSandbox()) == [
        {"args": [r"\d"], "expected": r"\w"}
    ]
