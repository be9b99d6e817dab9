"""Any value as a few characters for a reason, however deep or large it is."""

from __future__ import annotations

import itertools
import reprlib

__all__ = ["shown"]

_HUGE_BITS = 1_000


class _Short(reprlib.Repr):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict = 4, 8, 8, 8

    def repr_str(self, x: str, level: int) -> str:
        return repr(x[: self.limit])[: self.limit]

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x[: self.limit])[: self.limit]

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() > _HUGE_BITS:  # its digits cost quadratic time, and Python may refuse
            return f"<a whole number of {x.bit_length():,} bits>"
        return super().repr_int(x, level)

    def repr_dict(self, x: dict[object, object], level: int) -> str:
        head = dict(itertools.islice(x.items(), self.maxdict + 1))  # reprlib would sort all keys
        return super().repr_dict(head, level)

    def repr_instance(self, x: object, level: int) -> str:
        try:
            return repr(x)[: self.limit]
        except Exception:  # of a foreign type: RecursionError and whatever else its author raises
            return f"<{type(x).__name__}>"


def shown(value: object, limit: int = 80) -> str:
    """``repr(value)`` cut to ``limit`` characters, in time that does not grow with the value.

    Only the outer four levels and the first items of each are looked at, so that a list nested
    3,000 deep is no RecursionError and a million items are not spelt out. Values of foreign types
    make their own ``repr``.
    """
    return _Short(limit).repr(value)[:limit]
