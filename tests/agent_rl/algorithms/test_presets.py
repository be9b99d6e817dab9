"""Presets hold the published values; contradictory choices are refused in one line."""

from __future__ import annotations

import dataclasses

import pytest

from agent_rl.algorithms import KL, PRESETS, AdaptiveKL, Algorithm, AlgorithmError, FixedKL, preset

PUBLISHED = {
    "grpo": {"advantage": "group", "scale": "std", "clip_high": 0.2, "kl": KL("loss", "k3", 0.04)},
    "dr_grpo": {"advantage": "group", "scale": "none", "aggregation": "constant", "kl": KL()},
    "rloo": {"advantage": "leave_one_out", "ratio": "none", "kl": KL("reward", "k1", 0.03)},
    "reinforce": {"advantage": "none", "ratio": "none", "aggregation": "sequence_sum"},
    "reinforce_plus_plus": {"advantage": "batch", "scale": "batch", "aggregation": "token"},
    "ppo": {"advantage": "gae", "gae_lambda": 0.95, "value_clip": 0.2, "clip_low": 0.2},
    "instructgpt": {"whiten_rewards": True, "gae_lambda": 0.95, "kl": KL("reward", "k1", 0.02)},
    "dapo": {"clip_low": 0.2, "clip_high": 0.28, "dynamic_sampling": True, "overlong_buffer": 4096},
    "gspo": {"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4, "aggregation": "sequence"},
    "cispo": {"clip": "cispo", "clip_low": 1.0, "clip_high": 4.0, "aggregation": "token"},
    "maxrl": {"advantage": "max_likelihood", "scale": "none", "aggregation": "sequence_sum"},
}


@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_the_published_values(name):
    config = dataclasses.asdict(PRESETS[name]) | {"kl": PRESETS[name].kl}
    assert {key: config[key] for key in PUBLISHED[name]} == PUBLISHED[name]


def test_overrides_replace_fields():
    assert preset("dapo", clip_high=0.4) == dataclasses.replace(PRESETS["dapo"], clip_high=0.4)


def test_a_mapping_for_kl_replaces_its_fields_only():
    assert preset("grpo", kl={"coef": 0.1}).kl == KL("loss", "k3", 0.1)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("grpoo", {}, "unknown algorithm 'grpoo'; one of grpo, dr_grpo"),
        ("grpo", {"clip_hi": 1}, "unknown algorithm field clip_hi; one of advantage"),
        ("grpo", {"kl": {"beta": 1}}, "unknown algorithm field kl.beta; one of place"),
        ("grpo", {"advantage": "gruop"}, "advantage: 'gruop' is not one of group"),
        ("grpo", {"kl": {"estimator": "k4"}}, "estimator: 'k4' is not one of k1"),
        ("grpo", {"kl": {"estimator": "k1"}}, "descends nothing.*use k2, k3 or exact"),
        ("rloo", {"kl": {"estimator": "k3"}}, "descends no KL.*use k1"),
        ("rloo", {"kl": {"estimator": "exact"}}, "use k1 there"),
        ("dapo", {"kl": {"coef": 0.1}}, "kl.coef does nothing with kl.place none"),
        ("dapo", {"kl": {"target": 6.0}}, "kl.target does nothing"),
        ("grpo", {"kl": {"coef": -0.1}}, "negative"),
        ("grpo", {"kl": {"target": -6.0}}, "above 0"),
        ("gspo", {"clip": "cispo"}, "ratio sequence and clip cispo do not combine"),
        ("grpo", {"ratio": "none"}, "ratio none and clip ppo do not combine"),
        ("grpo", {"whiten_rewards": True}, "whiten_rewards needs advantage gae"),
        ("grpo", {"clip": "none"}, "set both to null"),
        ("grpo", {"clip_high": None}, "needs clip_low and clip_high"),
        ("grpo", {"clip_low": -0.1}, "needs clip_low and clip_high"),
        ("grpo", {"dual_clip": 0.9}, "dual_clip"),
        ("cispo", {"dual_clip": 3.0}, "dual_clip"),
        ("grpo", {"importance_cap": 0.0}, "importance_cap"),
        ("grpo", {"entropy_coef": -1.0}, "entropy_coef"),
        ("grpo", {"overlong_buffer": -1}, "overlong_buffer"),
        ("rloo", {"scale": "std"}, "leave_one_out takes scale none, not std"),
        ("grpo", {"advantage": "turn", "scale": "batch"}, "turn takes scale std or none"),
        ("reinforce_plus_plus", {"whiten_advantages": True}, "scale twice"),
        ("grpo", {"whiten_advantages": True}, "scale twice"),
        ("grpo", {"advantage": "gae", "scale": "none"}, "needs gae_lambda and a value_coef"),
        ("grpo", {"gae_lambda": 0.9}, "need advantage gae"),
        ("grpo", {"value_clip": 0.9}, "need advantage gae"),
        ("ppo", {"gae_lambda": 1.5}, "gae_lambda must lie"),
        ("ppo", {"value_clip": 0.0}, "value_clip"),
        ("ppo", {"dynamic_sampling": True}, "dynamic_sampling"),
        ("maxrl", {"kl": KL("reward", "k1", 0.1)}, "no kl in the reward"),
        ("maxrl", {"overlong_buffer": 5}, "no overlong_buffer"),
    ],
)
def test_a_contradiction_is_refused_in_one_line(name, overrides, message):
    with pytest.raises(AlgorithmError, match=message) as raised:
        preset(name, **overrides)
    assert "\n" not in str(raised.value)


def test_an_algorithm_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Algorithm().clip_low = 0.5  # type: ignore[misc]


def test_every_field_is_documented():
    for config in (Algorithm, KL):
        for field in dataclasses.fields(config):
            assert f"        {field.name}: " in config.__doc__


def test_a_target_makes_the_controller_adaptive():
    controller = KL("reward", "k1", 0.1, target=6.0, horizon=500).controller()
    assert isinstance(controller, AdaptiveKL)
    assert (controller.coef, controller.target, controller.horizon) == (0.1, 6.0, 500)


def test_without_a_target_the_coefficient_is_fixed():
    assert type(KL("reward", "k1", 0.1).controller()) is FixedKL
