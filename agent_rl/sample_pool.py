"""A pool of scored samples per prompt, written as it grows and resumed after its last whole chunk.

The file ``samples.jsonl`` of a run folder has a line per prompt. What a stage makes of it is read
back from it, so a run that was killed and went on ends with the same bytes as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from agent_rl.chat import Chat
from agent_rl.chunks import ChunkFile
from agent_rl.config import EnvConfig, ModelConfig, SamplingConfig
from agent_rl.errors import UserError
from agent_rl.generating import load_engine, sample_tasks, to_sampling, verdicts
from agent_rl.measure import rollout_metrics
from agent_rl.rollout import Assignment, Deadlines, OnTruncation, seed_of
from agent_rl.runs import Console, RunFolder
from agent_rl.runs.files import read_json_lines
from agent_rl.self_play import seats_of
from agent_rl.trajectory import Trajectory, Turn
from rl_envs import make
from rl_envs.judges import VerifierSpec, check_verifier, resolve_verifier
from rl_verifiers import Score, Verifier

SAMPLES = "samples.jsonl"
CHOOSER = "proxy"  # the verifier that only chooses: it sees a cut completion as it stands


@dataclass(frozen=True, slots=True)
class Sample:
    """One scored episode.

    Attributes:
        sample: Its number within the prompt.
        completion: The assistant's text; of several turns the last one.
        messages: The whole conversation, where it has several turns; the assistant's messages that
            the policy sampled have ``weight`` 1.
        reward: What the environment paid; None where it failed us.
        passed: Whether the task counts as solved.
        scores: What each verifier says, by name; None where it failed us.
        cut: Whether a limit on tokens or time ended it, so that its text is not whole.
        tokens: That the policy sampled.
        error: Our failure, or None.
    """

    sample: int
    completion: str
    reward: float | None
    passed: bool
    cut: bool
    tokens: int
    messages: list[dict[str, Any]] = field(default_factory=list)
    scores: dict[str, float | None] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """One task and all its samples.

    Attributes:
        task: Number of the task.
        task_id: Its id within the environment.
        env: The environment's id.
        messages: What was asked.
        tools: OpenAI's definitions of tools that the template told; None for none.
        samples: In their order.
    """

    task: int
    task_id: str
    env: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    samples: list[Sample]


@dataclass(frozen=True)
class Sampler:
    """What is sampled, and who scores it.

    Attributes:
        stage: The stage, for the log.
        model: The policy.
        sampling: How completions are drawn.
        samples: Completions per task.
        verifiers: Those that score each sample besides the environment, by name.
        on_truncation: What a completion cut at the token limit means, to the environment and to
            the verifiers (but ``proxy``, which only chooses, judges it as it stands).
        deadlines: How long an answer and an episode may take.
        tasks_at_once: Tasks in a chunk.
        seed: Of the samples.
    """

    stage: str
    model: ModelConfig
    sampling: SamplingConfig
    samples: int
    verifiers: Mapping[str, VerifierSpec]
    on_truncation: OnTruncation
    deadlines: Deadlines
    tasks_at_once: int
    seed: int

    def pool(
        self, assignments: Sequence[Assignment], folder: RunFolder, show: Console, *, resume: bool
    ) -> tuple[list[Prompt], float]:
        """Every prompt with its samples, and the seconds that this call took.

        Args:
            assignments: The tasks.
            folder: Where ``samples.jsonl`` and the metrics of each chunk go.
            show: What the person at the terminal sees.
            resume: Keep the whole chunks that are there.

        Raises:
            UserError: Every sample of a chunk failed by our own fault, or a verifier on each.
        """
        started = time.perf_counter()
        file = ChunkFile(folder.path / SAMPLES, self.tasks_at_once, len(assignments), resume=resume)
        folder.truncate_after(file.done)
        show.start(file.n_chunks, done=file.done)
        if file.done < file.n_chunks:
            judges = {name: resolve_verifier(spec) for name, spec in self.verifiers.items()}
            engine, chat = load_engine(self.model, self.seed)
            chunks = sample_tasks(
                engine,
                chat,
                assignments,
                samples=self.samples,
                sampling=to_sampling(self.sampling),
                seed=seed_of(self.seed, 1),
                on_truncation=self.on_truncation,
                deadlines=self.deadlines,
                tasks_at_once=self.tasks_at_once,
                skip=file.n_items,
            )
            begun = time.perf_counter()
            for groups in chunks:
                first = file.n_items
                asked = assignments[first : first + len(groups)]
                rows = _rows(groups, asked, chat, first, self._judged(judges, groups, asked))
                file.append(rows)
                played = [t for group in groups for t in group]
                metrics = _metrics(played, rows, time.perf_counter() - begun)
                folder.log(file.done, metrics, stage=self.stage)
                show.step(file.done, metrics)
                begun = time.perf_counter()
        show.stop()
        return read_pool(folder), time.perf_counter() - started

    def _judged(
        self,
        judges: Mapping[str, Verifier],
        groups: Sequence[Sequence[Trajectory]],
        assignments: Sequence[Assignment],
    ) -> dict[str, list[list[Score]]]:
        """What each verifier says of every episode."""
        return {
            name: verdicts(
                name,
                judge,
                groups,
                assignments,
                on_truncation="score" if name == CHOOSER else self.on_truncation,
            )
            for name, judge in judges.items()
        }


def read_pool(folder: RunFolder) -> list[Prompt]:
    """What ``samples.jsonl`` of a run folder holds."""
    prompts = []
    for row in read_json_lines(folder.path / SAMPLES):
        samples = [Sample(**sample) for sample in row["samples"]]
        prompts.append(Prompt(**{**row, "samples": samples}))
    return prompts


def check_sampled(env: EnvConfig, verifiers: Mapping[str, VerifierSpec | None]) -> None:
    """Whether whole conversations of an environment are what its policy saw, and the verifiers are.

    Raises:
        UserError: It plays against itself, or its policy sees only the newest message.
        DataError: There is no such verifier.
    """
    for name, spec in verifiers.items():
        if spec is not None:
            check_verifier(name, spec)
    made = make(env.id, **env.options)
    if seats_of(made) > 1:
        raise UserError(
            f"{env.id} plays against itself, so an episode has no one score; give it an opponent, "
            "such as opponent: minimax"
        )


def refuse_forgetful(env: EnvConfig) -> None:
    """Whether a conversation of the environment can be trained on as it stands.

    Raises:
        UserError: The policy saw only the newest message of it.
    """
    if make(env.id, **env.options).memory == "last":
        raise UserError(
            f"{env.id} shows its policy only the newest message (memory: last), so whole "
            "conversations are not what it answered; set its option memory: full"
        )


def usable(sample: Sample) -> bool:
    """Whether a sample is a whole text that everybody could judge."""
    judged = sample.error is None and all(v is not None for v in sample.scores.values())
    return judged and not sample.cut and bool(sample.completion.strip())


def _rows(
    groups: Sequence[Sequence[Trajectory]],
    assignments: Sequence[Assignment],
    chat: Chat,
    first: int,
    judged: Mapping[str, Sequence[Sequence[Score]]],
) -> list[dict[str, Any]]:
    """A line of ``samples.jsonl`` per task."""
    rows = []
    for number, (group, task) in enumerate(zip(groups, assignments, strict=True)):
        whole = next((t for t in group if t.opening), group[0])
        samples = [
            asdict(_sample(t, chat, {name: said[number][n] for name, said in judged.items()}))
            for n, t in enumerate(group)
        ]
        asked = [dict(m) for m in whole.opening]
        about = Prompt(first + number, whole.task_id, task.name, asked, whole.definitions, [])
        rows.append({**asdict(about), "samples": samples})
    return rows


def _sample(trajectory: Trajectory, chat: Chat, said: Mapping[str, Score]) -> Sample:
    failed = [score.error for score in said.values() if score.error]
    error = trajectory.error or (failed[0] if failed else None)
    if error is None and not trajectory.turns:
        error = "the episode has no turn"
    texts = [_text(turn, trajectory, chat) for turn in trajectory.turns]
    return Sample(
        sample=trajectory.sample,
        completion=texts[-1] if texts else "",
        reward=None if trajectory.error else trajectory.total_reward,
        passed=trajectory.passed and error is None,
        cut=trajectory.cut or trajectory.late,
        tokens=trajectory.n_sampled,
        messages=_conversation(trajectory, texts) if len(texts) > 1 else [],
        scores={name: None if s.is_error else s.value for name, s in said.items()},
        error=error,
    )


def _text(turn: Turn, trajectory: Trajectory, chat: Chat) -> str:
    """A completion as it can be encoded again: where the template tells tools, with its marks."""
    if trajectory.definitions is None:
        return turn.text
    return chat.decode(turn.completion_ids, special_tokens=True)


def _conversation(trajectory: Trajectory, texts: Sequence[str]) -> list[dict[str, Any]]:
    """The messages up to the last answer; those of the policy have weight 1."""
    said: list[dict[str, Any]] = [dict(m) for m in trajectory.opening]
    for text, answer in zip(texts, [*trajectory.answers, ()], strict=False):
        said.append({"role": "assistant", "content": text, "weight": 1})
        said += [dict(m) for m in answer]
    while said and said[-1]["role"] != "assistant":
        said.pop()
    return said


def _metrics(
    played: Sequence[Trajectory], rows: Sequence[Mapping[str, Any]], seconds: float
) -> dict[str, float]:
    metrics = rollout_metrics(played, [t for t in played if t.error is None], seconds)
    samples = [sample for row in rows for sample in row["samples"]]
    for name in samples[0]["scores"] if samples else ():
        values = [s["scores"][name] for s in samples if s["scores"].get(name) is not None]
        metrics[f"sample/{name}"] = sum(values) / len(values) if values else float("nan")
    return metrics
