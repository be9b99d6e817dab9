"""Objectives: clip tables, gradients against finite differences, the value loss, the entropy."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agent_rl.algorithms import (
    cispo,
    clip_fractions,
    entropy,
    ppo_clip,
    reinforce,
    token_ratio,
    unclipped,
    value_loss,
)


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def close(tensor, values):
    return tensor.tolist() == pytest.approx(values, abs=1e-6, rel=1e-6)


OBJECTIVES = {
    "reinforce": lambda ratio, logp, a: reinforce(logp, a),
    "unclipped": lambda ratio, logp, a: unclipped(ratio, a),
    "ppo": lambda ratio, logp, a: ppo_clip(ratio, a, 0.2, 0.2),
    "clip_higher": lambda ratio, logp, a: ppo_clip(ratio, a, 0.2, 0.4),
    "dual": lambda ratio, logp, a: ppo_clip(ratio, a, 0.2, 0.2, 1.25),
    "cispo": lambda ratio, logp, a: cispo(ratio, logp, a, 0.2, 0.2),
    "cispo_no_lower": lambda ratio, logp, a: cispo(ratio, logp, a, 0.2, 1.0),
}

# d loss / d logprob at ratio 0.7, 1, 1.3: for A = +1, then for A = -1.
GRADIENTS = {
    "reinforce": ([-1, -1, -1], [1, 1, 1]),
    "unclipped": ([-0.7, -1, -1.3], [0.7, 1, 1.3]),
    "ppo": ([-0.7, -1, 0], [0, 1, 1.3]),
    "clip_higher": ([-0.7, -1, -1.3], [0, 1, 1.3]),
    "dual": ([-0.7, -1, 0], [0, 1, 0]),
    "cispo": ([-0.8, -1, -1.2], [0.8, 1, 1.2]),
    "cispo_no_lower": ([-0.7, -1, -1.2], [0.7, 1, 1.2]),
}


def gradient(name, ratio, advantage):
    old = f64([-1.0])
    logprobs = (old + math.log(ratio)).requires_grad_()
    OBJECTIVES[name](token_ratio(logprobs, old), logprobs, f64([advantage])).sum().backward()
    return logprobs.grad.item()


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_gradient_table(name, sign, place):
    wanted = GRADIENTS[name][0 if sign > 0 else 1][place]
    assert gradient(name, (0.7, 1.0, 1.3)[place], sign) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("advantage", [-2.5, -1.0, 0.0, 0.3, 4.0])
def test_at_ratio_one_the_gradient_is_that_of_reinforce(name, advantage):
    assert gradient(name, 1.0, advantage) == pytest.approx(-advantage)


def naive_ppo(ratio, advantage, low, high, dual):
    objective = min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage)
    if dual is not None and advantage < 0:
        objective = max(objective, dual * advantage)
    return -objective


RATIOS = st.floats(0.01, 5)
ADVANTAGES = st.floats(-3, 3)


@given(
    st.lists(st.tuples(RATIOS, ADVANTAGES), max_size=9),
    st.floats(0, 1.5),
    st.floats(0, 3),
    st.none() | st.floats(1.1, 4),
)
def test_ppo_clip_equals_loops(pairs, low, high, dual):
    ratio, advantages = f64([r for r, _ in pairs]), f64([a for _, a in pairs])
    wanted = [naive_ppo(r, a, low, high, dual) for r, a in pairs]
    assert close(ppo_clip(ratio, advantages, low, high, dual), wanted)


@given(st.lists(st.tuples(RATIOS, ADVANTAGES), max_size=9), st.floats(0, 1.5), st.floats(0, 3))
def test_cispo_equals_loops(pairs, low, high):
    ratio, advantages = f64([r for r, _ in pairs]), f64([a for _, a in pairs])
    wanted = [-min(max(r, 1 - low), 1 + high) * a * math.log(r) for r, a in pairs]
    assert close(cispo(ratio, ratio.log(), advantages, high, low), wanted)


@pytest.mark.parametrize("name", ["reinforce", "unclipped", "ppo", "clip_higher", "dual"])
def test_gradients_equal_finite_differences(name):
    old, advantages = f64([-1.0] * 8), f64([1, -1, 0.5, -0.5, 2, -2, 1, -1])
    logprobs = (old + f64([0.7, 0.7, 0.9, 0.9, 1.1, 1.1, 1.3, 1.3]).log()).requires_grad_()

    def loss(x):
        return OBJECTIVES[name](token_ratio(x, old), x, advantages)

    assert torch.autograd.gradcheck(loss, logprobs)


def test_a_bad_sample_that_became_likely_is_bounded_only_by_dual_clip():
    ratio, advantage = f64([100.0]), f64([-1.0])
    assert ppo_clip(ratio, advantage, 0.2, 0.2).item() == pytest.approx(100.0)
    assert ppo_clip(ratio, advantage, 0.2, 0.2, 3.0).item() == pytest.approx(3.0)


@given(
    st.lists(st.tuples(ADVANTAGES, ADVANTAGES, ADVANTAGES), max_size=9),
    st.none() | st.floats(0.01, 1),
)
def test_value_loss_equals_loops(rows, clip):
    wanted = []
    for value, old, target in rows:
        bounded = value if clip is None else min(max(value, old - clip), old + clip)
        wanted.append(max((value - target) ** 2, (bounded - target) ** 2) / 2)
    values, olds, targets = (f64([row[k] for row in rows]) for k in range(3))
    assert close(value_loss(values, olds, targets, clip), wanted)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(0.1, -0.9), (0.5, 0.0), (1.5, 0.0), (-0.5, -1.5)],
)
def test_value_clip_stops_the_gradient_only_on_the_way_to_the_return(value, wanted):
    """Old value 0, return 1, clip 0.2; at 1.5 the clipped error is the larger one as well."""
    values = f64([value]).requires_grad_()
    value_loss(values, f64([0.0]), f64([1.0]), 0.2).sum().backward()
    assert values.grad.item() == pytest.approx(wanted)


def test_no_gradient_reaches_the_value_target():
    old, target = f64([0.0]).requires_grad_(), f64([1.0]).requires_grad_()
    value_loss(f64([0.1]).requires_grad_(), old, target, 0.2).sum().backward()
    assert old.grad is None
    assert target.grad is None


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=6))
def test_entropy_equals_loops(logits):
    top = max(logits)
    weights = [math.exp(x - top) for x in logits]
    probabilities = [w / sum(weights) for w in weights]
    wanted = -sum(p * math.log(p) for p in probabilities)
    assert entropy(f64([logits])).item() == pytest.approx(wanted, abs=1e-9)


def test_entropy_of_forbidden_tokens_is_finite_with_a_finite_gradient():
    logits = f64([[0.0, 0.0, -math.inf], [-math.inf, 1.0, 3.0]]).requires_grad_()
    got = entropy(logits)
    got.sum().backward()
    assert got[0].item() == pytest.approx(math.log(2))
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_entropy_of_extreme_logits_is_that_of_float64(dtype):
    logits = torch.tensor([[50.0, -50.0, 49.0, 0.0]], dtype=dtype)
    wanted = entropy(logits.double()).item()
    assert entropy(logits).item() == pytest.approx(wanted, rel=1e-4)


def test_clip_fractions_count_where_the_gradient_is_gone():
    ratio, advantages = f64([0.7, 0.7, 1.3, 1.3, 1.0]), f64([1.0, -1.0, 1.0, -1.0, 1.0])
    got = clip_fractions(ratio, advantages, 0.2, 0.2)
    assert {name: value.item() for name, value in got.items()} == {
        "clip_low": 0.2,
        "clip_high": 0.2,
    }


def test_clip_fractions_of_a_clipped_weight_ignore_the_sign():
    ratio = f64([0.7, 0.7, 1.3, 1.3, 1.3])
    got = clip_fractions(ratio, None, 0.2, 0.2)
    assert {name: value.item() for name, value in got.items()} == {
        "clip_low": 0.4,
        "clip_high": 0.6,
    }


def test_clip_fractions_of_no_tokens_are_zero():
    assert clip_fractions(f64([]), f64([]), 0.2, 0.2)["clip_low"].item() == 0.0
