"""``agent-rl overopt``: the whole laboratory in one folder, from where it stands."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from agent_rl.config import OveroptConfig
from agent_rl.errors import UserError
from agent_rl.loading import build, read
from agent_rl.overopt.figure import draw, save
from agent_rl.overopt.laboratory import SeedRun
from agent_rl.overopt.page import build_page, name_of
from agent_rl.overopt.plan import Plan
from agent_rl.overopt.points import Point, curves
from agent_rl.recipe import flat
from agent_rl.runs import RunFolder, write_atomically
from agent_rl.runs.files import to_json
from agent_rl.yaml_text import to_yaml

POINTS, FIGURE, PAGE = "points.jsonl", "overoptimization.png", "report.html"
# Settings that may differ when a laboratory goes on: they add pieces and change none.
MAY_CHANGE = ("seeds", "kl_coefs", "labels", "rl.steps", "run.overwrite", "run.dir")


def load(path: str, overrides: Sequence[str] = ()) -> OveroptConfig:
    """The settings of a laboratory, each checked, those of its stages too.

    Raises:
        UserError: One line naming the setting.
    """
    tree = read(path, overrides)
    tree.pop("name", None)
    run = tree.get("run")
    if run is None or isinstance(run, dict):
        tree["run"] = {"dir": f"runs/{Path(path).stem}", **(run or {})}
    config = build(OveroptConfig, tree, path)
    for seed in config.seeds:
        Plan(config, seed, path).stages()
    return config


def overopt(
    path: str,
    overrides: Sequence[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    print_config: bool = False,
) -> int:
    """``agent-rl overopt``.

    Args:
        path: A YAML file.
        overrides: Words such as ``--rl.steps 20``.
        resume: Go on in the existing folder: what is finished is kept.
        overwrite: Replace an existing folder.
        print_config: Print every setting and do nothing.

    Raises:
        UserError: Anything that cannot work.
    """
    config = load(path, overrides)
    if print_config:
        print(to_yaml(plain_tree(config)), end="")
        return 0
    summary = run(config, path, resume=resume, overwrite=overwrite)
    print("\n".join(_lines(summary)))
    folder = Path(config.run.dir)
    print(f"{folder / POINTS}, {folder / FIGURE}, {folder / PAGE}")
    return 0


def run(
    config: OveroptConfig,
    where: str = "overopt",
    *,
    resume: bool = False,
    overwrite: bool = False,
    say: Any = print,
) -> dict[str, Any]:
    """Every piece that is not finished yet; then points, picture, summary and page.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        UserError: A setting that cannot work, or a folder that is in the way.
    """
    began = time.perf_counter()
    plans = [Plan(config, seed, where) for seed in config.seeds]
    plans[0].check()
    folder = _opened(config, resume, overwrite or config.run.overwrite)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    seeds = [SeedRun(plan, say) for plan in plans]
    points = [point for seed in seeds for point in seed.run()]
    write_atomically(folder.path / POINTS, "".join(to_json(p.row()) + "\n" for p in points))
    drawn = curves(points)
    save(draw(drawn), folder.path / FIGURE)
    seconds = folder.read_summary().get("seconds", 0.0) + time.perf_counter() - began
    summary: dict[str, Any] = {
        "stage": "overopt",
        "env": config.env.id,
        "seeds": list(config.seeds),
        "seconds": seconds,
        "proxies": [row for seed in seeds for row in seed.proxies],
        "curves": [curve.figures() for curve in drawn],
    }
    folder.write_summary({**summary, "finished": True})
    build_page(
        folder.path / PAGE, folder.path / FIGURE, config, plain_tree(config), summary, points
    )
    return summary


def plain_tree(config: OveroptConfig) -> dict[str, Any]:
    """Every setting as plain values."""
    tree: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return tree


def _opened(config: OveroptConfig, resume: bool, overwrite: bool) -> RunFolder:
    """The laboratory's folder, new or as it stands.

    Raises:
        UserError: There is one and neither was asked for, or a setting differs that must stay.
    """
    tree, path = plain_tree(config), config.run.dir
    if not resume or not (Path(path) / "config.yaml").is_file():
        return RunFolder.create(path, tree, overwrite=overwrite and not resume)
    before, now = flat(RunFolder.open(path).read_config()), flat(tree)
    for key in sorted(before.keys() | now.keys()):
        if not key.startswith(MAY_CHANGE) and before.get(key) != now.get(key):
            raise UserError(
                f"--resume: {key} is not what {path} was started with (it was "
                f"{before.get(key)!r}, is {now.get(key)!r}); put it back, or start a new one with "
                "another --run.dir"
            )
    folder = RunFolder.resume(path)
    folder.write_config(tree)
    return folder


def _lines(summary: Mapping[str, Any]) -> list[str]:
    """What the laboratory found, a line for each curve."""
    lines = []
    for row in summary["curves"]:
        name = f"{row['labels']} labels, {name_of(row['policy'], row.get('coef'))}"
        fit = row.get("fit", {})
        fitted = fit.get("kl_at_peak")
        lines.append(
            f"{name}: gold {row['gold_start']:.3f} -> {row['gold_peak']:.3f} at KL "
            f"{row['kl_at_peak']:.2f}"
            + ("" if fitted is None else f" (fitted peak at {fitted:.2f})")
            + f" -> {row['gold_end']:.3f} at KL {row['kl_end']:.2f}; "
            f"proxy +{row['proxy_end']:.2f} sd"
            + ("; OVER-OPTIMIZED: gold is below its start" if row["overoptimized"] else "")
        )
    lines.append(f"{summary['seconds']:.0f} seconds in all")
    return lines


__all__ = ["Point", "load", "overopt", "run"]
