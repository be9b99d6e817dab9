import math

from hypothesis import given
from hypothesis import strategies as st

from agent_rl.runs.charts import count_non_finite, draw, series_of, thin

ROWS = [
    {"step": 1, "stage": "rl", "reward/mean": 0.1, "kl/coef": 0.5, "loss/total": None,
     "non_finite": ["loss/total"]},
    {"step": 1, "stage": "eval", "eval/greedy": 0.4,
     "eval/greedy_low": 0.3, "eval/greedy_high": 0.6},
    {"step": 2, "stage": "rl", "reward/mean": 0.2, "kl/coef": 0.5, "loss/total": 1.0},
]  # fmt: skip


def chart(rows, title):
    return next(c for c in draw(rows)[0] if c["title"] == title)


def test_series_are_pairs_of_step_and_finite_value():
    series = series_of(ROWS)
    assert series["reward/mean"] == [(1, 0.1), (2, 0.2)]
    assert series["loss/total"] == [(2, 1.0)]
    assert "stage" not in series
    assert "step" not in series


def test_a_step_that_was_logged_twice_keeps_the_later_value():
    rows = [{"step": 3, "loss/eval": 2.0}, {"step": 3, "loss/eval": 1.0}]
    assert series_of(rows)["loss/eval"] == [(3, 1.0)]


def test_rows_of_other_types_are_passed_over():
    assert series_of([{"step": "x", "a/b": 1}, {"a/b": 1}, {"step": 1, "a/b": True}]) == {}


def test_the_interval_is_a_band():
    assert chart(ROWS, "Held-out accuracy")["band"] == [(1, 0.3, 0.6)]


def test_every_metric_is_drawn_once():
    main, others = draw(ROWS)
    assert [c["title"] for c in main] == ["Reward", "Held-out accuracy"]
    assert [c["title"] for c in others] == ["kl/coef", "loss/total"]


def test_parts_of_the_reward_are_named_by_what_follows_the_slash():
    rows = [{"step": 1, "reward/part/answer": 1.0, "reward/part/format": 0.5}]
    series = chart(rows, "Parts of the reward")["series"]
    assert [s["label"] for s in series] == ["answer", "format"]


def test_a_penalised_reward_that_is_the_reward_is_not_drawn_twice():
    rows = [{"step": 1, "reward/mean": 1.0, "reward/penalised": 1.0}]
    assert len(chart(rows, "Reward")["series"]) == 1
    rows = [{"step": 1, "reward/mean": 1.0, "reward/penalised": 0.9}]
    assert len(chart(rows, "Reward")["series"]) == 2


def test_values_that_were_no_number_are_counted():
    assert count_non_finite([*ROWS, *ROWS, {"non_finite": "x"}]) == {"loss/total": 2}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400))
def test_thinned_points_are_few_ordered_and_keep_the_extremes(values):
    points = list(enumerate(values))
    kept = thin(points, limit=50)
    assert len(kept) <= 50
    assert kept == sorted(set(kept) & set(points))
    assert max(v for _, v in kept) == max(values)
    assert min(v for _, v in kept) == min(values)


def test_infinities_are_no_points():
    assert series_of([{"step": 1, "a/b": math.inf}]) == {}


def test_a_single_spike_among_many_points_stays():
    points = [(step, 100.0 if step == 503 else 1.0) for step in range(1000)]
    kept = thin(points, limit=50)
    assert (503, 100.0) in kept
    assert len(kept) <= 50
