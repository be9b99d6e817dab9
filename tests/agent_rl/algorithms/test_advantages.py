"""Advantages against loops over plain floats, closed forms and exact expectations."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agent_rl.algorithms import (
    AlgorithmError,
    episode_returns,
    gae,
    group_relative,
    has_spread,
    leave_one_out,
    max_likelihood,
    overlong_penalty,
    returns_to_go,
    scale_rewards,
    spread_over_tokens,
    turn_relative,
    whiten,
)


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def close(tensor, values):
    return tensor.tolist() == pytest.approx(values, abs=1e-6, rel=1e-6)


def members(group_n, i):
    return [j for j, group in enumerate(group_n) if group == group_n[i]]


def naive_group(returns, group_n, scale, eps=1e-4):
    centred = []
    for i in range(len(returns)):
        group = [returns[j] for j in members(group_n, i)]
        centred.append(0.0 if max(group) == min(group) else returns[i] - statistics.fmean(group))
    result = []
    for i, value in enumerate(centred):
        group = [returns[j] for j in members(group_n, i)]
        divisor = 1.0
        if scale == "std" and len(group) > 1:
            divisor = statistics.stdev(group) + eps
        if scale == "batch" and len(returns) > 1:
            divisor = math.sqrt(sum(c * c for c in centred) / (len(returns) - 1)) + eps
        result.append(value / divisor)
    return result


@pytest.mark.parametrize("scale", ["std", "none", "batch"])
@given(data=st.data())
def test_group_relative_equals_loops(batches, scale, data):
    b = data.draw(batches)
    got = group_relative(f64(b.returns_n), torch.tensor(b.group_n), scale=scale)
    assert close(got, naive_group(b.returns_n, b.group_n, scale))


@given(data=st.data())
def test_leave_one_out_equals_loops(batches, data):
    b = data.draw(batches)
    wanted = []
    for i in range(b.n):
        others = [b.returns_n[j] for j in members(b.group_n, i) if j != i]
        wanted.append(b.returns_n[i] - statistics.fmean(others) if others else 0.0)
    assert close(leave_one_out(f64(b.returns_n), torch.tensor(b.group_n)), wanted)


@given(data=st.data())
def test_max_likelihood_equals_loops(batches, data):
    b = data.draw(batches)
    wanted = []
    for i in range(b.n):
        mean = statistics.fmean(b.returns_n[j] for j in members(b.group_n, i))
        wanted.append((b.returns_n[i] - mean) / mean if mean else 0.0)
    assert close(max_likelihood(f64(b.returns_n), torch.tensor(b.group_n)), wanted)


def test_leave_one_out_is_the_centred_return_times_n_over_n_minus_one():
    returns, group = f64([1.0, 0.0, 0.0, 0.5]), torch.zeros(4, dtype=torch.long)
    centred = group_relative(returns, group, scale="none")
    assert close(leave_one_out(returns, group), (centred * 4 / 3).tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("estimate", [group_relative, leave_one_out, max_likelihood])
@pytest.mark.parametrize("reward", [0.0, 0.1, 0.35, 0.4, 1.0, 1e6])
def test_a_group_of_equal_returns_has_advantage_exactly_zero(dtype, estimate, reward):
    returns = torch.full((7,), reward, dtype=dtype)
    assert estimate(returns, torch.zeros(7, dtype=torch.long)).tolist() == [0.0] * 7


def test_rounding_residue_is_no_spread():
    returns = torch.tensor([0.1 + 0.2, 0.3, 0.3, 0.3], dtype=torch.float64)
    assert returns[0] != returns[1]
    got = group_relative(returns, torch.zeros(4, dtype=torch.long), eps=0.0)
    assert got.tolist() == [0.0] * 4


def test_float32_group_of_seven_and_one_does_not_blow_up():
    returns = torch.tensor([0.35] * 7 + [0.4], dtype=torch.float32)
    got = group_relative(returns, torch.zeros(8, dtype=torch.long), eps=0.0)
    assert got.tolist() == pytest.approx([-1 / math.sqrt(8)] * 7 + [7 / math.sqrt(8)], rel=1e-4)


@pytest.mark.parametrize("estimate", [group_relative, leave_one_out, max_likelihood])
def test_a_group_of_one_has_advantage_zero(estimate):
    assert estimate(f64([0.7]), torch.tensor([0])).tolist() == [0.0]


@pytest.mark.parametrize("estimate", [group_relative, leave_one_out, max_likelihood])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_return_that_is_not_finite_is_refused(estimate, bad):
    with pytest.raises(AlgorithmError, match=r"returns at \[1\]"):
        estimate(f64([0.0, bad]), torch.tensor([0, 0]))


def test_max_likelihood_refuses_negative_returns():
    with pytest.raises(AlgorithmError, match="returns >= 0"):
        max_likelihood(f64([-1.0, 1.0]), torch.tensor([0, 0]))


def test_max_likelihood_is_zero_where_nobody_succeeded():
    assert max_likelihood(f64([0.0, 0.0]), torch.tensor([0, 0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("estimate", [group_relative, leave_one_out, max_likelihood])
def test_order_of_samples_changes_no_advantage(estimate):
    returns, group = f64([0.0, 1.0, 0.3, 0.4, 1.0, 0.9]), torch.tensor([0, 1, 0, 1, 0, 1])
    order = torch.tensor([4, 2, 0, 5, 3, 1])
    shuffled = estimate(returns[order], group[order])
    assert close(shuffled, estimate(returns, group)[order].tolist())


def expected_score_gradient(estimate, p, n):
    """Sum over all 0/1 outcomes of n samples of P * mean_i A_i d log P(r_i) / dp."""
    total = 0.0
    for outcome in itertools.product([0.0, 1.0], repeat=n):
        probability = math.prod(p if r else 1 - p for r in outcome)
        advantages = estimate(f64(outcome), torch.zeros(n, dtype=torch.long)).tolist()
        scores = [1 / p if r else -1 / (1 - p) for r in outcome]
        total += probability * sum(a * s for a, s in zip(advantages, scores, strict=True)) / n
    return total


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_leave_one_out_is_unbiased(p):
    assert expected_score_gradient(leave_one_out, p, 4) == pytest.approx(1.0)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_group_mean_shrinks_the_gradient_by_n_minus_one_over_n(p):
    def centre(returns, group):
        return group_relative(returns, group, scale="none")

    assert expected_score_gradient(centre, p, 4) == pytest.approx(3 / 4)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_max_likelihood_descends_the_truncated_log_pass_rate(p):
    wanted = sum((1 - p) ** (k - 1) for k in range(1, 4))  # d/dp of -sum_{k<4} (1-p)^k / k
    assert expected_score_gradient(max_likelihood, p, 4) == pytest.approx(wanted)


@given(st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=2, max_size=20))
def test_whitened_values_have_mean_zero_and_variance_one(values):
    got = whiten(f64(values)).tolist()
    if max(values) == min(values):
        assert got == [0.0] * len(values)
    else:
        assert statistics.fmean(got) == pytest.approx(0, abs=1e-9)
        assert statistics.pvariance(got) == pytest.approx(1)


def test_whitening_without_scale_only_centres():
    assert close(whiten(f64([1.0, 2.0, 6.0]), scale=False), [-2.0, -1.0, 3.0])


@pytest.mark.parametrize("values", [[], [3.0]])
def test_whitening_too_little_gives_zeros(values):
    assert whiten(f64(values)).tolist() == [0.0] * len(values)


@given(values=st.lists(st.floats(-10, 10), min_size=2, max_size=30))
def test_scaled_rewards_have_variance_one_and_keep_their_zero_and_their_signs(values):
    got = scale_rewards(f64(values))
    if max(values) - min(values) < 0.01:  # almost no spread: eps keeps it from being blown up
        return
    assert statistics.pvariance(got.tolist()) == pytest.approx(1, rel=1e-3)
    factor = (statistics.pvariance(values) + 1e-8) ** 0.5
    assert close(got, [value / factor for value in values])


def test_rewards_without_spread_are_not_scaled():
    assert scale_rewards(f64([0.3, 0.1 + 0.2])).tolist() == [0.3, 0.1 + 0.2]
    assert scale_rewards(f64([])).tolist() == []


def naive_returns(b, rewards, discounts, bootstrap):
    result = [0.0] * b.t
    for t in reversed(range(b.t)):
        i = b.trajectory_t[t]
        last = t + 1 == b.t or b.trajectory_t[t + 1] != i
        result[t] = rewards[t] + discounts[t] * (bootstrap[i] if last else result[t + 1])
    return result


@given(data=st.data())
def test_returns_to_go_equal_loops(batches, data):
    b = data.draw(batches)
    got = returns_to_go(
        f64(b.rewards_t),
        f64(b.discounts_t),
        torch.tensor(b.trajectory_t, dtype=torch.long),
        bootstrap_n=f64(b.bootstrap_n),
    )
    assert close(got, naive_returns(b, b.rewards_t, b.discounts_t, b.bootstrap_n))


@given(data=st.data())
def test_episode_returns_are_those_of_the_first_tokens(batches, data):
    b = data.draw(batches)
    trajectory_t = torch.tensor(b.trajectory_t, dtype=torch.long)
    wanted = [
        b.rewards_t[b.trajectory_t.index(i)] if i in b.trajectory_t else 0.0 for i in range(b.n)
    ]
    assert close(episode_returns(f64(b.rewards_t), trajectory_t, b.n), wanted)


def test_a_reward_is_discounted_once_a_turn():
    trajectory_t, discounts = torch.zeros(5, dtype=torch.long), f64([1, 0.9, 1, 1, 0.9])
    got = returns_to_go(f64([0, 1, 0, 0, 10]), discounts, trajectory_t)
    assert close(got, [10.0, 10.0, 10.0, 10.0, 10.0])
    got = returns_to_go(f64([0, 0, 0, 0, 10]), discounts, trajectory_t)
    assert close(got, [9.0, 9.0, 10.0, 10.0, 10.0])


@given(data=st.data())
def test_gae_equals_loops(batches, data):
    b, lam = data.draw(batches), data.draw(st.sampled_from([0.0, 0.5, 0.95, 1.0]))
    wanted = [0.0] * b.t
    for t in reversed(range(b.t)):
        i = b.trajectory_t[t]
        last = t + 1 == b.t or b.trajectory_t[t + 1] != i
        following = b.bootstrap_n[i] if last else b.values_t[t + 1]
        delta = b.rewards_t[t] + b.discounts_t[t] * following - b.values_t[t]
        wanted[t] = delta + (0.0 if last else b.discounts_t[t] * lam * wanted[t + 1])
    got, returns = gae(
        f64(b.rewards_t),
        f64(b.values_t),
        f64(b.discounts_t),
        torch.tensor(b.trajectory_t, dtype=torch.long),
        lam=lam,
        bootstrap_n=f64(b.bootstrap_n),
    )
    assert close(got, wanted)
    assert close(returns, [a + v for a, v in zip(wanted, b.values_t, strict=True)])


@given(data=st.data())
def test_gae_with_lambda_one_is_the_return_minus_the_value(batches, data):
    b = data.draw(batches)
    trajectory_t = torch.tensor(b.trajectory_t, dtype=torch.long)
    rewards, discounts, boot = f64(b.rewards_t), f64(b.discounts_t), f64(b.bootstrap_n)
    _, targets = gae(rewards, f64(b.values_t), discounts, trajectory_t, lam=1.0, bootstrap_n=boot)
    returns = returns_to_go(rewards, discounts, trajectory_t, bootstrap_n=boot)
    assert close(targets, returns.tolist())


def test_a_truncated_chain_bootstraps_and_a_terminated_one_does_not():
    """Reward 1 a step for ever at discount 0.5: the value is 2 everywhere."""
    trajectory_t = torch.tensor([0, 0, 0, 1, 1, 1])
    ones, values, discounts = torch.ones(6), torch.full((6,), 2.0), torch.full((6,), 0.5)
    got, _ = gae(
        ones, values, discounts, trajectory_t, lam=1.0, bootstrap_n=torch.tensor([2.0, 0.0])
    )
    assert got.tolist() == pytest.approx([0, 0, 0, -0.25, -0.5, -1.0])


def test_tool_tokens_between_turns_neither_decay_nor_shift():
    """Two turns with whatever gap between them: only the policy's own tokens are in the layout."""
    policy_tokens = [0, 1, 5, 6]  # positions 2 to 4 were written by a tool
    rewards, values = [0.0, 0.0, 0.0, 1.0], [0.1, 0.2, 0.3, 0.4]
    got, _ = gae(f64(rewards), f64(values), f64([1] * 4), torch.zeros(4).long(), lam=0.9)
    wanted, running, following = [], 0.0, 0.0
    for k in reversed(range(len(policy_tokens))):
        running = rewards[k] + following - values[k] + 0.9 * running
        following = values[k]
        wanted.insert(0, running)
    assert close(got, wanted)


