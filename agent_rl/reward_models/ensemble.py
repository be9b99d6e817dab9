"""From trained members to a finished reward model: where its scores lie, and how members agree."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from agent_rl.config.reward_model import EnsembleConfig
from agent_rl.reward_models.data import Item
from agent_rl.reward_models.model import RewardModel, Standing, aggregated, combined
from agent_rl.reward_models.report import accuracy, verdicts

Outputs = Sequence[Sequence[float]]


def settled(
    models: Sequence[RewardModel],
    config: EnsembleConfig,
    items: Sequence[Item],
    outputs: Sequence[Outputs],
) -> tuple[RewardModel, Outputs]:
    """The members as one model that knows the mean and spread of its scores, and its outputs.

    Args:
        models: The members; each one's ``standing`` is set.
        config: How they agree.
        items: What they were measured on.
        outputs: The head's outputs of each member: lists for each item.

    Returns:
        The model, and what it says of the items as a whole, in the form of ``outputs``.
    """
    scores = []
    for model, own in zip(models, outputs, strict=True):
        scores.append(answer_scores(model.standing, own))
        model.standing = _placed(model.standing, scores[-1], items, own)
    if len(models) == 1:
        return models[0], outputs[0]
    standings = [model.standing for model in models]
    whole = replace(
        standings[0],
        combine=config.combine,
        uncertainty_weight=config.uncertainty_weight,
        members=len(models),
    )
    flat = torch.tensor([[x for said in own for x in said] for own in outputs])
    probable = models[0].gives_probabilities
    joined = combined(torch.sigmoid(flat) if probable else flat, standings, whole)
    joined = torch.logit(joined, eps=1e-6) if probable else joined
    parts = [part.tolist() for part in joined.split([len(said) for said in outputs[0]])]
    whole = _placed(whole, combined(torch.stack(scores), standings, whole), items, parts)
    model = copy.copy(models[0])
    model.members, model.ensemble = tuple(models[1:]), whole
    return model, parts


def answer_scores(standing: Standing, outputs: Outputs) -> Tensor:
    """The score of every answer, as ``RewardModel.score`` gives it, from the head's outputs."""
    if standing.kind == "process":
        steps = [torch.sigmoid(torch.tensor(list(said))) for said in outputs]
        return torch.tensor([aggregated(s, standing.aggregation) for s in steps])
    flat = torch.tensor([x for said in outputs for x in said])
    return torch.sigmoid(flat) if standing.kind == "outcome" else flat


def _placed(
    standing: Standing, scores: Tensor, items: Sequence[Item], outputs: Outputs
) -> Standing:
    spread = float(scores.std(correction=0))
    return replace(
        standing,
        mean=float(scores.mean()),
        std=spread if spread > 1e-8 else 1.0,
        accuracy=accuracy(verdicts(items, outputs)),
    )
