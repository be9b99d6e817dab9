"""The settings of ``agent-rl eval``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from agent_rl.config.shared import EnvConfig, ModelConfig, SamplingConfig


@dataclass(frozen=True)
class EvalConfig:
    """Accuracy of a model on an environment: greedy, pass@k, majority@k, with intervals.

    Args:
        model: The model to judge.
        envs: One environment, or several that are each reported.
        sampling: How completions are drawn; temperature counts for the sampled figures.
        split: The split to play.
        tasks: How many tasks, from the first on; 0 for all.
        samples: Samples per task for pass@k and majority@k; 0 for greedy only.
        greedy: Whether to measure the greedy accuracy.
        on_truncation: A completion cut at the token limit counts as wrong ("zero"), or is judged as
            it stands ("score": games whose action is a single token).
        turn_timeout_s: Seconds an environment has for an answer; as in training.
        episode_timeout_s: Seconds an episode has; as in training.
        seed: Seed of the samples.
        threads: Threads of torch.
        concurrency: Episodes played at once.
        out: A folder for the result and every completion; None prints only.
    """

    model: ModelConfig
    envs: tuple[EnvConfig, ...]
    sampling: SamplingConfig = SamplingConfig()
    split: str = "test"
    tasks: int = 200
    samples: int = 0
    greedy: bool = True
    on_truncation: Literal["zero", "score"] = "zero"
    turn_timeout_s: float = 0.0
    episode_timeout_s: float = 0.0
    seed: int = 0
    threads: int = 1
    concurrency: int = 32
    out: str | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        yield from self.model.problems()
        if not self.envs:
            yield "envs", "is empty; name at least one environment"
        if not self.greedy and self.samples == 0:
            yield "samples", "is 0 and greedy is off; there is nothing to measure"
