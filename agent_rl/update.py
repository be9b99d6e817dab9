"""From experience to new weights: loss per token times one weight per token, summed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from agent_rl import algorithms
from agent_rl.algorithms import Algorithm
from agent_rl.config import RLConfig
from agent_rl.errors import UserError
from agent_rl.experience import Experience
from agent_rl.optim import step_optimizer
from agent_rl.packing import MicroBatch, pack
from agent_rl.policy import Policy, TokenScores
from agent_rl.ptx import PTX
from agent_rl.reference import Reference
from agent_rl.rollout import seed_of


@dataclass(frozen=True, slots=True)
class Targets:
    """What each of the T tokens is trained towards.

    Attributes:
        advantages_t: [T].
        sampler_logprobs_t: [T] as the engine reported them.
        old_logprobs_t: [T] of the policy before this batch's first update; None when the batch
            gets a single update, whose own (detached) are the old ones.
        reference_logprobs_t: [T] or None.
        returns_t: [T] for the critic.
        old_values_t: [T] or None.
        kl_coef: Weight of a KL term in the loss.
    """

    advantages_t: Tensor
    sampler_logprobs_t: Tensor
    old_logprobs_t: Tensor | None
    reference_logprobs_t: Tensor | None
    returns_t: Tensor
    old_values_t: Tensor | None
    kl_coef: float


class Averages:
    """Means over tokens, sums per update, and maxima, of what the micro-batches report."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, float] = defaultdict(float)
        self._totals: dict[str, float] = defaultdict(float)
        self._peaks: dict[str, float] = {}

    def mean(self, name: str, value: Tensor | float, count: float) -> None:
        """A mean over ``count`` tokens."""
        self._sums[name] += float(value) * count
        self._counts[name] += count

    def total(self, name: str, value: Tensor | float) -> None:
        """A share of one update's sum; the result is the mean over updates."""
        self._totals[name] += float(value)

    def peak(self, name: str, value: Tensor | float) -> None:
        """A maximum."""
        self._peaks[name] = max(float(value), self._peaks.get(name, float("-inf")))

    def result(self, updates: int) -> dict[str, float]:
        """Everything by name."""
        means = {name: value / self._counts[name] for name, value in self._sums.items()}
        totals = {name: value / updates for name, value in self._totals.items()}
        return {**means, **totals, **self._peaks}


def update_policy(
    config: RLConfig,
    policy: Policy,
    reference: Reference | None,
    optimizer: torch.optim.Optimizer,
    batch: Experience,
    targets: Targets,
    *,
    step: int,
    first_update: int,
    critic_optimizer: torch.optim.Optimizer | None = None,
    ptx: PTX | None = None,
) -> tuple[int, dict[str, float]]:
    """All optimiser updates on one batch.

    Token weights are made once per update, from the whole of its trajectories, so that neither
    micro-batches nor the leaving out of samples without advantage can change the gradient.

    Args:
        config: All settings.
        policy: What trains, with its critic.
        reference: For a KL term in the loss.
        optimizer: Of the policy, and of a critic that reads it.
        batch: The episodes.
        targets: What each token is trained towards.
        step: Number of the batch.
        first_update: Number of its first update.
        critic_optimizer: Of a critic with a network of its own.
        ptx: Data whose likelihood is mixed into every update.

    Returns:
        The number of the next update, and metrics.

    Raises:
        UserError: A ratio per sequence, and an episode that is not one sequence.
    """
    _refuse_split_sequences(config.algorithm, batch)
    stats = Averages()
    update = first_update
    total = config.steps * config.updates_per_step * config.epochs
    for epoch in range(config.epochs):
        for part in _parts(config, len(batch.trajectories), seed_of(config.run.seed, step, epoch)):
            weights_t = _token_weights(config, batch, part)
            for micro in _micro_batches(config, batch, part, targets):
                loss, gap_k = _loss(
                    config.algorithm, policy, reference, micro, targets, batch, weights_t, stats
                )
                if update == first_update:  # later the gap is what training moved
                    _measure_sampler(stats, gap_k)
                loss.backward()
            if ptx is not None:
                stats.total("loss/ptx", ptx.accumulate(update))
            norm, taken = step_optimizer(optimizer, config.optimizer, update, total)
            stats.total("optim/grad_norm", norm)
            stats.total("optim/skipped", not taken)
            if critic_optimizer is not None:
                norm, _ = step_optimizer(critic_optimizer, config.optimizer, update, total)
                stats.total("optim/value_grad_norm", norm)
            update += 1
    metrics = stats.result(update - first_update)
    return update, {**metrics, "optim/lr": optimizer.param_groups[0]["lr"]}


def _refuse_split_sequences(algorithm: Algorithm, batch: Experience) -> None:
    if algorithm.ratio == "sequence" and batch.n_sampled_segments != len(batch.trajectories):
        raise UserError(
            "algorithm.ratio sequence needs episodes that are one sequence each; this environment "
            "shows only the last observation: take algorithm.ratio=token"
        )


def _parts(config: RLConfig, n: int, seed: int) -> list[Tensor]:
    """[N] bool masks: the trajectories of each update, drawn by ``seed``."""
    if config.updates_per_step == 1:
        return [torch.ones(n, dtype=torch.bool)]
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    masks = []
    for chosen in order.tensor_split(config.updates_per_step):
        mask = torch.zeros(n, dtype=torch.bool)
        mask[chosen] = True
        masks.append(mask)
    return [mask for mask in masks if mask.any()]


