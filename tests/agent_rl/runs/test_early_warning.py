"""Flags on curves whose story is known."""

import random

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
        reward__part__gold__value=lambda s: 1 - ((s - 15) / 15) ** 2,
    )
    assert early_warnings(rows)["warning/reward_gap"] > 1
    (flag,) = flags(rows)
    assert flag.startswith("the reward rises while reward/part/gold/value falls: best 0.9")
    assert "step 15" in flag


def test_gold_that_follows_the_reward_down_is_no_over_optimization():
    rows = _rows(
        reward__mean=lambda s: 1 - ((s - 15) / 15) ** 2,
        reward__std=lambda s: 0.5,
        reward__part__gold__value=lambda s: 1 - ((s - 15) / 15) ** 2,
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


NOISE = {
    "eval__greedy": lambda s, rng: sum(rng.random() < 0.3 for _ in range(64)) / 64,
    "reward__part__gold__value": lambda s, rng: rng.gauss(0.0, 0.1),
    "kl__reference": lambda s, rng: 0.1 * s + rng.gauss(0.0, 0.5),
    "length__mean": lambda s, rng: rng.gauss(20.0, 6.0),
}


@pytest.mark.parametrize("name", NOISE)
@pytest.mark.parametrize("n", [10, 40, 100])
def test_noise_alone_is_seldom_flagged(name, n):
    told = 0
    for seed in range(60):
        rng = random.Random(seed)
        metrics = {
            "reward__mean": lambda s: rng.gauss(0.3, 0.05),  # noqa: B023
            "reward__std": lambda s: 0.4,
            name: lambda s: NOISE[name](s, rng),  # noqa: B023
        }
        told += bool(flags(_rows(n=n, **metrics)))
    assert told <= 3  # of 60; without a test against the noise about 20


def test_a_fall_beyond_the_logged_interval_is_told_from_three_measurements():
    rows = _rows(n=30, reward__mean=lambda s: s / 10, reward__std=lambda s: 0.5)
    for step, accuracy in ((10, 0.5), (20, 0.9), (30, 0.3)):
        rows[step - 1] |= {
            "eval/greedy": accuracy,
            "eval/greedy_low": accuracy - 0.1,
            "eval/greedy_high": accuracy + 0.1,
        }
    (flag,) = flags(rows)
    assert flag.startswith("the reward rises while eval/greedy falls: best 0.900 at step 20")


@pytest.mark.parametrize("value", [0.0, -1.0, 1e300, -1e300, float("nan"), None])
def test_no_series_breaks_it(value):
    names = ("kl/reference", "policy/entropy", "length/mean", "reward/mean", "reward/std")
    for odd in (*names, "eval/greedy", "probe/refusals"):
        rows = [{"step": s, **dict.fromkeys(names, 1.0), odd: value} for s in range(1, 20)]
        rows += [{"step": 20, **dict.fromkeys([*names, odd], -2.0)}]
        flags(rows)
        early_warnings(rows)
