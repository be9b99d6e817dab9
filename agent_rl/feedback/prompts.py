"""What a policy is asked: the rows of a file, or the first messages of an environment's tasks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from agent_rl.config import PromptsConfig
from agent_rl.errors import UserError
from agent_rl.generating import assignments_of
from agent_rl.preferences.rows import Unusable, convention_of, read_row
from rl_envs import content_id, load_rows
from rl_envs.types import Message

Prompt = tuple[Message, ...]


def prompts_of(config: PromptsConfig, tasks: int, seed: int) -> list[Prompt]:
    """The first prompts, each once.

    Args:
        config: Where they come from.
        tasks: How many; 0 for all.
        seed: Of the environment's episodes.

    Raises:
        UserError: A row that has no prompt, or endless tasks and no number of them.
        DataError: A file or an environment that cannot be used.
    """
    if config.env is not None:
        found = []
        for task in assignments_of(config.env, tasks, seed):
            with closing(task.env.clone()) as env:
                found.append(env.reset(seed=task.seed, options={"index": task.index})[0])
        return _once(found)
    assert config.path is not None
    rows = enumerate(load_rows(config.path), start=1)
    found = [_prompt(row, f"{config.path}, row {n}") for n, row in rows]
    prompts = _once([prompt for prompt in found if prompt])
    if not prompts:
        raise UserError(f"{config.path}: none of {len(found)} rows has a prompt")
    return prompts[:tasks] if tasks else prompts


def _once(prompts: list[Prompt]) -> list[Prompt]:
    return list({content_id(list(prompt)): prompt for prompt in prompts}.values())


def _prompt(row: Mapping[str, Any], where: str) -> Prompt:
    """The prompt of a row: ``prompt``, ``messages`` without the answer, or that of a pair.

    Empty for a pair that has none of its own: an empty answer, say.
    """
    if row.get("chosen") is not None:
        try:
            return read_row(row, convention_of(row, where), where).prompt
        except Unusable:
            return ()
    given = row.get("prompt")
    if isinstance(given, str) and given.strip():
        return ({"role": "user", "content": given},)
    if given is None and row.get("messages"):
        given = list(row["messages"])
        while given and isinstance(given[-1], dict) and given[-1].get("role") == "assistant":
            given.pop()
    whole = isinstance(given, list | tuple) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
        for m in given
    )
    if not given or not whole:
        raise UserError(
            f"{where}: needs prompt (a text or a list of messages), messages, or chosen and "
            f"rejected; it has {', '.join(map(str, row))}"
        )
    return tuple(given)
