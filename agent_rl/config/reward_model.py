"""The settings of the stage ``reward_model``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from agent_rl.config.shared import ModelConfig, OptimizerConfig, RunConfig


@dataclass(frozen=True)
class JudgedData:
    """One file of judgements, or several.

    Args:
        path: A file, folder or hub id, or ``@name`` of a stage. For ``bradley_terry`` and
            ``ranking``: pairs (docs/preferences.md). For ``outcome``: ``prompt``, ``completion``
            and ``label`` (true, false, or a share from 0 to 1). For ``process``: ``prompt``,
            ``completions`` (the steps) and ``labels``, as TRL's stepwise type.
        paths: Several of them in place of ``path``, such as the pairs of every round so far.
    """

    path: str | None = None
    paths: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return self.paths if self.path is None else (self.path,)


@dataclass(frozen=True)
class EnsembleConfig:
    """Several reward models that differ in the start of their heads and the order of their data.

    Args:
        members: How many; all train side by side, so memory is as many times that of one.
        combine: Their score: "mean"; "min" (worst case, WCO); "uwo" (mean less
            ``uncertainty_weight`` times the variance); "mean_std" (less the standard deviation).
        uncertainty_weight: The price of disagreement.
    """

    members: int = 1
    combine: Literal["mean", "min", "mean_std", "uwo"] = "mean"
    uncertainty_weight: float = 1.0


@dataclass(frozen=True)
class RewardModelConfig:
    """A reward model: a language model with a scalar head, trained on judgements.

    Args:
        model: The starting point: a base or instruction-tuned model, or a reward model to go on
            with.
        data: The judgements.
        optimizer: How weights move.
        run: Folder, seed, threads, checkpoints.
        kind: "bradley_terry" (pairs), "ranking" (all pairs of a prompt are one element of a batch,
            as InstructGPT), "outcome" (is the answer right), "process" (is each step right).
        epochs: Passes over the data. One is the usual choice: a second one over-fits.
        max_steps: Most optimiser updates; 0 for no limit.
        batch_size: Pairs, prompts (``ranking``) or rows in an update.
        micro_tokens: Most tokens (padding included) in one forward pass.
        max_tokens: Longest conversation, in tokens: a longer one loses its oldest messages, then
            the start of the one left, last of all the start of the answer. Both answers of a pair
            see the same rest. 0 for the model's context.
        margin: Ask a pair for its column ``margin`` as the difference of rewards (Llama 2).
        centering: Coefficient of the squared sum of a pair's rewards, which keeps them around 0;
            0.01 is usual.
        head_std: Standard deviation of the new head's weights; null for 1 / sqrt(width + 1).
        step_separator: What ends a step (``process``).
        aggregation: How the scores of an answer's steps become one (``process``).
        ensemble: Several models, and how they agree.
        held_out: About how many pairs or rows are measured and never trained on, by the hash of the
            prompt (at most a quarter); 0 for none.
        evaluate_every: Updates between two measurements of the held-out ones; 0 for before and
            after only.
        evaluate_examples: How many of them while training; 0 for all. The final report has all.
        keep: Leave the "last" weights, or the "best": those of the lowest held-out loss measured.
        patience: Stop after so many measurements without a lower held-out loss; 0 never stops.
    """

    result: ClassVar[str] = "model"

    model: ModelConfig
    data: JudgedData
    optimizer: OptimizerConfig = OptimizerConfig()
    run: RunConfig = RunConfig()
    kind: Literal["bradley_terry", "ranking", "outcome", "process"] = "bradley_terry"
    epochs: int = 1
    max_steps: int = 0
    batch_size: int = 32
    micro_tokens: int = 8192
    max_tokens: int = 0
    margin: bool = False
    centering: float = 0.0
    head_std: float | None = None
    step_separator: str = "\n"
    aggregation: Literal["min", "prod", "mean", "last"] = "min"
    ensemble: EnsembleConfig = EnsembleConfig()
    held_out: int = 200
    evaluate_every: int = 25
    evaluate_examples: int = 0
    keep: Literal["last", "best"] = "last"
    patience: int = 0

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        yield from self.model.problems()
        if (self.data.path is None) == (not self.data.paths):
            yield "data", "needs either path or paths"
        compares = self.kind in ("bradley_terry", "ranking")
        if (self.margin or self.centering) and not compares:
            yield "margin" if self.margin else "centering", f"does not fit kind {self.kind}"
        if self.head_std is not None and self.head_std < 0:
            yield "head_std", f"is {self.head_std:g}; it must be at least 0"
        if self.head_std == 0 and self.ensemble.members > 1:
            yield "head_std", "is 0, so all members of the ensemble would start alike"
        if self.kind == "process" and not self.step_separator:
            yield "step_separator", "is empty, so no step would end"
        measured = self.held_out > 0 and self.evaluate_every > 0
        if (self.keep == "best" or self.patience) and not measured:
            name = "keep" if self.keep == "best" else "patience"
            yield name, "needs held_out and evaluate_every above 0"
