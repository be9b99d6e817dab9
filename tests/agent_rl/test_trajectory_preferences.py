"""Rewards from comparisons of segments: what is sealed, what is asked, and that it learns."""

import asyncio
import hashlib
import json
import math
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from agent_rl.config import SegmentRewardConfig
from agent_rl.engines import Sampling
from agent_rl.errors import UserError
from agent_rl.loading import load_recipe
from agent_rl.recipe import run_recipe
from agent_rl.rollout import Assignment, play_groups
from agent_rl.runs import Console
from agent_rl.segment_rewards import asking
from agent_rl.segment_rewards.asking import (
    Query,
    SyntheticLabeler,
    chosen_queries,
    labels_due,
)
from agent_rl.segment_rewards.clips import Clip, Features, clips_of
from agent_rl.segment_rewards.ensemble import RewardEnsemble, preference_loss
from agent_rl.segment_rewards.paying import paid
from agent_rl.segment_rewards.sealed import SealedReward, SealedRewardError, opened, seal
from agent_rl.segment_rewards.stream import Stream
from agent_rl.trajectory import Trajectory, Turn
from rl_envs import make
from rl_envs.text.cartpole import CartPole

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs/cartpole_preferences.yaml")
SMALL = [
    "--steps=2",
    "--prompts_per_step=8",
    "--stream=20",
    "--segment=5",
    "--end_steps=3",
    "--labels=12",
    "--labels_first=0.5",
    "--labels_half_life=0",
    "--evaluation.tasks=0",
    "--reward.updates=5",
    "--run.rollouts_every=0",
    "--run.checkpoint_every=1",
]


def train(folder, *overrides, resume=False):
    recipe = load_recipe(CONFIG, [*SMALL, f"--run.dir={folder}", *overrides])
    return run_recipe(recipe, resume=resume)


def weights(folder):
    """Every tensor of the newest checkpoint by its path: policy, values, learned reward, Adam."""
    path = sorted((folder / "checkpoints").glob("step-*"))[-1] / "state.pt"
    return dict(tensors(torch.load(path, weights_only=True)))


def tensors(tree, name=""):
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        if isinstance(value, torch.Tensor):
            yield f"{name}/{key}", value
        elif isinstance(value, dict | list | tuple):
            yield from tensors(value, f"{name}/{key}")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def turn(prompt=(1, 2), completion=(3,), reward=1.0):
    return Turn(prompt, completion, (-0.5,) * len(completion), "l", reward, "stop")


def trajectory(rewards):
    return Trajectory("env", "0", 0, 0, turns=[turn(reward=reward) for reward in rewards])


def clip(text, *rewards, features=None):
    made = torch.zeros(len(rewards), 2, dtype=torch.long) if features is None else features
    return Clip(text, made, tuple(SealedReward(reward) for reward in rewards))


def hashed(queries, rng):
    """Answers that depend on what is shown alone."""
    texts = [query.first.text + "|" + query.second.text for query in queries]
    return [float(hashlib.sha256(text.encode()).digest()[0] % 2) for text in texts]


READS = [
    lambda r: r + 1,
    lambda r: sum([r]),
    lambda r: r > 0,
    lambda r: r == 3.0,
    float,
    bool,
    lambda r: f"{r:.2f}",
    lambda r: {r},
    round,
    pickle.dumps,
]


@pytest.mark.parametrize("read", READS)
def test_a_sealed_reward_cannot_be_read(read):
    with pytest.raises(SealedRewardError):
        read(seal(trajectory([3.0])).turns[0].reward)


def test_below_python_a_sealed_reward_is_nan():
    rewards = [t.reward for t in seal(trajectory([3.0])).turns]
    assert torch.tensor(rewards).isnan().all()
    with pytest.raises(SealedRewardError):
        np.array(rewards, dtype=np.float64)
    assert repr(rewards) == "[SealedReward]"


