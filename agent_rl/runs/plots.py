"""Figures of one or several runs for papers and pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent_rl.runs.charts import CHARTS, Points, series_of
from agent_rl.runs.files import RunError
from agent_rl.runs.folder import RunFolder
from agent_rl.runs.report import stage_folders

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS = ("reward/mean", "eval/greedy", "kl/reference", "length/mean", "policy/entropy")
FORMATS = (".png", ".svg", ".pdf")
# Okabe and Ito (2008): told apart with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def plot_runs(
    paths: Sequence[Path | str], out: Path | str, metrics: Sequence[str] = METRICS
) -> Path:
    """Draw metrics over steps, one panel each, one line per run.

    ``eval/greedy`` gets its 95 % interval as a band. A recipe counts as one run per stage.

    Args:
        paths: Run folders.
        out: The figure to write: ``.png``, ``.svg`` or ``.pdf``.
        metrics: Which; those that no run has get no panel.

    Returns:
        The path of the figure.

    Raises:
        RunError: A path is no run, the ending is unknown, or no run has any of the metrics.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415

    out = Path(out)
    if out.suffix not in FORMATS:
        raise RunError(f"cannot draw {out}: the ending must be one of {', '.join(FORMATS)}")
    runs = [(label, series_of(folder.read_metrics())) for label, folder in _folders(paths)]
    shown = [metric for metric in metrics if any(metric in series for _, series in runs)]
    if not shown:
        raise RunError(f"nothing to draw: none of the runs has any of {', '.join(metrics)}")
    runs = [run for run in runs if any(metric in run[1] for metric in shown)]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.0 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, metric in zip(axes, shown, strict=False):
        _panel(axis, metric, runs)
    for axis in axes[len(shown) :]:
        axis.remove()
    if len(runs) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(runs)))
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    return out


def _folders(paths: Sequence[Path | str]) -> list[tuple[str, RunFolder]]:
    found = []
    for path in paths:
        whole = RunFolder.open(path)
        for folder in stage_folders(whole.path):
            name = whole.path.resolve().name
            inner = folder.path != whole.path
            label = f"{name}/{folder.path.name}" if inner else name
            found.append((label.replace("$", r"\$"), folder))  # a dollar would begin a formula
    return found


def _panel(axis: Axes, metric: str, runs: Sequence[tuple[str, dict[str, Points]]]) -> None:
    for n, (label, series) in enumerate(runs):
        colour = COLOURS[n % len(COLOURS)]
        values = dict(series.get(metric, []))
        marker = "o" if len(values) <= 25 else None
        axis.plot(
            list(values), list(values.values()), color=colour, label=label, marker=marker, ms=3
        )
        low, high = (dict(series.get(f"{metric}_{end}", [])) for end in ("low", "high"))
        both = [step for step in values if step in low and step in high]
        lows, highs = ([side[step] for step in both] for side in (low, high))
        axis.fill_between(both, lows, highs, color=colour, alpha=0.15, linewidth=0)
    titles = {
        name: (f"{chart.title}: {what}" if place else chart.title, chart.unit)
        for chart in CHARTS
        for place, (name, what) in enumerate(chart.series)
    }
    title, unit = titles.get(metric, (metric, metric))
    axis.set(title=title, xlabel="step", ylabel=unit)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
