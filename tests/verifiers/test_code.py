import asyncio
import pickle

import pytest

from rl_sandboxes import JobError, Limits, Result, Run, SandboxError
from rl_verifiers import Score, VerifierError, make, score_many
from rl_verifiers.code import code_verifier, find_code

DOUBLE = {
    "id": 1,
    "entry_point": "double",
    "tests": [{"args": [n], "expected": 2 * n} for n in (0, 1, 2, 5)],
}
ECHO = {"id": 2, "tests": [{"stdin": "a b\n", "expected_stdout": "A B\n"}]}
SLOW = {"wall_s": 4, "cpu_s": 0.5}


def fenced(code):
    return f"Here it is:\n```python\n{code}\n```\nDone."


def score(code, row=DOUBLE, **options):
    return code_verifier(**options)(fenced(code), row)


class FakeSandbox:
    """Gives the same result to every job, or raises."""

    name = "fake"

    def __init__(self, *results):
        self.results = list(results)
        self.jobs = []

    def run(self, job):
        self.jobs.append(job)
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, Exception):
            raise result
        return result

    async def arun(self, job):
        return self.run(job)

    def run_many(self, jobs):
        return [self.run(job) for job in jobs]

    def guarantees(self):
        raise NotImplementedError

    def session(self, kind="bash", limits=None):
        raise NotImplementedError

    def close(self):
        pass


# What a score says.


def test_a_right_solution_is_correct():
    assert score("def double(x):\n    return x + x") == Score(
        1.0,
        True,
        "correct",
        "4 of 4 tests",
        {"tests": 1.0, "over_limit": 0.0, "suspicious": 0.0, "weak": 0.0},
    )


def test_the_reason_shows_the_first_failing_test():
    assert score("def double(x):\n    return x * x").reason == (
        "2 of 4 tests; test 2: double(1) gave 1, not 2"
    )


def test_all_or_nothing_gives_nothing_for_a_part():
    result = score("def double(x):\n    return x * x")
    assert (result.value, result.passed, result.parts["tests"]) == (0.0, False, 0.5)


def test_the_fraction_is_the_share_of_tests():
    result = score("def double(x):\n    return x * x", reward="fraction")
    assert (result.value, result.passed, result.status) == (0.5, False, "wrong")


def test_an_exception_is_in_the_reason():
    assert score("def double(x):\n    return x[0]").reason == (
        "0 of 4 tests; test 1: double(0) raised TypeError: 'int' object is not subscriptable"
    )


def test_one_crash_leaves_the_other_tests_alone():
    code = "import os\ndef double(x):\n  if x == 1: os.kill(os.getpid(), 11)\n  return x + x"
    assert score(code).parts["tests"] == 0.75


@pytest.mark.parametrize(
    ("completion", "status"),
    [
        ("I do not know.", "no_answer"),
        (fenced(""), "no_answer"),
        ("<think>" + fenced("def double(x): return x + x"), "no_answer"),
        (fenced("def double(x: return x"), "unparsable"),
        (fenced("def double(x):\nreturn x"), "unparsable"),
        (fenced("x = '\ud800'"), "unparsable"),
        (fenced("def other(x): return x"), "wrong"),
        (fenced("while True: pass"), "over_limit"),
        (fenced("def double(x): return [0] * 10**9"), "over_limit"),
        (fenced("def double(x):\n  while x == 2: pass\n  return x + x"), "over_limit"),
        (fenced("def double(x):\n  while x == 2: pass\n  return x"), "wrong"),
    ],
)
def test_the_status_says_why(completion, status):
    result = code_verifier(limits=SLOW)(completion, DOUBLE)
    assert (result.status, result.value) == (status, 0.0)


def test_a_program_that_cannot_be_parsed_is_unparsable():
    assert score("print(", ECHO).status == "unparsable"


@pytest.mark.parametrize("tests", [None, [], "x", [{"args": 1}]])
def test_unusable_tests_are_a_bad_reference(tests):
    assert score("def double(x): return x", {"tests": tests}).status == "bad_reference"


