"""Model soups: the weighted average of several models' weights (Wortsman et al. 2022, 2203.05482).

Averaged policies keep what they agree on; averaged reward models are harder to exploit (WARM: Rame
et al. 2024, 2401.12187). It takes models that were fine-tuned from the same starting point.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from agent_rl import checkpoint
from agent_rl.config import MODEL, SoupConfig
from agent_rl.errors import UserError
from agent_rl.models import whole_folder
from agent_rl.preflight import located
from agent_rl.runs import Console, RunFolder
from agent_rl.runs.files import parse_object, to_json

FREE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")
WEIGHTS = "*.safetensors"
INDEX = "model.safetensors.index.json"
RECORD = "reward_model.json"
KEPT = ("kind", "max_tokens", "step_separator", "aggregation")  # what was measured is of one model


def check(config: SoupConfig, unborn: Collection[str] = ()) -> None:
    """What can be known to fail before anything is written.

    Raises:
        UserError: One line that names the setting.
    """
    there = [
        (f"models.{n}", Path(model.path))
        for n, model in enumerate(config.models)
        if not any(model.path == path or _is_within(model.path, path) for path in unborn)
    ]
    for place, path in there:
        with located(place):
            model_folder(path)
    if len(there) == len(config.models):
        _check_alike(config)


def run(
    config: SoupConfig, folder: RunFolder, show: Console, *, resume: bool = False
) -> dict[str, Any]:
    """Average, and leave ``model/`` and a summary in ``folder``.

    Args:
        config: All settings.
        folder: Where everything goes.
        show: What the person at the terminal sees.
        resume: Nothing is kept of a stopped soup; it is made again.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        UserError: A model is missing, or differs in architecture, shapes or tokenizer.
    """
    del resume
    started = time.perf_counter()
    _check_alike(config)
    show.start(len(config.models))
    total = sum(model.weight for model in config.models)
    shares = [model.weight / total for model in config.models]
    averaged = average([Path(model.path) for model in config.models], shares)
    first = model_folder(Path(config.models[0].path))
    write_like(first, averaged, folder.model)
    show.step(len(config.models), {})
    show.stop()
    summary = {
        "stage": "soup",
        "seed": config.run.seed,
        "models": {model.path: share for model, share in zip(config.models, shares, strict=True)},
        "parameters": sum(tensor.numel() for tensor in averaged.values()),
        "distance": distances([Path(model.path) for model in config.models], averaged),
        "train_seconds": time.perf_counter() - started,
        "finished": True,
    }
    folder.write_summary(summary)
    return summary


def average(paths: Sequence[Path], shares: Sequence[float]) -> dict[str, Tensor]:
    """The weighted mean of every tensor, summed in float64 and kept as float32.

    Tensors of whole numbers, and those equal in all models, stay as they are.

    Args:
        paths: Model folders, or checkpoints.
        shares: One each, of sum 1.

    Raises:
        UserError: Other names or shapes than the first's, or a weight that is no finite number.
    """
    with ExitStack() as stack:
        sources = [stack.enter_context(Tensors(path)) for path in paths]
        _check_tensors(paths, sources)
        averaged = {}
        for name in sources[0].shapes:
            tensors = [source.get(name) for source in sources]
            _refuse_non_finite(name, paths, tensors)
            averaged[name] = _mean(tensors, shares)
        return averaged


def _refuse_non_finite(name: str, paths: Sequence[Path], tensors: Sequence[Tensor]) -> None:
    """A NaN of one model would be one of the average."""
    for path, tensor in zip(paths, tensors, strict=True):
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{path}: {name} has weights that are NaN or infinite; leave it out")


def _mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    first = tensors[0]
    if not first.is_floating_point() or all(torch.equal(first, t) for t in tensors[1:]):
        return first.float() if first.is_floating_point() else first
    total = torch.zeros(first.shape, dtype=torch.float64)
    for tensor, share in zip(tensors, shares, strict=True):
        total += share * tensor.double()
    return total.float()


def distances(paths: Sequence[Path], averaged: Mapping[str, Tensor]) -> list[float]:
    """How far each model is from the average: the norm of the difference over the average's."""
    norm = sum(float(t.double().square().sum()) for t in averaged.values()) ** 0.5
    found = []
    for path in paths:
        with Tensors(path) as source:
            squares = sum(
                float((source.get(name).double() - t.double()).square().sum())
                for name, t in averaged.items()
            )
        found.append(squares**0.5 / max(norm, 1e-30))
    return found


