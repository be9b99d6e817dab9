"""Models load whole, in float32, or are refused in one line; what is saved is what was trained."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from agent_rl import models
from agent_rl.chat import Chat
from agent_rl.config import LoRA, ModelConfig, TinyModel
from agent_rl.engines import Sampling, TorchEngine
from agent_rl.errors import UserError

TINY = TinyModel(hidden_size=16, layers=2, heads=2, intermediate_size=16, context=32)
IDS = torch.tensor([[1, 5, 9, 7, 8, 20]])
TOKENIZER = models.tiny_tokenizer(TINY)


@torch.no_grad()
def logits(model):
    return model(IDS).logits


def stir(model) -> None:
    """Move everything that trains, so that adapters do something."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A saved tiny model."""
    model, chat = models.load(ModelConfig(tiny=TINY), seed=3)
    models.save(model, chat, tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_model_loads_with_the_same_logits_and_the_same_template(folder):
    model, chat = models.load(ModelConfig(tiny=TINY), seed=3)
    again, same = models.load(ModelConfig(path=str(folder)), seed=0)
    assert torch.equal(logits(again), logits(model))
    messages = [{"role": "user", "content": "1+1"}]
    assert same.prompt_ids(messages) == chat.prompt_ids(messages)
    assert same.end_ids == chat.end_ids


def test_the_seed_decides_the_weights_of_a_tiny_model():
    one, two, other = (models.load(ModelConfig(tiny=TINY), seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(logits(one), logits(two))
    assert not torch.equal(logits(one), logits(other))


def test_other_software_reads_what_was_saved(folder):
    model, _ = models.load(ModelConfig(tiny=TINY), seed=3)
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert torch.equal(logits(plain), logits(model))
    assert AutoTokenizer.from_pretrained(folder).chat_template == models.TINY_TEMPLATE


def test_a_tied_head_is_written_once_and_tied_again(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = list(file.keys())
    assert sum("embed_tokens" in name or "lm_head" in name for name in names) == 1
    model, _ = models.load(ModelConfig(path=str(folder)), seed=0)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("of", ["tiny", "path"])
def test_adapters_are_merged_once_on_save(folder, tmp_path, of):
    source = ModelConfig(tiny=TINY) if of == "tiny" else ModelConfig(path=str(folder))
    config = ModelConfig(tiny=source.tiny, path=source.path, lora=LoRA(rank=2))
    model, chat = models.load(config, seed=3)
    plain = logits(model)
    stir(model)
    adapted = logits(model)
    assert (adapted - plain).abs().max() > 0.01
    for name in ("first", "second"):  # saving leaves the model as it was
        models.save(model, chat, tmp_path / name)
        again, _ = models.load(ModelConfig(path=str(tmp_path / name)), seed=0)
        torch.testing.assert_close(logits(again), adapted, atol=1e-5, rtol=0)
    assert torch.equal(logits(model), adapted)
    assert not models.is_lora(again)


def test_new_adapters_change_nothing_and_only_they_train():
    config = ModelConfig(tiny=TINY, lora=LoRA(rank=2))
    model, _ = models.load(config, seed=3)
    assert torch.equal(logits(model), logits(models.load(ModelConfig(tiny=TINY), seed=3)[0]))
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)


def test_a_model_stored_in_bfloat16_trains_in_float32(folder):
    half = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    half.save_pretrained(folder)
    model, _ = models.load(ModelConfig(path=str(folder)), seed=0)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_dropout_is_off(folder):
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2))
    gpt2.save_pretrained(folder)  # GPT-2 has dropout 0.1
    model, _ = models.load(ModelConfig(path=str(folder)), seed=0)
    assert torch.equal(logits(model), logits(model))


def test_a_frozen_copy_is_independent():
    model, _ = models.load(ModelConfig(tiny=TINY), seed=3)
    twin = models.frozen_copy(model)
    before = logits(twin)
    stir(model)
    assert torch.equal(logits(twin), before)
    assert not any(p.requires_grad for p in twin.parameters())


# --- refusals -----------------------------------------------------------------------------------


def refused(config: ModelConfig) -> str:
    with pytest.raises(UserError) as caught:
        models.load(config, seed=0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    path = str(tmp_path / "nothing")
    assert refused(ModelConfig(path=path)) == f"model.path: there is no folder {path}"


def test_a_folder_without_a_model_is_named(tmp_path):
    assert refused(ModelConfig(path=str(tmp_path))) == (
        f"model.path: {tmp_path} has no config.json, so it is no model folder"
    )


def test_a_folder_with_an_adapter_only_asks_for_the_merged_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    line = f"model.path: {tmp_path} holds an adapter; give the merged model"
    assert refused(ModelConfig(path=str(tmp_path))) == line


def test_a_damaged_config_is_one_line(folder):
    (folder / "config.json").write_text("{")
    assert refused(ModelConfig(path=str(folder))).startswith(f"model.path: cannot load {folder}: ")


def test_damaged_weights_are_one_line(folder):
    (folder / "model.safetensors").write_bytes(b"\x08")
    assert refused(ModelConfig(path=str(folder))).startswith(f"model.path: cannot load {folder}: ")


def test_a_model_without_a_chat_template_says_how_to_give_one(folder):
    for file in folder.glob("*template*"):
        file.unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    line = refused(ModelConfig(path=str(folder)))
    assert line.endswith("has no chat template; give one with model.chat_template=FILE.jinja")


@pytest.mark.parametrize("config", [ModelConfig(), ModelConfig(path="x", tiny=TINY)])
def test_a_model_is_given_once(config):
    assert refused(config) == "model: give either path (a folder or hub id) or tiny (its sizes)"


def test_a_model_that_does_not_state_its_context_is_refused():
    model = torch.nn.Linear(1, 1)
    model.config = object()
    with pytest.raises(UserError, match="Linear does not say how long its context is"):
        models.context_length(model)


# --- tokens -------------------------------------------------------------------------------------


@given(st.text(alphabet=sorted({*TINY.characters}), max_size=40))
def test_every_text_of_the_alphabet_survives_the_tiny_tokenizer(text):
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    assert TOKENIZER.decode(ids) == text
    assert TOKENIZER.unk_token_id not in ids


def test_every_character_and_every_long_token_is_one_id():
    everything = [*TINY.characters, *TINY.tokens]
    ids = [TOKENIZER.encode(piece, add_special_tokens=False) for piece in everything]
    assert all(len(one) == 1 for one in ids)
    assert len({one[0] for one in ids}) == len(everything)
    assert all(one[0] < len(TOKENIZER) for one in ids)


def test_printable_is_every_printable_character_and_the_newline():
    chosen = models.tiny_tokenizer(dataclasses.replace(TINY, characters="printable"))
    text = "".join(map(chr, range(32, 127))) + "\n"
    ids = chosen.encode(text, add_special_tokens=False)
    assert (len(ids), chosen.decode(ids)) == (len(text), text)
    assert chosen.unk_token_id not in [*ids, *chosen.encode("printable", add_special_tokens=False)]


def test_a_long_token_inside_a_text_is_one_id():
    ids = TOKENIZER.encode("a \\boxed{12}", add_special_tokens=False)
    assert len(ids) == len("a ") + 1 + len("12}")
    assert TOKENIZER.decode(ids) == "a \\boxed{12}"


def test_a_character_outside_the_alphabet_is_unknown_and_no_neighbour_is_lost():
    ids = TOKENIZER.encode("1é\n2", add_special_tokens=False)
    assert [i == TOKENIZER.unk_token_id for i in ids] == [False, True, True, False]


def test_a_completion_that_writes_the_name_of_a_special_token_is_text():
    chat = Chat(TOKENIZER)
    ids = chat.completion_ids("a")
    assert ids[-1] == TOKENIZER.eos_token_id
    assert chat.decode(ids) == "a"


@pytest.mark.parametrize("listed", [7, [7, 9]])
def test_every_end_token_of_the_generation_configuration_counts(folder, listed):
    settings = folder / "generation_config.json"
    settings.write_text(json.dumps({"eos_token_id": listed}))
    model, chat = models.load(ModelConfig(path=str(folder)), seed=0)
    wanted = {chat.tokenizer.eos_token_id, *([listed] if listed == 7 else listed)}
    assert models.end_token_ids(model, chat) == tuple(sorted(wanted))


def test_any_of_several_end_tokens_ends_a_completion_and_none_is_a_truncation(folder):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    model, chat = models.load(ModelConfig(path=str(folder)), seed=0)
    ends = models.end_token_ids(model, chat)
    engine = TorchEngine(model, eos_token_ids=ends)

    async def many():
        asked = [engine.generate([1, 5], Sampling(max_tokens=30, seed=n)) for n in range(80)]
        return await asyncio.gather(*asked)

    said = asyncio.run(many())
    ended = [c for c in said if c.finish_reason == "stop"]
    assert {c.token_ids[-1] for c in ended} == set(ends)
    assert all(set(ends).isdisjoint(c.token_ids[:-1]) for c in said)
