"""Run the tests of a code task in a sandbox, and judge what came back on the host.

No expected value enters a job that holds the solution. A ``check`` expression and the source of a
``replay`` run in a second job, which sees the results as plain data and none of the solution.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rl_sandboxes.types import TOGETHER, Call, Job, JobError, Limits, Run, Sandbox
from rl_verifiers.code_compare import cut, same, same_output, shown
from rl_verifiers.code_rows import CodeTest, Source

OVER_LIMIT = {
    "timeout": "timed out",
    "memory": "ran out of memory",
    "output_limit": "printed too much",
    "process_limit": "started too many processes",
    "disk": "filled its disk",
}
_STDERR = 2_000

REPLAY = """
import builtins as _rl_builtins, random as _rl_random
def _rl_replay(calls, *outcomes):
    left = [*zip(calls, outcomes)]
    def candidate(*args, **kwargs):
        assert left, "it was called more often than when it was recorded"
        call, outcome = left.pop(0)
        assert [list(args), kwargs] == call, "it was called with other arguments than recorded"
        if "raised" in outcome:
            kind = getattr(_rl_builtins, outcome["raised"][0], Exception)
            raise (kind if issubclass(kind, BaseException) else Exception)(outcome["raised"][1])
        return outcome["value"]
    _rl_random.seed(0)
    check(candidate)
    return not left
"""


class RunError(Exception):
    """The sandbox failed; nothing is known of the solution."""


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """How one test went, in words that a model may be shown.

    Attributes:
        passed: Whether it passed.
        status: ``passed``, ``wrong``, ``exception``, ``not_run`` (after runs that went over a
            limit), or the status of the run that broke it (``timeout``, ``memory``, ``crash``...).
        shown_input: The call, or the input.
        expected: What should have come.
        got: What came, or how it ended.
        stderr: The end of what it wrote there, the traceback for instance.
        weak: Whether the solution could have forged the verdict.
        suspicious: Marks of its runs (see ``rl_sandboxes.types.Run``).
    """

    __test__ = False  # no test class of pytest's

    passed: bool
    status: str
    shown_input: str
    expected: str
    got: str
    stderr: str = ""
    weak: bool = False
    suspicious: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The outcome in one line."""
        if self.passed:
            return f"{self.shown_input} passed"
        if self.status == "wrong":
            return f"{self.shown_input} gave {self.got}, not {self.expected}"
        return f"{self.shown_input} {self.got}"


@dataclass(frozen=True)
class Solution:
    """The code to test and what it may use.

    Attributes:
        code: Source; only a sandbox compiles it.
        entry_point: The function that calls with plain arguments go to.
        limits: Of each run.
        patience: How many runs over a limit end the runs of a job.
    """

    code: str
    entry_point: str
    limits: Limits
    patience: int = 1


@dataclass(frozen=True)
class _Part:
    """A job, and which run of which test each of its runs is."""

    job: Job
    places: Sequence[tuple[int, int]]


async def run_tests(
    sandbox: Sandbox, solution: Solution, tests: Sequence[CodeTest], *, tokens: bool = False
) -> list[TestOutcome]:
    """The outcome of each test.

    Args:
        sandbox: Where to run.
        solution: The code.
        tests: At least one.
        tokens: Compare printed output token by token, not line by line.

    Raises:
        RunError: The sandbox failed.
        JobError: A job cannot be run anywhere (over 10,000 runs, say).
    """
    parts = _parts(solution, tests)
    done = await asyncio.gather(*(_run(sandbox, part.job, solution.patience) for part in parts))
    runs: dict[tuple[int, int], Run | None] = {}
    for part, found in zip(parts, done, strict=True):
        runs.update(zip(part.places, found, strict=True))
    of_test = [[runs[i, j] for j in range(_n_runs(test))] for i, test in enumerate(tests)]
    verdicts = await _second_verdicts(sandbox, tests, of_test)
    return [
        _outcome(test, of_test[i], verdicts.get(i), solution.entry_point, tokens)
        for i, test in enumerate(tests)
    ]


def _n_runs(test: CodeTest) -> int:
    return max(1, len(test.calls))


# The first jobs: the solution runs.


