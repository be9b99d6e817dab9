"""What a run ran on: versions, commit, machine, command line."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import agent_rl

PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "safetensors",
    "tokenizers",
    "numpy",
    "gymnasium",
    "sympy",
    "vllm",
)


def describe_environment() -> dict[str, Any]:
    """Everything that is needed to say later what a number was measured on.

    Versions are read from the installed distributions; nothing is imported.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "packages": _versions(),
        "commit": _commit(Path(__file__).parents[1]),
    }


def _versions() -> dict[str, str]:
    found = {"agent-rl": agent_rl.__version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit(folder: Path) -> str | None:
    """The commit of our own source, ``-dirty`` when edited; None unless git tracks that source."""
    tracked = _git(folder, "ls-files", "--error-unmatch", "__init__.py")
    if tracked is None:
        return None
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
