"""Learned rewards: a language model with a scalar head, read at the last token of an answer."""

from __future__ import annotations

from agent_rl.reward_models.building import from_policy
from agent_rl.reward_models.folder import load_reward_model, save_reward_model
from agent_rl.reward_models.model import RewardModel, Standing

__all__ = ["RewardModel", "Standing", "from_policy", "load_reward_model", "save_reward_model"]
