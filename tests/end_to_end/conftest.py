"""Runs of the real command line, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    path = os.pathsep.join(str(ROOT / folder) for folder in ("", "envs", "verifiers", "sandboxes"))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


@pytest.fixture
def agent_rl(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``agent_rl("train", "c.yaml")``: run in ``tmp_path``; give ``check=True`` to insist on 0."""

    def call(*words: object, check: bool = False, **options: object):
        done = subprocess.run(
            [sys.executable, "-m", "agent_rl.cli", *map(str, words)],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            **options,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return call


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Like ``agent_rl``, but returns the running process."""

    def call(*words: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "agent_rl.cli", *map(str, words)],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    return call


TINY = {"hidden_size": 32, "layers": 1, "heads": 2, "intermediate_size": 32, "context": 64}


def rl_settings(**changes: object) -> dict[str, object]:
    """A small RL stage; ``changes`` replace top-level settings."""
    return {
        "stage": "rl",
        "model": {"tiny": TINY},
        "envs": [{"id": "text/Arithmetic-v0", "options": {"terms": 2}}],
        "algorithm": {"preset": "grpo", "aggregation": "token"},
        "steps": 6,
        "prompts_per_step": 2,
        "group_size": 4,
        "sampling": {"max_tokens": 6},
        "optimizer": {"lr": 1e-3},
        "evaluation": {"tasks": 2, "every": 3},
        "run": {"dir": "run", "checkpoint_every": 1},
        **changes,
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write(settings, name)``: a YAML file in ``tmp_path``."""

    def call(settings: object, name: str = "config.yaml") -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(settings))
        return path

    return call


@pytest.fixture
def settings() -> Callable[..., dict[str, object]]:
    return rl_settings
