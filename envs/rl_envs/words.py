"""Action words: which of a few words a reply chooses."""

from __future__ import annotations

from collections.abc import Sequence

_TAIL = 256  # characters of a reply that are looked at
_TRAILING = " \t\r\n.,;:!?\"'`*)]}>$"


def chosen(text: str, words: Sequence[str]) -> int | None:
    r"""The index of the word that the reply ends with, whatever its case; None if it is none.

    ``left``, ``Left.``, ``I go left`` and ``\boxed{left}`` all choose ``left``; ``cleft`` does not.
    Where one word ends another (``up``, ``get up``), the longer one wins.
    """
    tail = text[-_TAIL:].rstrip(_TRAILING).casefold()
    longest_first = sorted(range(len(words)), key=lambda index: -len(words[index]))
    for index in longest_first:
        word = words[index].casefold()
        before = tail[: -len(word)][-1:]
        if tail.endswith(word) and not before.isalnum():
            return index
    return None
