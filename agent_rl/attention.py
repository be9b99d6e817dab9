"""What a micro-batch's attention may look at, in the form that a model's layers take it."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from agent_rl.engines.decoder import attention_windows
from agent_rl.packing import MicroBatch


class Attention:
    """Makes a model's masks from a micro-batch's.

    Args:
        model: A transformers model.

    Raises:
        UserError: For layers, or an attention implementation, that take no 4-D mask.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._windows = attention_windows(model)

    def masks(self, micro: MicroBatch) -> Tensor | dict[str, Tensor]:
        """The mask of each kind of attention layer; a single one where there is one kind."""
        at = micro.position_ids[:, None]
        apart = at[..., :, None] - at[..., None, :]
        masks = {
            kind: self._readable(micro.mask if window is None else micro.mask & (apart < window))
            for kind, window in self._windows.items()
        }
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _readable(self, mask: Tensor) -> Tensor:
        """As the model's attention takes it: eager adds it, so a boolean would hide nothing."""
        config: Any = self._model.config
        if config.get_text_config()._attn_implementation == "sdpa":
            return mask
        blank = torch.zeros(mask.shape, dtype=next(self._model.parameters()).dtype)
        return blank.to(mask.device).masked_fill_(~mask, -torch.inf)


def autocast(model: nn.Module, compute: torch.dtype) -> Any:
    """The context in which a model computes in a precision; float32 needs none."""
    if compute == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(next(model.parameters()).device.type, dtype=compute)
