"""Losses of batches, and the figures of the final report."""

from __future__ import annotations

import math

import pytest
import torch

from agent_rl.algorithms import reward_losses
from agent_rl.config import ModelConfig, TinyModel
from agent_rl.reward_models import from_policy
from agent_rl.reward_models.data import Item, batch_order, encode
from agent_rl.reward_models.objective import Objective, backward, chunks, read
from agent_rl.reward_models.report import (
    Verdict,
    calibration_error,
    figures,
    length_baseline,
    tables,
    verdicts,
)

TINY = TinyModel(hidden_size=16, layers=1, heads=2, intermediate_size=16, context=64)
ASKED = ({"role": "user", "content": "ab"},)
OTHER = ({"role": "user", "content": "c" * 30},)
PAIRS = [
    Item(ASKED, ("a", "bcd"), ((0, 1),), (0.5,)),
    Item(OTHER, ("e" * 9, "f"), ((1, 0),), (2.0,)),
    Item(ASKED, ("xyz", "z"), ((0, 1),), (0.0,)),
]
RANKED = [
    Item(ASKED, ("a", "b", "cc"), ((2, 0), (2, 1), (0, 1)), (0.0,) * 3),
    Item(OTHER, ("d", "e"), ((0, 1),), (0.0,)),
]


@pytest.fixture
def model():
    return from_policy(ModelConfig(tiny=TINY), 0)


def encoded(model, items, kind="bradley_terry"):
    return [encode(item, kind, model.chat, max_tokens=64) for item in items]


def test_the_gradient_is_that_of_the_whole_batch_whatever_the_micro_batches(model):
    batch = encoded(model, PAIRS)
    assert len(list(chunks(batch, 40))) == 2
    gradients = []
    for micro_tokens in (1, 40, 10_000):
        model.network.zero_grad()
        backward(model, Objective("bradley_terry", True, 0.1), batch, micro_tokens)
        gradients.append([p.grad.clone() for p in model.network.parameters()])
    for cut in gradients[:2]:
        for one, whole in zip(cut, gradients[2], strict=True):
            torch.testing.assert_close(one, whole, atol=1e-6, rtol=1e-5)


def test_pairs_lose_what_bradley_and_terry_say(model):
    said = read(model, Objective("bradley_terry", True, 0.1), encoded(model, PAIRS), 40)
    for item, loss, (first, second) in zip(PAIRS, said.losses, said.outputs, strict=True):
        ((better, _),) = item.pairs
        gap = (first - second) * (1 if better == 0 else -1) - item.margins[0]
        wanted = math.log1p(math.exp(-gap)) + 0.1 * (first + second) ** 2
        assert loss == pytest.approx(wanted, abs=1e-5)


def test_a_ranking_weighs_as_instructgpt_does(model):
    examples = encoded(model, RANKED, "ranking")
    said = read(model, Objective("ranking"), examples, 10_000)
    flat = torch.tensor([x for outputs in said.outputs for x in outputs])
    ranks = torch.tensor([2.0, 3.0, 1.0, 1.0, 2.0])
    wanted = reward_losses.ranking(flat, ranks, torch.tensor([0, 0, 0, 1, 1]))
    assert said.losses == pytest.approx(wanted.tolist(), abs=1e-6)
    assert [len(e.segments) for e in examples] == [3, 2]  # each answer once


def test_every_item_comes_once_in_a_pass_and_members_see_another_order():
    passes = [[batch_order(7, seed, 3, step) for step in range(6)] for seed in (0, 1)]
    for batches in passes:
        assert [len(b) for b in batches] == [3, 3, 1, 3, 3, 1]
        for three in (batches[:3], batches[3:]):
            assert sorted(i for batch in three for i in batch) == list(range(7))
        assert batches[:3] != batches[3:]
    assert passes[0] != passes[1]


def test_calibration_is_the_gap_between_confidence_and_truth():
    confidence = [0.51, 0.54, 0.97, 0.96]  # two bins: .525 against .5, .965 against 1
    assert calibration_error(confidence, [1.0, 0.0, 1.0, 1.0], 0.5) == pytest.approx(
        0.5 * 0.025 + 0.5 * 0.035
    )


def test_the_length_rule_is_chosen_on_training_pairs():
    train = [PAIRS[0], PAIRS[1]]  # both times the shorter answer was preferred
    name, credit = length_baseline(train)
    seen = [Verdict(1.0, (1, 5)), Verdict(1.0, (5, 1)), Verdict(1.0, (3, 3))]
    assert (name, [credit(v) for v in seen]) == ("shorter wins", [1.0, 0.0, 0.5])


def test_the_report_counts_by_hand():
    items = [
        Item(ASKED, ("aaaa", "b"), ((0, 1),), (0.0,), categories=("x",)),
        Item(ASKED, ("a", "bbbb"), ((0, 1),), (0.0,), categories=("y",)),
        Item(ASKED, ("aa", "bb"), ((1, 0),), (0.0,), categories=("y",)),
        Item(ASKED, ("c", "d"), ((0, 1),), (0.0,), categories=("y",)),
    ]
    seen = verdicts(items, [[2.5, 0.0], [0.0, 0.4], [0.0, 0.3], [1.0, 1.0]])
    assert [v.gap for v in seen] == [2.5, -0.4, 0.3, 0.0]
    found = figures(items, seen)
    assert (found["accuracy"], found["held_out"], found["mean_margin"]) == (0.625, 4, 0.6)
    shown = tables(found, seen)
    assert [(r["category"], r["accuracy"], r["n"]) for r in shown["Accuracy by category"]] == [
        ("x", 1.0, 1),
        ("y", 0.5, 3),
    ]
    by_margin = {r["margin"]: r["n"] for r in shown["Accuracy by size of the margin"]}
    assert by_margin == {"below 0.25": 1, "0.25 to 0.5": 2, "2 or more": 1}


def test_labels_are_judged_against_the_frequent_one():
    items = [Item(ASKED, ("a",), labels=(x,)) for x in (1.0, 1.0, 0.0)]
    seen = verdicts(items, [[2.0], [-1.0], [-3.0]])
    assert [v.gap for v in seen] == [2.0, -1.0, 3.0]
    found = figures(items, seen)
    assert (found["baseline"], found["baseline_accuracy"]) == ("always right", pytest.approx(2 / 3))
