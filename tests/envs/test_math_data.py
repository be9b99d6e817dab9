import os
from pathlib import Path

import numpy as np
import pytest

import rl_envs
from rl_envs import DataError

DATA = Path(os.environ.get("AGENT_RL_DATA", Path(__file__).parents[3] / "shared" / "data"))
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("text", "reward"),
    [("So 1001 it is: \\boxed{1001}", 1.0), ("\\boxed{1,001}", 1.0), ("\\boxed{1000}", 0.0)],
)
def test_gsm8k_is_judged_by_the_math_verifier(small_data, text, reward):
    env = rl_envs.make("text/GSM8K-v0")
    env.reset(options={"index": 1})
    assert env.step(text)[1] == reward


def test_math_answers_may_be_spelled_otherwise(small_data):
    env = rl_envs.make("text/MATH-v0")
    env.reset(options={"index": 0})
    assert env.step("\\boxed{0.5}")[1] == 1.0


def test_demonstration_is_the_solution_without_calculator_notes(small_data):
    env = rl_envs.make("text/GSM8K-v0")
    assert env.demonstration(env.tasks[0], "solution", RNG) == "1+1=2\n\\boxed{2}"


def test_a_row_without_an_answer_is_named(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"id": "a", "question": "q", "answer": ""}\n')
    with pytest.raises(DataError, match=r"own\.jsonl: row 0 \(id 'a'\): no answer"):
        rl_envs.make("text/GSM8K-v0", data=str(path)).reset(seed=0)


def test_own_data_with_other_column_names(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"frage": "1+1?", "antwort": "2"}\n')
    columns = {"question": "frage", "answer": "antwort"}
    env = rl_envs.make("text/GSM8K-v0", data=str(path), columns=columns)
    env.reset(seed=0)
    assert env.step("\\boxed{2}")[1] == 1.0


def test_making_reads_nothing():
    assert rl_envs.make("text/GSM8K-v0", data="nowhere.jsonl").max_turns == 1


def test_missing_data_is_named_on_first_use():
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        rl_envs.make("text/GSM8K-v0", data="nowhere.jsonl").reset(seed=0)


@pytest.mark.skipif(not (DATA / "gsm8k_train.jsonl").exists(), reason="needs shared/data")
@pytest.mark.parametrize(
    ("env_id", "split", "size"),
    [
        ("text/GSM8K-v0", "train", 7473),
        ("text/GSM8K-v0", "test", 1319),
        ("text/MATH-v0", "train", 2694),
        ("text/MATH-v0", "test", 500),
    ],
)
def test_real_data_is_whole_and_its_solutions_pass(monkeypatch, env_id, split, size):
    monkeypatch.setenv("AGENT_RL_DATA", str(DATA))
    env = rl_envs.make(env_id, split=split)
    assert env.tasks.size == size
    for index in range(0, size, size // 20):
        env.reset(options={"index": index})
        assert env.step(env.expert(RNG))[1] == 1.0


@pytest.mark.skipif(not (DATA / "gsm8k_train.jsonl").exists(), reason="needs shared/data")
@pytest.mark.parametrize("env_id", ["text/GSM8K-v0", "text/MATH-v0"])
def test_real_splits_share_no_question(monkeypatch, env_id):
    monkeypatch.setenv("AGENT_RL_DATA", str(DATA))
    train, test = (rl_envs.make(env_id, split=split).tasks for split in ("train", "test"))
    assert not {task.prompt for task in train} & {task.prompt for task in test}
