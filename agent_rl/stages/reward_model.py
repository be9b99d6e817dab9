"""Reward models: comparisons, rankings or labels become a scalar head, over-fitting in sight."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from agent_rl import checkpoint
from agent_rl.config import RewardModelConfig
from agent_rl.optim import make_optimizer, step_optimizer
from agent_rl.preflight import check_model, located
from agent_rl.reward_models import RewardModel, Standing, from_policy, save_reward_model
from agent_rl.reward_models.data import Example, Item, batch_order, encode, load_items
from agent_rl.reward_models.ensemble import settled
from agent_rl.reward_models.objective import Objective, Readings, backward, read
from agent_rl.reward_models.report import accuracy, figures, tables, verdicts
from agent_rl.rollout import seed_of
from agent_rl.runs import Console, RunFolder

HEAD_SEED, ORDER_SEED = 61_001, 61_007
WITHOUT_HELD_OUT = 200  # training items that tell mean and spread where none are held out


def check(config: RewardModelConfig, unborn: Collection[str] = ()) -> None:
    """What can be known to fail before the first step.

    Raises:
        UserError: One line that names the setting.
    """
    check_model(config.model, unborn)
    if not any(path in unborn for path in config.data.files):
        with located("data"):
            load_items(config, "train", tell=_ignore)


def run(
    config: RewardModelConfig, folder: RunFolder, show: Console, *, resume: bool = False
) -> dict[str, Any]:
    """Train, and leave ``model/`` with ``reward_model.json``, metrics and a summary.

    Args:
        config: All settings.
        folder: Where everything goes.
        show: What the person at the terminal sees.
        resume: Go on from the newest checkpoint in ``folder``.

    Returns:
        The summary, as in ``summary.json``.
    """
    with located("data"):
        train = load_items(config, "train")
        held_out = load_items(config, "test", tell=_ignore) if config.held_out else []
    members = [_Member.fresh(config, n) for n in range(config.ensemble.members)]
    trainer = _Trainer(config, folder, show, train, held_out, members)
    if resume:
        trainer.restore()
    trainer.run()
    return trainer.finish()


@dataclass
class _Member:
    """One reward model in training, its optimizer, and the best weights so far."""

    model: RewardModel
    optimizer: torch.optim.Optimizer
    order_seed: int
    best: dict[str, Any] | None = None

    @classmethod
    def fresh(cls, config: RewardModelConfig, number: int) -> _Member:
        standing = Standing(
            kind=config.kind,
            max_tokens=config.max_tokens,
            step_separator=config.step_separator,
            aggregation=config.aggregation,
        )
        seed = seed_of(config.run.seed, HEAD_SEED, number)
        model = from_policy(config.model, seed, standing, head_std=config.head_std)
        optimizer = make_optimizer(config.optimizer, [(model.trained, config.optimizer.lr)])
        return cls(model, optimizer, seed_of(config.run.seed, ORDER_SEED, number))

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.trained.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.trained.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]


@dataclass
class _Trainer:
    """The loop and what it remembers.

    Attributes:
        lowest: The lowest held-out loss so far, its step, and the measurements since.
    """

    config: RewardModelConfig
    folder: RunFolder
    show: Console
    train: list[Item]
    held_out: list[Item]
    members: list[_Member]
    done: int = 0
    seconds: float = 0.0
    stopped: bool = False
    lowest: tuple[float, int, int] = (math.inf, 0, 0)
    before: dict[str, float] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        per_pass = -(-len(self.train) // self.config.batch_size)
        most = per_pass * self.config.epochs
        return min(most, self.config.max_steps or most)

    @property
    def objective(self) -> Objective:
        return Objective(self.config.kind, self.config.margin, self.config.centering)

    def run(self) -> None:
        """Every step that is left, with measurements and checkpoints between."""
        config, every = self.config, self.config.run.checkpoint_every
        if self.done == 0 and self.held_out:
            self.before = self._measure()
        self.show.start(self.steps, done=self.done)
        while self.done < self.steps and not self.stopped:
            started = time.perf_counter()
            metrics = self._step()
            self.done += 1
            elapsed = time.perf_counter() - started
            self.seconds += elapsed
            metrics["speed/tokens_per_s"] = metrics["tokens/trained"] / elapsed
            self.folder.log(self.done, metrics, stage="reward_model")
            self.show.step(self.done, metrics)
            if self._is_measured():
                self._measure()
            if self.stopped or self.done == self.steps or (every and self.done % every == 0):
                keep = config.run.keep_checkpoints
                checkpoint.save(self.folder.checkpoints, self.done, self._state(), keep=keep)
        self.show.stop()

    def finish(self) -> dict[str, Any]:
        """Measure all held-out items, write the model, the tables and the summary."""
        config = self.config
        for member in self.members:
            if config.keep == "best" and member.best is not None:
                member.model.trained.load_state_dict(member.best)
        summary: dict[str, Any] = {
            "stage": "reward_model",
            "kind": config.kind,
            "steps": self.done,
            "seed": config.run.seed,
            "train_seconds": self.seconds,
            "train_items": len(self.train),
        }
        model, found = self._judged()
        summary |= found
        record = {k: v for k, v in summary.items() if k not in ("stage", "kind", "tables")}
        save_reward_model(model, self.folder.model, {"figures": record})
        self.folder.write_summary({**summary, "finished": True})
        return summary

    def restore(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        checkpoint.clear_leftovers(self.folder.checkpoints)
        path = checkpoint.latest(self.folder.checkpoints)
        if path is None:
            self.folder.truncate_after(-1)
            return
        state = checkpoint.load(path)
        self.folder.truncate_after(state["step"])
        for member, its in zip(self.members, state["members"], strict=True):
            member.restore(its)
        self.done, self.seconds = state["step"], state["seconds"]
        self.before, self.stopped = state["before"], state["stopped"]
        loss, step, since = state["lowest"]
        self.lowest = (loss, int(step), int(since))
        checkpoint.set_random_state(state["random"])

    def _state(self) -> dict[str, Any]:
        return {
            "members": [member.state() for member in self.members],
            "seconds": self.seconds,
            "before": self.before,
            "stopped": self.stopped,
            "lowest": list(self.lowest),
        }

    def _step(self) -> dict[str, float]:
        """One update of every member, each on its own batch; the mean of their metrics."""
        config, rows = self.config, []
        for member in self.members:
            n = len(self.train)
            chosen = batch_order(n, member.order_seed, config.batch_size, self.done)
            items = [self.train[i] for i in chosen]
            batch = self._encoded(items)
            said = backward(member.model, self.objective, batch, config.micro_tokens)
            norm, taken = step_optimizer(member.optimizer, config.optimizer, self.done, self.steps)
            rows.append(
                {
                    **_measures(items, said, "train"),
                    **_spread(said),
                    "optim/grad_norm": norm,
                    "optim/skipped": float(not taken),
                    "optim/lr": member.optimizer.param_groups[0]["lr"],
                    "tokens/trained": float(sum(e.n_tokens for e in batch)),
                }
            )
        means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        return {**means, "tokens/trained": means["tokens/trained"] * len(rows)}

    def _is_measured(self) -> bool:
        every = self.config.evaluate_every
        regular = bool(every) and self.done % every == 0
        return bool(self.held_out) and (regular or self.done == self.steps)

    def _measure(self) -> dict[str, float]:
        """Held-out loss and accuracy (means over members); notes the best, and when to stop."""
        config = self.config
        some = self.held_out[: config.evaluate_examples or None]
        rows = [_measures(some, self._read(m.model, some), "eval") for m in self.members]
        metrics = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        self.folder.log(self.done, metrics, stage="reward_model")
        self.show.evaluation(self.done, metrics)
        loss, since = metrics["loss/eval"], self.lowest[2] + 1
        if loss < self.lowest[0]:
            self.lowest = (loss, self.done, 0)
            if config.keep == "best":
                for member in self.members:
                    member.best = copy.deepcopy(member.model.trained.state_dict())
        else:
            self.lowest = (*self.lowest[:2], since)
            self.stopped = bool(config.patience) and since >= config.patience
        return metrics

    def _judged(self) -> tuple[RewardModel, dict[str, Any]]:
        """The finished model with its mean and spread, and what held-out items say of it."""
        config, models = self.config, [member.model for member in self.members]
        items = self.held_out or self.train[:WITHOUT_HELD_OUT]
        said = [self._read(model, items) for model in models]
        outputs = [readings.outputs for readings in said]
        model, joint = settled(models, config.ensemble, items, outputs)
        found: dict[str, Any] = {"mean": model.mean, "std": model.std}
        if not self.held_out:
            return model, found
        seen = verdicts(items, joint)
        found |= figures(self.train, seen)
        if self.before:
            found["loss_before"] = self.before["loss/eval"]
        some = self.train[: config.evaluate_examples or len(items)]
        trained = [self._read(model, some) for model in models]
        found |= {
            "loss_after": _mean([readings.loss for readings in said]),
            "train_loss": _mean([readings.loss for readings in trained]),
            "train_accuracy": _mean([accuracy(verdicts(some, r.outputs)) for r in trained]),
        }
        if len(models) > 1:
            found["member_accuracy"] = [m.standing.accuracy for m in models]
        found["tables"] = tables(found, seen)
        for title, rows in found["tables"].items():
            self.show.table(rows, title)
        return model, found

    def _read(self, model: RewardModel, items: Sequence[Item]) -> Readings:
        examples = self._encoded(items)
        return read(model, self.objective, examples, self.config.micro_tokens)

    def _encoded(self, items: Sequence[Item]) -> list[Example]:
        config, model = self.config, self.members[0].model
        return [
            encode(
                item,
                config.kind,
                model.chat,
                max_tokens=model.max_tokens,
                step_separator=config.step_separator,
            )
            for item in items
        ]


def _measures(items: Sequence[Item], said: Readings, where: str) -> dict[str, float]:
    """Loss, accuracy and margin of a batch, or of what is held out."""
    seen = verdicts(items, said.outputs)
    return {
        f"loss/{where}": said.loss,
        f"rm/accuracy_{where}": accuracy(seen),
        f"rm/margin_{where}": _mean([v.gap for v in seen]),
    }


def _spread(said: Readings) -> dict[str, float]:
    """Where the head's outputs lie."""
    outputs = torch.tensor([x for those in said.outputs for x in those])
    return {
        "rm/reward_mean": float(outputs.mean()),
        "rm/reward_std": float(outputs.std(correction=0)),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _ignore(_: str) -> None:
    """What was left out was told once."""
