"""The contract of every sandbox: a job in, a result typed by what really happened out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, Self, get_args, runtime_checkable

from rl_sandboxes.trees import Tree

RunStatus = Literal[
    "ok", "error", "timeout", "memory", "output_limit", "crash", "process_limit", "disk"
]
"""What happened to the untrusted code; decided by what we saw and did, never by what it says."""

Status = Literal[RunStatus, "sandbox_error"]
"""``sandbox_error`` is *our* failure (a worker died, a server is gone): never a verdict."""

RUN_STATUSES: tuple[str, ...] = get_args(RunStatus)
STATUSES: tuple[str, ...] = (*RUN_STATUSES, "sandbox_error")
KINDS = ("call", "program", "shell")
Kind = Literal["call", "program", "shell"]
MAX_RUNS = 10_000
MAX_INPUT_BYTES = 64 << 20
MAX_FILES = 500
TOGETHER = 10
"""Times ``wall_s`` that the runs of a job with ``stop_early`` may take together."""
OVER_LIMIT: tuple[str, ...] = ("timeout", "memory", "output_limit", "process_limit", "disk")
"""The statuses of runs that went over a limit."""
_MAX_COMMAND = 100_000


class SandboxError(Exception):
    """A sandbox cannot be used as asked; the message says what, where, and what to do."""


class JobError(SandboxError, ValueError):
    """A job or its limits that cannot be run anywhere: the caller must mend it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use. Every run of a job has these for itself.

    Attributes:
        wall_s: Seconds by the host's clock, from the start of the run; waiting for a free worker
            does not count.
        cpu_s: Seconds of processor time of the whole process tree. The limit that decides on a
            loaded machine, where wall time says little; so keep ``wall_s`` above it.
        memory_mb: MiB of the whole process tree, files in memory included.
        processes: Processes and threads at once.
        disk_mb: MiB in each of the working folder, /tmp and /dev/shm.
        output_kb: KiB kept of each of stdout and stderr, half from the beginning and half from the
            end. A run that writes 256 times as much (and over 16 MiB) is ended: ``output_limit``.
        value_kb: KiB of a returned value in its encoded form.

    Raises:
        JobError: A limit is not a positive number, or larger than any machine.
    """

    wall_s: float = 10.0
    cpu_s: float = 10.0
    memory_mb: int = 256
    processes: int = 64
    disk_mb: int = 64
    output_kb: int = 64
    value_kb: int = 1024

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value <= 1_000_000 or (spec.type == "int" and value % 1):
                kind = "a whole number" if spec.type == "int" else "a number"
                raise JobError(
                    f"limit {spec.name} is {value!r:.60}; "
                    f"it must be {kind} above 0 and up to 1,000,000"
                )
            if spec.type == "int":
                object.__setattr__(self, spec.name, int(value))  # 256.0 is as good as 256


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments of one call, plain data.

    That is None, bool, int, float, complex, str, bytes, and lists, tuples, sets, frozensets and
    dicts of them.
    """

    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """Untrusted code and what to do with it. Use the constructors below.

    Every run begins afresh: new processes, empty folders, the code loaded again. So no run can
    poison the next.

    Attributes:
        kind: ``call``, ``program`` or ``shell``.
        code: Python source; for ``shell`` a command line for bash.
        entry_point: ``call``: the function, a dotted path such as ``Solution().solve`` included.
        calls: ``call``: one run for each.
        stdin: ``program``, ``shell``: one run for each of these inputs.
        files: Written into the working folder before each run; relative paths.
        collect: Relative paths of regular files to bring back after the last run.
        limits: What a run may use.
        stop_early: Leave the remaining runs out after one that went over a limit, and once all
            together have taken ``TOGETHER`` times ``wall_s``.
    """

    kind: Kind
    code: str
    entry_point: str = ""
    calls: Sequence[Call] = ()
    stdin: Sequence[bytes] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    collect: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    stop_early: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise JobError(f"job kind is {self.kind!r}; it must be one of {', '.join(KINDS)}")
        _check_type("code", self.code, str)
        _check_type("limits", self.limits, Limits)
        for call in self.calls:
            _check_type("a call", call, Call)
        for data in (*self.stdin, *self.files.values()):
            _check_type("an input or file", data, bytes)
        if self.kind == "call" and not self.entry_point:
            raise JobError("a call job needs an entry_point: the name of the function to call")
        if self.kind == "shell" and ("\0" in self.code or len(self.code) > _MAX_COMMAND):
            raise JobError(f"a command line has no null character and at most {_MAX_COMMAND:,}")
        if not 1 <= self.n_runs <= MAX_RUNS:
            wanted = "calls" if self.kind == "call" else "stdin"
            raise JobError(f"a job has 1 to {MAX_RUNS:,} runs; {wanted} has {self.n_runs:,}")
        self._check_files()

    def _check_files(self) -> None:
        for path in (*self.files, *self.collect):
            check_path(path)
        for path in self.files:
            above = next((p for p in self.files if path.startswith(f"{p}/")), None)
            if above is not None:
                raise JobError(f"{above!r} cannot be a file and the folder of {path!r}")
        size, room = sum(map(len, self.files.values())), self.limits.disk_mb << 20
        if size > room or len(self.files) > MAX_FILES:
            raise JobError(
                f"{len(self.files):,} files of {size:,} bytes do not fit: at most {MAX_FILES} and "
                f"disk_mb, {self.limits.disk_mb} MiB"
            )

    @property
    def n_runs(self) -> int:
        """How many runs the job has."""
        return len(self.calls) if self.kind == "call" else len(self.stdin)

    @property
    def longest_s(self) -> float:
        """Seconds after which every run has been ended by its limits."""
        most = min(self.n_runs, TOGETHER + 1) if self.stop_early else self.n_runs
        return most * (self.limits.wall_s + 1.0) + 0.1 * self.n_runs

    @classmethod
    def call(cls, code: str, entry_point: str, calls: Sequence[Call], **options: Any) -> Self:
        """Load ``code`` and call ``entry_point`` with each of ``calls``."""
        return cls("call", code, entry_point=entry_point, calls=tuple(calls), **options)

    @classmethod
    def program(
        cls, code: str, stdin: Sequence[str | bytes] | str | bytes = "", **options: Any
    ) -> Self:
        """Run ``code`` as a Python script, once for each input."""
        return cls("program", code, stdin=_inputs(stdin), **options)

    @classmethod
    def shell(
        cls, command: str, stdin: Sequence[str | bytes] | str | bytes = "", **options: Any
    ) -> Self:
        """Run a command line in bash."""
        return cls("shell", command, stdin=_inputs(stdin), **options)


