"""Jobs and results survive the way to another machine and back."""

import contextlib
import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_sandboxes import wire
from rl_sandboxes.types import STATUSES, Call, Guarantees, Job, JobError, Limits, Result, Run

texts = st.text(st.characters(), max_size=20)  # lone surrogates included
unicode_texts = st.text(max_size=20)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    texts,
    st.binary(max_size=20),
)
hashables = st.recursive(scalars, lambda item: st.frozensets(item, max_size=3), max_leaves=4)
plain = st.recursive(
    hashables,
    lambda item: st.one_of(
        st.lists(item, max_size=3),
        st.lists(item, max_size=3).map(tuple),
        st.dictionaries(hashables, item, max_size=3),
        st.sets(hashables, max_size=3),
    ),
    max_leaves=8,
)
paths = st.text(
    st.characters(exclude_characters="\0/.", exclude_categories=["Cs"]), min_size=1, max_size=9
)
files = st.dictionaries(paths, st.binary(max_size=30), max_size=3)
limits = st.builds(
    Limits,
    wall_s=st.floats(0.001, 1000),
    cpu_s=st.integers(1, 100),
    memory_mb=st.integers(1, 10_000),
    output_kb=st.integers(1, 1000),
)
calls = st.builds(
    Call,
    st.lists(plain, max_size=3).map(tuple),
    st.dictionaries(unicode_texts, plain, max_size=2),
)
shared = {
    "files": files,
    "collect": st.lists(paths, max_size=3).map(tuple),
    "limits": limits,
    "stop_early": st.booleans(),
}
jobs = st.one_of(
    st.builds(
        Job.call,
        texts,
        texts.filter(bool),
        st.lists(calls, min_size=1, max_size=3),
        **shared,
    ),
    st.builds(Job.program, texts, st.lists(st.binary(max_size=9), min_size=1), **shared),
    st.builds(Job.shell, texts.filter(lambda text: "\0" not in text), unicode_texts, **shared),
)
seconds = st.floats(0, 1e6)
outcomes = {
    "status": st.sampled_from([status for status in STATUSES if status != "sandbox_error"]),
    "stdout": texts,
    "stderr": texts,
    "stdout_cut": st.booleans(),
    "exception": st.none() | texts,
    "exit_code": st.none() | st.integers(0, 255),
    "signal": st.none() | st.integers(1, 64),
    "wall_s": seconds,
    "cpu_s": seconds,
    "peak_mb": seconds,
    "n_left": st.integers(0, 9),
    "suspicious": st.lists(unicode_texts, max_size=2).map(tuple),
    "note": texts,
}
runs = st.one_of(
    st.builds(Run, **outcomes),
    st.builds(Run, returned=st.just(True), value=plain, **outcomes),
)
results = st.builds(
    Result,
    st.lists(runs, max_size=3).map(tuple),
    files,
    st.dictionaries(paths, texts, max_size=2),
    seconds,
    st.none() | texts,
)


def there_and_back(tree):
    return wire.loads(wire.dumps(tree))


@given(jobs)
@settings(deadline=None)
def test_a_job_comes_back_equal(job):
    assert wire.job_from(there_and_back(wire.job_tree(job))) == job


@given(results)
@settings(deadline=None)
def test_a_result_comes_back_equal(result):
    assert wire.result_from(there_and_back(wire.result_tree(result))) == result


@given(results)
@settings(deadline=None)
def test_a_result_is_one_line_of_ascii(result):
    assert b"\n" not in wire.dumps(wire.result_tree(result))


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        (Job, wire.job_from),
        (Limits, wire.limits_from),
        (Run, wire.run_from),
        (Result, wire.result_from),
    ],
)
def test_every_field_is_known(kind, read):
    with pytest.raises(wire.WireError) as refused:
        read({"no field": 0})
    known = str(refused.value).partition("it has ")[2].split(", ")
    assert set(known) == {spec.name for spec in dataclasses.fields(kind)}


def test_a_nan_comes_back_as_nan():
    tree = wire.run_tree(Run("ok", returned=True, value=[math.nan]))
    assert math.isnan(wire.run_from(there_and_back(tree)).value[0])


def test_types_come_back_as_they_were():
    value = [True, 1, 1.0, (1,), {1}, frozenset({1}), b"1", "1", {1: "1"}, 10**30, 1j]
    back = wire.run_from(there_and_back(wire.run_tree(Run("ok", returned=True, value=value)))).value
    assert list(map(type, back)) == list(map(type, value))


def test_guarantees_come_back_equal():
    promised = Guarantees("a", "", "c", "d", "e", "f", "g", "h", missing=("i", "j"))
    assert wire.guarantees_from(there_and_back(wire.guarantees_tree(promised))) == promised