def test_a_seal_is_opened_by_name_and_only_where_there_is_one():
    sealed = seal(trajectory([3.0, -1.0]))
    assert opened(t.reward for t in sealed.turns) == [3.0, -1.0]
    with pytest.raises(SealedRewardError):
        opened([1.0])


def test_only_labelers_and_measurements_open_seals():
    users = {
        path.name
        for path in (ROOT / "agent_rl").rglob("*.py")
        if re.search(r"import .*\bopened\b|\._true\b", path.read_text())
    }
    assert users == {"asking.py", "sealed.py", "tamer.py", "trajectory_preferences.py"}


def test_what_is_paid_replaces_every_seal():
    one, two = paid([seal(trajectory([5.0, 5.0])), seal(trajectory([5.0]))], torch.arange(3.0))
    assert [t.reward for t in one.turns] == [0.0, 1.0]
    assert [t.reward for t in two.turns] == [2.0]
    assert not any(isinstance(t.reward, SealedReward) for t in one.turns + two.turns)


def test_the_true_reward_moves_no_weight(tmp_path, monkeypatch):
    """With the answers held fixed, poisoned rewards leave every weight as it is, bit for bit."""
    monkeypatch.setattr(asking.SyntheticLabeler, "__call__", lambda self, q, rng: hashed(q, rng))
    train(tmp_path / "true")
    respond, poison = CartPole.respond, np.random.default_rng(5)

    def poisoned(self, action):
        reply = respond(self, action)
        return type(reply)(reply.messages, float(poison.normal() * 1e6), reply.terminated)

    monkeypatch.setattr(CartPole, "respond", poisoned)
    train(tmp_path / "poisoned")
    monkeypatch.setattr(
        asking.SyntheticLabeler,
        "__call__",
        lambda self, q, rng: [1.0 - label for label in hashed(q, rng)],
    )
    train(tmp_path / "other_answers")
    true = weights(tmp_path / "true")
    assert same(true, weights(tmp_path / "poisoned"))
    assert not same(true, weights(tmp_path / "other_answers"))


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    train(tmp_path / "whole")
    with monkeypatch.context() as patch:

        def interrupt(self, step, metrics):
            if step == 2:
                raise KeyboardInterrupt

        patch.setattr(Console, "step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut")
    train(tmp_path / "cut", resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    one, two = ((tmp_path / n / "preferences.jsonl").read_text() for n in ("whole", "cut"))
    assert one == two
    assert len(one.splitlines()) == 12


def test_a_person_is_asked_and_the_run_goes_on(tmp_path):
    folder = tmp_path / "run"
    for stop in range(2):  # once in each step
        with pytest.raises(UserError, match=r"agent-rl label .*queries.jsonl .*--resume"):
            train(folder, "--labeler=file", resume=stop > 0)
        rows = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
        for n, row in enumerate(rows):
            row["tie"] = n % 2 == 1
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "labels.jsonl").write_text(text)
    summary = train(folder, "--labeler=file", resume=True)
    assert (summary["labels"], summary["ties"]) == (12, 6)


def test_questions_are_no_answers(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=r"labels_path is .*where the stage writes its questions"):
        train(folder, "--labeler=file", f"--labels_path={folder / 'queries.jsonl'}")


