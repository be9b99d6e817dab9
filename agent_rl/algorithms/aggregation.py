"""From losses per token to the loss of one optimizer batch: one weight per token.

The loss is ``sum(weights_t * loss_t)`` over the WHOLE optimizer batch. The weights are made once,
before the batch is cut into micro-batches or over ranks, so partial sums just add up and no cut can
change a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from agent_rl.algorithms.layout import (
    AlgorithmError,
    group_count,
    group_sum,
    trajectory_lengths,
)

Aggregation = Literal["token", "sequence", "sequence_sum", "prompt", "constant"]

# Each takes (tokens_n, counted_n as 0/1, group_n, constant) and gives one token's weight, [N].
_Weight = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def _token(tokens_n: Tensor, counted_n: Tensor, group_n: Tensor, constant: float) -> Tensor:
    return counted_n / tokens_n.sum().clamp(min=1)


def _sequence(tokens_n: Tensor, counted_n: Tensor, group_n: Tensor, constant: float) -> Tensor:
    return counted_n / (counted_n.sum().clamp(min=1) * tokens_n.clamp(min=1))


def _sequence_sum(tokens_n: Tensor, counted_n: Tensor, group_n: Tensor, constant: float) -> Tensor:
    return counted_n / counted_n.sum().clamp(min=1)


def _prompt(tokens_n: Tensor, counted_n: Tensor, group_n: Tensor, constant: float) -> Tensor:
    members_g = counted_n.new_zeros(group_count(group_n)).index_add(0, group_n, counted_n)
    groups = (members_g > 0).sum().clamp(min=1)
    return counted_n / (groups * group_sum(tokens_n, group_n).clamp(min=1))


def _constant(tokens_n: Tensor, counted_n: Tensor, group_n: Tensor, constant: float) -> Tensor:
    return counted_n / (counted_n.sum().clamp(min=1) * constant)


_WEIGHTS: dict[str, _Weight] = {
    "token": _token,
    "sequence": _sequence,
    "sequence_sum": _sequence_sum,
    "prompt": _prompt,
    "constant": _constant,
}


def token_weights(
    mode: Aggregation,
    trajectory_t: Tensor,
    group_n: Tensor,
    *,
    constant: float | None = None,
    tokens_n: Tensor | None = None,
    counted_n: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The weight of each token in the loss of the optimizer batch.

    With ``N`` counted trajectories of ``T_i`` tokens in ``G`` groups:

    ==============  ===================  ==========================================================
    ``token``       1 / sum_i T_i        DAPO (arXiv:2503.14476, equation 8): a token is a token
    ``sequence``    1 / (N T_i)          GRPO (arXiv:2402.03300, equation 3): a trajectory is one
    ``sequence_sum``  1 / N              REINFORCE, RLOO: the gradient of the expected return
    ``prompt``      1 / (G sum_group T)  ScaleRL (arXiv:2510.13786): a task is a task
    ``constant``    1 / (N constant)     Dr. GRPO (arXiv:2503.20783): sum, by the token budget
    ==============  ===================  ==========================================================

    ``N``, ``G`` and the token counts are those of the whole batch:

    * A trajectory whose tokens were left out because its advantage is 0 still counts. Keep it in
      ``group_n`` and give its length in ``tokens_n``: leaving it out then changes nothing.
    * A faulty one (its grader failed, it was truncated and masked) does not. Set
      ``counted_n`` to False: every weight is as if it had never been in the batch, its own are 0.
    * A trajectory without tokens counts in ``N``: it adds an empty sum.
    * Over several ranks give the ``group_n``, ``tokens_n`` and ``counted_n`` of all ranks, and add
      the ranks' gradients up (no average).

    Args:
        mode: One of the table.
        trajectory_t: ``[T]`` long, indices into ``group_n``.
        group_n: ``[N]`` long.
        constant: Tokens; needed by ``constant`` only (the completion budget).
        tokens_n: ``[N]`` sampled tokens of each trajectory; None counts ``trajectory_t``.
        counted_n: ``[N]`` bool; None counts all.
        dtype: float32 or float64.

    Returns:
        ``[T]``.

    Raises:
        AlgorithmError: for an unknown mode, or ``constant`` missing, not positive, or unused.
    """
    if mode not in _WEIGHTS:
        raise AlgorithmError(f"unknown aggregation {mode!r}; one of {get_args(Aggregation)}")
    if (mode == "constant") != (constant is not None) or (constant is not None and constant <= 0):
        raise AlgorithmError(
            f"aggregation {mode!r} with constant={constant}; 'constant' alone takes a positive one"
        )
    lengths_n = trajectory_lengths(trajectory_t, len(group_n)) if tokens_n is None else tokens_n
    counts = torch.ones_like(group_n) if counted_n is None else counted_n
    counts = counts.to(dtype)
    weight_n = _WEIGHTS[mode](lengths_n.to(dtype) * counts, counts, group_n, constant or 1.0)
    return weight_n[trajectory_t]
