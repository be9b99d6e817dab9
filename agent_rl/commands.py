"""The commands that are neither training nor a listing of settings: evaluate, list, play."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console as Terminal
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table
from rich.text import Text

import rl_envs
import rl_verifiers
from agent_rl.errors import UserError
from rl_envs.types import Message


def evaluate(
    path: str | None, env: str | None, overrides: Sequence[str], *, as_json: bool
) -> int:
    """``agent-rl eval``."""
    from agent_rl.config import EvalConfig  # noqa: PLC0415
    from agent_rl.loading import build, parse_overrides, put, read  # noqa: PLC0415
    from agent_rl.stages import evaluate as stage  # noqa: PLC0415

    tree: dict[str, Any] = read(path, overrides) if path else {}
    if not path:
        for key, value in parse_overrides(overrides):
            put(tree, key, value)
    if env:
        listed = tree.get("envs") or [{}]
        tree["envs"] = [{**listed[0], "id": env}]
    if not tree.get("envs"):
        raise UserError("eval needs an environment: --env text/GSM8K-v0")
    config = build(EvalConfig, tree, path or "eval")
    with Progress(
        *Progress.get_default_columns(), MofNCompleteColumn(), console=Terminal(stderr=True)
    ) as progress:
        task = progress.add_task("episodes", total=stage.n_episodes(config))
        outcome = stage.run(config, lambda _: progress.advance(task))
    if config.out:
        save_rows(Path(config.out), outcome)
    if as_json:
        print(json.dumps(outcome["results"]))
    else:
        _print_results(outcome["results"])
    return 0


def save_rows(folder: Path, outcome: dict[str, Any]) -> None:
    """Write ``results.json`` and ``completions.jsonl``; an existing result is not replaced."""
    from agent_rl.runs import write_atomically  # noqa: PLC0415

    if (folder / "results.json").exists():
        raise UserError(f"{folder} holds results already; give another folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) for row in outcome["rows"])
    write_atomically(folder / "completions.jsonl", "".join(f"{line}\n" for line in lines))
    write_atomically(folder / "results.json", json.dumps(outcome["results"], indent=2))


def _print_results(results: Sequence[dict[str, Any]]) -> None:
    terminal = Terminal()
    for result in results:
        table = Table(title=f"{result['env']} ({result['split']}, {result['tasks']} tasks)")
        table.add_column("measure")
        table.add_column("value", justify="right")
        table.add_column("95 % interval", justify="right")
        for name, value in result.items():
            interval = result.get(f"{name}_interval")
            if name in ("env", "split", "tasks") or name.endswith("_interval"):
                continue
            shown = f"{value:.3f}" if isinstance(value, float) else str(value)
            span = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
            table.add_row(name, shown, span)
        terminal.print(table)


def list_envs(*, as_json: bool) -> int:
    """``agent-rl envs``."""
    rows = [dataclasses.asdict(listed) for listed in rl_envs.listing()]
    return _print_rows(rows, "environments", as_json)


def list_verifiers(*, as_json: bool) -> int:
    """``agent-rl verifiers``."""
    rows = [{"name": name, "what": rl_verifiers.describe(name)} for name in rl_verifiers.names()]
    return _print_rows(rows, "verifiers", as_json)


def _print_rows(rows: Sequence[dict[str, Any]], title: str, as_json: bool) -> int:
    if as_json:
        print(json.dumps(rows, default=str))
        return 0
    table = Table(title=title)
    for column in rows[0] if rows else []:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if v is None else _short(v)) for v in row.values()))
    Terminal().print(table)
    return 0


def _short(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def play(
    env_id: str, overrides: Sequence[str], *, seed: int, index: int | None, episodes: int
) -> int:
    """``agent-rl play``: a person answers; end of input ends the game."""
    from agent_rl.loading import parse_overrides, put  # noqa: PLC0415

    options: dict[str, Any] = {}
    for key, value in parse_overrides(overrides):
        put(options, key, value)
    env = rl_envs.make(env_id, **options)
    terminal = Terminal()
    number = 0
    while episodes == 0 or number < episodes:
        if not _episode(env, terminal, seed + number, index):
            break
        number += 1
    return 0


def _episode(env: rl_envs.TextEnv, terminal: Terminal, seed: int, index: int | None) -> bool:
    """One episode; False when the input ended."""
    observation, info = env.reset(seed=seed, options={} if index is None else {"index": index})
    terminal.rule(Text(f"task {info['task_id']}"))
    total = 0.0
    while True:
        _print_messages(terminal, observation)
        terminal.print("[bold]you>[/bold] ", end="")
        line = sys.stdin.readline()
        if not line:
            terminal.print("\n(end of input)")
            return False
        action = line.rstrip("\n").replace("\\n", "\n")
        observation, reward, terminated, truncated, info = env.step(action)
        total += reward
        score = info.get("score")
        verdict = f"  {score.status}: {score.reason}" if score is not None else ""
        terminal.print(Text(f"reward {reward:g}{verdict}"), style="green" if reward > 0 else "red")
        if terminated or truncated:
            _print_messages(terminal, observation)
            how = "ended" if terminated else "cut by its limit"
            terminal.print(f"episode {how} after {env.turn} turns; return {total:g}")
            return True


def _print_messages(terminal: Terminal, messages: Sequence[Message]) -> None:
    for message in messages:
        terminal.print(Text(f"{message['role']}: ", style="bold"), Text(message["content"]), sep="")


def print_settings(kind: str) -> int:
    """``agent-rl settings``: every setting, its type, default and meaning."""
    from jsonargparse import ArgumentParser  # noqa: PLC0415

    from agent_rl.config import EvalConfig, RLConfig, SFTConfig  # noqa: PLC0415

    classes: dict[str, Any] = {"rl": RLConfig, "sft": SFTConfig, "eval": EvalConfig}
    parser = ArgumentParser(prog="agent-rl", usage="", add_help=False)
    parser.add_class_arguments(classes[kind], None)
    print(parser.format_help())
    return 0
