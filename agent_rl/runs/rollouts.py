"""Which episodes a report embeds: the newest steps and evenly spaced ones, within a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_rl.runs.charts import is_number
from agent_rl.runs.files import RunError
from agent_rl.runs.folder import RunFolder
from agent_rl.runs.text import clip

NUMBERS = ("group", "sample", "reward", "advantage", "n_tokens", "kl", "turns")
WORDS = ("env", "task_id", "status", "reason", "finish_reason")
MAX_WORD = 500
MAX_TOKENS = 4000


@dataclass(frozen=True, slots=True)
class Budget:
    """What a page may hold before browsers become slow.

    Attributes:
        steps: Steps.
        rows: Episodes.
        characters: Of prompts and completions together.
        text: Of one prompt or completion.
    """

    steps: int = 24
    rows: int = 4000
    characters: int = 6_000_000
    text: int = 20_000

    def share(self, parts: int) -> Budget:
        """The budget of one of several stages."""
        n = max(1, parts)
        return Budget(max(2, self.steps // n), self.rows // n, self.characters // n, self.text)


def embed(folder: RunFolder, budget: Budget) -> dict[str, Any]:
    """Episodes for the page's browser.

    Args:
        folder: Whose rollouts.
        budget: How many at most.

    Returns:
        ``prompts`` (each text once), ``steps`` (``{"step", "rows"}``, in order) and ``left_out``
        (one sentence, empty when everything is there).
    """
    saved = folder.rollout_steps()
    prompts: dict[str, int] = {}
    steps: dict[int, list[dict[str, Any]]] = {}
    rows_left, characters_left, total, damaged = budget.rows, budget.characters, 0, []
    for step in choose_steps(saved, budget.steps):
        try:
            rows = folder.read_rollouts(step)
        except RunError as error:
            damaged.append(str(error))
            continue
        total += len(rows)
        taken, characters_left = _take(rows, rows_left, characters_left, budget.text, prompts)
        rows_left -= len(taken)
        if taken:
            steps[step] = taken
    return {
        "prompts": list(prompts),
        "steps": [{"step": step, "rows": steps[step]} for step in sorted(steps)],
        "left_out": _left_out(saved, steps, total, damaged),
    }


def choose_steps(saved: Sequence[int], limit: int) -> list[int]:
    """At most ``limit`` steps, the most wanted first: newest, oldest, then evenly spaced ones."""
    if not saved:
        return []
    n = len(saved)
    recent = [saved[-1 - i] for i in range(min(n, max(1, limit // 4)))]
    gaps = max(1, limit - len(recent) - 1)
    even = [saved[i * (n - 1) // gaps] for i in range(gaps + 1)]
    return list(dict.fromkeys([saved[-1], saved[0], *recent, *even]))[:limit]


def _take(
    rows: Sequence[Mapping[str, Any]],
    most_rows: int,
    most_characters: int,
    most_text: int,
    prompts: dict[str, int],
) -> tuple[list[dict[str, Any]], int]:
    """Whole groups from the first on, as far as they fit, and the characters that are left."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row.get("group")), []).append(row)
    taken: list[dict[str, Any]] = []
    for members in groups.values():
        made = [compact(row, most_text) for row in members]
        size = sum(_size(row) for row in made)
        if len(taken) + len(made) > most_rows or size > most_characters:
            break
        most_characters -= size
        for row in made:
            row["prompt"] = prompts.setdefault(row["prompt"], len(prompts))
        taken += made
    return taken, most_characters


def compact(row: Mapping[str, Any], most_text: int) -> dict[str, Any]:
    """A row with known columns of known types: what a file holds need not be what we wrote."""
    made: dict[str, Any] = {name: _number(row.get(name)) for name in NUMBERS}
    made |= {name: clip(_text(row.get(name)), MAX_WORD) for name in WORDS}
    made |= {name: clip(_text(row.get(name)), most_text) for name in ("prompt", "completion")}
    parts = row.get("parts")
    if isinstance(parts, Mapping):
        made["parts"] = {clip(str(k), 100): _number(v) for k, v in list(parts.items())[:50]}
    messages = row.get("messages")
    if isinstance(messages, list) and messages:
        made["messages"] = [_message(m, most_text) for m in messages[:200]]
    tokens = row.get("tokens")
    if isinstance(tokens, list) and tokens:
        made["tokens"] = [_token(t) for t in tokens[:MAX_TOKENS]]
    return made


def _message(message: Any, most_text: int) -> dict[str, str]:
    if not isinstance(message, Mapping):
        return {"role": "", "content": clip(_text(message), most_text)}
    calls = _text(message["tool_calls"]) if message.get("tool_calls") else ""
    content = "\n".join(part for part in (_text(message.get("content")), calls) if part)
    names = (_text(message.get("role")), _text(message.get("name")))
    role = " ".join(part for part in names if part)
    if is_number(message.get("reward")):
        role = f"{role} (reward {message['reward']:g})"
    return {"role": clip(role, 100), "content": clip(content, most_text)}


def _token(token: Any) -> list[Any]:
    """[text, mask, logprob, advantage]."""
    if not isinstance(token, Mapping):
        return [_text(token), 0, None, None]
    sampled = 1 if token.get("mask") else 0
    numbers = [_number(token.get("logprob")), _number(token.get("advantage"))]
    return [clip(_text(token.get("text")), 200), sampled, *numbers]


def _size(row: Mapping[str, Any]) -> int:
    messages = sum(len(m["content"]) for m in row.get("messages", ()))
    tokens = sum(30 + len(t[0]) for t in row.get("tokens", ()))
    return len(row["prompt"]) + len(row["completion"]) + messages + tokens


def _number(value: Any) -> float | int | None:
    return value if is_number(value) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _left_out(
    saved: Sequence[int], steps: Mapping[int, Sequence[Any]], total: int, damaged: Sequence[str]
) -> str:
    parts = []
    if len(steps) + len(damaged) < len(saved):
        parts.append(f"{len(steps)} of the {len(saved)} saved steps are here")
    shown = sum(map(len, steps.values()))
    if shown < total:
        parts.append(f"{total - shown:,} episodes of the chosen steps are left out")
    text = "; ".join(parts)
    if text:
        text += ". All of them are in the run folder's rollouts/."
    return " ".join([text, *damaged]).strip()
