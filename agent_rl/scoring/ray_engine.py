"""Spans scored by Ray Data, on one machine or a cluster.

The driver sends spans, which say where rows are, and gets counts back: every task reads its rows,
scores them and writes their part into the job's folder, so both must be on storage that all nodes
share. What a task does is what a local worker does; the outputs are the same.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from agent_rl.errors import UserError
from agent_rl.scoring.engines import MEMORY_BYTES, raise_in_caller, row_by_row
from agent_rl.scoring.span_scoring import Task, score_span
from agent_rl.scoring.types import Span
from rl_verifiers import VerifierError
from rl_verifiers.workers import (
    WorkerDiedError,
    WorkerLimitError,
    WorkerPool,
    WorkerRaisedError,
)


class RayEngine:
    """Ray tasks, one for each span.

    Connects to the cluster that ``RAY_ADDRESS`` names, or is already connected to; else it starts
    Ray on this machine.

    Args:
        workers: Tasks that run at once; None for as many as Ray has processors.

    Raises:
        UserError: Ray is not installed.
    """

    def __init__(self, workers: int | None) -> None:
        if workers == 0:
            raise UserError("--engine ray takes --workers from 1 on")
        try:
            import ray.data  # noqa: PLC0415 - an optional extra
        except ModuleNotFoundError as error:
            raise UserError(
                f"--engine ray needs {error.name}: pip install 'agent-rl[ray]'"
            ) from None
        self.workers = workers
        self._ray = ray

    def run(self, task: Task, spans: Sequence[Span]) -> Iterator[dict[str, Any]]:
        """See :class:`agent_rl.scoring.engines.Engine`.

        Raises:
            UserError: As for :class:`~agent_rl.scoring.engines.LocalEngine`; a node does not see
                the job's folder; or Ray failed. The job goes on with the same command.
            VerifierError: The verifier broke its contract.
        """
        if not spans:
            return
        started_here = self._connect()
        try:
            yield from self._outcomes(task, spans)
        except self._ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f"ray: {lines[-1]:.500}") from error
        finally:
            if started_here:
                self._ray.shutdown()

    def _outcomes(self, task: Task, spans: Sequence[Span]) -> Iterator[dict[str, Any]]:
        data = self._ray.data
        data.DataContext.get_current().enable_progress_bars = False
        items = [{"number": number} for number in range(len(spans))]
        shared = self._ray.put((task, list(spans)))
        found = data.from_items(items, override_num_blocks=len(items)).map(
            _score_number, fn_args=[shared], concurrency=self.workers, num_cpus=1
        )
        for row in found.iter_rows():
            outcome = json.loads(row["outcome"])
            if "kind" in outcome:
                raise_in_caller(outcome["kind"], outcome["text"])
            yield outcome

    def _connect(self) -> bool:
        """Whether Ray was started here."""
        if self._ray.is_initialized():
            return False
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if not os.environ.get("RAY_ADDRESS"):
            path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
            options |= {
                "include_dashboard": False,
                "num_cpus": self.workers,
                "runtime_env": {"env_vars": {"PYTHONPATH": path}},
            }
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        self._ray.init(**options)
        return True


def _score_number(row: dict[str, Any], shared: Any) -> dict[str, str]:
    """Runs in a Ray task; what it says is text, so that all tasks say the same columns."""
    import ray  # noqa: PLC0415

    task, spans = ray.get(shared) if isinstance(shared, ray.ObjectRef) else shared
    try:
        outcome = _scored(task, spans[row["number"]])
    except (UserError, VerifierError, OSError) as error:
        outcome = {"kind": type(error).__name__, "text": str(error)}
    return {"outcome": json.dumps(outcome)}


def _scored(task: Task, span: Span) -> dict[str, Any]:
    if not task.folder.is_dir():
        raise UserError(
            f"a node of the cluster does not see {task.folder}: put the inputs and --output on "
            "storage that all nodes share"
        )
    seconds = task.timeout + span.rows
    call = _pool().submit(score_span, task, span, cpu_s=seconds, wall_s=10 * seconds)
    try:
        return call.result()
    except WorkerRaisedError as error:
        raise_in_caller(error.kind, error.text)
    except (WorkerLimitError, WorkerDiedError):
        return row_by_row(task, span)


@cache
def _pool() -> WorkerPool:
    """One worker that can be killed, for as long as Ray keeps this process."""
    return WorkerPool(1, memory_bytes=MEMORY_BYTES)
