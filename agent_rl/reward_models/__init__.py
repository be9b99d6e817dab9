"""Learned rewards: a language model with a scalar head, read at the last token of an answer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_rl.reward_models.building import from_policy
    from agent_rl.reward_models.folder import load_reward_model, save_reward_model
    from agent_rl.reward_models.model import RewardModel, Standing

__all__ = ["RewardModel", "Standing", "from_policy", "load_reward_model", "save_reward_model"]

_MODULES = {
    "RewardModel": "model",
    "Standing": "model",
    "from_policy": "building",
    "load_reward_model": "folder",
    "save_reward_model": "folder",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: the verifier is listed without loading torch."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
