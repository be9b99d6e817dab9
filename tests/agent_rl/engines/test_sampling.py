import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_rl.engines.sampling import draw, stream_key, truncate, uniforms

OFF = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}


def cut(probabilities, **settings):
    """Which tokens truncation keeps of one distribution."""
    s = OFF | settings
    logits = torch.tensor([probabilities]).log()
    kept = truncate(
        logits, torch.tensor([s["top_k"]]), torch.tensor([s["top_p"]]), torch.tensor([s["min_p"]])
    )
    return torch.isfinite(kept)[0].nonzero()[:, 0].tolist()


def draw_many(logits, uniform, temperature=1.0, **settings):
    s = OFF | settings
    n = len(logits)
    return draw(
        logits,
        uniform,
        temperature=torch.full((n,), temperature),
        top_k=torch.full((n,), s["top_k"]),
        top_p=torch.full((n,), s["top_p"]),
        min_p=torch.full((n,), s["min_p"]),
    )


P = [0.1, 0.4, 0.05, 0.25, 0.2]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"top_k": 1}, [1]),
        ({"top_k": 3}, [1, 3, 4]),
        ({"top_k": 99}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.3}, [1]),
        ({"top_p": 0.6}, [1, 3]),
        ({"top_p": 0.7}, [1, 3, 4]),
        ({"min_p": 0.45}, [1, 3, 4]),
        ({"min_p": 1.0}, [1]),
        ({"top_k": 3, "top_p": 0.76}, [1, 3]),  # of the three, the first two hold 0.65 / 0.85
        ({"top_p": 0.6, "min_p": 0.9}, [1]),
    ],
)
def test_truncation_keeps(settings, kept):
    assert cut(P, **settings) == kept


def test_rows_are_truncated_each_by_its_own_settings():
    logits = torch.tensor([P, P, P]).log()
    kept = truncate(
        logits,
        torch.tensor([2, 0, 0]),
        torch.tensor([1.0, 0.3, 1.0]),
        torch.tensor([0.0, 0.0, 0.0]),
    )
    assert torch.isfinite(kept).sum(1).tolist() == [2, 1, 5]


def test_equal_logits_at_the_border_keep_exactly_k():
    assert len(cut([0.25] * 4, top_k=2)) == 2


def test_truncation_leaves_kept_logits_untouched():
    logits = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    kept = truncate(logits, torch.full((4,), 7), torch.full((4,), 0.8), torch.full((4,), 0.01))
    assert torch.equal(torch.where(torch.isfinite(kept), logits, -torch.inf), kept)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(-60, 60), min_size=1, max_size=40),
    st.integers(0, 2**24 - 1),
    st.sampled_from([0.1, 1.0, 3.0]),
    st.sampled_from([OFF, {"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.3}]),
)
def test_a_draw_is_the_inverse_of_the_cumulative_distribution(logits, step, temperature, how):
    u = step * 2.0**-24
    row = torch.tensor([logits])
    ids, logprobs = draw_many(row, torch.tensor([u]), temperature, **how)
    scaled = row / temperature
    s = OFF | how
    if how != OFF:
        scaled = truncate(
            scaled,
            torch.tensor([s["top_k"]]),
            torch.tensor([s["top_p"]]),
            torch.tensor([s["min_p"]]),
        )
    p = scaled.double().softmax(-1)[0]
    token = int(ids[0])
    assert p[token] > 0
    assert float(p[:token].sum()) <= u + 1e-5
    assert u <= float(p[: token + 1].sum()) + 1e-5
    assert logprobs[0].item() == pytest.approx(math.log(p[token]), abs=1e-4)


@pytest.mark.parametrize("u", [0.0, 1 - 2.0**-24])
def test_the_ends_of_the_unit_interval_draw_possible_tokens(u):
    row = torch.full((1, 1000), -torch.inf)
    row[0, [300, 700]] = 0.0
    ids, logprobs = draw_many(row, torch.tensor([u]))
    assert ids.item() == (300 if u == 0 else 700)
    assert logprobs.item() == pytest.approx(math.log(0.5))


def test_temperature_zero_takes_the_first_of_the_most_likely_under_temperature_one():
    row = torch.tensor([[0.0, 2.0, 2.0]])
    ids, logprobs = draw_many(row, torch.tensor([0.99]), 0.0, top_k=1)
    assert ids.item() == 1
    assert logprobs.item() == pytest.approx(2 - math.log(1 + 2 * math.exp(2)))


def test_greedy_and_sampled_rows_mix():
    logits = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    ids, _ = draw(
        logits,
        torch.tensor([0.0, 0.0]),
        temperature=torch.tensor([0.0, 1.0]),
        top_k=torch.zeros(2, dtype=torch.long),
        top_p=torch.ones(2),
        min_p=torch.zeros(2),
    )
    assert ids.tolist() == [1, 0]


def test_uniforms_depend_on_seed_and_index_only():
    keys = np.array([stream_key(s) for s in (3, 4, 5)], dtype=np.uint64)
    index = np.array([0, 7, 2])
    whole = uniforms(keys, index)
    alone = [uniforms(keys[i : i + 1], index[i : i + 1])[0] for i in (2, 0, 1)]
    assert [whole[2], whole[0], whole[1]] == alone


def test_uniforms_are_split_mix_64():
    """Against the reference sequence of seed 1234567."""
    key = np.full(3, 1234567, dtype=np.uint64)
    reference = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert uniforms(key, np.arange(3)).tolist() == [(x >> 40) / 2**24 for x in reference]


def test_streams_never_change():
    """A change here changes every run that anyone wants to repeat."""
    keys = np.array([stream_key(0), stream_key(1), stream_key(-1)], dtype=np.uint64)
    got = (uniforms(keys, np.array([0, 1, 2])) * 2**24).astype(int).tolist()
    assert got == [1614640, 6482209, 13864141]


def test_any_integer_is_a_seed():
    assert len({stream_key(s) for s in (0, 1, -1, 2**64 + 2, 2**200 + 3)}) == 5


def test_uniforms_are_uniform_over_seeds_and_over_indices():
    seeds = np.array([stream_key(s) for s in range(4000)], dtype=np.uint64)
    over_seeds = uniforms(seeds, np.zeros(4000, dtype=np.int64))
    over_index = uniforms(np.full(4000, seeds[0]), np.arange(4000))
    for sample in (over_seeds, over_index):
        counts = np.bincount((sample * 20).astype(int), minlength=20)
        assert ((counts - 200) ** 2 / 200).sum() < 43.8  # 99.9 %, 19 degrees of freedom


def test_neighbouring_seeds_are_uncorrelated():
    keys = np.array([stream_key(s) for s in range(2000)], dtype=np.uint64)
    u = uniforms(keys, np.full(2000, 3))
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.08  # 3.5 standard errors