def test_calls_without_an_entry_point_are_a_bad_reference():
    row = {"tests": DOUBLE["tests"]}
    assert score("def double(x): return x", row).status == "bad_reference"


def test_runs_after_a_timeout_are_left_out():
    report = asyncio.run(
        code_verifier(limits=SLOW).report(
            fenced("def double(x):\n  while x: pass\n  return 0"), DOUBLE
        )
    )
    assert [test.status for test in report.tests] == ["passed", "timeout", "not_run", "not_run"]


def test_a_fraction_bears_with_one_timeout():
    report = asyncio.run(
        code_verifier(limits=SLOW, reward="fraction").report(
            fenced("def double(x):\n  while x in (0, 2): pass\n  return 2 * x"), DOUBLE
        )
    )
    assert [test.status for test in report.tests] == ["timeout", "passed", "timeout", "not_run"]


# A failure of ours.


def test_a_failed_sandbox_is_an_error_and_no_verdict():
    result = score("def double(x): return 2 * x", sandbox=FakeSandbox(Result(error="it died")))
    assert (result.status, result.error) == ("error", "sandbox: it died")


def test_a_failure_of_the_second_job_is_an_error_too():
    row = {"entry_point": "f", "tests": [{"calls": [{"args": []}], "check": "r0 > 1"}]}
    first = Result((Run("ok", returned=True, value=2),))
    assert score("def f(): return 2", row, sandbox=FakeSandbox(first, Result(error="x"))).is_error


def test_results_that_no_second_job_can_take_are_the_solution_s_fault():
    row = {"entry_point": "f", "tests": [{"calls": [{"args": []}], "check": "r0 > 1"}]}
    first = Result((Run("ok", returned=True, value=2),))
    fake = FakeSandbox(first, JobError("it is too large"))
    assert score("def f(): return 2", row, sandbox=fake).status == "wrong"


def test_a_sandbox_that_raises_is_an_error():
    assert score("x = 1", sandbox=FakeSandbox(SandboxError("gone"))).error == "sandbox: gone"


def test_an_unknown_sandbox_stops_the_run():
    with pytest.raises(VerifierError, match="no sandbox 'nowhere'"):
        score("x = 1", sandbox="nowhere")


@pytest.mark.parametrize("status", ["timeout", "error", "crash", "memory"])
def test_a_value_of_a_run_that_did_not_end_well_does_not_count(status):
    late = Result((Run(status, returned=True, value=2),))
    row = {"entry_point": "f", "tests": [{"args": [], "expected": 2}]}
    assert score("def f(): return 2", row, sandbox=FakeSandbox(late)).value == 0.0


# Options.


@pytest.mark.parametrize(
    "options",
    [
        {"reward": "some"},
        {"extract": "boxed"},
        {"stdout": "exact"},
        {"sandbox": 3},
        {"limits": 3},
        {"limits": {"cpu": 3}},
        {"limits": {"cpu_s": -1}},
    ],
)
def test_a_bad_option_is_one_line(options):
    with pytest.raises(VerifierError, match=r"\Acode: [^\n]+\Z"):
        code_verifier(**options)


def test_given_limits_change_the_defaults():
    assert code_verifier(limits={"memory_mb": 99}).limits == Limits(cpu_s=5.0, memory_mb=99)


def test_it_can_be_sent_to_another_process():
    verifier = make("code", sandbox={"name": "local"}, limits={"cpu_s": 2})
    assert pickle.loads(pickle.dumps(verifier)) == verifier


def test_many_are_scored_at_once():
    codes = [fenced(f"def double(x): return {n} * x") for n in (1, 2, 3)]
    scores = score_many(code_verifier(), codes, [DOUBLE] * 3)
    assert [item.passed for item in scores] == [False, True, False]


def test_strict_types():
    code = "def double(x): return 2.0 * x"
    assert (score(code).value, score(code, strict_types=True).value) == (1.0, 0.0)


