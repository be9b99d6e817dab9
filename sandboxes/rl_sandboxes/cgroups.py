"""Control groups that this process may give to its workers; version 1, as root."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

_FOLDER = "agent-rl-sandboxes"
_CONTROLLERS = ("memory", "pids")


def available() -> dict[str, Path]:
    """Where groups can be made, by controller; empty where they cannot."""
    found: dict[str, Path] = {}
    if os.geteuid() != 0:
        return found
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, *rest = after.split()
        if kind == "cgroup":
            options = rest[-1].split(",")
            for name in _CONTROLLERS:
                if name in options:
                    found.setdefault(name, Path(before.split()[4]))
    usable = "memory" in found and all(os.access(path, os.W_OK) for path in found.values())
    return found if usable else {}


def make(name: str) -> dict[str, Path]:
    """Groups for one worker, by controller; empty where that cannot be.

    Args:
        name: Begins with this process's id and a hyphen, by which left-overs are found.
    """
    made: dict[str, Path] = {}
    try:
        for controller, root in available().items():
            folder = root / _FOLDER / name
            folder.mkdir(parents=True)
            made[controller] = folder
    except OSError:
        remove(made)
        return {}
    return made


def oom_kills(groups: Mapping[str, Path]) -> int:
    """How many processes in a worker's groups the kernel has ended for memory."""
    with contextlib.suppress(OSError, KeyError, ValueError):
        text = (groups["memory"] / "memory.oom_control").read_text()
        return int(text.partition("oom_kill ")[2].split()[0])
    return 0


def remove(groups: Mapping[str, Path]) -> None:
    """Remove a worker's groups; its processes are gone or going."""
    for folder in groups.values():
        for _ in range(200):
            try:
                folder.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.005)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()


def reap() -> None:
    """Remove the groups of processes that are no more."""
    for root in available().values():
        with contextlib.suppress(OSError):
            for folder in (root / _FOLDER).iterdir():
                owner = folder.name.partition("-")[0]
                if folder.is_dir() and not Path("/proc", owner).exists():
                    remove({"": folder})
