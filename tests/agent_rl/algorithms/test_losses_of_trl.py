"""Our losses against TRL's own code, called on identical tensors; values and gradients.

TRL computes its losses inside methods of its trainers. They are called here unbound, on a stand-in
with the attributes that they read and a model that returns given log-probabilities.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from agent_rl import algorithms
from agent_rl.algorithms import Algorithm, preset

pytest.importorskip("trl")  # a dependency of the tests only

B, T, PROMPT = 4, 6, 2
LENGTHS = torch.tensor([4, 2, 1, 4, 3, 4, 2, 1])  # chosen, then rejected
generator = torch.Generator().manual_seed(0)
LOGPS = -3 * torch.rand(2 * B, T - 1, generator=generator)
REF = -3 * torch.rand(2 * B, T - 1, generator=generator)
COMPLETION = torch.arange(T)[None] < PROMPT + LENGTHS[:, None]
COMPLETION[:, :PROMPT] = False
MASK = COMPLETION[:, 1:]


def trainer_of(module, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(__import__(module, fromlist=[name]), name)


class Said(dict):
    """A model's outputs."""

    __getattr__ = dict.__getitem__


def said(logps):
    return Said(
        log_probs=logps,
        entropy=torch.zeros_like(logps),
        mean_logits=torch.zeros_like(logps),
        is_top1=torch.zeros_like(logps, dtype=torch.bool),
        logits=torch.zeros_like(logps)[..., None],
    )


def stand_in(**attributes):
    same = SimpleNamespace(
        device=torch.device("cpu"),
        num_processes=1,
        gather=lambda x: x,
        reduce=lambda x, reduction: x,
        sync_gradients=True,
        gather_for_metrics=lambda x: x,
    )
    metrics = defaultdict(lambda: defaultdict(list))
    shared = {"model": SimpleNamespace(training=True), "accelerator": same, "_metrics": metrics}
    return SimpleNamespace(
        **shared,
        _total_train_tokens=0,
        _tp_size=1,
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        **attributes,
    )


def ratios(logps):
    sums = ((logps - REF) * MASK).sum(1)
    return sums[:B], sums[B:]


def same(ours, theirs, variable):
    """Value and gradient."""
    got, wanted = (torch.autograd.grad(x, variable, retain_graph=True)[0] for x in (ours, theirs))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-6)
    assert got.abs().max() > 1e-5


def dpo_of_trl(logps, kind, beta, smoothing):
    trainer = stand_in(
        ld_alpha=None,
        loss_types=[kind],
        loss_weights=[1.0],
        beta=beta,
        label_smoothing=smoothing,
        f_divergence_type="reverse_kl",
        use_weighting=False,
    )
    sums = (REF * MASK).sum(1)
    inputs = {
        "input_ids": torch.ones(2 * B, T, dtype=torch.long),
        "attention_mask": torch.ones(2 * B, T, dtype=torch.long),
        "completion_mask": COMPLETION.long(),
        "ref_chosen_logps": sums[:B],
        "ref_rejected_logps": sums[B:],
    }
    model = lambda **_: said(logps * MASK)  # noqa: E731
    method = trainer_of("trl.trainer.dpo_trainer", "DPOTrainer")._compute_loss
    return method(trainer, model, inputs, False)


