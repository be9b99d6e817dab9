"""Text to ids exactly as the tokenizer does it, long texts that come again looked up.

A system prompt that tells the tools is most of a prompt, and the same in every episode. A special
token splits a text before anything else in the tokenizer looks at it, so what stands between two
special tokens has the same ids wherever it stands between them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from agent_rl.cache import Cache

LONG = 100  # characters of a text between two special tokens that is worth remembering
REMEMBERED = 4_000_000  # characters in all


class Encoder:
    """Encodes without adding special tokens; equal to ``tokenizer.encode`` for every text.

    Args:
        tokenizer: A transformers tokenizer; one that is not backed by ``tokenizers`` alone is
            asked itself each time.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._backend: Any = _backend(tokenizer)
        self._anchors: dict[str, int] = {}
        self._known: Cache[tuple[int, ...]] = Cache(REMEMBERED)
        if self._backend is None:
            return
        added = tokenizer.added_tokens_decoder
        self._anchors = {
            token.content: number
            for number, token in added.items()
            if token.special and not token.normalized and not token.single_word
        }
        names = sorted((t.content for t in added.values() if not t.normalized), key=len)
        self._names = re.compile("|".join(re.escape(name) for name in reversed(names)) or "(?!)")

    def __call__(self, text: str) -> list[int]:
        """Token ids of a text."""
        fast = self._backend
        if fast is None or fast.truncation or fast.padding or fast.encode_special_tokens:
            return list(self._tokenizer.encode(text, add_special_tokens=False))
        if len(text) < LONG:
            return self._encode(text)
        marks = [m for m in self._names.finditer(text) if m[0] in self._anchors]
        ids: list[int] = []
        start = 0
        for left, right in pairwise(marks):
            if right.start() - left.end() < LONG:
                continue
            inner = self._between(left[0], text[left.end() : right.start()], right[0])
            if inner is None:
                return self._encode(text)
            ids += self._encode(text[start : left.end()])
            ids += inner
            start = right.start()
        return ids + self._encode(text[start:])

    def _between(self, left: str, text: str, right: str) -> tuple[int, ...] | None:
        """Ids of a text between two special tokens; None where they are not kept apart."""
        key = (left, text, right)
        found = self._known.get(key)
        if found is None:
            ids = self._encode(left + text + right)
            if (ids[0], ids[-1]) != (self._anchors[left], self._anchors[right]):
                return None
            found = tuple(ids[1:-1])
            self._known.put(key, found, len(text))
        return found

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids


def _backend(tokenizer: Any) -> Any:
    """What a fast tokenizer encodes with; None where it does something of its own before."""
    if not tokenizer.is_fast:
        return None
    fast = tokenizer.backend_tokenizer
    probe = f" a\n {tokenizer.eos_token or ''}\n b"
    own = tokenizer.encode(probe, add_special_tokens=False)
    return fast if fast.encode(probe, add_special_tokens=False).ids == own else None


def decoder(tokenizer: Any) -> Callable[[list[int], bool], str]:
    """``decode(ids, skip_special_tokens)``: as the tokenizer does it, spaces left as they are.

    One that adds nothing of its own to its backend is asked without the detour.
    """
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - loaded with any tokenizer

    own = type(tokenizer)
    plain = isinstance(tokenizer, PreTrainedTokenizerFast) and all(
        getattr(own, name) is getattr(PreTrainedTokenizerFast, name)
        for name in ("decode", "_decode")
    )
    if plain:
        backend: Any = tokenizer.backend_tokenizer
        return lambda ids, skip: str(backend.decode(ids, skip_special_tokens=skip))
    return lambda ids, skip: str(
        tokenizer.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
    )