def test_gae_targets_are_made_before_whitening():
    trajectory_t, values = torch.tensor([0, 0, 1]), f64([0.5, 0.25, 2.0])
    advantages, returns = gae(f64([0, 1, 0]), values, f64([1, 1, 1]), trajectory_t, lam=1.0)
    assert close(returns, [1.0, 1.0, 0.0])
    assert not close(whiten(advantages) + values, returns.tolist())


def test_no_gradient_flows_through_advantages():
    values = f64([0.5, 0.25]).requires_grad_()
    advantages, returns = gae(f64([0, 1]), values, f64([1, 1]), torch.tensor([0, 0]), lam=0.9)
    assert not advantages.requires_grad
    assert not returns.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gae_of_one_long_trajectory_agrees_with_a_loop(dtype):
    t = 16_000
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(t, generator=generator, dtype=torch.float64)
    values = torch.randn(t, generator=generator, dtype=torch.float64)
    wanted, running, following = [0.0] * t, 0.0, 0.0
    for k in reversed(range(t)):
        running = rewards[k].item() + following - values[k].item() + 0.99 * running
        wanted[k], following = running, values[k].item()
    ones, zeros = torch.ones(t, dtype=dtype), torch.zeros(t, dtype=torch.long)
    got, _ = gae(rewards.to(dtype), values.to(dtype), ones, zeros, lam=0.99)
    assert got.tolist() == pytest.approx(wanted, abs=1e-4 if dtype == torch.float32 else 1e-9)


