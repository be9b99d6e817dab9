"""The trainable policy: log-probabilities, entropies and values of sampled tokens, nothing else.

The output layer runs only at positions that predict a sampled token: a hook before it selects them,
so whatever the model does after its output layer (scaling, soft caps) is kept. Log-softmax is in
float32 always (trap 32), under the temperature that sampled (trap 6).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agent_rl.attention import Attention, autocast
from agent_rl.critic import Critic
from agent_rl.packing import MicroBatch


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What the model says of K target tokens.

    Attributes:
        logprobs_k: [K] log-probability of each target.
        entropy_k: [K] entropy of the distribution it was drawn from, in nats.
        values_k: [K] value of the state before it; None without a critic.
        log_softmax_kv: [K, V] the whole log-distribution; None unless asked for.
    """

    logprobs_k: Tensor
    entropy_k: Tensor
    values_k: Tensor | None
    log_softmax_kv: Tensor | None


class Policy:
    """A causal language model, perhaps with a critic that says what each state is worth.

    Args:
        model: A transformers causal language model.
        temperature: Logits are divided by it, as the sampler does; must be positive.
        compute: Precision of the forward pass; bfloat16 means autocast.
        critic: Gives the values; None for none.

    Raises:
        UserError: For layers, or an attention implementation, that take no 4-D mask.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        temperature: float = 1.0,
        compute: torch.dtype = torch.float32,
        critic: Critic | None = None,
    ) -> None:
        self.model = model
        self.temperature = temperature
        self.compute = compute
        self.critic = critic
        self._attention = Attention(model)

    def score(
        self, micro: MicroBatch, *, entropy_grad: bool = False, full: bool = False
    ) -> TokenScores:
        """Scores of the micro-batch's K targets, in its own order (``micro.slots`` places them).

        Args:
            micro: What to read.
            entropy_grad: Let the entropy carry a gradient (an entropy bonus is in the loss).
            full: Return the whole log-distribution too.
        """
        with (
            autocast(self.model, self.compute),
            _select_at_head(self.model, micro.select) as hidden,
        ):
            logits = self.model(
                input_ids=micro.input_ids,
                position_ids=micro.position_ids,
                attention_mask=self._attention.masks(micro),
                use_cache=False,
            ).logits
        logits_kv = logits.float().reshape(len(micro.select), -1) / self.temperature
        log_softmax_kv = torch.log_softmax(logits_kv, dim=-1)
        logprobs_k = log_softmax_kv.gather(1, micro.targets[:, None])[:, 0]
        with contextlib.nullcontext() if entropy_grad else torch.no_grad():
            entropy_k = -(log_softmax_kv.exp() * log_softmax_kv).sum(-1)
        values_k = None if self.critic is None else self.critic.values(micro, hidden[0])
        return TokenScores(logprobs_k, entropy_k, values_k, log_softmax_kv if full else None)

    @torch.no_grad()
    def score_all(self, micros: list[MicroBatch]) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities and values of all targets, in the flat order, without gradient."""
        total = micros[0].n_targets if micros else 0
        logprobs = torch.zeros(total)
        values = torch.zeros(total) if self.critic is not None else None
        for micro in micros:
            scores = self.score(micro)
            logprobs[micro.slots] = scores.logprobs_k
            if values is not None and scores.values_k is not None:
                values[micro.slots] = scores.values_k
        return logprobs, values

    @torch.no_grad()
    def values_all(self, micros: list[MicroBatch]) -> Tensor | None:
        """The values alone; the policy is not run where its critic is a network of its own."""
        if self.critic is None or self.critic.reads_policy:
            return None if self.critic is None else self.score_all(micros)[1]
        values = torch.zeros(micros[0].n_targets if micros else 0)
        for micro in micros:
            values[micro.slots] = self.critic.values(micro)
        return values

    def parameters(self) -> Iterator[nn.Parameter]:
        """Everything that trains."""
        yield from (p for p in self.model.parameters() if p.requires_grad)
        if self.critic is not None:
            yield from self.critic.module.parameters()


@contextmanager
def _select_at_head(model: nn.Module, select: Tensor) -> Iterator[list[Tensor]]:
    """While open, the output layer sees only the selected positions; yields their hidden states."""
    kept: list[Tensor] = []

    def choose(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = args[0].reshape(-1, args[0].shape[-1])[select]
        kept.append(hidden)
        return (hidden[None], *args[1:])

    head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]
    handle = head.register_forward_pre_hook(choose)
    try:
        yield kept
    finally:
        handle.remove()
