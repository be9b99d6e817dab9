"""The tests of a code task as they stand in a row, and as the verifier runs them.

See :func:`read_tests` for the format. Rows are data of the user's own, never a model's.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from rl_sandboxes.types import Call
from rl_verifiers.code_syntax import UNREADABLE, expression_of, statements_of
from rl_verifiers.score import Row

Kind = Literal["call", "check", "replay", "stdio", "weak"]


class BadTests(Exception):  # noqa: N818 - it names what is wrong with a row
    """A row's tests are missing or malformed; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Source:
    """An expression that is evaluated behind the solution, and source that runs between them."""

    text: str
    setup: str = ""


@dataclass(frozen=True, slots=True)
class CodeTest:
    """One test of a task.

    Attributes:
        kind: How it is judged: ``call`` by comparing one result, ``check`` by an expression over
            the results, ``replay`` by test source that is handed the results, ``stdio`` by what a
            program prints, ``weak`` by an assert that runs together with the solution.
        calls: What to call: arguments of the entry point, or source.
        expected: ``call``: the value; ``stdio``: the output.
        truthy: ``call``: whether the result counts as true, in place of ``expected``.
        strict: ``call``: the type must be the same too.
        tol: By how much numbers may differ.
        source: The expression, the test source, or the assert.
        setup: Source that runs before ``source``.
        stdin: ``stdio``: the input.
    """

    kind: Kind
    calls: tuple[Call | Source, ...] = ()
    expected: Any = None
    truthy: bool | None = None
    strict: bool = False
    tol: float = 0.0
    source: str = ""
    setup: str = ""
    stdin: str = ""


def read_tests(row: Row) -> list[CodeTest]:
    """The tests of a row: its column ``tests``, else ``answer``; a list of dicts or its JSON text.

    One test is one of::

        {"args": [...], "kwargs": {...}, "expected": value, "tol": 1e-6, "strict": true}
        {"args": [...], "truthy": true}
        {"call": "f([Node(1)])", "setup": "...", "expected": value}
        {"calls": [{"args": [...]}, {"call": "..."}], "check": "r0 < r1", "setup": "..."}
        {"calls": [{"args": [...]}, ...], "replay": "def check(candidate): ...", "setup": "..."}
        {"stdin": "...", "expected_stdout": "..."}
        {"assert": "assert f(1) == 2", "setup": "..."}

    ``args_py``, ``kwargs_py`` and ``expected_py`` are Python literals in place of ``args``,
    ``kwargs`` and ``expected``, for what JSON lacks (see :func:`literal`). A row's ``tol`` is that
    of every test without one.

    Raises:
        BadTests: They are missing or malformed.
    """
    found = row.get("tests")
    found = row.get("answer") if found is None else found
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except (ValueError, RecursionError):
            raise BadTests(
                "the tests are no JSON text of a list; make tests of assert-style source with "
                "rl_verifiers.code_tests.from_asserts"
            ) from None
    if not isinstance(found, list | tuple) or not found:
        raise BadTests("the row has no tests: neither `tests` nor `answer` is a list of them")
    tests = []
    for number, raw in enumerate(found, start=1):
        try:
            tests.append(_read(raw, row.get("tol")))
        except BadTests as error:
            raise BadTests(f"test {number}: {error}") from None
    return tests


def literal(source: str) -> Any:
    """The value of a Python literal: as ``ast.literal_eval``, and ``set()``, NaN and infinity.

    Raises:
        ValueError: It is none.
    """
    try:
        return literal_of(expression_of(source))
    except UNREADABLE:
        raise ValueError(f"no Python literal: {source!r:.80}") from None


def literal_of(node: ast.expr) -> Any:  # noqa: C901, PLR0911 - a case for each type
    """The value of the literal that a syntax tree is.

    Raises:
        ValueError: It is none.
        TypeError: A member of a set, or a key, that cannot be one.
    """
    match node:
        case ast.Constant(value=value) if value is not ...:
            return value
        case ast.Tuple(elts=items):
            return tuple(literal_of(item) for item in items)
        case ast.List(elts=items):
            return [literal_of(item) for item in items]
        case ast.Set(elts=items):
            return {literal_of(item) for item in items}
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {literal_of(_present(key)): literal_of(value) for key, value in pairs}
        case ast.Name(id="nan" | "inf" as name):
            return float(name)
        case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value=str(text))], keywords=[]):
            return float(text)
        case ast.Call(func=ast.Name(id="set"), args=[], keywords=[]):
            return set()
        case ast.Call(func=ast.Name(id="frozenset"), args=items, keywords=[]) if len(items) < 2:
            return frozenset(literal_of(items[0]) if items else ())
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            number = _number(literal_of(operand))
            return -number if isinstance(sign, ast.USub) else number
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as sign, right=right):
            real, imaginary = _number(literal_of(left)), literal_of(right)
            if not isinstance(imaginary, complex):
                raise ValueError("not a literal")
            return real + imaginary if isinstance(sign, ast.Add) else real - imaginary
    raise ValueError("not a literal")


