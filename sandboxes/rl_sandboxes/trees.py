"""The working folder of a box as the host was told it, whole."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

MAX_ENTRIES = 10_000
MAX_BYTES = 32 << 20
KINDS = ("file", "folder", "link", "other")


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands at a path.

    Attributes:
        kind: ``file`` (a regular one), ``folder``, ``link`` (a symbolic one), or ``other``: a pipe,
            a socket, a device.
        mode: Its permission bits, set-id and sticky bits included.
        size: Bytes of a file.
        data: A file's bytes or a link's target; None for what has none, and for a file beyond the
            limit.
    """

    kind: Literal["file", "folder", "link", "other"]
    mode: int
    size: int
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Tree:
    """All that is beneath the working folder, by relative path.

    Attributes:
        entries: In no order. A name that is no UTF-8 has surrogates, as :func:`os.fsdecode` makes.
        complete: Whether all is there: not if there was more than the limits allow.
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)
    complete: bool = True

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Self:
        """The tree of a worker's or a server's answer.

        Raises:
            ValueError: It is none.
        """
        try:
            entries = dict(_entry(*row) for row in answer["entries"])
            complete = answer["complete"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no tree of files: {error!r:.200}") from None
        if type(complete) is not bool:
            raise ValueError("no tree of files: complete is neither true nor false")
        return cls(entries, complete)

    def answer(self) -> dict[str, Any]:
        """What ``read`` reads, ready for JSON."""
        rows = [
            [_text(os.fsencode(path)), each.kind, each.mode, each.size, _text(each.data)]
            for path, each in self.entries.items()
        ]
        return {"entries": rows, "complete": self.complete}


def _entry(path: str, kind: Any, mode: Any, size: Any, data: str | None) -> tuple[str, Entry]:
    if kind not in KINDS or type(mode) is not int or type(size) is not int:
        raise ValueError("an entry is broken")
    content = None if data is None else base64.b64decode(data, validate=True)
    return os.fsdecode(base64.b64decode(path, validate=True)), Entry(kind, mode, size, content)


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()
