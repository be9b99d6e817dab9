"""The settings of the stage ``ai_feedback``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from agent_rl.config.shared import EnvConfig, ModelConfig, RunConfig, SamplingConfig


@dataclass(frozen=True)
class EndpointConfig:
    """A model behind an OpenAI-compatible endpoint.

    Args:
        base_url: With the version, such as ``http://localhost:8000/v1``.
        model: The model's name there.
        api_key_env: The environment variable that holds the key; null sends none.
        timeout_s: Seconds for one attempt.
        retries: Attempts after the first.
        concurrency: Requests at once.
    """

    base_url: str
    model: str
    api_key_env: str | None = None
    timeout_s: float = 120.0
    retries: int = 5
    concurrency: int = 16


@dataclass(frozen=True)
class JudgeConfig:
    """Who criticises, revises and chooses: a local model, an endpoint, or the policy itself.

    Args:
        model: A local model; it chooses by the probabilities of its answers A and B.
        endpoint: A model behind an endpoint; it chooses by a verdict in JSON.
    """

    model: ModelConfig | None = None
    endpoint: EndpointConfig | None = None


@dataclass(frozen=True)
class PromptsConfig:
    """What the policy is asked: the rows of a file, or the first messages of an environment.

    Args:
        path: A file, folder or hub id with ``prompt`` or ``messages``, or pairs of any convention.
        env: An environment.
    """

    path: str | None = None
    env: EnvConfig | None = None


@dataclass(frozen=True)
class AIFeedbackConfig:
    """Constitutional AI (Bai et al. 2022): a model criticises and revises, or labels pairs.

    Args:
        mode: ``revise``: the policy answers, its answer is criticised by a principle and revised;
            data for the stage ``sft``. ``label``: the policy answers twice, and the better answer
            by a principle is chosen; pairs for the stages ``reward_model`` and ``dpo``.
        model: The policy that answers.
        judge: Who criticises, revises and chooses; the policy itself where neither is given.
        principles_path: A YAML file with the principles.
        prompts: What the policy is asked.
        tasks: How many prompts, from the first on; 0 for all.
        rounds: Critiques and revisions of each answer, each by a principle of its own (revise).
        sampling: How the policy answers.
        judge_sampling: How critiques and revisions are written; of an endpoint's model only the
            temperature and ``max_tokens`` are told.
        tie_margin: A pair is a tie where the probability that the first answer is better is within
            this of a half (label).
        on_truncation: Leave out what has an answer or a revision that was cut at the token limit
            ("drop"), or use it as it stands ("keep").
        max_chars: Characters of each text that a judge is shown; of a longer one the middle is left
            out (label).
        tasks_at_once: Prompts that are worked on together; after each chunk a stopped stage can go
            on.
        run: Folder, seed, threads.
    """

    result: ClassVar[str] = "data.jsonl"

    mode: Literal["revise", "label"]
    model: ModelConfig
    principles_path: str
    prompts: PromptsConfig
    judge: JudgeConfig = JudgeConfig()
    tasks: int = 100
    rounds: int = 1
    sampling: SamplingConfig = SamplingConfig()
    judge_sampling: SamplingConfig = SamplingConfig()
    tie_margin: float = 0.0
    on_truncation: Literal["drop", "keep"] = "drop"
    max_chars: int = 20_000
    tasks_at_once: int = 16
    run: RunConfig = RunConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        yield from self.model.problems()
        if (self.prompts.path is None) == (self.prompts.env is None):
            yield "prompts", "needs either path (a file) or env (its tasks)"
        if self.judge.model is not None and self.judge.endpoint is not None:
            yield "judge", "has both model and endpoint; give one, or neither for the policy itself"
        if self.judge.model is not None:
            for name, problem in self.judge.model.problems():
                yield f"judge.{name}", problem
        if not 0 <= self.tie_margin < 0.5:
            yield "tie_margin", f"is {self.tie_margin:g}; it must be from 0 to below 0.5"