def _token_weights(config: RLConfig, batch: Experience, part: Tensor) -> Tensor:
    mode = config.algorithm.aggregation
    constant = float(config.sampling.max_tokens) if mode == "constant" else None
    return algorithms.token_weights(
        mode, batch.trajectory_t, batch.group_n, constant=constant, counted_n=part
    )


def _micro_batches(
    config: RLConfig, batch: Experience, part: Tensor, targets: Targets
) -> list[MicroBatch]:
    live = part.clone()
    if drops_zero_advantage(config):
        moved = torch.zeros(len(live))
        moved.index_add_(0, batch.trajectory_t, targets.advantages_t.abs())
        live &= moved > 0
    only = [
        i for i, n in enumerate(batch.segment_trajectory[: batch.n_sampled_segments]) if live[n]
    ]
    return pack(
        batch.segments,
        micro_tokens=config.micro_tokens,
        share_prompts=config.share_prompts,
        only=only,
    )


def drops_zero_advantage(config: RLConfig) -> bool:
    """Whether samples without advantage skip the backward pass; by default where that is exact."""
    algorithm = config.algorithm
    exact = (
        algorithm.kl.place != "loss"
        and algorithm.entropy_coef == 0
        and algorithm.advantage != "gae"
    )
    return exact if config.drop_zero_advantage is None else config.drop_zero_advantage


def _loss(
    algorithm: Algorithm,
    policy: Policy,
    reference: Reference | None,
    micro: MicroBatch,
    targets: Targets,
    batch: Experience,
    weights_t: Tensor,
    stats: Averages,
) -> tuple[Tensor, Tensor]:
    """This micro-batch's share of the loss of the update, and [K] trainer minus engine logprobs."""
    at = micro.slots
    exact = algorithm.kl.place == "loss" and algorithm.kl.estimator == "exact"
    scores = policy.score(micro, entropy_grad=algorithm.entropy_coef > 0, full=exact)
    detached_k = scores.logprobs_k.detach()
    old_k = detached_k if targets.old_logprobs_t is None else targets.old_logprobs_t[at]
    policy_k, diagnostics = algorithms.policy_loss(
        algorithm,
        scores.logprobs_k,
        old_k,
        targets.advantages_t[at],
        batch.segment_t[at],
        sampler_logprobs_t=targets.sampler_logprobs_t[at],
    )
    weights_k = weights_t[at]
    terms = {"policy": (weights_k * policy_k).sum()}
    if algorithm.kl.place == "loss" and reference is not None:
        kl_k = _kl_terms(algorithm, scores, reference, micro, targets)
        terms["kl"] = targets.kl_coef * (weights_k * kl_k).sum()
    if algorithm.entropy_coef:
        terms["entropy"] = -algorithm.entropy_coef * (weights_k * scores.entropy_k).sum()
    if scores.values_k is not None and targets.old_values_t is not None:
        value_k = algorithms.value_loss(
            scores.values_k, targets.old_values_t[at], targets.returns_t[at], algorithm.value_clip
        )
        terms["value"] = algorithm.value_coef * (weights_k * value_k).sum()
    loss = torch.stack(list(terms.values())).sum()
    _measure(stats, terms, loss, scores, diagnostics)
    return loss, detached_k - targets.sampler_logprobs_t[at]


def _kl_terms(
    algorithm: Algorithm,
    scores: TokenScores,
    reference: Reference,
    micro: MicroBatch,
    targets: Targets,
) -> Tensor:
    """[K] KL of each token by the configured estimator."""
    if algorithm.kl.estimator == "exact":
        assert scores.log_softmax_kv is not None
        return algorithms.exact(scores.log_softmax_kv, reference.log_softmax(micro))
    assert targets.reference_logprobs_t is not None
    at = micro.slots
    ratio_k = None
    if targets.old_logprobs_t is not None:  # an older policy sampled: weigh, or descend another KL
        ratio_k = algorithms.token_ratio(scores.logprobs_k.detach(), targets.old_logprobs_t[at])
    d_k = scores.logprobs_k - targets.reference_logprobs_t[at]
    return algorithms.loss_penalty(algorithm.kl.estimator, d_k, ratio_k)


def _measure(
    stats: Averages,
    terms: dict[str, Tensor],
    loss: Tensor,
    scores: TokenScores,
    diagnostics: dict[str, Tensor],
) -> None:
    n = len(scores.logprobs_k)
    for name, term in terms.items():
        stats.total(f"loss/{name}", term.detach())
    stats.total("loss/total", loss.detach())
    stats.mean("policy/entropy", scores.entropy_k.detach().mean(), n)
    clipped = diagnostics["clip_low"] + diagnostics["clip_high"]
    stats.mean("policy/clip_fraction", clipped, n)
    stats.mean("policy/ratio_mean", diagnostics["ratio_mean"], n)
    stats.peak("policy/ratio_max", diagnostics["ratio_max"])


def _measure_sampler(stats: Averages, gap_k: Tensor) -> None:
    """How far the engine's logprobs are from the trainer's, before anything has moved."""
    n = len(gap_k)
    stats.mean("policy/importance_weight", gap_k.exp().mean(), n)
    stats.mean("policy/sampler_gap_mean", gap_k.abs().mean(), n)
    stats.peak("policy/sampler_gap_max", gap_k.abs().max())