@dataclass(frozen=True, slots=True)
class Run:
    """What happened in one run.

    Attributes:
        status: By what was seen from outside: a limit that we enforced, the kernel's account, a
            signal, and only then the exit code (not 0: ``error``).
        stdout: What was printed, decoded as UTF-8, what is none replaced; of more than
            ``output_kb`` KiB the beginning and the end, with a line between that says so.
        stderr: The same; a Python traceback stands here.
        stdout_cut: Whether stdout was longer than that.
        stderr_cut: Whether stderr was longer than that.
        returned: ``call``: whether the function returned plain data, which is in ``value``.
        value: ``call``: what it returned; None where ``returned`` is false.
        exception: ``call``: the name and message of the exception that it ended with, if any.
        exit_code: The main process's exit code; None where a signal ended it.
        signal: The signal that ended the main process.
        wall_s: Seconds by the clock.
        cpu_s: Seconds of processor time of the process tree.
        peak_mb: MiB of memory at the highest point that was seen.
        n_left: Processes that outlived the main process (and were ended).
        suspicious: What honest code does not do: ``exit_before_result``, ``broken_result``,
            ``odd_type``, ``left_processes``, ``killed_itself``.
        note: Of a session's command: what happened to the session, in words for the model.
    """

    status: RunStatus
    stdout: str = ""
    stderr: str = ""
    stdout_cut: bool = False
    stderr_cut: bool = False
    returned: bool = False
    value: Any = None
    exception: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    n_left: int = 0
    suspicious: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What happened to a job: its runs, in order, or our own failure.

    Attributes:
        runs: One for each call or input; fewer with ``stop_early``, or where what the runs said
            comes to 64 MiB; none where ``error`` is set.
        files: The collected files.
        refused: Files that were not collected, each with why (missing, a link, too large).
        queue_s: Seconds that the job waited for a free worker; in no limit.
        error: What failed on our side, after a second try on a fresh worker; else None.
    """

    runs: tuple[Run, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    queue_s: float = 0.0
    error: str | None = None

    @property
    def status(self) -> Status:
        """``sandbox_error``; else the first status that is not ``ok``; else ``ok``."""
        if self.error is not None:
            return "sandbox_error"
        return next((run.status for run in self.runs if run.status != "ok"), "ok")

    @property
    def run(self) -> Run:
        """The first run, for jobs with one.

        Raises:
            SandboxError: There is none, because we failed.
        """
        if not self.runs:
            raise SandboxError(self.error or "the result has no runs")
        return self.runs[0]


@dataclass(frozen=True, slots=True)
class Guarantees:
    """What a back end promises, in words for a table. Empty text means: not promised.

    Attributes:
        network: What keeps a job off the network.
        files: What keeps a job off the host's files.
        processes: What keeps a job from seeing and ending other processes.
        fresh: What of a job is gone when its result is there.
        memory: How memory of the whole tree is limited.
        process_limit: How the number of processes is limited.
        disk: How files are limited.
        system_calls: What filters system calls.
        missing: What a user must know is not there, a sentence each.
    """

    network: str
    files: str
    processes: str
    fresh: str
    memory: str
    process_limit: str
    disk: str
    system_calls: str
    missing: tuple[str, ...] = ()


class Session(Protocol):
    """A box that stays: one persistent bash or Python, its files, its background processes.

    Every method raises SandboxError where *we* failed; what the commands do is in their Run.
    """

    def run(self, command: str, *, timeout_s: float | None = None) -> Run:
        """Run a command (bash) or a cell (Python); state stays for the next one."""
        ...

    async def arun(self, command: str, *, timeout_s: float | None = None) -> Run:
        """``run`` for use inside an event loop."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """Write a file, through no link; parent folders are made."""
        ...

    def get(self, path: str, *, max_bytes: int = 1 << 20) -> bytes:
        """Read a regular file, through no link.

        Raises:
            FileNotFoundError: There is none.
            JobError: It is a link, no regular file, or larger than ``max_bytes``.
        """
        ...

    def collect(self, *, max_entries: int = 2000, max_bytes: int = 4 << 20) -> Tree:
        """End all that runs in the box, then read all files beneath the working folder.

        So nothing changes them meanwhile. No link is followed, and pipes and devices are not
        opened. The next command finds a new shell.
        """
        ...

    def start(self, command: str) -> int:
        """Start a background process; its number."""
        ...

    def poll(self, number: int) -> Run | None:
        """The Run of a background process that ended, else None."""
        ...

    def stop(self, number: int) -> Run:
        """End a background process and all its children; its Run."""
        ...

    def snapshot(self) -> int:
        """Keep the state (files, and variables of the shell or interpreter); its number."""
        ...

    def restore(self, number: int) -> None:
        """Go back to a kept state; background processes end."""
        ...

    def close(self) -> None:
        """End everything in the box and throw it away."""
        ...


@runtime_checkable
class Sandbox(Protocol):
    """Runs jobs. Safe to call from many threads and event loops at once."""

    name: str

    def guarantees(self) -> Guarantees:
        """What it promises on this machine, now."""
        ...

    def run(self, job: Job) -> Result:
        """Run a job; blocks. Never raises for what the code does."""
        ...

    async def arun(self, job: Job) -> Result:
        """``run`` for use inside an event loop; cancelling ends the job."""
        ...

    def run_many(self, jobs: Sequence[Job]) -> list[Result]:
        """Run jobs at once on all workers; results in the order of the jobs."""
        ...

    def session(
        self, kind: Literal["bash", "python"] = "bash", limits: Limits | None = None
    ) -> Session:
        """Open a box that stays, with its own limits: ``wall_s`` is for each command."""
        ...

    def close(self) -> None:
        """End all workers; safe to call twice."""
        ...


def _inputs(stdin: Sequence[str | bytes] | str | bytes) -> tuple[bytes, ...]:
    many = (stdin,) if isinstance(stdin, str | bytes) else stdin
    return tuple(
        text.encode("utf-8", "replace") if isinstance(text, str) else text for text in many
    )


def _check_type(what: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise JobError(f"{what} of a job is {kind.__name__}, not {type(value).__name__}")


def check_path(path: str) -> None:
    """Refuse a path that is not plainly beneath the working folder.

    Raises:
        JobError: An absolute path, one with empty parts, ``.`` or ``..``, or a very long one.
    """
    _check_type("a path", path, str)
    parts = [part.encode("utf-8", "surrogatepass") for part in path.split("/")]
    plain = "\0" not in path and not any("\ud800" <= letter <= "\udfff" for letter in path)
    if not plain or any(part in (b"", b".", b"..") or len(part) > 255 for part in parts):
        raise JobError(
            f"path {path[:100]!r} must be relative to the working folder, "
            "with parts of 1 to 255 bytes that are not . or .."
        )
    if len(path) > 1000:
        raise JobError(f"path {path[:100]!r}... is longer than 1,000 characters")
