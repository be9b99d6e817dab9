"""Losses of preferences and rewards against loops over plain floats: values and gradients."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch

from agent_rl.algorithms import (
    AlgorithmError,
    bradley_terry,
    dpo,
    ipo,
    kto,
    kto_reference_point,
    normalized_dpo,
    orpo,
    outcome,
    process,
    ranking,
    robust_dpo,
    simpo,
)

B = 5
RNG = random.Random(0)
CHOSEN = [RNG.uniform(-30, -2) for _ in range(B)]
REJECTED = [RNG.uniform(-30, -2) for _ in range(B)]
N, M = [3, 9, 14, 1, 20], [7, 2, 14, 5, 30]
RATIOS = [RNG.uniform(-8, 8) for _ in range(B)], [RNG.uniform(-8, 8) for _ in range(B)]
REWARDS = [RNG.uniform(-3, 3) for _ in range(7)]
MARGINS = [0.0, 1.0, 0.3, 2.0, -0.5]
LABELS = [True, False, False, True, True]
SOFT = [1.0, 0.0, 0.25, 1.0, 0.0, 1.0, 0.0]


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def sigma(x):
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def cross_entropy(x, y):
    return -y * math.log(sigma(x)) - (1 - y) * math.log(sigma(-x))


def loop_dpo(w, v, beta=0.1, e=0.0):
    return [
        -(1 - e) * math.log(sigma(beta * (a - b))) - e * math.log(sigma(beta * (b - a)))
        for a, b in zip(w, v, strict=True)
    ]


def loop_robust(w, v, beta, e):
    return [
        ((1 - e) * -math.log(sigma(beta * (a - b))) - e * -math.log(sigma(beta * (b - a))))
        / (1 - 2 * e)
        for a, b in zip(w, v, strict=True)
    ]


def each(values, counts):
    return [x / n for x, n in zip(values, counts, strict=True)]


def loop_ipo(w, v, beta):
    both = zip(each(w, N), each(v, M), strict=True)
    return [(a - b - 1 / (2 * beta)) ** 2 for a, b in both]


def loop_kto(r, _, beta, z, wd, wu):
    return [
        wd * (1 - sigma(beta * (x - z))) if good else wu * (1 - sigma(beta * (z - x)))
        for x, good in zip(r, LABELS, strict=True)
    ]


def loop_orpo(w, v, beta):
    out = []
    for a, b in zip(each(w, N), each(v, M), strict=True):
        odds = [math.exp(x) / (1 - math.exp(x)) for x in (a, b)]
        out.append(-a - beta * math.log(sigma(math.log(odds[0] / odds[1]))))
    return out


def loop_simpo(w, v, beta, gamma):
    both = zip(each(w, N), each(v, M), strict=True)
    return [-math.log(sigma(beta * (a - b) - gamma)) for a, b in both]


def loop_bradley_terry(w, v, centring):
    rows = zip(w, v, MARGINS, strict=True)
    return [-math.log(sigma(a - b - m)) + centring * (a + b) ** 2 for a, b, m in rows]


SUMS = (CHOSEN, REJECTED)
CASES = {
    "dpo": (lambda w, v: dpo(w, v, beta=0.3), lambda w, v: loop_dpo(w, v, 0.3), RATIOS),
    "cdpo": (
        lambda w, v: dpo(w, v, beta=0.3, label_smoothing=0.2),
        lambda w, v: loop_dpo(w, v, 0.3, 0.2),
        RATIOS,
    ),
    "robust": (
        lambda w, v: robust_dpo(w, v, beta=0.3, label_smoothing=0.2),
        lambda w, v: loop_robust(w, v, 0.3, 0.2),
        RATIOS,
    ),
    "normalized": (
        lambda w, v: normalized_dpo(w, v, f64(N), f64(M), beta=5.0, label_smoothing=0.1),
        lambda w, v: loop_dpo(each(w, N), each(v, M), 5.0, 0.1),
        RATIOS,
    ),
    "ipo": (
        lambda w, v: ipo(w, v, f64(N), f64(M), beta=0.2),
        lambda w, v: loop_ipo(w, v, 0.2),
        RATIOS,
    ),
    "kto": (
        lambda w, v: kto(
            w,
            torch.tensor(LABELS),
            0.7,
            beta=0.3,
            desirable_weight=1.5,
            undesirable_weight=0.5,
        ),
        lambda w, v: loop_kto(w, v, 0.3, 0.7, 1.5, 0.5),
        RATIOS,
    ),
    "orpo": (
        lambda w, v: orpo(w, v, f64(N), f64(M), beta=0.4),
        lambda w, v: loop_orpo(w, v, 0.4),
        SUMS,
    ),
    "simpo": (
        lambda w, v: simpo(w, v, f64(N), f64(M), beta=2.5, gamma=0.8),
        lambda w, v: loop_simpo(w, v, 2.5, 0.8),
        SUMS,
    ),
    "bradley_terry": (
        lambda w, v: bradley_terry(w, v, margin_b=f64(MARGINS), centring=0.01),
        lambda w, v: loop_bradley_terry(w, v, 0.01),
        RATIOS,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_loss_is_that_of_a_loop_and_so_is_its_gradient(name):
    ours, loop, (first, second) = CASES[name]
    w, v = f64(first).requires_grad_(), f64(second).requires_grad_()
    got = ours(w, v)
    assert got.tolist() == pytest.approx(loop(first, second), abs=1e-6)
    got.sum().backward()
    for tensor, place in ((w, 0), (v, 1)):
        gradient = torch.zeros(B) if tensor.grad is None else tensor.grad
        assert gradient.tolist() == pytest.approx(slopes(loop, [first, second], place), abs=1e-6)


def slopes(loop, inputs, place, h=1e-5):
    """Central differences of the loop's sum."""
    out = []
    for index in range(len(inputs[place])):
        ends = []
        for sign in (1, -1):
            moved = [list(values) for values in inputs]
            moved[place][index] += sign * h
            ends.append(sum(loop(*moved)))
        out.append((ends[0] - ends[1]) / (2 * h))
    return out


