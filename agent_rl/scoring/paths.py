"""The files of a job: what stands beside the output, and what must not be touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent_rl.errors import UserError
from agent_rl.scoring import outputs
from agent_rl.scoring.types import Span

OURS = {"job.json", "lock", "parts", "spool", "merging", "replaces"}
"""What stands in a job's folder."""


def summary_path(out: Path) -> Path:
    """``OUT.summary.json``."""
    return out.with_name(out.name + ".summary.json")


def refuse_foreign(folder: Path) -> None:
    """A folder of the user's that happens to have the name is not ours to fill and to remove."""
    strange = {path.name for path in folder.glob("*")} - OURS if folder.is_dir() else set()
    if strange:
        raise UserError(
            f"{folder} holds {min(strange)!r}, which is no job's; choose another --output"
        )


def state_of(spans: Sequence[Span]) -> dict[Path, tuple[int, int]]:
    """Size and time of change of every file that is read."""
    stats = {path: path.stat() for path in dict.fromkeys(span.path for span in spans)}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def refuse_input(path: Path, names: Sequence[str]) -> None:
    """Nothing that is written may be what is read, by whatever name."""
    for name in names:
        if path.exists() and Path(name).is_file() and path.samefile(name):
            raise UserError(f"{path} would replace the input {name}; choose another --output")


def beside(out: Path) -> tuple[Path, Path]:
    """What stands beside an output: its rejects and its summary."""
    return outputs.rejects_path(out), summary_path(out)
