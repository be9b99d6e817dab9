"""Ragged batches for the tests of the equations, as plain Python lists."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import strategies as st


@st.composite
def ragged_batches(draw: st.DrawFn) -> SimpleNamespace:
    """Groups of trajectories of turns of tokens; some trajectories have no token at all.

    The shape shrinks to the smallest that fails; the numbers come from one drawn seed, which is
    many times faster than drawing each of them.
    """
    turns = st.lists(st.integers(1, 4), max_size=3)
    groups = draw(st.lists(st.lists(turns, min_size=1, max_size=4), min_size=1, max_size=3))
    group_n = [g for g, group in enumerate(groups) for _ in group]
    lengths_n = [tokens for group in groups for tokens in group]
    trajectory_t = [i for i, tokens in enumerate(lengths_n) for k in tokens for _ in range(k)]
    turn_t = [turn for tokens in lengths_n for turn, k in enumerate(tokens) for _ in range(k)]
    t, n = len(trajectory_t), len(group_n)
    random = Random(draw(st.integers(0, 2**16)))

    def row(length: int, low: float = -3, high: float = 3) -> list[float]:
        return [random.choice([low, high, random.uniform(low, high)]) for _ in range(length)]

    return SimpleNamespace(
        t=t,
        n=n,
        group_n=group_n,
        trajectory_t=trajectory_t,
        turn_t=turn_t,
        returns_n=[random.choice([0.0, 0.35, 0.4, 1.0]) for _ in range(n)],
        bootstrap_n=row(n),
        rewards_t=row(t),
        discounts_t=[random.choice([0.0, 0.5, 0.9, 1.0]) for _ in range(t)],
        values_t=row(t),
        logprobs_t=row(t, -2, 0),
        old_logprobs_t=row(t, -2, 0),
    )


@pytest.fixture(scope="session")
def batches() -> st.SearchStrategy[SimpleNamespace]:
    """The strategy; draw from it with ``st.data()``."""
    return ragged_batches()