@pytest.mark.parametrize("scale", ["std", "none"])
@given(data=st.data())
def test_turn_relative_equals_loops(batches, scale, data):
    b = data.draw(batches)
    returns = naive_returns(b, b.rewards_t, b.discounts_t, b.bootstrap_n)

    def from_turn(j, turn):
        own = [t for t in range(b.t) if b.trajectory_t[t] == j and b.turn_t[t] == turn]
        return returns[own[0]] if own else 0.0

    wanted = []
    for i, turn in zip(b.trajectory_t, b.turn_t, strict=True):
        column = [from_turn(j, turn) for j in range(b.n)]
        wanted.append(naive_group(column, b.group_n, scale)[i])
    got = turn_relative(
        f64(b.rewards_t),
        f64(b.discounts_t),
        torch.tensor(b.trajectory_t, dtype=torch.long),
        torch.tensor(b.turn_t, dtype=torch.long),
        torch.tensor(b.group_n),
        scale=scale,
        bootstrap_n=f64(b.bootstrap_n),
    )
    # Returns-to-go that cancel to within rounding count as equal here and not in the loop.
    assert got.tolist() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("scale", ["std", "none"])
def test_turn_relative_of_single_turns_is_group_relative(scale):
    trajectory_t, group = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 0, 0])
    rewards, ones = f64([0, 1, 0.5, 0, 0, 0.25]), f64([1] * 6)
    got = turn_relative(rewards, ones, trajectory_t, torch.zeros(6).long(), group, scale=scale)
    wanted = group_relative(f64([1, 0.5, 0.25]), group, scale=scale)
    assert torch.equal(got, spread_over_tokens(wanted, trajectory_t))