def test_a_weak_test_can_be_refused():
    row = {"tests": [{"assert": "assert f() == 1"}]}
    assert score("def f(): return 1", row, allow_weak=False).status == "bad_reference"


def test_a_suite_of_a_sandbox_gets_the_limits():
    fake = FakeSandbox(Result((Run("ok", returned=True, value=0),) * 4))
    score("x = 1", sandbox=fake, limits={"cpu_s": 3})
    assert fake.jobs[0].limits.cpu_s == 3


# Where the code stands.


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        ("```python\na\n```\n```py\nb\n```", "b"),
        ("```python\na\n```\n```\nb\n```", "a"),
        ("```\na\n```\n```text\nb\n```", "b"),
        ("```python\na\n```\n```python\nb", "a"),
        ("<think>```python\na\n```</think>x = 1\n", "x = 1\n"),
        ("def f(): return 1", "def f(): return 1"),
        ("\nimport math\n", "\nimport math\n"),
        ("print(1)", "print(1)"),
        ("The answer is 4.", None),
        ("", None),
        ("for those of you who care: no", None),
    ],
)
def test_the_last_fence_or_plain_code(completion, code):
    assert find_code(completion, "final", {}) == code


def test_fence_needs_a_fence():
    assert find_code("def f(): return 1", "fence", {}) is None


def test_whole_takes_everything():
    assert find_code("x ```\n", "whole", {}) == "x ```\n"


def test_a_continuation_goes_on_from_the_prompt():
    row = {**DOUBLE, "prompt": "def double(x):\n"}
    assert code_verifier(extract="continuation")("    return x + x\n", row).value == 1.0


def test_the_prelude_comes_before_the_code():
    row = {**DOUBLE, "prelude": "import math\nTWO = 2"}
    assert score("def double(x): return math.floor(TWO * x)", row).value == 1.0


def test_a_future_import_comes_before_the_prelude():
    row = {**DOUBLE, "prelude": "import math"}
    code = "from __future__ import annotations\ndef double(x: Odd): return 2 * x"
    assert score(code, row).value == 1.0


# Kinds of tests.


def one(test, code, entry_point="f"):
    return score(code, {"entry_point": entry_point, "tests": [test]})


@pytest.mark.parametrize(
    ("test", "code"),
    [
        ({"args_py": "[(1, 2)]", "expected_py": "{(1, 2)}"}, "def f(x): return {x}"),
        ({"args": [1], "kwargs": {"b": 2}, "expected": 3}, "def f(a, *, b): return a + b"),
        ({"args": [], "expected": 0.3333, "tol": 1e-3}, "def f(): return 1 / 3"),
        ({"args": [], "truthy": True}, "def f(): return [0]"),
        ({"args": [], "truthy": False}, "def f(): return ''"),
        ({"args": [], "expected_py": "nan"}, "def f(): return float('nan')"),
        ({"args": [], "expected": None}, "def f(): pass"),
        (
            {"call": "f(P(n))", "setup": "n = 3", "expected": 3},
            "class P:\n  def __init__(self, n): self.n = n\ndef f(p): return p.n",
        ),
        (
            {"calls": [{"args": [1]}, {"call": "f(2)"}], "check": "sq(r0) + r1 == 2.5",
             "setup": "def sq(x): return x * x"},
            "def f(n): return 1 / n + (1 if n == 2 else 0)",
        ),
        (
            {"calls": [{"args": [1]}, {"args": [-1]}], "replay":
             "def check(g):\n  assert g(1) == 1\n  try: g(-1)\n  except ValueError: return\n"
             "  assert False"},
            "def f(n):\n  if n < 0: raise ValueError('no')\n  return n",
        ),
        ({"assert": "y = 1\nassert f(y) == 2"}, "def f(n): return n + 1"),
        ({"stdin": "3\n4", "expected_stdout": "7"}, "print(sum(map(int, open(0))))"),
    ],
)  # fmt: skip
def test_each_kind_passes(test, code):
    result = one(test, code)
    assert (result.value, result.reason.partition(",")[0]) == (1.0, "1 of 1 tests")


