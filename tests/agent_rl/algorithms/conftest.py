"""Ragged batches for the tests of the equations, as plain Python lists."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import strategies as st

SMALL = st.floats(-3, 3, allow_subnormal=False).map(lambda x: round(x, 4))


@st.composite
def ragged_batches(draw: st.DrawFn) -> SimpleNamespace:
    """Groups of trajectories of turns of tokens; some trajectories have no token at all."""
    group_n: list[int] = []
    trajectory_t: list[int] = []
    turn_t: list[int] = []
    for group in range(draw(st.integers(1, 3))):
        for _ in range(draw(st.integers(1, 4))):
            for turn, tokens in enumerate(draw(st.lists(st.integers(1, 4), max_size=3))):
                trajectory_t += [len(group_n)] * tokens
                turn_t += [turn] * tokens
            group_n.append(group)
    t, n = len(trajectory_t), len(group_n)

    def row(length: int, values: st.SearchStrategy[float] = SMALL) -> list[float]:
        return draw(st.lists(values, min_size=length, max_size=length))

    coarse = st.sampled_from([0.0, 0.35, 0.4, 1.0])
    return SimpleNamespace(
        t=t,
        n=n,
        group_n=group_n,
        trajectory_t=trajectory_t,
        turn_t=turn_t,
        returns_n=row(n, coarse),
        bootstrap_n=row(n),
        rewards_t=row(t),
        discounts_t=row(t, st.sampled_from([0.0, 0.5, 0.9, 1.0])),
        values_t=row(t),
        advantages_t=row(t),
        logprobs_t=row(t, SMALL.map(lambda x: x / 3 - 1)),
        old_logprobs_t=row(t, SMALL.map(lambda x: x / 3 - 1)),
    )


@pytest.fixture(scope="session")
def batches() -> st.SearchStrategy[SimpleNamespace]:
    """The strategy; draw from it with ``st.data()``."""
    return ragged_batches()
