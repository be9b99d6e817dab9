"""The report of a run."""

from __future__ import annotations

from pathlib import Path

from agent_rl.runs.files import write_atomically
from agent_rl.runs.folder import REPORT


def build_report(run_dir: Path | str) -> Path:
    """Write ``report.html``."""
    path = Path(run_dir) / REPORT
    write_atomically(path, "<!doctype html><title>report</title>\n")
    return path
