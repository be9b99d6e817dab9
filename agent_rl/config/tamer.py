"""The settings of the stage ``tamer``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from agent_rl.config.rl import RLConfig
from agent_rl.config.trajectory_preferences import SegmentRewardConfig, label_problems


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
        yield from label_problems(self)
        if self.stream == 0:
            yield "stream", "is 0; say how many actions a trajectory has"
