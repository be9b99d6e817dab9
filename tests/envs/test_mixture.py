import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rl_envs
from rl_envs import DataError, Entry, Mixture, levels

SMALL = {"terms": 2, "low": 1, "high": 4}
ENTRIES = [
    ("text/Arithmetic-v0", 1.0, SMALL),
    ("text/Countdown-v0", 2.0, {"difficulty": 1}),
    ("text/ReverseText-v0", 1.0, {}),
]


def named(draws):
    return [(entry.env_id, index) for entry, index in draws]


def test_one_environment_is_a_mixture_of_one():
    (entry, index), *_ = Mixture([ENTRIES[0]]).draw(1)
    env = entry.make()
    assert env.reset(options={"index": index})[1]["task_id"] == env.tasks[index].id


def test_weights_are_followed():
    counts = Counter(entry.env_id for entry, _ in Mixture(ENTRIES).draw(400))
    assert [counts[env_id] for env_id, _, _ in ENTRIES] == [100, 200, 100]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.05, 10), min_size=1, max_size=4), st.integers(1, 60))
def test_every_prefix_has_its_shares(weights, count):
    entries = [("text/ReverseText-v0", weight, {"seed": k}) for k, weight in enumerate(weights)]
    mixture = Mixture(entries)
    drawn = Counter(entry.options["seed"] for entry, _ in mixture.draw(count))
    for place, weight in enumerate(weights):
        assert abs(drawn[place] - count * weight / sum(weights)) < len(weights)


def test_a_finite_source_repeats_nothing_within_an_epoch():
    mixture = Mixture([ENTRIES[0]])
    size = mixture.entries[0].env.tasks.size
    epochs = [[index for _, index in mixture.draw(size)] for _ in range(3)]
    assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_an_endless_source_is_counted_through():
    assert [index for _, index in Mixture([ENTRIES[1]]).draw(4)] == [0, 1, 2, 3]


def test_the_seed_decides_the_order():
    draws = [named(Mixture([ENTRIES[0]], seed=seed).draw(8)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 40), st.integers(1, 40))
def test_a_loaded_state_goes_on_exactly(before, after):
    whole = Mixture(ENTRIES, seed=5)
    whole.draw(before)
    state = json.loads(json.dumps(whole.state_dict()))
    resumed = Mixture(ENTRIES, seed=5)
    resumed.load_state_dict(state)
    assert named(resumed.draw(after)) == named(whole.draw(after))


def test_another_mixtures_state_is_refused():
    with pytest.raises(DataError, match="the saved mixture is of"):
        Mixture(ENTRIES).load_state_dict(Mixture(ENTRIES[:1]).state_dict())


@pytest.mark.parametrize("entries", [[], [("text/Countdown-v0", 0, {})]])
def test_nothing_to_draw_from_is_an_error(entries):
    with pytest.raises(DataError):
        Mixture(entries)


def test_levels_put_difficulties_side_by_side():
    mixture = Mixture(levels("text/Arithmetic-v0", {1: 3, 2: 1}, question="spaced"))
    counts = Counter(entry.env.problems.terms for entry, _ in mixture.draw(40))
    assert counts == {2: 30, 3: 10}
    assert mixture.entries[0].env.question == "spaced"


def test_entries_share_their_tasks_between_instances():
    entry = Entry("text/Arithmetic-v0")
    assert entry.make().tasks is entry.make().tasks
    assert isinstance(entry.make(), rl_envs.TextEnv)
