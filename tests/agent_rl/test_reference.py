"""The reference stays where it was while the policy moves away from it, and moves when told."""

from __future__ import annotations

import pytest
import torch

from agent_rl import models
from agent_rl.config import LoRA, OptimizerConfig, TinyModel
from agent_rl.optim import make_optimizer, step_optimizer
from agent_rl.packing import pack
from agent_rl.policy import Policy
from agent_rl.reference import Reference
from agent_rl.trajectory import Segment

TINY = TinyModel(hidden_size=16, layers=1, heads=2, intermediate_size=16, context=32)
MICROS = pack(
    [Segment((1, 5, 9, 7, 8, 2), (3, 4, 5), 3), Segment((1, 5, 9, 6), (3,), 3)], micro_tokens=100
)


def build(*, lora: bool = False) -> torch.nn.Module:
    torch.manual_seed(0)
    tokenizer = models.tiny_tokenizer(TINY)
    model = models.tiny_model(TINY, len(tokenizer), tokenizer)
    return models.add_lora(model, LoRA(rank=2)).eval() if lora else model.eval()


def train(policy: Policy, updates: int = 5, seed: int = 0) -> None:
    torch.manual_seed(seed)
    optimizer = make_optimizer(OptimizerConfig(lr=0.02), [(policy.model, 0.02)])
    for update in range(updates):
        for micro in MICROS:
            (-policy.score(micro).logprobs_k).sum().backward()
        step_optimizer(optimizer, OptimizerConfig(lr=0.02), update, updates)


def scored(policy: Policy) -> torch.Tensor:
    return policy.score_all(MICROS)[0]


KINDS = {
    "whole model": {"lora": False, "refreshable": False},
    "adapters off": {"lora": True, "refreshable": False},
    "adapters, copied": {"lora": True, "refreshable": True},
}


def pair(kind: str) -> tuple[Policy, Reference]:
    policy = Policy(build(lora=KINDS[kind]["lora"]), temperature=0.7)
    return policy, Reference(policy, refreshable=KINDS[kind]["refreshable"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_is_the_policy_at_the_start(kind):
    policy, reference = pair(kind)
    assert torch.equal(reference.logprobs(MICROS), scored(policy))


@pytest.mark.parametrize("kind", KINDS)
def test_updates_of_the_policy_leave_the_reference_bitwise(kind):
    policy, reference = pair(kind)
    before, whole = reference.logprobs(MICROS), reference.log_softmax(MICROS[0])
    train(policy)
    assert (scored(policy) - before).abs().max() > 1e-3
    assert torch.equal(reference.logprobs(MICROS), before)
    assert torch.equal(reference.log_softmax(MICROS[0]), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_asking_the_reference_leaves_the_policy_and_what_trains(kind):
    policy, reference = pair(kind)
    train(policy)
    before, training = scored(policy), [p.requires_grad for p in policy.model.parameters()]
    reference.logprobs(MICROS)
    reference.log_softmax(MICROS[0])
    assert torch.equal(scored(policy), before)
    assert [p.requires_grad for p in policy.model.parameters()] == training


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_reaches_the_reference_between_forward_and_backward(kind):
    """Exact KL asks the reference while the policy's graph is open."""
    gradients = []
    for asked in (False, True):
        policy, reference = pair(kind)
        train(policy)
        loss = policy.score(MICROS[0]).logprobs_k.sum()
        if asked:
            assert not reference.log_softmax(MICROS[0]).requires_grad
        loss.backward()
        gradients.append([p.grad for p in policy.parameters()])
    for with_reference, without in zip(*gradients, strict=True):
        assert torch.equal(with_reference, without)


def test_with_adapters_nothing_is_copied_and_they_are_on_in_the_policy():
    policy, reference = pair("adapters off")
    train(policy)
    assert reference.state_dict() == {}
    base = policy.model.get_base_model()
    plain = Policy(build(), temperature=0.7)  # the same base, never adapted
    torch.testing.assert_close(reference.logprobs(MICROS), scored(plain), atol=0, rtol=0)
    assert base.get_input_embeddings().weight.equal(plain.model.get_input_embeddings().weight)
    assert not torch.equal(scored(policy), scored(plain))


@pytest.mark.parametrize("kind", ["whole model", "adapters, copied"])
def test_a_refresh_makes_the_present_policy_the_reference_and_no_later_one(kind):
    policy, reference = pair(kind)
    train(policy)
    reference.refresh(policy)
    present = scored(policy)
    assert torch.equal(reference.logprobs(MICROS), present)
    train(policy)
    assert torch.equal(reference.logprobs(MICROS), present)


@pytest.mark.parametrize("kind", ["whole model", "adapters, copied"])
def test_a_refreshed_reference_survives_a_checkpoint(kind, tmp_path):
    policy, reference = pair(kind)
    train(policy)
    reference.refresh(policy)
    torch.save(reference.state_dict(), tmp_path / "r.pt")
    _, fresh = pair(kind)
    fresh.load_state_dict(torch.load(tmp_path / "r.pt"))
    assert torch.equal(fresh.logprobs(MICROS), reference.logprobs(MICROS))


def test_an_empty_state_leaves_the_reference():
    _, reference = pair("whole model")
    before = reference.logprobs(MICROS)
    reference.load_state_dict({})
    assert torch.equal(reference.logprobs(MICROS), before)
