"""The embedded engine: continuous batching over any transformers causal language model."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from agent_rl.engines.base import Completion, Sampling, room
from agent_rl.engines.decoder import Decoder, attention_windows
from agent_rl.engines.rows import Request
from agent_rl.engines.sampling import stream_key
from agent_rl.engines.scheduler import Scheduler
from agent_rl.engines.stops import StopStrings
from agent_rl.engines.weights import has_dtype, load_state, private_copy
from agent_rl.errors import UserError


class TorchEngine:
    """Samples from a transformers model in this process, in the caller's event loop.

    Requests that arrive in one pass of the loop start together; finished rows leave and waiting
    requests enter after every token. The same requests in the same order give the same tokens and
    log-probabilities bit for bit: once idle, the engine keeps nothing but its version and its
    counter of seeds. There is no thread; other tasks of the loop run between two tokens.

    Args:
        model: A causal language model; its forward takes ``past_key_values``, ``position_ids``, a
            4-D ``attention_mask`` and ``logits_to_keep``. Layers attend to all earlier positions or
            to a sliding window of them.
        eos_token_ids: Tokens that end a completion. They are kept in it.
        tokenizer: Needed for stop strings only.
        max_batch: Most rows decoded at once; more requests wait.
        dtype: None, or the model's own type: the engine generates with the very parameters of
            ``model``, and training in place is seen at once. Another type: it keeps a copy.
        cache_tokens: Most positions of the key-value cache, rows times the longest row (one request
            always runs). None: ``max_batch`` is the only bound.
        prefill_tokens: Most positions of one forward pass over prompts.

    Raises:
        UserError: When the model does not state its context or has layers that are not served.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        eos_token_ids: Sequence[int],
        tokenizer: Any = None,
        max_batch: int = 256,
        dtype: torch.dtype | None = None,
        cache_tokens: int | None = None,
        prefill_tokens: int = 4096,
    ) -> None:
        self._windows = attention_windows(model)
        self._context_length = _context_length(model)
        shared = dtype is None or has_dtype(model, dtype)
        self._source = model
        self._model = model if dtype is None or shared else private_copy(model, dtype)
        self._eos = tuple(eos_token_ids)
        self._tokenizer = tokenizer
        self._max_batch = max_batch
        self._cache_tokens = cache_tokens
        self._prefill_tokens = prefill_tokens
        embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
        self._vocabulary: int = embedding.weight.shape[0]
        self._version = 0
        self._seeds = 0
        self._stops: dict[tuple[str, ...], StopStrings] = {}
        self._scheduler: Scheduler | None = None

    @property
    def policy_version(self) -> int:
        """How often the weights were loaded since the engine was made."""
        return self._version

    @property
    def context_length(self) -> int:
        """Most tokens in a prompt and its completion together."""
        return self._context_length

    async def generate(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Sample a completion of a prompt. Cancelling the call frees its place in the batch.

        Raises:
            PromptTooLong: When not even one token fits after the prompt.
            UserError: When the prompt is empty or holds an id outside the vocabulary, or stop
                strings are asked of an engine without a tokenizer.
            FloatingPointError: When the model's logits are NaN or infinite.
        """
        request = self._request(token_ids, sampling)
        if self._scheduler is None or not self._scheduler.accepts:
            self._scheduler = Scheduler(
                Decoder(self._model, self._windows, self._prefill_tokens),
                self._model,
                max_batch=self._max_batch,
                cache_tokens=self._cache_tokens,
                version=self._version,
            )
        return await self._scheduler.complete(request)

    def load_weights(self, state: Mapping[str, Tensor] | None = None) -> None:
        """Take new weights and raise ``policy_version`` by one.

        Args:
            state: Weights by name, as in the model's ``state_dict``. None: those of the model that
                the engine was made from, as they are now.

        Raises:
            UserError: When names or shapes are not the model's, or a request is under way (its
                tokens would come from two policies).
        """
        under_way = len(self._scheduler) if self._scheduler is not None else 0
        if under_way:
            raise UserError(f"load_weights while {under_way} requests are under way; await them")
        self.close()
        if state is not None:
            load_state(self._model, state)
        elif self._model is not self._source:
            load_state(self._model, self._source.state_dict())
        self._version += 1

    def close(self) -> None:
        """End every request with ``finish_reason`` "abort" and release the cache."""
        if self._scheduler is not None:
            self._scheduler.abort()
            self._scheduler = None

    def _request(self, token_ids: Sequence[int], sampling: Sampling) -> Request:
        prompt = tuple(token_ids)
        if not prompt:
            raise UserError("the prompt has no tokens; begin it with the beginning-of-text token")
        if min(prompt) < 0 or max(prompt) >= self._vocabulary:
            raise UserError(
                f"the prompt holds token ids from {min(prompt)} to {max(prompt)}; "
                f"the model has 0 to {self._vocabulary - 1}"
            )
        stops = None
        if sampling.stop:
            if self._tokenizer is None:
                raise UserError("sampling.stop needs an engine with a tokenizer, or stop_token_ids")
            strings = tuple(sampling.stop)
            stops = self._stops.setdefault(strings, StopStrings(self._tokenizer, strings))
        seed = sampling.seed
        if seed is None:
            seed, self._seeds = self._seeds, self._seeds + 1
        return Request(
            prompt,
            sampling,
            room(len(prompt), sampling.max_tokens, self._context_length),
            stream_key(seed),
            tuple(dict.fromkeys((*self._eos, *sampling.stop_token_ids))),
            stops,
            asyncio.get_running_loop().create_future(),
        )


def _context_length(model: nn.Module) -> int:
    whole: Any = model.config
    config = whole.get_text_config()
    length = getattr(config, "max_position_embeddings", None)
    if not length:
        raise UserError(f"{type(model).__name__} does not say how long its context is")
    return int(length)
