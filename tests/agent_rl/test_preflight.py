"""What earlier stages of a recipe will make is not looked for before they have run."""

import pytest

from agent_rl import models
from agent_rl.config import ModelConfig, TinyModel
from agent_rl.errors import UserError
from agent_rl.preflight import Unborn, check_model


def test_all_that_will_lie_in_the_folder_of_an_earlier_stage_is_unborn():
    unborn = Unborn(["runs/r/1-a/data.jsonl", "runs/r/2-b/model"])
    assert "runs/r/1-a/data.jsonl" in unborn
    assert "runs/r/1-a/control.jsonl" in unborn
    assert "runs/r/2-b/checkpoints/step-000010" in unborn
    assert "runs/r/2-bc/model" not in unborn
    assert "runs/r/3-c/model" not in unborn
    assert None not in unborn


def test_a_model_is_looked_for_unless_a_stage_will_make_it(tmp_path):
    gone = ModelConfig(path=str(tmp_path / "1-a" / "model"))
    check_model(gone, Unborn([str(tmp_path / "1-a" / "model")]))
    with pytest.raises(UserError, match="there is no folder"):
        check_model(gone, Unborn())


def test_a_reward_model_is_no_policy(tmp_path):
    tiny = TinyModel(hidden_size=16, layers=1, heads=2)
    model, chat = models.load(ModelConfig(tiny=tiny), 0)
    models.save(model, chat, tmp_path / "model")
    models.load(ModelConfig(path=str(tmp_path / "model")), 0)
    (tmp_path / "model" / "reward_model.json").write_text("{}")
    with pytest.raises(UserError, match="is a reward model; give a language model"):
        models.load(ModelConfig(path=str(tmp_path / "model")), 0)
