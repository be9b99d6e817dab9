"""Direct alignment: preference losses on the policy's own log-probabilities, one per pair.

Sums are over a completion's tokens, never the prompt's. ``chosen_b`` and ``rejected_b`` are sums of
``log pi``, ``[B]``; a ``ratio`` is such a sum minus the reference's, ``log pi / pi_ref``; ``n_*``
are numbers of completion tokens, ``[B]``. Each loss is ``[B]``, to be minimized; the mean over the
WHOLE optimizer batch is the caller's, so no cut into micro-batches changes a gradient.

At the start, where the policy is the reference, all ratios are 0: :func:`dpo` and its kin are
``log 2`` and :func:`ipo` is ``1 / (2 beta)^2``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from agent_rl.algorithms.layout import AlgorithmError


def dpo(
    chosen_ratio_b: Tensor,
    rejected_ratio_b: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Tensor:
    """``-(1 - e) log sigmoid(beta d) - e log sigmoid(-beta d)``, d the difference of the ratios.

    DPO (Rafailov et al. 2023, arXiv:2305.18290, equation 7); e > 0 is conservative DPO (cDPO,
    section 3 of the same authors' note of 2023): labels are wrong with probability e.

    Args:
        chosen_ratio_b: ``[B]``.
        rejected_ratio_b: ``[B]``.
        beta: Strength of the pull to the reference.
        label_smoothing: e, from 0 to below 0.5.

    Raises:
        AlgorithmError: A smoothing outside that range.
    """
    _check_smoothing(label_smoothing)
    delta_b = beta * (chosen_ratio_b - rejected_ratio_b)
    loss_b = -(1 - label_smoothing) * functional.logsigmoid(delta_b)
    return loss_b - label_smoothing * functional.logsigmoid(-delta_b) if label_smoothing else loss_b


def robust_dpo(
    chosen_ratio_b: Tensor,
    rejected_ratio_b: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.1,
) -> Tensor:
    """``(-(1 - e) log sigmoid(beta d) + e log sigmoid(-beta d)) / (1 - 2e)``.

    Robust DPO (Chowdhury et al. 2024, arXiv:2403.00409, equation 12): its expectation under labels
    flipped with probability e is the DPO loss of the clean ones.

    Raises:
        AlgorithmError: A smoothing that is not from 0 to below 0.5.
    """
    _check_smoothing(label_smoothing)
    delta_b = beta * (chosen_ratio_b - rejected_ratio_b)
    clean_b = -(1 - label_smoothing) * functional.logsigmoid(delta_b)
    flipped_b = -label_smoothing * functional.logsigmoid(-delta_b)
    return (clean_b - flipped_b) / (1 - 2 * label_smoothing)


def normalized_dpo(
    chosen_ratio_b: Tensor,
    rejected_ratio_b: Tensor,
    n_chosen_b: Tensor,
    n_rejected_b: Tensor,
    *,
    beta: float = 5.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """:func:`dpo` of the ratios per token: a longer answer has no larger implicit reward.

    Length-normalized DPO (Lambert et al. 2024, arXiv:2411.15124, equation 6; beta 5 is theirs).
    """
    return dpo(
        chosen_ratio_b / n_chosen_b,
        rejected_ratio_b / n_rejected_b,
        beta=beta,
        label_smoothing=label_smoothing,
    )


def ipo(
    chosen_ratio_b: Tensor,
    rejected_ratio_b: Tensor,
    n_chosen_b: Tensor,
    n_rejected_b: Tensor,
    *,
    beta: float = 0.1,
) -> Tensor:
    """``(d - 1 / (2 beta))^2``, d the difference of the ratios PER TOKEN.

    IPO (Azar et al. 2023, arXiv:2310.12036, equation 17, beta is its tau). The target is one
    number for all pairs, so sums would ask more of short answers (trap 37): the authors' own
    results divide by the lengths.
    """
    delta_b = chosen_ratio_b / n_chosen_b - rejected_ratio_b / n_rejected_b
    return (delta_b - 1 / (2 * beta)) ** 2


def kto_reference_point(mismatched_ratio_b: Tensor) -> Tensor:
    """KTO's z: the mean ratio of answers to OTHER prompts, at least 0, without gradient; a scalar.

    Ethayarajh et al. 2024, arXiv:2402.01306, section 4.1: a (biased) estimate of the KL to the
    reference. One for the whole optimizer batch.

    Args:
        mismatched_ratio_b: ``[B]``, ratios of pairs (prompt i, answer to prompt j).
    """
    return mismatched_ratio_b.detach().mean().clamp(min=0)


def kto(
    ratio_b: Tensor,
    desirable_b: Tensor,
    reference_point: Tensor | float,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """``w_D sigmoid(-beta (r - z))`` where desirable, else ``w_U sigmoid(beta (r - z))``.

    Ethayarajh et al. 2024, arXiv:2402.01306, equation 8: one answer at a time, no pairs.

    Args:
        ratio_b: ``[B]``, r.
        desirable_b: ``[B]`` bool.
        reference_point: z, from :func:`kto_reference_point`.
        beta: Strength of the pull to the reference.
        desirable_weight: w_D; the paper wants w_D n_D / (w_U n_U) from 1 to 4/3.
        undesirable_weight: w_U.
    """
    sign_b = torch.where(desirable_b, 1.0, -1.0).to(ratio_b.dtype)
    weight_b = torch.where(desirable_b, desirable_weight, undesirable_weight).to(ratio_b.dtype)
    return weight_b * torch.sigmoid(-beta * sign_b * (ratio_b - reference_point))


def orpo(
    chosen_b: Tensor,
    rejected_b: Tensor,
    n_chosen_b: Tensor,
    n_rejected_b: Tensor,
    *,
    beta: float = 0.1,
) -> Tensor:
    """``-log p_w - beta log sigmoid(log odds p_w - log odds p_l)``, p a probability per token.

    ORPO (Hong et al. 2024, arXiv:2403.07691, equations 4, 6 and 7, beta is its lambda): the
    likelihood of the chosen answer and an odds ratio, without a reference. ``log p`` is a mean over
    tokens (trap 37): the odds of a product of many probabilities would be the product itself.
    """
    chosen_b, rejected_b = chosen_b / n_chosen_b, rejected_b / n_rejected_b
    log_odds_b = (chosen_b - rejected_b) - (_log1mexp(chosen_b) - _log1mexp(rejected_b))
    return -chosen_b - beta * functional.logsigmoid(log_odds_b)


def simpo(
    chosen_b: Tensor,
    rejected_b: Tensor,
    n_chosen_b: Tensor,
    n_rejected_b: Tensor,
    *,
    beta: float = 2.0,
    gamma: float = 1.0,
) -> Tensor:
    """``-log sigmoid(beta (log p_w - log p_l) - gamma)``, log p a mean over tokens.

    SimPO (Meng et al. 2024, arXiv:2405.14734, equation 6): no reference; the chosen answer is to
    lead by ``gamma``.
    """
    delta_b = chosen_b / n_chosen_b - rejected_b / n_rejected_b
    return -functional.logsigmoid(beta * delta_b - gamma)


def _log1mexp(x: Tensor) -> Tensor:
    """``log(1 - exp(x))`` for x < 0, exact at both ends; x = 0 (certainty) is taken as -1e-6.

    Each branch of the choice gets only the arguments it is for: the gradient of the other one
    would be 0 times infinity.
    """
    x = x.clamp(max=-1e-6)
    far = x < -math.log(2)
    small = torch.log1p(-torch.exp(torch.where(far, x, -1.0)))
    near = torch.log(-torch.expm1(torch.where(far, -0.5, x)))
    return torch.where(far, small, near)


def _check_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 0.5:
        raise AlgorithmError(
            f"label_smoothing is {label_smoothing}, the share of wrong labels; "
            "it must be from 0 to below 0.5"
        )
