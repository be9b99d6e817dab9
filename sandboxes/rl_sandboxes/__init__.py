"""Run untrusted code: a job in, a result typed by what really happened out."""

from rl_sandboxes.registry import BACKENDS, close_shared, make, shared
from rl_sandboxes.trees import Entry, Tree
from rl_sandboxes.types import (
    STATUSES,
    Call,
    Guarantees,
    Job,
    JobError,
    Limits,
    Result,
    Run,
    RunStatus,
    Sandbox,
    SandboxError,
    Session,
    Status,
)

__all__ = [
    "BACKENDS",
    "STATUSES",
    "Call",
    "Entry",
    "Guarantees",
    "Job",
    "JobError",
    "Limits",
    "Result",
    "Run",
    "RunStatus",
    "Sandbox",
    "SandboxError",
    "Session",
    "Status",
    "Tree",
    "close_shared",
    "make",
    "shared",
]
