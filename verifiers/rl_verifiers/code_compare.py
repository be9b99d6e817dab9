"""Compare what a program gave with what was expected: plain data and text, on the host.

Nothing here calls a method of the program's own: the values are decoded plain data. The work is
bounded by the size of the expected value, and nothing raises.
"""

from __future__ import annotations

import cmath
import reprlib
from collections.abc import Hashable
from typing import Any

_NUMBERS = (bool, int, float, complex)
_SETS = (set, frozenset)
_TEXTS = (str, bytes, type(None))
_FAMILIES = (_NUMBERS, _SETS, (str,), (bytes,), (type(None),), (list,), (tuple,), (dict,))
_MAX_SHOWN_BITS = 200


def same(expected: Any, value: Any, *, tol: float = 0.0, strict: bool = False) -> bool:
    """Whether ``value`` is ``expected``, as ``value == expected`` would say of plain data.

    Numbers are compared by value, ``1 == 1.0 == True``; a list is not a tuple; dicts and sets are
    compared by content, a set may be a frozenset. NaN is the same as NaN alone.

    Args:
        expected: The reference.
        value: What the program gave. A type that is no plain data is never the same.
        tol: By how much a number may differ, anywhere inside, absolutely or as a share of the
            expected one; not for dict keys.
        strict: The types must be the same too, at every level.
    """
    try:
        return _same(expected, value, tol, strict)
    except (ArithmeticError, RecursionError, MemoryError, TypeError, ValueError):
        return False


def same_output(expected: str, output: str, *, tol: float = 0.0, tokens: bool = False) -> bool:
    """Whether a program printed what was expected.

    Args:
        expected: The reference.
        output: What was printed.
        tol: Compare token by token, and numbers within this, as :func:`same` does.
        tokens: Compare token by token, whatever blanks and line ends are between; else line by
            line, without blanks at the end of lines and of the text.
    """
    if not tokens and not tol:
        return _lines(expected) == _lines(output)
    wanted, found = expected.split(), output.split()
    return len(wanted) == len(found) and all(
        a == b or (tol > 0 and _same_token(a, b, tol)) for a, b in zip(wanted, found, strict=True)
    )


def shown(value: Any, limit: int = 80) -> str:
    """A value in one line of at most ``limit`` characters, for a person or a model to read."""
    try:
        text = _REPR.repr(value)
    except (RecursionError, MemoryError, ValueError):
        text = f"<{type(value).__name__}>"
    return _shortened(text, limit)


def cut(text: str, limit: int = 80) -> str:
    """A text in one line of at most ``limit`` characters."""
    return _shortened(" ".join(text[: 4 * limit].split()), limit)


def _same(expected: Any, value: Any, tol: float, strict: bool) -> bool:
    kind, wanted = type(value), type(expected)
    family = next((family for family in _FAMILIES if wanted in family), ())
    if kind not in family or (strict and kind is not wanted):
        return False
    if family is _NUMBERS:
        return _same_number(expected, value, tol)
    if kind in _TEXTS:
        return bool(expected == value)
    if len(value) != len(expected):
        return False
    if family is _SETS:
        return _same_set(expected, value, tol, strict)
    items = (
        _paired_items(expected, value, strict)
        if kind is dict
        else zip(expected, value, strict=True)
    )
    return items is not None and all(_same(a, b, tol, strict) for a, b in items)


def _same_number(expected: complex, value: complex, tol: float) -> bool:
    if expected == value:
        return True
    if cmath.isnan(expected) or cmath.isnan(value):
        return cmath.isnan(expected) and cmath.isnan(value)
    if not tol or cmath.isinf(expected) or cmath.isinf(value):
        return False
    return abs(expected - value) <= tol * max(1.0, abs(expected))


def _paired_items(
    expected: dict[Any, Any], value: dict[Any, Any], strict: bool
) -> list[tuple[Any, Any]] | None:
    keyed = {_key(key, strict): item for key, item in value.items()}
    keys = [_key(key, strict) for key in expected]
    if not all(key in keyed for key in keys):
        return None
    return [(item, keyed[key]) for key, item in zip(keys, expected.values(), strict=True)]


def _same_set(expected: Any, value: Any, tol: float, strict: bool) -> bool:
    numbers = (int, float, bool)
    if tol and all(type(item) in numbers for item in (*expected, *value)):
        pairs = zip(sorted(expected), sorted(value), strict=True)
        return all(_same_number(a, b, tol) for a, b in pairs)
    return {_key(item, strict) for item in expected} == {_key(item, strict) for item in value}


def _key(item: Any, strict: bool) -> Hashable:
    """What stands for a member of a set: equal for what :func:`same` calls the same."""
    kind = type(item)
    if kind in _NUMBERS:
        number = item if item == item else "nan"  # noqa: PLR0124 - NaN is not itself
        return (kind if strict else "number", number)
    if kind in (tuple, frozenset):
        return (kind, kind(_key(part, strict) for part in item))
    return (kind, item)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _same_token(expected: str, found: str, tol: float) -> bool:
    try:
        return same(float(expected), float(found), tol=tol)
    except ValueError:
        return False


class _Repr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 8
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 60
        self.maxstring = self.maxother = 1_000
        self.maxlong = 100

    def repr_int(self, x: int, level: int) -> str:
        """An integer, or how long it is: Python refuses to write very long ones."""
        bits = x.bit_length()
        return f"<int of {bits:,} bits>" if bits > _MAX_SHOWN_BITS else super().repr_int(x, level)

    def repr_bytes(self, x: bytes, level: int) -> str:
        """The beginning of some bytes."""
        return repr(x[: self.maxstring])


_REPR = _Repr()
