"""Presets composed: every one, end to end, against invariances and closed forms."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_rl.algorithms import (
    PRESETS,
    estimate_advantages,
    gae,
    group_relative,
    policy_loss,
    preset,
    token_weights,
    whiten,
)
from agent_rl.algorithms import objective as tables
from agent_rl.algorithms.presets import RATIO_CLIP_PAIRS


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def index(values):
    return torch.tensor(values, dtype=torch.long)


def advantages_of(algorithm, b):
    rewards = [abs(reward) for reward in b.rewards_t]
    advantages, _ = estimate_advantages(
        algorithm,
        f64(rewards),
        f64(b.discounts_t),
        index(b.trajectory_t),
        turn_t=index(b.turn_t),
        group_n=index(b.group_n),
        values_t=f64(b.values_t),
    )
    return advantages


def gradient_of(algorithm, b, old, cuts=()):
    """d loss / d logprob over the batch, cut into micro-batches before the given trajectories."""
    trajectory_t, group_n = index(b.trajectory_t), index(b.group_n)
    constant = 7.0 if algorithm.aggregation == "constant" else None
    weights = token_weights(
        algorithm.aggregation, trajectory_t, group_n, constant=constant, dtype=torch.float64
    )
    advantages = advantages_of(algorithm, b)
    logprobs = f64(b.logprobs_t).requires_grad_()
    edges = [0, *sorted(cuts), b.n]
    for start, stop in itertools.pairwise(edges):
        part = (trajectory_t >= start) & (trajectory_t < stop)
        losses, _ = policy_loss(
            algorithm, logprobs[part], f64(old)[part], advantages[part], trajectory_t[part]
        )
        (weights[part] * losses).sum().backward()
    return logprobs.grad, weights, advantages


@pytest.mark.parametrize("name", PRESETS)
@settings(max_examples=15)
@given(data=st.data())
def test_on_policy_every_preset_has_the_gradient_of_reinforce(batches, name, data):
    b = data.draw(batches)
    got, weights, advantages = gradient_of(PRESETS[name], b, b.logprobs_t)
    assert got.tolist() == pytest.approx((-weights * advantages).tolist(), abs=1e-9)


@pytest.mark.parametrize("name", PRESETS)
@settings(max_examples=15)
@given(data=st.data())
def test_micro_batches_change_no_gradient(batches, name, data):
    b = data.draw(batches)
    cuts = data.draw(st.sets(st.integers(0, b.n)))
    whole, *_ = gradient_of(PRESETS[name], b, b.old_logprobs_t)
    parts, *_ = gradient_of(PRESETS[name], b, b.old_logprobs_t, cuts)
    assert parts.tolist() == pytest.approx(whole.tolist(), abs=1e-9)


@pytest.mark.parametrize("name", PRESETS)
@settings(max_examples=15)
@given(data=st.data())
def test_the_order_of_trajectories_changes_no_gradient(batches, name, data):
    b = data.draw(batches)
    order = data.draw(st.permutations(range(b.n)))
    tokens = [t for i in order for t in range(b.t) if b.trajectory_t[t] == i]
    shuffled = type(b)(**vars(b))
    for field in vars(b):
        if field.endswith("_t"):
            setattr(shuffled, field, [getattr(b, field)[t] for t in tokens])
    shuffled.trajectory_t = [order.index(i) for i in shuffled.trajectory_t]
    shuffled.group_n = [b.group_n[i] for i in order]
    whole, *_ = gradient_of(PRESETS[name], b, b.old_logprobs_t)
    got, *_ = gradient_of(PRESETS[name], shuffled, shuffled.old_logprobs_t)
    assert got.tolist() == pytest.approx(whole[index(tokens)].tolist(), abs=1e-6)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_precision_is_kept_and_nothing_is_nan_far_off_policy(name, dtype):
    logprobs = torch.tensor([-100.0, -1e-6, -50.0, -1.0], dtype=dtype, requires_grad=True)
    old = torch.tensor([-1e-6, -100.0, -1.0, -50.0], dtype=dtype)
    advantages = torch.tensor([1.0, -1.0, 0.0, 1.0], dtype=dtype)
    losses, diagnostics = policy_loss(PRESETS[name], logprobs, old, advantages, index([0, 0, 1, 1]))
    losses.sum().backward()
    assert losses.dtype == dtype
    assert losses.isfinite().all()
    assert logprobs.grad.isfinite().all()
    assert all(value.isfinite() for value in diagnostics.values())


@pytest.mark.parametrize("name", PRESETS)
def test_no_tokens_give_no_loss(name):
    losses, diagnostics = policy_loss(PRESETS[name], f64([]), f64([]), f64([]), index([]))
    assert losses.shape == (0,)
    assert all(value.item() == 0 for value in diagnostics.values())


def test_a_gap_between_sampler_and_learner_is_corrected_once():
    """Sampled at logprob -1.5, scored by the learner at -1: the total weight is exp(0.5)."""
    sampled, scored, advantage = f64([-1.5]), f64([-1.0]), f64([1.0])
    decoupled = preset("rloo", ratio="token", importance_cap=10.0)
    for old, recorded in ((scored, sampled), (sampled, None), (sampled, sampled)):
        logprobs = scored.clone().requires_grad_()
        losses, _ = policy_loss(
            decoupled, logprobs, old, advantage, index([0]), sampler_logprobs_t=recorded
        )
        losses.sum().backward()
        assert logprobs.grad.item() == pytest.approx(-math.exp(0.5))


def test_without_a_cap_the_gap_is_only_measured():
    _, diagnostics = policy_loss(
        PRESETS["grpo"], f64([-1.0]), f64([-1.0]), f64([1.0]), index([0]),
        sampler_logprobs_t=f64([-1.5]),
    )  # fmt: skip
    assert diagnostics["importance_mean"].item() == pytest.approx(math.exp(0.5))


def test_diagnostics_have_closed_forms():
    logprobs, old = f64([0.7, 1.3, 1.0]).log(), f64([0.0, 0.0, 0.0])
    _, got = policy_loss(PRESETS["grpo"], logprobs, old, f64([-1.0, 1.0, 1.0]), index([0, 0, 1]))
    assert got["ratio_mean"].item() == pytest.approx(1.0)
    assert got["ratio_max"].item() == pytest.approx(1.3)
    assert got["clip_low"].item() == pytest.approx(1 / 3)
    assert got["clip_high"].item() == pytest.approx(1 / 3)
    wanted = sum(r - 1 - math.log(r) for r in (0.7, 1.3, 1.0)) / 3
    assert got["kl_old"].item() == pytest.approx(wanted)


def test_tables_hold_every_choice():
    assert set(tables._OBJECTIVES) == set(RATIO_CLIP_PAIRS)
    assert set(tables._RATIOS) == {"token", "sequence", "none"}


def test_group_advantages_come_from_discounted_episode_returns():
    trajectory_t, turn_t, group_n = index([0, 0, 1, 2]), index([0, 1, 0, 0]), index([0, 0, 0])
    got, returns = estimate_advantages(
        PRESETS["grpo"], f64([0, 1, 0.2, 0]), f64([0.5, 1, 1, 1]), trajectory_t,
        turn_t=turn_t, group_n=group_n,
    )  # fmt: skip
    wanted = group_relative(f64([0.5, 0.2, 0.0]), group_n)
    assert torch.equal(got, wanted[trajectory_t])
    assert returns.tolist() == [0.5, 1.0, 0.2, 0.0]


def test_ppo_whitens_advantages_and_leaves_the_targets():
    trajectory_t, values, ones = index([0, 0, 1]), f64([0.5, 0.25, 2.0]), f64([1, 1, 1])
    got, targets = estimate_advantages(
        PRESETS["ppo"], f64([0, 1, 0]), ones, trajectory_t,
        turn_t=index([0, 0, 0]), group_n=index([0, 1]), values_t=values,
    )  # fmt: skip
    raw, returns = gae(f64([0, 1, 0]), values, ones, trajectory_t, lam=0.95)
    assert torch.equal(got, whiten(raw))
    assert torch.equal(targets, returns)


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo", "maxrl", "dapo", "gspo", "cispo"])
def test_a_group_without_spread_has_no_policy_gradient(name):
    ones = f64([1, 1, 1])
    got, _ = estimate_advantages(
        PRESETS[name], ones, ones, index([0, 1, 2]),
        turn_t=index([0, 0, 0]), group_n=index([0, 0, 0]),
    )  # fmt: skip
    assert got.tolist() == [0.0] * 3
