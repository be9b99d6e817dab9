"""Completions of a policy with their gold reward and their KL, and what a proxy says of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agent_rl import models
from agent_rl.chat import Chat
from agent_rl.config import EnvConfig, ModelConfig, SamplingConfig
from agent_rl.engines import TorchEngine
from agent_rl.generating import to_sampling
from agent_rl.packing import pack
from agent_rl.policy import Policy
from agent_rl.reward_models import RewardModel
from agent_rl.rollout import Assignment, play_groups, refuse_if_all_failed, seed_of
from agent_rl.runs.files import read_json_lines, to_json, write_atomically
from agent_rl.trajectory import Trajectory, segments
from rl_envs import make
from rl_envs.types import Message

AT_ONCE = 512  # episodes that are sampled, and conversations that are scored, together
MICRO_TOKENS = 16_384


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion.

    Attributes:
        task: Number of its task among those that were drawn.
        prompt: The messages it answers.
        text: What was sampled.
        gold: The known reward.
        log_ratio: log policy - log start of the whole completion, in nats; 0 for the start itself.
    """

    task: int
    prompt: list[Message]
    text: str
    gold: float
    log_ratio: float = 0.0

    @property
    def conversation(self) -> list[Message]:
        """As a reward model reads it."""
        return [*self.prompt, {"role": "assistant", "content": self.text}]


class Sampler:
    """Draws from the starting policy or from a later one, and measures KL to the start.

    Args:
        start: The starting policy's folder.
        env: The environment with the known reward.
        sampling: How completions are drawn; temperature 1.
        seed: Fixes every sample.
    """

    def __init__(self, start: str, env: EnvConfig, sampling: SamplingConfig, seed: int) -> None:
        self.model, self.chat = models.load(ModelConfig(path=start), seed)
        self._start = Policy(models.frozen_copy(self.model))
        self._engine = TorchEngine(
            self.model,
            eos_token_ids=models.end_token_ids(self.model, self.chat),
            tokenizer=self.chat.tokenizer,
        )
        self._env, self._sampling, self._seed = env, to_sampling(sampling), seed

    def load(self, weights: dict[str, Any]) -> None:
        """Go on with other weights of the same model."""
        self.model.load_state_dict(weights)
        self._engine.load_weights(None)

    def tasks(self, split: str, count: int) -> list[Assignment]:
        """``count`` tasks, evenly from all of a split, or all of them again and again."""
        env = make(self._env.id, **{**self._env.options, "split": split})
        env.prepare()
        size = env.tasks.size
        spread = 1.0 if size is None or count >= size else size / count
        numbers = (
            int(n * spread) if size is None else int(n * spread) % size for n in range(count)
        )
        return [
            Assignment(env, self._env.id, number, seed_of(self._seed, n))
            for n, number in enumerate(numbers)
        ]

    def draw(
        self, tasks: Sequence[Assignment], samples: int, *part: int, moved: bool = False
    ) -> Iterator[list[list[Sample]]]:
        """Chunks of tasks, each with its ``samples`` completions (fewer where we failed).

        Args:
            tasks: What is played.
            samples: Completions of each.
            part: Numbers that set these samples apart from others of the same seed.
            moved: Whether the weights are not the start's, so that there is a KL to measure.
        """
        at_once = max(1, AT_ONCE // samples)
        for first in range(0, len(tasks), at_once):
            chunk = tasks[first : first + at_once]
            played = asyncio.run(  # no loop is kept between chunks
                play_groups(
                    self._engine,
                    self.chat,
                    chunk,
                    group_size=samples,
                    sampling=self._sampling,
                    seed=seed_of(self._seed, *part),
                    on_truncation="score",
                    first_group=first,
                    concurrency=AT_ONCE,
                )
            )
            refuse_if_all_failed(played)
            good = [t for t in played if t.error is None and t.turns]
            ratios = self._log_ratios(good) if moved else [0.0] * len(good)
            made: list[list[Sample]] = [[] for _ in chunk]
            for t, ratio in zip(good, ratios, strict=True):
                sample = Sample(t.group, list(t.opening), t.turns[-1].text, t.total_reward, ratio)
                made[t.group - first].append(sample)
            yield made

    def _log_ratios(self, played: Sequence[Trajectory]) -> list[float]:
        """Of each episode, log policy - log start of all it sampled (KL's unbiased estimate)."""
        own = [segments(t) for t in played]
        flat = [segment for some in own for segment in some]
        start, _ = self._start.score_all(pack(flat, micro_tokens=MICRO_TOKENS))
        lengths = [sum(len(segment.sampled) for segment in some) for some in own]
        return [
            math.fsum(logprob for turn in t.turns for logprob in turn.logprobs) - float(part.sum())
            for t, part in zip(played, start.split(lengths), strict=True)
        ]


def score(proxy: RewardModel, samples: Sequence[Sample]) -> np.ndarray:
    """[M] what a proxy says of each completion, float64."""
    parts = [
        proxy.score([s.conversation for s in samples[first : first + AT_ONCE]]).numpy()
        for first in range(0, len(samples), AT_ONCE)
    ]
    return np.concatenate(parts).astype(np.float64)


def write(path: Path, samples: Sequence[Sample]) -> None:
    """All of them, or nothing."""
    write_atomically(path, "".join(to_json(asdict(s)) + "\n" for s in samples))


def read(path: Path) -> list[Sample]:
    """What ``write`` wrote."""
    return [Sample(**row) for row in read_json_lines(path)]


__all__ = ["Chat", "Sample", "Sampler", "read", "score", "write"]
