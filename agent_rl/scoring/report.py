"""``agent-rl score --report``: one self-contained page about a scoring job.

The page loads nothing and has no script. What models and verifiers wrote is escaped by the template
and cleaned of control characters; a content security policy forbids everything but its own styles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_rl.runs.files import write_atomically
from agent_rl.runs.text import clean, clip
from agent_rl.scoring import summary
from agent_rl.scoring.groups import Groups, Point
from agent_rl.scoring.tally import Tally

TEMPLATES = Path(__file__).with_name("templates")
STYLE = Path(__file__).parents[1] / "runs" / "templates" / "report.css"
WIDTH, HEIGHT, PAD = 420, 200, 34  # of the drawing of the curves


def build_report(
    path: Path, tally: Tally, groups: Groups | None, *, title: str, facts: Mapping[str, str]
) -> Path:
    """Write the page.

    Args:
        path: Where.
        tally: Of the whole job; the rows shown are its examples.
        groups: pass@k and maj@k, where there are groups.
        title: The heading, such as the names of the inputs.
        facts: Label and value: the verifier, its options, how long it took. ``command`` gets a line
            of its own.

    Returns:
        ``path``.

    Raises:
        RunError: The page cannot be written.
    """
    page = render(tally, groups, title=title, facts=facts)
    write_atomically(path, page)
    return path


def render(tally: Tally, groups: Groups | None, *, title: str, facts: Mapping[str, str]) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    named = dict(facts)
    return environment.get_template("score.html.j2").render(
        title=title,
        command=named.pop("command", ""),
        facts=list(named.items()),
        figures=summary.figures(tally, groups),
        statuses=_statuses(tally),
        histogram=_histogram(tally),
        curves=drawing(summary.curves(groups)),
        sizes=groups.sizes if groups and groups.sizes[1] > 1 else None,
        parts=summary.parts(tally),
        reasons=summary.reasons(tally, summary.TOP_REASONS),
        errors=summary.errors(tally),
        rejects=[(*row, clip(r.text, 200)) for row, r in _rejects(tally)],
        slowest=summary.slowest(tally, len(tally.slowest)),
        examples=[(s, tally.examples[s]) for s in tally.statuses if tally.examples.get(s)],
        where=summary.where,
        style=STYLE.read_text(encoding="utf-8"),
    )


def drawing(curves: Sequence[tuple[str, Sequence[Point]]]) -> list[dict[str, Any]]:
    """Each curve with its points in the coordinates of a drawing ``WIDTH`` by ``HEIGHT``.

    The x axis has the values of k at equal distances, the y axis goes from 0 to 1.
    """
    ks = sorted({point.k for _, points in curves for point in points})
    step = (WIDTH - 2 * PAD) / max(1, len(ks) - 1)

    def x(k: int) -> float:
        return round(PAD + step * ks.index(k), 1)

    def y(value: float) -> float:
        return round(HEIGHT - PAD - (HEIGHT - 2 * PAD) * value, 1)

    return [
        {
            "name": f"{name}@k",
            "colour": f"var(--c{number})",
            "points": [
                {"x": x(p.k), "y": y(p.value), "low": y(p.low), "high": y(p.high), "k": p.k}
                for p in points
            ],
            "line": " ".join(f"{x(p.k)},{y(p.value)}" for p in points),
        }
        for number, (name, points) in enumerate(curves)
        if points
    ]


def _statuses(tally: Tally) -> list[tuple[str, int, float]]:
    """Status, count, share of all samples."""
    return [(s, n, n / tally.samples) for s, n in tally.statuses.items() if n]


def _histogram(tally: Tally) -> list[tuple[str, int, float]]:
    """Label, count, share of the judged samples."""
    if not tally.judged:
        return []
    bars = tally.rewards.histogram(24)
    return [(summary.bar_label(low, high), n, n / tally.judged) for low, high, n in bars]


def _rejects(tally: Tally) -> list[tuple[tuple[str, str], Any]]:
    return list(zip(summary.rejects(tally), tally.first_rejects, strict=True))
