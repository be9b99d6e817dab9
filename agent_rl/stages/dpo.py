"""Direct alignment: preferences move the policy itself, by any loss of the DPO family."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from agent_rl import checkpoint, models
from agent_rl.chat import Chat
from agent_rl.config import DPOConfig
from agent_rl.direct.examples import Example, encode, load_judged, with_mismatches
from agent_rl.direct.objective import Readings, read
from agent_rl.direct.references import FILE, with_references
from agent_rl.errors import UserError
from agent_rl.optim import make_optimizer, step_optimizer
from agent_rl.policy import Policy
from agent_rl.preflight import check_model, located
from agent_rl.reward_models.data import batch_order
from agent_rl.rollout import seed_of
from agent_rl.runs import Console, RunFolder
from agent_rl.runs.statistics import wilson_interval

ORDER_SEED = 71_003
MEASURED = {
    "loss": "loss/eval",
    "accuracy": "pref/accuracy_eval",
    "margin": "pref/margin_eval",
}


def check(config: DPOConfig, unborn: Collection[str] = ()) -> None:
    """What can be known to fail before the first step.

    Raises:
        UserError: One line that names the setting.
    """
    check_model(config.model, unborn)
    if config.data.path not in unborn:
        with located("data"):
            load_judged(config, "train", tell=_ignore)


def run(
    config: DPOConfig, folder: RunFolder, show: Console, *, resume: bool = False
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
    data = _data(config, policy, chat, folder, show)  # the policy is still the reference
    state = _State()
    if resume:
        state = _restore(model, optimizer, folder)
    if state.step == 0 and data.held_out:
        state.before = measure(config, policy, data.held_out)[0]
        folder.log(0, state.before, stage="dpo")
    n_steps = total_steps(config, len(data.train))
    show.start(n_steps, done=state.step)
    while state.step < n_steps:
        started = time.perf_counter()
        batch = _batch(config, data.train, state.step)
        metrics = train_step(config, policy, optimizer, batch, state.step, n_steps)
        state.step += 1
        elapsed = time.perf_counter() - started
        state.seconds += elapsed
        metrics["speed/tokens_per_s"] = metrics["tokens/trained"] / elapsed
        state.first_loss = metrics["loss/train"] if state.step == 1 else state.first_loss
        folder.log(state.step, metrics, stage="dpo")
        show.step(state.step, metrics)
        if _is_due(state.step, config.evaluate_every) and data.held_out and state.step < n_steps:
            some = data.held_out[: config.evaluate_examples or None]
            folder.log(state.step, measure(config, policy, some)[0], stage="dpo")
        if state.step == n_steps or _is_due(state.step, config.run.checkpoint_every):
            _save(config, model, optimizer, state, folder)
    show.stop()
    models.save(model, chat, folder.model)
    return _finish(config, policy, data, state, folder, show)


def train_step(
    config: DPOConfig,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[Example],
    step: int,
    n_steps: int,
) -> dict[str, float]:
    """One optimiser update on the mean loss of a batch. Returns its metrics."""
    said = read(policy, config.loss, batch, config.micro_tokens, backward=True)
    norm, taken = step_optimizer(optimizer, config.optimizer, step, n_steps)
    return {
        "loss/train": said.loss,
        **said.metrics(),
        "optim/grad_norm": norm,
        "optim/skipped": float(not taken),
        "optim/lr": optimizer.param_groups[0]["lr"],
        "tokens/trained": float(sum(len(s.sampled) for e in batch for s in e.segments)),
    }


def measure(
    config: DPOConfig, policy: Policy, examples: Sequence[Example]
) -> tuple[dict[str, float], Readings]:
    """Held-out loss, accuracy and margin of the implicit reward."""
    said = read(policy, config.loss, examples, config.micro_tokens)
    metrics = said.metrics()
    shown = {f"{name}_eval": metrics[name] for name in ("pref/accuracy", "pref/margin")}
    return {"loss/eval": said.loss, **shown}, said


def total_steps(config: DPOConfig, n: int) -> int:
    """Optimiser updates on ``n`` examples."""
    most = -(-n // config.batch_size) * config.epochs
    return min(most, config.max_steps or most)


def token_limit(config: DPOConfig, model: torch.nn.Module) -> int:
    """Longest prompt with its answer.

    Raises:
        UserError: It is set to more than the model reads.
    """
    context = models.context_length(model)
    if config.max_tokens > context:
        raise UserError(f"max_tokens is {config.max_tokens}, but the model's context is {context}")
    return config.max_tokens or context


@dataclass(frozen=True, slots=True)
class _Data:
    """The two splits, and how many training and held-out examples were left out for what reason."""

    train: list[Example]
    held_out: list[Example]
    left_out: dict[str, int]


@dataclass(slots=True)
class _State:
    """What a checkpoint holds beside weights and optimizer."""

    step: int = 0
    seconds: float = 0.0
    first_loss: float = float("nan")
    before: dict[str, float] = field(default_factory=dict)


def _data(config: DPOConfig, policy: Policy, chat: Chat, folder: RunFolder, show: Console) -> _Data:
    limit, path = token_limit(config, policy.model), config.data.path
    left_out: dict[str, int] = {}
    splits: list[list[Example]] = []
    with located("data"):
        for split in ("train", "test") if config.held_out else ("train",):
            judged = load_judged(config, split, tell=None if split == "train" else _ignore)
            examples, why = encode(judged, chat, limit, where=path, split=split)
            left_out |= {reason: left_out.get(reason, 0) + n for reason, n in why.items()}
            splits.append(examples)
        train, held_out = splits[0], splits[1] if len(splits) > 1 else []
        n, everything = len(train), [*train, *held_out]
        if config.loss.kind == "kto":  # no training example gets a held-out answer
            mixed = with_mismatches([*held_out, *train], limit, path) if held_out else []
            everything = [*with_mismatches(train, limit, path), *mixed[: len(held_out)]]
    if config.loss.needs_reference:  # a split at a time: measured later in the same passes
        files = (folder.path / FILE, folder.path / f"held_out_{FILE}")
        parts = [everything[:n], everything[n:]]
        everything = [
            example
            for part, file in zip(parts, files, strict=True)
            for example in (
                with_references(policy, part, file, config.micro_tokens, show) if part else []
            )
        ]
    return _Data(everything[:n], everything[n:], left_out)


def _batch(config: DPOConfig, train: Sequence[Example], step: int) -> list[Example]:
    seed = seed_of(config.run.seed, ORDER_SEED)
    return [train[i] for i in batch_order(len(train), seed, config.batch_size, step)]


def _finish(
    config: DPOConfig,
    policy: Policy,
    data: _Data,
    state: _State,
    folder: RunFolder,
    show: Console,
) -> dict[str, Any]:
    """Measure what is held out once more, and write and show what came of it."""
    summary: dict[str, Any] = {
        "stage": "dpo",
        "loss_kind": config.loss.kind,
        "steps": state.step,
        "seed": config.run.seed,
        "train_seconds": state.seconds,
        "train_examples": len(data.train),
        "held_out_examples": len(data.held_out),
        "left_out": data.left_out,
        "first_loss": state.first_loss,
    }
    if data.held_out:
        metrics, said = measure(config, policy, data.held_out)
        folder.log(state.step, metrics, stage="dpo")
        for short, name in MEASURED.items():
            summary[f"{short}_before"], summary[f"{short}_after"] = (
                state.before[name],
                metrics[name],
            )
        if said.paired:
            n = len(data.held_out)
            low, high = wilson_interval(round(said.accuracy * n), n)
            by_length = length_accuracy(data.train, data.held_out)
            summary |= {"accuracy_low": low, "accuracy_high": high, "accuracy_by_length": by_length}
            show.table(
                [
                    {
                        "held-out pairs": n,
                        "accuracy before": f"{summary['accuracy_before']:.3f}",
                        "after": f"{summary['accuracy_after']:.3f}",
                        "95 % interval": f"{low:.3f} to {high:.3f}",
                        "by length alone": f"{by_length:.3f}",
                    }
                ],
                "Implicit reward",
            )
    folder.write_summary({**summary, "finished": True})
    return summary


def length_accuracy(train: Sequence[Example], held_out: Sequence[Example]) -> float:
    """Share of held-out pairs that "shorter wins" (or "longer", if so in training) tells apart.

    Lengths are in tokens, and a tie counts half.
    """
    shares = []
    for examples in (train, held_out):
        gaps = [len(e.segments[0].ids) - len(e.segments[1].ids) for e in _pairs(examples)]
        shorter = sum(gap < 0 for gap in gaps) + sum(gap == 0 for gap in gaps) / 2
        shares.append(shorter / len(gaps) if gaps else float("nan"))
    return shares[1] if not shares[0] < 0.5 else 1 - shares[1]


def _pairs(examples: Sequence[Example]) -> list[Example]:
    return [example for example in examples if len(example.segments) == 2]


def _save(
    config: DPOConfig,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    state: _State,
    folder: RunFolder,
) -> None:
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "seconds": state.seconds,
        "first_loss": state.first_loss,
        "before": state.before,
    }
    checkpoint.save(folder.checkpoints, state.step, content, keep=config.run.keep_checkpoints)


def _restore(model: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: RunFolder) -> _State:
    checkpoint.clear_leftovers(folder.checkpoints)
    path = checkpoint.latest(folder.checkpoints)
    if path is None:
        folder.truncate_after(-1)
        return _State()
    kept = checkpoint.load(path)
    folder.truncate_after(kept["step"])
    model.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept["optimizer"])
    checkpoint.set_random_state(kept["random"])
    return _State(kept["step"], kept["seconds"], kept["first_loss"], kept["before"])


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _ignore(_: str) -> None:
    """What was left out was told once."""
