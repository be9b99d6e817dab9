"""Soups: the weighted mean of every tensor, ties kept, nothing averaged that does not belong."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
import torch

from agent_rl import checkpoint, models
from agent_rl.config import Ingredient, ModelConfig, RunConfig, SoupConfig, TinyModel
from agent_rl.errors import UserError
from agent_rl.loading import load_recipe
from agent_rl.reward_models.building import from_policy
from agent_rl.reward_models.folder import load_reward_model, save_reward_model
from agent_rl.runs import Console, RunFolder
from agent_rl.stages import soup

TINY = TinyModel(hidden_size=16, layers=1, heads=2, intermediate_size=16, context=64)


@pytest.fixture
def saved(tmp_path):
    """``saved(name, seed, **sizes)``: the folder of a random tiny model."""

    def make(name, seed, **sizes):
        model, chat = models.load(ModelConfig(tiny=dataclasses.replace(TINY, **sizes)), seed)
        models.save(model, chat, tmp_path / name)
        return str(tmp_path / name)

    return make


def run(tmp_path, *models_and_weights):
    config = SoupConfig(
        models=tuple(Ingredient(path, weight) for path, weight in models_and_weights),
        run=RunConfig(dir=str(tmp_path / "soup")),
    )
    soup.check(config)
    folder = RunFolder.create(tmp_path / "soup", {"stage": "soup"}, overwrite=True)
    return soup.run(config, folder, Console(file=io.StringIO())), folder.model


def weights(path):
    model, _ = models.load(ModelConfig(path=str(path)), 0)
    return model.state_dict()


def test_every_weight_is_the_weighted_mean(saved, tmp_path):
    a, b, c = saved("a", 1), saved("b", 2), saved("c", 3)
    summary, made = run(tmp_path, (a, 1.0), (b, 2.0), (c, 5.0))
    found, (x, y, z) = weights(made), map(weights, (a, b, c))
    for name in found:
        wanted = (x[name].double() + 2 * y[name].double() + 5 * z[name].double()) / 8
        torch.testing.assert_close(found[name], wanted.float(), atol=0, rtol=0)
    assert summary["models"] == {a: 0.125, b: 0.25, c: 0.625}
    assert summary["distance"][2] < summary["distance"][1] < summary["distance"][0]
    model, _ = models.load(ModelConfig(path=str(made)), 0)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_a_model_with_itself_stays_to_the_bit(saved, tmp_path):
    a = saved("a", 1)
    _, made = run(tmp_path, (a, 0.1), (a, 0.2))
    before, after = weights(a), weights(made)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_checkpoints_of_a_run_are_averaged(saved, tmp_path):
    a, b = saved("run/model", 1), saved("b", 2)
    model, _ = models.load(ModelConfig(path=b), 0)
    checkpoint.save(tmp_path / "run/checkpoints", 5, {"model": model.state_dict()}, keep=1)
    _, made = run(tmp_path, (a, 1.0), (str(tmp_path / "run/checkpoints/step-000005"), 1.0))
    found, x, y = weights(made), weights(a), weights(b)
    for name in found:
        torch.testing.assert_close(found[name], (x[name] + y[name]) / 2, atol=1e-7, rtol=0)


def test_reward_models_are_averaged_and_lose_the_first_ones_figures(saved, tmp_path):
    paths = []
    for seed in (1, 2):
        made = from_policy(ModelConfig(path=saved(f"base{seed}", seed)), seed)
        made.standing = dataclasses.replace(made.standing, mean=3.0, std=2.0, accuracy=0.9)
        save_reward_model(made, tmp_path / f"rm{seed}")
        paths.append(str(tmp_path / f"rm{seed}"))
    _, made = run(tmp_path, (paths[0], 1.0), (paths[1], 1.0))
    found = load_reward_model(made)
    heads = [load_reward_model(path).network.score.weight for path in paths]
    torch.testing.assert_close(found.network.score.weight, sum(heads) / 2)
    assert (found.mean, found.std, found.standing.accuracy) == (0.0, 1.0, None)


def test_what_cannot_be_averaged_is_refused_in_one_line(saved, tmp_path):
    a = saved("a", 1)
    cases = [
        (saved("wide", 1, hidden_size=32), "head_dim is 16, but 8 in .*one architecture"),
        (saved("words", 1, characters=TINY.characters[::-1]), "tokenizer has other tokens"),
        (str(tmp_path), "has no config.json, so it is no model folder"),
    ]
    for path, told in cases:
        with pytest.raises(UserError, match=told) as refused:
            run(tmp_path, (a, 1.0), (path, 1.0))
        assert "\n" not in str(refused.value)
    names = lambda *shares: [  # noqa: E731
        name for name, _ in SoupConfig(tuple(Ingredient(a, s) for s in shares)).problems()
    ]
    assert names() == ["models"]
    assert names(1.0, -1.0, 3.0) == ["models.1.weight"]
    assert names(0.0, 0.0) == ["models"]


def test_a_model_of_nans_is_refused_by_name(saved, tmp_path):
    broken, chat = models.load(ModelConfig(tiny=TINY), 5)
    with torch.no_grad():
        broken.model.norm.weight[0] = float("nan")
    models.save(broken, chat, tmp_path / "broken")
    with pytest.raises(UserError, match=r"broken: model\.norm\.weight has weights that are NaN"):
        run(tmp_path, (saved("a", 1), 1.0), (str(tmp_path / "broken"), 1.0))


def test_a_recipe_names_earlier_models_and_checkpoints(tmp_path):
    text = {
        "run": {"dir": str(tmp_path / "r")},
        "stages": {
            "a": {
                "stage": "sft",
                "model": {"tiny": {}},
                "data": {"env": {"id": "text/Arithmetic-v0"}},
            },
            "mix": {
                "stage": "soup",
                "models": [{"path": "@a"}, {"path": "@a/checkpoints/step-000050", "weight": 2}],
            },
        },
    }
    (tmp_path / "r.yaml").write_text(json.dumps(text))
    recipe = load_recipe(str(tmp_path / "r.yaml"))
    config = recipe.stages[1][1]
    first = f"{tmp_path}/r/1-a"
    assert [m.path for m in config.models] == [f"{first}/model", f"{first}/checkpoints/step-000050"]
    soup.check(config, [f"{first}/model"])  # nothing is there yet
    with pytest.raises(UserError, match=r"models\.0: .* has no config\.json"):
        soup.check(config)
