"""Reward model folders: transformers' own, with tokenizer, chat template and ``reward_model.json``.

The folder of an ensemble is that of its first member; the others are in ``members/1``, ....
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from agent_rl import models
from agent_rl.chat import Chat, NoChatTemplate
from agent_rl.errors import UserError
from agent_rl.reward_models.model import RewardModel, Standing
from agent_rl.runs.files import parse_object, to_json
from agent_rl.settings import SettingError, construct

RECORD = "reward_model.json"
MEMBERS = "members"
HEAD = "score.weight"


def load_reward_model(
    path: str | Path,
    *,
    device: str | torch.device | None = None,
    compute: torch.dtype = torch.float32,
    dtype: torch.dtype = torch.float32,
) -> RewardModel:
    """A reward model from a folder or a hub id, ready to score.

    Any transformers sequence-classification model of one label whose head is called ``score`` is
    one, if its tokenizer has a chat template.

    Args:
        path: The folder, or a hub id.
        device: Where to put it; None for the CPU.
        compute: Precision of the forward pass; bfloat16 means autocast.
        dtype: Precision of the weights; bfloat16 halves the memory of a large one.

    Raises:
        UserError: There is no such model, it has no head or more labels than one, it is an adapter,
            a file is damaged, or there is no chat template.
    """
    path = str(path)
    chat = check_folder(path)
    network = _network(path, dtype)
    if device is not None:
        network.to(device)
    own, ensemble = read_record(path)
    others = []
    if ensemble is not None:
        folders = [Path(path) / MEMBERS / str(n) for n in range(1, ensemble.members)]
        others = [
            load_reward_model(f, device=device, compute=compute, dtype=dtype) for f in folders
        ]
    return RewardModel(
        network, chat, own, compute=compute, name=path, members=others, ensemble=ensemble
    )


def check_folder(path: str) -> Chat:
    """What can be told without reading the weights; returns the chat template.

    Raises:
        UserError: As ``load_reward_model``.
    """
    folder = Path(path)
    if (folder / "adapter_config.json").exists():
        raise UserError(f"{path} holds an adapter; merge it into its model and give that folder")
    if folder.exists() and not (folder / "config.json").exists():
        raise UserError(f"{path} has no config.json, so it is no reward model")
    config = _pretrained(AutoConfig, path)
    kinds = list(getattr(config, "architectures", None) or ())
    if kinds and not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise UserError(
            f"{path} is a {kinds[0]} and has no reward head; train one with the stage reward_model"
        )
    if config.num_labels != 1:
        raise UserError(
            f"{path} is a classifier of {config.num_labels} labels; a reward model has one"
        )
    read_record(path)
    return _chat(path)


def has_head(path: str) -> bool:
    """Whether a folder holds a sequence classifier (and not a policy)."""
    file = Path(path) / "config.json"
    if not file.is_file():
        return False
    kinds = parse_object(file.read_text(encoding="utf-8"), str(file)).get("architectures") or ()
    return any(str(kind).endswith("ForSequenceClassification") for kind in kinds)


def read_record(path: str) -> tuple[Standing, Standing | None]:
    """The model's own standing, and the ensemble's where it is the first member of one.

    Raises:
        UserError: When ``reward_model.json`` is damaged.
    """
    file = Path(path) / RECORD
    if not file.exists():
        return Standing(), None
    try:
        tree = parse_object(file.read_text(encoding="utf-8"), str(file))
        first = tree.pop("first_member", None)
        names = {field.name for field in dataclasses.fields(Standing)}
        read = [
            construct(Standing, {k: v for k, v in part.items() if k in names})
            for part in (tree, first)
            if part is not None
        ]
    except (OSError, UnicodeDecodeError, AttributeError, SettingError) as error:
        raise UserError(f"{file} is damaged: {error}; train the reward model again") from error
    for standing in read:
        if not (math.isfinite(standing.mean) and 0 < standing.std < math.inf):
            raise UserError(
                f"{file} is damaged: mean {standing.mean:g}, std {standing.std:g} (which must be "
                "above 0); train the reward model again"
            )
    return (read[0], None) if first is None else (read[1], read[0])


def save_reward_model(model: RewardModel, folder: Path, figures: Mapping[str, Any] = {}) -> None:
    """Write a folder that ``load_reward_model`` and transformers read; whole or not at all.

    Args:
        model: What to write; adapters are merged in.
        folder: Where; a folder that was there before is replaced.
        figures: More for ``reward_model.json``, such as the report.

    Raises:
        UserError: When the disk is full or refuses.
    """
    with models.whole_folder(folder) as temporary:
        _write(model, temporary, figures)


def _write(model: RewardModel, folder: Path, figures: Mapping[str, Any]) -> None:
    plain: Any = model.network
    if model.trained is not model.network:
        plain = copy.deepcopy(model.trained).merge_and_unload()  # type: ignore[operator]
    plain.save_pretrained(folder, safe_serialization=True)
    tokenizer = copy.deepcopy(model.chat.tokenizer)
    if plain.config.pad_token_id is not None:  # never the end token; see building.padding_id
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(plain.config.pad_token_id)
    tokenizer.save_pretrained(folder)
    record = dataclasses.asdict(model.standing)
    if model.ensemble is not None:
        record = {**dataclasses.asdict(model.ensemble), "first_member": record}
    (folder / RECORD).write_text(to_json({**record, **figures}, indent=2) + "\n", encoding="utf-8")
    for number, member in enumerate(model.members, start=1):
        _write(member, folder / MEMBERS / str(number), {})


def _network(path: str, dtype: torch.dtype) -> Any:
    """The weights.

    Raises:
        UserError: When some are missing: transformers would make them up.
    """
    with _silent():
        network, found = _pretrained(
            AutoModelForSequenceClassification, path, dtype=dtype, output_loading_info=True
        )
    missing = sorted(found["missing_keys"])
    if HEAD in missing:
        raise UserError(
            f"{path} has no reward head ({HEAD} is not among its weights), and a random one scores "
            "nothing; train it with the stage reward_model"
        )
    if missing:
        raise UserError(f"{path} is damaged: {missing[0]} is not among its weights")
    if not hasattr(network, "score"):
        raise UserError(
            f"{path} is a {type(network).__name__}, whose head does not read the last token; only "
            "causal models with a head called `score` are scored"
        )
    return network.eval().requires_grad_(False)


def _chat(path: str) -> Chat:
    try:
        return Chat(_pretrained(AutoTokenizer, path))
    except NoChatTemplate as error:
        raise UserError(
            f"{path} has no chat template, so its conversations cannot be written as in its "
            "training; put the template it was trained with into chat_template.jinja there"
        ) from error


def _pretrained(kind: Any, path: str, **options: Any) -> Any:
    """``kind.from_pretrained`` of a local folder or a hub id.

    Raises:
        UserError: When it cannot be loaded.
    """
    local = Path(path).exists()
    if not local and (path.startswith((".", "/", "~")) or len(Path(path).parts) > 2):
        raise UserError(f"there is no reward model folder {path}")
    offline = local or not models.hub_has_an_address()
    try:
        return kind.from_pretrained(path, local_files_only=offline, **options)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        start = "" if local else "there is no such folder here, and as a hub id: "
        first = str(error).strip().splitlines()[0]
        raise UserError(f"cannot load the reward model {path}: {start}{first}") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keep transformers quiet about weights it made up: they are refused in one line."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)
