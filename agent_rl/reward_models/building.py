"""A language model becomes a reward model: a fresh scalar head in place of its output layer."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from agent_rl import models
from agent_rl.chat import Chat
from agent_rl.config import LoRA, ModelConfig
from agent_rl.errors import UserError
from agent_rl.reward_models.folder import has_head, load_reward_model
from agent_rl.reward_models.model import PLAIN, RewardModel, Standing


def from_policy(
    config: ModelConfig,
    seed: int,
    standing: Standing = PLAIN,
    *,
    head_std: float | None = None,
) -> RewardModel:
    """A causal language model with a fresh scalar head in place of its output layer.

    Args:
        config: The base or instruction-tuned model, or the sizes of a tiny one; a reward model's
            folder goes on with the head it has.
        seed: Fixes a tiny model's weights, new adapters and the head.
        standing: Its kind, and how it scores.
        head_std: Standard deviation of the head's weights; None for 1 / sqrt(width + 1)
            (Stiennon et al. 2020), 0 for zeros.

    Raises:
        UserError: When there is no such model, it has no chat template, or its family has no
            sequence classifier.
    """
    compute = models.DTYPES[config.compute]
    if config.path is not None and has_head(config.path):
        model = load_reward_model(config.path, compute=compute)
        model.network.requires_grad_(True)
        model.standing, model.members, model.ensemble = standing, (), None
        torch.manual_seed(seed)
    else:
        causal, chat = models.load(replace(config, lora=None), seed)
        torch.manual_seed(seed)
        network = _with_head(causal, chat, head_std)
        model = RewardModel(network, chat, standing, compute=compute, name=config.path or "tiny")
    if config.lora is not None:
        model.trained = add_lora(model.network, config.lora)
        model.network = model.trained.get_base_model()  # type: ignore[operator]
    model.network.eval()
    return model


def _with_head(causal: Any, chat: Chat, head_std: float | None) -> nn.Module:
    """A sequence classifier of one label with the backbone of a causal model."""
    from transformers import AutoModelForSequenceClassification  # noqa: PLC0415

    settings = copy.deepcopy(causal.config)
    settings.num_labels = 1
    settings.problem_type = None
    settings.pad_token_id = padding_id(chat)
    try:
        network = AutoModelForSequenceClassification.from_config(settings, dtype=torch.float32)
    except ValueError as error:
        raise UserError(
            f"model: {type(causal).__name__} has no sequence classifier in transformers, so it "
            "cannot become a reward model; take another family"
        ) from error
    if not isinstance(getattr(network, "score", None), nn.Linear):
        raise UserError(
            f"model: {type(network).__name__} has no head called `score`; take a causal model "
            "such as Llama, Qwen, SmolLM or GPT-2"
        )
    network.base_model.load_state_dict(causal.base_model.state_dict())
    head = network.score
    std = 1 / math.sqrt(head.in_features + 1) if head_std is None else head_std
    nn.init.normal_(head.weight, std=std) if std else nn.init.zeros_(head.weight)
    if head.bias is not None:
        nn.init.zeros_(head.bias)
    return network


def padding_id(chat: Chat) -> int | None:
    """An id that pads but never ends a conversation; None where the tokenizer has none.

    transformers finds the last token by looking for what is not padding. Where the padding is the
    end token, as in SmolLM2, it reads the token before the end; so another one is written into the
    folder, and other programs read the same token as we do.
    """
    tokenizer = chat.tokenizer
    written = {*chat.end_ids, *chat.prompt_ids([{"role": "user", "content": "?"}])}
    known = [tokenizer.pad_token_id, tokenizer.unk_token_id, *tokenizer.all_special_ids]
    known += tokenizer.added_tokens_decoder
    free = [i for i in known if i is not None and i not in chat.end_ids]
    return next((i for i in free if i not in written), free[0] if free else None)


def add_lora(network: Any, config: LoRA) -> nn.Module:
    """A classifier in peft's wrapper: adapters and the head train, the rest is frozen."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415

    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=config.targets,
        lora_dropout=0.0,
        task_type="SEQ_CLS",
        modules_to_save=["score"],
    )
    wrapped: nn.Module = get_peft_model(network, settings)
    return wrapped
