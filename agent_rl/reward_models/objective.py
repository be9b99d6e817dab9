"""The loss of a batch of examples, in micro-batches, and what a model gives held-out ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agent_rl.algorithms import reward_losses
from agent_rl.packing import pack
from agent_rl.reward_models.data import Example
from agent_rl.reward_models.model import Kind, RewardModel

ONE_PASS = 2**31  # pack() puts a whole chunk into one forward pass


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimized.

    Attributes:
        kind: Which loss.
        margin: Whether pairs ask for their margins.
        centering: Coefficient that keeps rewards around 0.
    """

    kind: Kind
    margin: bool = False
    centering: float = 0.0

    def losses(self, outputs: Tensor, examples: Sequence[Example]) -> Tensor:
        """The loss of each example [B] from the head's outputs [targets] in their order."""
        if self.kind in ("outcome", "process"):
            labels = torch.tensor([label for e in examples for label in e.item.labels])
            labels = labels.to(outputs)
            if self.kind == "outcome":
                return reward_losses.outcome(outputs, labels)
            counts = torch.tensor([len(e.item.labels) for e in examples])
            solution = torch.arange(len(examples)).repeat_interleave(counts)
            return reward_losses.process(outputs, labels, solution.to(outputs.device))
        better, worse, margins, owner = _pairs(examples, outputs.device)
        losses = reward_losses.bradley_terry(
            outputs[better],
            outputs[worse],
            margin_b=margins if self.margin else None,
            centring=self.centering,
        )
        counts = torch.bincount(owner, minlength=len(examples))
        total = torch.zeros(len(examples), device=outputs.device).index_add(0, owner, losses)
        return total / counts  # InstructGPT, equation 1: the mean over a prompt's pairs


@dataclass(frozen=True, slots=True)
class Readings:
    """What a model says of some examples, beside the truth.

    Attributes:
        losses: [B] of each example.
        outputs: [B] lists of the head's outputs: of each answer, or of each step.
    """

    losses: list[float]
    outputs: list[list[float]]

    @property
    def loss(self) -> float:
        """The mean over examples."""
        return sum(self.losses) / len(self.losses)


def backward(
    model: RewardModel, objective: Objective, batch: Sequence[Example], micro_tokens: int
) -> Readings:
    """Gradients of the mean loss of a batch, whatever the micro-batches; what the model said."""
    return _read(model, objective, batch, micro_tokens, learn=True)


@torch.no_grad()
def read(
    model: RewardModel, objective: Objective, examples: Sequence[Example], micro_tokens: int
) -> Readings:
    """What a model says of examples, in their order."""
    return _read(model, objective, examples, micro_tokens, learn=False)


def _read(
    model: RewardModel,
    objective: Objective,
    examples: Sequence[Example],
    micro_tokens: int,
    *,
    learn: bool,
) -> Readings:
    losses = [0.0] * len(examples)
    outputs: list[list[float]] = [[] for _ in examples]
    for chunk in chunks(examples, micro_tokens):
        some = [examples[i] for i in chunk]
        segments = [s for e in some for s in e.segments]
        flat = model.rewards(pack(segments, micro_tokens=ONE_PASS))
        model.refuse_non_finite(flat.detach())
        loss = objective.losses(flat, some)
        if learn:
            (loss.sum() / len(examples)).backward()
        said = flat.detach().float().cpu().split([_n_targets(e) for e in some])
        for i, value, those in zip(chunk, loss.tolist(), said, strict=True):
            losses[i], outputs[i] = value, those.tolist()
    return Readings(losses, outputs)


def chunks(examples: Sequence[Example], micro_tokens: int) -> Iterator[list[int]]:
    """Indices in forward passes of at most ``micro_tokens`` padded positions, alike in length."""
    chunk: list[int] = []
    width = 0
    for i in sorted(range(len(examples)), key=lambda i: -examples[i].n_tokens):
        width = width or examples[i].n_tokens
        if chunk and width * (len(chunk) + 1) > micro_tokens:
            yield chunk
            chunk, width = [], examples[i].n_tokens
        chunk.append(i)
    if chunk:
        yield chunk


def _n_targets(example: Example) -> int:
    return sum(max(1, len(segment.sampled)) for segment in example.segments)


def _pairs(
    examples: Sequence[Example], device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Better and worse answers as flat indices, margins, and whose pair each is; [pairs] each."""
    better: list[int] = []
    worse: list[int] = []
    margins: list[float] = []
    owner: list[int] = []
    start = 0
    for number, example in enumerate(examples):
        better += [start + i for i, _ in example.item.pairs]
        worse += [start + j for _, j in example.item.pairs]
        margins += example.item.margins
        owner += [number] * len(example.item.pairs)
        start += len(example.segments)
    indices = [torch.tensor(x, dtype=torch.long, device=device) for x in (better, worse, owner)]
    return indices[0], indices[1], torch.tensor(margins, device=device), indices[2]
