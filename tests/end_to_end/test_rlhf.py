"""`make rlhf`: the true reward rises stage by stage, though only comparisons were learned from."""

import json
from pathlib import Path

import pytest

from agent_rl.loading import load_recipe
from agent_rl.recipe import run_recipe

RECIPE = Path(__file__).parents[2] / "configs/recipes/instructgpt.yaml"


@pytest.mark.slow
def test_instructgpt_in_miniature(tmp_path):
    recipe = load_recipe(str(RECIPE), ["--run.dir", str(tmp_path / "run")])
    summary = run_recipe(recipe)
    base, sft, ppo = summary["stages"]["who"]["comparison"]
    assert base["reward"] < sft["reward"] < ppo["reward"]
    assert ppo["reward"] > base["reward"] + 0.15
    assert sft["win_rate_interval"][0] > 0.5
    assert ppo["win_rate_interval"][0] > 0.5
    assert ppo["kl"] < 4
    assert summary["stages"]["rm"]["accuracy"] > 0.7
    paid = _rows(tmp_path / "run/5-ppo/metrics.jsonl", "reward/part/gold/value")
    assert paid[-1] > paid[0]
    page = (tmp_path / "run/report.html").read_text()
    assert "win rate (95 %)" in page
    assert "2-sft" in page


def _rows(path: Path, name: str) -> list[float]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row[name] for row in rows if name in row]