def _parts(solution: Solution, tests: Sequence[CodeTest]) -> list[_Part]:
    """One job for all plain calls, one for the inputs, and one for each setup or weak test."""
    plain: list[tuple[tuple[int, int], Call]] = []
    written: dict[str, list[tuple[tuple[int, int], str]]] = {}
    parts: list[_Part] = []
    for i, test in enumerate(tests):
        for j, call in enumerate(test.calls):
            if isinstance(call, Call):
                plain.append(((i, j), call))
            else:
                written.setdefault(call.setup, []).append(((i, j), call.text))
        if test.kind == "weak":
            code = f"{solution.code}\n{test.setup}\n{test.source}\ndef _rl_end(): return True\n"
            parts.append(_Part(_call_job(code, "_rl_end", [Call()], solution.limits), [(i, 0)]))
    if plain:
        calls = [call for _, call in plain]
        job = _call_job(solution.code, solution.entry_point, calls, solution.limits)
        parts.append(_Part(job, [place for place, _ in plain]))
    for setup, found in written.items():
        code = f"{solution.code}\n{setup}\n{_table('_rl_call', '', [text for _, text in found])}"
        calls = [Call([number]) for number in range(len(found))]
        job = _call_job(code, "_rl_call", calls, solution.limits)
        parts.append(_Part(job, [place for place, _ in found]))
    programs = [(i, test) for i, test in enumerate(tests) if test.kind == "stdio"]
    if programs:
        parts.append(_program_part(solution, programs))
    return parts


def _call_job(code: str, entry_point: str, calls: Sequence[Call], limits: Limits) -> Job:
    return Job.call(code, entry_point, calls, limits=limits, stop_early=True)