def test_answers_of_people_are_averaged_and_those_to_other_questions_count_for_nothing(tmp_path):
    answers, rng = tmp_path / "labels.jsonl", np.random.default_rng(0)
    answers.touch()  # a page that was opened and closed
    labeler = asking.FileLabeler(tmp_path / "queries.jsonl", answers, "Which?")
    query = Query(clip("a", 1.0), clip("b", 0.0))
    with pytest.raises(UserError, match=r"^1 pairs wait"):
        labeler([query], rng)
    row = query.pair("Which?").row()
    swapped = {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
    foreign = {**row, "prompt": "Which else?"}
    answers.write_text("".join(json.dumps(r) + "\n" for r in [foreign] * 5))
    with pytest.raises(UserError, match=r"^1 pairs wait"):
        labeler([query], rng)
    said = [row, row, swapped, {**row, "tie": True}, foreign]
    answers.write_text("".join(json.dumps(r) + "\n" for r in said))
    assert labeler([query], rng) == [2.5 / 4]


def test_a_stream_hides_where_episodes_end(chat, scripted):
    env = Stream(make("text/CartPole-v0"), steps=60, end_text="ended", end_steps=4)
    play = play_groups(
        scripted(lambda text, _: "l"),
        chat,
        [Assignment(env, "env", i, i) for i in range(3)],
        group_size=1,
        sampling=Sampling(max_tokens=1),
        seed=0,
    )
    for played in asyncio.run(play):
        said = [messages[-1]["content"] for messages in played.answers]
        down = [place for place, text in enumerate(said) if text == "ended"]
        assert (len(played.turns), played.terminated, played.truncated) == (60, False, True)
        assert len(down) >= 8
        assert all(played.turns[place + 1].reward == 0.0 for place in down if place < 59)
        assert played.total_reward == 60 - len([place for place in down if place < 59])
        assert down[:4] == list(range(down[0], down[0] + 4))
        assert said[down[0] + 4] != "ended"


def test_clips_have_one_length_and_short_episodes_give_none(chat):
    played = [trajectory([1.0] * 7), trajectory([1.0] * 2)]
    for one in played:
        one.opening = ({"role": "user", "content": "12"},)
        one.answers = [({"role": "user", "content": "34"},)] * len(one.turns)
    clips = clips_of([seal(t) for t in played], 3, Features(50), chat, np.random.default_rng(0))
    assert [len(c.sealed) for c in clips] == [3, 3]
    assert "34 → l" in clips[0].text


def test_features_tell_position_and_token_apart():
    features = Features(vocabulary=10, buckets=4096, seen=3, done=2)
    a, b, c = features.of([turn((1, 2), (3,)), turn((2, 1), (3,)), turn((9, 1, 2), (3,))])
    assert set(a[:2].tolist()).isdisjoint(b[:2].tolist())
    assert c[:2].tolist() == a[:2].tolist()  # counted from the end
    assert a[2] == 4096
    assert a[3] == b[3] < 4096


@pytest.mark.parametrize("half_life", [0, 5])
def test_the_schedule_spends_all_labels_at_a_falling_rate(half_life):
    due = [labels_due(s, 20, total=700, first=0.25, half_life=half_life) for s in range(1, 25)]
    assert due[0] == 175
    assert due[19:] == [700] * 5
    steps = np.diff(due[:20])
    if half_life:
        assert steps[0] > 2 * steps[-1]
        rates = [5 / (5 + s) for s in range(1, 20)]
        assert due[4] == 175 + int(525 * sum(rates[:4]) / sum(rates))
    else:
        assert steps.max() - steps.min() <= 1


def test_the_synthetic_labeler_errs_at_its_rate_on_ties_too():
    rng = np.random.default_rng(0)
    queries = [Query(clip("a", 1.0, 1.0), clip("b", 1.0, 0.0))] * 2000
    assert np.mean(SyntheticLabeler(0.1)(queries, rng)) == pytest.approx(0.9, abs=0.02)
    assert SyntheticLabeler(0.0)(queries[:2], rng) == [1.0, 1.0]
    tied = [Query(clip("a", 0.0, 1.0), clip("b", 1.0, 0.0))] * 2000
    assert SyntheticLabeler(0.0)(tied[:2], rng) == [0.5, 0.5]
    said = SyntheticLabeler(0.1)(tied, rng)
    assert np.mean(np.array(said) == 0.5) == pytest.approx(0.9, abs=0.02)
    assert np.mean(said) == pytest.approx(0.5, abs=0.02)


def test_the_loss_is_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    sums = torch.randn(6, 2, generator=generator, dtype=torch.float64) * 3
    labels = torch.tensor([1.0, 0.0, 0.5, 1.0, 0.0, 0.5], dtype=torch.float64)
    found = preference_loss(sums, labels, 0.1)
    for (a, b), label, loss in zip(sums.tolist(), labels.tolist(), found.tolist(), strict=True):
        p = 0.9 * math.exp(a) / (math.exp(a) + math.exp(b)) + 0.05
        assert loss == pytest.approx(-label * math.log(p) - (1 - label) * math.log(1 - p))


def test_disagreement_chooses_what_is_asked():
    queries = [Query(clip(str(n), 0.0), clip("x", 0.0)) for n in range(4)]
    chances = torch.tensor([[0.9, 0.5, 0.9, 0.1], [0.9, 0.5, 0.1, 0.2]])
    chosen = chosen_queries(queries, 2, lambda features: chances)
    assert [query.first.text for query in chosen] == ["2", "3"]
    assert chosen_queries(queries, 2, None) == queries[:2]


def test_the_ensemble_learns_and_its_samples_never_change():
    config = SegmentRewardConfig(buckets=16, hidden=16, updates=150)
    ensemble = RewardEnsemble(config, seed=0)
    draw = torch.Generator().manual_seed(1)
    features = torch.randint(4, (200, 2, 5, 1), generator=draw)
    worth = torch.tensor([-1.0, 0.0, 1.0, 2.0])
    true = worth[features].sum((-1, -2))
    labels = (0.5 + 0.5 * (true[:, 0] - true[:, 1]).sign()).float()
    ensemble.fit(features, labels, lambda r, y: preference_loss(r.sum(-1), y, 0.1))
    learned = ensemble.rewards(torch.arange(4).unsqueeze(1)).mean(0)
    assert learned.argsort().tolist() == [0, 1, 2, 3]
    assert torch.equal(ensemble._counts(50), ensemble._counts(200)[:, :50])
    steps = features.flatten(0, -2)
    rewards = ensemble.normalised(steps, ensemble.scales(steps))
    assert rewards.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert rewards.std().item() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["--segment=30"], "segment"),
        (["--label_noise=1.5"], "label_noise"),
        (["--labels_first=0"], "labels_first"),
        (["--algorithm.dynamic_sampling=true"], "dynamic_sampling"),
        (["--labels_path=x"], "labels_path"),
        (["--labels_until=3"], "labels_until is 3, after the last of 2 steps"),
        (["--uniform=1"], "uniform is 1"),
        (["--on_truncation=mask"], "on_truncation: score"),
        (["--end_text=gone"], "alphabet lacks"),
        (["--envs=[{id: text/Letters-v0}]"], "stream: 0"),
        (["--stream=4", "--segment=4", "--prompts_per_step=1"], "no two different clips"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line(tmp_path, overrides, said):
    with pytest.raises(UserError, match=said) as caught:
        train(tmp_path / "run", *overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_pole_is_balanced_from_comparisons(tmp_path):
    """A smaller budget than the configuration's: any reply pushes, so only balance is learned."""
    overrides = {
        "run.dir": tmp_path / "run",
        "envs": "[{id: text/CartPole-v0, options: {unknown: random}}]",
        "steps": 12,
        "prompts_per_step": 16,
        "optimizer.lr": 3e-3,
        "labels": 300,
        "reward.updates": 50,
        "evaluation.every": 0,
        "evaluation.tasks": 10,
        "run.rollouts_every": 0,
        "run.checkpoint_every": 0,
    }
    summary = run_recipe(load_recipe(CONFIG, [f"--{k}={v}" for k, v in overrides.items()]))
    assert summary["labels"] == 300
    assert summary["return_before"] < 40
    assert summary["return_after"] > 100
    assert summary["sampled_return_after"] > 45
    assert summary["reward_accuracy"] > 0.8
