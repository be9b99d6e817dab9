"""What a scoring job is asked to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_rl.scoring.spec import VerifierSpec


@dataclass(frozen=True)
class Settings:
    """What the user asked for.

    Attributes:
        inputs: Files, folders, data set ids, ``-``.
        out: The output file.
        spec: The verifier.
        mapping: Columns, ours to theirs.
        split: Of a folder or data set.
        name: The configuration of a Hugging Face data set.
        group: The column that makes groups for pass@k.
        prefix: Of the new columns.
        json_cells: Text that is a JSON list is a list.
        strict: A broken line ends the job.
        timeout: Seconds of one sample.
        workers: Processes; None: one for each processor, or one for a verifier that waits.
        cache: A folder of verdicts.
        rows_per_span: None: by the verifier.
    """

    inputs: Sequence[str]
    out: Path
    spec: VerifierSpec
    mapping: Mapping[str, str] = field(default_factory=dict)
    split: str | None = None
    name: str | None = None
    group: str | None = None
    prefix: str = ""
    json_cells: bool = False
    strict: bool = False
    timeout: float = 60.0
    workers: int | None = None
    cache: Path | None = None
    rows_per_span: int | None = None

    def identity(self) -> dict[str, Any]:
        """What must be the same for a job to go on; how it runs may differ."""
        return {
            "inputs": [name if name == "-" else _located(name) for name in self.inputs],
            "verifier": self.spec.word,
            "options": dict(self.spec.options),
            "verifier_digest": self.spec.digest,
            "columns": dict(self.mapping),
            "split": self.split,
            "name": self.name,
            "group": self.group,
            "prefix": self.prefix,
            "json_cells": self.json_cells,
            "timeout": self.timeout,
            "rows_per_span": self.rows_per_span,
        }


def _located(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).exists() else name
