"""The settings of the stage ``trajectory_preferences``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from agent_rl.config.rl import RLConfig


@dataclass(frozen=True)
class SegmentRewardConfig:
    """The learned reward: an ensemble of perceptrons on the tokens of a step.

    Args:
        members: Networks in the ensemble; their disagreement chooses what is asked.
        hidden: Width of their two hidden layers.
        buckets: Features: (position, token) has one of its own while they last, then shares.
        seen: Tokens of the observation that count, from its end.
        done: Tokens of the action that count, from its start.
        lr: Learning rate (Adam).
        l2: Strength of the L2 penalty at first; each round it is moved so that the loss on held-out
            labels is 1.1 to 1.5 times that on trained ones.
        updates: Updates after each round of labels.
        batch_size: Labels per update.
    """

    members: int = 3
    hidden: int = 64
    buckets: int = 4096
    seen: int = 32
    done: int = 8
    lr: float = 1e-3
    l2: float = 1e-4
    updates: int = 100
    batch_size: int = 64


@dataclass(frozen=True)
class TrajectoryPreferencesConfig(RLConfig):
    """Reinforcement learning from comparisons of segments (Christiano et al. 2017).

    Args:
        reward: The learned reward.
        labeler: Who compares: ``synthetic`` by the true return of both segments, or ``file``: the
            stage writes ``queries.jsonl``, stops, and goes on with ``--resume`` once
            ``labels_path`` holds an answer to each, as ``agent-rl label`` writes it.
        labels_path: Where the answers are, for ``file``; null means ``labels.jsonl`` in the run
            folder.
        labels: How many comparisons are asked for in the whole run.
        labels_first: Share of them asked about the play of the starting policy.
        labels_half_life: Steps after which labels are asked for at half the rate; 0 spreads them
            evenly.
        labels_until: The step by which all have been asked for; 0 means the last.
        label_noise: Chance that ``synthetic`` is wrong: it says the opposite, or of equal
            returns that one is better.
        choice: Ask about the pairs whose predictions the ensemble disagrees on most, or any.
        candidates: Pairs that are looked at for each one asked.
        segment: Steps of a segment.
        uniform: Assumed chance that an answer was random.
        stream: Steps of a stream, in which episodes follow one another: every trajectory has one
            length, and the end of an episode is no signal. 0 leaves episodes as they are, and their
            length speaks.
        end_text: What is seen in a stream after an episode terminated.
        end_steps: For how many actions it is seen, earning nothing, until the next episode begins.
            0: that begins at once, and the end is not seen at all.
        end_penalty: What ``synthetic`` takes off where an episode terminated in a stream.
    """

    reward: SegmentRewardConfig = field(default_factory=SegmentRewardConfig)
    labeler: Literal["synthetic", "file"] = "synthetic"
    labels_path: str | None = None
    labels: int = 700
    labels_first: float = 0.25
    labels_half_life: int = 10
    labels_until: int = 0
    label_noise: float = 0.0
    choice: Literal["disagreement", "random"] = "disagreement"
    candidates: int = 10
    segment: int = 20
    uniform: float = 0.1
    stream: int = 100
    end_text: str = "(ended)"
    end_steps: int = 10
    end_penalty: float = 0.0

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        yield from super().problems()
        yield from label_problems(self)
        if 0 < self.stream < self.segment:
            yield "segment", f"is {self.segment}, longer than a stream of {self.stream} steps"
        if not 0 <= self.uniform <= 1:
            yield "uniform", f"is {self.uniform:g}; it must be from 0 to 1"
        if self.uniform == 1:
            yield "uniform", "is 1: answers that are all random teach nothing"


def label_problems(config: Any) -> Iterator[tuple[str, str]]:
    """What is wrong with the settings of a stage that learns its reward from labels."""
    if config.algorithm.dynamic_sampling:
        yield (
            "algorithm.dynamic_sampling",
            "chooses groups by their true reward, which the trainer must not see; set it false",
        )
    for name in ("labels_first", "label_noise"):
        value = getattr(config, name)
        if not 0 <= value <= 1:
            yield name, f"is {value:g}; it must be from 0 to 1"
    if round(config.labels_first * config.labels) < 1:
        yield "labels_first", "asks for no label in the first step, which needs one"
    if config.labels_until > config.steps:
        yield (
            "labels_until",
            f"is {config.labels_until}, after the last of {config.steps} steps: "
            "not all labels would be asked for",
        )
    if config.labels_path is not None and config.labeler != "file":
        yield "labels_path", "does nothing with this labeler; set labeler: file"
