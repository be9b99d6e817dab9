"""The picture: gold and proxy against sqrt(KL), as Gao et al. 2022 draw it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent_rl.overopt.points import Curve
from agent_rl.runs.plots import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEST_OF_N = "#000000"
COLUMNS = 3


def draw(curves: Sequence[Curve]) -> Figure:
    """One panel for each proxy: gold solid, proxy dashed, the fitted gold dotted.

    One colour for each KL coefficient, black for best-of-N. Rewards are in standard deviations
    above the mean of the starting policy's samples, so that both start at 0 in the same unit.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415

    proxies = list(dict.fromkeys(curve.labels for curve in curves))
    coefs = sorted({curve.coef for curve in curves if curve.coef is not None})
    colours = {coef: COLOURS[n % (len(COLOURS) - 1)] for n, coef in enumerate(coefs)}
    columns = min(COLUMNS, len(proxies))
    rows = -(-len(proxies) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.6 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axis, labels in zip(axes, proxies, strict=False):
        for curve in (c for c in curves if c.labels == labels):
            rl = curve.coef is not None
            name = f"RL, KL coefficient {curve.coef:g}" if rl else "best-of-N"
            _curve(axis, curve, colours[curve.coef] if curve.coef is not None else BEST_OF_N, name)
        axis.axhline(0.0, color="0.6", linewidth=0.8)
        axis.set(
            title=f"proxy of {labels} labels", xlabel="square root of KL to the start, in nats"
        )
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(proxies) :]:
        axis.remove()
    axes[0].set_ylabel("reward, standard deviations\nabove the start (solid: gold, dashed: proxy)")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(2 * columns, len(names)))
    return figure


def _curve(axis: Axes, curve: Curve, colour: str, name: str) -> None:
    axis.plot(curve.d, curve.gold_std, color=colour, marker="o", ms=3, label=name)
    axis.plot(curve.d, curve.proxy, color=colour, linestyle="--", linewidth=1.2)
    fitted = curve.fitted()
    if fitted is None:
        return
    first, last = curve.gold[0], curve.gold[-1]
    spread = last - first
    unit = (curve.gold_std[-1] - curve.gold_std[0]) / spread if spread else 0.0
    x = np.linspace(0.0, fitted.largest_d, 60)
    y = [curve.gold_std[0] + unit * fitted.gain(value) for value in x]
    axis.plot(x, y, color=colour, linestyle=":", linewidth=1.0)


def save(figure: Figure, path: Path) -> None:
    """Write the picture; whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp{path.suffix}")
    figure.savefig(temporary, dpi=130)
    temporary.replace(path)
