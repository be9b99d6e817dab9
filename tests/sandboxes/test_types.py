"""Jobs, limits and results: what cannot be run anywhere is refused in one line when it is made."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_sandboxes.types import (
    MAX_FILES,
    MAX_RUNS,
    RUN_STATUSES,
    TOGETHER,
    Call,
    Job,
    JobError,
    Limits,
    Result,
    Run,
    SandboxError,
    check_path,
)

FLOATS = ("wall_s", "cpu_s")
WHOLE = ("memory_mb", "processes", "disk_mb", "output_kb", "value_kb")
NO_NUMBER = st.none() | st.booleans() | st.text() | st.binary() | st.lists(st.integers())
ODD_PATHS = " / /etc/passwd .. ../x a/../b a/.. . ./x a/./b a/ a//b //"  # an empty one too
OUT_OF_RANGE = st.one_of(
    st.integers(max_value=0),
    st.integers(min_value=1_000_001),
    st.floats(max_value=0.0),
    st.floats(min_value=1_000_001.0),
    st.just(math.nan),
    st.complex_numbers(),
)


def refusal(make):
    """The one line that says why it was refused."""
    with pytest.raises(JobError) as caught:
        make()
    line = str(caught.value)
    assert "\n" not in line
    assert 10 < len(line) < 300
    return line


# Limits.


@settings(deadline=None)
@given(st.sampled_from(FLOATS + WHOLE), NO_NUMBER | OUT_OF_RANGE)
def test_a_limit_that_is_no_possible_number_is_refused_by_its_name(name, value):
    with pytest.raises(JobError, match=f"^limit {name} is "):
        Limits(**{name: value})


@settings(deadline=None)
@given(st.sampled_from(WHOLE), st.floats(0.001, 1e6).filter(lambda value: value % 1))
def test_a_whole_limit_is_not_a_fraction(name, value):
    with pytest.raises(JobError, match=f"^limit {name} is .* a whole number"):
        Limits(**{name: value})


@settings(deadline=None)
@given(st.sampled_from(FLOATS), st.floats(1e-6, 1e6) | st.integers(1, 1_000_000))
def test_seconds_may_be_fractions(name, value):
    assert getattr(Limits(**{name: value}), name) == value


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_limit_is_an_integer_afterwards(name):
    assert type(getattr(Limits(**{name: 128.0}), name)) is int


@pytest.mark.parametrize("name", FLOATS + WHOLE)
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "10", None, True])
def test_the_refusal_of_a_limit_is_one_line(name, value):
    assert f"limit {name} is" in refusal(lambda: Limits(**{name: value}))


@pytest.mark.parametrize("name", FLOATS + WHOLE)
@pytest.mark.parametrize("value", [10**1000, "x" * 100_000], ids=["number", "text"])
def test_the_refusal_of_a_very_long_limit_is_short(name, value):
    assert f"limit {name} is" in refusal(lambda: Limits(**{name: value}))


# Jobs.


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Job("exec", "x"), "job kind is 'exec'; it must be one of call, program, shell"),
        (lambda: Job.program(b"x"), "code of a job is str, not bytes"),
        (lambda: Job.program(None), "code of a job is str, not NoneType"),
        (lambda: Job.call("x", "", [Call()]), "a call job needs an entry_point"),
        (lambda: Job.call("x", "f", []), "1 to 10,000 runs; calls has 0"),
        (lambda: Job.call("x", "f", [Call()] * (MAX_RUNS + 1)), "calls has 10,001"),
        (lambda: Job.program("x", []), "1 to 10,000 runs; stdin has 0"),
        (lambda: Job.shell("x", [""] * (MAX_RUNS + 1)), "stdin has 10,001"),
        (lambda: Job.call("x", "f", [(1,)]), "a call of a job is Call, not tuple"),
        (lambda: Job.program("x", [5]), "input or file of a job is bytes, not int"),
        (lambda: Job.program("x", files={"a": "text"}), "is bytes, not str"),
        (lambda: Job.program("x", files={5: b""}), "path of a job is str, not int"),
        (lambda: Job.program("x", limits={"wall_s": 1}), "limits of a job is Limits, not dict"),
        (lambda: Job.shell("echo \0"), "null character"),
        (lambda: Job.shell("x" * 100_001), "at most 100,000"),
        (lambda: Job.program("x", files={"a": b"", "a/b": b""}), "'a' cannot be a file and the"),
        (
            lambda: Job.program("x", files={"a": bytes((1 << 20) + 1)}, limits=Limits(disk_mb=1)),
            "1 files of 1,048,577 bytes do not fit",
        ),
        (
            lambda: Job.program("x", files={f"f{n}": b"" for n in range(MAX_FILES + 1)}),
            "501 files of 0 bytes do not fit",
        ),
    ],
)
def test_a_job_that_cannot_be_run_is_refused(make, said):
    assert said in refusal(make)


@pytest.mark.parametrize(
    "path",
    [*ODD_PATHS.split(" "), "a\0b", "\ud800", "a/\udcff", "x" * 256, "é" * 128, "ab/" * 400 + "a"],
    ids=lambda path: repr(path[:12]),
)
@pytest.mark.parametrize("where", ["files", "collect"])
def test_a_path_that_is_not_plainly_beneath_is_refused(path, where):
    value = {path: b""} if where == "files" else [path]
    assert "path" in refusal(lambda: Job.program("x", **{where: value}))


@pytest.mark.parametrize(
    "path", ["a", "a/b/c", "...", "..a", "a..", ".hidden", "a b", "é" * 127, "a\nb", "-rf", "~"]
)
def test_a_plain_path_is_taken(path):
    assert check_path(path) is None


@settings(deadline=None)
@given(st.text(st.characters()))
def test_no_path_raises_anything_but_a_refusal(path):
    try:
        check_path(path)
    except JobError:
        return
    parts = path.encode().split(b"/")
    assert not {b"", b".", b".."} & set(parts)
    assert all(len(part) <= 255 for part in parts)


@pytest.mark.parametrize(
    ("stdin", "inputs"),
    [
        ("", (b"",)),
        ("é", ("é".encode(),)),
        (b"\xff", (b"\xff",)),
        (["a", b"b"], (b"a", b"b")),
        (("a",), (b"a",)),
        ("\ud800", (b"?",)),
    ],
)
def test_inputs_are_bytes(stdin, inputs):
    assert (Job.program("x", stdin).stdin, Job.shell("x", stdin).stdin) == (inputs, inputs)


def test_each_call_and_each_input_is_a_run():
    jobs = [Job.call("x", "f", [Call()] * 3), Job.program("x", ["", ""]), Job.shell("x")]
    assert [job.n_runs for job in jobs] == [3, 2, 1]


def test_the_longest_time_is_that_of_all_runs():
    job = Job.program("x", [""] * 4, limits=Limits(wall_s=2.5))
    assert job.longest_s == pytest.approx(4 * (3.5 + 0.1))


def test_the_longest_time_of_many_runs_that_stop_early_is_bounded_by_what_they_may_take_together():
    job = Job.program("x", [""] * 400, limits=Limits(wall_s=2.5), stop_early=True)
    assert job.longest_s == pytest.approx((TOGETHER + 1) * 3.5 + 400 * 0.1)


def test_a_job_error_is_a_sandbox_error_and_a_value_error():
    assert issubclass(JobError, SandboxError)
    assert issubclass(JobError, ValueError)


# Results.


@pytest.mark.parametrize("status", RUN_STATUSES)
def test_a_result_has_the_first_status_that_is_not_ok(status):
    runs = (Run("ok"), Run(status), Run("ok"), Run("crash"))
    assert Result(runs).status == (status if status != "ok" else "crash")


def test_a_result_of_good_runs_is_ok():
    assert Result((Run("ok"), Run("ok"))).status == "ok"


def test_our_failure_comes_before_all_runs():
    assert Result((Run("ok"),), error="lost").status == "sandbox_error"


def test_the_run_of_a_failure_says_the_failure():
    with pytest.raises(SandboxError, match=r"^lost$"):
        _ = Result(error="lost").run
