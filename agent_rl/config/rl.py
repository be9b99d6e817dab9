"""The settings of the stage ``rl``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from agent_rl.algorithms import Algorithm
from agent_rl.config.shared import (
    DataConfig,
    EnvConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    ProbesConfig,
    RunConfig,
    SamplingConfig,
)


@dataclass(frozen=True)
class PTXConfig:
    """PPO-ptx: likelihood of other data, mixed into every update (Ouyang et al. 2022, equation 2).

    Args:
        data: A file of ``prompt`` and ``completion``, of ``messages``, or of ``text`` (documents,
            every token of which is trained on); or an environment's demonstrations.
        coef: Weight of the mean negative log-likelihood per token; 0 only measures it.
        batch_size: Examples per optimiser update, drawn anew each time.
    """

    data: DataConfig
    coef: float = 1.0
    batch_size: int = 16


@dataclass(frozen=True)
class RLConfig:
    """Reinforcement learning: rollouts, rewards, a policy gradient with KL regularization.

    Args:
        model: The policy's starting point; the KL reference too.
        envs: The environments, mixed by weight.
        algorithm: A preset and what differs from it; see ``docs/algorithms.md``.
        sampling: How rollouts are drawn.
        optimizer: How weights move.
        evaluation: Held-out evaluation.
        probes: Questions outside the tasks, asked at every evaluation.
        run: Folder, seed, threads, checkpoints.
        steps: Batches of rollouts.
        prompts_per_step: Tasks per batch.
        group_size: Episodes of each task.
        updates_per_step: Optimiser updates on each batch: the batch is split in this many.
        epochs: Passes over each batch.
        micro_tokens: Most tokens (padding included) in one forward pass; changes memory and speed,
            nothing else.
        share_prompts: Compute the prompt that a group shares once.
        drop_zero_advantage: Leave samples without advantage out of the backward pass, and their KL
            term with them. None: only where that changes nothing (no KL, no entropy in the loss).
        on_truncation: A completion cut at the token limit earns 0 ("zero"), is judged as it
            stands ("score"), or is left out of training ("mask").
        turn_timeout_s: Seconds an environment has for an answer (its reset included). A later one
            is our failure: the episode is played again, then left out; 0 for no limit.
        episode_timeout_s: Seconds an episode has, sampling included. A later one is truncated where
            it stands; 0 for no limit.
        train_on_tool_tokens: Take the mask off: train on what the environment inserted as well. An
            ablation that shows why it is masked; it learns worse.
        reference_refresh: Steps after which the KL reference becomes the present policy; 0 never.
        opponent_refresh: Where an environment has several seats: 0 plays them all by the present
            policy; k leaves the others to a frozen copy of it that is renewed every k steps.
        value_lr: Learning rate of the values (PPO); None takes the optimizer's.
        value_path: A reward model's folder, or in a recipe ``@name``: values (PPO) are a network of
            their own that starts as this reward model. None: a linear head on the policy.
        missing_eos_penalty: Taken off what a completion cut at the token limit earns. With a reward
            around 0, as a learned one is, the 0 of ``on_truncation`` is no punishment.
        ptx: Mix the likelihood of other data into every update; None for none.
    """

    result: ClassVar[str] = "model"

    model: ModelConfig
    envs: tuple[EnvConfig, ...]
    algorithm: Algorithm
    sampling: SamplingConfig = SamplingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    probes: ProbesConfig = ProbesConfig()
    run: RunConfig = RunConfig()
    steps: int = 100
    prompts_per_step: int = 8
    group_size: int = 8
    updates_per_step: int = 1
    epochs: int = 1
    micro_tokens: int = 8192
    share_prompts: bool = True
    drop_zero_advantage: bool | None = None
    on_truncation: Literal["zero", "score", "mask"] = "zero"
    turn_timeout_s: float = 0.0
    episode_timeout_s: float = 0.0
    train_on_tool_tokens: bool = False
    reference_refresh: int = 0
    opponent_refresh: int = 0
    value_lr: float | None = None
    value_path: str | None = None
    missing_eos_penalty: float = 0.0
    ptx: PTXConfig | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        yield from self.model.problems()
        if not self.envs:
            yield "envs", "is empty; name at least one environment"
        if self.evaluation.tasks == 0 and (self.probes.refusals or self.probes.agreement):
            yield "probes", "are asked at evaluations, of which there are none (evaluation.tasks=0)"
        compares = self.algorithm.advantage in ("group", "leave_one_out", "max_likelihood", "turn")
        if compares and self.group_size < 2:
            yield "group_size", "must be at least 2: the advantage compares a group"
        if self.updates_per_step * self.epochs > 1 and self.algorithm.ratio == "none":
            yield (
                "algorithm.ratio",
                "is none, but several updates per batch need an importance ratio; "
                "set algorithm.ratio=token, or updates_per_step and epochs to 1",
            )
        if self.value_path is not None and self.algorithm.advantage != "gae":
            yield "value_path", "does nothing without values; set algorithm.advantage=gae (PPO)"
        if self.missing_eos_penalty and self.on_truncation == "mask":
            yield "missing_eos_penalty", "does nothing where on_truncation is mask; set one of them"
        if self.missing_eos_penalty and self.algorithm.advantage == "max_likelihood":
            yield "missing_eos_penalty", "makes returns negative, which max_likelihood cannot take"
        if self.ptx is not None and (self.ptx.data.path is None) == (self.ptx.data.env is None):
            yield "ptx.data", "needs either path (a file) or env (its demonstrations)"
        episodes, kl = self.prompts_per_step * self.group_size, self.algorithm.kl
        if kl.target is not None and episodes >= 5 * kl.horizon:  # it would turn negative
            yield (
                "algorithm.kl.horizon",
                f"is {kl.horizon:g}, too short for batches of {episodes} episodes "
                f"(prompts_per_step x group_size); set it above {episodes / 5:g}",
            )
        buffer, longest = self.algorithm.overlong_buffer, self.sampling.max_tokens
        if buffer >= longest:  # every completion would be punished, some by more than a reward
            yield (
                "algorithm.overlong_buffer",
                f"is {buffer}, but completions have {longest} tokens at most; "
                f"set it below sampling.max_tokens, such as {longest // 4} (0 is off)",
            )
