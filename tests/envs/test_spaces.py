import json

import gymnasium
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_envs import ChatSpace, TextSpace

MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": st.text()}
)


@given(st.text(st.characters()))
def test_every_string_is_an_action(text):
    assert text in TextSpace()


@pytest.mark.parametrize("value", [None, 1, b"x", ["x"], {"role": "user", "content": "x"}])
def test_other_things_are_not_actions(value):
    assert value not in TextSpace()


def test_an_assistant_message_is_an_action():
    assert {"role": "assistant", "content": "x"} in TextSpace()


@given(st.lists(MESSAGES).map(tuple))
def test_every_tuple_of_messages_is_an_observation(messages):
    assert messages in ChatSpace()


@pytest.mark.parametrize("value", [[], "x", ({"role": "user"},), ({"content": "x"},), ("x",)])
def test_other_things_are_not_observations(value):
    assert value not in ChatSpace()


@pytest.mark.parametrize("space", [TextSpace, ChatSpace])
def test_samples_are_members_and_follow_the_seed(space):
    first, second = space(seed=3), space(seed=3)
    samples = [first.sample() for _ in range(50)]
    assert all(sample in first for sample in samples)
    assert samples == [second.sample() for _ in range(50)]
    assert len({json.dumps(sample) for sample in samples}) > 25


def test_samples_can_be_written_to_a_file():
    space = TextSpace(sample_length=2000, seed=0)
    assert "".join(space.sample() for _ in range(20)).encode("utf-8")


@pytest.mark.parametrize("space", [TextSpace(seed=1), ChatSpace(seed=1)])
def test_json_round_trip(space):
    samples = [space.sample() for _ in range(5)]
    assert space.from_jsonable(json.loads(json.dumps(space.to_jsonable(samples)))) == samples


@pytest.mark.parametrize("space", [TextSpace(), ChatSpace()])
def test_equal_by_value_and_not_to_others(space):
    assert space == eval(repr(space))
    assert space != gymnasium.spaces.Text(4)


@pytest.mark.parametrize("space", [TextSpace(), ChatSpace()])
def test_masks_are_refused(space):
    with pytest.raises(ValueError, match="without a mask"):
        space.sample(mask=1)
