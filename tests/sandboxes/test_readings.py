"""A worker's answer is data of strangers: whatever it says becomes a Result, and no exception."""

import base64
import json
import os
import signal
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_sandboxes.inside.values import encode
from rl_sandboxes.readings import read_answer
from rl_sandboxes.types import RUN_STATUSES, Call, Job, Result

CALL = Job.call("def f(): return 1", "f", [Call()], collect=("out.txt",))
PROGRAM = Job.program("print(1)")
THREE = Job.program("print(1)", ["", "", ""])
THREE_EARLY = Job.program("print(1)", ["", "", ""], stop_early=True)


def b64(data):
    return base64.b64encode(data).decode()


def seen(said=None, **changes):
    """A run as an honest worker reports it; ``said`` is what the code wrote, as bytes or data."""
    raw = said if isinstance(said, bytes) else b"" if said is None else json.dumps(said).encode()
    honest = {
        "status": "ok",
        "stdout": b64(b"out\n"),
        "stderr": b64(b"err\n"),
        "stdout_cut": False,
        "stderr_cut": False,
        "said": b64(raw),
        "said_cut": False,
        "wait": 0,
        "ended_by_us": False,
        "wall_s": 0.25,
        "cpu_s": 0.125,
        "peak": 3 << 20,
        "n_left": 0,
    }
    return {**honest, **changes}


def answer(*runs, **changes):
    return {"runs": list(runs), "files": {}, "refused": {}, **changes}


def read_call(said=None, **changes):
    """The one run of a call whose worker answered so."""
    return read_answer(CALL, answer(seen(said, **changes)), 0.0).run


def read_program(**changes):
    return read_answer(PROGRAM, answer(seen(**changes)), 0.0).run


# Honest answers.


def test_an_honest_call_is_read_in_full():
    run = read_call({"value": encode([1, "a"])})
    assert (run.status, run.returned, run.value, run.suspicious) == ("ok", True, [1, "a"], ())


def test_what_was_printed_and_measured_is_read():
    run = read_program(stderr=b64(b"\xff!"), stderr_cut=True, n_left=2)
    got = (run.stdout, run.stderr, run.stderr_cut, run.wall_s, run.cpu_s, run.peak_mb, run.n_left)
    assert got == ("out\n", "\ufffd!", True, 0.25, 0.125, 3.0, 2)


def test_files_and_the_wait_are_handed_on():
    files = {"out.txt": b64(b"data")}
    result = read_answer(CALL, answer(seen({"value": 1}), files=files), 1.5)
    assert (result.files, result.queue_s, result.error) == ({"out.txt": b"data"}, 1.5, None)


def test_an_exit_code_is_read_from_the_wait_status():
    run = read_program(status="error", wait=7 << 8)
    assert (run.exit_code, run.signal) == (7, None)


def test_a_signal_is_read_from_the_wait_status():
    run = read_program(status="crash", wait=signal.SIGSEGV)
    assert (run.exit_code, run.signal, run.suspicious) == (None, signal.SIGSEGV, ())


def test_a_run_that_we_ended_has_neither():
    run = read_program(status="timeout", wait=None)
    assert (run.status, run.exit_code, run.signal) == ("timeout", None, None)


# What the code says of itself.


def test_an_exit_before_the_result_is_an_error_and_noted():
    run = read_call(None)
    assert (run.status, run.returned, run.suspicious) == ("error", False, ("exit_before_result",))


def test_none_that_was_returned_is_not_the_same_as_nothing():
    run = read_call({"value": None})
    assert (run.status, run.returned, run.value) == ("ok", True, None)


@pytest.mark.parametrize(
    "said",
    [
        b"{",
        b"\xff\xfe\x00",
        b"[1]",
        b"null",
        b'"text"',
        b'{"value": 1}\n{"value": 2}\n',
        b"[" * 100_000,
        b'{"value": ' + b'{"l": [' * 5_000 + b"]}" * 5_000 + b"}",
        b'{"value": 1.5}',
        b'{"value": {"t": 5}}',
        b'{"value": [1]}',
        b'{"value": NaN}',
        b'{"value": ' + b"9" * 5_000 + b"}",
        b"\0" * 1_000,
    ],
    ids=lambda said: repr(said[:30]),
)
def test_a_broken_result_is_an_error_and_noted(said):
    run = read_call(said)
    assert (run.status, run.returned, run.value) == ("error", False, None)
    assert run.suspicious == ("broken_result",)


