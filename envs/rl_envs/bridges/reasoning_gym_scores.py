"""reasoning-gym's scorers, kept from what a model may write and from paying for nothing.

Its scorers raise on some answers, pay a floor or a length ratio for wrong ones, one pays 1.0 for
anything, and several hand the answer to ``eval`` or to sympy's parser, which is the same.
"""

from __future__ import annotations

import ast
import copy
import difflib
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from rl_envs.bridges.reasoning_gym_integrals import why_not_integral
from rl_envs.text.expressions import ExpressionError, evaluate
from rl_verifiers.score import Score, Status

MAX_CHARACTERS = 20_000
JUNK = ("no idea", "", "0")
HEDGES = ("{} or no idea", "no idea, {}")
"""Where one of these gets 1.0 for an item, the scorer is not believed: only the reference is."""

EXACT = frozenset({"game_of_life_halting"})
"""Tasks whose scorer pays 1.0 for anything: the answer must be the reference."""

_INTEGRALS = ("intermediate_integration", "simple_integration")
_HUGE_EXPONENT = re.compile(r"[eE][-+]?[0-9]{4,}")
_LITERAL = re.compile(r"[\w\s\[\],'\"+-]*")
_SIGN = re.compile(r"(^|\()\s*-")
_NOT_FINITE = re.compile(r"infinity|inf|nan")
_RATIO = re.compile(r"[0-9]{1,30}(?:[./][0-9]{1,30})?%?")
_FUNCTIONS = frozenset(
    ["sin", "cos", "tan", "sec", "csc", "cot", "exp", "log", "ln", "sqrt", "asin", "acos", "atan"]
)
_MAX_NODES, _MAX_EXPONENT, _MAX_DEGREE, _MAX_TERMS, _MAX_BITS = 400, 30, 100, 3000, 4096


def judged(
    data_set: Any, task: str, answer: str, entry: Mapping[str, Any], *, strict: bool
) -> Score:
    """The score of an answer; never raises, whatever the answer is.

    Args:
        data_set: reasoning-gym's, whose ``score_answer`` is asked.
        task: Its name.
        answer: What the model gave.
        entry: The item.
        strict: 1 for a full score that junk does not get, else 0; False: the scorer's number.
    """
    reference = entry["answer"]
    right = isinstance(reference, str) and same(answer, reference)
    if len(answer) > MAX_CHARACTERS:
        return Score.wrong(f"over {MAX_CHARACTERS:,} characters", status="over_limit")
    if strict and right:
        return Score.correct(answer=answer)
    if strict and task in EXACT:
        return Score.wrong("not the reference", answer=answer)
    why = None if right else refusal(task, answer)
    if task in _INTEGRALS and why is None:
        why = None if right else why_not_integral(answer, entry)
        return Score.wrong(why, answer=answer) if why else Score.correct(answer=answer)
    value = None if why else asked(data_set, answer, entry)
    if value is None:
        return Score.wrong(why or "the scorer raised", status="unparsable", answer=answer)
    return _believed(data_set, task, answer, entry, value) if strict else _raw(answer, value)


def _raw(answer: str, value: float) -> Score:
    verdict = Score.correct if value >= 1.0 else Score.wrong
    return verdict(f"the scorer said {value:g}", value=value, answer=answer)


def _believed(
    data_set: Any, task: str, answer: str, entry: Mapping[str, Any], value: float
) -> Score:
    """The strict score: 1 where the scorer says 1 and does not say so of junk."""
    if value != 1.0:
        return Score.wrong(f"the scorer said {value:g}", answer=answer)
    if task in CHECKS and (why := CHECKS[task](answer, entry)):
        return Score.wrong(why, answer=answer)
    junk = _paid_junk(data_set, entry)
    if junk is None:
        return Score.correct(answer=answer)
    _warn(task)
    status: Status = "wrong" if isinstance(entry["answer"], str) else "bad_reference"
    return Score.wrong(f"the scorer pays 1.0 for {junk[:40]!r}, too", status=status, answer=answer)


