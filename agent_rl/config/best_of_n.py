"""The settings of the stage ``best_of_n``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from agent_rl.config.shared import EnvConfig, ModelConfig, RunConfig, SamplingConfig


@dataclass(frozen=True)
class BestOfNConfig:
    """What the best of n samples is worth, for several n, by what chooses and by what is wanted.

    Args:
        model: The policy.
        env: The environment that asks; its reward is what is wanted ("gold").
        gold: A verifier whose score is wanted instead of the environment's reward.
        proxy: The verifier that chooses, such as ``{name: reward_model, path: "@rm"}``; null lets
            the gold score choose.
        sampling: How completions are drawn.
        split: The split to play.
        tasks: How many prompts, from the first on; 0 for all.
        samples: Completions per prompt: the pool from which the best of n is estimated.
        ns: The numbers n, none above ``samples``; a pool well above the largest makes less noise.
        on_truncation: A completion cut at the token limit earns 0, or is judged as it stands.
        tasks_at_once: Prompts that are sampled together; after each chunk a stopped stage can go
            on.
        turn_timeout_s: Seconds an environment has for an answer; 0 for no limit.
        episode_timeout_s: Seconds an episode has, sampling included; 0 for no limit.
        run: Folder, seed, threads.
    """

    result: ClassVar[str] = ""

    model: ModelConfig
    env: EnvConfig
    gold: str | dict[str, Any] | None = None
    proxy: str | dict[str, Any] | None = None
    sampling: SamplingConfig = SamplingConfig()
    split: str = "test"
    tasks: int = 64
    samples: int = 128
    ns: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    on_truncation: Literal["zero", "score"] = "zero"
    tasks_at_once: int = 16
    turn_timeout_s: float = 0.0
    episode_timeout_s: float = 0.0
    run: RunConfig = RunConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        yield from self.model.problems()
        if not self.ns or min(self.ns) < 1 or max(self.ns) > self.samples:
            yield (
                "ns",
                f"is {list(self.ns)}; it must be numbers from 1 to samples ({self.samples})",
            )
        if len(set(self.ns)) < len(self.ns):
            yield "ns", f"is {list(self.ns)}; name each number once"
