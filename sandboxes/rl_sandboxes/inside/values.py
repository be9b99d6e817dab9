"""Plain data as JSON-ready trees: exact types only, so that nothing of a stranger's code crosses.

An instance of a subclass (a defaultdict, a named tuple) crosses as its base type's content, read
with the base type's own methods. Everything else is refused by the name of its type.
"""

import struct

MAX_DEPTH = 100
MAX_ITEMS = 200_000
MAX_BITS = 1_000_000


class ValueRefused(Exception):
    """A value that cannot cross; the message says why."""


class Budget:
    """How many items may still be encoded or decoded."""

    def __init__(self, items=MAX_ITEMS):
        self.items = items

    def spend(self, count=1):
        self.items -= count
        if self.items < 0:
            raise ValueRefused(f"over {MAX_ITEMS:,} items")


_PLAIN = (bool, int, float, str, bytes, list, tuple, dict, set, frozenset, complex)


def encode(value, budget=None, depth=0):
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


def _int(value, budget, depth):
    bits = int.bit_length(value)
    if bits <= 53:
        return int.__add__(value, 0)
    if bits > MAX_BITS:
        raise ValueRefused(f"an integer of {bits:,} bits")
    return {"i": int.__format__(value, "x")}


def _float(value, budget, depth):
    return {"f": struct.pack(">d", float.__add__(value, 0.0) if value == value else value).hex()}


def _str(value, budget, depth):
    return (
        {"s": str.encode(value, "utf-8", "surrogatepass").hex()}
        if _odd(value)
        else {"t": str.__str__(value)}
    )


def _odd(value):
    try:
        str.encode(value, "utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _dict(value, budget, depth):
    return {
        "d": [
            [encode(key, budget, depth), encode(item, budget, depth)]
            for key, item in dict.items(value)
        ]
    }


def _many(tag, base):
    def encoder(value, budget, depth):
        budget.spend(base.__len__(value))
        return {tag: [encode(item, budget, depth) for item in base.__iter__(value)]}

    return encoder


_ENCODERS = {
    int: _int,
    float: _float,
    complex: lambda value, budget, depth: {
        "c": [_float(value.real, budget, depth), _float(value.imag, budget, depth)]
    },
    str: _str,
    bytes: lambda value, budget, depth: {"b": bytes.hex(value)},
    list: _many("l", list),
    tuple: _many("u", tuple),
    set: _many("e", set),
    frozenset: _many("z", frozenset),
    dict: _dict,
}


def decode(tree, budget=None, depth=0):
    """The value of a tree, which may be anything that JSON can hold.

    Raises:
        ValueRefused: It is not a tree that :func:`encode` makes.
    """
    budget = budget or Budget(2 * MAX_ITEMS)
    budget.spend()
    if depth > MAX_DEPTH + 1:
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


def _text(content):
    if type(content) is not str:
        raise ValueRefused("not text")
    return content


def _list(content):
    if type(content) is not list:
        raise ValueRefused("not a list")
    return content


def _whole(content):
    if len(_text(content)) > MAX_BITS:
        raise ValueRefused("an integer that is too long")
    return int(content, 16)


def _pairs(content, item):
    made = {}
    for pair in _list(content):
        if len(_list(pair)) != 2:
            raise ValueRefused("not a pair")
        made[item(pair[0])] = item(pair[1])
    return made


_DECODERS = {
    "i": lambda content, item: _whole(content),
    "f": lambda content, item: struct.unpack(">d", bytes.fromhex(_text(content)))[0],
    "c": lambda content, item: complex(*(item(part) for part in _list(content))),
    "t": lambda content, item: _text(content),
    "s": lambda content, item: bytes.fromhex(_text(content)).decode("utf-8", "surrogatepass"),
    "b": lambda content, item: bytes.fromhex(_text(content)),
    "l": lambda content, item: [item(part) for part in _list(content)],
    "u": lambda content, item: tuple(item(part) for part in _list(content)),
    "e": lambda content, item: {item(part) for part in _list(content)},
    "z": lambda content, item: frozenset(item(part) for part in _list(content)),
    "d": _pairs,
}