def asked(data_set: Any, answer: str, entry: Mapping[str, Any]) -> float | None:
    """The scorer's own number; None where it raises or gives none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = float(data_set.score_answer(answer, copy.deepcopy(entry)))
    except (Exception, SystemExit):
        return None
    return value if math.isfinite(value) else None


def _paid_junk(data_set: Any, entry: Mapping[str, Any]) -> str | None:
    """An answer that cannot be right and gets 1.0 for this item, or None."""
    reference = entry["answer"]
    tried = list(JUNK)
    if isinstance(reference, str):
        tried = [junk for junk in JUNK if not same(junk, reference)]
        tried += [hedge.format(reference) for hedge in HEDGES]
    return next((junk for junk in tried if asked(data_set, junk, entry) == 1.0), None)


@lru_cache(None)
def _warn(task: str) -> None:
    warnings.warn(
        f"reasoning-gym's scorer of {task} pays 1.0 for junk or for a hedged answer on some item; "
        "there only the reference answer counts",
        RuntimeWarning,
        stacklevel=2,
    )


def same(answer: str, reference: str) -> bool:
    """Whether an answer is the reference up to white space, or the same number or truth value."""
    if answer.split() == reference.split():
        return True
    if reference.casefold() in ("true", "false", "yes", "no"):
        return answer.strip().casefold() == reference.casefold()
    return (
        len(answer) < 40 and _number(answer) is not None and _number(answer) == _number(reference)
    )


def _number(text: str) -> float | None:
    try:
        return float(text) if re.fullmatch(r"\s*[-+]?[0-9]+(?:\.[0-9]*)?\s*", text) else None
    except ValueError:
        return None


def refusal(task: str, answer: str) -> str | None:
    """Why an answer must not reach a scorer; None where it may."""
    if _HUGE_EXPONENT.search(answer):
        return "a number with a huge exponent"
    plain = answer.casefold()
    rest = _NOT_FINITE.sub("", plain)
    if rest != plain and not re.search("[a-hk-z]", rest):  # min(1, nan) is 1, says one scorer
        return "not a finite number"
    gate = GATES.get(task)
    return None if gate is None else gate(answer)


def is_unsolved(task: str, answer: Any) -> bool:
    """Whether an item's reference is the question again: sympy could not work out the integral."""
    return task in _INTEGRALS and "Integral(" in str(answer)


def _literal(answer: str) -> str | None:
    """For scorers that call ``eval``: nothing in it may call, loop or grow."""
    if _LITERAL.fullmatch(answer) and "for" not in answer and "lambda" not in answer:
        return None
    return "not a plain list"


def _arithmetic(answer: str) -> str | None:
    try:
        evaluate(_without_signs(answer))
    except ExpressionError as error:
        return str(error)
    return None


def _without_signs(answer: str) -> str:
    """The same value, written without a sign: ``(-3 + 27)`` becomes ``(0-3 + 27)``."""
    return _SIGN.sub(r"\g<1>0-", answer)


def _ratio(answer: str) -> str | None:
    return None if _RATIO.fullmatch(answer.strip()) else "not a number or a fraction"


def _complex(answer: str) -> str | None:
    return "not a complex number" if _NOT_FINITE.search(answer.casefold()) else None


