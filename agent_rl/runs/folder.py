"""The run folder: everything a run leaves behind, readable by people, scripts and commands.

::

    config.yaml                 every setting, resolved
    environment.json            versions, commit, machine, command line
    metrics.jsonl               one line per step and stage
    rollouts/step-000010.jsonl  the episodes of a step
    checkpoints/                from which a run goes on
    model/                      the result
    summary.json                the figures that matter
    report.html                 all of it, to look at
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent_rl.runs.environment import describe_environment
from agent_rl.runs.files import (
    RunError,
    append_line,
    parse_object,
    plain,
    read_json_lines,
    to_json,
    write_atomically,
)

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
REPORT = "report.html"
LEFTOVER = re.compile(r"\..+\.\d+\.tmp")
ROLLOUTS = re.compile(r"step-(\d+)\.jsonl")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run's files. Make one by ``create``, ``resume`` or ``open``.

    Attributes:
        path: The folder.
        writable: False for one that was only opened.
        listeners: Called with (step, metrics) of every line that is logged.
    """

    path: Path
    writable: bool = True
    listeners: tuple[Callable[[int, Mapping[str, Any]], None], ...] = ()

    @classmethod
    def create(
        cls, path: Path | str, config: Mapping[str, Any], *, overwrite: bool = False
    ) -> RunFolder:
        """A new run folder with its configuration and environment.

        Args:
            path: Where; missing parents are made.
            config: Every resolved setting, as plain values.
            overwrite: Remove an existing run folder first. A folder with other things in it that
                is no run folder is never removed.

        Raises:
            RunError: When something is in the way, or the folder cannot be written.
        """
        path = Path(path)
        cls.check_free(path, overwrite=overwrite)
        if _is_occupied(path):
            _clear(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the run folder {path}: {error.strerror}") from error
        folder = cls(path)
        folder.write_config(config)
        write_atomically(path / ENVIRONMENT, to_json(describe_environment(), indent=2) + "\n")
        return folder

    @classmethod
    def check_free(cls, path: Path | str, *, overwrite: bool = False) -> None:
        """Changes nothing; says whether ``create`` would.

        Raises:
            RunError: When something is in the way that ``create`` would not replace.
        """
        path = Path(path)
        if not _is_occupied(path):
            return
        if not path.is_dir():
            raise RunError(
                f"{path} is a file, so it cannot be the run folder; give another run.dir"
            )
        if not overwrite:
            raise RunError(
                f"the run folder {path} is not empty: go on in it with --resume, replace it with "
                "--overwrite, or give another one with --run.dir"
            )
        if not (path / CONFIG).is_file():
            raise RunError(
                f"{path} is no run folder (it has no {CONFIG}), so overwrite does not remove it; "
                "give another run.dir"
            )

    def discard_unused(self) -> None:
        """Remove a folder in which nothing was measured or saved, so that it is in nobody's way."""
        used = {METRICS, SUMMARY, REPORT, "model"}
        if any((self.path / name).exists() for name in used) or any(self.checkpoints.glob("*")):
            return
        data = list(self.path.glob("*.jsonl"))
        if any(file.stat().st_size for file in data):
            return  # a stage that makes data goes on from there
        if any(self.path.glob(f"*/{CONFIG}")):
            return  # a recipe one of whose stages has begun
        for file in (self.path / CONFIG, self.path / ENVIRONMENT, *data):
            file.unlink(missing_ok=True)
        for folder in (self.path / "rollouts", self.checkpoints, self.path):
            with suppress(OSError):  # not empty: whatever is in it stays
                folder.rmdir()

    @classmethod
    def resume(cls, path: Path | str) -> RunFolder:
        """An existing run folder to go on in; notes in ``environment.json`` on what it went on.

        Raises:
            RunError: When there is no run in ``path``.
        """
        folder = cls.open(path)
        folder = cls(folder.path)
        environment = folder.read_environment()
        now = describe_environment()
        if environment:
            now = {**environment, "resumed": [*environment.get("resumed", []), now]}
        write_atomically(folder.path / ENVIRONMENT, to_json(now, indent=2) + "\n")
        return folder

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """An existing run folder, to read only.

        Raises:
            RunError: When there is no run in ``path``.
        """
        path = Path(path)
        if not (path / CONFIG).is_file():
            raise RunError(f"{path} is no run folder: it has no {CONFIG}; check the path")
        return cls(path, writable=False)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Where the result of training is."""
        return self.path / "model"

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Put the resolved configuration into ``config.yaml``."""
        text = yaml.safe_dump(_settings(config), sort_keys=False, allow_unicode=True)
        self._write(CONFIG, text)

    def log(self, step: int, metrics: Mapping[str, Any], *, stage: str) -> None:
        """Append one line to ``metrics.jsonl``.

        NaN and infinities become null, and their names are listed under ``non_finite``.

        Args:
            step: The step they belong to.
            metrics: Numbers by name (``area/name``).
            stage: Who measured: ``rl``, ``sft``, ``eval``.
        """
        self._check_writable()
        line = {"step": step, "stage": stage, **plain(metrics)}
        non_finite = [name for name, value in metrics.items() if _is_non_finite(value)]
        if non_finite:
            line["non_finite"] = non_finite
        append_line(self.path / METRICS, to_json(line))
        for listener in self.listeners:
            listener(step, metrics)

    def save_rollouts(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the episodes of a step; ``docs/metrics.md`` lists the columns."""
        self._check_writable()
        (self.path / "rollouts").mkdir(exist_ok=True)
        lines = [to_json({"step": step, **row}) + "\n" for row in rows]
        write_atomically(self._rollouts(step), "".join(lines))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Merge figures into ``summary.json``."""
        merged = {**self.read_summary(), **summary}
        self._write(SUMMARY, to_json(merged, indent=2) + "\n")

    def truncate_after(self, step: int) -> None:
        """Forget metrics and rollouts of later steps, and a half-written last line.

        A resumed run starts from a checkpoint and does those steps again.

        Args:
            step: The last step to keep; -1 keeps none.
        """
        self._check_writable()
        kept = [row for row in self.read_metrics() if row.get("step", 0) <= step]
        if (self.path / METRICS).exists():
            write_atomically(self.path / METRICS, "".join(to_json(row) + "\n" for row in kept))
        for later in self.rollout_steps():
            if later > step:
                self._rollouts(later).unlink()
        for leftover in [*self.path.glob(".*.tmp"), *(self.path / "rollouts").glob(".*.tmp")]:
            if LEFTOVER.fullmatch(leftover.name):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def read_config(self) -> dict[str, Any]:
        """The resolved settings.

        Raises:
            RunError: When ``config.yaml`` is damaged.
        """
        try:
            config = yaml.safe_load((self.path / CONFIG).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RunError(f"cannot read {self.path / CONFIG}: {_one_line(error)}") from error
        return config if isinstance(config, dict) else {}

    def read_environment(self) -> dict[str, Any]:
        """What the run ran on; empty before it is known."""
        return self._read_object(ENVIRONMENT)

    def read_summary(self) -> dict[str, Any]:
        """The figures that matter; empty before there are any."""
        return self._read_object(SUMMARY)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl`` in order; a half-written last one is left out.

        Raises:
            RunError: When another line is damaged.
        """
        return read_json_lines(self.path / METRICS)

    def read_rollouts(self, step: int) -> list[dict[str, Any]]:
        """The episodes of a step; none where none were saved."""
        return read_json_lines(self._rollouts(step))

    def rollout_steps(self) -> list[int]:
        """The steps whose episodes were saved, in order."""
        names = [ROLLOUTS.fullmatch(p.name) for p in (self.path / "rollouts").glob("step-*.jsonl")]
        return sorted(int(name[1]) for name in names if name)

    def _rollouts(self, step: int) -> Path:
        return self.path / "rollouts" / f"step-{step:06d}.jsonl"

    def _read_object(self, name: str) -> dict[str, Any]:
        path = self.path / name
        if not path.exists():
            return {}
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"cannot read {path}: {_one_line(error)}") from error
        return parse_object(text, str(path))

    def _write(self, name: str, text: str) -> None:
        self._check_writable()
        write_atomically(self.path / name, text)

    def _check_writable(self) -> None:
        if not self.writable:
            raise RunError(f"{self.path} was opened to be read; RunFolder.resume opens it to write")


def _is_occupied(path: Path) -> bool:
    """Whether anything but leftovers of a killed start is at ``path``."""
    if not path.is_dir():
        return path.exists()
    try:
        names = [p for p in path.iterdir() if not LEFTOVER.fullmatch(p.name)]
        return any(not p.is_dir() or any(p.iterdir()) for p in names)
    except OSError as error:
        raise RunError(f"cannot read the run folder {path}: {error.strerror}") from error


def _clear(path: Path) -> None:
    try:
        for child in path.iterdir():
            shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
    except OSError as error:
        raise RunError(f"cannot remove the old run in {path}: {error.strerror}") from error


def _settings(value: Any) -> Any:
    """Plain values for YAML, which unlike JSON has infinities."""
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): _settings(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_settings(item) for item in value]
    return plain(value)


def _is_non_finite(value: Any) -> bool:
    value = value.item() if hasattr(value, "item") else value
    return isinstance(value, float) and not math.isfinite(value)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
