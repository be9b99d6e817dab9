import pytest

from agent_rl.runs import RunError, RunFolder
from agent_rl.runs.plots import plot_runs


def a_run(path, metric="reward/mean"):
    folder = RunFolder.create(path, {"stage": "rl"})
    for step in range(1, 4):
        folder.log(step, {metric: step / 4}, stage="rl")
    return folder.path


def test_each_run_has_a_line_in_a_labelled_panel(tmp_path):
    runs = [a_run(tmp_path / "grpo"), a_run(tmp_path / "ppo_$1$")]
    text = plot_runs(runs, tmp_path / "out" / "curves.svg").read_text()
    for label in ("Reward", "mean per episode", "step", "grpo", "ppo_$1$"):
        assert f"<!-- {label} -->" in text
    assert "Entropy" not in text


def test_a_picture_is_written(tmp_path):
    out = plot_runs([a_run(tmp_path / "grpo")], tmp_path / "curves.png")
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_recipe_has_a_line_per_stage_that_has_the_metric(tmp_path):
    whole = RunFolder.create(tmp_path / "recipe", {"stages": {}}).path
    a_run(whole / "1-sft", "loss/train")
    a_run(whole / "2-rl")
    a_run(whole / "3-rl")
    text = plot_runs([whole], tmp_path / "curves.svg").read_text()
    assert "recipe/2-rl" in text
    assert "recipe/1-sft" not in text


def test_an_unknown_ending_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"must be one of \.png, \.svg, \.pdf"):
        plot_runs([], tmp_path / "curves.bmp")


def test_runs_without_the_metric_are_refused(tmp_path):
    with pytest.raises(RunError, match=r"nothing to draw: .* loss/value"):
        plot_runs([a_run(tmp_path / "run")], tmp_path / "a.png", ["loss/value"])
