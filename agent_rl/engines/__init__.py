"""Engines: token ids in, sampled token ids and their log-probabilities out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_rl.engines.base import Completion, Engine, FinishReason, PromptTooLong, Sampling

if TYPE_CHECKING:
    from agent_rl.engines.torch_engine import TorchEngine

__all__ = ["Completion", "Engine", "FinishReason", "PromptTooLong", "Sampling", "TorchEngine"]


def __getattr__(name: str) -> Any:
    """Import a back end when it is first asked for: importing this package loads no torch."""
    if name == "TorchEngine":
        from agent_rl.engines.torch_engine import TorchEngine  # noqa: PLC0415

        return TorchEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
