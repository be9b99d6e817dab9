"""Rows that attack a sandbox: how one is run, and what it shows.

A row is a mapping, see ``docs/sandboxes.md``: ``kind`` (``exec``: a script; ``shell``: a command
for a session and what comes ``then``), ``code``, ``expect`` and ``accept`` (how it may end),
``also`` (further conditions) and, for some, ``limits``, ``collect``, ``upload_after``,
``second_code``, ``must``. It is written for any sandbox; this module says what it means for ours.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rl_sandboxes.bait import MARK_NAME, Bait, marked_processes, marking, new_mark
from rl_sandboxes.types import Job, JobError, Limits, Result, Run, Sandbox, SandboxError

AttackRow = Mapping[str, Any]
LIMITS = Limits(wall_s=3, cpu_s=3, memory_mb=256, processes=64, disk_mb=64, output_kb=64)
"""The limits that a row is graded under where it names none."""

PROMISED_BY = {
    "cross_job": "fresh",
    "daemon": "fresh",
    "disk_fill": "disk",
    "fork_bomb": "process_limit",
    "kill_parent": "processes",
    "memory_bomb": "memory",
    "network": "network",
    "privileges": "system_calls",
}
"""The guarantee that a category rests on; the others rest on none that a back end may lack."""

_WORDS = {
    "ok": {"ok"},
    "error": {"error"},
    "timeout": {"timeout"},
    "memory": {"memory_error", "killed"},
    "output_limit": {"output_limit", "killed"},
    "crash": {"crash", "killed"},
    "process_limit": {"process_limit", "killed"},
    "disk": {"disk_limit", "killed"},
}
_DYING_S = 0.5
_PROMPT_S = 1.0
_NOTE_BYTES = 1024


@dataclass
class Outcome:
    """What a row did.

    Attributes:
        runs: The run of the row's code, and of what came after it.
        result: ``exec``: the job's result.
        elapsed_s: Seconds until the result was there.
        living: Processes of the job half a second after the result.
        after_close: ``shell``: processes that outlived the session.
        reached: Whether the host could connect to the job's port.
        second: The next job's run.
        uploads: What became of the files that were written after the run.
        working: Whether the next job runs as it should.
    """

    runs: list[Run] = field(default_factory=list)
    result: Result = field(default_factory=Result)
    elapsed_s: float = 0.0
    living: list[int] = field(default_factory=list)
    after_close: list[int] = field(default_factory=list)
    reached: bool = False
    second: Run | None = None
    uploads: list[str] = field(default_factory=list)
    working: bool = True

    @property
    def text(self) -> str:
        """All that came out, standard error and files included."""
        files = (data.decode("utf-8", "replace") for data in self.result.files.values())
        runs = [*self.runs, *([self.second] if self.second else [])]
        return "\n".join([*(run.stdout + "\n" + run.stderr for run in runs), *files, *self.uploads])


def grade(sandbox: Sandbox, row: AttackRow, bait: Bait, *, slack_s: float = 1.0) -> list[str]:
    """Run a row of kind ``exec`` or ``shell``; what is not as it should be, a line each.

    Args:
        sandbox: One with a single worker, so that the next job meets what the row left.
        row: The row.
        bait: What it attacks; laid out before the sandbox was made.
        slack_s: Seconds that a loaded machine is given on top where a result must be prompt.
    """
    try:
        outcome = (_run_shell if row["kind"] == "shell" else _run_exec)(sandbox, row, bait)
    except SandboxError as error:
        return [f"the sandbox failed: {error}"]
    problems = [*_status_problems(row, outcome), *_breaches(row, outcome, bait)]
    for word in row.get("also", ()):
        if word not in ALSO:
            problems.append(f"unknown condition {word!r}")
        elif problem := ALSO[word](row, outcome, bait, slack_s):
            problems.append(f"{word}: {problem}")
    problems += _text_problems(row, outcome)
    problems += bait.damage()
    return problems


def limits_of(row: AttackRow) -> Limits:
    """The limits of a row: the usual ones with what it names in their place."""
    known = {
        "wall": "wall_s",
        "cpu": "cpu_s",
        "memory": "memory_mb",
        "disk": "disk_mb",
        "output": "output_kb",
        "processes": "processes",
        **{name: name for name in LIMITS.__dataclass_fields__},
    }
    return replace(LIMITS, **{known[name]: value for name, value in row.get("limits", {}).items()})


def _run_exec(sandbox: Sandbox, row: AttackRow, bait: Bait) -> Outcome:
    mark, port = new_mark(), _free_port()
    outcome = Outcome()
    before = len(bait.received)
    code = marking(mark) + bait.fill(row["code"], port)
    if row.get("upload_after"):
        _upload(sandbox, row, code, outcome)
        return outcome
    collect = [path for path in row.get("collect", ()) if _is_inside(path)]
    job = Job.program(code, row.get("stdin", ""), collect=collect, limits=limits_of(row))
    watched = "port_unreachable" in row.get("also", ())
    with _connecting(port, outcome) if watched else contextlib.nullcontext():
        started = time.monotonic()
        outcome.result = sandbox.run(job)
        outcome.elapsed_s = time.monotonic() - started
    if outcome.result.error is not None:
        raise SandboxError(outcome.result.error)
    outcome.runs = list(outcome.result.runs)
    outcome.living = _living(mark)
    if row.get("second_code"):
        second = Job.program(bait.fill(row["second_code"], port), limits=limits_of(row))
        outcome.second = sandbox.run(second).run
    if row["category"] == "network" or row["expect"] == "no_network":
        outcome.reached = outcome.reached or len(bait.received) > before
    outcome.working = _works(sandbox)
    return outcome


def _upload(sandbox: Sandbox, row: AttackRow, code: str, outcome: Outcome) -> None:
    """The row in a box that stays, then the files; its result is that of the script."""
    session = sandbox.session("bash", limits_of(row))
    try:
        session.put("attack.py", code.encode())
        outcome.runs = [session.run("python3 attack.py")]
        names = row["upload_after"]
        given = names if isinstance(names, Mapping) else dict.fromkeys(names, "uploaded")
        for name, content in given.items():
            try:
                session.put(name, str(content).encode())
                outcome.uploads.append(session.get(name).decode("utf-8", "replace"))
            except (JobError, FileNotFoundError) as error:
                outcome.uploads.append(f"refused: {error}")
        for name in row.get("collect", ()):
            with contextlib.suppress(JobError, FileNotFoundError):
                outcome.result = Result(files={name: session.get(name)})
    finally:
        session.close()
    outcome.working = _works(sandbox)


def _run_shell(sandbox: Sandbox, row: AttackRow, bait: Bait) -> Outcome:
    mark, port = new_mark(), _free_port()
    outcome = Outcome()
    session = sandbox.session("bash", limits_of(row))
    try:
        session.run(f"export {MARK_NAME}={mark}")
        started = time.monotonic()
        outcome.runs.append(session.run(bait.fill(row["code"], port)))
        outcome.elapsed_s = time.monotonic() - started
        outcome.runs += [session.run(bait.fill(step["cmd"], port)) for step in row.get("then", ())]
        if "processes_gone" in row.get("also", ()):
            outcome.living = _living(mark)
    finally:
        session.close()
    outcome.after_close = _living(mark)
    outcome.working = _works(sandbox)
    return outcome


def _is_inside(path: str) -> bool:
    with contextlib.suppress(JobError):
        Job.program("", collect=[path])
        return True
    return False


def _works(sandbox: Sandbox) -> bool:
    result = sandbox.run(Job.program("print(input()[::-1])", "olleh", limits=LIMITS))
    return result.error is None and result.run.status == "ok" and result.run.stdout == "hello\n"


def _living(mark: str) -> list[int]:
    deadline = time.monotonic() + _DYING_S
    while (found := marked_processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def _connecting(port: int, outcome: Outcome) -> Iterator[None]:
    """Try the port again and again, and once more at the end."""
    done = threading.Event()

    def attempt() -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            outcome.reached = True

    def repeat() -> None:
        while not done.wait(0.02):
            attempt()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        attempt()


# Verdicts.


def words_of(run: Run) -> set[str]:
    """A run's status in the words of the rows."""
    words = set(_WORDS[run.status])
    if run.status == "error" and "MemoryError" in run.stderr:
        words.add("memory_error")
    return words


