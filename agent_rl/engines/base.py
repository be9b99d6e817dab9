"""What every engine agrees on: a request, a completion, the protocol, its errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from agent_rl.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

FinishReason = Literal["stop", "length", "abort"]


class PromptTooLong(UserError):  # noqa: N818 - names the finding; callers end the episode on it
    """The context has no room for a single token after the prompt."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one completion is sampled.

    Logits are divided by the temperature, then truncated by top-k, top-p and min-p in that order,
    each on what the one before it kept.

    Attributes:
        max_tokens: Most tokens to sample, an ending token included.
        temperature: 0 is greedy: the most likely token, truncation without effect, and
            log-probabilities reported under temperature 1.
        top_p: Keep the most likely tokens until their probabilities reach this sum; 1 keeps all.
        top_k: Keep this many most likely tokens; 0 keeps all.
        min_p: Keep tokens at least this probable relative to the most likely one; 0 keeps all.
        stop_token_ids: Tokens that end the completion beside the engine's end-of-sequence tokens.
        stop: Strings that end the completion. Its tokens stay exactly as sampled, up to and
            including the one that completes the string.
        seed: Fixes the completion whatever else is in the batch. None: the engine counts up seeds
            of its own.
        min_tokens: No ending token is sampled, and no stop string looked for, before this many.

    Raises:
        UserError: When a value is out of its range.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop_token_ids: tuple[int, ...] = ()
    stop: tuple[str, ...] = ()
    seed: int | None = None
    min_tokens: int = 0

    def __post_init__(self) -> None:
        checks = (
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0 and math.isfinite(self.temperature), "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "0 (off) or more"),
            ("min_p", 0 <= self.min_p <= 1, "between 0 and 1"),
            ("min_tokens", 0 <= self.min_tokens <= self.max_tokens, "between 0 and max_tokens"),
            ("stop_token_ids", all(i >= 0 for i in self.stop_token_ids), "token ids of 0 or more"),
            ("stop", all(self.stop) and type(self.stop) is not str, "non-empty strings"),
        )
        for name, good, wanted in checks:
            if not good:
                raise UserError(f"sampling: {name} is {getattr(self, name)!r}; it must be {wanted}")


@dataclass(frozen=True, slots=True)
class Completion:
    """What the policy sampled.

    Attributes:
        token_ids: Exactly as sampled, the ending token included when one was sampled.
        logprobs: Natural-log probability of each token under the distribution it was drawn from:
            after temperature and truncation, renormalized (temperature 1 when greedy).
        finish_reason: "stop" (an ending token or stop string), "length" (``max_tokens``, or the
            context is full) or "abort" (the engine was closed).
        policy_version: Version of the weights that sampled it.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    policy_version: int = 0


@runtime_checkable
class Engine(Protocol):
    """Samples completions; batching happens inside."""

    @property
    def policy_version(self) -> int:
        """How often the weights were loaded since the engine was made."""
        ...

    @property
    def context_length(self) -> int:
        """Most tokens in a prompt and its completion together."""
        ...

    async def generate(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Sample a completion of a prompt.

        A request that would overrun the context is cut there, with ``finish_reason`` "length".

        Raises:
            PromptTooLong: When not even one token fits after the prompt.
            UserError: When the prompt is empty or holds an id outside the vocabulary.
        """
        ...

    def load_weights(self, state: Mapping[str, Tensor] | None) -> None:
        """Take new weights and raise ``policy_version`` by one; None where weights are shared.

        Raises:
            UserError: When names or shapes are not the model's, or a request is under way.
        """
        ...

    def close(self) -> None:
        """End every request with ``finish_reason`` "abort" and release the cache."""
        ...


def room(n_prompt: int, max_tokens: int, context_length: int) -> int:
    """Most tokens that a prompt of ``n_prompt`` tokens may be continued by.

    Raises:
        PromptTooLong: When that is none.
    """
    if n_prompt + 1 > context_length:
        raise PromptTooLong(
            f"the prompt has {n_prompt} tokens and the context {context_length}: no room for an "
            "answer; shorten the prompt or take a model with a longer context"
        )
    return min(max_tokens, context_length - n_prompt)
