"""The settings of the stage ``tamer``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from agent_rl.config.rl import RLConfig
from agent_rl.config.trajectory_preferences import SegmentRewardConfig


@dataclass(frozen=True)
class TamerConfig(RLConfig):
    """Learning from a person's word on single actions (TAMER, Knox & Stone 2009).

    Args:
        reward: The model of the person: what they would say of an action.
        labeler: Who judges: ``synthetic`` says good where the action is the one of the
            environment's own oracle and bad elsewhere, or ``file``: the stage writes
            ``queries.jsonl``, stops, and goes on with ``--resume`` once ``labels_path`` holds each
            of its rows with ``feedback`` 1 or -1.
        labels_path: Where the answers are, for ``file``; null means ``labels.jsonl`` in the run
            folder.
        labels: How many actions are judged in the whole run.
        labels_first: Share of them judged in the first step.
        labels_half_life: Steps after which actions are judged at half the rate; 0 spreads them
            evenly.
        labels_until: The step by which all have been judged; 0 means the last.
        label_noise: Chance that ``synthetic`` says the opposite.
        stream: Steps of a stream, in which episodes follow one another.
    """

    reward: SegmentRewardConfig = field(default_factory=SegmentRewardConfig)
    labeler: Literal["synthetic", "file"] = "synthetic"
    labels_path: str | None = None
    labels: int = 1000
    labels_first: float = 0.1
    labels_half_life: int = 0
    labels_until: int = 0
    label_noise: float = 0.0
    stream: int = 100

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        yield from super().problems()
        if self.algorithm.dynamic_sampling:
            yield (
                "algorithm.dynamic_sampling",
                "chooses groups by their true reward, which the trainer must not see; set it false",
            )
        for name in ("labels_first", "label_noise"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                yield name, f"is {value:g}; it must be from 0 to 1"
        if self.stream == 0:
            yield "stream", "is 0; say how many actions a trajectory has"
        if round(self.labels_first * self.labels) < 1:
            yield "labels_first", "asks for no label in the first step, which needs one"
        if self.labels_until > self.steps:
            yield (
                "labels_until",
                f"is {self.labels_until}, after the last of {self.steps} steps: "
                "not all labels would be asked for",
            )
        if self.labels_path is not None and self.labeler != "file":
            yield "labels_path", "does nothing with this labeler; set labeler: file"
