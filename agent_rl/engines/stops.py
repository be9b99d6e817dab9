"""Stop strings over tokens: a string may begin and end anywhere within them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        self._last = {s[-1] for s in strings}
        self._may_end: dict[int, bool] = {}

    def completed(self, token_ids: Sequence[int] | NDArray[np.int64]) -> bool:
        """Whether the last token completed a stop string. The cost does not grow with the text."""
        if not self._may_end_with(int(token_ids[-1])):
            return False
        tail = [int(token) for token in token_ids[-self._window :]]
        text = self._decode(tail)
        found = [s for s in self._strings if s in text]
        if not found:
            return False
        before = self._decode(tail[:-1])
        return any(text.count(s) > before.count(s) for s in found)

    def _may_end_with(self, token: int) -> bool:
        """False where a token's own text rules it out, so that most steps decode nothing."""
        if token not in self._may_end:
            piece = self._decode([token])
            # Alone, a token may show part of a character, or lose its spaces.
            unsure = "\ufffd" in piece or any(c.isspace() for c in self._last)
            self._may_end[token] = unsure or not self._last.isdisjoint(piece)
        return self._may_end[token]

    def _decode(self, token_ids: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )
