"""agent-rl: reinforcement learning of language models from verifiable rewards.

The public names load on first use, so that importing this package imports neither torch nor
transformers.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "EvalConfig": "agent_rl.config",
    "RLConfig": "agent_rl.config",
    "SFTConfig": "agent_rl.config",
    "TorchEngine": "agent_rl.engines",
    "Sampling": "agent_rl.engines",
    "load_recipe": "agent_rl.loading",
    "run_recipe": "agent_rl.recipe",
    "play_groups": "agent_rl.rollout",
    "UserError": "agent_rl.errors",
}
__all__ = [
    "EvalConfig",
    "RLConfig",
    "SFTConfig",
    "Sampling",
    "TorchEngine",
    "UserError",
    "__version__",
    "load_recipe",
    "play_groups",
    "run_recipe",
]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'agent_rl' has no attribute {name!r}")
    return getattr(importlib.import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
