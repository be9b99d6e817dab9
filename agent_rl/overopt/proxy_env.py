"""Stand-in until text/LearnedReward-v0 is there."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rl_envs import TextEnv, make


@lru_cache(maxsize=4)
def _loaded(path: str) -> Any:
    from agent_rl.reward_models import load_reward_model  # noqa: PLC0415

    return load_reward_model(path)


class ProxyReward(TextEnv):
    """The prompts of another environment, judged by a reward model."""

    def __init__(self, *, env: str, env_options: dict[str, Any], proxy_path: str, **options: Any):
        self.env_id, self.env_options, self.proxy_path = env, env_options, proxy_path
        super().__init__(**options)

    def load_tasks(self, split: str) -> Any:
        return make(self.env_id, **{**self.env_options, "split": split}).tasks

    def score(self, completion: str, row: Any) -> float:
        messages = [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": completion},
        ]
        return float(_loaded(self.proxy_path).score([messages])[0])
