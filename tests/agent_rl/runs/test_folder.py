import json
import os
import subprocess
import sys

import pytest

from agent_rl.runs import RunError, RunFolder

CONFIG = {"stage": "rl", "steps": 4, "optimizer": {"lr": 1e-5, "betas": (0.9, 0.95)}}


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run", CONFIG)


def files(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


def test_the_configuration_reads_back(folder):
    assert folder.read_config() == {**CONFIG, "optimizer": {"lr": 1e-5, "betas": [0.9, 0.95]}}


def test_an_infinite_setting_reads_back(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {"clip": float("inf")})
    assert folder.read_config() == {"clip": float("inf")}


def test_the_environment_says_what_ran_where(folder):
    around = folder.read_environment()
    assert around["packages"]["numpy"].count(".") == 2
    assert around["python"] == ".".join(map(str, sys.version_info[:3]))
    assert around["cores"] == os.cpu_count()


def test_create_refuses_a_used_folder_and_touches_nothing(folder):
    folder.log(1, {"reward/mean": 0.5}, stage="rl")
    before = {name: (folder.path / name).read_bytes() for name in files(folder.path)}
    with pytest.raises(RunError, match=r"is not empty: .*--resume.*run\.dir"):
        RunFolder.create(folder.path, {})
    assert {n: (folder.path / n).read_bytes() for n in files(folder.path)} == before


def test_overwrite_starts_anew(folder):
    folder.log(1, {"reward/mean": 0.5}, stage="rl")
    again = RunFolder.create(folder.path, {"steps": 9}, overwrite=True)
    assert again.read_metrics() == []
    assert again.read_config() == {"steps": 9}


def test_overwrite_does_not_remove_what_is_no_run(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="is no run folder"):
        RunFolder.create(tmp_path, {}, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_file_in_the_way_is_kept(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunError, match="is a file"):
        RunFolder.create(tmp_path / "run", {}, overwrite=True)
    assert (tmp_path / "run").read_text() == "mine"


def test_a_start_that_was_killed_at_once_is_not_in_the_way(tmp_path):
    (tmp_path / ".config.yaml.123.tmp").write_text("half")
    assert RunFolder.create(tmp_path, {"steps": 1}).read_config() == {"steps": 1}


def test_a_folder_in_which_nothing_happened_is_discarded(folder):
    folder.discard_unused()
    assert not folder.path.exists()


def test_a_folder_in_which_something_was_measured_is_not_discarded(folder):
    folder.log(0, {"eval/greedy": 0.1}, stage="eval")
    folder.discard_unused()
    assert files(folder.path) == ["config.yaml", "environment.json", "metrics.jsonl"]


def test_a_folder_with_data_is_not_discarded_and_one_with_an_empty_file_is(folder):
    (folder.path / "samples.jsonl").write_text('{"a": 1}\n')
    folder.discard_unused()
    assert (folder.path / "config.yaml").exists()
    (folder.path / "samples.jsonl").write_text("")
    folder.discard_unused()
    assert not folder.path.exists()


def test_discarding_leaves_what_is_not_ours(folder):
    (folder.path / "notes.txt").write_text("mine")
    folder.discard_unused()
    assert files(folder.path) == ["notes.txt"]


def test_create_makes_missing_parents(tmp_path):
    assert RunFolder.create(tmp_path / "a" / "b", {}).path.is_dir()


def test_resume_refuses_a_folder_without_a_run(tmp_path):
    with pytest.raises(RunError, match="is no run folder"):
        RunFolder.resume(tmp_path)


def test_resume_keeps_the_first_environment_and_notes_the_second(folder):
    first = folder.read_environment()
    again = RunFolder.resume(RunFolder.resume(folder.path).path).read_environment()
    assert {key: again[key] for key in first} == first
    assert [entry["cores"] for entry in again["resumed"]] == [os.cpu_count()] * 2


def test_an_opened_folder_cannot_be_written(folder):
    opened = RunFolder.open(folder.path)
    for write in (
        lambda: opened.log(1, {}, stage="rl"),
        lambda: opened.save_rollouts(1, []),
        lambda: opened.write_summary({}),
        lambda: opened.truncate_after(0),
    ):
        with pytest.raises(RunError, match="opened to be read"):
            write()


def test_a_logged_line_reads_back_exactly(folder):
    folder.log(3, {"reward/mean": 0.1 + 0.2, "length/max": 7}, stage="rl")
    assert folder.read_metrics() == [
        {"step": 3, "stage": "rl", "reward/mean": 0.1 + 0.2, "length/max": 7}
    ]


def test_a_value_that_is_no_number_is_null_and_named(folder):
    folder.log(1, {"loss/total": float("nan"), "kl/reference": float("inf")}, stage="rl")
    [row] = folder.read_metrics()
    assert row["loss/total"] is None
    assert row["non_finite"] == ["loss/total", "kl/reference"]


def test_a_line_is_in_the_file_before_the_process_dies(folder):
    code = (
        "import os, signal, sys; from agent_rl.runs import RunFolder;"
        "RunFolder(sys.argv[1] and __import__('pathlib').Path(sys.argv[1]))"
        ".log(1, {'reward/mean': 1.0}, stage='rl'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code, folder.path], env=where, check=False)
    assert done.returncode == -9
    assert folder.read_metrics() == [{"step": 1, "stage": "rl", "reward/mean": 1.0}]


def test_truncate_after_forgets_later_steps_and_the_half_line(folder):
    for step in range(5):
        folder.log(step, {"reward/mean": step / 10}, stage="rl")
        folder.save_rollouts(step, [{"completion": "x"}])
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "reward/me')
    (folder.path / ".report.html.77.tmp").write_text("half")
    folder.truncate_after(2)
    assert [row["step"] for row in folder.read_metrics()] == [0, 1, 2]
    assert (folder.path / "metrics.jsonl").read_bytes().endswith(b"}\n")
    assert folder.rollout_steps() == [0, 1, 2]
    assert not (folder.path / ".report.html.77.tmp").exists()


def test_logging_goes_on_after_truncation_as_if_never_stopped(folder, tmp_path):
    whole = RunFolder.create(tmp_path / "whole", CONFIG)
    for step in range(6):
        whole.log(step, {"loss/total": step / 3}, stage="rl")
    for step in range(4):
        folder.log(step, {"loss/total": step / 3}, stage="rl")
    folder.truncate_after(1)
    for step in range(2, 6):
        folder.log(step, {"loss/total": step / 3}, stage="rl")
    lines = [(f.path / "metrics.jsonl").read_bytes() for f in (folder, whole)]
    assert lines[0] == lines[1]


def test_truncate_after_minus_one_forgets_all(folder):
    folder.log(0, {"eval/greedy": 0.0}, stage="eval")
    folder.truncate_after(-1)
    assert folder.read_metrics() == []


def test_rollouts_read_back_with_their_step(folder):
    folder.save_rollouts(12, [{"completion": "1\n2", "reward": 1.0}, {"completion": "\ud800"}])
    assert (folder.path / "rollouts" / "step-000012.jsonl").exists()
    assert folder.read_rollouts(12) == [
        {"step": 12, "completion": "1\n2", "reward": 1.0},
        {"step": 12, "completion": "\ud800"},
    ]
    assert folder.rollout_steps() == [12]


def test_rollouts_of_a_step_without_any_are_none(folder):
    assert folder.read_rollouts(3) == []


def test_the_summary_is_merged(folder):
    folder.write_summary({"steps": 4, "kl": float("nan")})
    folder.write_summary({"finished": True})
    assert json.loads((folder.path / "summary.json").read_text()) == {
        "steps": 4,
        "kl": None,
        "finished": True,
    }


def test_a_damaged_summary_is_named(folder):
    (folder.path / "summary.json").write_text("{")
    with pytest.raises(RunError, match=r"summary\.json is damaged"):
        folder.read_summary()


def test_listeners_hear_what_is_logged(tmp_path):
    heard = []
    folder = RunFolder(tmp_path, listeners=(lambda step, metrics: heard.append((step, metrics)),))
    folder.log(7, {"reward/mean": 1.0}, stage="rl")
    assert heard == [(7, {"reward/mean": 1.0})]


def test_importing_the_package_imports_nothing_slow():
    code = (
        "import sys, agent_rl.runs; "
        "print([m for m in ('torch', 'rich', 'jinja2', 'matplotlib') if m in sys.modules])"
    )
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=where, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
