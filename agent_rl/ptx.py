"""PPO-ptx: the likelihood of pretraining or supervised data beside the policy gradient.

Ouyang et al. 2022, arXiv:2203.02155, equation 2 and appendix C.4: in every update the gradient of
``coef * E log pi(x)`` over such data is added to that of PPO, against what RL makes a model forget.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import nn

from agent_rl import models
from agent_rl.chat import Chat
from agent_rl.config import DataConfig, ModelConfig, PTXConfig, SFTConfig
from agent_rl.errors import UserError
from agent_rl.packing import pack
from agent_rl.policy import Policy
from agent_rl.rollout import seed_of
from agent_rl.stages import alphabet
from agent_rl.stages.examples import (
    Demonstrations,
    Examples,
    check_data,
    examples_of,
    train_split,
)
from agent_rl.trajectory import Segment
from rl_envs import load_rows

STREAM = 50_021  # mixed into the seed, so that the batches are those of no other stream
TEXT, CONVERSATION = "text", ("prompt", "completion", "messages")
LOOKED_AT = 8  # documents whose characters are looked up, before anything is trained


class PTX:
    """Adds ``coef`` times the gradient of a fresh batch's mean negative log-likelihood.

    The mean is per trained token of the batch, as in the stage ``sft``, at temperature 1. A batch
    is a function of the seed and the number of the update, so a resumed run draws the same ones.

    Args:
        config: Data, coefficient, batch size.
        model: The policy's.
        chat: Makes ids.
        compute: Precision of the forward pass.
        micro_tokens: Most positions in one forward pass.
        seed: Of the run.
    """

    def __init__(
        self,
        config: PTXConfig,
        model: nn.Module,
        chat: Chat,
        *,
        compute: torch.dtype = torch.float32,
        micro_tokens: int = 8192,
        seed: int = 0,
    ) -> None:
        self._config = config
        self._policy = Policy(model, compute=compute)
        self._micro_tokens = micro_tokens
        self._seed = seed
        self._examples = ptx_examples(config.data, chat, models.context_length(model))

    def batch(self, update: int) -> list[Segment]:
        """The examples of an update."""
        return self._examples.draw(seed_of(self._seed, STREAM, update), self._config.batch_size)

    def accumulate(self, update: int) -> float:
        """Add the gradient of an update's batch to what the parameters hold.

        Returns:
            The mean negative log-likelihood per trained token, without the coefficient. With a
            coefficient of 0 it is measured and no gradient made.
        """
        segments = self.batch(update)
        n_tokens = sum(len(segment.sampled) for segment in segments)
        coef, total = self._config.coef, 0.0
        for micro in pack(segments, micro_tokens=self._micro_tokens, share_prompts=False):
            with torch.set_grad_enabled(coef > 0):
                loss = -self._policy.score(micro).logprobs_k.sum() / n_tokens
            if coef > 0:
                (coef * loss).backward()
            total += loss.item()
        return total

    def close(self) -> None:
        """Give back what the examples hold."""
        self._examples.close()


def ptx_examples(data: DataConfig, chat: Chat, context: int) -> Examples:
    """The examples of a configuration: documents, conversations or demonstrations.

    Raises:
        UserError: Rows that are none, or of both kinds.
        DataError: A file or an environment that cannot be used.
    """
    if data.path is not None and (texts := _texts(data.path)):
        if alphabet.is_limited(chat):
            alphabet.refuse_unknown(chat, texts[:LOOKED_AT], data.path, "its documents are")
        return Documents(texts, chat, context)
    made = examples_of(data, train_split(data), chat, context)
    if isinstance(made, Demonstrations):
        made.refuse_unknown()
    return made


def check_ptx(data: DataConfig, unborn: Collection[str] = ()) -> None:
    """Whether there are examples of the right form; nothing is tokenized.

    Raises:
        UserError: A row that is no example.
        DataError: A file or an environment that cannot be used.
    """
    if data.path in unborn or (data.path is not None and _texts(data.path)):
        return
    check_data(SFTConfig(model=ModelConfig(), data=data, held_out=0))


def _texts(path: str) -> list[str]:
    """The column ``text`` of a file of documents; empty for one of conversations.

    Raises:
        UserError: Some rows are documents and some are not.
    """
    rows: list[Any] = list(load_rows(path))
    documents = [row.get(TEXT) if row.keys().isdisjoint(CONVERSATION) else None for row in rows]
    if not any(documents):
        return []
    for number, document in enumerate(documents, start=1):
        if not isinstance(document, str) or not document:
            raise UserError(
                f"{path}, row {number}: is no document (text: {document!r:.40}), but other rows "
                "are; put documents and conversations in files of their own"
            )
    return documents  # type: ignore[return-value]


class Documents:
    """Plain texts, every token of which is trained on, their end token included.

    One begins with the tokenizer's beginning-of-sequence token, where there is one; else its first
    token is given. A document longer than the context is a random window of it.

    Args:
        texts: The documents.
        chat: Makes ids.
        context: The longest window, in tokens.
    """

    def __init__(self, texts: list[str], chat: Chat, context: int) -> None:
        self._texts = texts
        self._chat = chat
        self._context = context

    def draw(self, seed: int, n: int) -> list[Segment]:
        """``n`` documents without repetition, as long as there are that many."""
        rng = np.random.default_rng(seed)
        size = len(self._texts)
        return [self._one(int(i), rng) for i in rng.choice(size, n, replace=n > size)]

    def close(self) -> None:
        """Nothing is held."""

    def _one(self, number: int, rng: np.random.Generator) -> Segment:
        tokenizer = self._chat.tokenizer
        start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        ids = [*start, *self._chat.encode(self._texts[number]), tokenizer.eos_token_id]
        first = int(rng.integers(max(1, len(ids) - self._context + 1)))
        window = tuple(ids[first : first + self._context])
        return Segment(window, tuple(range(1, len(window))), 1)
