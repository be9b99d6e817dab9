"""Weights from a trainer to an engine: every name known, every tensor written exactly once."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from agent_rl.errors import UserError


def private_copy(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy whose floating-point parameters have another type, in evaluation mode, gradient-free.

    Buffers keep theirs: rotary frequencies in bfloat16 would put every position slightly off.
    """
    twin = copy.deepcopy(model).eval()
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    return twin


def has_dtype(model: nn.Module, dtype: torch.dtype) -> bool:
    """Whether every floating-point parameter already has this type."""
    return all(p.dtype == dtype for p in model.parameters() if p.is_floating_point())


def load_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a state into a model, converting types; nothing is written unless all of it fits.

    Tensors that the model ties (an output layer and an embedding) are one: the state may hold any
    or all of their names, with equal values, and the tensor is written once.

    Raises:
        UserError: When a name is unknown or missing, a shape differs, or tied names disagree.
    """
    own = model.state_dict(keep_vars=True)
    unknown = [name for name in state if name not in own]
    if unknown:
        raise UserError(f"weights: {_some(unknown)} not in the engine's {type(model).__name__}")
    tied: dict[int, list[str]] = {}
    for name, tensor in own.items():
        tied.setdefault(id(tensor), []).append(name)
    missing = [names[0] for names in tied.values() if not any(n in state for n in names)]
    if missing:
        raise UserError(f"weights: {_some(missing)} missing; the engine needs every parameter")
    wrong = [n for n, new in state.items() if new.shape != own[n].shape]
    if wrong:
        sizes = f"{tuple(state[wrong[0]].shape)}, not {tuple(own[wrong[0]].shape)}"
        raise UserError(f"weights: {_some(wrong)} of another shape ({sizes})")
    given = [[n for n in names if n in state] for names in tied.values()]
    unequal = [n for first, *rest in given for n in rest if not _equal(state[first], state[n])]
    if unequal:
        raise UserError(f"weights: {_some(unequal)} tied in the engine, but of another value here")
    with torch.no_grad():
        for first, *_ in given:
            own[first].copy_(state[first])


def _equal(a: Tensor, b: Tensor) -> bool:
    return a is b or a.data_ptr() == b.data_ptr() or torch.equal(a, b)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more} {'are' if len(names) > 1 else 'is'}"
