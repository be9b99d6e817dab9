"""Make tests of assert-style source, at load time and without any model's code."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rl_sandboxes.types import Call, Job, JobError, Limits, Run, Sandbox
from rl_verifiers import code_syntax as syntax
from rl_verifiers.code import SandboxChoice, open_sandbox
from rl_verifiers.code_rows import json_field, literal_of, read_tests
from rl_verifiers.code_runs import RunError, Solution, run_tests
from rl_verifiers.code_source import TestSource, guessed_entry
from rl_verifiers.runner import run_sync
from rl_verifiers.score import VerifierError

__all__ = ["MAX_REPLAYED", "from_asserts", "guessed_entry"]

MAX_REPLAYED = 500
"""Test source that calls the solution more often than this stays ``weak``."""

Test = dict[str, Any]

_LIMITS = Limits(wall_s=30.0, cpu_s=15.0, memory_mb=512, value_kb=8192)
_RECORD = """
import copy as _rl_copy, random as _rl_random
def _rl_record():
    made = []
    def candidate(*args, **kwargs):
        state = _rl_random.getstate()
        made.append(_rl_copy.deepcopy([list(args), kwargs]))
        try:
            return ENTRY(*args, **kwargs)
        finally:
            _rl_random.setstate(state)
    _rl_random.seed(0)
    check(candidate)
    return made
