"""A key-value cache of slots: rows of different lengths, entering and leaving at any time.

Keys and values of layer l are one tensor [slots, heads, length, dim]. Slots 0..n-1 are the rows
being decoded, without holes, so that attention reads a view and nothing is copied. What lies past a
row's length is finite leftovers that the mask hides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

_ROUND = 64


@dataclass(slots=True)
class Window:
    """Where the coming forward pass writes, and how far it reads.

    Attributes:
        first: First slot of the pass.
        start: Position of the first new key: one number for all rows, or a tensor [rows] (then the
            pass is one token long).
        width: Number of positions that attention reads.
        slots: Slots to provide for when a layer allocates.
        capacity: Positions to provide for when a layer allocates.
    """

    first: int = 0
    start: int | Tensor = 0
    width: int = 0
    slots: int = 0
    capacity: int = 0


class SlotLayer(CacheLayerMixin):
    """Keys and values of one attention layer."""

    is_sliding = False

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.window = window

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate for the shapes of the first keys and values. Zeros: masked NaN would spread."""
        self.keys, self.values = (
            new.new_zeros(self.window.slots, new.shape[1], self.window.capacity, new.shape[3])
            for new in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write [rows, heads, tokens, dim] where the window says; return views of what is read."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self._write(self.keys, key_states), self._write(self.values, value_states)

    def _write(self, store: Tensor, new: Tensor) -> Tensor:
        at = self.window
        rows, tokens = new.shape[0], new.shape[2]
        view = store[at.first : at.first + rows]
        if isinstance(at.start, Tensor):
            view[torch.arange(rows, device=new.device), :, at.start] = new[:, :, 0]
        else:
            view[:, :, at.start : at.start + tokens] = new
        return view[:, :, : at.width]

    def grow(self) -> None:
        """Move to larger tensors."""
        if self.is_initialized:
            self.keys, self.values = (self._grown(old) for old in (self.keys, self.values))

    def _grown(self, old: Tensor) -> Tensor:
        new = old.new_zeros(self.window.slots, old.shape[1], self.window.capacity, old.shape[3])
        new[: old.shape[0], :, : old.shape[2]] = old
        return new

    def copy(self, sources: Tensor, targets: Tensor, length: int) -> None:
        """Copy the first ``length`` positions of slots to other slots."""
        for store in (self.keys, self.values) if self.is_initialized else ():
            store[targets, :, :length] = store[sources, :, :length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that attention reads, and where they start (the engine gives its own masks)."""
        return self.window.width, 0

    def get_seq_length(self) -> int:
        """Positions before the new ones; used by models only to make up what the engine gives."""
        return self.window.width

    def get_max_length(self) -> int:
        """No fixed maximum."""
        return -1


class SlotCache(Cache):
    """One ``SlotLayer`` per attention layer, made as the model asks for them."""

    def __init__(self) -> None:
        self.window = Window()
        super().__init__(layer_class_to_replicate=lambda: SlotLayer(self.window))

    def reserve(self, slots: int, length: int) -> None:
        """Make room for ``slots`` rows of ``length`` positions; grows by half at least."""
        at = self.window
        if slots <= at.slots and length <= at.capacity:
            return
        if slots > at.slots:
            at.slots = max(slots, at.slots * 3 // 2)
        if length > at.capacity:
            at.capacity = -(-max(length, at.capacity * 3 // 2) // _ROUND) * _ROUND
        for layer in self.layers:
            layer.grow()

    def copy(self, sources: list[int], targets: list[int], length: int) -> None:
        """Copy the first ``length`` positions of slots to other slots, in every layer."""
        for layer in self.layers if sources and length else ():
            device = layer.keys.device
            layer.copy(
                torch.tensor(sources, device=device), torch.tensor(targets, device=device), length
            )

    def release(self) -> None:
        """Give all memory back. The next burst starts as the first did, bit for bit."""
        self.layers.clear()
        self.window.slots = self.window.capacity = 0
