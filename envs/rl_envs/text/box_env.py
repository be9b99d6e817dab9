"""What environments with a session in a sandbox have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rl_sandboxes
from rl_envs.core import Reply, StepResult
from rl_envs.tasks import DataError
from rl_envs.text.boxes import MAX_SESSIONS, Box, Kind, SandboxSpec
from rl_envs.tools import ToolEnv
from rl_envs.types import Task
from rl_sandboxes import JobError, Limits, Run, SandboxError

DIFFICULTIES = (1, 2, 3)
LIMITS = {"memory_mb": 256, "disk_mb": 32, "processes": 64}
DAY_S = 86_400.0
"""The limit of a tool that keeps its own: waiting for a session counts towards none."""


class BoxEnv(ToolEnv):
    """Each episode has a session of its own, from its first command to its end.

    Args:
        sandbox: Where: a name, or ``{"name": ..., **options}``; shared by all of this process.
        limits: Of the box, in place of ``LIMITS``, such as ``{"memory_mb": 128}``.
        max_sessions: Sessions that may be open at once in this process; an episode that needs one
            more waits for another to end.
        options: Those of ``ToolEnv``. ``tool_timeout_s`` is for each command.
    """

    session_kind: Kind = "bash"
    tool_timeout_s = 10.0

    def __init__(
        self,
        *,
        sandbox: SandboxSpec = "local",
        limits: Mapping[str, Any] | None = None,
        max_sessions: int = MAX_SESSIONS,
        **options: Any,
    ) -> None:
        self.sandbox = sandbox
        self.max_sessions = max_sessions
        super().__init__(**options)
        name = type(self).__name__
        if type(max_sessions) is not int or max_sessions < 1:
            raise DataError(f"{name}: max_sessions is {max_sessions!r}; it must be at least 1")
        given: Any = sandbox
        if not isinstance(given, str | Mapping) and not hasattr(given, "session"):
            raise DataError(f"{name}: sandbox is {sandbox!r:.60}; it must be a name or a mapping")
        if isinstance(limits, Mapping) and "wall_s" in limits:
            raise DataError(f"{name}: limits has wall_s; seconds of a call are tool_timeout_s")
        try:
            self.limits = Limits(**{**LIMITS, **(limits or {}), "wall_s": self.tool_timeout_s})
        except TypeError:
            known = ", ".join(each for each in Limits.__slots__ if each != "wall_s")
            raise DataError(f"{name}: limits are {limits}; there are {known}") from None
        except JobError as error:
            raise DataError(f"{name}: {error}") from None
        self._box = self._new_box(None)

    def prepare(self) -> None:
        """Starts the sandbox.

        Raises:
            DataError: It does not work here.
        """
        super().prepare()
        try:
            rl_sandboxes.shared(self.sandbox)
        except SandboxError as error:
            raise DataError(f"{type(self).__name__}: {error}") from None

    def files_of(self, task: Task) -> bytes | None:
        """A tar of what is in the working folder at first; None for nothing."""
        return None

    def begin(self, task: Task) -> None:
        """A box for the episode; nothing is started before the first command."""
        self._box.close()
        self._box = self._new_box(task)

    def close(self) -> None:
        """Ends the session, if there is one."""
        self._box.close()
        super().close()

    async def in_box(self, command: str) -> str:
        """What a command printed, with what became of it, as the policy is told.

        Raises:
            ToolFailure: We failed.
        """
        run = await self._box.run(command)
        self.counts["timeouts"] += run.status == "timeout"
        return shown(run, self.limits, exit_code=self.session_kind == "bash")

    def _new_box(self, task: Task | None) -> Box:
        files = None if task is None else self.files_of(task)
        return Box(self.session_kind, self.sandbox, self.limits, self.max_sessions, files)

    def _answered(self, reply: Reply) -> StepResult:
        result = super()._answered(reply)
        if self.done:
            self._box.close()
        return result


def shown(run: Run, limits: Limits, *, exit_code: bool) -> str:
    """A command's output and end as text.

    Args:
        run: What happened.
        limits: Of the box.
        exit_code: Tell the exit code, where it is not 0 or nothing was printed, and label the
            errors' stream.
    """
    parts = [run.stdout.rstrip("\n")] if run.stdout.strip() else []
    if run.stderr.strip():
        errors = run.stderr.rstrip("\n")
        parts.append(f"[stderr]\n{errors}" if exit_code else errors)
    why = {
        "timeout": f"over the time limit of {limits.wall_s:g} s",
        "memory": f"over {limits.memory_mb} MiB of memory",
        "output_limit": "too much output",
        "crash": f"signal {run.signal} ended it, as when memory runs out",
    }.get(run.status, "")
    ended = "; ".join(text for text in (why, run.note) if text)
    if ended:
        parts.append(f"[{ended}]")
    elif exit_code and (run.exit_code or not parts):
        parts.append(f"[exit code {run.exit_code}]")
    return "\n".join(parts) or "(no output)"


def check_families(owner: str, asked: Sequence[str] | None, known: Any) -> tuple[str, ...]:
    """The names of families that were asked for.

    Raises:
        DataError: None, or one that there is not.
    """
    if asked is not None and (isinstance(asked, str) or not isinstance(asked, Sequence)):
        raise DataError(f"{owner}: families is {asked!r:.60}; it must be a list of names")
    names = tuple(known) if asked is None else tuple(asked)
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None or not names:
        which = "no family was named" if unknown is None else f"there is no family {unknown!r}"
        raise DataError(f"{owner}: {which}; there are {', '.join(known)}")
    return names
