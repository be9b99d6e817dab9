"""What KL regularization holds on to: a frozen copy, the base under LoRA, or a refreshed one."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from agent_rl.models import frozen_copy, is_lora
from agent_rl.packing import MicroBatch
from agent_rl.policy import Policy


class Reference:
    """Log-probabilities under the reference, computed on the very path the policy uses.

    With LoRA the base weights are the reference and nothing is copied; otherwise the weights at
    construction are, until ``refresh``.

    Args:
        policy: Whose reference this is.
        refreshable: The reference will be replaced while training, so LoRA needs a copy too.
    """

    def __init__(self, policy: Policy, *, refreshable: bool = False) -> None:
        self._adapters_off = is_lora(policy.model) and not refreshable
        model = policy.model if self._adapters_off else frozen_copy(policy.model)
        self._policy = Policy(model, temperature=policy.temperature, compute=policy.compute)

    @torch.no_grad()
    def logprobs(self, micros: list[MicroBatch]) -> Tensor:
        """[targets] log-probability of every target, in the flat order."""
        with self._base():
            return self._policy.score_all(micros)[0]

    @torch.no_grad()
    def log_softmax(self, micro: MicroBatch) -> Tensor:
        """[K, V] the whole log-distribution at each of the micro-batch's targets."""
        with self._base():
            full = self._policy.score(micro, full=True).log_softmax_kv
        assert full is not None
        return full

    def refresh(self, policy: Policy) -> None:
        """Make the present policy the reference."""
        self._policy.model.load_state_dict(policy.model.state_dict())

    def state_dict(self) -> dict[str, Tensor]:
        """The weights, where they are not the starting model's own."""
        return {} if self._adapters_off else dict(self._policy.model.state_dict())

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put back what ``state_dict`` gave."""
        if state:
            self._policy.model.load_state_dict(state)

    def _base(self) -> Any:
        if not self._adapters_off:
            return contextlib.nullcontext()
        return self._policy.model.disable_adapter()  # type: ignore[operator]
