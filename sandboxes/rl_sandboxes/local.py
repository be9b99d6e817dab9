"""The embedded back end: a fork server in bubblewrap, new namespaces for every job."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Literal

from rl_sandboxes import cgroups, levels
from rl_sandboxes.interpreter import Interpreter
from rl_sandboxes.launch import NamespacesRefusedError
from rl_sandboxes.pool import WorkerPool, check_size, default_size
from rl_sandboxes.stream import StreamWorker
from rl_sandboxes.types import SandboxError

Level = Literal["auto", "namespaces", "landlock", "none"]

_log = logging.getLogger("rl_sandboxes")


Plan = levels.Namespaces | levels.Landlock
_PLANS: dict[str, type[Plan]] = {
    "namespaces": levels.Namespaces,
    "landlock": levels.Landlock,
    "none": levels.Unsafe,
}
LEVELS = ("auto", *_PLANS)


class LocalSandbox(WorkerPool):
    """Runs jobs on this machine, as any user.

    Args:
        workers: Fork servers, each runs one job at a time; None for one per processor.
        level: ``namespaces``: every job has its own; ``landlock``: where they are refused, with
            less kept apart (see ``guarantees().missing``); ``none``: nothing is kept apart.
            ``auto`` takes the first that works here, and never ``none``.
        allow_unsafe: Must be true for ``none``.
        python: The interpreter for jobs, at least 3.9; None for the one that runs this.
        packages: Folders that jobs may read beside the interpreter's own, put on their path.
        preload: Modules imported before the first job, so that jobs need not load them.

    Raises:
        SandboxError: What is asked for does not work here; says what to install or change.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        level: Level = "auto",
        allow_unsafe: bool = False,
        python: str | None = None,
        packages: Sequence[str] = (),
        preload: Sequence[str] = (),
    ) -> None:
        if level not in LEVELS:
            raise SandboxError(f"level is {level!r}; it must be one of {', '.join(LEVELS)}")
        if level == "none" and not allow_unsafe:
            raise SandboxError(
                "level none runs the code of strangers with all your rights; "
                "if you mean it, pass allow_unsafe=True"
            )
        size = default_size() if workers is None else workers
        check_size("local", size)
        for folder in packages:
            if not os.path.isdir(folder):
                raise SandboxError(f"sandbox local: package folder {folder} does not exist")
        self._first: list[StreamWorker] = []
        plan, self.level = self._choose(level, Interpreter.of(python), packages, preload)
        super().__init__(
            "local",
            lambda: self._take_first() or plan.start(),
            plan.guarantees(),
            size=size,
            rest=self.level == "namespaces",
        )

    def _choose(
        self, level: Level, python: Interpreter, packages: Sequence[str], preload: Sequence[str]
    ) -> tuple[Plan, str]:
        """The plan for workers, proven by starting the first, and its level."""
        cgroups.reap()
        levels.reap_folders()
        candidate, refused = ("namespaces" if level == "auto" else level), ""
        plan = _PLANS[candidate](python, tuple(packages), tuple(preload))
        try:
            self._first.append(plan.start())
        except SandboxError as error:
            if level != "auto" or not isinstance(error, NamespacesRefusedError):
                raise
            candidate, refused = "landlock", str(error)
        if refused:
            plan = _PLANS[candidate](python, tuple(packages), tuple(preload))
            try:
                self._first.append(plan.start())
            except SandboxError as error:
                raise SandboxError(f"{refused}; and without them: {error}") from None
            _log.warning("sandbox local runs at level landlock: %s", refused)
        return plan, candidate

    def _take_first(self) -> StreamWorker | None:
        try:
            return self._first.pop()
        except IndexError:
            return None

    def close(self) -> None:
        """End all workers; safe to call twice."""
        first = self._take_first()
        if first is not None:
            first.kill()
        super().close()
