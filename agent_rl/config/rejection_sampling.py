"""The settings of the stage ``rejection_sampling``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from agent_rl.config.shared import EnvConfig, ModelConfig, RunConfig, SamplingConfig


@dataclass(frozen=True)
class RejectionSamplingConfig:
    """Sample several completions per task, score them, keep the best: data for the stage ``sft``.

    Args:
        model: The policy that is sampled.
        env: The environment that asks and pays.
        verifier: Scores instead of the environment: a name, or a name with options, such as
            ``{name: reward_model, path: "@rm"}``.
        sampling: How completions are drawn.
        tasks: How many tasks, from the first on; 0 for all.
        samples: Completions per task.
        select: ``top_per_prompt`` keeps the ``keep`` best of each prompt, ``top_overall`` the
            ``keep`` best of all, ``threshold`` every one of at least ``threshold``.
        keep: How many, per prompt or in all.
        threshold: Nothing below it is kept, whatever ``select`` is; null for no limit.
        deduplicate: Count completions of one prompt that are equal as one, before selecting.
        control: Write ``control.jsonl`` too: as many rows of each prompt, drawn at random.
        tasks_at_once: Tasks that are played together; after each chunk a stopped stage can go on.
        turn_timeout_s: Seconds an environment has for an answer; 0 for no limit.
        episode_timeout_s: Seconds an episode has, sampling included; 0 for no limit.
        run: Folder, seed, threads.
    """

    result: ClassVar[str] = "data.jsonl"

    model: ModelConfig
    env: EnvConfig
    verifier: str | dict[str, Any] | None = None
    sampling: SamplingConfig = SamplingConfig()
    tasks: int = 100
    samples: int = 8
    select: Literal["top_per_prompt", "top_overall", "threshold"] = "top_per_prompt"
    keep: int = 1
    threshold: float | None = None
    deduplicate: bool = True
    control: bool = True
    tasks_at_once: int = 16
    turn_timeout_s: float = 0.0
    episode_timeout_s: float = 0.0
    run: RunConfig = RunConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        yield from self.model.problems()
        if self.samples < 1:
            yield "samples", "is 0; there is nothing to select from"
        if self.select == "threshold" and self.threshold is None:
            yield "threshold", "is null; select: threshold needs the lowest score that is kept"
        if self.select == "top_per_prompt" and self.keep > self.samples:
            yield "keep", f"is {self.keep}, but there are {self.samples} samples per prompt"
