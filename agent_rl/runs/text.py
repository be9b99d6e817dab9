"""Text for people: hostile text made harmless, numbers and durations made short."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-~=+*#"
# C0 but tab and newline, DEL, C1, and the characters that reorder or hide text on a terminal
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def clean(text: str, encoding: str = "utf-8") -> str:
    r"""Text that cannot move the cursor, colour the screen, reorder itself or fail to be encoded.

    Control characters and whatever ``encoding`` lacks become ``\x1b``-like escapes; tabs and
    newlines stay.
    """
    text = UNSAFE.sub(lambda found: _escaped(found[0]), text)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def clip(text: str, limit: int) -> str:
    """At most ``limit`` characters, and how many are missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]} ... ({len(text) - limit:,} more characters)"


def number(value: Any, form: str) -> str:
    """A number in a format; ``nan`` for what is none."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return str(value) if isinstance(value, float) else "nan"
    return format(value, form)


def duration(seconds: float) -> str:
    """``4.2 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 60:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def spark(values: Iterable[float], width: int, bars: Sequence[str] = BARS) -> str:
    """A curve in at most ``width`` characters; values that are no numbers are left out."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    n = min(width, len(finite))
    edges = [i * len(finite) // n for i in range(n + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((mean - low) * scale)] for mean in means)


def ascii_spark(values: Iterable[float], width: int) -> str:
    """``spark`` for terminals without Unicode."""
    return spark(values, width, ASCII_BARS)
