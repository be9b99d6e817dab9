import sys

import pytest

from agent_rl.runs import RunError, RunFolder
from agent_rl.runs import trackers as module
from agent_rl.runs.trackers import check_trackers, flatten, tracked


class Recorder:
    """A tracker of accelerate's shape that remembers what it is told."""

    requires_logging_directory = True
    log_error = None

    def __init__(self, project, logging_dir):
        self.told = [("init", project, logging_dir)]
        Recorder.last = self

    def start(self):
        self.told.append(("start",))

    def store_init_configuration(self, values):
        self.told.append(("config", values))

    def log(self, values, step):
        self.told.append(("log", step, values))
        if self.log_error:
            raise self.log_error

    def finish(self):
        self.told.append(("finish",))


class Absent(Recorder):
    def start(self):
        raise ModuleNotFoundError("No module named 'wandb'")


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run", {})


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(module, "_classes", lambda: {"recorder": Recorder, "absent": Absent})


def test_a_tracker_hears_settings_and_every_line(folder):
    with tracked(folder, ["recorder"], {"optimizer": {"lr": 0.1}}) as heard:
        heard.log(1, {"reward/mean": 0.5}, stage="rl")
    assert Recorder.last.told == [
        ("init", "agent-rl", str(folder.path)),
        ("start",),
        ("config", {"optimizer.lr": 0.1}),
        ("log", 1, {"reward/mean": 0.5}),
        ("finish",),
    ]
    assert folder.read_metrics() == [{"step": 1, "stage": "rl", "reward/mean": 0.5}]


def test_a_tracker_is_finished_when_training_fails(folder):
    with pytest.raises(ZeroDivisionError), tracked(folder, ["recorder"], {}):
        1 / 0  # noqa: B018
    assert Recorder.last.told[-1] == ("finish",)


def test_a_tracker_that_fails_is_left_out_and_training_goes_on(folder, monkeypatch):
    monkeypatch.setattr(Recorder, "log_error", OSError("no network"))
    with tracked(folder, ["recorder"], {}) as heard:
        with pytest.warns(RuntimeWarning, match="recorder failed and is left out: no network"):
            heard.log(1, {}, stage="rl")
        heard.log(2, {}, stage="rl")
    assert [entry[1] for entry in Recorder.last.told if entry[0] == "log"] == [1]
    assert len(folder.read_metrics()) == 2


def test_an_unknown_tracker_is_refused():
    with pytest.raises(RunError, match="unknown tracker 'notepad'; one of recorder, absent"):
        check_trackers(["notepad"])


def test_a_tracker_that_is_not_installed_is_one_clear_line(folder):
    with pytest.raises(RunError, match=r"absent is not installed \(No module named 'wandb'\)"):
        tracked(folder, ["absent"], {}).__enter__()


def test_nested_settings_become_dotted_ones():
    config = {"a": {"b": {"c": 1}}, "d": None, "e": [1, 2], "f": True}
    assert flatten(config) == {"a.b.c": 1, "d": "None", "e": "[1, 2]", "f": True}


def test_without_trackers_nothing_is_imported(folder, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "accelerate.tracking", None)  # importing it would fail
    with tracked(folder, [], {}) as same:
        assert same == folder
    with pytest.raises(RunError, match="need accelerate"):
        check_trackers(["wandb"])


def test_accelerate_knows_the_trackers_that_the_documentation_names(monkeypatch):
    monkeypatch.undo()
    pytest.importorskip("accelerate")
    check_trackers(["tensorboard", "wandb", "trackio", "mlflow"])
