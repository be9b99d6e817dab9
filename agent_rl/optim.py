"""AdamW and its schedule, the same for every stage."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from agent_rl.config import OptimizerConfig


def make_optimizer(
    config: OptimizerConfig, modules: Iterable[tuple[nn.Module, float]]
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters of some modules, each with its peak learning rate.

    Weight decay touches matrices only: not norms, biases or embeddings (trap 35).
    """
    groups = []
    for module, lr in modules:
        embeddings = {
            id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters()
        }
        trained = [p for p in module.parameters() if p.requires_grad]
        decayed = [p for p in trained if p.ndim >= 2 and id(p) not in embeddings]
        rest = [p for p in trained if p.ndim < 2 or id(p) in embeddings]
        groups.append({"params": decayed, "weight_decay": config.weight_decay, "peak": lr})
        groups.append({"params": rest, "weight_decay": 0.0, "peak": lr})
    groups = [g for g in groups if g["params"]]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def lr_factor(config: OptimizerConfig, update: int, total: int) -> float:
    """Learning rate of update ``update`` (from 0) of ``total``, as a fraction of the peak."""
    if update < config.warmup_steps:
        return (update + 1) / config.warmup_steps
    span = max(1, total - config.warmup_steps)
    done = min(1.0, (update - config.warmup_steps) / span)
    shape = {
        "constant": 1.0,
        "linear": 1.0 - done,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
    }[config.schedule]
    return config.final_fraction + (1.0 - config.final_fraction) * shape


def step_optimizer(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, update: int, total: int
) -> tuple[float, bool]:
    """Clip, set the learning rate, step, clear gradients.

    Returns:
        The gradient norm before clipping, and whether the step was taken: a gradient that is not
        finite is thrown away whole (trap 34).
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if all(p.grad is None for p in parameters):  # every sample was dropped: zero, which Adam heeds
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
    limit = config.grad_clip or math.inf
    norm = float(nn.utils.clip_grad_norm_(parameters, limit))
    factor = lr_factor(config, update, total)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    taken = math.isfinite(norm)
    if taken:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm, taken
