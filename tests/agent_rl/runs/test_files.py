import errno
import json
import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_rl.runs.files import (
    RunError,
    append_line,
    plain,
    read_json_lines,
    to_json,
    write_atomically,
)


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_written_file_holds_the_text_and_no_temporary_stays(tmp_path):
    write_atomically(tmp_path / "a.json", "é\n")
    assert (tmp_path / "a.json").read_bytes() == b"\xc3\xa9\n"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_temporary(tmp_path, monkeypatch, call):
    path = tmp_path / "summary.json"
    path.write_text("old")
    monkeypatch.setattr(os, call, full_disk)
    with pytest.raises(RunError, match=r"cannot write .*summary.json: No space left on device"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["summary.json"]


def test_an_interrupt_leaves_the_old_file_and_no_temporary(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    path.write_text("old")

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["summary.json"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_appending_to_a_full_disk_is_one_clear_line():
    from pathlib import Path

    with pytest.raises(
        RunError, match=r"cannot write /dev/full: No space left on device"
    ) as caught:
        append_line(Path("/dev/full"), "x")
    assert "\n" not in str(caught.value)


def test_a_line_that_fits_only_in_part_is_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    append_line(path, '{"step": 1}')
    opened = type(path).open

    class Nearly:
        """A file on a disk with three bytes left."""

        def __init__(self, file):
            self._file, self._left = file, 3

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

        def write(self, data):
            taken = data[: self._left]
            self._left -= len(taken)
            return self._file.write(taken) if taken else full_disk()

        def __getattr__(self, name):
            return getattr(self._file, name)

    monkeypatch.setattr(type(path), "open", lambda *a, **k: Nearly(opened(*a, **k)))
    with pytest.raises(RunError, match="No space left"):
        append_line(path, '{"step": 2}')
    monkeypatch.undo()
    assert path.read_text() == '{"step": 1}\n'


def test_numbers_of_numpy_become_plain_and_non_finite_ones_null():
    values = {"a": np.float32(0.5), "b": [np.int64(3), float("nan")], "c": np.array(-math.inf)}
    assert json.loads(to_json(values)) == {"a": 0.5, "b": [3, None], "c": None}


def test_a_lone_surrogate_survives_the_file(tmp_path):
    write_atomically(tmp_path / "rows.jsonl", to_json({"completion": "a\\\ud800"}) + "\n")
    assert read_json_lines(tmp_path / "rows.jsonl") == [{"completion": "a\\\ud800"}]


@given(st.text(st.characters()))
def test_any_text_makes_one_line_that_reads_back(text):
    line = to_json({"completion": text})
    assert "\n" not in line
    assert json.loads(line) == {"completion": text}


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=8))
def test_whatever_is_plain_is_strict_json(value):
    json.dumps(plain(value), allow_nan=False)


def test_a_half_written_last_line_is_left_out(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"step": 2, "re')
    assert read_json_lines(tmp_path / "m.jsonl") == [{"step": 1}]


def test_a_damaged_line_inside_is_named(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(RunError, match=r"m\.jsonl, line 2 is damaged"):
        read_json_lines(tmp_path / "m.jsonl")


def test_a_character_that_only_python_takes_for_a_line_break_does_not_split_a_line(tmp_path):
    text = "a\u2028b\x85c\x0bd"
    append_line(tmp_path / "m.jsonl", to_json({"t": text}))
    assert read_json_lines(tmp_path / "m.jsonl") == [{"t": text}]
