"""Where a move stands in a reply."""

from __future__ import annotations

from rl_verifiers.extract import without_thinking


def move_in(text: str) -> str:
    """What the last ``[...]`` holds; without brackets the whole reply. Outer blanks are dropped.

    ``I take [5] or rather [1].`` says ``1``, ``5`` says ``5``, ``[5`` says ``[5``. In a reply with
    several brackets only the last one counts, whatever stands in it. Thinking is no move.
    """
    text = without_thinking(text) or ""
    end = text.rfind("]")
    start = text.rfind("[", 0, end) if end >= 0 else -1
    return (text[start + 1 : end] if start >= 0 else text).strip()
