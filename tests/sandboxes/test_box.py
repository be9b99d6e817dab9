"""The world of a job: whom its supervisor may end."""

import os

import pytest

from rl_sandboxes.inside import box


@pytest.fixture
def signalled(monkeypatch):
    """Who would be signalled; nobody is."""
    targets = []
    monkeypatch.setattr(box.os, "kill", lambda pid, number: targets.append(pid))
    return targets


def shared_box(tmp_path, **options):
    folder = str(tmp_path)
    return box.Box(
        box.Rules({"shared": True, "work": folder, "tmp": folder, "path": "", **options})
    )


def test_where_processes_are_shared_everybody_is_never_signalled(tmp_path, signalled, monkeypatch):
    world = shared_box(tmp_path)
    monkeypatch.setattr(world, "processes", list)
    world.spared.clear()  # as at the end of a session
    assert world.end_all()
    assert -1 not in signalled


@pytest.mark.parametrize("alone", [False, True])
def test_the_fork_server_is_no_process_of_the_job_whoever_is_spared(tmp_path, alone):
    world = shared_box(tmp_path, alone=alone)
    world.spared.clear()
    for spared in (False, True):
        assert os.getppid() not in {process.pid for process in world.processes(spared=spared)}
