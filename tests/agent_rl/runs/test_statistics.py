import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_rl.runs.statistics import (
    bootstrap_interval,
    majority_at_k,
    pass_at_k,
    wilson_interval,
)


def test_wilson_interval_solves_its_equation():
    low, high = wilson_interval(8, 10, z=1.96)
    for bound in (low, high):  # |share - p| = z sqrt(p (1 - p) / n) defines the bounds
        assert abs(0.8 - bound) == pytest.approx(1.96 * math.sqrt(bound * (1 - bound) / 10))
    assert low < 0.8 < high


def test_wilson_interval_at_the_ends_has_the_closed_form():
    z = 1.96
    assert wilson_interval(0, 10) == (0.0, pytest.approx(z * z / (10 + z * z)))
    assert wilson_interval(10, 10) == (pytest.approx(10 / (10 + z * z)), 1.0)


def test_wilson_interval_of_nothing_is_everything():
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_mirrors(case):
    c, n = case
    low, high = wilson_interval(c, n)
    assert 0.0 <= low <= c / n <= high <= 1.0
    mirrored = wilson_interval(n - c, n)
    assert (1 - high, 1 - low) == pytest.approx(mirrored)


def test_wilson_interval_refuses_more_successes_than_tries():
    with pytest.raises(ValueError, match="3 of 2"):
        wilson_interval(3, 2)


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_is_the_share_of_all_subsets_with_a_pass(n):
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        subsets = list(itertools.combinations(range(n), k))
        share = sum(min(chosen) < c for chosen in subsets) / len(subsets)
        assert pass_at_k(n, c, k) == pytest.approx(share, abs=1e-12)


def test_pass_at_k_of_large_numbers_stays_exact():
    expected = 1 - math.comb(9_000, 100) / math.comb(10_000, 100)  # exact integers
    assert pass_at_k(10_000, 1_000, 100) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4)])
def test_pass_at_k_refuses_impossible_counts(n, c, k):
    with pytest.raises(ValueError, match="pass@k needs"):
        pass_at_k(n, c, k)


def test_majority_at_1_is_the_accuracy():
    assert majority_at_k(["4", "4", "5", None], [True, True, False, False], 1) == 0.5


def test_majority_of_all_takes_the_commonest():
    assert majority_at_k(["4", "4", "5"], [True, True, False], 3) == 1.0
    assert majority_at_k(["4", "5", "5"], [True, False, False], 3) == 0.0


def test_majority_shares_a_tie():
    assert majority_at_k(["4", "5"], [True, False], 2) == 0.5


def test_majority_does_not_count_missing_answers_as_a_vote():
    assert majority_at_k(["4", None, None], [True, False, False], 3) == 1.0
    assert majority_at_k([None, None], [False, False], 2) == 0.0


def test_majority_is_the_mean_over_all_subsets():
    # pairs of 4 4 5: (4 4) right, (4 5) twice, each a tie
    assert majority_at_k(["4", "4", "5"], [True, True, False], 2) == pytest.approx(2 / 3)


def test_majority_of_many_subsets_is_drawn_near_the_truth_and_repeats():
    answers = ["4"] * 24 + ["5"] * 16
    passed = [True] * 24 + [False] * 16
    drawn = majority_at_k(answers, passed, 9, seed=1)
    exact = sum(math.comb(24, i) * math.comb(16, 9 - i) for i in range(5, 10)) / math.comb(40, 9)
    assert drawn == pytest.approx(exact, abs=0.04)  # 4 standard deviations of 2000 draws
    assert drawn == majority_at_k(answers, passed, 9, seed=1)


def test_bootstrap_interval_nears_the_normal_one():
    values = np.random.default_rng(0).normal(2.0, 1.0, size=400)
    low, high = bootstrap_interval(values, seed=0)
    spread = 1.96 * values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - spread, values.mean() + spread), abs=0.015)


def test_bootstrap_interval_repeats_with_its_seed():
    values = [0.0, 1.0, 0.5, 0.25]
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval([0.5] * 4) == (0.5, 0.5)


def test_bootstrap_interval_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([])