def _status_problems(row: AttackRow, outcome: Outcome) -> list[str]:
    expect, accept = row["expect"], set(row.get("accept", ()))
    words = words_of(outcome.runs[0])
    if expect in ("any", "denied", "no_network", "session_recovers"):
        allowed = accept
    else:
        allowed = {expect, *accept}
    if allowed and not words & allowed:
        run = outcome.runs[0]
        told = (run.stderr.strip() or run.stdout.strip())[-300:]
        return [f"ended as {run.status}, should be {' or '.join(sorted(allowed))}: {told!r}"]
    return []


def _breaches(row: AttackRow, outcome: Outcome, bait: Bait) -> list[str]:
    found = [line[:200] for line in outcome.text.splitlines() if line.startswith("BREACH")]
    if outcome.reached:
        found.append("what the host listens on, or what the job does, was reached")
    if bait.secret in outcome.text:
        found.append("the secret came out")
    return found


def _text_problems(row: AttackRow, outcome: Outcome) -> list[str]:
    steps = [(row.get("must"), outcome.runs[0].stdout), (row.get("tail"), _tail(outcome.runs[0]))]
    steps += [
        (step.get("out"), run.stdout)
        for step, run in zip(row.get("then", ()), outcome.runs[1:], strict=True)
    ]
    if outcome.second is not None:
        steps.append((row.get("second_must"), outcome.second.stdout))
    found = [
        f"{text!r} is not in {out[-300:]!r}" for text, out in steps if text and text not in out
    ]
    forbidden = row.get("second_must_not")
    if forbidden and outcome.second is not None and forbidden in outcome.second.stdout:
        found.append(f"{forbidden!r} is in the next job's output")
    return found