def test_turn_relative_skips_a_turn_that_has_no_tokens():
    """A member whose turn 1 is missing but who played turn 2 has its return from turn 2 there."""
    trajectory_t, turn_t = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 2, 0, 1])
    got = turn_relative(
        f64([0, 4, 0, 2]), f64([1] * 4), trajectory_t, turn_t, torch.tensor([0, 0]), scale="none"
    )
    assert close(got, [1.0, 2.0, -1.0, -1.0])


def test_turn_relative_expected_gradient_is_n_minus_one_over_n_of_the_true_one():
    """Ending at once earns 1; going on costs 0.5 and then earns 0 or 3. Exact over all pairs."""
    theta = torch.tensor([0.3, -0.2, 0.1, 0.7], dtype=torch.float64, requires_grad=True)
    first, second = theta[:2].log_softmax(0), theta[2:].log_softmax(0)
    episodes = [
        ([first[0]], [1.0]),
        ([first[1], second[0]], [-0.5, 0.0]),
        ([first[1], second[1]], [-0.5, 3.0]),
    ]
    surrogate, value = theta.new_zeros(()), theta.new_zeros(())
    for steps, rewards in episodes:
        value = value + torch.stack(steps).sum().exp() * sum(rewards)
    for pair in itertools.product(episodes, repeat=2):
        logprobs = torch.stack([step for steps, _ in pair for step in steps])
        trajectory_t = torch.tensor([i for i, (steps, _) in enumerate(pair) for _ in steps])
        turn_t = torch.tensor([k for steps, _ in pair for k in range(len(steps))])
        rewards = f64([reward for _, rewards in pair for reward in rewards])
        ones, group = torch.ones_like(rewards), torch.zeros(2, dtype=torch.long)
        advantages = turn_relative(rewards, ones, trajectory_t, turn_t, group, scale="none")
        probability = logprobs.sum().exp().detach()
        surrogate = surrogate + probability * (advantages * logprobs).sum() / 2
    (estimated,) = torch.autograd.grad(surrogate, theta, retain_graph=True)
    (true,) = torch.autograd.grad(value, theta)
    assert close(estimated, (true / 2).tolist())


def test_turn_relative_of_nothing_is_nothing():
    empty, index = f64([]), torch.zeros(0, dtype=torch.long)
    assert turn_relative(empty, empty, index, index, torch.tensor([0])).shape == (0,)


def test_spread_is_found_group_by_group():
    got = has_spread(f64([1.0, 1.0, 0.0, 1.0]), torch.tensor([0, 0, 1, 1]))
    assert got.tolist() == [False, False, True, True]


def test_overlong_penalty_follows_the_published_ramp():
    lengths = torch.tensor([1, 12, 13, 14, 16, 17])
    got = overlong_penalty(lengths, limit=16, buffer=4)
    assert got.tolist() == [0.0, 0.0, -0.25, -0.5, -1.0, -1.0]


def test_overlong_penalty_without_a_buffer_is_off():
    assert overlong_penalty(torch.tensor([99]), limit=16, buffer=0).tolist() == [0.0]
