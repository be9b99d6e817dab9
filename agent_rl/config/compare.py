"""The settings of the stage ``compare``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from agent_rl.config.shared import EnvConfig, RunConfig, SamplingConfig


@dataclass(frozen=True)
class Contestant:
    """One policy of a comparison.

    Args:
        path: Its folder, hub id or ``@name``.
        name: What it is called; None takes the path.
        best_of: Sample this many completions per answer and take the best by ``choose_by``; 1 takes
            the one that was sampled.
    """

    path: str
    name: str | None = None
    best_of: int = 1

    @property
    def label(self) -> str:
        """What it is called."""
        return self.name or self.path


@dataclass(frozen=True)
class CompareConfig:
    """Several policies on the same tasks: rewards, KL, and each one's win rate over the one before.

    Args:
        models: The policies in order; the first is the one that KL is measured to.
        env: The environment that asks and pays.
        verifier: Judges instead of the environment: a name, or a name with options.
        choose_by: The verifier by which ``best_of`` chooses; None is the one that judges.
        sampling: How completions are drawn.
        split: The split to play.
        tasks: How many tasks, from the first on; 0 for all.
        samples: Completions per task and policy.
        on_truncation: What a completion cut at the token limit means.
        generation: Precision of the weights that generate; None means float32.
        run: Folder, seed, threads.
    """

    result: ClassVar[str] = ""

    models: tuple[Contestant, ...]
    env: EnvConfig
    verifier: str | dict[str, Any] | None = None
    choose_by: str | dict[str, Any] | None = None
    sampling: SamplingConfig = SamplingConfig()
    split: str = "test"
    tasks: int = 100
    samples: int = 1
    on_truncation: Literal["zero", "score"] = "zero"
    generation: Literal["float32", "bfloat16"] | None = None
    run: RunConfig = RunConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        if not self.models:
            yield "models", "is empty; name at least one policy"
        twice = [n for n, count in Counter(m.label for m in self.models).items() if count > 1]
        if twice:
            yield "models", f"has {twice[0]} twice; give each a name of its own"
        for number, model in enumerate(self.models):
            if model.best_of < 1:
                yield f"models.{number}.best_of", f"is {model.best_of}; it must be at least 1"
            if model.best_of > 1 and self.sampling.temperature == 0:
                yield (
                    f"models.{number}.best_of",
                    f"is {model.best_of}, but sampling.temperature is 0, so that all samples are "
                    "equal; set a temperature",
                )
        if self.samples < 1:
            yield "samples", "is 0; there is nothing to compare"
