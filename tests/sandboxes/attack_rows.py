"""Reads the rows of ``rows/*.txt``: a line ``### {...}`` with a row's fields, then its code.

What is left out there: ``kind`` (by file), the usual ``also`` and ``expect``, and a task that is
named by ``task`` (a row without an id defines it).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "rows"
DEFAULTS: dict[str, dict[str, Any]] = {
    "exec": {"also": ["worker_alive"]},
    "shell": {"category": "persistent_shell", "also": ["gone_after_close", "worker_alive"]},
    "solution": {"also": []},
}
ALIVE = [{"cmd": "echo al''ive", "out": "alive"}]


def rows(kind: str) -> list[dict[str, Any]]:
    """Our own rows of a kind: ``exec``, ``shell`` or ``solution``."""
    text = (FOLDER / f"{kind}.txt").read_text(encoding="utf-8")
    tasks: dict[str, dict[str, Any]] = {}
    found = []
    for block in ("\n" + text).split("\n### ")[1:]:
        head, _, code = block.partition("\n")
        fields = json.loads(head)
        if "id" not in fields:
            tasks[fields.pop("task")] = fields
            continue
        found.append(_row(kind, fields, code, tasks.get(fields.pop("task", ""), {})))
    return found


def _row(kind: str, fields: dict[str, Any], code: str, task: dict[str, Any]) -> dict[str, Any]:
    row = {"kind": kind, "code": code.strip("\n") + "\n", **DEFAULTS[kind], **task, **fields}
    if row.get("then") == "alive":
        row["then"] = ALIVE
    if "stdin_times" in row:
        text, times = row.pop("stdin_times")
        row["stdin"] = text * times
    row.setdefault("expect", "pass_tests" if row["category"] == "control" else "fail_tests")
    return row


def sample(kind: str) -> list[dict[str, Any]]:
    """The rows of a kind in the attack sample; none where the data is not here."""
    path = Path(os.environ.get("AGENT_RL_DATA", "data")) / "sandbox_attacks_sample.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def named(row: dict[str, Any]) -> str:
    """The name of a row in a test's id."""
    return str(row["id"])
