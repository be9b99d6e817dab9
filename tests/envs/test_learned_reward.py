"""Learned rewards and preferences as environments; the models are functions, no network is read."""

import asyncio
import itertools
import json
import math

import numpy as np
import pytest

import rl_envs
from rl_envs import DataError
from rl_envs.text import preference
from rl_envs.text.learned_judge import llama2_reward
from rl_envs.text.preference import pairs_of
from rl_verifiers import Score, VerifierError
from rl_verifiers.combine import score_group

LETTERS = {"env": "text/Letters-v0"}
ROWS = [{"prompt": f"question {n}", "chosen": f"answer {n}"} for n in range(60)]
ACTION = "a" * 10  # 10 vowels: gold (8 - 2) / 8


def length(completion, row):
    return len(completion) / 10


def vowels(completion, row):
    return sum(map(completion.count, "aeiou")) / 10


def broken(completion, row):
    return Score.failed("it is gone")


def learned(**options):
    options = {"prompts": LETTERS, "reward_models": [{"name": length}], **options}
    return rl_envs.make("text/LearnedReward-v0", **options)


def judged(env, action=ACTION):
    env.reset(seed=0, options={"index": 0})
    _, reward, terminated, _, info = env.step(action)
    assert terminated
    return reward, info["score"]


# Prompts.


def test_tasks_system_prompt_and_demonstrations_come_from_the_environment_of_the_prompts():
    env, inner = learned(split="test"), rl_envs.make("text/Letters-v0", split="test")
    assert env.tasks[0] == inner.tasks[0]
    assert env.styles == inner.styles
    rng = np.random.default_rng
    shown = env.demonstration(env.tasks[0], "best", rng(3))
    assert shown == inner.demonstration(env.tasks[0], "best", rng(3))
    asked = rl_envs.make(
        "text/LearnedReward-v0",
        prompts={"env": "text/Letters-v0", "options": {"system_prompt": "Write."}},
        reward_models=[{"name": length}],
    )
    assert [m["role"] for m in asked.reset(seed=0)[0]] == ["system", "user"]


def test_a_reward_model_reads_the_prompt_as_the_policy_saw_it():
    seen = []

    def looks(completion, row):
        seen.append(row["prompt"])
        return 0.0

    env = learned(system_prompt="Write.", reward_models=[{"name": looks}])
    observation, _ = env.reset(seed=0, options={"index": 0})
    env.step("a")
    assert seen == [list(observation)]


def test_prompts_of_rows_and_files_are_split_by_the_prompt(tmp_path):
    twice = [*ROWS, *({**row, "id": f"again-{n}"} for n, row in enumerate(ROWS))]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in twice))
    splits = {}
    for prompts in (twice, {"path": str(tmp_path / "rows.jsonl")}):
        for split in ("train", "test"):
            tasks = learned(prompts=prompts, split=split).tasks
            splits[split] = {task.prompt for task in tasks}
            assert len(tasks) == 2 * len(splits[split])
        assert not splits["train"] & splits["test"]
        assert len(splits["train"]) + len(splits["test"]) == 60
    env = learned(prompts=twice)
    assert env.demonstration(env.tasks[0], "", np.random.default_rng(0)).startswith("answer")


# The reward.


def test_a_weighted_sum_with_rules_and_guards_adds_up_and_shows_its_parts():
    env = learned(
        reward_models=[{"name": length, "weight": 2.0}, {"name": vowels, "as": "v", "weight": -1}],
        rules=[{"name": "regex", "pattern": "z", "weight": -0.25, "as": "no_z"}],
        length={"max_length": 20, "buffer": 10, "penalty": 0.5, "per_unit": 0.01},
        repetition={"unit": "characters", "n": 3},
        gold="prompts",
    )
    action = "za" * 8  # 16 characters, 8 vowels: gold 1
    reward, score = judged(env, action)
    parts = score.parts
    assert (parts["guard/length"], parts["v"]) == (pytest.approx(-0.5 * 0.6 - 0.16), 0.8)
    assert parts["models/value"] == pytest.approx(2 * 1.6 - 0.8)
    assert parts["no_z"] == 1.0
    assert parts["guard/repetition"] == pytest.approx(-(1 - 2 / 14))
    paid = parts["models/value"] - 0.25 + parts["guard/length"] + parts["guard/repetition"]
    assert reward == score.value == pytest.approx(paid)
    assert (parts["gold/value"], parts["gold/passed"], parts["gold/vowels"]) == (1.0, 0.0, 8.0)