def test_ranking_is_a_mean_over_the_ordered_pairs_of_each_prompt():
    prompts, ranks = [0, 0, 0, 2, 2, 0, 1], [2, 1, 3, 1, 1, 3, 1]

    def loop(rewards):
        out = []
        for prompt in range(3):
            members = [i for i, p in enumerate(prompts) if p == prompt]
            pairs = [(i, j) for i, j in itertools.permutations(members, 2) if ranks[i] < ranks[j]]
            terms = [-math.log(sigma(rewards[i] - rewards[j])) for i, j in pairs]
            out.append(sum(terms) / max(1, len(terms)))
        return out

    rewards = f64(REWARDS).requires_grad_()
    got = ranking(rewards, torch.tensor(ranks), torch.tensor(prompts))
    assert got.tolist() == pytest.approx(loop(REWARDS), abs=1e-6)
    assert got[1:].tolist() == [0, 0]  # one answer, and a tie
    got.sum().backward()
    assert rewards.grad.tolist() == pytest.approx(slopes(loop, [REWARDS], 0), abs=1e-6)


def test_ranking_of_two_is_bradley_terry():
    w, v = f64(RATIOS[0]), f64(RATIOS[1])
    prompts = torch.arange(B).repeat(2)
    got = ranking(torch.cat([w, v]), torch.tensor([1] * B + [2] * B), prompts)
    torch.testing.assert_close(got, bradley_terry(w, v))


def test_outcome_and_process_are_cross_entropies():
    loop = [cross_entropy(x, y) for x, y in zip(REWARDS, SOFT, strict=True)]
    logits = f64(REWARDS).requires_grad_()
    assert outcome(logits, f64(SOFT)).tolist() == pytest.approx(loop, abs=1e-6)
    solution = [0, 0, 0, 1, 3, 3, 1]
    means = [
        sum(x for x, s in zip(loop, solution, strict=True) if s == n) / max(1, solution.count(n))
        for n in range(4)
    ]
    got = process(logits, f64(SOFT), torch.tensor(solution))
    assert got.tolist() == pytest.approx(means, abs=1e-6)
    got.sum().backward()
    wanted = [
        (sigma(x) - y) / solution.count(n) for x, y, n in zip(REWARDS, SOFT, solution, strict=True)
    ]
    assert logits.grad.tolist() == pytest.approx(wanted, abs=1e-6)


def test_where_the_policy_is_the_reference_the_loss_is_log_2():
    zero, n = torch.zeros(2), torch.tensor([3.0, 8.0])
    for made in (dpo(zero, zero), normalized_dpo(zero, zero, n, n), dpo(zero, zero, beta=9.0)):
        assert made.tolist() == pytest.approx([math.log(2)] * 2)
    assert ipo(zero, zero, n, n, beta=0.1).tolist() == pytest.approx([25.0] * 2)
    assert kto(zero, torch.tensor([True, False]), 0.0).tolist() == [0.5, 0.5]


def test_robust_dpo_expects_the_clean_loss_under_flipped_labels():
    w, v = f64(RATIOS[0]), f64(RATIOS[1])
    kept, flipped = (robust_dpo(a, b, label_smoothing=0.3) for a, b in ((w, v), (v, w)))
    torch.testing.assert_close(0.7 * kept + 0.3 * flipped, dpo(w, v))


def test_repeating_every_token_changes_no_loss_that_is_per_token():
    w, v, n, m = f64(CHOSEN), f64(REJECTED), f64(N), f64(M)
    for loss in (ipo, normalized_dpo, orpo, simpo):
        torch.testing.assert_close(loss(2 * w, v * 2, 2 * n, 2 * m), loss(w, v, n, m))


def test_the_reference_point_is_a_constant_of_at_least_0():
    ratios = torch.tensor([3.0, -1.0], requires_grad=True)
    point = kto_reference_point(ratios)
    assert point == 1.0
    assert not point.requires_grad
    assert kto_reference_point(-ratios) == 0.0


def test_extreme_likelihoods_give_finite_losses_and_gradients():
    sure = torch.tensor([0.0, -1e-9, -1e4], requires_grad=True)
    never = torch.tensor([-1e4, 0.0, -1e-9], requires_grad=True)
    one = torch.ones(3)
    for loss in (orpo(sure, never, one, one), dpo(sure, never), simpo(sure, never, one, one)):
        gradients = torch.autograd.grad(loss.sum(), [sure, never])
        assert all(torch.isfinite(x).all() for x in (loss, *gradients))


def test_what_has_no_meaning_is_refused():
    zero = torch.zeros(1)
    with pytest.raises(AlgorithmError, match="label_smoothing is"):
        dpo(zero, zero, label_smoothing=0.5)
    with pytest.raises(AlgorithmError, match="to below"):
        robust_dpo(zero, zero, label_smoothing=-0.1)
    for bad in (2.0, float("nan")):
        with pytest.raises(AlgorithmError, match="labels must be from 0"):
            outcome(zero, torch.tensor([bad]))
