"""Flags on curves whose story is known."""

import pytest

from agent_rl.runs.early_warning import early_warnings, flags


def _rows(n: int = 40, **metrics) -> list[dict]:
    return [
        {"step": s, **{name.replace("__", "/"): f(s) for name, f in metrics.items()}}
        for s in range(1, n + 1)
    ]


def test_a_calm_run_is_not_flagged():
    rows = _rows(
        kl__reference=lambda s: 2 * s / (s + 5),
        policy__entropy=lambda s: 1.0 - 0.01 * s,
        length__mean=lambda s: 20 + s / 10,
        reward__mean=lambda s: s / 40,
        reward__std=lambda s: 0.3,
        eval__greedy=lambda s: s / 50,
    )
    assert flags(rows) == []


def test_acceleration_is_the_difference_of_two_slopes():
    rows = _rows(n=40, kl__reference=lambda s: 0.1 * s if s <= 32 else 3.2 + 0.5 * (s - 32))
    assert early_warnings(rows)["warning/kl_acceleration"] == pytest.approx(0.4)
    (flag,) = flags(rows)
    assert "KL to the reference accelerates: +0.100 and then +0.500" in flag


def test_a_small_kl_may_grow_as_it_likes():
    assert flags(_rows(kl__reference=lambda s: 0.001 * s**2)) == []


def test_entropy_that_collapses_is_told():
    rows = _rows(policy__entropy=lambda s: 0.5 if s <= 20 else 0.01)
    assert early_warnings(rows)["warning/entropy_trend"] == pytest.approx(0.02)
    assert flags(rows)[0].startswith("entropy fell to 2% of its start (0.010 nats")


@pytest.mark.parametrize(("gain", "told"), [(0.0, True), (0.5, False)])
def test_length_matters_only_where_nothing_is_gained(gain, told):
    rows = _rows(length__mean=lambda s: 10.0 if s <= 10 else 30.0, eval__greedy=lambda s: gain * s)
    assert early_warnings(rows)["warning/length_drift"] == pytest.approx(3.0)
    assert any("3.0 times as long" in flag for flag in flags(rows)) is told


def test_gold_that_falls_while_the_reward_rises_is_over_optimization():
    rows = _rows(
        reward__mean=lambda s: s / 10,
        reward__std=lambda s: 0.5,
        reward__part__gold=lambda s: 1 - ((s - 15) / 15) ** 2,
    )
    assert early_warnings(rows)["warning/reward_gap"] > 1
    (flag,) = flags(rows)
    assert flag.startswith("the reward rises while reward/part/gold falls: best 0.9")
    assert "step 15" in flag


def test_gold_that_follows_the_reward_down_is_no_over_optimization():
    rows = _rows(
        reward__mean=lambda s: 1 - ((s - 15) / 15) ** 2,
        reward__std=lambda s: 0.5,
        reward__part__gold=lambda s: 1 - ((s - 15) / 15) ** 2,
    )
    assert flags(rows) == []


def test_probes_that_rise_are_told():
    rows = [{"step": 0, "probe/refusals": 0.1, "probe/agreement": 0.5}]
    rows += [{"step": 9, "probe/refusals": 0.4, "probe/agreement": 0.55}]
    assert flags(rows) == ["the policy refuses 40% of harmless prompts, 10% at the start"]


def test_too_few_steps_say_nothing():
    rows = _rows(n=5, kl__reference=lambda s: 10.0**s, policy__entropy=lambda s: 10.0**-s)
    assert early_warnings(rows) == {}
    assert flags(rows) == []
