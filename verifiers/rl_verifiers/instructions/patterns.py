"""Texts of a row that the reference reads as regular expressions, as far as that is safe."""

from __future__ import annotations

import re
from functools import lru_cache

_MAX_OPTIONAL = 3
_SPECIAL = re.compile(r"[\\^$*+{}\[\]|()]")
_OPTIONAL = re.compile(r"[^?]\?(?!\?)")


@lru_cache(maxsize=4096)
def pattern_of(text: str) -> str:
    """A pattern that takes time linear in what it searches, whatever the text.

    A full stop is any character and a question mark makes what precedes it optional, as in the
    reference, which puts the text into a regular expression as it is. A text with any other special
    character, or with more than three question marks, stands for itself.
    """
    optional = text.count("?")
    if _SPECIAL.search(text) or optional > _MAX_OPTIONAL:
        return re.escape(text)
    if optional != len(_OPTIONAL.findall(text)):
        return re.escape(text)
    return re.escape(text).replace(r"\.", ".").replace(r"\?", "?")
