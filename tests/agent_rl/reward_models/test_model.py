"""A reward is read at the end token, whatever stands beside it in the batch."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from agent_rl import models
from agent_rl.config import ModelConfig, TinyModel
from agent_rl.errors import UserError
from agent_rl.packing import pack
from agent_rl.reward_models import Standing, from_policy, save_reward_model
from agent_rl.reward_models.model import aggregated, combined

TINY = TinyModel(hidden_size=16, layers=2, heads=2, intermediate_size=16, context=64)


def said(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


CONVERSATIONS = [said("abc", "x"), said("abc", "yyyy"), said("q" * 30, "zz"), said("a", "bc" * 9)]


def policy_folder(path, family: str, *, pad_is_end: bool = False) -> str:
    """A small random causal model of a family in a transformers folder."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = models.tiny_tokenizer(TINY)
    if pad_is_end:
        tokenizer.pad_token = tokenizer.eos_token
    sizes = {
        "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
        "mistral": {"sliding_window": 8, "num_key_value_heads": 1, "head_dim": 8},
    }
    usual = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 64,
    }
    torch.manual_seed(3)
    config = AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **(sizes["gpt2"] if family == "gpt2" else {**usual, **sizes.get(family, {})}),
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture
def tiny():
    return from_policy(ModelConfig(tiny=TINY), 0)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "mistral"])
def test_alone_equals_in_a_batch_and_what_transformers_gives(family, tmp_path):
    path = policy_folder(tmp_path / "policy", family, pad_is_end=True)
    model = from_policy(ModelConfig(path=path), 0)
    save_reward_model(model, tmp_path / "rm")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm").eval()
    batch = model.score(CONVERSATIONS)
    for conversation, score in zip(CONVERSATIONS, batch, strict=True):
        ids = torch.tensor([model.segment(conversation).ids])
        assert model.score([conversation])[0] == pytest.approx(float(score), abs=1e-5)
        assert float(theirs(ids).logits[0, 0].detach()) == pytest.approx(float(score), abs=1e-5)
    assert batch.std() > 1e-3


def test_transformers_pads_the_folder_right_though_the_policy_pads_with_its_end(tmp_path):
    path = policy_folder(tmp_path / "policy", "llama", pad_is_end=True)
    model = from_policy(ModelConfig(path=path), 0)
    save_reward_model(model, tmp_path / "rm")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "rm")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm").eval()
    rows = [{"input_ids": list(model.segment(c).ids)} for c in CONVERSATIONS]
    padded = tokenizer.pad(rows, padding_side="right", return_tensors="pt")
    assert tokenizer.pad_token_id != model.chat.end_id
    logits = theirs(**padded).logits[:, 0].detach()
    torch.testing.assert_close(logits, model.score(CONVERSATIONS), atol=1e-5, rtol=0)


def test_the_backbone_is_the_policys_and_the_head_is_fresh(tmp_path):
    path = policy_folder(tmp_path / "policy", "qwen2")
    causal, _ = models.load(ModelConfig(path=path), 0)
    one, other = (from_policy(ModelConfig(path=path), seed) for seed in (0, 1))
    for name, weight in causal.base_model.state_dict().items():
        assert torch.equal(one.network.base_model.state_dict()[name], weight)
    assert not torch.equal(one.network.score.weight, other.network.score.weight)
    wide = from_policy(ModelConfig(tiny=dataclasses.replace(TINY, hidden_size=1024)), 0)
    assert float(wide.network.score.weight.detach().std()) == pytest.approx(
        1 / math.sqrt(1025), rel=0.1
    )


def test_the_score_is_read_at_the_end_token(tiny):
    segment = tiny.segment(said("abc", "x"))
    assert segment.ids[-1] == tiny.chat.end_id
    assert segment.ids == (*tiny.chat.prompt_ids(said("abc", "x")[:1]), *segment.ids[-2:])


def test_a_prompt_that_answers_share_is_read_once(tiny):
    (micro,) = pack([tiny.segment(c) for c in CONVERSATIONS[:2]], micro_tokens=1000)
    prompt = len(tiny.chat.prompt_ids(CONVERSATIONS[0][:1]))
    assert micro.input_ids.shape == (1, prompt + 2 + 5)


def test_a_long_conversation_loses_its_oldest_turns_and_keeps_its_answer():
    model = from_policy(ModelConfig(tiny=TINY), 0, Standing(max_tokens=19))
    turns = [*said("a" * 12, "b"), *said("cc", "dd")]
    assert model.segment(turns).ids == model.segment(said("cc", "dd")).ids
    long = model.segment(said("c" * 60, "dd")).ids
    assert (len(long), long[-3:]) == (19, model.segment(said("cc", "dd")).ids[-3:])


def test_steps_are_read_at_their_separators_and_the_last_at_the_end():
    model = from_policy(ModelConfig(tiny=TinyModel(**{**TINY.__dict__, "characters": "ab\n"})), 0)
    model.standing = Standing(kind="process", aggregation="prod")
    whole = said("ab", "aa\nbbb\na")
    (steps,) = model.step_scores([whole])
    ids = list(model.segment(whole).ids[:-1])
    ends = [i for i, x in enumerate(ids) if x == model.chat.encode("\n")[0]] + [len(ids) - 1]
    assert (len(ends), ids[-1]) == (3, model.chat.end_id)
    for step, end in zip(steps, ends, strict=True):
        alone = torch.sigmoid(model.network(torch.tensor([ids[: end + 1]])).logits[0, 0])
        assert float(step) == pytest.approx(float(alone.detach()), abs=1e-5)
    assert float(model.score([whole])) == pytest.approx(float(steps.prod()), abs=1e-6)


def test_rewards_of_sampled_tokens_are_those_of_the_states_before_them(tiny):
    whole = tiny.segment(CONVERSATIONS[1])
    asked = dataclasses.replace(whole, sampled=tuple(range(whole.prompt_length, len(whole.ids))))
    values = tiny.rewards(pack([asked], micro_tokens=100))
    for position, value in zip(asked.sampled, values, strict=True):
        alone = tiny.network(torch.tensor([whole.ids[:position]])).logits[0, 0]
        assert float(value.detach()) == pytest.approx(float(alone.detach()), abs=1e-5)


def test_members_are_put_on_one_scale_and_combined():
    members = [Standing(mean=1.0, std=1.0), Standing(mean=10.0, std=3.0)]
    scores = torch.tensor([[3.0, 1.0], [10.0, 16.0]])  # in their own deviations: 2, 0 and 0, 2
    expected = {
        "mean": [2.0, 2.0],
        "min": [0.0, 0.0],
        "uwo": [2.0 - 0.5 * 4.0] * 2,
        "mean_std": [2.0 - 0.5 * 2.0] * 2,
    }
    for how, values in expected.items():
        whole = Standing(combine=how, uncertainty_weight=0.5, members=2)
        assert combined(scores, members, whole).tolist() == pytest.approx(values)
    probabilities = Standing(kind="outcome", combine="min")
    assert combined(scores / 16, members, probabilities).tolist() == [3 / 16, 1 / 16]


def test_steps_become_one_score():
    steps = torch.tensor([0.5, 0.25, 1.0, 0.8])
    found = {how: aggregated(steps, how) for how in ("min", "prod", "mean", "last")}
    assert found == pytest.approx({"min": 0.25, "prod": 0.1, "mean": 0.6375, "last": 0.8})


def test_a_score_that_is_no_number_is_refused(tiny):
    with torch.no_grad():
        tiny.network.score.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"tiny gave the score nan.*train it again"):
        tiny.score(CONVERSATIONS)


def test_a_conversation_must_end_with_the_assistant(tiny):
    with pytest.raises(UserError, match="end with the assistant, not with user"):
        tiny.score([CONVERSATIONS[0][:1]])


@pytest.mark.parametrize("kind", ["bradley_terry", "process"])
def test_a_special_token_spelled_in_an_answer_stays_text(kind):
    """Or a policy could end its turn and go on in the user's name."""
    model = from_policy(ModelConfig(tiny=TINY), 0, Standing(kind=kind))
    asked, chat = {"role": "user", "content": "a"}, model.chat
    segment = model.segment([asked, {"role": "assistant", "content": "b<eos>c"}])
    spelled = [i for c in "b<eos>c" for i in chat.encode(c)]
    start = len(chat.prompt_ids([asked]))
    assert list(segment.ids[start : start + len(spelled) + 1]) == [*spelled, chat.end_id]
    assert chat.encode("<eos>") == [chat.end_id]  # the tokenizer itself is as before


def test_an_encoder_cannot_become_a_reward_model(tmp_path):
    path = policy_folder(tmp_path / "policy", "bert")
    with pytest.raises(UserError, match="BertForSequenceClassification has no head called `score`"):
        from_policy(ModelConfig(path=path), 0)


def test_an_endless_answer_is_scored_by_its_end():
    answer = "a" * 20 + "b" + "c" * 70 + "b" + "d"
    for kind, targets in (("bradley_terry", 0), ("process", 2)):  # the first step is cut away
        model = from_policy(ModelConfig(tiny=TINY), 0, Standing(kind=kind, step_separator="b"))
        segment = model.segment(said("a", answer))
        assert len(segment.ids) == model.max_tokens == 64
        assert segment.ids[-1] == model.chat.end_id
        assert len(segment.sampled) == targets
        assert model.score([said("a", "a" * 200), said("a", answer)]).isfinite().all()
