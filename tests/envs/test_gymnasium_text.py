import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

import rl_envs
from rl_envs import DataError, GymnasiumText, describe

TAXI = next(name for name in ("Taxi-v4", "Taxi-v3") if name in gymnasium.registry)


def made(gym_id, **options):
    return rl_envs.make("text/Gymnasium-v0", gym_id=gym_id, **options)


@pytest.mark.parametrize(
    ("gym_id", "actions", "turns"),
    [
        ("FrozenLake-v1", ["left", "down", "right", "up"], 100),
        ("Blackjack-v1", ["stick", "hit"], 1000),
        (TAXI, ["south", "north", "east", "west", "pickup", "dropoff"], 200),
        ("CartPole-v1", None, 500),
        ("CliffWalking-v1", None, 1000),
        ("Acrobot-v1", None, 500),
        ("MountainCar-v0", None, 200),
    ],
)
def test_every_discrete_environment_plays_in_text(gym_id, actions, turns):
    env = made(gym_id, actions=actions)
    check_env(env)
    assert env.max_turns == turns


@pytest.mark.parametrize("gym_id", ["FrozenLake-v1", "Blackjack-v1", TAXI, "CartPole-v1"])
def test_text_episode_is_the_inner_episode(gym_id):
    env = made(gym_id)
    env.reset(options={"index": 7})
    inner = gymnasium.make(gym_id)
    inner.reset(seed=env.task.info["seed"])
    count = inner.action_space.n
    for turn in range(300):
        action = turn % count
        seen, reward, terminated, truncated, _ = env.step(f"I say {action}")
        observation, *expected, _ = inner.step(action)
        assert (reward, terminated, truncated) == tuple(expected)
        if terminated:
            assert seen == ()
            break
        assert seen[0]["content"] == describe(inner.observation_space, observation)
        if truncated:
            break


def test_step_limit_truncates():
    env = made("CartPole-v1", max_episode_steps=3)
    env.reset(seed=0)
    assert [env.step("0")[3] for _ in range(3)] == [False, False, True]


def test_step_limit_may_be_longer_than_the_declared_one():
    env = made(TAXI, max_episode_steps=210)
    env.reset(seed=0)
    assert [env.step("0")[3] for _ in range(210)] == [False] * 209 + [True]


@pytest.mark.parametrize("unknown", ["random", "0"])
def test_unknown_word_plays_another_action(unknown):
    env = made("CartPole-v1", unknown=unknown, penalty=-0.5)
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step("well")
    assert (reward, terminated, info["unknown_action"]) == (0.5, False, True)


def test_unknown_word_can_end_the_episode():
    env = made("CartPole-v1", unknown="end", penalty=-2.0)
    env.reset(seed=0)
    seen, reward, terminated, truncated, info = env.step("well")
    assert (seen, reward, terminated, truncated) == ((), -2.0, True, False)
    assert info["unknown_action"]


@pytest.mark.parametrize(
    ("said", "heard", "unknown"),
    [(" left ", "left", False), ("left!", "no", True), ("", "no", True)],
)
def test_a_text_action_space_gets_the_reply_itself(said, heard, unknown):
    class Spoken(gymnasium.Env):
        action_space = spaces.Text(8, charset="abcdefghijklmnopqrstuvwxyz")
        observation_space = spaces.Text(40, min_length=0)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return "begin", {}

        def step(self, action):
            return action, float(action == "left"), False, False, {}

    gymnasium.registry.pop("test/Spoken-v0", None)
    gymnasium.register("test/Spoken-v0", Spoken)
    env = made("test/Spoken-v0", unknown="no", penalty=-1.0)
    assert env.reset(seed=0)[0][0]["content"] == "begin"
    seen, reward, _, _, info = env.step(said)
    assert seen[0]["content"] == heard
    assert (reward, info["unknown_action"]) == (-1.0 if unknown else 1.0, unknown)
    check_env(made("test/Spoken-v0"))
    with pytest.raises(DataError, match="leave `actions` out"):
        made("test/Spoken-v0", actions=["left"]).reset(seed=0)


def test_description_can_be_given():
    env = GymnasiumText("FrozenLake-v1", describe=lambda state: f"row {state // 4}")
    assert env.reset(seed=0)[0][0]["content"] == "row 0"


