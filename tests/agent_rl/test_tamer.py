"""A person's word on single actions: who judges, what is asked, and that it learns."""

import json
from pathlib import Path

import numpy as np
import pytest

from agent_rl.errors import UserError
from agent_rl.loading import load_recipe
from agent_rl.recipe import run_recipe
from rl_envs.text.cartpole import CartPole

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs/cartpole_tamer.yaml")
SMALL = [
    "--steps=2",
    "--prompts_per_step=8",
    "--stream=10",
    "--labels=20",
    "--labels_first=0.5",
    "--evaluation.tasks=0",
    "--reward.updates=5",
    "--run.rollouts_every=1",
    "--run.checkpoint_every=1",
]


def train(folder, *overrides, resume=False):
    recipe = load_recipe(CONFIG, [*SMALL, f"--run.dir={folder}", *overrides])
    return run_recipe(recipe, resume=resume)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_oracle_judges_and_the_true_reward_plays_no_part(tmp_path, monkeypatch):
    train(tmp_path / "true", "--label_noise=0")
    respond, poison = CartPole.respond, np.random.default_rng(5)

    def poisoned(self, action):
        reply = respond(self, action)
        return type(reply)(reply.messages, float(poison.normal() * 1e6), reply.terminated)

    monkeypatch.setattr(CartPole, "respond", poisoned)
    train(tmp_path / "poisoned", "--label_noise=0")
    one, two = ((tmp_path / n / "model/model.safetensors") for n in ("true", "poisoned"))
    assert one.read_bytes() == two.read_bytes()
    rows = lines(tmp_path / "true" / "feedback.jsonl")
    assert len(rows) == 20
    for row in rows:
        seen, done = row["action"].split(" → ")
        lean = sum(w * (int(d) - 4.5) for w, d in zip(CartPole.weights, seen, strict=True))
        assert row["feedback"] == (1 if done == ("r" if lean > 0 else "l") else -1)


def test_a_word_is_worth_what_it_says_and_nothing_of_what_follows(tmp_path):
    train(tmp_path / "run")
    rollout = lines(tmp_path / "run" / "rollouts" / "step-000002.jsonl")[0]
    rewards = rollout["rewards"]
    assert max(rewards) <= 1.0
    assert min(rewards) >= -1.0
    metrics = [m for m in lines(tmp_path / "run" / "metrics.jsonl") if m["stage"] == "tamer"]
    # discount 0: an episode's return is its first action's word
    assert abs(metrics[-1]["reward/penalised"]) <= 1.0


def test_a_person_is_asked_and_the_run_goes_on(tmp_path):
    folder = tmp_path / "run"
    for stop in range(2):
        with pytest.raises(UserError, match=r"queries.jsonl .*labels.jsonl .*--resume"):
            train(folder, "--labeler=file", resume=stop > 0)
        with (folder / "labels.jsonl").open("a") as file:
            for row in lines(folder / "queries.jsonl"):
                file.write(json.dumps({**row, "feedback": -1}) + "\n")
    assert train(folder, "--labeler=file", resume=True)["labels"] == 20
    assert {row["feedback"] for row in lines(folder / "feedback.jsonl")} == {-1}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["--labels_first=0"], "labels_first"),
        (["--label_noise=2"], "label_noise"),
        (["--labels_until=3"], "labels_until is 3, after the last of 2 steps"),
        (["--envs=[{id: text/Gymnasium-v0}]"], "labeler: file"),
        (["--envs=[{id: text/Letters-v0}]"], "memory: full"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line(tmp_path, overrides, said):
    with pytest.raises(UserError, match=said) as caught:
        train(tmp_path / "run", *overrides)
    assert "\n" not in str(caught.value)


def test_words_that_are_filled_in_among_the_questions_are_read_and_kept(tmp_path):
    folder = tmp_path / "run"
    queries = folder / "queries.jsonl"
    with pytest.raises(UserError, match="wait for a word"):
        train(folder, "--labeler=file")
    asked = lines(queries)
    filled = [{**row, "feedback": 1 if n < 3 else None} for n, row in enumerate(asked)]
    queries.write_text("".join(json.dumps(row) + "\n" for row in filled))
    with pytest.raises(UserError, match=f"^{len(asked) - 3} actions wait"):
        train(folder, "--labeler=file", resume=True)
    assert lines(queries) == filled


def test_a_run_whose_episodes_are_all_masked_does_not_pass_for_training(tmp_path):
    with pytest.raises(UserError, match="on_truncation: score"):
        train(tmp_path / "run", "--on_truncation=mask")


def test_a_word_that_is_none_is_refused(tmp_path):
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"id": "a", "feedback": 0.5}\n')
    with pytest.raises(UserError, match=r"row 1: feedback is 0.5; it must be 1"):
        train(tmp_path / "run", "--labeler=file", f"--labels_path={labels}")


@pytest.mark.slow
def test_the_pole_is_balanced_from_words_on_actions(tmp_path):
    overrides = ["--steps=10", "--evaluation.every=0", "--evaluation.tasks=10"]
    recipe = load_recipe(CONFIG, [f"--run.dir={tmp_path / 'run'}", *overrides])
    summary = run_recipe(recipe)
    assert summary["labels"] == 1000
    assert summary["return_before"] < 5
    assert summary["return_after"] > 100
