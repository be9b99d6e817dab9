"""Models and tokenizers: load, build small ones, adapt, save."""

from __future__ import annotations

import copy
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants
from safetensors import SafetensorError, safe_open
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from agent_rl.chat import Chat
from agent_rl.config import LoRA, ModelConfig, TinyModel
from agent_rl.errors import UserError

logging.disable_progress_bar()  # they write over ours

TINY_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'tool' %}<result>{{ m['content'] }}</result>"
    "{% else %}{{ m['content'] }}{% endif %}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
PRINTABLE = "".join(map(chr, range(32, 127))) + "\n"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load(config: ModelConfig, seed: int) -> tuple[nn.Module, Chat]:
    """A causal language model with float32 master weights, and its chat template.

    Args:
        config: Either ``path`` or ``tiny`` is set.
        seed: Fixes the random weights of a tiny model and of new adapters.

    Raises:
        UserError: When there is no such model, or it has no chat template.
    """
    if (config.path is None) == (config.tiny is None):
        raise UserError("model: give either path (a folder or hub id) or tiny (its sizes)")
    torch.manual_seed(seed)
    if config.tiny is not None:
        tokenizer = tiny_tokenizer(config.tiny)
        model: nn.Module = tiny_model(config.tiny, len(tokenizer), tokenizer)
    else:
        assert config.path is not None
        model, tokenizer = _from_pretrained(config.path)
    chat = Chat(tokenizer, config.chat_template, _listed_end_ids(model), history=config.history)
    if config.lora is not None:
        model = add_lora(model, config.lora)
    return model.eval(), chat


def load_chat(config: ModelConfig) -> Chat:
    """The chat template alone, without the weights.

    Raises:
        UserError: When there is no such model, or it has no chat template.
    """
    if config.tiny is not None:
        return Chat(tiny_tokenizer(config.tiny), config.chat_template, history=config.history)
    if config.path is None:
        raise UserError("model: give either path (a folder or hub id) or tiny (its sizes)")
    tokenizer = _loaded(AutoTokenizer, config.path)
    return Chat(tokenizer, config.chat_template, history=config.history)


def check(config: ModelConfig) -> None:
    """What ``load`` would refuse, told without reading the weights (their headers only).

    Raises:
        UserError: When there is no such model, its files are damaged, or it has no chat template.
    """
    if config.chat_template is not None and not Path(config.chat_template).is_file():
        raise UserError(f"model.chat_template: there is no file {config.chat_template}")
    if config.path is None:
        return
    load_chat(config)
    for file in sorted(Path(config.path).glob("*.safetensors")):
        try:
            with safe_open(file, "pt"):
                pass
        except (OSError, SafetensorError) as error:
            raise UserError(f"model.path: cannot load {file}: {error}") from error


def _from_pretrained(path: str) -> tuple[nn.Module, Any]:
    tokenizer = _loaded(AutoTokenizer, path)
    return _loaded(AutoModelForCausalLM, path, dtype=torch.float32), tokenizer


def _loaded(kind: Any, path: str, **options: Any) -> Any:
    """``kind.from_pretrained`` of a local folder or a hub id.

    Raises:
        UserError: When it cannot be loaded.
    """
    folder = Path(path)
    hub_id = len(folder.parts) <= 2 and not path.startswith((".", "/", "~"))
    if not folder.exists() and not hub_id:
        raise UserError(f"model.path: there is no folder {path}")
    if (folder / "adapter_config.json").exists():
        raise UserError(f"model.path: {path} holds an adapter; give the merged model")
    if folder.exists() and not (folder / "config.json").exists():
        raise UserError(f"model.path: {path} has no config.json, so it is no model folder")
    if kind is AutoModelForCausalLM and (folder / "reward_model.json").exists():
        raise UserError(f"model.path: {path} is a reward model; give a language model")
    offline = folder.exists() or not hub_has_an_address()
    try:
        return kind.from_pretrained(path, local_files_only=offline, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        start = "" if folder.exists() else "there is no such folder here, and as a hub id: "
        first = str(error).strip().splitlines()[0]
        raise UserError(f"model.path: cannot load {path}: {start}{first}") from error


@cache
def hub_has_an_address() -> bool:
    """Whether it is worth asking: without a network it would be asked again for a minute."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return True
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def tiny_tokenizer(config: TinyModel) -> PreTrainedTokenizerFast:
    """One token per character, whole tokens for ``config.tokens``, and pad, bos, eos, unknown."""
    special = ["<pad>", "<bos>", "<eos>", "<unk>"]
    characters = PRINTABLE if config.characters == "printable" else config.characters
    words = [*special, *config.tokens, *dict.fromkeys(characters)]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in config.tokens])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
    )
    fast.chat_template = TINY_TEMPLATE
    return fast


def tiny_model(config: TinyModel, vocabulary: int, tokenizer: Any) -> LlamaForCausalLM:
    """A random Llama of the given sizes, embeddings tied."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.context,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def add_lora(model: nn.Module, config: LoRA) -> nn.Module:
    """Wrap a model in trainable low-rank adapters; its base weights are frozen."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - only LoRA runs need peft

    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=config.targets,
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, settings)


def is_lora(model: nn.Module) -> bool:
    """Whether the model carries peft adapters."""
    return hasattr(model, "disable_adapter")


def frozen_copy(model: nn.Module) -> nn.Module:
    """An independent copy in evaluation mode whose weights take no gradient."""
    twin = copy.deepcopy(model).eval()
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    return twin


def end_token_ids(model: nn.Module, chat: Chat) -> tuple[int, ...]:
    """Every id that ends a turn: the tokenizer's, and those of the generation configuration."""
    return tuple(sorted({*chat.end_ids, *_listed_end_ids(model)}))


def _listed_end_ids(model: nn.Module) -> list[int]:
    listed = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if listed is None:
        return []
    return list(listed) if isinstance(listed, list) else [listed]


def context_length(model: nn.Module) -> int:
    """Longest sequence the model takes, in tokens."""
    config: Any = model.config
    for name in ("max_position_embeddings", "n_positions"):
        if getattr(config, name, None):
            return int(getattr(config, name))
    raise UserError(f"{type(model).__name__} does not say how long its context is")


def save(model: nn.Module, chat: Chat, folder: Path) -> None:
    """Write a plain transformers folder (adapters merged in) that ``load`` and others read.

    It appears whole or not at all; one that was there before is replaced.

    Raises:
        UserError: When the disk is full or refuses.
    """
    plain: Any = model
    if is_lora(model):
        plain = copy.deepcopy(model).merge_and_unload()  # type: ignore[operator]
    with whole_folder(folder) as temporary:
        plain.save_pretrained(temporary, safe_serialization=True)
        chat.tokenizer.save_pretrained(temporary)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to write a model into; at the end it takes the place of ``folder``.

    What was there before stays until then, and stays where writing fails.

    Raises:
        UserError: When the disk is full or refuses.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a killed run with our process number
        yield temporary
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"cannot write the model {folder}: {first}; free some space, then go on with --resume"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