def test_action_numbers_start_where_the_space_does():
    class Shifted(gymnasium.Env):
        action_space = spaces.Discrete(2, start=5)
        observation_space = spaces.Discrete(10)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return 0, {}

        def step(self, action):
            return int(action), 0.0, False, False, {}

    gymnasium.register("test/Shifted-v0", Shifted)
    env = made("test/Shifted-v0", actions=["a", "b"])
    env.reset(seed=0)
    assert env.step("b")[0][0]["content"] == "6"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gym_id": "Nowhere-v0"}, "no Gymnasium environment 'Nowhere-v0'"),
        ({"gym_id": "Pendulum-v1"}, "not discrete"),
        ({"gym_id": "CartPole-v1", "actions": ["left"]}, "has 2 actions"),
        ({"gym_id": "CartPole-v1", "actions": ["go", "Go"]}, "different words"),
        ({"gym_id": "CartPole-v1", "unknown": "up"}, "unknown is 'up'"),
        ({"gym_id": "CartPole-v1", "bins": 4}, "no finite bounds"),
        ({"gym_id": "CartPole-v1", "bins": [[0.0]]}, "edges for 1 values; the Box has 4"),
    ],
)
def test_what_does_not_fit_is_named(options, message):
    with pytest.raises(DataError, match=message):
        made(**options).reset(seed=0)


BOX = spaces.Box(0, 1, (2,))


@pytest.mark.parametrize(
    ("space", "value", "bins", "text"),
    [
        (spaces.Discrete(9), np.int64(4), None, "4"),
        (spaces.MultiDiscrete([3, 3]), np.array([1, 2]), None, "1 2"),
        (spaces.MultiBinary(3), np.array([1, 0, 1]), None, "101"),
        (BOX, np.array([0.123456, 1.0]), None, "0.123 1"),
        (BOX, np.array([0.0, 1.0]), 10, "09"),
        (BOX, np.array([0.3, 0.99]), 36, "az"),
        (BOX, np.array([0.4, 0.6]), [[0.5], [0.2, 0.5]], "02"),
        (spaces.Tuple((spaces.Discrete(9), BOX)), (3, np.array([0.0, 0.5])), 2, "3|01"),
        (
            spaces.Dict(a=spaces.Discrete(2), b=spaces.Discrete(3)),
            {"b": 2, "a": 1},
            None,
            "a=1|b=2",
        ),
        (spaces.Text(5), "abc", None, "abc"),
        (spaces.Sequence(spaces.Discrete(3)), (1, 2), None, "(1, 2)"),
    ],
)
def test_describe(space, value, bins, text):
    assert describe(space, value, bins) == text


def test_too_many_bins_are_refused():
    with pytest.raises(DataError, match="more than 36 bins"):
        describe(BOX, np.array([0.0, 0.0]), 37)


def cartpole_lengths(weights, episodes=20):
    env = rl_envs.make("text/CartPole-v0")
    env.weights = weights
    lengths = []
    for index in range(episodes):
        env.reset(options={"index": index})
        while not env.done:
            env.step(env.expert(None))
        lengths.append(env.turn)
    return lengths


def test_cartpole_digits_are_enough_for_a_linear_rule():
    assert cartpole_lengths((0.5, 1.0, 2.0, 2.0)) == [500] * 20


def test_cartpole_needs_more_than_the_angle():
    assert np.mean(cartpole_lengths((0.0, 0.0, 1.0, 0.0))) < 100


def test_cartpole_limit_truncates_and_a_fall_terminates():
    env = rl_envs.make("text/CartPole-v0")
    env.reset(options={"index": 0})
    while not env.done:
        *_, terminated, truncated, _ = env.step(env.expert(None))
    assert (terminated, truncated) == (False, True)
    env.reset(options={"index": 0})
    while not env.done:
        *_, terminated, truncated, _ = env.step("l")
    assert (terminated, truncated) == (True, False)
    assert env.turn < 15


def test_cartpole_declares_what_a_trainer_needs():
    env = rl_envs.make("text/CartPole-v0")
    assert (env.memory, env.discount, env.max_turns) == ("last", 0.99, 500)
    assert len(env.reset(seed=0)[0][0]["content"]) == 4
