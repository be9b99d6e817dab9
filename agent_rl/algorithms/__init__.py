"""The pure mathematics of policy gradients: tensors in, tensors out, one equation a function."""

from agent_rl.algorithms.advantages import (
    episode_returns,
    gae,
    group_relative,
    leave_one_out,
    max_likelihood,
    overlong_penalty,
    returns_to_go,
    spread_over_tokens,
    turn_relative,
    whiten,
)
from agent_rl.algorithms.aggregation import Aggregation, token_weights
from agent_rl.algorithms.kl import (
    DESCENT,
    AdaptiveKL,
    FixedKL,
    estimates,
    exact,
    k1,
    k2,
    k3,
    loss_penalty,
    penalised_rewards,
)
from agent_rl.algorithms.layout import AlgorithmError, has_spread
from agent_rl.algorithms.losses import (
    cispo,
    clip_fractions,
    entropy,
    ppo_clip,
    reinforce,
    unclipped,
    value_loss,
)
from agent_rl.algorithms.objective import estimate_advantages, policy_loss
from agent_rl.algorithms.presets import KL, PRESETS, Algorithm, preset
from agent_rl.algorithms.ratios import importance_weight, sequence_ratio, token_ratio

__all__ = [
    "DESCENT",
    "KL",
    "PRESETS",
    "AdaptiveKL",
    "Aggregation",
    "Algorithm",
    "AlgorithmError",
    "FixedKL",
    "cispo",
    "clip_fractions",
    "entropy",
    "episode_returns",
    "estimate_advantages",
    "estimates",
    "exact",
    "gae",
    "group_relative",
    "has_spread",
    "importance_weight",
    "k1",
    "k2",
    "k3",
    "leave_one_out",
    "loss_penalty",
    "max_likelihood",
    "overlong_penalty",
    "penalised_rewards",
    "policy_loss",
    "ppo_clip",
    "preset",
    "reinforce",
    "returns_to_go",
    "sequence_ratio",
    "spread_over_tokens",
    "token_ratio",
    "token_weights",
    "turn_relative",
    "unclipped",
    "value_loss",
    "whiten",
]
