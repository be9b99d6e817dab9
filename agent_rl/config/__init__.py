"""Every setting of every stage, as frozen dataclasses. ``loading.py`` makes them from YAML.

A stage ``kind`` is a configuration class here and a module ``agent_rl.stages.kind`` with two
functions: ``check(config, unborn)`` before anything is written, and ``run(config, folder, show,
resume=False)``. What it leaves in its run folder for later stages is the class's ``result``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field
from typing import Any, ClassVar, Protocol

from agent_rl.config.ai_feedback import (
    AIFeedbackConfig,
    EndpointConfig,
    JudgeConfig,
    PromptsConfig,
)
from agent_rl.config.best_of_n import BestOfNConfig
from agent_rl.config.compare import CompareConfig, Contestant
from agent_rl.config.dpo import DPOConfig, PreferenceData, PreferenceLoss
from agent_rl.config.evaluation import EvalConfig
from agent_rl.config.online_dpo import OnlineDPOConfig
from agent_rl.config.overopt import OveroptConfig
from agent_rl.config.pairs import PairsConfig
from agent_rl.config.rejection_sampling import RejectionSamplingConfig
from agent_rl.config.reward_model import EnsembleConfig, JudgedData, RewardModelConfig
from agent_rl.config.rl import PTXConfig, RLConfig
from agent_rl.config.sft import SFTConfig
from agent_rl.config.shared import (
    DataConfig,
    EnvConfig,
    EvaluationConfig,
    LoRA,
    ModelConfig,
    OptimizerConfig,
    ProbesConfig,
    RunConfig,
    SamplingConfig,
    TinyModel,
)
from agent_rl.config.soup import Ingredient, SoupConfig
from agent_rl.config.tamer import TamerConfig
from agent_rl.config.trajectory_preferences import (
    SegmentRewardConfig,
    TrajectoryPreferencesConfig,
)

__all__ = [
    "DATA",
    "MODEL",
    "STAGES",
    "AIFeedbackConfig",
    "BestOfNConfig",
    "CompareConfig",
    "Contestant",
    "DPOConfig",
    "DataConfig",
    "EndpointConfig",
    "EnsembleConfig",
    "EnvConfig",
    "EvalConfig",
    "EvaluationConfig",
    "Ingredient",
    "JudgeConfig",
    "JudgedData",
    "LoRA",
    "ModelConfig",
    "OnlineDPOConfig",
    "OptimizerConfig",
    "OveroptConfig",
    "PTXConfig",
    "PairsConfig",
    "PreferenceData",
    "PreferenceLoss",
    "ProbesConfig",
    "PromptsConfig",
    "RLConfig",
    "RejectionSamplingConfig",
    "RewardModelConfig",
    "RunConfig",
    "SFTConfig",
    "SamplingConfig",
    "SegmentRewardConfig",
    "SoupConfig",
    "StageConfig",
    "TamerConfig",
    "TinyModel",
    "TrajectoryPreferencesConfig",
    "stage_kind",
]

MODEL, DATA = "model", "data.jsonl"  # what a stage leaves: a transformers folder, or rows


class StageConfig(Protocol):
    """What the configuration of every stage has.

    Attributes:
        result: What later stages get for ``@name``: a path within the run folder, ``MODEL`` or
            ``DATA``; empty for a stage that only measures.
        run: Folder, seed, threads, checkpoints.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    result: ClassVar[str]

    @property
    def run(self) -> RunConfig:
        """Folder, seed, threads, checkpoints."""
        ...

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings of the right type that cannot work: (dotted name, what is wrong)."""
        ...


STAGES: dict[str, type[StageConfig]] = {
    "rl": RLConfig,
    "sft": SFTConfig,
    "compare": CompareConfig,
    "pairs": PairsConfig,
    "trajectory_preferences": TrajectoryPreferencesConfig,
    "tamer": TamerConfig,
    "rejection_sampling": RejectionSamplingConfig,
    "best_of_n": BestOfNConfig,
    "ai_feedback": AIFeedbackConfig,
    "soup": SoupConfig,
    "reward_model": RewardModelConfig,
    "dpo": DPOConfig,
    "online_dpo": OnlineDPOConfig,
}
"""The stages by name."""


def stage_kind(config: StageConfig) -> str:
    """The name of a configuration's stage."""
    return next(name for name, kind in STAGES.items() if type(config) is kind)