def test_what_is_default_is_left_out():
    assert wire.job_tree(Job.program("print(1)")) == {
        "kind": "program",
        "code": "print(1)",
        "stdin": [""],
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[NaN]", "not JSON: NaN is no number"),
        (b"[-Infinity]", "not JSON: -Infinity is no number"),
        (b"\xff", "not UTF-8: byte 0 is 0xff"),
        ("[1]".encode("utf-16"), "not UTF-8"),
        (b"[" * 200_000, "nested too deep"),
        (b'{"a":' * 200_000, "nested too deep"),
        (b"1" * 10_000, "not JSON"),
    ],
)
def test_what_is_no_json_is_refused_in_a_line(data, message):
    with pytest.raises(wire.NotJsonError, match=message) as refused:
        wire.loads(data)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([], "job must be an object, not a list"),
        ({"kind": "program"}, "job lacks 'code'"),
        ({"kind": "program", "code": 1}, "job.code must be text, not a number"),
        ({"kind": "program", "code": "", "cod": ""}, "job has no 'cod'; it has kind, code"),
        ({"kind": "program", "code": "", "stdin": ["%"]}, r"job.stdin\[0\] must be base64"),
        ({"kind": "program", "code": "", "stdin": [None]}, r"job.stdin\[0\] must be base64"),
        ({"kind": "program", "code": "", "stdin": ""}, "job.stdin must be a list, not text"),
        ({"kind": "call", "code": "", "calls": [[1]]}, r"job.calls\[0\]\[0\] must be a list"),
        ({"kind": "call", "code": "", "calls": [1]}, r"job.calls\[0\] must be \[\[argument"),
        ({"kind": "call", "code": "", "calls": [[[{"q": 1}]]]}, "not an encoded value"),
        ({"kind": "program", "code": "", "limits": {"wall": 1}}, "job.limits has no 'wall'"),
        ({"kind": "program", "code": "", "limits": {"wall_s": True}}, "must be a number"),
        ({"kind": "program", "code": "", "stop_early": 1}, "must be true or false"),
        ({"kind": "program", "code": {"s": "zz"}}, "not an encoded value"),
        ({"kind": "program", "code": "", "files": {"a": 1}}, r"job.files\['a'\] must be base64"),
    ],
)
def test_what_is_no_job_is_refused_with_its_place(tree, message):
    with pytest.raises(wire.WireError, match=message):
        wire.job_from(tree)


@pytest.mark.parametrize(
    "tree",
    [
        {"kind": "dance", "code": ""},
        {"kind": "program", "code": ""},
        {"kind": "call", "code": "", "calls": [[[]]]},
        {"kind": "program", "code": "", "stdin": [""], "files": {"../a": ""}},
        {"kind": "program", "code": "", "stdin": [""], "limits": {"wall_s": -1}},
        {"kind": "program", "code": "", "stdin": [""], "limits": {"memory_mb": 1.5}},
    ],
)
def test_a_job_that_cannot_be_run_is_a_job_error(tree):
    with pytest.raises(JobError):
        wire.job_from(tree)


@pytest.mark.parametrize(
    "tree",
    [None, [], {"runs": [{}]}, {"runs": [{"status": "sandbox_error"}]}, {"error": 1}, {"a": 1}],
)
def test_what_is_no_result_is_refused(tree):
    with pytest.raises(wire.WireError):
        wire.result_from(tree)


def test_an_argument_that_is_no_plain_data_is_a_job_error():
    with pytest.raises(
        JobError, match=r"call 1: an argument is no plain data: type builtins\.object"
    ):
        wire.job_tree(Job.call("", "f", [Call(), Call((object(),))]))


def test_a_path_that_is_no_unicode_is_a_job_error():
    with pytest.raises(JobError, match="no"):
        wire.job_tree(Job.program("", files={"\udc80": b""}))


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | unicode_texts,
    lambda item: st.lists(item, max_size=3) | st.dictionaries(unicode_texts, item, max_size=3),
    max_leaves=10,
)


@given(json_like, st.sampled_from([wire.job_from, wire.result_from, wire.run_from]))
@settings(deadline=None)
def test_anything_is_read_or_refused(tree, read):
    with contextlib.suppress(wire.WireError, JobError):
        read(tree)


@given(jobs, json_like, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_a_job_with_a_field_replaced_is_read_or_refused(job, other, random):
    tree = wire.job_tree(job)
    tree[random.choice(sorted(tree))] = other
    with contextlib.suppress(wire.WireError, JobError):
        wire.job_from(json.loads(json.dumps(tree)))
