"""Ratios and importance weights against loops, and what they do to a gradient."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agent_rl.algorithms import (
    AlgorithmError,
    importance_weight,
    sequence_ratio,
    token_ratio,
    token_weights,
    unclipped,
)


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def index(values):
    return torch.tensor(values, dtype=torch.long)


def close(tensor, values):
    return tensor.tolist() == pytest.approx(values, abs=1e-6, rel=1e-6)


def gaps(b):
    return [x - y for x, y in zip(b.logprobs_t, b.old_logprobs_t, strict=True)]


def mean_gap(b, i):
    return statistics.fmean(g for g, j in zip(gaps(b), b.trajectory_t, strict=True) if j == i)


@given(data=st.data())
def test_token_ratio_equals_loops(batches, data):
    b = data.draw(batches)
    got = token_ratio(f64(b.logprobs_t), f64(b.old_logprobs_t))
    assert close(got, [math.exp(gap) for gap in gaps(b)])


@given(data=st.data())
def test_sequence_ratio_equals_loops(batches, data):
    b = data.draw(batches)
    got = sequence_ratio(f64(b.logprobs_t), f64(b.old_logprobs_t), index(b.trajectory_t))
    assert close(got, [math.exp(mean_gap(b, i)) for i in b.trajectory_t])


@given(data=st.data())
def test_sequence_ratio_has_the_gradient_of_the_sequence_ratio_itself(batches, data):
    """With one advantage a trajectory and the sequence aggregation: the paper's equation 5."""
    b = data.draw(batches)
    group_n, trajectory_t = index(b.group_n), index(b.trajectory_t)
    advantages_n = f64(b.returns_n)
    logprobs = f64(b.logprobs_t).requires_grad_()
    weights = token_weights("sequence", trajectory_t, group_n, dtype=torch.float64)
    ratio = sequence_ratio(logprobs, f64(b.old_logprobs_t), trajectory_t)
    (weights * unclipped(ratio, advantages_n[trajectory_t])).sum().backward()
    wanted = []
    for i in b.trajectory_t:
        length = b.trajectory_t.count(i)
        wanted.append(-b.returns_n[i] * math.exp(mean_gap(b, i)) / length / b.n)
    assert close(logprobs.grad, wanted)


def test_sequence_ratio_does_not_grow_with_the_length():
    for length in (1, 7, 500):
        old = torch.zeros(length, dtype=torch.float64)
        got = sequence_ratio(old + 0.01, old, torch.zeros(length, dtype=torch.long))
        assert got[0].item() == pytest.approx(math.exp(0.01))


@pytest.mark.parametrize("make", [token_ratio, lambda a, b: sequence_ratio(a, b, index([0, 0]))])
def test_no_gradient_reaches_the_old_policy(make):
    logprobs, old = f64([-1.0, -2.0]).requires_grad_(), f64([-1.5, -1.0]).requires_grad_()
    make(logprobs, old).sum().backward()
    assert old.grad is None
    assert logprobs.grad.ne(0).all()


@pytest.mark.parametrize("gap", [-100.0, -40.0, 40.0, 100.0, 1000.0])
@pytest.mark.parametrize("advantage", [-1.0, 0.0, 1.0])
def test_extreme_ratios_stay_finite_in_float32(gap, advantage):
    logprobs = torch.tensor([gap], requires_grad=True)
    unclipped(token_ratio(logprobs, torch.zeros(1)), torch.tensor([advantage])).sum().backward()
    assert logprobs.grad.isfinite().all()
    assert bool(logprobs.grad.ne(0)) == (advantage != 0)


def test_ratio_is_the_exponential_up_to_the_bound_of_float32():
    got = token_ratio(torch.tensor([79.0]), torch.zeros(1))
    assert got.item() == pytest.approx(math.exp(79.0), rel=1e-5)


@given(data=st.data())
def test_token_importance_weight_equals_loops(batches, data):
    b = data.draw(batches)
    got, measured = importance_weight(f64(b.logprobs_t), f64(b.old_logprobs_t), 1.2)
    raw = [math.exp(gap) for gap in gaps(b)]
    assert close(got, [min(ratio, 1.2) for ratio in raw])
    capped = sum(ratio > 1.2 for ratio in raw) / max(b.t, 1)
    assert measured["importance_capped"].item() == pytest.approx(capped)
    assert measured["importance_max"].item() == pytest.approx(max(raw, default=0.0))


@given(data=st.data())
def test_sequence_importance_weight_equals_loops(batches, data):
    b = data.draw(batches)
    got, _ = importance_weight(
        f64(b.logprobs_t),
        f64(b.old_logprobs_t),
        2.0,
        "sequence",
        trajectory_t=index(b.trajectory_t),
    )
    wanted = [min(math.exp(mean_gap(b, i) * b.trajectory_t.count(i)), 2.0) for i in b.trajectory_t]
    assert close(got, wanted)


def test_without_a_cap_the_gap_is_measured_and_not_corrected():
    got, measured = importance_weight(f64([0.0, 0.0]), f64([-1.0, 0.0]), None)
    assert got.tolist() == [1.0, 1.0]
    assert measured["importance_max"].item() == pytest.approx(math.e)
    assert measured["sampler_gap"].item() == pytest.approx(0.5)


@pytest.mark.parametrize("mode", ["token", "sequence"])
def test_an_extreme_gap_gives_a_bounded_weight(mode):
    got, _ = importance_weight(
        torch.zeros(4), torch.full((4,), -500.0), 2.0, mode, trajectory_t=index([0] * 4)
    )
    assert got.tolist() == [2.0] * 4


def test_importance_weights_are_constants():
    got, _ = importance_weight(f64([0.0]).requires_grad_(), f64([-1.0]), 2.0)
    assert not got.requires_grad


def test_sequence_mode_needs_the_trajectories():
    with pytest.raises(AlgorithmError, match="needs trajectory_t"):
        importance_weight(f64([0.0]), f64([0.0]), 2.0, "sequence")


def test_micro_batches_may_hold_trajectories_in_any_order():
    logprobs, old = f64([-1.0, -2.0, -0.5]), f64([-1.2, -1.5, -0.4])
    sequence = sequence_ratio(logprobs, old, index([5, 2, 5]))
    assert close(sequence, [math.exp(0.05), math.exp(-0.5), math.exp(0.05)])
    weight, _ = importance_weight(logprobs, old, 9.0, "sequence", trajectory_t=index([5, 2, 5]))
    assert close(weight, [math.exp(0.1), math.exp(-0.5), math.exp(0.1)])
