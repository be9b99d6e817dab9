"""What the trainer says of a token is what the engine said when it sampled it."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from agent_rl import models
from agent_rl.config import LoRA, TinyModel
from agent_rl.critic import LinearCritic
from agent_rl.engines import Sampling, TorchEngine
from agent_rl.errors import UserError
from agent_rl.packing import pack
from agent_rl.policy import Policy
from agent_rl.trajectory import Segment

COMMON = {
    "vocab_size": 24,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}
KINDS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**COMMON)),
    "tied": lambda: LlamaForCausalLM(LlamaConfig(**COMMON, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**COMMON, head_dim=8)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=24, n_embd=16, n_layer=2, n_head=2, n_positions=64)
    ),
    "sliding window": lambda: MistralForCausalLM(MistralConfig(**COMMON, sliding_window=5)),
    "two kinds of layers, eager, soft cap": lambda: Gemma2ForCausalLM(
        Gemma2Config(
            **COMMON,
            head_dim=8,
            sliding_window=5,
            final_logit_softcapping=2.0,
            attn_implementation="eager",
        )
    ),
}
PROMPTS = ((1, 5, 7, 3, 9), (1, 5, 7, 3, 9), (2, 4), (6,))


def build(kind: str) -> torch.nn.Module:
    """Random weights, sharp enough that temperatures and positions matter."""
    torch.manual_seed(0)
    model = KINDS[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6 if parameter.dim() > 1 else 1)
    return model.eval()


def sampled(model, temperature, dtype=None) -> tuple[list[Segment], torch.Tensor]:
    """What an engine samples for a few prompts, and the log-probabilities it reports, flat."""
    engine = TorchEngine(model, eos_token_ids=(0,), dtype=dtype)

    async def together():
        requests = [
            engine.generate(prompt, Sampling(max_tokens=12, temperature=temperature, seed=n))
            for n, prompt in enumerate(PROMPTS)
        ]
        return await asyncio.gather(*requests)

    said = asyncio.run(together())
    parts = []
    for prompt, completion in zip(PROMPTS, said, strict=True):
        ids = (*prompt, *completion.token_ids)
        parts.append(Segment(ids, tuple(range(len(prompt), len(ids))), len(prompt)))
    return parts, torch.tensor([x for completion in said for x in completion.logprobs])


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_trainer_scores_what_the_engine_sampled_under_the_same_temperature(kind, temperature):
    model = build(kind)
    parts, reported = sampled(model, temperature)
    for share in (True, False):
        micros = pack(parts, micro_tokens=40, share_prompts=share)
        got, _ = Policy(model, temperature=temperature).score_all(micros)
        torch.testing.assert_close(got, reported, atol=1e-5, rtol=0)


def test_another_temperature_would_not_go_unnoticed():
    model = build("llama")
    parts, reported = sampled(model, 0.6)
    got, _ = Policy(model, temperature=1.0).score_all(pack(parts, micro_tokens=100))
    assert (got - reported).abs().max() > 0.1


def test_an_engine_in_bfloat16_differs_by_its_rounding_only():
    """bfloat16 keeps 8 bits: logits of size 8 are off by about 8 * 2^-8 = 0.03."""
    model = build("llama")
    parts, reported = sampled(model, 1.0, dtype=torch.bfloat16)
    got, _ = Policy(model).score_all(pack(parts, micro_tokens=100))
    gap = (got - reported).abs()
    assert 1e-5 < gap.max() < 0.25
    assert gap.mean() < 0.05


@pytest.mark.parametrize("kind", ["llama", "two kinds of layers, eager, soft cap"])
def test_autocast_computes_in_bfloat16_and_leaves_weights_and_gradients_in_float32(kind):
    model = build(kind)
    parts, _ = sampled(model, 1.0)
    (micro,) = pack(parts, micro_tokens=1000)
    exact = Policy(model).score(micro).logprobs_k
    critic = LinearCritic(model.config.hidden_size)
    policy = Policy(model, compute=torch.bfloat16, critic=critic)
    scores = policy.score(micro)
    (scores.logprobs_k.sum() + scores.values_k.sum()).backward()
    gap = (scores.logprobs_k - exact).abs().max()
    assert 1e-5 < gap < 0.5
    assert scores.logprobs_k.dtype == torch.float32
    assert {p.dtype for p in policy.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in policy.parameters() if p.grad is not None} == {torch.float32}


@pytest.mark.parametrize("temperature", [0.6, 1.3])
def test_entropy_is_that_of_the_distribution_that_was_sampled(temperature):
    model = build("llama")
    part = Segment((1, 5, 7, 3), (3,), 3)
    (micro,) = pack([part], micro_tokens=100)
    got = Policy(model, temperature=temperature).score(micro).entropy_k.item()
    with torch.no_grad():
        p = (model(torch.tensor([[1, 5, 7]])).logits[0, -1] / temperature).softmax(-1).tolist()
    assert got == pytest.approx(-sum(x * math.log(x) for x in p), abs=1e-5)


@pytest.mark.parametrize("wanted", [True, False])
def test_entropy_carries_a_gradient_only_when_asked(wanted):
    (micro,) = pack([Segment((1, 5, 7, 3), (3,), 3)], micro_tokens=100)
    scores = Policy(build("llama")).score(micro, entropy_grad=wanted)
    assert scores.entropy_k.requires_grad == wanted


def test_the_whole_distribution_is_normalised_and_holds_the_targets():
    (micro,) = pack([Segment((1, 5, 7, 3, 4), (3, 4), 3)], micro_tokens=100)
    policy = Policy(build("llama"))
    scores = policy.score(micro, full=True)
    torch.testing.assert_close(scores.log_softmax_kv.exp().sum(-1), torch.ones(2))
    picked = scores.log_softmax_kv[[0, 1], [3, 4]]
    torch.testing.assert_close(picked, scores.logprobs_k)
    assert policy.score(micro).log_softmax_kv is None


def test_the_output_layer_runs_only_where_a_sampled_token_is_predicted():
    model = build("llama")
    rows = []
    model.lm_head.register_forward_hook(lambda _m, _i, out: rows.append(out.shape[-2]))
    parts, _ = sampled(model, 1.0)
    rows.clear()
    Policy(model).score_all(pack(parts, micro_tokens=1000))
    assert sum(rows) == sum(len(part.sampled) for part in parts)


def test_scoring_leaves_the_model_as_it_was_even_when_it_fails():
    model = build("llama")
    ids = torch.tensor([[1, 5, 7, 3]])
    before = model(ids).logits
    (micro,) = pack([Segment((1, 5, 7, 3), (3,), 3)], micro_tokens=100)
    Policy(model).score_all([micro])
    with pytest.raises(IndexError):
        Policy(model).score(replace(micro, select=torch.tensor([99])))
    assert torch.equal(model(ids).logits, before)


def test_attention_that_takes_no_mask_is_refused():
    model = build("llama")
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UserError, match="attention 'flash_attention_2' cannot read"):
        Policy(model)


def test_a_new_value_head_says_zero_and_is_trained_with_the_model():
    model = build("llama")
    policy = Policy(model, critic=LinearCritic(model.config.hidden_size))
    parts, _ = sampled(model, 1.0)
    _, values = policy.score_all(pack(parts, micro_tokens=100))
    assert values.tolist() == [0.0] * len(values)
    assert len(list(policy.parameters())) == len(list(model.parameters())) + 2


def test_with_adapters_only_the_adapters_train():
    tiny = TinyModel(hidden_size=16, layers=1, heads=2, intermediate_size=16)
    tokenizer = models.tiny_tokenizer(tiny)
    model = models.add_lora(models.tiny_model(tiny, len(tokenizer), tokenizer), LoRA(rank=2))
    policy = Policy(model)
    (micro,) = pack([Segment((1, 5, 7, 3), (3,), 3)], micro_tokens=100)
    policy.score(micro).logprobs_k.sum().backward()
    names = {name for name, p in model.named_parameters() if p.grad is not None}
    assert names
    assert all("lora_" in name for name in names)
    assert sum(1 for _ in policy.parameters()) == len(names)