class Tensors:
    """The weights of a model folder or a checkpoint, one at a time.

    Args:
        path: The folder.

    Attributes:
        shapes: Of every tensor, by its name in a model folder.

    Raises:
        UserError: There are none, or a file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._stack = ExitStack()
        self._of: dict[str, Any] = {}

    def __enter__(self) -> Tensors:
        if (self.path / checkpoint.STATE).exists():
            saved = model_folder(self.path)
            state = checkpoint.load(self.path)["model"]
            with Tensors(saved) as kept:  # tied tensors stand in a checkpoint twice
                missing = sorted(kept.shapes.keys() - state.keys())
                if missing:
                    raise UserError(
                        f"{self.path} has no {missing[0]}, which {saved} has; of adapters give the "
                        "merged model"
                    )
                self._of = {name: state[name] for name in kept.shapes}
            self.shapes = {name: tuple(tensor.shape) for name, tensor in self._of.items()}
            return self
        for file in sorted(self.path.glob(WEIGHTS)):
            try:
                opened = self._stack.enter_context(safe_open(file, "pt"))
                for name in opened.keys():  # noqa: SIM118 - no mapping
                    self._of[name] = opened
                    self.shapes[name] = tuple(opened.get_slice(name).get_shape())
            except (OSError, SafetensorError) as error:
                raise UserError(f"cannot read the weights {file}: {error}") from error
        if not self.shapes:
            raise UserError(f"{self.path} has no weights ({WEIGHTS})")
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def get(self, name: str) -> Tensor:
        """One tensor."""
        found = self._of[name]
        return found if isinstance(found, Tensor) else found.get_tensor(name)


def model_folder(path: Path) -> Path:
    """The model folder of a path: itself, or that of the run whose checkpoint it is.

    Raises:
        UserError: There is none, or it holds an adapter.
    """
    if (path / checkpoint.STATE).exists():
        beside = path.parent.parent / MODEL
        if not (beside / "config.json").exists():
            raise UserError(f"{path} is a checkpoint of a run that has no {MODEL}/ yet: finish it")
        return beside
    if (path / "adapter_config.json").exists():
        raise UserError(f"{path} holds an adapter; give the merged model")
    if not (path / "config.json").exists():
        raise UserError(f"{path} has no config.json, so it is no model folder")
    if (path / "members").exists():
        raise UserError(f"{path} is an ensemble of reward models; give single ones")
    return path


def write_like(first: Path, averaged: Mapping[str, Tensor], folder: Path) -> None:
    """A folder with everything of ``first`` but its weights; it appears whole or not at all.

    Raises:
        UserError: When the disk is full or refuses.
    """
    with whole_folder(folder) as temporary:
        temporary.mkdir(parents=True)
        for file in sorted(first.iterdir()):
            if file.is_file() and not file.match(WEIGHTS) and file.name != INDEX:
                shutil.copy2(file, temporary / file.name)
        save_file(
            {name: tensor.contiguous() for name, tensor in averaged.items()},
            temporary / "model.safetensors",
            metadata={"format": "pt"},
        )
        _correct(temporary)


def _correct(folder: Path) -> None:
    """The precision in ``config.json`` is float32; no figures of the first reward model stay."""
    path = folder / "config.json"
    settings = _object(path)
    for name in ("dtype", "torch_dtype"):
        if name in settings:
            settings[name] = "float32"
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    record = folder / RECORD
    if record.exists():
        kept = {k: v for k, v in _object(record).items() if k in KEPT}
        record.write_text(to_json(kept, indent=2) + "\n", encoding="utf-8")


def _check_alike(config: SoupConfig) -> None:
    """The architectures, sizes and tokenizers agree.

    Raises:
        UserError: Which one differs from the first, and in what.
    """
    paths = [Path(model.path) for model in config.models]
    folders = [model_folder(path) for path in paths]
    settings = [_settings(folder) for folder in folders]
    words = [_vocabulary(folder) for folder in folders]
    for number in range(1, len(paths)):
        where = f"models.{number} ({paths[number]})"
        for name in sorted(settings[0].keys() | settings[number].keys()):
            here, there = settings[number].get(name), settings[0].get(name)
            if here != there:
                raise UserError(
                    f"{where}: {name} is {here!r:.60}, but {there!r:.60} in {paths[0]}; only "
                    "models of one architecture can be averaged"
                )
        if words[number] != words[0]:
            raise UserError(
                f"{where}: its tokenizer has other tokens than that of {paths[0]}; only models of "
                "one tokenizer can be averaged"
            )
    with ExitStack() as stack:
        _check_tensors(paths, [stack.enter_context(Tensors(path)) for path in paths])


def _check_tensors(paths: Sequence[Path], sources: Sequence[Tensors]) -> None:
    first = sources[0].shapes
    for path, source in zip(paths[1:], sources[1:], strict=True):
        for name in sorted(first.keys() | source.shapes.keys()):
            if first.get(name) != source.shapes.get(name):
                raise UserError(
                    f"{path}: {name} is {_shape(source.shapes.get(name))}, but "
                    f"{_shape(first.get(name))} in {paths[0]}; only equal shapes can be averaged"
                )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape)) or "a number"


def _settings(folder: Path) -> dict[str, Any]:
    settings = _object(folder / "config.json")
    return {name: value for name, value in settings.items() if name not in FREE}


def _vocabulary(folder: Path) -> Any:
    """What a tokenizer makes ids of: its tokens, added ones too, and its merges."""
    path = folder / "tokenizer.json"
    if not path.exists():
        others = sorted(folder.glob("vocab.*")) + sorted(folder.glob("*.model"))
        return [file.read_bytes() for file in others]
    tree = _object(path)
    added = {token["content"]: token["id"] for token in tree.get("added_tokens") or ()}
    model = tree.get("model") or {}
    return added, model.get("vocab"), model.get("merges")


def _object(path: Path) -> dict[str, Any]:
    try:
        return parse_object(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _is_within(path: str, unborn: str) -> bool:
    """Whether a path lies in the run folder whose result is not made yet."""
    return path.startswith(unborn.rpartition("/")[0] + "/")
