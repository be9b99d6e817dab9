"""One small record per completion, for pass@k and maj@k: which group, which vote, passed or not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent_rl.scoring.types import Sample, Scored

RECORD = np.dtype([("group", "<u8"), ("vote", "<u8"), ("value", "<f4"), ("verdict", "u1")])
"""``vote`` 0: no answer. ``verdict``: ``FAILED``, ``PASSED`` or ``ERROR``."""

FAILED, PASSED, ERROR = 0, 1, 2
Records = npt.NDArray[np.void]


class Votes:
    """The votes of one span, held until :meth:`save`; 21 bytes for each completion."""

    def __init__(self, name: str, group: str | None = None) -> None:
        """No votes yet.

        Args:
            name: What a person calls the input; lines of different inputs are different groups.
            group: The column whose equal values make a group; None: every row is a group.
        """
        self.name = name
        self.group = group
        self._records: list[tuple[int, int, float, int]] = []

    def add(self, scored: Scored, samples: Sequence[Sample] = ()) -> None:
        """Take in a row and its scores.

        The group column is looked for in the row as it was read, then in the row that the verifier
        saw; a row without it, or with null in it, is a group of its own.
        """
        group = self._group(scored, samples)
        for score in scored.scores:
            verdict = ERROR if score.is_error else PASSED if score.passed else FAILED
            self._records.append((group, _vote(score.answer), score.value, verdict))

    def save(self, path: Path) -> None:
        """Write all of them, whole or not at all."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(self.records().tobytes())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def records(self) -> Records:
        """An array of ``RECORD``, one entry for each completion, in order."""
        with np.errstate(over="ignore"):  # a reward beyond float32 is infinite there
            return np.array(self._records, dtype=RECORD)

    def _group(self, scored: Scored, samples: Sequence[Sample]) -> int:
        value = None
        if self.group is not None:
            value = scored.record.row.get(self.group)
            if value is None and samples:
                value = samples[0].row.get(self.group)
        return _hash((self.name, scored.record.line) if value is None else ("", _key(value)))


def load(path: Path) -> Records:
    """The records of a file that :meth:`Votes.save` wrote."""
    return np.fromfile(path, dtype=RECORD)


def fold(answer: str) -> str:
    """What makes two answers the same vote: neither case, nor white space, nor ``$`` counts."""
    return "".join(answer.casefold().split()).strip("$.").strip("$")


def _vote(answer: str | None) -> int:
    return 0 if answer is None else _hash(fold(answer)) or 1


def _key(value: Any) -> Any:
    """Something whose ``repr`` is the same for equal values: messages compare by content."""
    if isinstance(value, Mapping):
        return sorted((str(name), _key(item)) for name, item in value.items())
    return [_key(item) for item in value] if isinstance(value, list | tuple) else value


def _hash(value: Any) -> int:
    text = repr(value).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
