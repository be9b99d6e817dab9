"""The plain-text formula that a number is a part of: ``2^10`` and ``x >= 2`` are no 2."""

from __future__ import annotations

import re

_BEFORE, _AFTER = 80, 40
"""Characters on either side of a number that are looked at."""
_NAMES = (
    "sqrt|cbrt|log|ln|sin|cos|tan|exp|pi|million|billion|trillion|thousand|hundred|squared|cubed"
)
_TOKEN = (
    r"[(\[{][-\d .,+*/^√π]{1,40}[)\]}]"
    r"|(?:\\?[$€£])?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+(?!\w))?%?(?:\.\.\.|…)?"
    r"|\\[a-zA-Z]+(?:\{[^{}\n]{1,40}\}){0,2}"
    rf"|(?<![^\W\d_])(?:{_NAMES}|(?<=\d)[ikMnxyz]|(?<!\d)[a-zA-Z])(?![^\W_]|['’])"
    r"|(?<=\d ):(?= \d)|(?<!<)<(?!<)|(?<!>)>(?!>)|!=|[-+−–*/^×·÷=≤≥≠±√π∞²³½¼¾⅓⅔()]"
)
_RUN = re.compile(rf"(?>{_TOKEN})(?>[ ]?(?>{_TOKEN}))*+")
_EQUALS = re.compile(r"(?<![<>!=])=(?![>=])")
_HEAD = re.compile(r"(?:[*/=<>:)×·÷]|[-+−–](?=[ *>])|[a-zA-Z](?=[ ][\d(\\$]))\s?")
_TAIL = re.compile(r"\s(?:[a-zA-Z]|[-+−–*/^=:<>(×·÷])\Z|[-+−–*/^=:<>(×·÷\s]\Z")
_SIDE_BY_SIDE = re.compile(r"\d [\d(]")
_MIXED = re.compile(r"[-−–]?\d+ \d+/\d+")
_MAX_TRIMS = 16


def formula_around(text: str, start: int, end: int) -> str | None:
    """The formula that the number ``text[start:end]`` is a part of; None where it stands alone.

    Of an equation it is the last side. Only the line of the number is looked at, and of that some
    characters on either side.
    """
    low = max(text.rfind("\n", 0, start) + 1, start - _BEFORE)
    newline = text.find("\n", end)
    high = min(len(text) if newline < 0 else newline, end + _AFTER)
    run = next((m for m in _RUN.finditer(text, low, high) if m.end() > start), None)
    if run is None or run.start() > start:
        return None
    found = _trimmed(_EQUALS.split(run[0])[-1])
    bare = found.strip("()[]{}$\\*").replace(" ", "")
    if bare == text[start:end].strip("$\\,") or not any(map(str.isdigit, found)):
        return None
    if {"<", ">"} <= set(found) or found.count("(") != found.count(")"):
        return None
    if _SIDE_BY_SIDE.search(found) and not _MIXED.fullmatch(found):
        return None
    return found


def _trimmed(run: str) -> str:
    """``run`` without what belongs to the prose around it: bullets, arrows, "a"."""
    run = run.strip()
    for _ in range(_MAX_TRIMS):
        before = run
        if match := _HEAD.match(run):
            run = run[match.end() :]
        run = _TAIL.sub("", run)
        if run == before:
            break
    if run.endswith(")") and run.count(")") == run.count("(") + 1:
        run = run[:-1]
    return run.strip()