def _program_part(solution: Solution, tests: Sequence[tuple[int, CodeTest]]) -> _Part:
    """The job of the stdio tests; what is kept of the output is more than is expected."""
    longest = max(len(test.expected.encode("utf-8", "replace")) for _, test in tests)
    kept = max(solution.limits.output_kb, longest // 512 + 1)
    limits = replace(solution.limits, output_kb=kept)
    stdin = [test.stdin for _, test in tests]
    job = Job.program(solution.code, stdin, limits=limits, stop_early=True)
    return _Part(job, [(i, 0) for i, _ in tests])


def _table(name: str, parameters: str, expressions: Sequence[str]) -> str:
    """Source of a function that evaluates the n-th of some expressions."""
    rows = "".join(f"    lambda {parameters}: (\n{text}\n),\n" for text in expressions)
    return f"{name}_table = [\n{rows}]\ndef {name}(n, *rest): return {name}_table[n](*rest)\n"


async def _run(sandbox: Sandbox, job: Job, patience: int) -> list[Run | None]:
    """All runs of a job; None for those after ``patience`` runs over a limit, or too much time."""
    runs: list[Run] = []
    over, spent_s = 0, 0.0
    while len(runs) < job.n_runs and over < patience and spent_s <= TOGETHER * job.limits.wall_s:
        rest = replace(job, calls=job.calls[len(runs) :], stdin=job.stdin[len(runs) :])
        result = await sandbox.arun(rest)
        if result.error is not None or not result.runs:
            raise RunError(result.error or "the sandbox gave no runs")
        runs.extend(result.runs)
        over += runs[-1].status in OVER_LIMIT
        spent_s += sum(run.wall_s for run in result.runs)
    return [*runs, *[None] * (job.n_runs - len(runs))]


# The second jobs: only data of the solution.


async def _second_verdicts(
    sandbox: Sandbox, tests: Sequence[CodeTest], runs: Sequence[Sequence[Run | None]]
) -> dict[int, Run]:
    """The run of each ``check`` and ``replay`` whose results are all there."""
    checks: dict[str, list[tuple[int, str, list[object]]]] = {}
    jobs: list[tuple[Job, list[int]]] = []
    for i, test in enumerate(tests):
        outcomes = [_replayed(run) for run in runs[i]]
        if test.kind == "check" and all(run is not None and _gave(run) for run in runs[i]):
            results: list[object] = [run.value for run in runs[i] if run is not None]
            checks.setdefault(test.setup, []).append((i, test.source, results))
        elif test.kind == "replay" and None not in outcomes:
            made = [[list(call.args), dict(call.kwargs)] for call in _plain(test)]
            code = f"{test.setup}\n{test.source}\n{REPLAY}"
            jobs.append((Job.call(code, "_rl_replay", [Call([made, *outcomes])]), [i]))
    for setup, found in checks.items():
        most = max(len(results) for _, _, results in found)
        names = ", ".join(f"r{number}=None" for number in range(most))
        sources = [f"True if (\n{source}\n) else False" for _, source, _ in found]
        code = f"{setup}\n{_table('_rl_check', names, sources)}"
        calls = [Call([n, *results]) for n, (_, _, results) in enumerate(found)]
        jobs.append((Job.call(code, "_rl_check", calls), [i for i, _, _ in found]))
    done = await asyncio.gather(*(_judged(sandbox, job) for job, _ in jobs))
    return {
        i: run
        for (_, places), runs in zip(jobs, done, strict=True)
        for i, run in zip(places, runs, strict=True)
    }


async def _judged(sandbox: Sandbox, job: Job) -> Sequence[Run]:
    """The runs of a second job; results that no job can take are the solution's fault."""
    try:
        result = await sandbox.arun(job)
    except JobError as error:
        return [Run("error", exception=f"JobError: {error}")] * job.n_runs
    if result.error is not None:
        raise RunError(result.error)
    return result.runs


def _plain(test: CodeTest) -> list[Call]:
    return [call for call in test.calls if isinstance(call, Call)]


def _gave(run: Run) -> bool:
    return run.status == "ok" and run.returned


def _replayed(run: Run | None) -> dict[str, object] | None:
    """What a replay hands to the test source: a value or an exception; None for anything else."""
    if run is None:
        return None
    if _gave(run):
        return {"value": run.value}
    if run.status == "error" and run.exception and "odd_type" not in run.suspicious:
        name, _, message = run.exception.partition(": ")
        return {"raised": [name, message]}
    return None


# Words.


def _outcome(
    test: CodeTest, runs: Sequence[Run | None], second: Run | None, entry_point: str, tokens: bool
) -> TestOutcome:
    marks = tuple(mark for run in runs if run is not None for mark in run.suspicious)
    stderr = next((run.stderr[-_STDERR:] for run in runs if run and run.stderr), "")
    status, got = _verdict(test, runs, second, tokens)
    return TestOutcome(
        passed=status == "passed",
        status=status,
        shown_input=_shown_input(test, entry_point),
        expected=_shown_expected(test),
        got=got,
        stderr=stderr,
        weak=test.kind == "weak",
        suspicious=marks,
    )


def _verdict(
    test: CodeTest, runs: Sequence[Run | None], second: Run | None, tokens: bool
) -> tuple[str, str]:
    """The status of an outcome and what came."""
    for run in runs:
        ended = _ended(test, run)
        if ended is not None:
            return ended
    first = runs[0]
    assert first is not None
    if test.kind in ("check", "replay"):
        results = ", ".join(shown(run.value) for run in runs[:3] if run is not None)
        held = second is not None and _gave(second) and second.value is True
        raised = f" ({cut(second.exception)})" if second is not None and second.exception else ""
        return ("passed" if held else "wrong"), results + raised
    if test.kind == "stdio":
        same_text = same_output(test.expected, first.stdout, tol=test.tol, tokens=tokens)
        held = same_text and not first.stdout_cut
        return ("passed" if held else "wrong"), shown(first.stdout, 200)
    if test.kind == "weak":
        held = first.value is True
    elif test.truthy is not None:
        held = bool(first.value) is test.truthy
    else:
        held = same(test.expected, first.value, tol=test.tol, strict=test.strict)
    return ("passed" if held else "wrong"), shown(first.value, 200)


def _ended(test: CodeTest, run: Run | None) -> tuple[str, str] | None:
    """Status and words where a run gave nothing to judge."""
    if run is None:
        return "not_run", "was not run: others went over a limit, or all took too long"
    if run.status in OVER_LIMIT:
        return run.status, OVER_LIMIT[run.status]
    is_judged = _gave(run) or (test.kind == "stdio" and run.status == "ok")
    if is_judged or (test.kind == "replay" and _replayed(run) is not None):
        return None
    return ("crash" if run.status == "crash" else "exception"), _how_it_ended(run)


def _how_it_ended(run: Run) -> str:
    if run.exception:
        is_odd = "odd_type" in run.suspicious  # the sandbox says then what was returned
        return cut(run.exception if is_odd else f"raised {run.exception}", 200)
    how = f"by signal {run.signal}" if run.signal else f"with exit code {run.exit_code}"
    last = run.stderr.strip().rpartition("\n")[2]
    return f"ended {how}" + (f" ({cut(last, 200)})" if last else "")


def _shown_input(test: CodeTest, entry_point: str) -> str:
    if test.kind == "stdio":
        return f"input {shown(test.stdin, 300)}"
    if test.kind == "weak":
        return cut(test.source.strip(), 300)
    call = test.calls[0]
    text = cut(call.text, 300) if isinstance(call, Source) else _shown_call(entry_point, call)
    return text if len(test.calls) == 1 else f"{text} and {len(test.calls) - 1} more"


def _shown_call(entry_point: str, call: Call) -> str:
    args = [shown(value, 200) for value in call.args]
    args += [f"{name}={shown(value, 200)}" for name, value in call.kwargs.items()]
    return cut(f"{entry_point}({', '.join(args)})", 300)


def _shown_expected(test: CodeTest) -> str:
    if test.kind == "check":
        return cut(test.source.strip(), 200)
    if test.kind == "replay":
        return "what the test source asks for"
    if test.kind == "weak":
        return "an assert that holds"
    if test.truthy is not None:
        return "something true" if test.truthy else "something false"
    return shown(test.expected, 200)
