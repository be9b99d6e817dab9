"""Run the stages of a recipe in order, each in its own folder, resumable at any point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from agent_rl.config import RLConfig, StageConfig
from agent_rl.errors import UserError
from agent_rl.loading import Recipe, stage_tree
from agent_rl.runs import Console, RunFolder, build_report
from agent_rl.stages import rl, sft

# Settings that may differ when a run goes on: none of them changes what was done before.
MAY_CHANGE = {"steps", "run", "evaluation"}


def run_recipe(recipe: Recipe, *, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Run every stage that is not finished yet, then write the summary and the report.

    Args:
        recipe: What ``load_recipe`` gave.
        resume: Go on in the existing folder: finished stages are kept, the unfinished one goes on
            from its newest checkpoint.
        overwrite: Replace an existing folder.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        UserError: A setting that cannot work, or a folder that is in the way.
    """
    overwrite = overwrite or any(config.run.overwrite for _, config in recipe.stages)
    whole = None if recipe.is_single else _folder(recipe.dir, recipe.tree(), resume, overwrite)
    summaries: dict[str, dict[str, Any]] = {}
    show = Console(recipe.name)
    for name, config in recipe.stages:
        tree = {"name": recipe.name, **stage_tree(config)}
        folder = _folder(config.run.dir, tree, resume, overwrite)
        show.stage(name or tree["stage"], tree["stage"], config.run.dir)
        done = folder.read_summary()
        if resume and done.get("finished") and done.get("steps") == config.steps:
            summaries[name] = done
            continue
        _same_settings(folder, tree, resume)
        summaries[name] = _run_stage(config, folder, show, resume=resume)
    summary = _whole_summary(recipe, summaries)
    if whole is not None:
        whole.write_summary({**summary, "finished": True})
    show.finish(summary, build_report(Path(recipe.dir)))
    return summary


def _run_stage(
    config: StageConfig, folder: RunFolder, show: Console, *, resume: bool
) -> dict[str, Any]:
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    if isinstance(config, RLConfig):
        return rl.run(config, folder, show, resume=resume)
    return sft.run(config, folder, show, resume=resume)


def _folder(path: str, tree: dict[str, Any], resume: bool, overwrite: bool) -> RunFolder:
    if resume and (Path(path) / "config.yaml").exists():
        return RunFolder.resume(Path(path))
    return RunFolder.create(Path(path), tree, overwrite=overwrite and not resume)


def _same_settings(folder: RunFolder, tree: dict[str, Any], resume: bool) -> None:
    if not resume:
        return
    before = folder.read_config()
    for key in tree.keys() | before.keys():
        if key not in MAY_CHANGE and before.get(key) != tree.get(key):
            raise UserError(
                f"--resume: {key} is not what {folder.path} was started with; "
                "start a new run in another run.dir, or put it back"
            )


def _whole_summary(recipe: Recipe, summaries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The last stage's summary, and the seconds of all."""
    last = next(reversed(summaries.values()))
    if recipe.is_single:
        return last
    seconds = sum(s.get("train_seconds", 0.0) for s in summaries.values())
    return {"name": recipe.name, **last, "train_seconds": seconds, "stages": summaries}
