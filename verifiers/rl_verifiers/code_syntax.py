"""Read and rewrite the test source of a data set: its names, its statements, its calls."""

from __future__ import annotations

import ast
import builtins
import copy
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

UNREADABLE = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError, OverflowError)
BUILTINS = frozenset(dir(builtins))
_SCOPES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def statements_of(source: str) -> list[ast.stmt]:
    """The statements of source, without the warnings that its author should have seen.

    Raises:
        SyntaxError: It is no Python; for other reasons one of ``UNREADABLE``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source).body


def expression_of(source: str) -> ast.expr:
    """The tree of an expression; raises as :func:`statements_of`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source.strip(), mode="eval").body


def used(node: ast.AST) -> set[str]:
    """Every name that is read in a piece of source, bound there or not."""
    return {
        part.id
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)
    }


def bound(node: ast.AST) -> set[str]:
    """Every name that a piece of source binds, anywhere inside."""
    names: set[str] = set()
    for part in ast.walk(node):
        match part:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.AsyncFunctionDef(name=name) | ast.ExceptHandler(name=str(name)):
                names.add(name)
            case ast.arg(arg=name):
                names.add(name)
            case ast.alias(name=name, asname=asname):
                names.add(asname or name.partition(".")[0])
    return names


def defined(statements: Iterable[ast.stmt]) -> set[str]:
    """The names that statements leave behind them."""
    names: set[str] = set()
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
        else:
            names |= bound(statement)
    return names


def free(node: ast.AST) -> set[str]:
    """The names that source reads and does not bind itself, built-in ones left out."""
    return used(node) - bound(node) - BUILTINS


def called(node: ast.AST) -> list[str]:
    """The names that are called, outer calls before inner ones, from left to right."""
    own = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id
    inner = [name for part in ast.iter_child_nodes(node) for name in called(part)]
    return [own, *inner] if own else inner


def text(statements: Iterable[ast.stmt]) -> str:
    """The source of statements."""
    return "\n".join(map(ast.unparse, statements))


def inside_scope(tree: ast.AST, wanted: ast.AST) -> bool:
    """Whether a part of an expression stands inside a lambda or a comprehension."""
    return any(
        wanted is part
        for scope in ast.walk(tree)
        if isinstance(scope, _SCOPES)
        for part in ast.walk(scope)
    )


def needed(statements: Sequence[ast.stmt], names: set[str]) -> list[ast.stmt]:
    """The statements, in order, that give these names their values, directly or not.

    A statement other than an assignment may change whatever it names.
    """
    wanted, kept = set(names), []
    for statement in reversed(statements):
        if _touched(statement) & wanted:
            kept.append(statement)
            wanted |= used(statement)
    return kept[::-1]


def _touched(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return {
            part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)
        }
    return bound(statement) | used(statement)


class _Renamer(ast.NodeTransformer):
    def __init__(self, replacements: dict[str, ast.expr]) -> None:
        self.replacements = replacements

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.replacements.get(node.id, node)


class _Results(ast.NodeTransformer):
    def __init__(self, calls: list[ast.Call]) -> None:
        self.numbers = {id(call): number for number, call in enumerate(calls)}

    def visit(self, node: ast.AST) -> Any:
        number = self.numbers.get(id(node))
        return super().visit(node) if number is None else ast.Name(f"r{number}", ast.Load())


def renamed(tree: ast.AST, replacements: dict[str, ast.expr]) -> ast.AST:
    """A copy of a tree with other expressions in the places of names."""
    changed: ast.AST = _Renamer(replacements).visit(copy.deepcopy(tree))
    return changed


def with_results(test: ast.expr, calls: list[ast.Call]) -> ast.expr:
    """A copy of an expression with r0, r1, ... in the places of calls."""
    memo: dict[int, Any] = {id(call): call for call in calls}  # the calls stay what they are
    replaced: ast.expr = _Results(calls).visit(copy.deepcopy(test, memo))
    return replaced


def results(count: int) -> set[str]:
    """The names that :func:`with_results` puts in."""
    return {f"r{number}" for number in range(count)}


def solution_calls(test: ast.expr, roots: set[str], entries: set[str]) -> list[ast.Call]:
    """The outermost calls of the solution in an expression, from left to right.

    Args:
        test: The expression.
        roots: The names by which it reaches the solution.
        entries: Spellings of the entry point.

    A chain behind the entry point's own call (``f(x).strip()``) is not the solution's; a chain
    behind a class of its (``Stack(3).pop()``) is.
    """
    found: list[ast.Call] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Call) and chain_root(node) in roots:
            direct = _direct(node, entries)
            if not any(call is direct for call in found):
                found.append(direct)
            if direct is node:
                return
        for part in ast.iter_child_nodes(node):
            visit(part)

    visit(test)
    return found


def _direct(node: ast.Call, entries: set[str]) -> ast.Call:
    """The call in a chain that gives the solution's result."""
    link: ast.expr = node
    while isinstance(link, ast.Call | ast.Attribute | ast.Subscript):
        if isinstance(link, ast.Call):
            name = ast.unparse(link.func)
            is_class = name.rpartition(".")[2][:1].isupper()
            if name in entries and not is_class:
                return link
        link = link.func if isinstance(link, ast.Call) else link.value
    return node


def chain_root(node: ast.expr) -> str | None:
    """The name that a chain of calls, attributes and items begins with."""
    while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None
