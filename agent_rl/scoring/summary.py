"""The summary of a scoring job: ``summary.json``, and tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent_rl.runs.statistics import wilson_interval
from agent_rl.runs.text import clean, clip
from agent_rl.scoring.groups import Groups, Point
from agent_rl.scoring.tally import Tally

TOP_REASONS = 20
SHOWN_REASONS = 8
SHOWN_SLOW = 5
BAR = 40
CELL = 300  # characters


def as_json(tally: Tally, groups: Groups | None = None) -> dict[str, Any]:
    """The content of ``summary.json``: plain data; a figure without a sample is NaN.

    Args:
        tally: Of the whole job.
        groups: pass@k and maj@k, where there are groups.
    """
    judged, rewards = tally.judged, tally.rewards
    return {
        "rows": tally.rows,
        "samples": tally.samples,
        "judged": judged,
        "errors": tally.n_errors,
        "passed": tally.passed,
        "pass_rate": tally.passed / judged if judged else float("nan"),
        "pass_rate_interval": list(wilson_interval(tally.passed, judged)),
        "reward": {
            "mean": rewards.mean,
            "standard_error": rewards.standard_error,
            "min": rewards.low if judged else None,
            "max": rewards.high if judged else None,
            "histogram": [
                {"from": low, "to": high, "count": count} for low, high, count in _bars(tally)
            ],
        },
        "parts": {
            name: {"mean": values.mean, "samples": values.n} for name, values in tally.parts.items()
        },
        "parts_left_out": tally.parts_left_out,
        "statuses": {status: n for status, n in tally.statuses.items() if n},
        "reasons": [
            {"reason": reason, "count": count} for reason, count in tally.reasons.top(TOP_REASONS)
        ],
        "reasons_may_miss": tally.reasons.missed,
        "first_errors": [asdict(error) for error in tally.errors],
        "rejects": tally.rejects,
        "first_rejects": [{**asdict(r), "text": clip(r.text, 200)} for r in tally.first_rejects],
        "seconds": tally.seconds,
        "slowest": [asdict(slow) for slow in tally.slowest],
        "groups": None if groups is None else _groups_json(groups),
    }


def render(tally: Tally, groups: Groups | None, console: Console) -> None:
    """Print the summary; what models and verifiers wrote is printed as plain characters.

    Args:
        tally: Of the whole job.
        groups: pass@k and maj@k, where there are groups.
        console: Where to.
    """
    table = partial(_table, console.encoding or "utf-8")
    counts, numbers = ("samples", "share", ""), "samples|share"
    tables = [
        table(
            "", ("measure", "value", "95 % interval"), figures(tally, groups), "value|95 % interval"
        ),
        table("verdicts", ("status", *counts), _shares(tally, console), numbers),
        table("rewards", ("reward", *counts), _histogram(tally, console), numbers),
        table("parts", ("part", "mean", "samples"), parts(tally), "mean|samples"),
        table("commonest reasons", ("count", "reason"), reasons(tally, SHOWN_REASONS), "count"),
        table("errors, the first", ("where", "what"), errors(tally), ""),
        table("lines left out, the first", ("where", "why"), rejects(tally), ""),
        table("slowest", ("seconds", "where"), slowest(tally, SHOWN_SLOW), "seconds"),
    ]
    for shown in tables:
        if shown.row_count:
            console.print(shown)


def figures(tally: Tally, groups: Groups | None) -> list[tuple[str, str, str]]:
    """The measures in words: what, how much, its interval."""
    judged, rewards = tally.judged, tally.rewards
    found = [("rows", f"{tally.rows:,}", "")]
    if tally.samples != tally.rows:
        found.append(("completions", f"{tally.samples:,}", ""))
    if tally.n_errors:
        found.append(("not judged (errors)", _of(tally.n_errors, tally.samples), ""))
    if tally.rejects:
        found.append(("lines left out", f"{tally.rejects:,}", ""))
    if judged:
        low, high = wilson_interval(tally.passed, judged)
        found.append(("passed", _of(tally.passed, judged), f"{_percent(low)} to {_percent(high)}"))
        error = f" ± {rewards.standard_error:.4f}" if judged > 1 else ""
        spread = f"{rewards.low:g} to {rewards.high:g} (range)"
        found.append(("mean reward ± standard error", f"{rewards.mean:.4f}{error}", spread))
    for name, points in curves(groups):
        for point in points:
            interval = f"{_percent(point.low)} to {_percent(point.high)}"
            label = f"{name}@{point.k}, {point.groups:,} group{'s' * (point.groups != 1)}"
            found.append((label, _percent(point.value), interval))
    return found


def curves(groups: Groups | None) -> list[tuple[str, Sequence[Point]]]:
    """pass@k and maj@k; none where every group is a single completion."""
    if groups is None or groups.sizes[1] < 2:
        return []
    return [("pass", groups.pass_at), ("maj", groups.majority_at)]


def parts(tally: Tally) -> list[tuple[str, str, str]]:
    """Name, mean, how many."""
    rows = [(n, f"{values.mean:.4f}", f"{values.n:,}") for n, values in tally.parts.items()]
    if tally.parts_left_out:
        rows.append(("(more names)", "", f"{tally.parts_left_out:,}"))
    return rows


def reasons(tally: Tally, n: int) -> list[tuple[str, str]]:
    """How often, and the reason; a ``+`` where it may be more often."""
    more = f" to {tally.reasons.missed:,} more" if tally.reasons.missed else ""
    return [(f"{count:,}{more}", reason) for reason, count in tally.reasons.top(n)]


def errors(tally: Tally) -> list[tuple[str, str]]:
    """Where and what."""
    return [(where(e.name, e.line, e.index), e.error) for e in tally.errors]


def rejects(tally: Tally) -> list[tuple[str, str]]:
    """Where and why."""
    return [(where(r.name, r.line), r.error) for r in tally.first_rejects]


def slowest(tally: Tally, n: int) -> list[tuple[str, str]]:
    """Seconds and where."""
    return [(f"{s.seconds:.3f}", where(s.name, s.line, s.index)) for s in tally.slowest[:n]]


def where(name: str, line: int, index: int = 0) -> str:
    """``data.jsonl, row 12, completion 3``: the row by its line, completions from 1."""
    return f"{name}, row {line}" + (f", completion {index + 1}" if index else "")


def bar_label(low: float, high: float) -> str:
    """A value, or from and to."""
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def _groups_json(groups: Groups) -> dict[str, Any]:
    return {
        "groups": groups.groups,
        "size": groups.size,
        "sizes": list(groups.sizes),
        "pass_at": [point._asdict() for point in groups.pass_at],
        "majority_at": [point._asdict() for point in groups.majority_at],
    }


def _bars(tally: Tally) -> list[tuple[float, float, int]]:
    return tally.rewards.histogram() if tally.rewards.n else []


def _shares(tally: Tally, console: Console) -> Iterable[tuple[str, str, str, str]]:
    for status, count in tally.statuses.items():
        if count:
            share = count / tally.samples
            yield status, f"{count:,}", _percent(share), _bar(share, console)


def _histogram(tally: Tally, console: Console) -> Iterable[tuple[str, str, str, str]]:
    for low, high, count in _bars(tally):
        share = count / tally.judged
        yield bar_label(low, high), f"{count:,}", _percent(share), _bar(share, console)


def _bar(share: float, console: Console) -> str:
    mark = "█" if (console.encoding or "").lower().startswith("utf") else "#"
    return mark * max(1, round(BAR * share))


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,} ({_percent(count / total if total else 0.0)})"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _table(
    encoding: str, title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], right: str
) -> Table:
    """A table whose cells are plain characters; ``right``: the heads of columns of numbers."""
    made = Table(title=title or None, title_justify="left", title_style="bold", box=None)
    for head in heads:
        made.add_column(
            head, justify="right" if head in right.split("|") else "left", overflow="fold"
        )
    for row in rows:
        made.add_row(*(Text(clean(clip(" ".join(c.split()), CELL), encoding)) for c in row))
    return made
