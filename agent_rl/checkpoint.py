"""Checkpoints: everything that the next step depends on, whole or not at all."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent_rl.errors import UserError

STATE = "state.pt"


def save(folder: Path, step: int, state: dict[str, Any], *, keep: int) -> Path:
    """Write ``step-000010/state.pt`` under ``folder`` and drop all but the newest ``keep``.

    The state is written to a temporary folder, synced, and renamed: a checkpoint that can be seen
    is complete. When it cannot be written, what was there before is untouched.

    Raises:
        UserError: When the disk is full or refuses.
    """
    final = folder / f"step-{step:06d}"
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed run with our process number
    try:
        temporary.mkdir(parents=True)
        with (temporary / STATE).open("wb") as file:
            torch.save({**state, "step": step, "random": random_state()}, file)
            file.flush()
            os.fsync(file.fileno())
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
    except (OSError, RuntimeError) as error:  # torch reports a short write as RuntimeError
        shutil.rmtree(temporary, ignore_errors=True)
        reason = str(error).splitlines()[0]
        kept = latest(folder)
        raise UserError(
            f"cannot write the checkpoint {final}: {reason}; free some space, then resume from "
            f"{kept.name if kept else 'the start: there is no earlier checkpoint'}"
        ) from error
    for old in _all(folder)[:-keep] if keep else []:
        shutil.rmtree(old)
    return final


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint, or None. Leftovers of a killed run are not looked at."""
    found = _all(folder)
    return found[-1] if found else None


def load(path: Path) -> dict[str, Any]:
    """The state that ``save`` wrote; plain tensors and values, no code is run.

    Raises:
        UserError: When the file is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path / STATE, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no common base for what a damaged file can raise
        reason = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
        raise UserError(
            f"the checkpoint {path} cannot be read: {reason}; remove it to go on from one before"
        ) from error
    return state


def clear_leftovers(folder: Path) -> None:
    """Remove half-written checkpoints of a killed run."""
    for leftover in folder.glob(".step-*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def random_state() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's global generators."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    numbers = torch.tensor(np.asarray(keys, dtype=np.int64))
    return {
        "python": [version, list(internal), gauss],
        "numpy": [str(name), numbers, position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what ``random_state`` took."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])


def _all(folder: Path) -> list[Path]:
    found = [p for p in folder.glob("step-*") if (p / STATE).exists()]
    return sorted(found, key=lambda p: (len(p.name), p.name))  # seven digits come after six
