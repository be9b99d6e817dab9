"""The settings of the stage ``online_dpo``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from agent_rl.config.dpo import PreferenceLoss
from agent_rl.config.shared import (
    EnvConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    SamplingConfig,
)


@dataclass(frozen=True)
class OnlineDPOConfig:
    """Online DPO: the policy answers, the environment's reward picks the pairs, DPO learns.

    Args:
        model: The policy's starting point, and the reference that the loss compares with.
        envs: The environments, mixed by weight; their reward (a verifier, a judge, a learned
            reward, a group verifier) ranks the answers to a prompt. Single contexts only.
        loss: Which loss of the DPO family; "kto" learns from single answers and is not among them.
        sampling: How answers are drawn.
        optimizer: How weights move.
        evaluation: Held-out evaluation.
        run: Folder, seed, threads, checkpoints.
        steps: Batches of answers, each followed by one optimiser update.
        prompts_per_step: Prompts per batch; each gives one pair, its best and its worst answer.
        group_size: Answers to each prompt. A prompt whose answers are all equally good gives none.
        micro_tokens: Most tokens (padding included) in one forward pass, unless one pair needs
            more; changes memory and speed, nothing else.
        on_truncation: A completion cut at the token limit earns 0 ("zero"), is judged as it
            stands ("score"), or is left out ("mask").
        turn_timeout_s: Seconds an environment has for an answer; 0 for no limit.
        episode_timeout_s: Seconds an episode has, sampling included; 0 for no limit.
        reference_refresh: Steps after which the reference becomes the present policy; 0 never.
    """

    result: ClassVar[str] = "model"

    model: ModelConfig
    envs: tuple[EnvConfig, ...]
    loss: PreferenceLoss = PreferenceLoss()
    sampling: SamplingConfig = SamplingConfig()
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-6)
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunConfig = RunConfig()
    steps: int = 100
    prompts_per_step: int = 16
    group_size: int = 4
    micro_tokens: int = 4096
    on_truncation: Literal["zero", "score", "mask"] = "zero"
    turn_timeout_s: float = 0.0
    episode_timeout_s: float = 0.0
    reference_refresh: int = 0

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        yield from self.model.problems()
        yield from self.loss.problems()
        if not self.envs:
            yield "envs", "is empty; name at least one environment"
        if self.group_size < 2:
            yield "group_size", "must be at least 2: a pair is the best and the worst of a group"
        if self.loss.kind == "kto":
            yield "loss.kind", "is kto, which has no pairs; take dpo, ipo, simpo or another"
        if self.sampling.temperature == 0:
            yield "sampling.temperature", "is 0, so all answers to a prompt are the same"
