"""The laboratory's page: picture, peaks, fits, every point; self-contained, without script."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_rl.config import OveroptConfig
from agent_rl.overopt.points import Point
from agent_rl.runs.files import write_atomically
from agent_rl.runs.text import clean
from agent_rl.yaml_text import to_yaml

TEMPLATES = Path(__file__).with_name("templates")
STYLE = Path(__file__).parents[1] / "runs" / "templates" / "report.css"
PROXIES = ("labels", "label noise", "accuracy", "correlation with gold", "ties")
CURVES = (
    "policy",
    "labels",
    "gold: start",
    "peak",
    "end",
    "KL at the peak",
    "KL at the end",
    "proxy at the end",
)
FITS = ("policy", "labels", "form", "alpha", "beta", "residual", "KL at the fitted peak")
POINTS = ("policy", "labels", "seed", "step or N", "KL", "gold", "proxy")


def build_page(
    path: Path,
    figure: Path,
    config: OveroptConfig,
    tree: Mapping[str, Any],
    summary: Mapping[str, Any],
    points: Sequence[Point],
) -> Path:
    """Write the page.

    Args:
        path: Where.
        figure: The picture, a PNG file.
        config: All settings.
        tree: The same as plain values.
        summary: What ``summary.json`` holds.
        points: What ``points.jsonl`` holds.

    Raises:
        RunError: It cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    curves = summary["curves"]
    tables = [
        ("Proxies", PROXIES, [_proxy(p) for p in summary["proxies"]]),
        ("Gold reward on the way", CURVES, [_curve(c) for c in curves]),
        ("Fits, d = sqrt(KL)", FITS, [_fit(c) for c in curves if "fit" in c]),
        ("Every point", POINTS, [_point(p) for p in points]),
    ]
    page = environment.get_template("overopt.html.j2").render(
        title="Over-optimization",
        env=config.env.id,
        figure=base64.b64encode(figure.read_bytes()).decode(),
        tables=tables,
        config=to_yaml(dict(tree)),
        style=STYLE.read_text(encoding="utf-8"),
    )
    write_atomically(path, page)
    return path


def name_of(policy: str, coef: float | None) -> str:
    """A policy's name for people."""
    return "best-of-N" if policy == "best_of_n" else f"RL, KL coefficient {coef:g}"


def _proxy(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(row["labels"]),
        f"{row['label_noise']:.1%}",
        "none" if row["accuracy"] is None else f"{row['accuracy']:.1%}",
        "none" if row["correlation"] is None else f"{row['correlation']:.3f}",
        f"{row['ties']:.2%}",
    )


def _curve(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name_of(row["policy"], row.get("coef")),
        str(row["labels"]),
        *(f"{row[name]:.3f}" for name in ("gold_start", "gold_peak", "gold_end")),
        *(f"{row[name]:.2f}" for name in ("kl_at_peak", "kl_end", "proxy_end")),
    )


def _fit(row: Mapping[str, Any]) -> tuple[str, ...]:
    fit = row["fit"]
    peak = fit["kl_at_peak"]
    return (
        name_of(row["policy"], row.get("coef")),
        str(row["labels"]),
        fit["form"],
        *(f"{fit[name]:.3f}" for name in ("alpha", "beta", "rmse")),
        "none within the points" if peak is None else f"{peak:.2f}",
    )


def _point(point: Point) -> tuple[str, ...]:
    values = (("kl", ".2f"), ("gold", ".3f"), ("proxy", ".2f"))
    shown = []
    for name, form in values:
        value, error = getattr(point, name), getattr(point, f"{name}_se")
        shown.append(f"{value:{form}}" + (f" ± {error:{form}}" if error else ""))
    place = str(point.place)
    return name_of(point.policy, point.coef), str(point.labels), str(point.seed), place, *shown
