"""What decays, how fast, and what happens to gradients that are not finite."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from agent_rl import models
from agent_rl.config import OptimizerConfig, TinyModel
from agent_rl.optim import lr_factor, make_optimizer, step_optimizer

SIZES = {
    "vocab_size": 24,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


def tiny() -> nn.Module:
    config = TinyModel(hidden_size=16, layers=1, heads=2, intermediate_size=16)
    tokenizer = models.tiny_tokenizer(config)
    return models.tiny_model(config, len(tokenizer), tokenizer)


MODELS = {
    "tied llama": tiny,
    "untied qwen with biases": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=24, n_embd=16, n_layer=1, n_head=2)),
}


@pytest.mark.parametrize("name", MODELS)
def test_weight_decay_touches_no_norm_bias_or_embedding_and_every_other_matrix(name):
    """With gradients of zero only decay moves a weight: by lr * decay of itself."""
    model = MODELS[name]()
    config = OptimizerConfig(lr=0.1, weight_decay=0.5)
    optimizer = make_optimizer(config, [(model, 0.1)])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)  # norms and biases, too, are not 0
            parameter.grad = torch.zeros_like(parameter)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    step_optimizer(optimizer, config, 0, 1)
    decayed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    spared = {n for n in before if n.endswith("bias") or "norm" in n or "ln_" in n}
    spared |= {n for n in before if "embed" in n or "wte" in n or "wpe" in n}
    assert decayed == set(before) - spared
    assert decayed
    for n, p in model.named_parameters():
        wanted = before[n] * (0.95 if n in decayed else 1.0)
        torch.testing.assert_close(p.detach(), wanted, atol=1e-6, rtol=0)


def test_a_tied_head_is_one_parameter_that_does_not_decay():
    model = tiny()
    optimizer = make_optimizer(OptimizerConfig(weight_decay=0.5), [(model, 0.1)])
    held = [(id(p), g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]]
    decays = [decay for owner, decay in held if owner == id(model.get_output_embeddings().weight)]
    assert decays == [0.0]


def test_frozen_parameters_are_not_handed_to_the_optimizer():
    model = tiny()
    model.get_input_embeddings().weight.requires_grad_(False)
    optimizer = make_optimizer(OptimizerConfig(), [(model, 0.1)])
    held = {id(p) for g in optimizer.param_groups for p in g["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}


def test_each_module_has_its_own_peak():
    model, head = nn.Linear(2, 2), nn.Linear(2, 1)
    config = OptimizerConfig(lr=0.5, schedule="linear")
    optimizer = make_optimizer(config, [(model, 0.5), (head, 0.01)])
    for parameter in (*model.parameters(), *head.parameters()):
        parameter.grad = torch.ones_like(parameter)
    step_optimizer(optimizer, config, 5, 10)
    assert {g["lr"] for g in optimizer.param_groups} == {0.25, 0.005}


@pytest.mark.parametrize(
    ("settings", "update", "total", "factor"),
    [
        ({}, 0, 10, 1.0),
        ({}, 9, 10, 1.0),
        ({"warmup_steps": 4}, 0, 10, 0.25),
        ({"warmup_steps": 4}, 3, 10, 1.0),
        ({"warmup_steps": 4}, 4, 10, 1.0),
        ({"schedule": "linear"}, 0, 10, 1.0),
        ({"schedule": "linear"}, 5, 10, 0.5),
        ({"schedule": "linear"}, 10, 10, 0.0),
        ({"schedule": "linear"}, 99, 10, 0.0),
        ({"schedule": "linear", "warmup_steps": 2}, 6, 10, 0.5),
        ({"schedule": "linear", "final_fraction": 0.2}, 5, 10, 0.6),
        ({"schedule": "cosine"}, 5, 10, 0.5),
        ({"schedule": "cosine"}, 2, 8, 0.5 * (1 + math.cos(math.pi / 4))),
        ({"schedule": "cosine", "final_fraction": 0.1}, 10, 10, 0.1),
        ({"schedule": "linear", "warmup_steps": 20}, 9, 10, 0.5),
    ],
)
def test_the_schedule_has_closed_forms(settings, update, total, factor):
    assert lr_factor(OptimizerConfig(**settings), update, total) == pytest.approx(factor)


def one_weight(value: float = 1.0) -> tuple[nn.Parameter, torch.optim.AdamW]:
    module = nn.Module()
    module.weight = nn.Parameter(torch.tensor([value]))
    return module.weight, make_optimizer(OptimizerConfig(), [(module, 1e-6)])


def test_many_small_steps_are_not_lost():
    """Adam moves by lr per step under a constant gradient; bfloat16 would lose every step."""
    weight, optimizer = one_weight()
    for update in range(300):
        weight.grad = torch.ones(1)
        step_optimizer(optimizer, OptimizerConfig(lr=1e-6), update, 300)
    assert 1.0 - weight.item() == pytest.approx(300e-6, abs=2e-5)
    rounded = torch.ones(1, dtype=torch.bfloat16)
    assert (rounded - 1e-6).item() == 1.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_changes_neither_weights_nor_moments(bad):
    weight, optimizer = one_weight()
    weight.grad = torch.ones(1)
    step_optimizer(optimizer, OptimizerConfig(), 0, 9)
    before = weight.item()
    moments = {name: value.clone() for name, value in optimizer.state[weight].items()}
    weight.grad = torch.tensor([bad])
    norm, taken = step_optimizer(optimizer, OptimizerConfig(), 1, 9)
    assert not taken
    assert not math.isfinite(norm)
    assert weight.item() == before
    assert all(torch.equal(optimizer.state[weight][name], old) for name, old in moments.items())
    assert weight.grad is None


@pytest.mark.parametrize(("clip", "moved"), [(0.0, 5.0), (1.0, 1.0), (10.0, 5.0)])
def test_the_gradient_is_clipped_by_its_norm_over_all_parameters(clip, moved):
    one, two = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([{"params": [one, two], "peak": 1.0}], lr=1.0)
    one.grad, two.grad = torch.tensor([3.0]), torch.tensor([4.0])
    norm, taken = step_optimizer(sgd, OptimizerConfig(grad_clip=clip), 0, 1)
    assert (norm, taken) == (5.0, True)
    assert math.hypot(one.item(), two.item()) == pytest.approx(moved, rel=1e-5)


def test_the_schedule_counts_updates_and_not_steps_or_micro_batches():
    weight, optimizer = one_weight()
    config = OptimizerConfig(lr=1e-6, schedule="linear")
    rates = []
    for update in range(4):
        for _ in range(3):  # three micro-batches
            weight.grad = torch.ones(1) if weight.grad is None else weight.grad + 1
        step_optimizer(optimizer, config, update, 4)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-6, 0.75e-6, 0.5e-6, 0.25e-6])
