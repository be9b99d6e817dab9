"""A checkpoint is whole or not there; a full disk leaves the one before."""

from __future__ import annotations

import errno
import os
import random

import numpy as np
import pytest
import torch

from agent_rl import checkpoint
from agent_rl.errors import UserError

STATE = {"model": {"weight": torch.arange(6.0).reshape(2, 3)}, "update": 7, "before": {"a": 0.5}}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def full(*_args, **_options):
    raise OSError(errno.ENOSPC, "No space left on device")


def torn(_state, file, **_options):
    """torch's own report of a short write, after some bytes."""
    file.write(b"half")
    raise RuntimeError("[enforce fail at inline_container.cc:672] unexpected pos 64 vs 0\nframe #0")


def test_what_was_saved_comes_back(tmp_path):
    path = checkpoint.save(tmp_path / "c", 12, STATE, keep=1)
    state = checkpoint.load(path)
    assert path.name == "step-000012"
    assert torch.equal(state["model"]["weight"], STATE["model"]["weight"])
    assert (state["step"], state["update"], state["before"]) == (12, 7, {"a": 0.5})


@pytest.mark.parametrize(
    ("where", "how"), [("torch.save", full), ("torch.save", torn), ("os.fsync", full)]
)
def test_a_disk_that_refuses_leaves_the_checkpoint_before_and_nothing_else(
    tmp_path, monkeypatch, where, how
):
    checkpoint.save(tmp_path, 1, STATE, keep=1)
    monkeypatch.setattr(*([torch, "save"] if where == "torch.save" else [os, "fsync"]), how)
    with pytest.raises(UserError) as caught:
        checkpoint.save(tmp_path, 2, {**STATE, "update": 8}, keep=1)
    monkeypatch.undo()
    line = str(caught.value)
    assert "\n" not in line
    assert f"cannot write the checkpoint {tmp_path / 'step-000002'}: " in line
    assert line.endswith("free some space, then resume from step-000001")
    assert names(tmp_path) == ["step-000001"]
    assert checkpoint.load(checkpoint.latest(tmp_path))["update"] == 7


def test_a_disk_that_refuses_the_first_checkpoint_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"No space left on device.*there is no earlier checkpoint"):
        checkpoint.save(tmp_path, 1, STATE, keep=1)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "c").write_text("a file")
    with pytest.raises(UserError, match="cannot write the checkpoint"):
        checkpoint.save(tmp_path / "c", 1, STATE, keep=1)


def test_a_refused_write_of_the_same_step_leaves_the_first(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, STATE, keep=1)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError):
        checkpoint.save(tmp_path, 1, {**STATE, "update": 8}, keep=1)
    assert checkpoint.load(checkpoint.latest(tmp_path))["update"] == 7


def test_saving_a_step_again_replaces_it(tmp_path):
    checkpoint.save(tmp_path, 1, STATE, keep=1)
    checkpoint.save(tmp_path, 1, {**STATE, "update": 8}, keep=1)
    assert names(tmp_path) == ["step-000001"]
    assert checkpoint.load(checkpoint.latest(tmp_path))["update"] == 8


@pytest.mark.parametrize(
    ("keep", "left"), [(1, [4]), (2, [3, 4]), (9, [1, 2, 3, 4]), (0, [1, 2, 3, 4])]
)
def test_the_newest_are_kept(tmp_path, keep, left):
    for step in range(1, 5):
        checkpoint.save(tmp_path, step, STATE, keep=keep)
    assert names(tmp_path) == [f"step-{step:06d}" for step in left]


def test_the_newest_is_the_highest_step_past_a_million_too(tmp_path):
    for step in (999_999, 1_000_000):
        checkpoint.save(tmp_path, step, STATE, keep=2)
    assert checkpoint.latest(tmp_path).name == "step-1000000"


def test_leftovers_of_a_killed_run_are_not_looked_at_and_can_be_cleared(tmp_path):
    checkpoint.save(tmp_path, 1, STATE, keep=1)
    half = tmp_path / ".step-000002.123.tmp"
    half.mkdir()
    (half / checkpoint.STATE).write_bytes(b"half")
    (tmp_path / "step-000003").mkdir()  # without a state: made by hand
    assert checkpoint.latest(tmp_path).name == "step-000001"
    checkpoint.clear_leftovers(tmp_path)
    assert names(tmp_path) == ["step-000001", "step-000003"]


def test_a_leftover_of_a_process_with_our_number_is_no_obstacle(tmp_path):
    """In a container every run may have the same process number."""
    half = tmp_path / f".step-000001.{os.getpid()}.tmp"
    half.mkdir()
    (half / checkpoint.STATE).write_bytes(b"half")
    assert checkpoint.load(checkpoint.save(tmp_path, 1, STATE, keep=1))["update"] == 7
    assert names(tmp_path) == ["step-000001"]


def test_without_a_folder_there_is_no_checkpoint(tmp_path):
    assert checkpoint.latest(tmp_path / "nothing") is None


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None], ids=["empty", "text", "cut"])
def test_a_damaged_file_is_one_clear_line(tmp_path, damage):
    file = checkpoint.save(tmp_path, 1, STATE, keep=1) / checkpoint.STATE
    file.write_bytes(file.read_bytes()[:200] if damage is None else damage)
    with pytest.raises(UserError) as caught:
        checkpoint.load(file.parent)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 400
    assert f"the checkpoint {file.parent} cannot be read" in line


class Hostile:
    def __reduce__(self):
        return (print, ("code was run",))


def test_no_code_in_a_checkpoint_is_run(tmp_path, capsys):
    folder = tmp_path / "step-000001"
    folder.mkdir()
    torch.save({"model": Hostile()}, folder / checkpoint.STATE)
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.load(folder)
    assert capsys.readouterr().out == ""


def test_random_states_go_through_a_file_and_continue_every_stream(tmp_path):
    def draw():
        return (
            random.random(),
            random.gauss(),
            np.random.rand(),
            np.random.randn(),
            torch.rand(3).tolist(),
        )

    random.gauss(), np.random.randn()  # leaves half a pair in both generators
    path = checkpoint.save(tmp_path, 1, {}, keep=1)
    first = draw()
    assert draw() != first
    checkpoint.set_random_state(checkpoint.load(path)["random"])
    assert draw() == first


def test_saving_moves_no_random_stream(tmp_path):
    torch.manual_seed(1)
    wanted = torch.rand(2)
    torch.manual_seed(1)
    checkpoint.save(tmp_path, 1, STATE, keep=1)
    assert torch.equal(torch.rand(2), wanted)
