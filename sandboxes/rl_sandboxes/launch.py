"""Start a runner on this machine, and end it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import IO, Any

from rl_sandboxes import bundle
from rl_sandboxes.interpreter import Interpreter
from rl_sandboxes.pool import WorkerLostError
from rl_sandboxes.stream import StreamWorker
from rl_sandboxes.types import SandboxError

_START_S = 30.0
_LEAVE_S = 6.0


class NamespacesRefusedError(SandboxError):
    """The kernel, or whoever set it up, refuses what bubblewrap needs."""


def launch(
    walls: Callable[[int], list[str]] | None,
    python: Interpreter,
    config: dict[str, Any],
    clean: Callable[[], None],
    oom_kills: Callable[[], int] = lambda: 0,
) -> StreamWorker:
    """Start a runner, give it its sources and its config, and wait until it is ready.

    Args:
        walls: The words before the runner's command that put walls around it, given a descriptor
            for bubblewrap's ``--info-fd``; None for none.
        python: The interpreter.
        config: For the runner; see ``inside.worker.Server``.
        clean: Called once the worker has ended.
        oom_kills: See ``StreamWorker``.

    Raises:
        SandboxError: It does not start; says why, and what to do.
    """
    ours, theirs = socket.socketpair()
    error = tempfile.TemporaryFile()  # noqa: SIM115 - the worker closes it
    read_info, write_info = os.pipe()
    os.set_blocking(read_info, False)
    command = bundle.command(python.path)
    try:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [*(walls(write_info) if walls else ()), *command],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=error,
            env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},
            cwd="/",
            close_fds=True,
            pass_fds=(write_info,) if walls else (),
            start_new_session=True,
        )
    except OSError as problem:
        ours.close()
        os.close(read_info)
        error.close()
        raise SandboxError(f"cannot start {command[0]}: {problem}") from None
    finally:
        theirs.close()
        os.close(write_info)
    ended = _End(process, read_info, error, clean)
    worker = StreamWorker(ours, ended, lambda: _tail(error), oom_kills)
    try:
        deadline = time.monotonic() + _START_S
        worker.send(bundle.payload(python.magic), deadline)
        ready = worker.request(config, _START_S)
        if "ready" not in ready:
            raise WorkerLostError(str(ready.get("fatal", ready)))
    except WorkerLostError as problem:
        worker.kill()
        raise _explained(f"{problem} {_tail(error)}") from None
    return worker


class _End:
    """Ends a worker's process, and with it its namespaces."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        info: int,
        error: IO[bytes],
        clean: Callable[[], None],
    ) -> None:
        self._process, self._info, self._error, self._clean = process, info, error, clean

    def __call__(self) -> None:
        try:
            os.kill(json.loads(os.read(self._info, 4096))["child-pid"], signal.SIGKILL)
        except (OSError, ValueError, KeyError):  # no bubblewrap: the worker, whose stream is
            with contextlib.suppress(subprocess.TimeoutExpired):  # closed, ends its jobs itself
                self._process.wait(timeout=_LEAVE_S)
        os.close(self._info)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._error.close()
        self._clean()


def _tail(file: Any) -> str:
    with contextlib.suppress(OSError, ValueError):
        size = os.fstat(file.fileno()).st_size
        return os.pread(file.fileno(), 2000, max(0, size - 2000)).decode("utf-8", "replace").strip()
    return ""


def _explained(problem: str) -> SandboxError:
    """Why a worker does not start, and what to do, in one line."""
    text = " ".join(problem.split())
    said = re.search(r"bwrap: .*|OSError: .*?clone:.*|PermissionError: .*?(?:mount|clone).*", text)
    if said and re.search(r"namespace|uid map|permitted|denied|No space", said[0]):
        return NamespacesRefusedError(
            f"user namespaces are refused here ({said[0][:200].rstrip(') ')}): allow them "
            "(sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0, "
            "or kernel.apparmor_restrict_unprivileged_userns=0), or use docker or remote"
        )
    return SandboxError(f"a sandbox worker does not start: {text[:300]}")
