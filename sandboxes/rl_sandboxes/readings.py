"""What a worker said, read as data of strangers: checked, cut, and made into a Result."""

from __future__ import annotations

import base64
import json
import os
import signal
from typing import Any

from rl_sandboxes.inside.values import ValueRefused, decode
from rl_sandboxes.types import RUN_STATUSES, Job, Result, Run

_MAX_TEXT = 500


def read_answer(job: Job, answer: dict[str, Any], queue_s: float) -> Result:
    """The Result of a job from a worker's answer.

    A worker in a shared container is not out of the code's reach for certain, so nothing in the
    answer is trusted to have the right shape: what has not gives a Result with an error.
    """
    if "failed" in answer:
        return Result(queue_s=queue_s, error=f"{answer['failed']!s:.500}")
    try:
        runs = tuple(read_run(run, call=job.kind == "call") for run in answer["runs"])
        files = {path: base64.b64decode(data) for path, data in answer["files"].items()}
        refused = {path: str(why)[:_MAX_TEXT] for path, why in answer["refused"].items()}
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        return Result(
            queue_s=queue_s,
            error=f"a worker's answer is broken: {type(error).__name__}: {error!s:.200}",
        )
    if not {*files, *refused} <= set(job.collect):
        return Result(queue_s=queue_s, error="a worker sent files that were not asked for")
    if not 1 <= len(runs) <= job.n_runs or (
        len(runs) < job.n_runs and not (job.stop_early or answer.get("cut"))
    ):
        return Result(queue_s=queue_s, error=f"{len(runs)} runs came for {job.n_runs}")
    return Result(runs, files, refused, queue_s)


def read_run(seen: dict[str, Any], *, call: bool) -> Run:
    """One run as a worker saw it; ``said`` is the code's own word."""
    status, wait = seen["status"], seen["wait"]
    if status not in RUN_STATUSES or not (wait is None or 0 <= wait < 1 << 16):
        raise ValueError(f"status {status!r:.40}, wait {wait!r:.40}")
    if not all(0 <= seen[name] < 1e15 for name in ("wall_s", "cpu_s", "peak", "n_left")):
        raise ValueError("a measure that is none")
    said, odd = _said(seen)
    value, returned, exception = None, False, None
    if isinstance(said.get("exception"), str):
        exception = _clean(said["exception"])
    elif isinstance(said.get("refused"), str):
        exception = f"returned what is no plain data: {_clean(said['refused'])}"
        odd.append("odd_type")
    elif call and "value" in said:
        try:
            value, returned = decode(said["value"]), True
        except (ValueRefused, RecursionError):
            odd.append("broken_result")
    ended_by = os.WTERMSIG(wait) if wait is not None and os.WIFSIGNALED(wait) else None
    if call and status == "ok" and not returned:
        status = "error"
        if exception is None and "broken_result" not in odd:
            odd.append("exit_before_result")
    if status == "error" and exception is not None and exception.startswith("MemoryError"):
        status = "memory"
    if seen["n_left"]:
        odd.append("left_processes")
    if ended_by == signal.SIGKILL and status == "crash":
        odd.append("killed_itself")
    return Run(
        status=status,
        stdout=_text(seen["stdout"]),
        stderr=_text(seen["stderr"]),
        stdout_cut=bool(seen["stdout_cut"]),
        stderr_cut=bool(seen["stderr_cut"]),
        returned=returned and status == "ok",
        value=value if status == "ok" else None,
        exception=exception,
        exit_code=os.WEXITSTATUS(wait) if wait is not None and os.WIFEXITED(wait) else None,
        signal=ended_by,
        wall_s=round(float(seen["wall_s"]), 6),
        cpu_s=round(float(seen["cpu_s"]), 6),
        peak_mb=round(int(seen["peak"]) / (1 << 20), 3),
        n_left=int(seen["n_left"]),
        suspicious=tuple(odd),
    )


def _said(seen: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What the run said of itself: one JSON object in one line, or it is broken."""
    if not seen["said"] and not seen["said_cut"]:
        return {}, []
    raw = b"" if seen["said_cut"] else base64.b64decode(seen["said"])
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError):
        return {}, ["broken_result"]
    return (said, []) if isinstance(said, dict) else ({}, ["broken_result"])


def _clean(text: str) -> str:
    """Words of the code's, which may be any: cut, and fit for a tokenizer and a terminal."""
    return text[:_MAX_TEXT].encode("utf-8", "replace").decode()


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode("utf-8", "replace")