@pytest.mark.parametrize(
    ("test", "code", "reason"),
    [
        ({"args": [1], "expected": [1]}, "def f(x): return (x,)", "f(1) gave (1,), not [1]"),
        ({"args": [], "truthy": True}, "def f(): return 0", "f() gave 0, not something true"),
        (
            {"args": [], "expected": True, "strict": True},
            "def f(): return 1",
            "f() gave 1, not True",
        ),
        (
            {"calls": [{"args": [1]}], "check": "abs(r0 - 1) < 1"},
            "def f(x): return 5",
            "f(1) gave 5, not abs(r0 - 1) < 1",
        ),
        (
            {"calls": [{"args": [1]}], "check": "r0.y"},
            "def f(x): return 5",
            "f(1) gave 5 (AttributeError: 'int' object has no attribute 'y'), not r0.y",
        ),
        (
            {"calls": [{"args": [1]}], "replay": "def check(g): assert g(2) == 3"},
            "def f(x): return 3",
            "f(1) gave 3 (AssertionError: it was called with other arguments than recorded), "
            "not what the test source asks for",
        ),
        (
            {"calls": [{"args": [1]}, {"args": [1]}], "replay": "def check(g): g(1)"},
            "def f(x): return 3",
            "f(1) and 1 more gave 3, 3, not what the test source asks for",
        ),
        (
            {"assert": "assert f() == 2"},
            "def f(): return 1",
            "assert f() == 2 raised AssertionError",
        ),
        ({"stdin": "1", "expected_stdout": "2"}, "print(1)", "input '1' gave '1\\n', not '2'"),
        (
            {"stdin": "1", "expected_stdout": "2"},
            "print(2)\nraise SystemExit(3)",
            "input '1' ended with exit code 3",
        ),
        (
            {"args": [], "expected": 1},
            "class C: pass\ndef f(): return C()",
            "f() returned what is no plain data: type solution.C",
        ),
    ],
)
def test_each_kind_fails_with_a_reason(test, code, reason):
    result = one(test, code)
    assert (result.value, result.status) == (0.0, "wrong")
    assert result.reason.partition("test 1: ")[2].rstrip(": ") == reason


def test_a_longer_output_than_the_limit_is_kept_if_expected():
    row = {"tests": [{"stdin": "", "expected_stdout": "x" * 100_000}]}
    assert score("print('x' * 100_000)", row, limits={"output_kb": 1}).value == 1.0


def test_an_output_that_was_cut_does_not_pass():
    row = {"tests": [{"stdin": "", "expected_stdout": "x"}]}
    assert score("print('x' + ' ' * 300_000 + 'y')", row).value == 0.0


def test_the_kept_part_of_a_longer_output_does_not_pass():
    row = {"tests": [{"stdin": "", "expected_stdout": "x"}]}
    fake = FakeSandbox(Result((Run("ok", stdout="x", stdout_cut=True),)))
    assert score("print('x' * 10**9)", row, sandbox=fake).value == 0.0


def test_tokens():
    row = {"tests": [{"stdin": "", "expected_stdout": "1 2\n"}]}
    assert score("print(1)\nprint(2)", row, stdout="tokens").value == 1.0


def test_the_share_of_weak_tests_is_a_part():
    row = {
        "entry_point": "f",
        "tests": [{"args": [], "expected": 1}, {"assert": "assert f() == 1"}],
    }
    result = score("def f(): return 1", row)
    assert (result.parts["weak"], result.reason) == (0.5, "2 of 2 tests, 1 of them weak")


def test_a_report_has_every_test_and_the_traceback():
    code = "def double(x):\n    return 1 // x"
    report = asyncio.run(code_verifier().report(fenced(code), DOUBLE))
    assert [test.status for test in report.tests] == ["exception", "wrong", "wrong", "wrong"]
    assert "line 2, in double" in report.first_failing.stderr


def test_every_call_starts_afresh():
    code = "calls = []\ndef double(x):\n    calls.append(x)\n    return 2 * x * len(calls)"
    assert score(code).value == 1.0