def _tail(run: Run) -> str:
    return run.stdout[-200:]


Condition = Callable[[AttackRow, Outcome, Bait, float], str]


def _says(test: Callable[[Outcome], Any], problem: str) -> Condition:
    return lambda row, outcome, bait, slack_s: problem if test(outcome) else ""


def _is_slow(row: AttackRow, outcome: Outcome, bait: Bait, slack_s: float) -> str:
    limit = _PROMPT_S + slack_s
    return f"the result took {outcome.elapsed_s:.1f} s" if outcome.elapsed_s > limit else ""


def _is_not_cut(row: AttackRow, outcome: Outcome, bait: Bait, slack_s: float) -> str:
    run, most = outcome.runs[0], (limits_of(row).output_kb << 10) + _NOTE_BYTES
    for name, text in (("stdout", run.stdout), ("stderr", run.stderr)):
        if len(text) > most:
            return f"{len(text):,} characters of {name} were kept"
    return "" if run.stdout_cut or run.stderr_cut else "no output is said to be cut"


def _shows_host_processes(row: AttackRow, outcome: Outcome, bait: Bait, slack_s: float) -> str:
    return f"{bait.victim_name} is listed" if bait.victim_name in outcome.text else ""


def _collected(row: AttackRow, outcome: Outcome, bait: Bait, slack_s: float) -> str:
    refused = outcome.result.refused
    for name in row["collect"]:
        if name in outcome.result.files:
            return f"{name} was collected"
        if _is_inside(name) and name not in refused and not row.get("upload_after"):
            return f"{name} is neither collected nor refused"
    return ""


def _collects_much(row: AttackRow, outcome: Outcome, bait: Bait, slack_s: float) -> str:
    size = sum(map(len, outcome.result.files.values()))
    return f"{size:,} bytes" if size > limits_of(row).disk_mb << 20 else ""


def _is_no_text(row: AttackRow, outcome: Outcome, bait: Bait, slack_s: float) -> str:
    try:
        outcome.text.encode("utf-8")
    except UnicodeEncodeError as error:
        return str(error)
    return ""


def _leaves_folders(row: AttackRow, outcome: Outcome, bait: Bait, slack_s: float) -> str:
    name = row.get("left_name", "left-by-the-job")
    places = [place for place in ("/tmp", "/dev/shm", "/var/tmp") if os.path.isdir(place)]
    words = ["find", *places, "-name", name, "-print", "-quit"]  # goes as deep as need be
    found = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    return f"the host has {found[-200:].strip()}" if found else ""


ALSO: dict[str, Condition] = {
    "collect_bounded": _collects_much,
    "collect_refused": _collected,
    "exit_code_7": _says(lambda seen: seen.runs[0].exit_code != 7, "it is another one"),
    "gone_after_close": _says(lambda seen: seen.after_close, "processes outlived the session"),
    "host_untouched": _says(lambda seen: False, ""),  # looked at after every row
    "no_host_processes": _shows_host_processes,
    "no_leak": _says(lambda seen: False, ""),  # the second job's output says it
    "no_secret": _says(lambda seen: False, ""),  # looked for in every row
    "output_truncated": _is_not_cut,
    "partial_output_kept": _says(lambda seen: not seen.runs[0].stdout, "nothing of it was kept"),
    "port_unreachable": _says(lambda seen: seen.reached, "the host could connect to it"),
    "processes_gone": _says(lambda seen: seen.living, "processes outlived the result"),
    "prompt_return": _is_slow,
    "session_recovers": _says(lambda seen: len(seen.runs) < 2, "nothing was run after it"),
    "tail_kept": _says(lambda seen: not _tail(seen.runs[0]).strip(), "the end is missing"),
    "valid_utf8": _is_no_text,
    "worker_alive": _says(lambda seen: not seen.working, "the next job did not run as it should"),
    "workdir_removed": _leaves_folders,
}
"""The conditions that a row may name in ``also``; each says what is wrong, or nothing."""
