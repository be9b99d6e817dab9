"""``agent-rl play``: a person answers in the place of the policy."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console as Terminal
from rich.text import Text

import rl_envs
from agent_rl.errors import UserError
from agent_rl.overrides import override_tree
from agent_rl.runs.text import clean
from rl_envs.types import Message


def play(
    env_id: str, overrides: Sequence[str], *, seed: int, index: int | None, episodes: int
) -> int:
    """Play episodes from standard input; the end of input ends the game.

    Args:
        env_id: An id, or ``file.py[:Class]``.
        overrides: Constructor options, as in ``--terms 3``.
        seed: Of the first episode; the next ones count up.
        index: Play this task; None draws one.
        episodes: How many; 0 for as long as there is input.

    Raises:
        UserError: The index is outside the environment's tasks.
        DataError: No such environment or option.
    """
    options = override_tree(overrides)
    env = rl_envs.make(env_id, **options)
    try:
        env.prepare()
        size = env.tasks.size
        if index is not None and (index < 0 or (size is not None and index >= size)):
            raise UserError(f"--index {index}: {env_id} has {size or 'endless'} tasks, from 0 on")
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="backslashreplace")
        terminal = Terminal(markup=False, highlight=False, emoji=False)
        number = 0
        while episodes == 0 or number < episodes:
            if not _episode(env, terminal, seed + number, index):
                break
            number += 1
    finally:
        env.close()
    return 0


def _episode(env: rl_envs.TextEnv, terminal: Terminal, seed: int, index: int | None) -> bool:
    """One episode; False when the input ended."""
    observation, info = env.reset(seed=seed, options={} if index is None else {"index": index})
    _print(terminal, f"--- task {info['task_id']}", style="dim")
    total = 0.0
    while True:
        _print_messages(terminal, observation)
        action = _heard(terminal)
        if action is None:
            _print(terminal, "\n(end of input)")
            return False
        observation, reward, terminated, truncated, info = env.step(action)
        total += reward
        score = info.get("score")
        verdict = f"  {score.status}: {score.reason}" if score is not None else ""
        _print(terminal, f"reward {reward:g}{verdict}", style="green" if reward > 0 else "red")
        if terminated or truncated:
            _print_messages(terminal, observation)
            how = "ended" if terminated else "cut by its limit"
            turns = "1 turn" if env.turn == 1 else f"{env.turn} turns"
            _print(terminal, f"episode {how} after {turns}; return {total:g}")
            return True


def _heard(terminal: Terminal) -> str | None:
    r"""One answer: a line; more while one ends with ``\`` or a fence is open; None at the end."""
    lines: list[str] = []
    while True:
        terminal.print("you> " if not lines else "...> ", end="", style="bold")
        line = sys.stdin.readline()
        if not line:
            return "\n".join(lines) if lines else None
        text = line.rstrip("\r\n")
        goes_on = text.endswith("\\")
        lines.append(text[:-1] if goes_on else text)
        fences = sum(each.lstrip().startswith("```") for each in lines)
        if not goes_on and fences % 2 == 0:
            return "\n".join(lines)


def _print_messages(terminal: Terminal, messages: Sequence[Message]) -> None:
    for message in messages:
        _print(terminal, f"{message['role']}: {message.get('content') or ''}")


def _print(terminal: Terminal, text: str, style: str | None = None) -> None:
    """Plain characters only: what an environment or a verifier says is not markup."""
    safe = clean(text, terminal.encoding)
    terminal.print(Text(safe), style=style, soft_wrap=True)
