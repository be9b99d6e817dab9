"""Token weights against loops; no cut, order or omission may change a gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agent_rl.algorithms import AlgorithmError, token_weights

MODES = ["token", "sequence", "sequence_sum", "prompt", "constant"]


def index(values):
    return torch.tensor(values, dtype=torch.long)


def close(tensor, values):
    return tensor.tolist() == pytest.approx(values, abs=1e-9, rel=1e-6)


def weights(mode, trajectory_t, group_n, **options):
    constant = 5.0 if mode == "constant" else None
    return token_weights(
        mode, index(trajectory_t), index(group_n), constant=constant, dtype=torch.float64, **options
    )


def naive_loss(mode, losses, trajectory_t, group_n):
    """The loss of the batch as its definition reads."""
    sums = [0.0] * len(group_n)
    lengths = [0] * len(group_n)
    for loss, i in zip(losses, trajectory_t, strict=True):
        sums[i] += loss
        lengths[i] += 1
    n = len(group_n)
    if mode == "token":
        return sum(sums) / max(sum(lengths), 1)
    if mode == "sequence":
        return sum(s / max(k, 1) for s, k in zip(sums, lengths, strict=True)) / n
    if mode == "sequence_sum":
        return sum(sums) / n
    if mode == "constant":
        return sum(s / 5.0 for s in sums) / n
    groups = sorted(set(group_n))
    means = []
    for group in groups:
        own = [i for i in range(n) if group_n[i] == group]
        means.append(sum(sums[i] for i in own) / max(sum(lengths[i] for i in own), 1))
    return sum(means) / len(groups)


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
def test_weighted_sum_equals_the_definition(batches, mode, data):
    b = data.draw(batches)
    losses = torch.tensor(b.rewards_t, dtype=torch.float64)
    got = (weights(mode, b.trajectory_t, b.group_n) * losses).sum().item()
    wanted = naive_loss(mode, b.rewards_t, b.trajectory_t, b.group_n)
    assert got == pytest.approx(wanted, abs=1e-9)


def test_the_modes_differ_on_unequal_lengths():
    trajectory_t, group_n = [0, 1, 1, 1, 2, 2], [0, 0, 1]
    seen = {mode: weights(mode, trajectory_t, group_n).tolist() for mode in MODES}
    assert seen["token"] == pytest.approx([1 / 6] * 6)
    assert seen["sequence"] == pytest.approx([1 / 3, 1 / 9, 1 / 9, 1 / 9, 1 / 6, 1 / 6])
    assert seen["sequence_sum"] == pytest.approx([1 / 3] * 6)
    assert seen["prompt"] == pytest.approx([1 / 8] * 4 + [1 / 4] * 2)
    assert seen["constant"] == pytest.approx([1 / 15] * 6)


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
def test_leaving_tokens_out_changes_no_other_weight(batches, mode, data):
    """Trajectories with advantage 0 are dropped; the denominators stay those of the whole batch."""
    b = data.draw(batches)
    dropped = data.draw(st.sets(st.integers(0, b.n - 1)))
    lengths = index([b.trajectory_t.count(i) for i in range(b.n)])
    kept = [t for t in range(b.t) if b.trajectory_t[t] not in dropped]
    thinned = [b.trajectory_t[t] for t in kept]
    got = weights(mode, thinned, b.group_n, tokens_n=lengths)
    whole = weights(mode, b.trajectory_t, b.group_n)
    assert close(got, whole[index(kept)].tolist())


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
def test_a_faulty_trajectory_weighs_as_if_it_had_never_been_there(batches, mode, data):
    b = data.draw(batches)
    faulty = data.draw(st.sets(st.integers(0, b.n - 1), max_size=b.n - 1))
    counted = torch.tensor([i not in faulty for i in range(b.n)])
    got = weights(mode, b.trajectory_t, b.group_n, counted_n=counted)
    left = [i for i in range(b.n) if i not in faulty]
    kept = [t for t in range(b.t) if b.trajectory_t[t] not in faulty]
    without = weights(
        mode, [left.index(b.trajectory_t[t]) for t in kept], [b.group_n[i] for i in left]
    )
    assert close(got[index(kept)], without.tolist())
    assert all(got[t] == 0 for t in range(b.t) if t not in kept)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_micro_batches_of_any_size_add_up_to_the_same_gradient(mode, size):
    trajectory_t, group_n = [0, 1, 1, 1, 2, 2], [0, 0, 1]
    parameter = torch.ones((), dtype=torch.float64, requires_grad=True)
    inputs = torch.arange(6, dtype=torch.float64)
    weights_t = weights(mode, trajectory_t, group_n)
    for start in range(0, 6, size):
        part = slice(start, start + size)
        (weights_t[part] * (parameter * inputs[part]) ** 2).sum().backward()
    wanted = (weights_t * 2 * inputs**2).sum().item()
    assert parameter.grad.item() == pytest.approx(wanted)


@pytest.mark.parametrize("mode", MODES)
def test_ranks_that_know_the_whole_batch_add_up(mode):
    trajectory_t, group_n = [0, 1, 1, 1, 2, 2], [0, 0, 1]
    whole, lengths = weights(mode, trajectory_t, group_n), index([1, 3, 2])
    ranks = [weights(mode, part, group_n, tokens_n=lengths) for part in ([0, 1, 1, 1], [2, 2], [])]
    assert close(torch.cat(ranks), whole.tolist())


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_that_is_all_faulty_has_weight_zero_and_no_nan(mode):
    got = weights(mode, [0, 1], [0, 0], counted_n=torch.tensor([False, False]))
    assert got.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("mode", "constant"), [("constant", None), ("constant", 0.0), ("token", 5.0), ("mean", None)]
)
def test_a_meaningless_choice_is_refused(mode, constant):
    with pytest.raises(AlgorithmError, match="aggregation"):
        token_weights(mode, index([0]), index([0]), constant=constant)
