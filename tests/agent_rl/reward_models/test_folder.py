"""A reward model's folder: whole, what it was, or refused in one line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from agent_rl import models
from agent_rl.config import LoRA, ModelConfig, TinyModel
from agent_rl.errors import UserError
from agent_rl.reward_models import (
    RewardModel,
    Standing,
    from_policy,
    load_reward_model,
    save_reward_model,
)
from agent_rl.reward_models.folder import check_folder

TINY = TinyModel(hidden_size=16, layers=1, heads=2, intermediate_size=16, context=64)
CONVERSATIONS = [
    [{"role": "user", "content": "ab"}, {"role": "assistant", "content": answer}]
    for answer in ("a", "bcd")
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a tiny reward model, not to be changed."""
    folder = tmp_path_factory.mktemp("rm") / "model"
    save_reward_model(from_policy(ModelConfig(tiny=TINY), 0, Standing(mean=1.5)), folder)
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def test_what_is_saved_is_what_is_loaded(tmp_path):
    model = from_policy(ModelConfig(tiny=TINY), 0, Standing(kind="outcome", mean=0.25, std=2.0))
    save_reward_model(model, tmp_path / "rm", {"figures": {"held_out": 3}})
    found = load_reward_model(tmp_path / "rm")
    assert (found.standing, found.mean, found.std) == (model.standing, 0.25, 2.0)
    assert torch.equal(found.score(CONVERSATIONS), model.score(CONVERSATIONS))
    assert json.loads((tmp_path / "rm/reward_model.json").read_text())["figures"] == {"held_out": 3}


def test_an_ensemble_is_loaded_with_its_members(tmp_path):
    first, second = (
        from_policy(ModelConfig(tiny=TINY), seed, Standing(mean=seed, std=1.0 + seed))
        for seed in (0, 1)
    )
    whole = Standing(combine="min", mean=-0.5, members=2)
    model = RewardModel(first.network, first.chat, first.standing, members=[second], ensemble=whole)
    save_reward_model(model, tmp_path / "rm")
    found = load_reward_model(tmp_path / "rm")
    alone = [m.score(CONVERSATIONS) for m in (first, second)]
    expected = torch.minimum(alone[0] * 1.5, (alone[1] - 1.0) / 2.0 * 1.5)
    torch.testing.assert_close(found.score(CONVERSATIONS), expected)
    assert (found.mean, found.standing.mean, len(found.members)) == (-0.5, 0.0, 1)


def test_adapters_are_merged_into_the_folder(tmp_path):
    model = from_policy(ModelConfig(tiny=TINY, lora=LoRA(rank=2)), 0)
    with torch.no_grad():
        for name, weight in model.trained.named_parameters():
            if "lora_B" in name or "score" in name:
                weight.fill_(0.1)
    trained = {n for n, p in model.trained.named_parameters() if p.requires_grad}
    assert all("lora_" in name or "score" in name for name in trained)
    save_reward_model(model, tmp_path / "rm")
    found = load_reward_model(tmp_path / "rm").score(CONVERSATIONS)
    torch.testing.assert_close(found, model.score(CONVERSATIONS))


def test_training_goes_on_with_the_head_of_a_reward_model(saved):
    again = from_policy(ModelConfig(path=str(saved)), 5)
    assert torch.equal(again.score(CONVERSATIONS), load_reward_model(saved).score(CONVERSATIONS))
    assert all(p.requires_grad for p in again.network.parameters())


def test_a_model_of_others_has_no_record_and_is_loaded(copied):
    (copied / "reward_model.json").unlink()
    found = load_reward_model(copied)
    assert found.standing == Standing()
    assert found.score(CONVERSATIONS).isfinite().all()


def _without_head(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _without_a_layer(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _changed_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def _without_template(folder):
    (folder / "chat_template.jinja").unlink()


SPOILED = {
    "no reward head .score.weight": _without_head,
    "damaged: model.norm.weight": _without_a_layer,
    "classifier of 3 labels": lambda f: _changed_config(f, id2label={"0": "", "1": "", "2": ""}),
    "LlamaForCausalLM and has no reward head": lambda f: _changed_config(
        f, architectures=["LlamaForCausalLM"]
    ),
    "has no chat template": _without_template,
    "holds an adapter": lambda f: (f / "adapter_config.json").write_text("{}"),
    "no config.json": lambda f: (f / "config.json").unlink(),
    "cannot load the reward model": lambda f: (f / "model.safetensors").write_bytes(b"x" * 99),
    "reward_model.json is damaged: std": lambda f: (f / "reward_model.json").write_text(
        '{"std": "wide"}'
    ),
    "reward_model.json is damaged: Expecting": lambda f: (f / "reward_model.json").write_text("{"),
    "members/1": lambda f: (f / "reward_model.json").write_text(
        '{"members": 2, "first_member": {}}'
    ),
}


@pytest.mark.parametrize("message", SPOILED)
def test_a_folder_that_is_no_reward_model_is_refused(copied, message):
    SPOILED[message](copied)
    with pytest.raises(UserError, match=message) as refused:
        load_reward_model(copied)
    assert "\n" not in str(refused.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no reward model folder"):
        load_reward_model(tmp_path / "none")


def test_a_policy_is_told_from_a_reward_model_without_its_weights(tmp_path):
    model, chat = models.load(ModelConfig(tiny=TINY), 0)
    models.save(model, chat, tmp_path / "policy")
    (tmp_path / "policy/model.safetensors").unlink()
    with pytest.raises(UserError, match="train one with the stage reward_model"):
        check_folder(str(tmp_path / "policy"))


def test_a_full_disk_leaves_what_was_there(copied, monkeypatch):
    model = load_reward_model(copied)
    model.standing = replace(model.standing, mean=9.0)

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(model.network, "save_pretrained", full)
    with pytest.raises(UserError, match=r"cannot write the model .*No space left"):
        save_reward_model(model, copied)
    assert load_reward_model(copied).mean == 1.5
    assert not list(copied.parent.glob(".*"))


@pytest.mark.parametrize(("key", "value"), [("std", 0.0), ("std", -1.0), ("mean", 1e999)])
def test_a_record_whose_numbers_cannot_normalize_is_refused(key, value, copied):
    record = copied / "reward_model.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), key: value}))
    with pytest.raises(UserError, match=r"reward_model.json is damaged"):
        check_folder(str(copied))


def test_a_hub_id_is_not_asked_for_where_there_is_no_network(monkeypatch):
    asked = []

    def from_pretrained(path, **options):
        asked.append(options["local_files_only"])
        raise OSError("none here")

    monkeypatch.setattr(models, "hub_has_an_address", lambda: False)
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", from_pretrained)
    with pytest.raises(UserError, match="as a hub id: none here"):
        load_reward_model("nobody/nothing")
    assert asked == [True]