"""


def from_asserts(
    source: str,
    entry_point: str | None = None,
    *,
    setup: str = "",
    reference: str | None = None,
    sandbox: SandboxChoice | None = None,
) -> list[Test]:
    """The tests that assert-style source makes, as :func:`rl_verifiers.code_rows.read_tests` reads.

    Taken are lines of asserts (MBPP) and ``def check(candidate)`` (HumanEval). In order:

    1. ``f(args) == value`` (either side, ``is``, bare, ``not``, ``abs(f(args) - value) < eps``)
       becomes a call test. Constant expressions are evaluated in the sandbox, now. Arguments that
       are no plain data (``f([Node(1)])``) stay source, evaluated behind the solution.
    2. Any other expression over such calls becomes a check test.
    3. Loops, variables that hold results, ``try``: with a ``reference``, one replay test. The
       reference runs under a recorder, random numbers seeded; what is kept are the arguments.
       At scoring time the solution is called with them, and the test source, random numbers seeded
       alike, runs in a second job where the candidate hands out those results in turn. So any
       solution passes that would have passed the source, unless its results make the source call
       it with other arguments than the reference's did.
    4. What remains becomes weak tests; so do tests of kinds 1 (if not literal), 2 and 3 that the
       reference fails as they are, but passes as weak ones.

    Args:
        source: The tests.
        entry_point: The solution's function; found by :func:`guessed_entry` when left out, needed
            for ``check``.
        setup: Source that the tests need, such as imports or helper functions.
        reference: The data set's own solution, complete.
        sandbox: Where to evaluate and record; the local one by default. Literal asserts need none.

    Raises:
        VerifierError: The source cannot be parsed, has no tests, or its entry point is not known;
            or the sandbox cannot be used.
    """
    return _Conversion(TestSource.parse(source, entry_point, setup, reference), sandbox).tests()


@dataclass(frozen=True)
class _Made:
    """A test and the statement that it was made of."""

    test: Test
    statement: ast.stmt
    is_literal: bool


@dataclass
class _Literal:
    """Whether everything seen so far was a literal."""

    holds: bool = True


class _NotPlainError(Exception):
    """An expression whose value is not to be had, or no plain data."""


class _Conversion:
    """One call of :func:`from_asserts`: the statements in order, and what they leave behind."""

    def __init__(self, source: TestSource, choice: SandboxChoice | None) -> None:
        self.source = source
        self.choice = choice
        self.local = list(source.before)  # what runs before the next assert
        self.rest: list[ast.stmt] = []  # the body without the asserts that became tests
        self.is_rest_needed = False
        self.tainted: set[str] = set()  # names that may hold what the solution gave

    def tests(self) -> list[Test]:
        """All tests of the source."""
        made = [test for statement in self.source.body for test in self._of_statement(statement)]
        tests = self._verified(made)
        if self.is_rest_needed:
            tests.append(self._replay() or self._weak_rest())
        if not tests:
            raise VerifierError("the test source has no assert that calls the solution")
        return tests

    def _of_statement(self, statement: ast.stmt) -> list[_Made]:
        mentioned = syntax.used(statement) | syntax.bound(statement)
        if isinstance(statement, ast.Assert) and not mentioned & self.tainted:
            made = self._of_assert(statement)
            if made is not None:
                return made
        self.rest.append(statement)
        concerned = mentioned & (self.source.candidates | self.tainted)
        if concerned or isinstance(statement, ast.Assert):
            self.is_rest_needed = True
            self.tainted |= syntax.bound(statement) | syntax.free(statement)
            self.tainted -= self.source.candidates
        else:
            self.local.append(statement)
        return []

    def _of_assert(self, statement: ast.Assert) -> list[_Made] | None:
        """No test (it does not concern the solution), one, or None if it cannot be made."""
        roots = self._roots(statement.test)
        if not roots:
            return []
        calls = syntax.solution_calls(
            statement.test, roots, {self.source.entry, *self.source.candidates}
        )
        residual = syntax.with_results(statement.test, calls)
        names = syntax.used(residual)
        unknown = names - syntax.bound(residual) - self.source.known(self.local)
        is_out_of_reach = (
            not calls
            or (len(roots) > 1 and not roots <= self.source.candidates)
            or any(syntax.inside_scope(statement.test, call) for call in calls)
            or bool(unknown - syntax.results(len(calls)))
            or bool(names & roots)
            or "random" in self._setup(syntax.used(statement))
        )
        if is_out_of_reach:
            return None
        literal = _Literal()
        converted = [self._call(call, literal) for call in calls]
        test = self._compared(residual, converted, literal) or self._check(residual, converted)
        return [_Made(test, statement, literal.holds and "check" not in test)]

    def _roots(self, test: ast.expr) -> set[str]:
        """The names by which an expression reaches the solution."""
        found = syntax.used(test) & self.source.candidates
        return set(found or syntax.free(test) - self.source.known(self.local))

    def _setup(self, wanted: set[str]) -> str:
        return self.source.setup(self.local, wanted)

    def _behind_solution(self, node: ast.AST) -> str:
        """What source needs that runs behind the solution, which brings its own names."""
        return syntax.text(syntax.needed(self.local, syntax.used(node)))

    def _call(self, call: ast.Call, literal: _Literal) -> Test:
        """A call with plain arguments where they can be had, else its source."""
        is_entry = ast.unparse(call.func) in {self.source.entry, *self.source.candidates}
        if is_entry and all(key.arg for key in call.keywords):
            try:
                args = [self._value(arg, literal) for arg in call.args]
                kwargs = {str(key.arg): self._value(key.value, literal) for key in call.keywords}
                return _arguments(args, kwargs)
            except _NotPlainError:
                pass
        literal.holds = False
        return _with_setup({"call": self.source.renamed(call)}, self._behind_solution(call))

    def _value(self, node: ast.expr, literal: _Literal) -> Any:
        """The value of a constant expression; the sandbox evaluates what is no literal."""
        try:
            return literal_of(node)
        except (ValueError, TypeError, RecursionError):
            literal.holds = False
        known = self.source.known(self.local) - self.source.candidates
        if isinstance(node, ast.Starred) or syntax.free(node) - known:
            raise _NotPlainError
        setup = self._setup(syntax.used(node))
        code = f"{setup}\ndef _rl_constant():\n    return (\n{ast.unparse(node)}\n)\n"
        run = self._run(code, "_rl_constant")
        if run.status != "ok" or not run.returned:
            raise _NotPlainError
        return run.value

    # Tests.

    def _compared(self, test: ast.expr, calls: list[Test], literal: _Literal) -> Test | None:
        """A call test, for the comparisons that the host makes itself."""
        match test if len(calls) == 1 else None:
            case ast.Name(id="r0"):
                return {**calls[0], "truthy": True}
            case ast.UnaryOp(op=ast.Not(), operand=ast.Name(id="r0")):
                return {**calls[0], "truthy": False}
            case ast.Compare(left=left, ops=[ast.Eq() | ast.Is() as op], comparators=[right]):
                if _is_result(left) or _is_result(right):
                    other = right if _is_result(left) else left
                    return self._equal(other, isinstance(op, ast.Is), calls[0], literal)
            case ast.Compare(
                left=ast.Call(
                    func=ast.Name(id="abs"),
                    args=[ast.BinOp(left=ast.Name(id="r0"), op=ast.Sub(), right=other)],
                ),
                ops=[ast.Lt() | ast.LtE()],
                comparators=[eps],
            ):
                return self._close(other, eps, calls[0], literal)
        return None

    def _equal(self, other: ast.expr, same: bool, call: Test, literal: _Literal) -> Test | None:
        if same and not (isinstance(other, ast.Constant) and other.value in (None, True, False)):
            return None
        try:
            expected = json_field("expected", self._value(other, literal))
        except _NotPlainError:
            return None
        return {**call, **expected, **({"strict": True} if same else {})}

    def _close(self, other: ast.expr, eps: ast.expr, call: Test, literal: _Literal) -> Test | None:
        """``abs(r0 - value) < eps`` as a tolerance, where its relative side allows no more."""
        try:
            expected, tol = self._value(other, literal), self._value(eps, literal)
        except _NotPlainError:
            return None
        fits = type(expected) in (int, float) and abs(expected) <= 1 and type(tol) is float
        return {**call, "expected": expected, "tol": tol} if fits and 0 < tol < 1 else None

    def _check(self, residual: ast.expr, calls: list[Test]) -> Test:
        check: Test = {"calls": calls, "check": ast.unparse(residual)}
        return _with_setup(check, self._setup(syntax.used(residual)))

    def _weak(self, statement: ast.stmt) -> Test:
        test: Test = {"assert": self.source.renamed(statement)}
        return _with_setup(test, self._behind_solution(statement))

    def _replay(self) -> Test | None:
        """The rest as a replay test; None where the reference does not bear it out."""
        if not self.source.reference or len(self.source.candidates) > 1:
            return None
        text, wanted = self._rest_as_check()
        setup = self.source.setup(self.source.before, wanted - self.source.candidates)
        record = _RECORD.replace("ENTRY", self.source.entry)
        run = self._run(f"{self.source.reference}\n{setup}\n{text}\n{record}", "_rl_record")
        if run.status != "ok" or not run.returned or not 0 < len(run.value) <= MAX_REPLAYED:
            return None
        calls = [_arguments(args, kwargs) for args, kwargs in run.value]
        test = _with_setup({"calls": calls, "replay": text}, setup)
        return test if self._reference_passes([test]) == [True] else None

    def _weak_rest(self) -> Test:
        text, wanted = self._rest_as_check()
        setup = syntax.text(syntax.needed(self.source.before, wanted))
        return _with_setup({"assert": f"{text}\ncheck({self.source.entry})"}, setup)

    def _rest_as_check(self) -> tuple[str, set[str]]:
        """The source of the rest as a function, and the names that it reads."""
        function = syntax.statements_of(f"def check({self.source.parameter}): pass")[0]
        assert isinstance(function, ast.FunctionDef)
        function.body = self.rest
        return ast.unparse(function), syntax.used(function)

    # With the reference.

    def _verified(self, made: Sequence[_Made]) -> list[Test]:
        """The tests; those that only hold as weak ones for the reference, as weak ones."""
        tests = [item.test for item in made]
        if not self.source.reference:
            return tests
        doubtful = [i for i, item in enumerate(made) if not item.is_literal]
        held = self._reference_passes([tests[i] for i in doubtful])
        failed = [i for i, passes in zip(doubtful, held, strict=True) if not passes]
        weak = [self._weak(made[i].statement) for i in failed]
        for i, test, passes in zip(failed, weak, self._reference_passes(weak), strict=True):
            tests[i] = test if passes else tests[i]
        return tests

    def _reference_passes(self, tests: Sequence[Test]) -> list[bool]:
        if not tests:
            return []
        solution = Solution(self.source.reference, self.source.entry, _LIMITS, patience=len(tests))
        try:
            running = run_tests(self._sandbox(), solution, read_tests({"tests": tests}))
            return [outcome.passed for outcome in run_sync(running)]
        except RunError as error:
            raise _failed(str(error)) from None
        except JobError:
            return [False] * len(tests)

    def _run(self, code: str, entry_point: str) -> Run:
        result = self._sandbox().run(Job.call(code, entry_point, [Call()], limits=_LIMITS))
        if result.error is not None:
            raise _failed(result.error)
        return result.run

    def _sandbox(self) -> Sandbox:
        return open_sandbox("local" if self.choice is None else self.choice)


def _is_result(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "r0"


def _arguments(args: list[Any], kwargs: dict[str, Any]) -> Test:
    return json_field("args", args) | (json_field("kwargs", kwargs) if kwargs else {})


def _with_setup(test: Test, setup: str) -> Test:
    return {**test, "setup": setup} if setup else test


def _failed(error: str) -> VerifierError:
    return VerifierError(f"tests could not be made: the sandbox failed: {error}")
