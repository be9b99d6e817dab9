"""Training against a reward model: its path in an environment's options, and what goes wrong."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from agent_rl.config import ModelConfig, TinyModel
from agent_rl.errors import UserError
from agent_rl.loading import load_recipe
from agent_rl.recipe import run_recipe
from agent_rl.reward_models import from_policy, save_reward_model
from agent_rl.runs.metrics import documented_metrics, undocumented

METRICS = Path(__file__).parents[2] / "docs/metrics.md"
TINY = {
    "hidden_size": 32,
    "layers": 1,
    "heads": 2,
    "intermediate_size": 32,
    "context": 64,
    "characters": "abcdefghijklmnopqrstuvwxyz: ",
    "tokens": [],
}
LETTERS = {"id": "text/Letters-v0"}


def learned(path, **options):
    models = [{"path": path, "name": "proxy", "normalize": "standard"}]
    prompts = {"env": "text/Letters-v0"}
    given = {"prompts": prompts, "reward_models": models, "gold": "prompts", **options}
    return {"id": "text/LearnedReward-v0", "options": given}


def rl(env):
    return {
        "stage": "rl",
        "model": {"tiny": TINY},
        "envs": [env],
        "steps": 3,
        "prompts_per_step": 2,
        "group_size": 4,
        "sampling": {"max_tokens": 6},
        "on_truncation": "score",
        "optimizer": {"lr": 1e-3},
        "evaluation": {"tasks": 2, "every": 2},
    }


RECIPE = {
    "run": {"dir": "run", "checkpoint_every": 1},
    "stages": {
        "pairs": {
            "stage": "pairs",
            "model": {"tiny": TINY},
            "env": LETTERS,
            "sampling": {"max_tokens": 8},
            "on_truncation": "score",
            "tasks": 24,
            "samples": 6,
        },
        "rm": {
            "stage": "reward_model",
            "model": {"tiny": TINY},
            "data": {"path": "@pairs"},
            "batch_size": 8,
            "held_out": 16,
            "max_steps": 6,
        },
        "rl": rl(learned("@rm")),
    },
}


@pytest.fixture
def train(tmp_path, monkeypatch):
    """``train(tree, *words, resume=False)``: run a recipe in this process."""
    monkeypatch.chdir(tmp_path)

    def call(tree, *words, resume=False):
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        return run_recipe(load_recipe("recipe.yaml", words), resume=resume)

    return call


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_recipe_trains_a_reward_model_and_then_the_policy_against_it(train, tmp_path):
    train(RECIPE)
    folder = tmp_path / "run/3-rl"
    rows = [row for row in metrics(folder) if "reward/part/proxy" in row]
    assert len(rows) == 3
    for row in rows:
        assert row["samples/error"] == 0
        assert row["reward/mean"] == pytest.approx(row["reward/part/proxy"])
        assert row["reward/part/gold/value"] != row["reward/mean"]
        assert abs(row["reward/mean"]) < 10  # normalized
        assert undocumented(row, documented_metrics(METRICS)) == []
    # Stopped after the second step and gone on, it ends with the same weights.
    whole = load_file(folder / "model/model.safetensors")
    train(RECIPE, "--run.dir=again", "--stages.rl.steps=2")
    train(RECIPE, "--run.dir=again", resume=True)
    resumed = load_file(tmp_path / "again/3-rl/model/model.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_rounds_of_pairs_are_mixed_and_their_prompts_trained_on(train, tmp_path):
    """Files that earlier stages will make are not looked for before they are there."""
    stages = RECIPE["stages"]
    options = {"prompts": {"path": "@one"}, "reward_models": [{"path": "@rm"}]}
    baseline = {"prompts": {"path": "@one"}, "reward_model": {"path": "@rm"}}
    online = {"id": "text/Preference-v0", "options": {**baseline, "baseline": "chosen"}}
    tree = {
        "one": stages["pairs"],
        "two": {**stages["pairs"], "tasks": 16, "run": {"seed": 1}},
        "rm": {**stages["rm"], "data": {"paths": ["@one", "@two"]}},
        "rl": rl({"id": "text/LearnedReward-v0", "options": options}),
        "again": {**rl(online), "group_size": 2, "steps": 1},
    }
    found = train({"run": {"dir": "run"}, "stages": tree})["stages"]
    files = [tmp_path / f"run/{name}/data.jsonl" for name in ("1-one", "2-two")]
    pairs = [len(file.read_text().splitlines()) for file in files]
    assert max(pairs) < found["rm"]["train_items"] <= sum(pairs)
    assert len([row for row in metrics(tmp_path / "run/4-rl") if "reward/part/model" in row]) == 3
    (row,) = (row for row in metrics(tmp_path / "run/5-again") if "reward/part/win_rate" in row)
    assert row["reward/part/comparisons"] == 1  # with the chosen answers, which are messages


def test_a_group_is_paid_by_comparing_its_members(train, tmp_path):
    model = from_policy(ModelConfig(tiny=TinyModel(**TINY)), 0)
    save_reward_model(model, tmp_path / "rm")
    options = {"prompts": {"env": "text/Letters-v0"}, "reward_model": {"path": "rm"}}
    env = {"id": "text/Preference-v0", "options": options}
    train({**rl(env), "run": {"dir": "run"}})
    rows = [row for row in metrics(tmp_path / "run") if "reward/part/win_rate" in row]
    assert len(rows) == 3
    for row in rows:
        assert row["reward/mean"] == pytest.approx(0.5)  # what one wins another loses
        assert row["reward/std"] > 0.1
        assert row["reward/part/comparisons"] == 3


def test_a_missing_reward_model_is_found_before_anything_is_trained(train, tmp_path):
    stages = {"first": rl(LETTERS), "second": rl(learned("runs/none/model"))}
    with pytest.raises(UserError, match=r"stages.second: envs.0 .*: there is no folder runs/none"):
        train({"run": {"dir": "run"}, "stages": stages})
    assert not (tmp_path / "run").exists()
