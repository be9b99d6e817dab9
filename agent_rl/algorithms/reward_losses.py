"""Losses that turn judgements into a reward: comparisons, rankings, outcomes, steps.

``chosen_b`` and ``rejected_b`` are ``[B]`` rewards of the two answers of a pair. Every function
gives one loss per example (to be minimized); the mean over the WHOLE optimizer batch is the
caller's, so no cut into micro-batches changes a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from agent_rl.algorithms.layout import (
    AlgorithmError,
    group_count,
    trajectory_lengths,
    trajectory_sum,
)


def bradley_terry(
    chosen_b: Tensor,
    rejected_b: Tensor,
    *,
    margin_b: Tensor | None = None,
    centring: float = 0.0,
) -> Tensor:
    """``-log sigmoid(r_w - r_l - margin) + centring * (r_w + r_l)^2``, ``[B]``.

    The likelihood of a comparison (Bradley & Terry 1952; Christiano et al. 2017, equation 1), with
    the margin of Llama 2 (Touvron et al. 2023, arXiv:2307.09288, equation 2) and the penalty that
    keeps rewards around 0 (Eisenstein et al. 2023, arXiv:2312.09244, appendix).

    Args:
        chosen_b: ``[B]`` rewards of the better answers.
        rejected_b: ``[B]`` rewards of the worse ones.
        margin_b: ``[B]`` how much better, in units of reward; None for 0.
        centring: Coefficient of the penalty; 0 is off.
    """
    gap_b = chosen_b - rejected_b
    if margin_b is not None:
        gap_b = gap_b - margin_b
    loss_b = -functional.logsigmoid(gap_b)
    return loss_b + centring * (chosen_b + rejected_b) ** 2 if centring else loss_b


def ranking(rewards_n: Tensor, ranks_n: Tensor, prompt_n: Tensor) -> Tensor:
    """Mean of ``-log sigmoid(r_i - r_j)`` over the ordered pairs of a prompt's K answers, ``[P]``.

    InstructGPT (Ouyang et al. 2022, arXiv:2203.02155, equation 1): all pairs of a prompt are one
    example of weight ``1 / C(K, 2)``, so no answer is counted K - 1 times. Equal ranks are no pair
    and not in the count; a prompt without an ordered pair has loss 0.

    Args:
        rewards_n: ``[N]`` rewards of all answers.
        ranks_n: ``[N]`` numbers, the best lowest; compared within a prompt only.
        prompt_n: ``[N]`` long, which prompt an answer is for; P is the largest plus 1.
    """
    same_nn = prompt_n[:, None] == prompt_n[None, :]
    better, worse = (same_nn & (ranks_n[:, None] < ranks_n[None, :])).nonzero(as_tuple=True)
    loss_q = -functional.logsigmoid(rewards_n[better] - rewards_n[worse])
    n_prompts = group_count(prompt_n)
    count_p = trajectory_lengths(prompt_n[better], n_prompts)
    return trajectory_sum(loss_q, prompt_n[better], n_prompts) / count_p.clamp(min=1)


def outcome(logits_n: Tensor, labels_n: Tensor) -> Tensor:
    """Binary cross-entropy of "this answer is right", ``[N]``.

    The verifier of Cobbe et al. 2021, arXiv:2110.14168, section 4: its probability is
    ``sigmoid(logit)``.

    Args:
        logits_n: ``[N]``, one per answer (or per token of it, its label repeated).
        labels_n: ``[N]``, 1 for right and 0 for wrong; a share between them is a soft label.

    Raises:
        AlgorithmError: A label outside 0 to 1.
    """
    return functional.binary_cross_entropy_with_logits(
        logits_n, _labels(labels_n, logits_n), reduction="none"
    )


def process(logits_s: Tensor, labels_s: Tensor, solution_s: Tensor) -> Tensor:
    """Binary cross-entropy of every step, averaged over each solution's steps, ``[N]``.

    Lightman et al. 2023, arXiv:2305.20050, section 2.6, with two classes: "right so far" or not.
    A solution counts as one, however many steps it has; one without steps has loss 0.

    Args:
        logits_s: ``[S]``, at the last token of each step.
        labels_s: ``[S]``, 1 for a right step and 0 for a wrong one, or a share.
        solution_s: ``[S]`` long, whose step it is; N is the largest plus 1.

    Raises:
        AlgorithmError: A label outside 0 to 1.
    """
    loss_s = outcome(logits_s, labels_s)
    n = group_count(solution_s)
    counts_n = trajectory_lengths(solution_s, n).clamp(min=1)
    return trajectory_sum(loss_s, solution_s, n) / counts_n


def _labels(labels: Tensor, like: Tensor) -> Tensor:
    labels = labels.to(like.dtype)
    if not bool(torch.all((labels >= 0) & (labels <= 1))):  # NaN is neither
        raise AlgorithmError("labels must be from 0 (wrong) to 1 (right)")
    return labels