def json_field(name: str, value: Any) -> dict[str, Any]:
    """``{name: value}``, or ``{name_py: source}`` where JSON would change the value."""
    return {name: value} if _is_json(value) else {f"{name}_py": repr(value)}


def _present(key: ast.expr | None) -> ast.expr:
    if key is None:
        raise ValueError("not a literal")
    return key


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | complex):
        raise ValueError("not a literal")
    return value


def _is_json(value: Any) -> bool:
    kind = type(value)
    if kind is list:
        return all(map(_is_json, value))
    if kind is dict:
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    return value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value))


def _read(raw: Any, tol: Any) -> CodeTest:
    if not isinstance(raw, Mapping):
        raise BadTests(f"a test is a dict, not {type(raw).__name__}")
    setup = _source(raw, "setup", default="")
    tol = raw.get("tol", tol)
    tol = 0.0 if tol is None else tol
    if isinstance(tol, bool) or not isinstance(tol, int | float) or not 0 <= tol < math.inf:
        raise BadTests(f"tol is {tol!r:.40}; it must be a number from 0 on")
    if "stdin" in raw or "expected_stdout" in raw:
        stdin, expected = _text(raw, "stdin"), _text(raw, "expected_stdout")
        return CodeTest("stdio", expected=expected, stdin=stdin, tol=tol)
    if "assert" in raw:
        return CodeTest("weak", source=_source(raw, "assert"), setup=setup)
    if "check" in raw or "replay" in raw:
        kind: Kind = "check" if "check" in raw else "replay"
        calls = raw.get("calls")
        if not isinstance(calls, list | tuple) or not calls:
            raise BadTests("`calls` must be a list of the calls to make")
        source = _source(raw, kind, mode="eval" if kind == "check" else "exec")
        return CodeTest(kind, tuple(map(_call, calls)), source=source, setup=setup)
    call = _call(raw)
    if "truthy" in raw:
        return CodeTest("call", (call,), truthy=bool(raw["truthy"]))
    expected, strict = _value(raw, "expected"), bool(raw.get("strict"))
    return CodeTest("call", (call,), expected=expected, strict=strict, tol=tol)


def _call(raw: Any) -> Call | Source:
    if not isinstance(raw, Mapping):
        raise BadTests(f"a call is a dict, not {type(raw).__name__}")
    if "call" in raw:
        return Source(_source(raw, "call", mode="eval"), _source(raw, "setup", default=""))
    args = _value(raw, "args", default=[])
    kwargs = _value(raw, "kwargs", default={})
    if not {"args", "args_py", "kwargs", "kwargs_py"} & set(raw):
        raise BadTests("it has none of args, call, calls, stdin and assert")
    if not isinstance(args, list | tuple):
        raise BadTests(f"args must be a list, not {type(args).__name__}")
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        raise BadTests("kwargs must be a dict with names as keys")
    return Call(list(args), dict(kwargs))


_NEEDED: Any = object()


def _value(raw: Mapping[str, Any], name: str, default: Any = _NEEDED) -> Any:
    written = raw.get(f"{name}_py")
    if written is None:
        if name not in raw and default is _NEEDED:
            raise BadTests(f"it has no {name!r}")
        return raw.get(name, default)
    if not isinstance(written, str):
        raise BadTests(f"{name}_py must be text, a Python literal")
    try:
        return literal(written)
    except ValueError as error:
        raise BadTests(f"{name}_py: {error}") from None


def _text(raw: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = raw.get(name, default)
    value = default if value is None else value
    if not isinstance(value, str):
        raise BadTests(f"{name!r} must be text, not {type(value).__name__}")
    return value


def _source(
    raw: Mapping[str, Any],
    name: str,
    default: str | None = None,
    mode: Literal["exec", "eval"] = "exec",
) -> str:
    text = _text(raw, name, default)
    problem = _syntax_problem(text, mode)
    if problem:
        raise BadTests(f"{name!r} is no Python source: {problem}")
    return text


@lru_cache(maxsize=4096)
def _syntax_problem(source: str, mode: str) -> str:
    try:
        expression_of(source) if mode == "eval" else statements_of(source)
    except UNREADABLE as error:
        return f"{type(error).__name__}: {error}"
    return ""
