"""What a step logs: metrics by name (each explained in ``docs/metrics.md``) and rollout rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agent_rl.chat import Chat
from agent_rl.experience import Credit, Experience
from agent_rl.runs.text import clip
from agent_rl.trajectory import Trajectory, segments
from rl_envs.tools.env import COUNTS
from rl_envs.types import Message

TOKEN_ROWS = 32  # episodes of a saved step that keep every token's figures
MOST_TOKENS = 2000  # of each of them
MOST_MESSAGES = 200  # of an episode, and characters of one
MESSAGE_CHARS = 10_000


def rollout_metrics(
    played: Sequence[Trajectory], kept: Sequence[Trajectory], seconds: float
) -> dict[str, float]:
    """Rewards, lengths and speed of a batch.

    Args:
        played: All episodes of the batch.
        kept: Those that are trained on; rewards are theirs.
        seconds: What playing took.
    """
    rewards = torch.tensor([t.total_reward for t in kept] or [float("nan")])
    lengths = [t.n_sampled for t in played]
    tokens = sum(lengths)
    metrics = {
        "reward/mean": float(rewards.mean()),
        "reward/std": float(rewards.std(unbiased=False)),
        "reward/passed": _share([t.passed for t in kept]),
        "groups/zero_spread": _share(_no_spread(kept)),
        "samples/error": _share([t.error is not None for t in played]),
        "samples/truncated": _share([t.cut or t.truncated for t in played]),
        "length/mean": tokens / max(1, len(played)),
        "length/max": max(lengths, default=0),
        "turns/mean": sum(len(t.turns) for t in played) / max(1, len(played)),
        "tokens/sampled": tokens,
        "tokens/tool": sum(t.n_inserted for t in played),
        "episodes/retried": sum(bool(t.failures) for t in played),
        "episodes/errors": sum(t.error is not None for t in played),
        "episodes/late": sum(t.late for t in played),
        "speed/tokens_per_s": tokens / max(seconds, 1e-9),
        "speed/samples_per_s": len(played) / max(seconds, 1e-9),
    }
    return {**metrics, **_parts(kept), **_tools(played)}


class Learned(NamedTuple):
    """What a step trained on.

    Attributes:
        batch: The tokens.
        credit: What they earned.
        gap_t: [T] log policy - log reference at the sampled tokens.
    """

    batch: Experience
    credit: Credit
    gap_t: Tensor | None


def credit_metrics(learned: Learned, values: Tensor | None) -> dict[str, float]:
    """Advantages, KL to the reference, and how well the value head explains the returns.

    Args:
        learned: The tokens and what they earned.
        values: [T + B] or None.
    """
    batch, credit, gap_t = learned
    moved_n = torch.zeros(len(batch.trajectories))
    moved_n.index_add_(0, batch.trajectory_t, credit.advantages_t.abs())
    metrics = {
        "advantage/mean": float(credit.advantages_t.mean()),
        "advantage/std": float(credit.advantages_t.std(unbiased=False)),
        "samples/zero_advantage": float((moved_n == 0).float().mean()),
        "reward/penalised": float(credit.returns_n.mean()),
    }
    if gap_t is not None:
        metrics["kl/reference"] = float(gap_t.sum()) / len(batch.trajectories)
    if values is not None:
        left_t = credit.returns_t - values[: batch.n_tokens]
        spread = float(credit.returns_t.var(unbiased=False))
        metrics["value/explained_variance"] = (
            1.0 - float(left_t.var(unbiased=False)) / spread if spread > 0 else 0.0
        )
    return metrics


def rollout_rows(
    played: Sequence[Trajectory], learned: Learned | None, chat: Chat, step: int
) -> list[dict[str, Any]]:
    """One row per episode for ``rollouts/`` and the report, with what training made of it.

    Args:
        played: The episodes.
        learned: What of them was trained on; None for nothing.
        chat: Their chat template.
        step: Number of the step.
    """
    rows: list[dict[str, Any]] = [
        {"step": step, **episode_row(t, chat), "advantage": None, "kl": None} for t in played
    ]
    if learned is None:
        return rows
    batch, credit, gap_t = learned
    numbers = {id(t): n for n, t in enumerate(batch.trajectories)}
    advantage_n = _mean_by_trajectory(credit.advantages_t, batch)
    kl_n = None if gap_t is None else _sum_by_trajectory(gap_t, batch)
    for place, (row, trajectory) in enumerate(zip(rows, played, strict=True)):
        n = numbers.get(id(trajectory))
        if n is None:
            continue
        row["advantage"] = float(advantage_n[n])
        row["kl"] = None if kl_n is None else float(kl_n[n])
        if place < TOKEN_ROWS:
            row["tokens"] = _tokens(trajectory, credit.advantages_t[batch.trajectory_t == n], chat)
    return rows


def _tokens(trajectory: Trajectory, advantages: Tensor, chat: Chat) -> list[dict[str, Any]]:
    """Every token after the prompt, for the report's colours: what was sampled, and what was shown.

    A context that does not go on from the one before it (``memory="last"``) stands there whole.
    """
    learned = zip(
        [x for turn in trajectory.turns for x in turn.logprobs], advantages.tolist(), strict=True
    )
    tokens: list[dict[str, Any]] = []
    for number, segment in enumerate(segments(trajectory)):
        sampled = set(segment.sampled)
        for place in range(segment.prompt_length if number == 0 else 0, len(segment.ids)):
            text = chat.tokenizer.decode([segment.ids[place]])
            logprob, advantage = next(learned) if place in sampled else (None, None)
            mask = int(place in sampled)
            tokens.append({"text": text, "mask": mask, "logprob": logprob, "advantage": advantage})
            if len(tokens) == MOST_TOKENS:
                return tokens
    return tokens


def episode_row(trajectory: Trajectory, chat: Chat) -> dict[str, Any]:
    """An episode as a row that a person can read and ``agent-rl score`` can score again."""
    score = trajectory.score
    first = trajectory.turns[0] if trajectory.turns else None
    last = trajectory.turns[-1] if trajectory.turns else None
    row = {
        "env": trajectory.env,
        "task_id": trajectory.task_id,
        "group": trajectory.group,
        "sample": trajectory.sample,
        "prompt": "" if first is None else chat.tokenizer.decode(list(first.prompt_ids)),
        "completion": "\n".join(turn.text for turn in trajectory.turns),
        "reward": trajectory.total_reward,
        "parts": dict(score.parts) if score else {},
        "passed": trajectory.passed,
        "status": "error" if trajectory.error else (score.status if score else ""),
        "reason": trajectory.error or (score.reason if score else ""),
        "n_tokens": trajectory.n_sampled,
        "turns": len(trajectory.turns),
        "finish_reason": last.finish_reason if last else "",
        "terminated": trajectory.terminated,
        "truncated": trajectory.truncated or trajectory.cut,
    }
    if len(trajectory.turns) > 1:
        row["rewards"] = [turn.reward for turn in trajectory.turns]
        row["messages"] = _messages(trajectory)
    if trajectory.tools:
        row["tools"] = dict(trajectory.tools)
    if trajectory.failures:
        row["failures"] = list(trajectory.failures)
    return row


def _messages(trajectory: Trajectory) -> list[dict[str, Any]]:
    """The whole conversation: what was asked, said, paid and answered."""
    said = [_shown(message) for message in trajectory.opening]
    for turn, answer in zip(trajectory.turns, [*trajectory.answers, ()], strict=False):
        said.append({**_shown(Message(role="assistant", content=turn.text)), "reward": turn.reward})
        said.extend(_shown(message) for message in answer)
    return said[:MOST_MESSAGES]


def _shown(message: Message) -> dict[str, Any]:
    content = clip(str(message.get("content") or ""), MESSAGE_CHARS)
    shown: dict[str, Any] = {"role": message["role"], "content": content}
    if message.get("name"):
        shown["name"] = clip(str(message["name"]), MESSAGE_CHARS)
    if message.get("tool_calls"):
        shown["tool_calls"] = clip(str(message["tool_calls"]), MESSAGE_CHARS)
    return shown


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0


def _no_spread(kept: Sequence[Trajectory]) -> list[bool]:
    rewards: dict[tuple[int, int], set[float]] = defaultdict(set)
    for trajectory in kept:
        rewards[trajectory.comparison].add(trajectory.total_reward)
    return [len(values) == 1 for values in rewards.values()]


def _parts(kept: Sequence[Trajectory]) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for trajectory in kept:
        for name, value in (trajectory.score.parts if trajectory.score else {}).items():
            values[f"reward/part/{name}"].append(value)
    return {name: sum(v) / len(kept) for name, v in values.items()}  # a missing part counts 0


def _tools(played: Sequence[Trajectory]) -> dict[str, float]:
    """Mean counts of the episodes that have tools; nothing where none has."""
    counted = [t.tools for t in played if t.tools]
    return {
        f"tools/{name}": sum(counts.get(name, 0) for counts in counted) / len(counted)
        for name in (COUNTS if counted else ())
    }


def _sum_by_trajectory(values_t: Tensor, batch: Experience) -> Tensor:
    return values_t.new_zeros(len(batch.trajectories)).index_add_(0, batch.trajectory_t, values_t)


def _mean_by_trajectory(values_t: Tensor, batch: Experience) -> Tensor:
    counts_n = torch.bincount(batch.trajectory_t, minlength=len(batch.trajectories)).clamp(min=1)
    return _sum_by_trajectory(values_t, batch) / counts_n
