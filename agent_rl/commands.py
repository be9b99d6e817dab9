"""The commands that evaluate and list."""

from __future__ import annotations

import dataclasses
import inspect
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console as Terminal
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table
from rich.text import Text

import rl_envs
import rl_verifiers
from agent_rl.errors import UserError
from agent_rl.overrides import override_tree
from agent_rl.play import tool_lines
from agent_rl.runs import write_atomically
from agent_rl.runs.files import append_line, to_json
from agent_rl.runs.text import clean, clip
from rl_envs.registry import option_names
from rl_envs.tools import ToolEnv

RESULTS = "results.json"
COMPLETIONS = "completions.jsonl"
PARTIAL = "completions.partial.jsonl"


def evaluate(path: str | None, env: str | None, overrides: Sequence[str], *, as_json: bool) -> int:
    """``agent-rl eval``.

    Args:
        path: A YAML file; None where everything is overridden.
        env: Replaces the environments (the options of the first one stay).
        overrides: Words such as ``--tasks 10``.
        as_json: Print the results as one JSON list.

    Raises:
        UserError: Anything that cannot work; before the model is loaded where possible.
    """
    from agent_rl.config import EvalConfig  # noqa: PLC0415
    from agent_rl.loading import build, read  # noqa: PLC0415

    tree = read(path, overrides) if path else override_tree(overrides)
    if env:
        listed = tree.get("envs")
        first = listed[0] if isinstance(listed, list) and listed else {}
        tree["envs"] = [{**(first or {}), "id": env}]
    if not tree.get("envs"):
        raise UserError("eval needs an environment: --env text/GSM8K-v0 (agent-rl envs lists them)")
    if not tree.get("model"):
        raise UserError("eval needs a model: --model.path FOLDER")
    config = build(EvalConfig, tree, path or "eval")
    out = Path(config.out) if config.out else None
    if out is not None:
        prepare_out(out)
    import torch  # noqa: PLC0415

    from agent_rl.stages import evaluate as stage  # noqa: PLC0415

    if config.threads:
        torch.set_num_threads(config.threads)
    total = stage.n_episodes(config)
    with _Progress(total) as progress:

        def on_row(row: dict[str, Any]) -> None:
            if out is not None:
                append_line(out / PARTIAL, to_json(row))
            progress.advance()

        try:
            outcome = stage.run(config, on_row)
        except KeyboardInterrupt as interrupt:
            kept = f"; what was played is in {out / PARTIAL}" if out is not None else ""
            message = f"interrupted after {progress.done} of {total} episodes{kept}"
            raise KeyboardInterrupt(message) from interrupt
    if out is not None:
        save_rows(out, outcome)
    if as_json:
        print(to_json(outcome["results"]))
    else:
        _print_results(outcome["results"])
    return 0


class _Progress:
    """Episodes as they end: a bar on a terminal, ten lines elsewhere; on standard error."""

    def __init__(self, total: int) -> None:
        self.done, self._total = 0, total
        terminal = Terminal(stderr=True)
        columns = (*Progress.get_default_columns(), MofNCompleteColumn())
        self._bar = Progress(*columns, console=terminal) if terminal.is_terminal else None
        self._task = self._bar.add_task("episodes", total=total) if self._bar else None

    def __enter__(self) -> _Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self) -> None:
        """One more has ended."""
        self.done += 1
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)
        elif self.done % max(1, self._total // 10) == 0:
            print(f"episodes {self.done}/{self._total}", file=sys.stderr, flush=True)


def prepare_out(folder: Path) -> None:
    """Make the folder for results; before anything is played.

    Raises:
        UserError: There are results in it already, or it cannot be made.
    """
    for name in (RESULTS, COMPLETIONS, PARTIAL):  # the last one: of an evaluation that was cut off
        if (folder / name).exists():
            raise UserError(f"{folder} holds {name} already; give --out another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: cannot write to {folder}: {error.strerror}") from error


def save_rows(folder: Path, outcome: Mapping[str, Any]) -> None:
    """Write ``completions.jsonl`` and ``results.json``, each whole or not at all."""
    write_atomically(folder / COMPLETIONS, "".join(f"{to_json(r)}\n" for r in outcome["rows"]))
    write_atomically(folder / RESULTS, to_json(outcome["results"], indent=2) + "\n")
    (folder / PARTIAL).unlink(missing_ok=True)


def _print_results(results: Sequence[Mapping[str, Any]]) -> None:
    terminal = Terminal()
    for result in results:
        table = Table(title=Text(f"{result['env']} ({result['split']}, {result['tasks']} tasks)"))
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
    if as_json:
        return print_json(rows)
    return print_rows([_env_row(row) for row in rows])


def _env_row(row: Mapping[str, Any]) -> dict[str, Any]:
    source = f" (tasks: {row['source']})" if row["source"] else ""
    return {
        "id": row["id"],
        "turns": row["turns"],
        "verifier": row["verifier"],
        "tasks": row["size"],
        "what": f"{row['description']}{source}",
    }


def show_env(env_id: str, *, as_json: bool) -> int:
    """``agent-rl envs ID``.

    Args:
        env_id: An id, or ``file.py[:Class]``.
        as_json: Print one JSON object.

    Raises:
        DataError: No such environment.
    """
    env = rl_envs.make(env_id)
    try:
        tools: Mapping[str, Any] = {}
        if isinstance(env, ToolEnv):
            tools = env.tools
        row: dict[str, Any] = {
            "id": env_id,
            "description": inspect.getdoc(type(env)) or "",
            "turns": env.max_turns,
            "splits": env.splits,
            "options": _options(env),
            "tools": [tool.definition for tool in tools.values()],
            "play": shlex.join(["agent-rl", "play", env_id]),
        }
    finally:
        env.close()
    if as_json:
        print(json.dumps(row, default=str))
        return 0
    told = "\n".join(["tools:", *tool_lines(tools)])
    if not tools:
        told = "tools: those of its server, known when it is played"
    options = [f"  --{name} {_shown(value)}" for name, value in row["options"].items()]
    parts = [
        row["description"],
        f"turns: {row['turns']} at most\nsplits: {', '.join(row['splits'])}",
        "\n".join(["options, with their defaults:", *options]),
        told if isinstance(env, ToolEnv) else "",
        f"play it: {row['play']}",
    ]
    terminal = Terminal(markup=False, highlight=False, emoji=False)
    text = "\n\n".join(part for part in parts if part)
    terminal.print(Text(clean(text, terminal.encoding)), soft_wrap=True)
    return 0


def _shown(value: Any) -> str:
    """A default as it would be typed."""
    plain = isinstance(value, str) and value
    return clip(str(value) if plain else json.dumps(value, default=str), 100)


def _options(env: rl_envs.TextEnv) -> dict[str, Any]:
    """The options with their defaults; None is what the class says, where that is a plain value."""
    spec = env.spec
    entry = spec.entry_point if spec is not None else type(env)
    made: Any = entry if callable(entry) else type(env)
    found = {**option_names(made), **(spec.kwargs if spec is not None else {})}
    for name, value in found.items():
        said = inspect.getattr_static(type(env), name, None)
        if value is inspect.Parameter.empty:
            found[name] = "(must be given)"
        elif value is None and isinstance(said, str | int | float):
            found[name] = said
    return found


def list_verifiers(*, as_json: bool) -> int:
    """``agent-rl verifiers``."""
    rows = [_verifier_row(name) for name in rl_verifiers.names()]
    if as_json:
        return print_json(rows)
    return print_rows([{"name": row["name"], "what": row["description"]} for row in rows])


def _verifier_row(name: str) -> dict[str, Any]:
    try:
        return dataclasses.asdict(rl_verifiers.describe(name))
    except rl_verifiers.VerifierError as error:  # a broken plug-in must not hide the others
        return {"name": name, "description": f"cannot be made: {error}", "signature": ""}


def print_json(rows: Sequence[Mapping[str, Any]]) -> int:
    """Rows as one JSON list."""
    print(json.dumps(rows, default=str))
    return 0


def print_rows(rows: Sequence[Mapping[str, Any]]) -> int:
    """A table without lines, so that it can be read narrow, grepped and cut; names never wrap."""
    terminal = Terminal()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(rows[0] if rows else []):
        table.add_column(column, no_wrap=number == 0, overflow="fold", header_style="bold")
    for row in rows:
        table.add_row(*(Text(clean(str(value), terminal.encoding)) for value in row.values()))
    terminal.print(table)
    return 0
