"""Optional experiment trackers (TensorBoard, W&B, Trackio, MLflow, ...) through accelerate."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from agent_rl.runs.files import RunError
from agent_rl.runs.folder import RunFolder

PROJECT = "agent-rl"


def check_trackers(names: Sequence[str]) -> None:
    """Refuse names that accelerate does not know, before anything else is done.

    Raises:
        RunError: An unknown name, or accelerate is not installed.
    """
    known = _classes() if names else {}
    for name in names:
        if name not in known:
            raise RunError(f"run.trackers: unknown tracker {name!r}; one of {', '.join(known)}")


@contextmanager
def tracked(
    folder: RunFolder, names: Sequence[str], config: Mapping[str, Any]
) -> Iterator[RunFolder]:
    """The folder with trackers that hear of every line of its ``metrics.jsonl``.

    A tracker that fails while training goes on is left out from then on, with a warning; the run
    folder has everything anyhow.

    Args:
        folder: A run folder.
        names: Of trackers; with none, nothing is imported.
        config: The settings, stored with the tracked run.

    Raises:
        RunError: An unknown name, or a package that is not installed.
    """
    check_trackers(names)
    started = [(name, _start(name, folder, config)) for name in names]
    hear = [_listener(name, tracker) for name, tracker in started]
    try:
        yield dataclasses.replace(folder, listeners=(*folder.listeners, *hear))
    finally:
        for name, tracker in started:
            _attempt(name, tracker.finish)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Nested settings as ``{"optimizer.lr": 1e-5}``, which is what trackers store."""
    flat: dict[str, str | int | float | bool] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            plain = isinstance(value, str | int | float | bool)
            flat[f"{prefix}{key}"] = value if plain else str(value)
    return flat


def _classes() -> Mapping[str, Any]:
    try:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS  # noqa: PLC0415
    except ImportError as error:
        raise RunError("run.trackers need accelerate: pip install 'agent-rl[train]'") from error
    return dict(LOGGER_TYPE_TO_CLASS)


def _start(name: str, folder: RunFolder, config: Mapping[str, Any]) -> Any:
    title = folder.path.resolve().name
    options: dict[str, dict[str, Any]] = {
        "wandb": {"name": title, "dir": str(folder.path)},
        "trackio": {"name": title},
        "mlflow": {"run_name": title},
    }
    kind = _classes()[name]
    where = {"logging_dir": str(folder.path)} if kind.requires_logging_directory else {}
    try:
        tracker = kind(PROJECT, **where, **options.get(name, {}))
        tracker.start()
    except ImportError as error:
        raise RunError(
            f"run.trackers: {name} is not installed ({error}); "
            f"pip install {name}, or leave it out of run.trackers"
        ) from error
    tracker.store_init_configuration(flatten(config))
    return tracker


def _listener(name: str, tracker: Any) -> Callable[[int, Mapping[str, Any]], None]:
    working = True

    def hear(step: int, metrics: Mapping[str, Any]) -> None:
        nonlocal working
        if working:
            working = _attempt(name, lambda: tracker.log(dict(metrics), step=step))

    return hear


def _attempt(name: str, call: Callable[[], Any]) -> bool:
    """Whether a call to a tracker went well. Whatever it raises, the training is worth more."""
    try:
        call()
    except Exception as error:
        warnings.warn(
            f"tracker {name} failed and is left out: {error}", RuntimeWarning, stacklevel=3
        )
        return False
    return True
