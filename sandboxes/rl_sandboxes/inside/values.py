"""Plain data as JSON-ready trees: exact types only, so that nothing of a stranger's code crosses.

An instance of a subclass (a defaultdict, a named tuple) crosses as its base type's content, read
with the base type's own methods. Everything else is refused by the name of its type.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 100
MAX_ITEMS = 200_000
MAX_BITS = 1_000_000
_MAX_CHOSEN = 10_000


class ValueRefused(Exception):  # noqa: N818 - a verdict on data, no failure
    """A value that cannot cross; the message says why."""


class Budget:
    """How many items may still be encoded or decoded."""

    def __init__(self, items: int = MAX_ITEMS) -> None:
        self.items = items

    def spend(self, count: int = 1) -> None:
        """Take items off.

        Raises:
            ValueRefused: There are not so many left.
        """
        self.items -= count
        if self.items < 0:
            raise ValueRefused(f"over {MAX_ITEMS:,} items")


_Encoder = Callable[[Any, Budget, int], Any]
_PLAIN: tuple[type, ...] = (int, float, str, bytes, list, tuple, dict, set, frozenset, complex)


def encode(value: Any, budget: Budget | None = None, depth: int = 0) -> Any:
    """The tree of a value.

    Raises:
        ValueRefused: A type that is no plain data, or too deep, too many, too large.
    """
    budget = budget or Budget()
    budget.spend()
    if depth > MAX_DEPTH:
        raise ValueRefused(f"nested deeper than {MAX_DEPTH}")
    if value is None:
        return None
    kind = type(value)
    if kind is bool:
        return value
    base = kind if kind in _PLAIN else next((b for b in _PLAIN if b in kind.__mro__), None)
    if base is None:
        raise ValueRefused(f"type {kind.__module__}.{kind.__qualname__}"[:200])
    return _ENCODERS[base](value, budget, depth + 1)


def _int(value: int, budget: Budget, depth: int) -> Any:
    bits = int.bit_length(value)
    if bits <= 53:
        return int.__add__(value, 0)
    if bits > MAX_BITS:
        raise ValueRefused(f"an integer of {bits:,} bits")
    return {"i": int.__format__(value, "x")}


def _float(value: float, budget: Budget, depth: int) -> Any:
    return {"f": struct.pack(">d", value).hex()}  # the value itself, whatever a subclass says


def _str(value: str, budget: Budget, depth: int) -> Any:
    try:
        str.encode(value, "utf-8")
    except UnicodeEncodeError:  # lone surrogates
        return {"s": str.encode(value, "utf-8", "surrogatepass").hex()}
    return {"t": str.__str__(value)}


def _dict(value: dict[Any, Any], budget: Budget, depth: int) -> Any:
    return {
        "d": [
            [encode(key, budget, depth), encode(item, budget, depth)]
            for key, item in dict.items(value)
        ]
    }


def _many(tag: str, base: Any) -> _Encoder:
    def encoder(value: Any, budget: Budget, depth: int) -> Any:
        if base.__len__(value) > budget.items:
            raise ValueRefused(f"over {MAX_ITEMS:,} items")
        return {tag: [encode(item, budget, depth) for item in base.__iter__(value)]}

    return encoder


_ENCODERS: dict[type, _Encoder] = {
    int: _int,
    float: _float,
    complex: lambda value, budget, depth: {
        "c": [_float(part.__get__(value), budget, depth) for part in (complex.real, complex.imag)]
    },
    str: _str,
    bytes: lambda value, budget, depth: {"b": bytes.hex(value)},
    list: _many("l", list),
    tuple: _many("u", tuple),
    set: _many("e", set),
    frozenset: _many("z", frozenset),
    dict: _dict,
}


def decode(tree: Any, budget: Budget | None = None, depth: int = 0) -> Any:
    """The value of a tree, which may be anything that JSON can hold.

    Raises:
        ValueRefused: It is not a tree that :func:`encode` makes.
    """
    budget = budget or Budget()
    budget.spend()
    if depth > MAX_DEPTH:
        raise ValueRefused(f"nested deeper than {MAX_DEPTH}")
    if tree is None or type(tree) in (bool, int):
        return tree
    if type(tree) is not dict or len(tree) != 1:
        raise ValueRefused("not an encoded value")
    ((tag, content),) = tree.items()
    try:
        return _DECODERS[tag](content, lambda item: decode(item, budget, depth + 1))
    except ValueRefused:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, struct.error, OverflowError) as error:
        raise ValueRefused(f"not an encoded value: {type(error).__name__}") from None


def _text(content: Any) -> str:
    if type(content) is not str:
        raise ValueRefused("not text")
    return content


def _list(content: Any) -> list[Any]:
    if type(content) is not list:
        raise ValueRefused("not a list")
    return content


def _whole(content: Any) -> int:
    if len(_text(content)) > MAX_BITS // 4 + 2:
        raise ValueRefused("an integer that is too long")
    number = int(content, 16)
    if number.bit_length() > MAX_BITS:
        raise ValueRefused("an integer that is too long")
    return number


def _double(content: Any) -> float:
    number: float = struct.unpack(">d", bytes.fromhex(_text(content)))[0]
    return number


def _pairs(content: Any, item: Callable[[Any], Any]) -> dict[Any, Any]:
    pairs = _list(content)
    if any(len(_list(pair)) != 2 for pair in pairs):
        raise ValueRefused("not a pair")
    keys = _keys([item(pair[0]) for pair in pairs])
    return dict(zip(keys, [item(pair[1]) for pair in pairs]))  # noqa: B905 - new in 3.10


def _keys(items: list[Any]) -> list[Any]:
    """Refuse so many keys of chosen hashes that a table of them would take seconds.

    The hashes of str and bytes are salted, those of small integers are themselves.
    """
    chosen = sum(type(item) not in (str, bytes) and abs(hash(item)) >> 32 != 0 for item in items)
    if chosen > _MAX_CHOSEN:
        raise ValueRefused(f"over {_MAX_CHOSEN:,} keys with hashes of choice")
    return items


_DECODERS: dict[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "i": lambda content, item: _whole(content),
    "f": lambda content, item: _double(content),
    "c": lambda content, item: complex(*(_double(part["f"]) for part in _list(content))),
    "t": lambda content, item: _text(content),
    "s": lambda content, item: bytes.fromhex(_text(content)).decode("utf-8", "surrogatepass"),
    "b": lambda content, item: bytes.fromhex(_text(content)),
    "l": lambda content, item: [item(part) for part in _list(content)],
    "u": lambda content, item: tuple(item(part) for part in _list(content)),
    "e": lambda content, item: set(_keys([item(part) for part in _list(content)])),
    "z": lambda content, item: frozenset(_keys([item(part) for part in _list(content)])),
    "d": _pairs,
}
