"""Run the stages of a recipe in order, each in its own folder, resumable at any point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from agent_rl.config import StageConfig, stage_kind
from agent_rl.errors import UserError
from agent_rl.loading import Recipe, result_of, stage_tree
from agent_rl.preflight import Unborn, check_stage
from agent_rl.runs import Console, RunFolder, build_report
from agent_rl.runs.trackers import tracked

# Settings that may differ when a run goes on: none of them changes what was done before. What is
# evaluated stays, since accuracy_before and accuracy_after are compared; threads change bits.
MAY_CHANGE = ("name", "steps", "evaluation.every", "run.")
MUST_STAY = ("run.seed", "run.threads")


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
        UserError: A setting that cannot work, or a folder that is in the way. Nothing was changed
            then, unless training had begun.
    """
    overwrite = overwrite or any(config.run.overwrite for _, config in recipe.stages)
    show = Console(recipe.name)
    done = finished(recipe) if resume else {}
    for _, config in recipe.stages:
        check_resumable(config, recipe, resume)
    if len(done) == len(recipe.stages):
        print(f"{recipe.dir} is finished already; nothing was changed (more steps: --steps N)")
        return _whole_summary(recipe, done)
    if not resume:
        RunFolder.check_free(recipe.dir, overwrite=overwrite)
    _refuse_begun_after_unfinished(recipe, done, resume)
    unborn = Unborn(result_of(config) for name, config in recipe.stages if name not in done)
    for name, config in recipe.stages:
        if name not in done:
            check_stage(config, f"stages.{name}" if name else "", unborn)
    opened = _Folders(recipe, resume, overwrite)
    with opened.discarded_if_unused():
        whole = None if recipe.is_single else opened.open(recipe.dir, recipe.tree())
        summaries: dict[str, dict[str, Any]] = {}
        for name, config in recipe.stages:
            if name in done:
                summaries[name] = done[name]
                continue
            tree = {"name": recipe.name, **stage_tree(config)}
            folder = opened.open(config.run.dir, tree)
            show.stage(name or tree["stage"], tree["stage"], config.run.dir)
            summaries[name] = _run_stage(config, folder, show, resume=resume)
    summary = _whole_summary(recipe, summaries)
    if whole is not None:
        whole.write_summary({**summary, "finished": True})
    show.finish(summary, build_report(Path(recipe.dir)))
    return summary


def finished(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The summaries of the stages that need no more steps, by name: the first ones, in order."""
    found = {}
    for name, config in recipe.stages:
        path = Path(config.run.dir)
        summary = RunFolder.open(path).read_summary() if is_run(path) else {}
        if not summary.get("finished") or summary.get("steps", 0) < steps_of(config):
            break  # what follows starts from this stage's result
        found[name] = summary
    return found


def _refuse_begun_after_unfinished(recipe: Recipe, done: Mapping[str, Any], resume: bool) -> None:
    """Raise when a stage that has begun comes after one that will train on."""
    unfinished, *later = [stage for stage in recipe.stages if stage[0] not in done]
    steps = steps_of(unfinished[1])
    for name, config in later:
        if resume and is_run(Path(config.run.dir)):
            raise UserError(
                f"--resume: stages.{unfinished[0]} would train on to {steps} steps, "
                f"but stages.{name} after it has begun in {config.run.dir} from its older result; "
                "put the steps back, give another --run.dir, or start over with --overwrite"
            )


def steps_of(config: StageConfig) -> int:
    """How many steps a stage takes; 0 for one that takes none."""
    return int(getattr(config, "steps", 0))


def is_run(path: Path) -> bool:
    """Whether there is a run in a folder."""
    return (path / "config.yaml").is_file()


def check_resumable(config: StageConfig, recipe: Recipe, resume: bool) -> None:
    """Whether the stage may go on with these settings, where it has begun.

    Raises:
        UserError: A setting differs that must stay.
    """
    path = Path(config.run.dir)
    if not resume or not is_run(path):
        return
    before = flat(RunFolder.open(path).read_config())
    now = flat({"name": recipe.name, **stage_tree(config)})
    for key in sorted(before.keys() | now.keys()):
        free = key.startswith(MAY_CHANGE) and key not in MUST_STAY
        if not free and before.get(key) != now.get(key):
            raise UserError(
                f"--resume: {key.split('.')[0]} is not what {path} was started with "
                f"({key} was {before.get(key)!r}, is {now.get(key)!r}); put it back, or start "
                "a new run with another --run.dir"
            )


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``; lists and empty mappings stay values."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


class _Folders:
    """Opens run folders, and removes again those in which nothing came to be.

    Args:
        recipe: Whose folders.
        resume: Go on in those that exist.
        overwrite: Replace those that exist.
    """

    def __init__(self, recipe: Recipe, resume: bool, overwrite: bool) -> None:
        self._recipe, self._resume, self._overwrite = recipe, resume, overwrite
        self._created: list[RunFolder] = []

    def open(self, path: str, tree: dict[str, Any]) -> RunFolder:
        """The folder of the recipe or of one stage, with its settings in it."""
        if self._resume and is_run(Path(path)):
            folder = RunFolder.resume(path)
            folder.write_config(tree)  # as it goes on: with more steps, say
            return folder
        folder = RunFolder.create(path, tree, overwrite=self._overwrite and not self._resume)
        self._created.append(folder)
        return folder

    @contextmanager
    def discarded_if_unused(self) -> Iterator[None]:
        """On an error: a run that never began must not be in the way of the next attempt."""
        try:
            yield
        except BaseException:
            for folder in reversed(self._created):
                folder.discard_unused()
            raise


def _run_stage(
    config: StageConfig, folder: RunFolder, show: Console, *, resume: bool
) -> dict[str, Any]:
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    stage = import_module(f"agent_rl.stages.{stage_kind(config)}")
    with tracked(folder, config.run.trackers, stage_tree(config)) as followed:
        summary: dict[str, Any] = stage.run(config, followed, show, resume=resume)
    return summary


def _whole_summary(recipe: Recipe, summaries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The last stage's summary, and the seconds of all."""
    last = next(reversed(summaries.values()))
    if recipe.is_single:
        return last
    seconds = sum(s.get("train_seconds", 0.0) for s in summaries.values())
    return {"name": recipe.name, **last, "train_seconds": seconds, "stages": summaries}