def test_gold_is_never_paid_and_its_failure_changes_nothing():
    reward, score = judged(learned(), ACTION)
    assert reward == 1.0
    with_gold, shown = judged(learned(gold="prompts"), ACTION)
    assert (with_gold, shown.passed, shown.status) == (reward, score.passed, score.status)
    assert shown.parts["gold/value"] == 0.75
    without, failed = judged(learned(gold=broken), ACTION)
    assert (without, failed.is_error, failed.parts["gold/failed"]) == (reward, False, 1.0)


@pytest.mark.parametrize("option", ["reward_models", "rules"])
def test_a_part_that_fails_us_is_an_error_and_no_reward(option):
    _, score = judged(learned(**{option: [{"name": broken}]}))
    assert score.is_error
    assert score.error == "broken: it is gone"


def test_an_error_is_judged_once_more():
    calls = itertools.count()

    def shaky(completion, row):
        return Score.failed("busy") if next(calls) == 0 else 0.5

    assert judged(learned(reward_models=[{"name": shaky}]))[0] == 0.5


def test_min_is_the_smallest_weighted_value():
    models = [{"name": length}, {"name": vowels, "weight": 0.5}]
    assert judged(learned(reward_models=models, combine="min"))[0] == 0.5


@pytest.mark.parametrize(
    ("helpful", "safe", "unsafe", "chosen"),
    [
        (0.9, 0.8, False, 0.9),
        (0.9, 0.1, False, 0.1),
        (0.9, 0.8, True, 0.8),
        (0.9, 0.15, False, 0.9),
    ],
)
def test_llama2_pays_the_log_odds_of_the_model_that_decides(helpful, safe, unsafe, chosen):
    value, by_safety = llama2_reward(helpful, safe, unsafe=unsafe)
    assert value == pytest.approx(math.log(chosen / (1 - chosen)))
    assert by_safety == (chosen == safe)


def test_llama2_in_the_environment():
    def always(value):
        return lambda completion, row: value

    models = [
        {"name": always(0.9), "as": "helpfulness"},
        {"name": always(0.3), "as": "safety"},
    ]
    rows = [{**row, "unsafe": True} for row in ROWS]
    told = [{**row, "unsafe": "False"} for row in ROWS]  # as a CSV file holds it
    plain = {"rule": "llama2", "mean": 1.0, "std": 2.0}
    reward, score = judged(learned(reward_models=models, combine=plain))
    assert reward == pytest.approx((math.log(9) - 1) / 2)
    assert score.parts["models/by_safety"] == 0.0
    reward, score = judged(learned(prompts=rows, reward_models=models, combine="llama2"))
    assert reward == pytest.approx(math.log(3 / 7))
    assert score.parts["models/by_safety"] == 1.0
    _, score = judged(learned(prompts=told, reward_models=models, combine="llama2"))
    assert score.parts["models/by_safety"] == 0.0
    models[0]["name"] = always(1.5)
    with pytest.raises(VerifierError, match="set its normalize to sigmoid"):
        judged(learned(reward_models=models, combine="llama2"))


def test_clones_share_what_judges():
    env = learned()
    assert env.clone().judging is env.judging


