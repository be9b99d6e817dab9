"""The settings of the stage ``dpo``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from agent_rl.config.shared import ModelConfig, OptimizerConfig, RunConfig

LossKind = Literal["dpo", "robust", "normalized", "ipo", "kto", "orpo", "simpo"]
BETAS: dict[LossKind, float] = {
    "dpo": 0.1,
    "robust": 0.1,
    "normalized": 5.0,
    "ipo": 0.1,
    "kto": 0.1,
    "orpo": 0.1,
    "simpo": 2.0,
}
REFERENCE_FREE = ("orpo", "simpo")
SMOOTHED = ("dpo", "robust", "normalized")


@dataclass(frozen=True)
class PreferenceLoss:
    """A loss of the DPO family; equations and sources are in docs/direct_alignment.md.

    Args:
        kind: "dpo" (with ``label_smoothing``: cDPO), "robust", "normalized" (DPO per token),
            "ipo", "kto" (single answers), "orpo" and "simpo" (both without a reference).
        beta: Its strength (IPO's tau, ORPO's lambda); None takes the loss's own: 0.1, 5 for
            "normalized", 2 for "simpo".
        label_smoothing: Share of wrong labels that "dpo", "robust" and "normalized" reckon with.
        gamma: By how much SimPO's chosen answer is to lead.
        desirable_weight: Weight of KTO's desirable answers.
        undesirable_weight: Weight of its undesirable ones.
    """

    kind: LossKind = "dpo"
    beta: float | None = None
    label_smoothing: float = 0.0
    gamma: float = 1.0
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    @property
    def strength(self) -> float:
        """``beta``, or the loss's own."""
        return BETAS[self.kind] if self.beta is None else self.beta

    @property
    def needs_reference(self) -> bool:
        """Whether the loss compares with the starting model."""
        return self.kind not in REFERENCE_FREE

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        if self.strength <= 0:
            yield "loss.beta", f"is {self.strength:g}; it must be above 0"
        if not 0 <= self.label_smoothing < 0.5:
            yield "loss.label_smoothing", "is the share of wrong labels: from 0 to below 0.5"
        if self.label_smoothing and self.kind not in SMOOTHED:
            yield "loss.label_smoothing", f"does nothing in {self.kind}; set it to 0"
        if min(self.desirable_weight, self.undesirable_weight) < 0:
            yield "loss", "has a negative weight; desirable_weight and undesirable_weight are >= 0"


@dataclass(frozen=True)
class PreferenceData:
    """A file of preferences.

    Args:
        path: A file, folder or hub id, or ``@name`` of a stage: pairs (docs/preferences.md); for
            "kto" also ``prompt``, ``completion`` and ``label`` (true: desirable).
    """

    path: str


@dataclass(frozen=True)
class DPOConfig:
    """Direct alignment: a policy learns from preferences without a reward model or sampling.

    Args:
        model: The starting point, and the reference that the loss compares with.
        data: The preferences.
        loss: Which loss of the family.
        optimizer: How weights move.
        run: Folder, seed, threads, checkpoints.
        epochs: Passes over the data.
        max_steps: Most optimiser updates; 0 for no limit.
        batch_size: Pairs in an update (rows, where "kto" learns from single answers).
        micro_tokens: Most tokens (padding included) in one forward pass, unless one pair needs
            more; changes memory and speed, nothing else.
        max_tokens: Longest prompt with its answer, in tokens; a pair with a longer one is left out
            and counted. 0: the model's context.
        held_out: About how many pairs (at most a quarter, by the hash of the prompt) are never
            trained on: their accuracy and margin are measured before, during and after. 0 for none.
        evaluate_every: Steps between two measurements; 0 measures only before and after.
        evaluate_examples: How many of the held-out pairs the measurements between read; 0: all.
    """

    result: ClassVar[str] = "model"

    model: ModelConfig
    data: PreferenceData
    loss: PreferenceLoss = PreferenceLoss()
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-6)
    run: RunConfig = RunConfig()
    epochs: int = 1
    max_steps: int = 0
    batch_size: int = 32
    micro_tokens: int = 4096
    max_tokens: int = 0
    held_out: int = 256
    evaluate_every: int = 0
    evaluate_examples: int = 0

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        yield from self.model.problems()
        yield from self.loss.problems()