N, M = LENGTHS[:B].float(), LENGTHS[B:].float()
PAIRS = {
    "sigmoid": lambda w, v: algorithms.dpo(w, v, beta=0.3),
    "robust": lambda w, v: algorithms.robust_dpo(w, v, beta=0.3, label_smoothing=0.2),
    "ipo": lambda w, v: algorithms.ipo(w, v, N, M, beta=0.3),
    "sigmoid_norm": lambda w, v: algorithms.normalized_dpo(w, v, N, M, beta=0.3),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_dpo_and_its_kin_are_those_of_trl(kind):
    logps = LOGPS.clone().requires_grad_()
    theirs = dpo_of_trl(logps, kind, 0.3, 0.2)
    same(PAIRS[kind](*ratios(logps)).mean(), theirs, logps)


def test_conservative_dpo_is_that_of_trl_for_one_pair_at_a_time():
    method = trainer_of("trl.experimental.cpo.cpo_trainer", "CPOTrainer").cpo_loss
    trainer = stand_in(alpha=0.0, loss_type="sigmoid", beta=0.3, label_smoothing=0.2)
    logps = LOGPS.clone().requires_grad_()
    w, v = ratios(logps)
    theirs = method(trainer, w, v)[0].mean()
    same(algorithms.dpo(w, v, beta=0.3, label_smoothing=0.2).mean(), theirs, logps)


def test_simpo_is_that_of_trl():
    method = trainer_of("trl.experimental.cpo.cpo_trainer", "CPOTrainer").cpo_loss
    trainer = stand_in(alpha=0.0, loss_type="simpo", beta=2.5, label_smoothing=0, simpo_gamma=0.8)
    logps = LOGPS.clone().requires_grad_()
    w, v = (logps * MASK).sum(1).split(B)
    theirs = method(trainer, w / N, v / M)[0].mean()
    same(algorithms.simpo(w, v, N, M, beta=2.5, gamma=0.8).mean(), theirs, logps)


def test_orpo_is_that_of_trl():
    method = trainer_of("trl.experimental.orpo.orpo_trainer", "ORPOTrainer").odds_ratio_loss
    logps = LOGPS.clone().requires_grad_()
    w, v = (logps * MASK).sum(1).split(B)
    ratio = method(stand_in(beta=0.4), w / N, v / M)[0]  # to be subtracted from the likelihood's
    theirs = -(w / N).mean() - ratio.mean()
    same(algorithms.orpo(w, v, N, M, beta=0.4).mean(), theirs, logps)


def test_kto_is_that_of_trl():
    labels = torch.tensor([True, False, True, True, False, True, False, False])
    shifted, shifted_ref = LOGPS.roll(1, 0) + 0.7, REF.roll(1, 0)
    trainer = stand_in(
        calculate_KL=True,
        loss_type="kto",
        beta=0.3,
        desirable_weight=1.5,
        undesirable_weight=0.5,
        _compute_kl_logps=lambda *_: (shifted * MASK).sum(1),
    )
    inputs = {
        "input_ids": torch.ones(2 * B, T, dtype=torch.long),
        "attention_mask": torch.ones(2 * B, T, dtype=torch.long),
        "completion_mask": COMPLETION.long(),
        "label": labels,
        "ref_logps": (REF * MASK).sum(1),
        "ref_KL_logps": (shifted_ref * MASK).sum(1),
    }
    logps = LOGPS.clone().requires_grad_()
    method = trainer_of("trl.trainer.kto_trainer", "KTOTrainer")._compute_loss
    theirs = method(trainer, lambda **_: said(logps * MASK), inputs, False)
    point = algorithms.kto_reference_point(((shifted - shifted_ref) * MASK).sum(1))
    assert point > 0.1
    ratio = torch.cat(ratios(logps))
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.5}
    same(algorithms.kto(ratio, labels, point, beta=0.3, **weights).mean(), theirs, logps)


@pytest.mark.parametrize("margin", [None, torch.tensor([0.0, 1.0, 0.3, -0.5])])
@pytest.mark.parametrize("centring", [0.0, 0.05])
def test_the_reward_loss_is_that_of_trl(margin, centring):
    rewards = torch.randn(2 * B, generator=torch.Generator().manual_seed(1)).requires_grad_()
    trainer = stand_in(args=SimpleNamespace(center_rewards_coefficient=centring or None))
    inputs = {"attention_mask": torch.ones(2 * B, T)}
    inputs |= {} if margin is None else {"margin": margin}
    method = trainer_of("trl.trainer.reward_trainer", "RewardTrainer").compute_loss
    theirs = method(trainer, lambda **_: Said(logits=rewards[:, None]), inputs)
    w, v = rewards.split(B)
    ours = algorithms.bradley_terry(w, v, margin_b=margin, centring=centring).mean()
    same(ours, theirs, rewards)


