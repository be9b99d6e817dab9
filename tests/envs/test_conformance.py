"""What every registered environment must do."""

import asyncio
import copy
import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import rl_envs

pytestmark = pytest.mark.usefixtures("small_data")

ELSEWHERE = {  # they need a package or a server: tests/envs/bridges plays them
    "text/OpenEnv-v0",
    "text/OpenEnvTools-v0",
    "text/Prime-v0",
    "text/ReasoningGym-v0",
    "text/TextArena-v0",
}
IDS = [env_id for env_id in rl_envs.ids() if env_id not in ELSEWHERE]
WITH_EXPERT = [env_id for env_id in IDS if env_id != "text/Gymnasium-v0"]
WITH_SPLITS = [
    (env_id, split)
    for env_id in IDS
    for split in ("train", "test")
    if split in rl_envs.make(env_id).splits
]
FULL_REWARD = {  # others pay 1 in all; Preference's expert ties with the answer it is compared with
    "text/CartPole-v0": 500.0,
    "text/Preference-v0": 0.5,
    "text/Thermostat-v0": 10.0,
}
HOSTILE = {
    "empty": "",
    "blank": " \n\t",
    "a megabyte": "9" * 1_000_000,
    "over the limit": "\\boxed{" * 200_000,
    "null bytes": "\x00\\boxed{\x00}\x00",
    "surrogate": "\ud800\\boxed{\udfff}",
    "right to left": "\u202e}61{dexob\\",
    "other digits": "\\boxed{١٦}",
    "deep braces": "\\boxed{" + "{" * 50_000 + "}" * 50_000 + "}",
    "deep parentheses": "\\boxed{" + "(" * 100_000 + "1" + ")" * 100_000 + "}",
    "huge power": "\\boxed{9**9**9**9}",
    "division by zero": "\\boxed{1/0}",
    "format string": "{0.__class__} %s %n \\boxed{{}}",
    "not a number": "\\boxed{nan}",
}


def play(env, act, *, seed=0, index=None, steps=600):
    """An episode: what was seen and the sum of the rewards."""
    options = {} if index is None else {"index": index}
    seen, info = env.reset(seed=seed, options=options)
    record, total = [(seen, info)], 0.0
    for _ in range(steps):
        seen, reward, terminated, truncated, info = env.step(act(env))
        record.append((seen, reward, terminated, truncated, info))
        total += reward
        if terminated or truncated:
            break
    return record, total


def expert(env):
    return env.expert(np.random.default_rng(0))


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_checker_finds_nothing(env_id):
    check_env(rl_envs.make(env_id))  # warnings are errors here


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_make_gives_the_same_environment(env_id):
    with gymnasium.make(env_id) as wrapped:
        assert wrapped.reset(seed=4) == rl_envs.make(env_id).reset(seed=4)


@pytest.mark.parametrize("env_id", IDS)
def test_make_gives_the_bare_environment(env_id):
    assert isinstance(rl_envs.make(env_id), rl_envs.TextEnv)


@pytest.mark.parametrize("env_id", WITH_EXPERT)
def test_same_seed_same_episode(env_id):
    assert play(rl_envs.make(env_id), expert, seed=9) == play(rl_envs.make(env_id), expert, seed=9)


@pytest.mark.parametrize("env_id", IDS)
def test_index_fixes_the_task_whatever_the_seed(env_id):
    env = rl_envs.make(env_id)
    first = env.reset(seed=1, options={"index": 0})
    env.reset(seed=2)
    assert env.reset(seed=3, options={"index": 0}) == first


@pytest.mark.parametrize("env_id", IDS)
def test_a_given_task_is_played(env_id):
    env = rl_envs.make(env_id)
    task = env.tasks[0]
    _, info = env.reset(options={"task": task})
    assert info == {"task_id": task.id, "index": None}


@pytest.mark.parametrize(
    ("env_id", "split"), [case for case in WITH_SPLITS if case[0] in WITH_EXPERT]
)
def test_expert_gets_full_reward(env_id, split):
    env = rl_envs.make(env_id, split=split)
    fair = FULL_REWARD.get(env_id, 1.0)
    count = min(env.tasks.size or 5, 5)
    totals = [play(env, expert, index=index)[1] for index in range(count)]
    assert np.mean(totals) >= fair


@pytest.mark.parametrize("env_id", IDS)
def test_babble_gets_nothing(env_id):
    env = rl_envs.make(env_id)
    options = {"unknown": "end"} if env_id == "text/Gymnasium-v0" else {}
    env = rl_envs.make(env_id, **options)
    assert play(env, lambda _: "the answer is 17 or perhaps \\boxed{}")[1] == 0.0


@pytest.mark.parametrize("env_id", [env_id for env_id, split in WITH_SPLITS if split == "train"])
def test_train_and_test_share_no_task(env_id):
    def some_ids(split):
        tasks = rl_envs.make(env_id, split=split).tasks
        return {tasks[index].id for index in range(min(tasks.size or 300, 300))}

    assert not some_ids("train") & some_ids("test")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("env_id", IDS)
def test_hostile_text_never_raises_and_never_wins(env_id, text):
    env = rl_envs.make(env_id, **({"unknown": "end"} if env_id == "text/Gymnasium-v0" else {}))
    env.reset(seed=0, options={"index": 0})
    _, reward, _, _, info = env.step(text)
    assert reward == 0.0
    assert info["score"] is None or not info["score"].is_error


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("env_id", WITH_EXPERT)
def test_a_copy_continues_the_episode_alike(env_id, copied):
    env = rl_envs.make(env_id)
    env.reset(seed=5)
    twin = copied(env)
    action = expert(env)
    assert twin.step(action) == env.step(action)


@pytest.mark.parametrize("env_id", IDS)
def test_clone_shares_tasks_and_no_episode(env_id):
    env = rl_envs.make(env_id)
    env.reset(seed=5)
    twin = env.clone()
    assert twin.tasks is env.tasks
    assert twin.done


@pytest.mark.parametrize("env_id", WITH_EXPERT)
def test_async_twin_gives_the_same_episode(env_id):
    async def play_async(env):
        await env.areset(seed=6)
        return await env.astep(expert(env))

    env = rl_envs.make(env_id)
    env.reset(seed=6)
    assert asyncio.run(play_async(rl_envs.make(env_id))) == env.step(expert(env))


@pytest.mark.parametrize("env_id", IDS)
def test_ansi_rendering_shows_the_conversation(env_id):
    env = rl_envs.make(env_id, render_mode="ansi")
    seen, _ = env.reset(seed=0)
    assert seen[-1]["content"] in env.render()


@pytest.mark.parametrize("line", rl_envs.listing(), ids=lambda line: line.id)
def test_listing_describes_every_environment(line):
    assert line.turns >= 1
    assert line.description.endswith(".")
    assert line.source
    assert line.size