def test_a_result_that_was_cut_is_not_read():
    run = read_call({"value": 1}, said_cut=True)
    assert (run.status, run.returned, run.suspicious) == ("error", False, ("broken_result",))


def test_a_value_beside_a_bad_end_is_not_handed_on():
    run = read_call({"value": 1}, status="error", wait=1 << 8)
    assert (run.status, run.returned, run.value) == ("error", False, None)


def test_a_value_after_the_time_was_over_is_not_handed_on():
    run = read_call({"value": 1}, status="timeout", wait=None)
    assert (run.status, run.returned, run.value) == ("timeout", False, None)


def test_a_program_has_no_value_whatever_it_says():
    run = read_program(said=b64(b'{"value": 1}'))
    assert (run.status, run.returned, run.value) == ("ok", False, None)


def test_an_exception_beside_a_clean_exit_is_no_success():
    run = read_call({"exception": "ValueError: x", "value": 1})
    assert (run.status, run.returned, run.exception) == ("error", False, "ValueError: x")


def test_a_type_that_cannot_cross_is_an_error_and_noted():
    run = read_call({"refused": "type solution.Evil"})
    assert (run.status, run.suspicious) == ("error", ("odd_type",))
    assert run.exception == "returned what is no plain data: type solution.Evil"


def test_a_long_exception_is_cut():
    assert len(read_call({"exception": "x" * 10_000}).exception) == 500


@pytest.mark.parametrize("exception", [5, None, ["MemoryError"], {"a": 1}, True])
def test_an_exception_that_is_no_text_is_none(exception):
    assert read_call({"exception": exception, "value": 1}).exception is None


@pytest.mark.parametrize("text", ["MemoryError: ", "MemoryError: no room"])
def test_an_error_for_want_of_memory_has_status_memory(text):
    assert read_call({"exception": text}, status="error", wait=1 << 8).status == "memory"


@pytest.mark.parametrize("text", ["ValueError: MemoryError", "OutOfMemoryError: x"])
def test_another_error_that_speaks_of_memory_has_not(text):
    assert read_call({"exception": text}, status="error", wait=1 << 8).status == "error"


@pytest.mark.parametrize("status", sorted({*RUN_STATUSES} - {"ok", "error"}))
def test_what_was_seen_is_not_changed_by_what_is_said(status):
    run = read_call({"exception": "MemoryError: "}, status=status, wait=None)
    assert run.status == status


def test_a_kill_that_was_not_ours_is_noted():
    assert read_program(status="crash", wait=signal.SIGKILL).suspicious == ("killed_itself",)


def test_a_kill_for_want_of_memory_is_not_noted():
    assert read_program(status="memory", wait=signal.SIGKILL).suspicious == ()


def test_processes_that_were_left_are_noted():
    assert read_program(n_left=3).suspicious == ("left_processes",)


# Answers that are not what a worker sends.


@pytest.mark.parametrize(
    "status", ["", "OK", "sandbox_error", "fine", None, 0, True, ["ok"], {"ok": 1}, "ok\n"]
)
def test_a_status_outside_the_set_gives_an_error(status):
    result = read_answer(PROGRAM, answer(seen(status=status)), 0.0)
    assert (result.status, result.runs) == ("sandbox_error", ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("wait", -1),
        ("wait", 1 << 16),
        ("wait", 2**70),
        ("wait", "0"),
        ("wait", 0.5),
        ("wait", float("nan")),
        ("wait", []),
        ("stdout", None),
        ("stdout", 5),
        ("stdout", "é"),
        ("stdout", "abc"),
        ("said", 5),
        ("said", "é"),
        ("wall_s", None),
        ("wall_s", "soon"),
        ("wall_s", 10**400),
        ("wall_s", float("nan")),
        ("wall_s", float("inf")),
        ("wall_s", -1.0),
        ("cpu_s", float("nan")),
        ("cpu_s", float("inf")),
        ("cpu_s", -1.0),
        ("peak", float("inf")),
        ("peak", float("nan")),
        ("peak", -(1 << 20)),
        ("peak", 10**400),
        ("n_left", "many"),
        ("n_left", float("inf")),
        ("n_left", -1),
    ],
)
def test_a_field_that_cannot_be_gives_an_error(name, value):
    result = read_answer(PROGRAM, answer({**seen(), name: value}), 0.0)
    assert (result.status, result.runs) == ("sandbox_error", ())


