"""The test source of a data set, taken apart: what it tests, by which names, with what at hand."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rl_verifiers import code_syntax as syntax
from rl_verifiers.score import VerifierError


@dataclass(frozen=True)
class TestSource:
    """Test source and what it is about.

    Attributes:
        entry: The entry point, as the solution knows it.
        parameter: The entry point's name in the tests.
        candidates: The names by which the tests reach the solution, ``parameter`` among them.
        before: Statements that come before the tests: the setup, a module's around ``check``.
        body: The statements that test.
        reference: The data set's solution; empty if there is none.
        given: The names that the reference defines and tests may read.
    """

    __test__ = False  # no test class of pytest's

    entry: str
    parameter: str
    candidates: frozenset[str]
    before: Sequence[ast.stmt]
    body: Sequence[ast.stmt]
    reference: str
    given: frozenset[str]

    @classmethod
    def parse(cls, source: str, entry: str | None, setup: str, reference: str | None) -> TestSource:
        """Take source apart.

        Raises:
            VerifierError: It cannot be parsed, or its entry point is not known.
        """
        module = _parsed(source, "the test source")
        before = _parsed(setup, "the setup")
        given = frozenset(syntax.defined(_parsed(reference or "", "the reference")))
        check = next((s for s in module if _is_check(s)), None)
        if not isinstance(check, ast.FunctionDef):
            entry = entry or guessed_entry(source, setup=setup, reference=reference)
            root = _root(entry)
            candidates, parameter, body = {root}, root, module
            given -= {root}
        elif entry is None:
            raise VerifierError("tests in a function check(candidate) need an entry_point")
        else:
            before += [s for s in module if s is not check and "check" not in syntax.used(s)]
            parameter, body = check.args.args[0].arg, check.body
            candidates = {parameter} | ({_root(entry)} - given)
        named = frozenset(candidates)
        return cls(entry, parameter, named, before, body, reference or "", given)

    def known(self, statements: Iterable[ast.stmt]) -> set[str]:
        """The names that mean something behind these statements without a solution."""
        return syntax.defined(statements) | self.given | syntax.BUILTINS

    def setup(self, statements: Sequence[ast.stmt], wanted: set[str]) -> str:
        """What gives ``wanted`` names their values, the reference included where it must be."""
        kept = syntax.needed(statements, wanted)
        read = wanted.union(*map(syntax.used, kept))
        text = syntax.text(kept)
        return f"{self.reference}\n{text}" if (read - syntax.defined(kept)) & self.given else text

    def renamed(self, node: ast.AST) -> str:
        """Source as the solution knows it: the entry point in place of the tests' name for it."""
        entry = syntax.expression_of(self.entry)
        root = _root(self.entry)
        others = dict.fromkeys(self.candidates - {root}, entry)
        return ast.unparse(syntax.renamed(node, others))


def guessed_entry(source: str, *, setup: str = "", reference: str | None = None) -> str:
    """The function that asserts are about: what most of them call first.

    Args:
        source: Asserts.
        setup: Source that runs before them; what it defines is not meant.
        reference: The data set's own solution; the function is one of its.

    Raises:
        VerifierError: They call none, or a source cannot be parsed.
    """
    module = _parsed(source, "the test source")
    solution = _parsed(reference or "", "the reference")
    own = {s.name for s in solution if isinstance(s, ast.FunctionDef | ast.ClassDef)}
    other = syntax.BUILTINS | syntax.defined([*_parsed(setup, "the setup"), *module])
    counts: Counter[str] = Counter()
    for statement in module:
        called = syntax.called(statement)
        wanted = [name for name in called if (name in own if own else name not in other)]
        counts.update(wanted[:1])
    if not counts:
        raise VerifierError("cannot tell which function the tests call; give its entry_point")
    return counts.most_common(1)[0][0]


def _is_check(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.FunctionDef)
        and statement.name == "check"
        and bool(statement.args.args)
    )


def _root(entry: str) -> str:
    try:
        root = syntax.chain_root(syntax.expression_of(entry))
    except syntax.UNREADABLE:
        root = None
    if root is None:
        raise VerifierError(f"entry_point {entry!r:.60} is no function's name")
    return root


def _parsed(source: str, what: str) -> list[ast.stmt]:
    try:
        return syntax.statements_of(source)
    except syntax.UNREADABLE as error:
        raise VerifierError(f"{what} is no Python: {error}") from None
