"""Tallies: constant size, exact, and the same however rows are cut into spans."""

import json
import math
import random
import statistics
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_rl.scoring.frequent import CAPACITY, Frequent
from agent_rl.scoring.rewards import MAX_DISTINCT, Rewards
from agent_rl.scoring.tally import CLIP, PER_STATUS, SLOWEST, Tally, merge, shape
from agent_rl.scoring.types import Record, Reject, Sample, Scored
from rl_verifiers import Score

values = st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.0, 0.1, 1.0, -1.0, 5e-324, 1e300])


def rewards_of(numbers):
    rewards = Rewards()
    for number in numbers:
        rewards.add(number)
    return rewards


@given(st.lists(values, max_size=150), st.data())
def test_rewards_do_not_depend_on_order_or_cuts(numbers, data):
    cut = data.draw(st.integers(0, len(numbers)))
    parts = [rewards_of(numbers[cut:]), rewards_of(numbers[:cut])]
    parts[0].merge(parts[1])
    whole = rewards_of(numbers)
    assert parts[0].to_json() == whole.to_json()
    assert Rewards.from_json(json.loads(json.dumps(whole.to_json()))) == whole
    assert whole.n == len(numbers)
    if numbers:
        assert whole.mean == float(sum(map(Fraction, numbers)) / len(numbers))


@pytest.mark.parametrize("n", [MAX_DISTINCT, MAX_DISTINCT + 1])
def test_standard_error_is_exact_with_few_and_with_many_values(n):
    numbers = [i / 64 for i in range(n)]
    assert rewards_of(numbers).standard_error == pytest.approx(
        statistics.stdev(numbers) / math.sqrt(n)
    )


def test_histogram_shows_few_values_by_themselves_and_many_in_bars():
    assert rewards_of([1.0, 0.0, 1.0]).histogram() == [(0.0, 0.0, 1), (1.0, 1.0, 2)]
    bars = rewards_of([i / 100 for i in range(101)] + [-3.0, 7.0]).histogram()
    assert bars[0] == (-3.0, -1.0, 1)
    assert bars[-1] == (1.0, 7.0, 1)
    assert sum(count for _, _, count in bars) == 103
    assert bars[1][:2] == (0.0, 0.125)
    assert bars[1][2] == 13


@pytest.mark.parametrize("sizes", [(3, 70), (70, 3), (70, 70), (40, 40)])
def test_values_that_become_many_by_merging_give_the_same_bins(sizes):
    few, many = (
        [start + i / 128 for i in range(n)] for start, n in zip((-1, 0), sizes, strict=True)
    )
    merged = rewards_of(few)
    merged.merge(rewards_of(many))
    assert merged.to_json() == rewards_of(few + many).to_json()
    assert bool(merged.bins)


@pytest.mark.parametrize("n_rare", [100, 600, 5000])
def test_commonest_texts_are_within_their_bound(n_rare):
    rng = random.Random(0)
    texts = ["common"] * 400 + ["second"] * 200 + [f"rare {i}" for i in range(n_rare)] * 2
    rng.shuffle(texts)
    parts = [Frequent() for _ in range(4)]
    for i, text in enumerate(texts):
        parts[i % 4].add(text)
    whole = Frequent()
    for part in parts:
        whole.merge(part)
    assert whole.missed <= len(texts) / CAPACITY
    assert (whole.missed > 0) == (n_rare > 2 * CAPACITY)
    for text, count in Counter(texts).items():
        assert count - whole.missed <= whole.counts.get(text, 0) <= count
    assert [text for text, _ in whole.top(2)] == ["common", "second"]
    assert len(whole.counts) <= 2 * CAPACITY


def test_few_texts_are_counted_exactly():
    found = Frequent()
    for text in ["b", "a", "b", "c"]:
        found.add(text)
    assert found.top(2) == [("b", 2), ("a", 1)]
    assert found.missed == 0


def rows(n):
    """Rows with two completions each: scores of every kind, reasons, parts, hostile text."""
    found = []
    for line in range(1, n + 1):
        scores = [
            Score(
                line % 7 / 7, line % 3 == 0, "correct" if line % 3 == 0 else "wrong", f"'{line}'"
            ),
            Score.failed(f"sandbox {line} died") if line % 5 == 0 else Score.wrong("no", value=0.1),
        ]
        if line % 2:
            scores[0] = Score(0.1, False, "no_answer", "none found", {"format": 0.1, f"p{line}": 1})
        samples = [Sample("c" * 9999, {"prompt": "\ud800?", "answer": line}) for _ in scores]
        scored = Scored(Record(line, {}), scores, True, (line / 100, 0.0))
        found.append((scored, samples))
    return found


def tally_of(part):
    tally = Tally("data.jsonl")
    for scored, samples in part:
        tally.add(scored, samples)
    return tally


def test_merged_spans_equal_one_span_and_survive_json():
    all_rows = rows(100)
    cuts = [tally_of(all_rows[i : i + 9]) for i in range(0, 100, 9)]
    merged = merge(Tally.from_json(json.loads(json.dumps(t.to_json()))) for t in cuts)
    assert merged.seconds == pytest.approx(50.5)
    whole = tally_of(all_rows)
    assert {**merged.to_json(), "seconds": 0} == {**whole.to_json(), "seconds": 0}


def test_a_tally_counts_what_it_says():
    tally = tally_of(rows(100))
    assert (tally.rows, tally.samples, tally.n_errors, tally.judged) == (100, 200, 20, 180)
    assert tally.passed == sum(line % 6 == 0 for line in range(1, 101))
    assert tally.rewards.n == 180
    assert tally.parts["format"].n == 50
    assert [(e.line, e.index, e.error) for e in tally.errors][:2] == [
        (5, 1, "sandbox 5 died"),
        (10, 1, "sandbox 10 died"),
    ]
    assert [slow.line for slow in tally.slowest] == list(range(100, 100 - SLOWEST, -1))
    assert dict(tally.reasons.top(2)) == {"wrong: no": 80, "no_answer: none found": 50}
    assert tally.reasons.counts["error: sandbox N died"] == 20
    assert tally.examples.keys() == {"correct", "wrong", "no_answer", "error"}
    assert all(len(kept) == PER_STATUS for kept in tally.examples.values())
    assert len(tally.examples["wrong"][0].completion) < CLIP["completion"] + 50


def test_names_of_parts_are_capped():
    tally = Tally()
    for i in range(70):
        tally.add(Scored(Record(i, {}), [Score(1.0, True, "correct", parts={f"p{i}": 1.0})], False))
    assert len(tally.parts) == 64
    assert tally.parts_left_out == 6


def test_rejects_are_counted_and_the_first_shown():
    tally = Tally()
    for line in range(9):
        tally.reject(Reject("a", line, "not JSON", "{"))
    assert tally.rejects == 9
    assert [reject.line for reject in tally.first_rejects] == [0, 1, 2, 3, 4]


def test_size_does_not_grow_with_rows():
    sizes = [len(json.dumps(tally_of(rows(n)).to_json())) for n in (2000, 4000)]
    assert sizes[1] < 1.05 * sizes[0]


def test_reasons_that_differ_in_numbers_or_quotes_are_one():
    assert shape("got 1,234.5, not '3 apples'") == shape("got 7, not '12'")
    assert len(shape("x y " * 1000)) <= 160
