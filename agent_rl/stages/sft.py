"""Supervised fine-tuning: the likelihood of completions, prompts masked, in one readable loop."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import closing
from typing import Any

import torch

from agent_rl import checkpoint, models
from agent_rl.config import SFTConfig
from agent_rl.optim import make_optimizer, step_optimizer
from agent_rl.packing import pack
from agent_rl.policy import Policy
from agent_rl.preflight import check_model, located
from agent_rl.rollout import seed_of
from agent_rl.runs import Console, RunFolder
from agent_rl.stages.examples import (
    Demonstrations,
    check_data,
    examples_of,
    held_out_examples,
    train_split,
)
from agent_rl.trajectory import Segment


def check(config: SFTConfig, unborn: Collection[str] = ()) -> None:
    """What can be known to fail before the first step.

    Raises:
        UserError: One line that names the setting.
    """
    check_model(config.model, unborn)
    if config.data.path not in unborn:
        with located("data"):
            check_data(config)


def run(
    config: SFTConfig, folder: RunFolder, show: Console, *, resume: bool = False
) -> dict[str, Any]:
    """Train, and leave ``model/``, metrics and a summary in ``folder``.

    Args:
        config: All settings.
        folder: Where everything goes.
        show: What the person at the terminal sees.
        resume: Go on from the newest checkpoint in ``folder``.

    Returns:
        The summary, as in ``summary.json``.
    """
    model, chat = models.load(config.model, config.run.seed)
    policy = Policy(model, compute=models.DTYPES[config.model.compute])
    optimizer = make_optimizer(config.optimizer, [(model, config.optimizer.lr)])
    context = models.context_length(model)
    made = examples_of(
        config.data, train_split(config.data), chat, context, n_held_out=config.held_out
    )
    with closing(made) as examples:
        if isinstance(examples, Demonstrations):
            examples.refuse_unknown()
        held_out = held_out_examples(config, chat, context)
        step, seconds, before = 0, 0.0, float("nan")
        if resume:
            step, seconds, before = _restore(model, optimizer, folder)
        if step == 0 and held_out:  # also where a run was stopped before its first checkpoint
            before = mean_loss(config, policy, held_out)
            folder.log(0, {"loss/eval": before}, stage="sft")
        show.start(config.steps, done=step)
        while step < config.steps:
            started = time.perf_counter()
            batch = examples.draw(seed_of(config.run.seed, step), config.batch_size)
            metrics = train_step(config, policy, optimizer, batch, step)
            step += 1
            elapsed = time.perf_counter() - started
            seconds += elapsed
            metrics["speed/tokens_per_s"] = metrics["tokens/trained"] / elapsed
            folder.log(step, metrics, stage="sft")
            show.step(step, metrics)
            every = config.run.checkpoint_every
            if step == config.steps or (every and step % every == 0):
                state = {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "seconds": seconds,
                    "before": before,
                }
                checkpoint.save(folder.checkpoints, step, state, keep=config.run.keep_checkpoints)
    show.stop()
    models.save(model, chat, folder.model)
    summary = {"stage": "sft", "steps": step, "seed": config.run.seed, "train_seconds": seconds}
    if held_out:
        after = mean_loss(config, policy, held_out)
        folder.log(step, {"loss/eval": after}, stage="sft")
        summary |= {"loss_before": before, "loss_after": after}
    folder.write_summary({**summary, "finished": True})
    return summary


def train_step(
    config: SFTConfig,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[Segment],
    step: int,
) -> dict[str, float]:
    """One optimiser update: the mean negative log-likelihood per completion token of the batch."""
    n_tokens = sum(len(example.sampled) for example in batch)
    total = 0.0
    for micro in _micro_batches(config, batch):
        loss = -policy.score(micro).logprobs_k.sum() / n_tokens
        loss.backward()
        total += loss.item()
    norm, taken = step_optimizer(optimizer, config.optimizer, step, config.steps)
    return {
        "loss/train": total,
        "optim/grad_norm": norm,
        "optim/skipped": float(not taken),
        "optim/lr": optimizer.param_groups[0]["lr"],
        "tokens/trained": n_tokens,
    }


@torch.no_grad()
def mean_loss(config: SFTConfig, policy: Policy, examples: Sequence[Segment]) -> float:
    """Mean negative log-likelihood per completion token."""
    logprobs, _ = policy.score_all(_micro_batches(config, examples))
    return -float(logprobs.mean())


def _micro_batches(config: SFTConfig, examples: Sequence[Segment]) -> list[Any]:
    return pack(
        examples,
        micro_tokens=config.micro_tokens,
        share_prompts=False,
        row_tokens=config.pack_tokens if config.packing else 0,
    )


def _restore(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: RunFolder
) -> tuple[int, float, float]:
    checkpoint.clear_leftovers(folder.checkpoints)
    path = checkpoint.latest(folder.checkpoints)
    if path is None:
        folder.truncate_after(-1)
        return 0, 0.0, float("nan")
    state = checkpoint.load(path)
    folder.truncate_after(state["step"])
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    checkpoint.set_random_state(state["random"])
    return state["step"], state["seconds"], state["before"]
