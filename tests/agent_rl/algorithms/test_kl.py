"""KL estimators: values, what each option descends by exact expectation, the controllers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agent_rl.algorithms import (
    DESCENT,
    AdaptiveKL,
    AlgorithmError,
    FixedKL,
    estimates,
    exact,
    k1,
    k2,
    k3,
    loss_penalty,
    penalised_rewards,
    returns_to_go,
)

LOGITS = [0.3, -1.2, 0.8, 0.1, -0.4]
REF = [-0.5, 0.9, 0.2, -1.0, 0.6]
OLD = [0.1, -0.3, 0.2, 0.5, -0.9]


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def policy(values=LOGITS):
    theta = f64(values).requires_grad_()
    return theta, theta.log_softmax(0)


def naive_kl(p_logits, q_logits):
    def probabilities(logits):
        weights = [math.exp(x) for x in logits]
        return [w / sum(weights) for w in weights]

    pairs = zip(probabilities(p_logits), probabilities(q_logits), strict=True)
    return sum(p * math.log(p / q) for p, q in pairs)


def grad(value, theta):
    return torch.autograd.grad(value, theta, retain_graph=True)[0]


def reverse_gradient():
    theta, logp = policy()
    return grad((logp.exp() * (logp - f64(REF).log_softmax(0))).sum(), theta)


def forward_gradient():
    theta, logp = policy()
    ref = f64(REF).log_softmax(0)
    return grad((ref.exp() * (ref - logp)).sum(), theta)


@given(st.lists(st.floats(-20, 20), max_size=8))
def test_estimators_equal_their_formulas(d):
    tensor = f64(d)
    assert k1(tensor).tolist() == d
    assert k2(tensor).tolist() == pytest.approx([x * x / 2 for x in d])
    assert k3(tensor).tolist() == pytest.approx([math.expm1(-x) + x for x in d], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("estimator", [k1, k3])
def test_k1_and_k3_are_unbiased_with_the_right_sign(estimator):
    _, logp = policy()
    d = logp - f64(REF).log_softmax(0)
    got = (logp.exp() * estimator(d)).sum().item()
    assert got == pytest.approx(naive_kl(LOGITS, REF))
    assert got > 0


def test_exact_equals_the_sum_over_the_vocabulary():
    got = exact(f64([LOGITS, REF]).log_softmax(-1), f64([REF, REF]).log_softmax(-1))
    assert got.tolist() == pytest.approx([naive_kl(LOGITS, REF), 0.0], abs=1e-12)


def test_exact_with_forbidden_tokens_is_finite_with_a_finite_gradient():
    logits = f64([[0.0, 1.0, -math.inf]]).requires_grad_()
    got = exact(logits.log_softmax(-1), f64([[0.5, 0.0, -math.inf]]).log_softmax(-1))
    got.sum().backward()
    assert got.item() == pytest.approx(naive_kl([0.0, 1.0], [0.5, 0.0]))
    assert logits.grad.isfinite().all()


def test_exact_is_infinite_where_only_the_reference_forbids():
    got = exact(f64([[0.0, 0.0]]).log_softmax(-1), f64([[0.0, -math.inf]]).log_softmax(-1))
    assert got.item() == math.inf


def expected_loss_gradient(estimator):
    theta, logp = policy()
    d = logp - f64(REF).log_softmax(0)
    return grad((logp.exp().detach() * estimator(d)).sum(), theta)


def test_k1_in_the_loss_descends_nothing():
    assert expected_loss_gradient(k1).abs().max().item() == pytest.approx(0, abs=1e-12)


def test_k2_in_the_loss_descends_reverse_kl():
    assert torch.allclose(expected_loss_gradient(k2), reverse_gradient())


def test_k3_in_the_loss_descends_forward_kl():
    assert torch.allclose(expected_loss_gradient(k3), forward_gradient())
    assert not torch.allclose(expected_loss_gradient(k3), reverse_gradient(), atol=0.05)


def test_exact_in_the_loss_descends_reverse_kl():
    theta, logp = policy()
    got = grad(exact(logp[None], f64(REF).log_softmax(0)[None]).sum(), theta)
    assert torch.allclose(got, reverse_gradient())


@pytest.mark.parametrize(
    ("estimator", "wanted"), [("k2", reverse_gradient), ("k3", forward_gradient)]
)
def test_off_policy_the_ratio_restores_the_gradient(estimator, wanted):
    theta, logp = policy()
    old = f64(OLD).log_softmax(0)
    d = logp - f64(REF).log_softmax(0)
    weighted = loss_penalty(estimator, d, (logp - old).exp())
    unweighted = loss_penalty(estimator, d)
    assert torch.allclose(grad((old.exp() * weighted).sum(), theta), wanted())
    assert not torch.allclose(grad((old.exp() * unweighted).sum(), theta), wanted(), atol=0.01)


def test_k1_in_the_reward_descends_reverse_kl_of_whole_trajectories():
    """Two tokens, the second state depends on the first: exact over all four trajectories."""
    theta = f64([0.3, -0.2, 0.5, 0.1, -0.7, 0.4]).requires_grad_()
    first, second = theta[:2].log_softmax(0), theta[2:].reshape(2, 2).log_softmax(-1)
    ref_first, ref_second = (
        f64([-0.5, 0.2]).log_softmax(0),
        f64([[0.9, 0], [0, 0.3]]).log_softmax(1),
    )
    surrogate, divergence = theta.new_zeros(()), theta.new_zeros(())
    for a, b in itertools.product(range(2), repeat=2):
        logp = torch.stack([first[a], second[a, b]])
        d = logp - torch.stack([ref_first[a], ref_second[a, b]])
        probability = logp.sum().exp()
        divergence = divergence + probability * d.sum()
        rewards = penalised_rewards(f64([0, 0]), d, 1.0)
        returns = returns_to_go(rewards, f64([1, 1]), torch.tensor([0, 0]))
        surrogate = surrogate - probability.detach() * (returns * logp).sum()
    assert torch.allclose(grad(surrogate, theta), grad(divergence, theta))


@pytest.mark.parametrize("estimator", [k2, k3])
def test_k2_and_k3_in_the_reward_do_not_descend_reverse_kl(estimator):
    theta, logp = policy()
    penalty = estimator(logp - f64(REF).log_softmax(0)).detach()
    got = grad((logp.exp().detach() * penalty * logp).sum(), theta)
    assert not torch.allclose(got, reverse_gradient(), atol=0.05)


@pytest.mark.parametrize("estimator", ["k1", "exact", "k4"])
def test_loss_penalty_takes_only_sampled_estimators_that_descend(estimator):
    with pytest.raises(AlgorithmError, match=f"kl estimator '?{estimator}"):
        loss_penalty(estimator, f64([0.1]))


def test_every_place_and_estimator_is_documented():
    assert set(DESCENT) == set(itertools.product(["reward", "loss"], ["k1", "k2", "k3", "exact"]))


def test_the_reward_penalty_is_per_token_and_constant():
    d = f64([0.5, -0.25, 1.0]).requires_grad_()
    got = penalised_rewards(f64([0, 0, 1]), d, 0.1)
    assert got.tolist() == pytest.approx([-0.05, 0.025, 0.9])
    assert not got.requires_grad
    returns = returns_to_go(got, f64([1, 1, 1]), torch.tensor([0, 0, 0]))
    assert returns.tolist() == pytest.approx([0.875, 0.925, 0.9])


def test_a_longer_answer_pays_for_every_token():
    for length in (1, 10, 100):
        d = torch.full((length,), 0.01, dtype=torch.float64)
        assert penalised_rewards(d * 0, d, 1.0).sum().item() == pytest.approx(-0.01 * length)


@pytest.mark.parametrize("logits", [[50.0, -50.0], [-50.0, 50.0]])
def test_k3_of_extreme_logits_is_finite_in_float32_with_a_gradient(logits):
    theta = torch.tensor(logits, requires_grad=True)
    loss = k3(theta.log_softmax(0) - torch.tensor([0.0, 0.0]).log_softmax(0))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert theta.grad.isfinite().all()
    assert theta.grad.ne(0).all()


@pytest.mark.parametrize("d", [-75.0, -10.0, -1e-3, 1e-3, 10.0, 75.0])
def test_k3_in_float32_is_that_of_float64(d):
    got = k3(torch.tensor([d]))
    assert got.item() == pytest.approx(k3(f64([d])).item(), rel=1e-3)


def test_estimates_are_means_over_tokens():
    got = estimates(f64([1.0, -1.0]).requires_grad_())
    assert got["kl_k1"].item() == 0.0
    assert got["kl_k2"].item() == pytest.approx(0.5)
    assert got["kl_k3"].item() == pytest.approx(math.cosh(1) - 1)
    assert estimates(f64([]))["kl_k3"].item() == 0.0


def test_a_fixed_coefficient_stays():
    controller = FixedKL(0.1)
    controller.update(5.0, 64)
    assert controller.coef == 0.1


@pytest.mark.parametrize(
    ("kl", "factor"),
    [(6.0, 1.0), (6.6, 1 + 0.1 * 0.01), (100.0, 1 + 0.2 * 0.01), (0.0, 1 - 0.2 * 0.01)],
)
def test_the_adaptive_coefficient_follows_the_published_rule(kl, factor):
    controller = AdaptiveKL(0.2, target=6.0, horizon=10_000)
    controller.update(kl, 100)
    assert controller.coef == pytest.approx(0.2 * factor)


def test_the_adaptive_coefficient_settles_at_the_target():
    """A policy whose KL is 1 / coef: the target 6 is met at coef 1/6."""
    controller = AdaptiveKL(1.0, target=6.0, horizon=100)
    for _ in range(200):
        controller.update(1 / controller.coef, 50)
    assert controller.coef == pytest.approx(1 / 6, rel=1e-3)


def test_a_controller_resumes_where_it_stopped():
    first, second = (AdaptiveKL(0.2, target=6.0, horizon=100) for _ in range(2))
    first.update(20.0, 10)
    second.load_state_dict(first.state_dict())
    assert second.coef == first.coef != 0.2


@pytest.mark.parametrize(("kl", "n"), [(math.nan, 1), (math.inf, 1), (1.0, 50)])
def test_the_adaptive_coefficient_never_turns_nan_or_negative(kl, n):
    with pytest.raises(AlgorithmError):
        AdaptiveKL(0.2, target=6.0, horizon=10).update(kl, n)


@pytest.mark.parametrize("bad", [(0.0, 6.0, 10), (0.1, 0.0, 10), (0.1, 6.0, 0)])
def test_an_adaptive_coefficient_needs_positive_numbers(bad):
    with pytest.raises(AlgorithmError, match="positive"):
        AdaptiveKL(*bad)
