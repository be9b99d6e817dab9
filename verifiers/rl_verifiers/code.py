"""The verifier of programs: it runs them in a sandbox and compares what they give on the host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import rl_sandboxes
from rl_sandboxes.types import Job, JobError, Limits, Sandbox, SandboxError
from rl_verifiers import extract as extraction
from rl_verifiers.code_compare import cut
from rl_verifiers.code_rows import BadTests, CodeTest, read_tests
from rl_verifiers.code_runs import OVER_LIMIT, RunError, Solution, TestOutcome, run_tests
from rl_verifiers.runner import score_sync
from rl_verifiers.score import Row, Score, Status, VerifierError

Reward = Literal["all", "fraction"]
CodeExtraction = Literal["final", "fence", "whole", "continuation"]
SandboxChoice = str | Mapping[str, Any] | Sandbox

DEFAULT_LIMITS = Limits(cpu_s=5.0)

_LOOKS_LIKE_CODE = re.compile(
    r"(?:#|@\w|(?:async )?def \w+\s*\(|class \w+\s*[:(]|import \w+|from [\w.]+ import |print\(|"
    r"(?:for|while|if|with|try)\b[^\n]*:\s*\n|\w[\w, ]{0,99} = |\"\"\")"
)
_FUTURE = re.compile(r"^from __future__ import [^\n]*$", re.MULTILINE)
_SYNTAX = ("SyntaxError", "IndentationError", "TabError")


@dataclass(frozen=True)
class CodeReport:
    """A score and how each test went; no tests where nothing was run."""

    score: Score
    tests: tuple[TestOutcome, ...] = ()

    @property
    def first_failing(self) -> TestOutcome | None:
        """The first test that did not pass."""
        return next((test for test in self.tests if not test.passed), None)


@dataclass(frozen=True)
class CodeVerifier:
    """See :func:`code_verifier`."""

    sandbox: SandboxChoice
    reward: Reward
    limits: Limits
    extract: CodeExtraction
    strict_types: bool
    stdout: Literal["lines", "tokens"]
    allow_weak: bool
    bounded = True

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks while the sandbox runs it."""
        return score_sync(self, completion, row)

    def prepare(self) -> None:
        """Open the sandbox and try the limits, so that what cannot work is known at once.

        Raises:
            VerifierError: The sandbox cannot be used, or not with these limits.
        """
        try:
            result = open_sandbox(self.sandbox).run(Job.program("", limits=self.limits))
        except SandboxError as error:
            raise VerifierError(f"code: {error}") from error
        if result.error is not None:
            raise VerifierError(f"code: {result.error}")

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion; other tasks run while the sandbox does."""
        return (await self.report(completion, row)).score

    async def report(self, completion: str, row: Row) -> CodeReport:
        """Score one completion and say how each test went.

        Raises:
            VerifierError: The sandbox cannot be used at all (no bubblewrap, say).
        """
        try:
            tests = self._tests(row)
        except BadTests as error:
            return _unscored(f"unusable tests: {error}", "bad_reference")
        code = find_code(completion, self.extract, row)
        if code is None:
            return _unscored("no code found", "no_answer")
        if not _is_text(code):
            return _unscored("no valid Unicode", "unparsable")
        return await self._tested(_with_prelude(str(row.get("prelude") or ""), code), row, tests)

    async def _tested(self, code: str, row: Row, tests: list[CodeTest]) -> CodeReport:
        patience = 1 if self.reward == "all" else 2
        solution = Solution(code, str(row.get("entry_point") or ""), self.limits, patience)
        try:
            sandbox = open_sandbox(self.sandbox)
            outcomes = await run_tests(sandbox, solution, tests, tokens=self.stdout == "tokens")
        except JobError as error:
            return _unscored(f"unusable tests: {error}", "bad_reference")
        except (RunError, SandboxError) as error:
            return CodeReport(Score.failed(f"sandbox: {cut(str(error), 300)}"))
        return CodeReport(_score(outcomes, self.reward), tuple(outcomes))

    def _tests(self, row: Row) -> list[CodeTest]:
        tests = read_tests(row)
        weak = [number for number, test in enumerate(tests, start=1) if test.kind == "weak"]
        if weak and not self.allow_weak:
            raise BadTests(f"test {weak[0]} is weak: the solution could forge its verdict")
        return [replace(test, strict=True) for test in tests] if self.strict_types else tests


def code_verifier(
    *,
    sandbox: SandboxChoice = "local",
    reward: Reward = "all",
    limits: Limits | Mapping[str, Any] | None = None,
    extract: CodeExtraction = "final",
    strict_types: bool = False,
    stdout: Literal["lines", "tokens"] = "lines",
    allow_weak: bool = True,
) -> CodeVerifier:
    """The completion's program passes the tests in ``row["tests"]``, run in a sandbox.

    Expected values never enter the sandbox: arguments go in, plain data comes out, and the host
    compares, as ``==`` would (``1 == 1.0 == True``, a list is no tuple), NaN equal to NaN alone and
    numbers within a test's ``tol``. Each call has a fresh process. What a test may look like says
    :func:`rl_verifiers.code_rows.read_tests`; :func:`rl_verifiers.code_tests.from_asserts` makes
    tests of assert-style source. Other columns: ``entry_point``, the function that is called;
    ``prelude``, source put before the completion's; ``tol``; ``prompt``, for ``continuation``.

    The status is ``no_answer`` without code, ``unparsable`` for a syntax error, ``over_limit``
    where every failing test went over a limit, ``bad_reference`` for missing or malformed tests.
    Parts: ``tests`` (share passed), ``over_limit`` (tests that went over a limit, or were left out
    after one that did), ``suspicious`` (marks of what honest code does not do), ``weak`` (share of
    tests whose verdict the solution could forge).

    Args:
        sandbox: A back end's name, ``{"name": ..., **options}``, or a Sandbox.
        reward: ``all``: 1 if every test passed, else 0; ``fraction``: the share that passed.
        limits: Of each run, as ``rl_sandboxes.Limits``; by default those of ``DEFAULT_LIMITS``.
        extract: ``fence``: the last closed Python fence, else the last closed fence; ``final``: the
            same, else the whole text where it looks like code; both after ``</think>``;
            ``whole``: all of it; ``continuation``: ``row["prompt"]`` and then all of it.
        strict_types: Types must be the same too: no ``1.0`` for ``1``.
        stdout: Compare printed output by ``lines``, blanks at their ends aside, or by ``tokens``.
        allow_weak: Off, a row with a weak test is a ``bad_reference``.

    Raises:
        VerifierError: An option that is not one of these.
    """
    _check_choice("reward", reward, get_args(Reward))
    _check_choice("extract", extract, get_args(CodeExtraction))
    _check_choice("stdout", stdout, ("lines", "tokens"))
    if not isinstance(sandbox, str | Mapping | Sandbox):
        raise VerifierError(
            f"code: sandbox is {sandbox!r:.60}; it must be a name, {{name: ..., options}} "
            "or a Sandbox"
        )
    return CodeVerifier(sandbox, reward, _limits(limits), extract, strict_types, stdout, allow_weak)


def open_sandbox(choice: SandboxChoice) -> Sandbox:
    """The sandbox that a choice names, one for each process and set of options.

    Raises:
        VerifierError: It cannot be used; the message says what to install or change.
    """
    try:
        return rl_sandboxes.shared(choice)
    except SandboxError as error:
        raise VerifierError(f"code: {error}") from error


def find_code(completion: str, rule: CodeExtraction, row: Row) -> str | None:
    """The code in a completion; None where there is none."""
    if rule == "whole":
        return completion if completion.strip() else None
    if rule == "continuation":
        prompt = row.get("prompt")
        whole = isinstance(prompt, str) and completion.strip()
        return f"{prompt}{completion}" if whole else None
    rest = extraction.without_thinking(completion)
    if rest is None:
        return None
    found = extraction.code_fence(rest, "python")
    found = extraction.code_fence(rest) if found is None else found
    if found is None and rule == "final" and _LOOKS_LIKE_CODE.match(rest.lstrip()[:1000]):
        found = rest
    return found if found and found.strip() else None


def _unscored(reason: str, status: Status) -> CodeReport:
    return CodeReport(Score.wrong(reason, status=status))


def _with_prelude(prelude: str, code: str) -> str:
    if not prelude:
        return code
    future = "".join(f"{line}\n" for line in _FUTURE.findall(code))  # they must come first
    return f"{future}{prelude}\n{_FUTURE.sub('', code) if future else code}"


def _is_text(code: str) -> bool:
    try:
        code.encode()
    except UnicodeEncodeError:
        return False
    return True


def _score(outcomes: list[TestOutcome], reward: Reward) -> Score:
    passed = sum(test.passed for test in outcomes)
    share = passed / len(outcomes)
    weak = sum(test.weak for test in outcomes)
    over = sum(test.status in OVER_LIMIT or test.status == "not_run" for test in outcomes)
    parts = {
        "tests": share,
        "over_limit": float(over),
        "suspicious": float(sum(len(test.suspicious) for test in outcomes)),
        "weak": weak / len(outcomes),
    }
    status = _status(outcomes, passed, over)
    value = share if reward == "fraction" else float(status == "correct")
    return Score(value, status == "correct", status, _reason(outcomes, passed, weak), parts)


def _status(outcomes: list[TestOutcome], passed: int, over: int) -> Status:
    if passed == len(outcomes):
        return "correct"
    if passed + over == len(outcomes):
        return "over_limit"
    if not passed and all(_is_syntax_error(test) for test in outcomes):
        return "unparsable"
    return "wrong"


def _is_syntax_error(test: TestOutcome) -> bool:
    last = test.stderr.strip().rpartition("\n")[2]
    return test.status == "exception" and last.partition(":")[0] in _SYNTAX


def _reason(outcomes: list[TestOutcome], passed: int, weak: int) -> str:
    counted = f"{passed} of {len(outcomes)} tests" + (f", {weak} of them weak" if weak else "")
    for number, test in enumerate(outcomes, start=1):
        if not test.passed:
            return f"{counted}; test {number}: {cut(test.line, 300)}"
    return counted


def _limits(limits: Limits | Mapping[str, Any] | None) -> Limits:
    if isinstance(limits, Limits):
        return limits
    if limits is not None and not isinstance(limits, Mapping):
        raise VerifierError(
            f"code: limits is {limits!r:.60}; it must be a mapping such as cpu_s: 2"
        )
    known = [spec.name for spec in fields(Limits)]
    unknown = sorted(set(limits or ()) - set(known))
    if unknown:
        raise VerifierError(f"code: unknown limit {unknown[0]!r}; known: {', '.join(known)}")
    try:
        return replace(DEFAULT_LIMITS, **(limits or {}))
    except JobError as error:
        raise VerifierError(f"code: {error}") from None


def _check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise VerifierError(f"code: {name} is {value!r:.40}; it must be one of {', '.join(known)}")