MAX_LENGTH = 10
WIDTH = int(LENGTHS.max())
GRPO = {  # ours, and what makes TRL's the same
    "grpo": (preset("grpo"), {"loss_type": "grpo"}),
    "dual clip": (preset("grpo", dual_clip=1.6), {"delta": 1.6}),
    "gspo": (
        preset("gspo", clip_low=0.1, clip_high=0.15),
        {"importance_sampling_level": "sequence"},
    ),
    "dapo": (preset("dapo", overlong_buffer=0, dynamic_sampling=False), {"loss_type": "dapo"}),
    "token": (preset("grpo", aggregation="token"), {"loss_type": "bnpo"}),
    "dr_grpo": (preset("dr_grpo"), {"loss_type": "dr_grpo"}),
    "sum": (
        preset("grpo", aggregation="sequence_sum"),
        {"loss_type": "luspo"},
    ),
    "cispo": (preset("cispo", clip_high=0.3), {"loss_type": "cispo"}),
}


def grpo_of_trl(algorithm: Algorithm, logps, old, advantages, beta, changes):
    high = algorithm.clip_high + (1 if algorithm.clip == "cispo" else 0)
    settings = {"delta": None, "use_bias_correction_kl": False, "steps_per_generation": 1}
    settings |= {name: value for name, value in changes.items() if name in settings}
    attributes = {
        "loss_type": "grpo",
        "importance_sampling_level": "token",
        "epsilon_low": algorithm.clip_low,
        "epsilon_high": high,
        "beta": beta,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "use_vllm": False,
        "max_completion_length": MAX_LENGTH,
        "current_gradient_accumulation_steps": 1,
        "_entropy_bonus_enabled": False,
        "_get_per_token_logps_and_entropies": lambda *_, **__: (
            logps,
            torch.zeros_like(logps),
            None,
        ),
    }
    attributes |= {name: value for name, value in changes.items() if name in attributes}
    trainer = stand_in(args=SimpleNamespace(**settings), **attributes)
    ones = torch.ones(2 * B, WIDTH, dtype=torch.long)
    inputs = {
        "prompt_ids": ones,
        "prompt_mask": ones,
        "completion_ids": ones,
        "completion_mask": COUNTED.long(),
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": REF[:, :WIDTH],
        "num_items_in_batch": COUNTED.sum(),
    }
    method = trainer_of("trl.trainer.grpo_trainer", "GRPOTrainer")._compute_loss
    return method(trainer, None, inputs)


COUNTED = torch.arange(WIDTH)[None] < LENGTHS[:, None]


def grpo_of_ours(algorithm, logps, old, advantages, beta):
    trajectory_t = torch.arange(2 * B)[:, None].expand(-1, WIDTH)[COUNTED]
    flat_t = logps[COUNTED]
    losses_t, _ = algorithms.policy_loss(
        algorithm, flat_t, old[COUNTED], advantages[trajectory_t], trajectory_t
    )
    if beta:
        losses_t = losses_t + beta * algorithms.loss_penalty("k3", flat_t - REF[:, :WIDTH][COUNTED])
    constant = float(MAX_LENGTH) if algorithm.aggregation == "constant" else None
    groups = torch.arange(2 * B) // 4
    weights_t = algorithms.token_weights(
        algorithm.aggregation, trajectory_t, groups, constant=constant
    )
    return (weights_t * losses_t).sum()


@pytest.mark.parametrize("beta", [0.0, 0.2])
@pytest.mark.parametrize("name", GRPO)
def test_grpo_and_its_kin_are_those_of_trl(name, beta):
    algorithm, changes = GRPO[name]
    logps = LOGPS[:, :WIDTH].clone().requires_grad_()
    drawn = torch.Generator().manual_seed(2)
    old = LOGPS[:, :WIDTH] + 0.6 * torch.randn(2 * B, WIDTH, generator=drawn)  # many are clipped
    advantages = torch.randn(2 * B, generator=drawn)
    theirs = grpo_of_trl(algorithm, logps, old, advantages, beta, changes)
    ours = grpo_of_ours(algorithm, logps, old, advantages, beta)
    same(ours, theirs, logps)