BAD = [
    ({"prompts": {"env": "text/TicTacToe-v0"}}, "plays by itself"),
    ({"prompts": {"env": "text/Letters-v0", "option": {}}}, "no 'option'; it has env, options"),
    ({"prompts": {"env": "text/Letters-v0", "options": {"split": "test"}}}, "set split beside it"),
    ({"prompts": "rows.jsonl"}, "give {env: ID}"),
    ({"reward_models": None}, "no reward_models"),
    ({"reward_models": {"path": "rm"}}, "must be a list of mappings"),
    ({"reward_models": [{"weight": 1}]}, "needs path, url, env or name"),
    ({"reward_models": [{"name": "maths"}]}, "no verifier 'maths'"),
    ({"reward_models": [{"name": length, "weight": 0}]}, "weight is 0"),
    ({"reward_models": [{"name": length}] * 2}, "two parts of the reward are called 'length'"),
    ({"reward_models": [{"name": vowels, "as": "a/b"}]}, "must be a word"),
    ({"combine": "mean"}, "it must be sum, min, llama2"),
    ({"combine": "llama2"}, "takes two reward models called helpfulness and safety"),
    ({"combine": {"rule": "min", "threshold": 0.1}}, "threshold is for the rule llama2"),
    ({"length": {"max_length": 10, "unit": "tokens"}}, "algorithm.overlong_buffer"),
    ({"length": {"buffer": 10}}, "give max_length, per_unit, or both"),
    ({"length": {"max_length": 10, "buffer": 20}}, "buffer at most max_length"),
    ({"repetition": {"m": 3}}, "no 'm'; it has n, max_penalty"),
    ({"verifier": "math"}, "verifiers of its own"),
    ({"gold": "prompts", "prompts": ROWS}, "the prompts are no environment's"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_options_that_cannot_work(options, message):
    options = {"reward_models": [{"name": vowels}], **options}
    with pytest.raises(DataError, match=message):
        learned(**options)


# Preferences.


def compared(texts, *, rows=None, **options):
    env = rl_envs.make("text/Preference-v0", **{"prompts": LETTERS, **options})
    row = rl_envs.make("text/Letters-v0").tasks[0].row()
    return asyncio.run(score_group(env.group_verifier, texts, rows or [row] * len(texts)))


def test_the_reward_is_the_share_of_wins_and_a_tie_is_a_half():
    scores = compared(["aaaa", "aab", "aa", "aa", "b"], reward_model={"name": vowels})
    assert [s.value for s in scores] == [1.0, 0.5, 0.5, 0.5, 0.0]
    assert [s.passed for s in scores] == [True, False, False, False, False]
    assert sum(s.value for s in scores) == 2.5


def test_a_pair_gets_plus_and_minus_one_when_centred():
    scores = compared(["aa", "a"], reward_model={"name": vowels}, centred=True)
    assert [s.value for s in scores] == [1.0, -1.0]
    assert compared(["a"], reward_model={"name": vowels}, centred=True)[0].value == 0.0


def test_soft_wins_are_probabilities():
    scores = compared(["aaaa", "b"], reward_model={"name": vowels}, soft=True)
    assert scores[0].value == pytest.approx(1 / (1 + math.exp(-0.4)))
    assert scores[0].value + scores[1].value == pytest.approx(1.0)


def test_blank_answers_lose_unread():
    def never_blank(completion, row):
        assert completion.strip()
        return 0.0

    scores = compared(["b", " ", ""], reward_model={"name": never_blank})
    assert [s.value for s in scores] == [1.0, 0.25, 0.25]


def test_our_failure_masks_the_whole_group():
    def fails_on_b(completion, row):
        return Score.failed("it is gone") if completion == "b" else 0.0

    assert all(s.is_error for s in compared(["a", "b", "c"], reward_model={"name": fails_on_b}))


class Judge:
    """Prefers the longer text, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    async def __call__(self, completion, row):
        self.asked.append((completion, row["opponent"]))
        gap = len(completion) - len(row["opponent"])
        return Score(0.5 + 0.5 * np.sign(gap), False, "wrong", "", {"position_consistent": 1.0})


@pytest.fixture
def judge(monkeypatch):
    made = Judge()
    monkeypatch.setattr(preference, "make", lambda name, **options: made)
    return made


def test_a_judge_is_asked_once_for_every_pair(judge):
    scores = compared(["a", "bbb", "cc"], judge={"model": "m"})
    assert [s.value for s in scores] == [0.0, 1.0, 0.5]
    assert len(judge.asked) == 3
    assert scores[0].parts["position_consistent"] == 1.0


def test_next_bounds_the_comparisons_by_the_number_of_samples(judge):
    texts = ["x" * n for n in range(1, 9)]
    compared(texts, judge={"model": "m"}, opponents="next")
    assert len(judge.asked) == 8
    met = [text for pair in judge.asked for text in pair]
    assert all(met.count(text) == 2 for text in texts)
    assert list(pairs_of(texts, "next")) == list(pairs_of(texts, "next"))


def test_a_baseline_is_the_opponent_of_every_sample():
    def longer(completion, row):
        return len(completion)

    env = rl_envs.make(
        "text/Preference-v0", prompts=ROWS, reward_model={"name": longer}, baseline="chosen"
    )
    assert env.group_verifier is None
    chosen = env.tasks[0].info["chosen"]
    rewards = [judged(env, text)[0] for text in (chosen + "!", chosen, chosen[:-1], "")]
    assert rewards == [1.0, 0.5, 0.0, 0.0]


def test_without_a_group_nothing_is_paid():
    env = rl_envs.make("text/Preference-v0", prompts=LETTERS, reward_model={"name": vowels})
    env.prepare()
    assert judged(env) == (0.0, None)
    assert env.clone().group_verifier is env.group_verifier


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either judge or reward_model"),
        ({"judge": {}, "reward_model": {"name": vowels}}, "give either judge or reward_model"),
        ({"reward_model": {"name": vowels}, "opponents": "some"}, "it must be all or next"),
        ({"judge": {"model": "m"}, "soft": True}, "soft is for a reward model"),
        ({"judge": {"model": "m", "mode": "rubric"}}, "mode is not an option here"),
    ],
)
def test_preferences_that_cannot_work(options, message):
    with pytest.raises(DataError, match=message):
        rl_envs.make("text/Preference-v0", prompts=LETTERS, **options)
