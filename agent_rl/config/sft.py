"""The settings of the stage ``sft``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from agent_rl.config.shared import DataConfig, ModelConfig, OptimizerConfig, RunConfig


@dataclass(frozen=True)
class SFTConfig:
    """Supervised fine-tuning on completions only.

    Args:
        model: The starting point.
        data: The examples.
        optimizer: How weights move.
        run: Folder, seed, threads, checkpoints.
        steps: Optimiser updates.
        batch_size: Examples per update.
        packing: Put several examples in one row of ``pack_tokens``, each blind to the others.
        pack_tokens: Length of a packed row, in tokens.
        micro_tokens: Most tokens (padding included) in one forward pass.
        held_out: Examples whose loss is measured before and after, never trained on: of the
            environment's test split, or about as many rows of a file (at most 15 %, by the hash of
            the prompt); 0 for none.
    """

    result: ClassVar[str] = "model"

    model: ModelConfig
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    run: RunConfig = RunConfig()
    steps: int = 100
    batch_size: int = 32
    packing: bool = False
    pack_tokens: int = 512
    micro_tokens: int = 8192
    held_out: int = 64

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        yield from self.model.problems()
        if (self.data.path is None) == (self.data.env is None):
            yield "data", "needs either path (a file) or env (its demonstrations)"
