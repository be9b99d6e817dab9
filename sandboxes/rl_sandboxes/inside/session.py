"""A box that stays: a persistent bash or Python, background processes, files, snapshots.

The supervisor reads the host's requests itself and answers them one by one.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import signal
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from . import child, files, frames, tree
from .box import Box, send
from .shell import Background, Command, RefusedError, Shell

_KEEP_SHELL = "printf 'cd %q\\n' \"$PWD\"; declare -f; alias -p; shopt -p; set +o; declare -p"
_KEEP_SHELL_BYTES = 4 << 20
_POLITE_S, _FIRM_S = 0.3, 0.7
_FIRST_IDLE_S, _IDLE_S = 0.02, 0.25
_OF_A_TREE, _OF_AN_ENTRY = 6, 4 << 10  # bytes for each byte and entry that is read: ours
MAX_SNAPSHOTS = 8
MAX_STARTED = 64


def serve(box: Box, job: Mapping[str, Any], source: int, sink: int) -> None:
    """Answer requests until ``close`` or the end of the stream; then nothing runs any more."""
    session = Session(box, job["kind"], job["limits"])
    frames.write_all(sink, frames.pack({"opened": True}))
    while True:
        session.idle_until(source)
        try:
            request, _ = frames.read_frame(source)
        except frames.FrameError:
            break
        if request["op"] == "close":
            break
        try:
            reply = getattr(session, "do_" + request.pop("op"))(**request)
        except (OSError, RefusedError) as error:
            number = getattr(error, "errno", None)
            reply = {"refused": getattr(error, "strerror", None) or str(error), "errno": number}
        frames.write_all(sink, frames.pack(reply))
    box.spared.clear()
    box.end_all()


class Session:
    """Does what the host asks for: a request ``{"op": "run", ...}`` is a call of ``do_run``.

    Args:
        box: The world of the session.
        kind: ``bash`` or ``python``.
        limits: See ``types.Limits``; ``wall_s`` is for each command.
    """

    def __init__(self, box: Box, kind: str, limits: Mapping[str, float]) -> None:
        self.box, self.kind = box, kind
        self.limits = {**limits, "cpu_s": 1e6}  # of the whole session; the clock is for a command
        self.started: dict[int, Background] = {}
        self.snapshots: dict[int, dict[str, Any]] = {}
        self.numbers = 0
        self.kept_bytes = 0
        self._set_group_limits()
        self.shell = self._new_shell()

    def _set_group_limits(self, extra: int = 0) -> None:
        if self.box.rules.cgroups:
            self.box.rules.cgroups.begin(self.limits, extra=2 * self.kept_bytes + extra)

    def _new_shell(self) -> Shell:
        shell = Shell(self.box, self.limits, self.kind)
        shell.beside = self._serve_started
        return shell

    def _serve_started(self) -> None:
        for process in self.started.values():
            if not process.ended:
                process.serve()

    def idle_until(self, source: int) -> None:
        """Until there is a request: keep background output flowing and memory watched."""
        poll = select.poll()
        poll.register(source, select.POLLIN)
        wait = _FIRST_IDLE_S
        while not poll.poll(wait * 1000):
            wait = min(_IDLE_S, wait * 1.5)
            self._serve_started()
            if self.shell.over_memory():
                self.box.end_all()

    # Commands.

    def do_run(self, command: str, timeout_s: float) -> dict[str, Any]:
        """Run a command to its end, or until its time is over."""
        if not self.shell.alive():
            self._renew_shell()
        before = {p.pid for p in self.box.processes()}
        run = Command(self.shell, command, timeout_s)
        verdict = run.wait(time.monotonic() + timeout_s)
        if verdict is None and not run.taken:  # written to a shell that was about to end
            self._renew_shell()
            run = Command(self.shell, command, timeout_s)
            verdict = run.wait(time.monotonic() + timeout_s)
        note = ""
        if verdict is not None and not run.done:
            note = self._interrupt(run, before)
        report = run.report(verdict, note)
        if not self.shell.alive() or run.cut_off:
            report["note"] = note or "the session's state ended; a new one was started"
            self._renew_shell()
        return {"run": report}

    def _interrupt(self, run: Command, before: set[int]) -> str:
        """End a command, the gentle way first, so that the shell and its state survive."""
        for number, patience in ((signal.SIGINT, _POLITE_S), (signal.SIGKILL, _FIRM_S)):
            for process in self.box.processes():
                if process.pid not in before and process.pid != self.shell.pid:
                    send(process.pid, number)
            if number == signal.SIGINT and self.kind == "python":
                send(self.shell.pid, number)
            if run.wait(time.monotonic() + patience, watched=False) is None and run.done:
                return "the command was ended; the session goes on"
        send(self.shell.pid, signal.SIGKILL)
        run.wait(time.monotonic() + _FIRM_S, watched=False)
        return "the command was ended and with it the session's state; a new one was started"

    def _renew_shell(self) -> None:
        send(self.shell.pid, signal.SIGKILL)
        self.shell.close()
        self.shell = self._new_shell()

    # Background processes.

    def do_start(self, command: str) -> dict[str, Any]:
        """Start a process that goes on beside the shell."""
        if len(self.started) >= MAX_STARTED:
            raise RefusedError(
                f"{MAX_STARTED} background processes were started; close the session"
            )
        self.numbers += 1
        self.started[self.numbers] = Background(self.box, self.limits, command)
        return {"number": self.numbers}

    def do_poll(self, number: int) -> dict[str, Any]:
        """The run of a background process that ended; None while it goes on."""
        process = self._process(number)
        if not process.ended:
            process.serve()
        return {"run": process.report() if process.ended else None}

    def do_stop(self, number: int) -> dict[str, Any]:
        """End a background process and its descendants."""
        process = self._process(number)
        process.stop()
        return {"run": process.report()}

    def _process(self, number: int) -> Background:
        if number not in self.started:
            raise RefusedError(f"no background process {number}")
        return self.started[number]

    # Files.

    def do_put(self, path: str, data: str) -> dict[str, Any]:
        """Write a file beneath the working folder."""
        root = files.open_folder(self.box.rules.work)
        try:
            files.put_file(root, path, base64.b64decode(data))
        finally:
            os.close(root)
        return {}

    def do_get(self, path: str, max_bytes: int) -> dict[str, Any]:
        """Read a regular file beneath the working folder."""
        root = files.open_folder(self.box.rules.work)
        try:
            data = files.get_file(root, path, max_bytes)
        finally:
            os.close(root)
        return {"data": base64.b64encode(data).decode()}

    def do_collect(self, max_entries: int, max_bytes: int) -> dict[str, Any]:
        """End all that runs, then read every file beneath the working folder."""
        self.box.spared.clear()
        if self.kind == "python":
            self.snapshots.clear()  # each was a process
        if not self.box.end_all():
            return {"failed": "some of its processes would not end"}
        self._serve_started()
        self._set_group_limits(extra=_OF_A_TREE * max_bytes + max_entries * _OF_AN_ENTRY)
        try:
            return tree.read_tree(self.box.rules.work, max_entries, max_bytes)
        finally:
            with contextlib.suppress(OSError):  # files may hold more than the limit: it stays
                self._set_group_limits()

    # Snapshots.

    def do_snapshot(self) -> dict[str, Any]:
        """Keep the files, and the variables of the shell or interpreter."""
        if len(self.snapshots) >= MAX_SNAPSHOTS:
            raise RefusedError(f"a session keeps {MAX_SNAPSHOTS} snapshots at most")
        self.kept_bytes += sum(self.box.used(folder) for folder in self._folders())
        self._set_group_limits()  # what is kept is in memory, and the session's besides
        kept: dict[str, Any] = {"files": [self._packed(folder) for folder in self._folders()]}
        if self.kind == "python":
            kept["frozen"] = self.shell.freeze()
            self.box.spared.add(kept["frozen"])
        else:
            run = Command(self.shell, _KEEP_SHELL, self.limits["wall_s"], keep=_KEEP_SHELL_BYTES)
            if run.wait(run.deadline) is not None or not run.done:
                raise RefusedError("the shell does not answer")
            kept["shell"] = run.out.content().decode("utf-8", "surrogateescape")
        self.numbers += 1
        self.snapshots[self.numbers] = kept
        return {"number": self.numbers}

    def do_restore(self, number: int) -> dict[str, Any]:
        """Go back to a kept state; all that runs is ended."""
        if number not in self.snapshots:
            raise RefusedError(f"no snapshot {number}")
        kept = self.snapshots[number]
        self.box.end_all()
        self._serve_started()
        self.started.clear()
        self.box.renew_folders(self.limits)
        for folder, data in zip(self._folders(), kept["files"]):  # noqa: B905 - new in 3.10
            self._unpacked(folder, data)
        if self.kind == "python":
            self.shell.thaw(kept["frozen"])
        else:
            self._renew_shell()
            run = Command(self.shell, kept["shell"], self.limits["wall_s"])
            run.wait(run.deadline)
        return {}

    def _folders(self) -> list[str]:
        return [self.box.rules.work, self.box.rules.tmp]

    def _packed(self, folder: str) -> int:
        """A folder as a tar in memory, read with the job's own rights."""
        data = os.memfd_create("snapshot")
        self._tar(["tar", "-C", folder, "-cf", "-", "."], stdout=data)
        return data

    def _unpacked(self, folder: str, data: int) -> None:
        os.lseek(data, 0, os.SEEK_SET)
        self._tar(["tar", "-C", folder, "-xf", "-"], stdin=data)

    def _tar(self, words: list[str], stdin: int | None = None, stdout: int | None = None) -> None:
        null = os.open(os.devnull, os.O_RDWR)
        errors = os.memfd_create("errors")
        pid = os.fork()
        if pid == 0:
            streams = (null if stdin is None else stdin, null if stdout is None else stdout)
            self._become_tar(words, *streams, errors)
        os.close(null)
        deadline = time.monotonic() + self.limits["wall_s"]
        while pid not in self.box.ended:
            if time.monotonic() > deadline:
                send(pid, signal.SIGKILL)
            time.sleep(0.002)
            self.box.reap()
        said = os.pread(errors, 4096, 0).decode("utf-8", "replace").strip().splitlines()
        os.close(errors)
        if self.box.ended.pop(pid):
            raise RefusedError(f"the files cannot be kept: {said[-1] if said else 'no time'}")

    def _become_tar(self, words: list[str], stdin: int, stdout: int, stderr: int) -> NoReturn:
        try:
            child.take_streams(stdin, stdout, stderr)
            roomy = {**self.limits, "disk_mb": 4 * self.limits["disk_mb"]}
            child.confine(self.box.rules, roomy)
            os.execvp(words[0], words)
        finally:
            os._exit(98)
