"""The settings of the stage ``pairs``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from agent_rl.config.shared import EnvConfig, ModelConfig, RunConfig, SamplingConfig


@dataclass(frozen=True)
class PairsConfig:
    """Preference pairs from samples: labelled by a reward, by a judge, or by a reward model.

    Without ``judge`` and ``reward_model_path`` the environment's own reward decides.

    Args:
        model: Whose completions are compared.
        env: The environment that asks, in its split; one answer per episode.
        sampling: How completions are drawn.
        tasks: How many tasks, from the first on; 0 for all.
        samples: Completions per task.
        pairing: "all" pairs of a task, the "extremes" (the best against the worst, by reward), or
            "disjoint" (first against second, third against fourth: each completion once).
        judge: Options of the verifier ``judge`` (``base_url``, ``model``, ``rubric``); it is asked
            in both orders, and where they disagree the pair is a tie.
        reward_model_path: A reward model's folder, hub id or ``@name``.
        min_gap: Pairs whose rewards differ by less are ties; equal rewards always are.
        ties: "drop" them, or "keep" them, marked ``tie`` (nothing trains on them unless asked).
        noise: "bradley_terry" draws the label: the better of two wins with probability
            sigmoid(gap / temperature); "flip" swaps it with probability ``flip``.
        temperature: Of the noise, in rewards.
        flip: Probability of a wrong label.
        on_truncation: What a completion cut at the token limit means.
        tasks_at_once: Tasks between two points from which a stopped stage goes on.
        run: Folder, seed, threads.
    """

    result: ClassVar[str] = "data.jsonl"

    model: ModelConfig
    env: EnvConfig
    sampling: SamplingConfig = SamplingConfig()
    tasks: int = 0
    samples: int = 2
    pairing: Literal["all", "extremes", "disjoint"] = "all"
    judge: dict[str, Any] | None = None
    reward_model_path: str | None = None
    min_gap: float = 0.0
    ties: Literal["drop", "keep"] = "drop"
    noise: Literal["none", "bradley_terry", "flip"] = "none"
    temperature: float = 1.0
    flip: float = 0.1
    on_truncation: Literal["zero", "score"] = "zero"
    tasks_at_once: int = 16
    run: RunConfig = RunConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        yield from self.model.problems()
        if self.samples < 2:
            yield "samples", f"is {self.samples}; a pair needs at least 2 completions of a task"
        if self.judge is not None and self.reward_model_path is not None:
            yield "judge", "and reward_model_path are both given; one of them labels"
        if self.judge is not None and self.pairing == "extremes":
            yield "pairing", "extremes needs rewards, and a judge gives none; take all or disjoint"
        if self.judge is not None and self.noise == "bradley_terry":
            yield "noise", "bradley_terry needs rewards, and a judge gives none; take flip"
        if not 0 <= self.min_gap < math.inf:
            yield "min_gap", f"is {self.min_gap}; it must be a finite number, 0 or more"
        if not 0 < self.temperature < math.inf:
            yield "temperature", f"is {self.temperature}; it must be finite and above 0"
        if not 0 <= self.flip <= 1:
            yield "flip", f"is {self.flip}; it must be a probability"
