import itertools

import numpy as np
import pytest

import rl_envs
from rl_envs.text import thermostat as th

STATES = list(itertools.product(range(th.DEGREES), th.TARGETS, th.WEATHERS))


def mean_return(choose):
    """The exact mean return over starts; ``choose(state, action_values)`` is the policy's value."""
    value = dict.fromkeys(STATES, 0.0)
    for _ in range(th.STEPS):
        value = {state: choose(state, action_values(state, value)) for state in STATES}
    return np.mean(list(value.values()))


def action_values(state, value):
    temperature, target, weather = state
    other = "w" if weather == "c" else "c"
    values = []
    for effect in th.EFFECTS:
        total = 0.0
        for drift, probability in th.DRIFT[weather]:
            moved = th.step(temperature, effect, drift)
            stay, turn = value[(moved, target, weather)], value[(moved, target, other)]
            after = (1 - th.CHANGE) * stay + th.CHANGE * turn
            total += probability * (th.comfort(moved, target) + after)
        values.append(total)
    return values


def played(policy, episodes=300):
    env = rl_envs.make("text/Thermostat-v0")
    totals = []
    for index in range(episodes):
        env.reset(options={"index": index})
        totals.append(sum(env.step(policy(env, index))[1] for _ in range(th.STEPS)))
    return np.mean(totals)


@pytest.mark.parametrize(
    ("choose", "documented"),
    [
        (lambda state, values: max(values), 15.064),
        (lambda state, values: values[th.best_now(state)], 15.047),
        (lambda state, values: np.mean(values), 5.218),
    ],
    ids=["optimal", "expert", "random"],
)
def test_documented_returns_are_exact(choose, documented):
    assert mean_return(choose) == pytest.approx(documented, abs=5e-4)
    assert str(documented) in th.Thermostat.__doc__


def test_playing_the_expert_gives_its_return():
    assert played(lambda env, _: env.demonstrate("expert", None)) == pytest.approx(15.047, abs=0.35)


def test_playing_at_random_gives_its_return():
    rng = np.random.default_rng(0)
    words = ("up", "down", "off")
    assert played(lambda env, _: words[rng.integers(3)]) == pytest.approx(5.218, abs=0.6)


def test_babble_earns_nothing():
    assert played(lambda env, _: "warmer please?", episodes=5) == 0.0


def test_the_limit_truncates_and_nothing_terminates():
    env = rl_envs.make("text/Thermostat-v0", steps=3)
    env.reset(seed=0)
    ends = [env.step("off")[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_two_policies_meet_the_same_weather():
    weathers = []
    for word in ("up", "down"):
        env = rl_envs.make("text/Thermostat-v0")
        env.reset(options={"index": 3})
        weathers.append([env.step(word)[0][0]["content"][-1] for _ in range(th.STEPS)])
    assert weathers[0] == weathers[1]
    assert set(weathers[0]) == set("cw")


def test_state_is_three_characters():
    seen, info = rl_envs.make("text/Thermostat-v0").reset(seed=1)
    assert info["task_id"].startswith(seen[0]["content"] + ":")


def test_words_question_explains_itself():
    env = rl_envs.make("text/Thermostat-v0", question="words", words=("h", "c", "n"))
    assert env.reset(seed=1)[0][0]["content"].endswith("Answer h, c or n.")
    assert env.expert(None) in "hcn"


def test_declares_what_a_trainer_needs():
    env = rl_envs.make("text/Thermostat-v0")
    assert (env.memory, env.discount, env.max_turns) == ("last", 0.9, 20)
