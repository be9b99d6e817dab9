"""Stop strings over tokens: a string may begin and end anywhere within them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_SLACK = 8  # tokens that decode to nothing, or lose a leading space at the start of a text


class StopStrings:
    """Tells when a growing completion has just completed one of several strings.

    Args:
        tokenizer: Anything with transformers' ``decode(ids, ...)``.
        strings: Non-empty strings.
    """

    def __init__(self, tokenizer: Any, strings: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._strings = tuple(strings)
        # Every token but a few is at least a byte, so a string spans at most its bytes in tokens.
        self._window = max(len(s.encode()) for s in strings) + _SLACK

    def completed(self, token_ids: Sequence[int]) -> bool:
        """Whether the last token completed a stop string. The cost does not grow with the text."""
        tail = list(token_ids[-self._window :])
        text = self._decode(tail)
        found = [s for s in self._strings if s in text]
        if not found:
            return False
        before = self._decode(tail[:-1])
        return any(text.count(s) > before.count(s) for s in found)

    def _decode(self, token_ids: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )
