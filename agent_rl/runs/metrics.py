"""The names that ``docs/metrics.md`` explains."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from agent_rl.runs.charts import NOT_METRICS

_ENTRY = re.compile(r"^\| `([^`|\s]+)`", re.MULTILINE)


def documented_metrics(page: Path | str) -> list[str]:
    """The metrics that have a row in a page's tables.

    Args:
        page: The Markdown file; a row begins with the name in backticks. ``<name>`` within a name
            stands for anything but a slash.
    """
    return _ENTRY.findall(Path(page).read_text(encoding="utf-8"))


def undocumented(names: Iterable[str], documented: Sequence[str]) -> list[str]:
    """Those of the names in a line of ``metrics.jsonl`` that no documented one stands for."""
    patterns = [re.sub(r"<\w+>", "[^/]+", re.escape(name)) for name in documented]
    known = re.compile("|".join(patterns) or r"(?!)")
    return sorted({n for n in names if n not in NOT_METRICS and not known.fullmatch(n)})