@pytest.mark.parametrize("name", sorted(seen().keys() - {"ended_by_us"}))
def test_a_missing_field_gives_an_error(name):
    run = seen()
    del run[name]
    assert read_answer(PROGRAM, answer(run), 0.0).status == "sandbox_error"


def test_the_error_is_one_line_and_short():
    result = read_answer(PROGRAM, answer(seen(status="x\n" * 10_000)), 0.0)
    assert "\n" not in result.error
    assert len(result.error) < 400


def test_a_deep_value_where_a_text_should_be_gives_an_error():
    deep = []
    for _ in range(sys.getrecursionlimit()):
        deep = [deep]
    for broken in (answer(seen(status=deep)), answer(seen(), refused={"out.txt": deep})):
        assert read_answer(PROGRAM, broken, 0.0).runs == ()


@pytest.mark.parametrize(("job", "n"), [(PROGRAM, 0), (PROGRAM, 2), (THREE, 2), (THREE, 4)])
def test_another_number_of_runs_gives_an_error(job, n):
    result = read_answer(job, answer(*[seen()] * n), 0.0)
    assert (result.error, result.runs) == (f"{n} runs came for {job.n_runs}", ())


@pytest.mark.parametrize(("n", "status"), [(0, "sandbox_error"), (1, "ok"), (3, "ok")])
def test_after_an_early_stop_fewer_runs_are_right(n, status):
    assert read_answer(THREE_EARLY, answer(*[seen()] * n), 0.0).status == status


@pytest.mark.parametrize("path", ["../../etc/cron.d/x", "/etc/passwd", "other.txt", ""])
def test_a_file_that_was_not_asked_for_is_not_handed_on(path):
    result = read_answer(CALL, answer(seen({"value": 1}), files={path: b64(b"x")}), 0.0)
    assert path not in result.files


@pytest.mark.parametrize(
    "changes",
    [{"files": files} for files in (None, [], {"out.txt": 5}, {"out.txt": "é"})]
    + [{"refused": refused} for refused in (None, ["out.txt"], 5)]
    + [{"runs": runs} for runs in (None, {"a": 1}, "runs", [None], [[]], 5)],
    ids=repr,
)
def test_an_answer_of_another_shape_gives_an_error(changes):
    result = read_answer(CALL, answer(seen({"value": 1})) | changes, 0.0)
    assert (result.status, result.runs) == ("sandbox_error", ())


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8).map(b64)
    | st.sampled_from([*RUN_STATUSES, "sandbox_error", b64(b'{"value": 1}'), b64(b"{}")]),
    lambda item: (
        st.lists(item, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(sorted(seen())), item, max_size=3)
    ),
    max_leaves=10,
)
SAID = st.dictionaries(
    st.sampled_from(["value", "exception", "refused", "other"]), JSON, max_size=3
)
RUNS = st.builds(
    lambda said, changes, missing: {
        name: value for name, value in {**seen(said), **changes}.items() if name not in missing
    },
    SAID | JSON | st.binary(max_size=20),
    st.dictionaries(st.sampled_from(sorted(seen())), JSON, max_size=3),
    st.sets(st.sampled_from(sorted(seen())), max_size=1),
)
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "runs": st.lists(RUNS, max_size=4) | JSON,
        "files": st.dictionaries(st.text(max_size=5), st.binary(max_size=5).map(b64)) | JSON,
        "refused": st.dictionaries(st.text(max_size=5), JSON) | JSON,
        "tainted": JSON,
    },
)


@settings(deadline=None)
@given(st.sampled_from([CALL, PROGRAM, THREE, THREE_EARLY]), ANSWERS)
def test_no_answer_raises(job, hostile):
    result = read_answer(job, hostile, 0.0)
    assert isinstance(result, Result)
    assert (result.error is None) == (1 <= len(result.runs) <= job.n_runs)


@settings(deadline=None)
@given(SAID | st.binary(max_size=60), st.sampled_from(RUN_STATUSES), st.integers(0, 0xFFFF))
def test_only_a_clean_end_hands_a_value_on(said, status, wait):
    run = read_call(said, status=status, wait=wait)
    assert run.status in RUN_STATUSES
    if run.returned or run.value is not None:
        assert (run.status, status) == ("ok", "ok")


def test_every_exit_status_is_read():
    for wait in [*range(1 << 10), *range(1 << 10, 1 << 16, 97)]:
        run = read_program(status="crash", wait=wait)
        assert (run.signal is not None) == os.WIFSIGNALED(wait)