def _formula(answer: str) -> str | None:
    """For scorers that give the answer to sympy's parser: names, numbers, and little work."""
    if len(answer) > 2000:
        return "a formula of over 2,000 characters"
    try:
        tree = ast.parse(answer.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return "not a formula"
    if sum(1 for _ in ast.walk(tree)) > _MAX_NODES:
        return "too long a formula"
    try:
        degree, terms, bits = _work(tree)
    except (_Refused, RecursionError) as error:
        return f"not a plain formula: {error}"
    if degree > _MAX_DEGREE or terms > _MAX_TERMS or bits > _MAX_BITS:
        return "too much work"
    return None


class _Refused(Exception):  # noqa: N818 - a verdict on an answer
    pass


_Bounds = tuple[int, int, int]


def _work(node: ast.AST) -> _Bounds:
    """Bounds on the degree, on the terms when expanded, and on the bits of a number in it."""
    match node:
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            return 0, 1, value.bit_length() + 1
        case ast.Constant(value=float() as value) if math.isfinite(value):
            return 0, 1, int(value).bit_length() + 1
        case ast.Name(id=name) if re.fullmatch(r"[A-Za-z][0-9]?|pi", name):
            return 1, 1, 1
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=inner):
            return _work(inner)
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in _FUNCTIONS:
            degree, terms, bits = _work(inner)
            return degree + 1, terms, bits
        case ast.BinOp(left=left, op=operator, right=right):
            return _combined(_work(left), _work(right), left, operator, right)
    raise _Refused(type(node).__name__)


def _combined(
    first: _Bounds, second: _Bounds, left: ast.AST, operator: ast.AST, right: ast.AST
) -> _Bounds:
    if isinstance(operator, ast.Add | ast.Sub):
        return max(first[0], second[0]), first[1] + second[1], max(first[2], second[2]) + 1
    if isinstance(operator, ast.Mult | ast.Div):
        return first[0] + second[0], first[1] * second[1], first[2] + second[2]
    if isinstance(operator, ast.Pow):
        return _power(left, right)
    raise _Refused(type(operator).__name__)


def _power(left: ast.AST, right: ast.AST) -> _Bounds:
    degree, terms, bits = _work(left)
    size = right.operand if isinstance(right, ast.UnaryOp) else right
    if isinstance(size, ast.Constant) and isinstance(size.value, int):
        exponent = min(abs(size.value), 10**6)
        if exponent > _MAX_EXPONENT:
            raise _Refused(f"an exponent above {_MAX_EXPONENT}")
        return degree * exponent, min(terms**exponent, 10**9), bits * exponent
    other = _work(right)
    if other[2] > 16:
        raise _Refused("a large number in an exponent")
    return degree + other[0], terms + other[1], bits * (1 << other[2])


GATES: dict[str, Callable[[str], str | None]] = {
    **dict.fromkeys(("binary_matrix", "n_queens", "spiral_matrix", "string_insertion"), _literal),
    **dict.fromkeys(("countdown", "puzzle24"), _arithmetic),
    **dict.fromkeys(
        ("intermediate_integration", "polynomial_multiplication", "simple_integration"), _formula
    ),
    "coin_flip": _ratio,
    "complex_arithmetic": _complex,
}
"""Task: why its scorer must not see an answer."""


def _makes_24(answer: str, entry: Mapping[str, Any]) -> str | None:
    """Its scorer takes any four numbers in range, and cuts off what is behind the point."""
    try:
        value, _ = evaluate(_without_signs(answer))
    except ExpressionError as error:
        return str(error)
    if value != 24:
        return f"it is {float(value):g}, not 24"
    used = sorted(map(int, re.findall(r"[0-9]+", answer)))
    return (
        None if used == sorted(entry["metadata"]["numbers"]) else "not the numbers that are given"
    )


def _as_many_words(answer: str, entry: Mapping[str, Any]) -> str | None:
    """Its scorer ignores what follows the sorted words."""
    n_words = len(entry["metadata"]["sorted_words"])
    return None if len(answer.split(",")) == n_words else f"not {n_words} words"


CHECKS: dict[str, Callable[[str, Mapping[str, Any]], str | None]] = {
    "puzzle24": _makes_24,
    "word_sorting": _as_many_words,
}
"""Task: why an answer is wrong that its scorer calls right, or None."""


def closest(given: Mapping[str, Any], names: Sequence[str]) -> str:
    """``; did you mean ...?`` where a name is near."""
    near = difflib.get_close_matches(str(given.get("name")), names, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {len(names)} others"
