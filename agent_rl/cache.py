"""What was worked out before, as far as a limit allows."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """The newest entries, up to a total weight.

    Args:
        limit: The most that all entries weigh together; each weighs 1 more than is said.

    Attributes:
        weight: What they weigh now.
    """

    def __init__(self, limit: int) -> None:
        self.weight = 0
        self._limit = limit
        self._entries: dict[Hashable, tuple[Value, int]] = {}

    def get(self, key: Hashable) -> Value | None:
        """What stands under a key; None for nothing, and for a key that is None or has no hash."""
        try:
            found = self._entries.get(key) if key is not None else None
        except TypeError:  # a message that holds lists
            return None
        return found[0] if found is not None else None

    def put(self, key: Hashable, value: Value, weight: int) -> None:
        """Remember a value, unless its key is None or has no hash, or it is too heavy."""
        try:
            hash(key)
        except TypeError:
            return
        if key is None or key in self._entries or weight >= self._limit:
            return
        self._entries[key] = (value, weight + 1)
        self.weight += weight + 1
        while self.weight > self._limit:
            self.weight -= self._entries.pop(next(iter(self._entries)))[1]
