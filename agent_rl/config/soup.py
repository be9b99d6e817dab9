"""The settings of the stage ``soup``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from agent_rl.config.shared import RunConfig


@dataclass(frozen=True)
class Ingredient:
    """One model of a soup.

    Args:
        path: Its folder or ``@name``; or a checkpoint of a run, such as
            ``@sft/checkpoints/step-000100``.
        weight: Its share, relative to the others.
    """

    path: str
    weight: float = 1.0


@dataclass(frozen=True)
class SoupConfig:
    """Average the weights of several models of one architecture and one tokenizer.

    Args:
        models: The models and their shares. All are policies, or all are reward models.
        run: Folder.
    """

    result: ClassVar[str] = "model"

    models: tuple[Ingredient, ...]
    run: RunConfig = RunConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        if not self.models:
            yield "models", "is empty; name the models that are averaged"
        for number, model in enumerate(self.models):
            if not (model.weight >= 0 and math.isfinite(model.weight)):
                yield (
                    f"models.{number}.weight",
                    f"is {model.weight:g}; it must be a share of 0 or more",
                )
        if self.models and sum(model.weight for model in self.models) <= 0:
            yield "models", "has no weight above 0"
