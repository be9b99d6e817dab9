import json
import os
from pathlib import Path

import numpy as np
import pytest

import rl_envs
from rl_envs import DataError
from rl_envs.text.code_data import MBPP_IDS, called

DATA = Path(os.environ.get("AGENT_RL_DATA", Path(__file__).parents[3] / "shared" / "data"))
RNG = np.random.default_rng(0)


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_making_reads_nothing():
    assert rl_envs.make("text/MBPP-v0", data="nowhere.jsonl").max_turns == 1


def test_missing_data_is_named_on_first_use():
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        rl_envs.make("text/HumanEval-v0", data="nowhere.jsonl").reset(seed=0)


def test_human_eval_has_a_test_split_only():
    assert rl_envs.make("text/HumanEval-v0").split == "test"
    with pytest.raises(DataError, match=r"HumanEval has no split 'train'; it has \['test'\]"):
        rl_envs.make("text/HumanEval-v0", split="train")


def test_human_evals_prompt_is_the_function_to_complete(small_data):
    (message,), _ = rl_envs.make("text/HumanEval-v0").reset(seed=0)
    assert "```python\nfrom math import inf\n\n\ndef top(x):\n" in message["content"]


def test_what_human_evals_prompt_defines_need_not_be_repeated(small_data):
    env = rl_envs.make("text/HumanEval-v0")
    env.reset(seed=0)
    assert env.step("```python\ndef top(x):\n    return max(x, default=inf)\n```")[1] == 1.0


def test_human_evals_loop_counts(small_data):
    env = rl_envs.make("text/HumanEval-v0")
    env.reset(seed=0)
    assert env.step("```python\ndef top(x):\n    return 3 if x else inf\n```")[1] == 0.0


def test_human_eval_shows_no_test(small_data):
    env = rl_envs.make("text/HumanEval-v0", attempts=2)
    env.reset(seed=0)
    seen, *_ = env.step("```python\ndef top(x):\n    return 0\n```")
    assert "A test fails." in seen[0]["content"]


@pytest.mark.parametrize(
    ("split", "ids"),
    [("prompt", [2]), ("test", [11, 12]), ("validation", [511]), ("train", [601, 602])],
)
def test_mbpp_is_split_by_task_id(small_data, split, ids):
    tasks = rl_envs.make("text/MBPP-v0", split=split).tasks
    assert [task.id for task in tasks] == [f"MBPP/{number}" for number in ids]


def test_the_official_splits_of_mbpp():
    assert {split: len(ids) for split, ids in MBPP_IDS.items()} == {
        "prompt": 10,
        "test": 500,
        "validation": 90,
        "train": 374,
    }


@pytest.mark.parametrize("shown", [0, 1, 3])
def test_mbpp_shows_as_many_tests_as_asked(small_data, shown):
    prompt = rl_envs.make("text/MBPP-v0", show_tests=shown).tasks[0].prompt
    assert prompt.count("assert add_601(") == shown
    assert "add_601" in prompt


def test_mbpps_hidden_tests_count(small_data):
    env = rl_envs.make("text/MBPP-v0", show_tests=1, attempts=2)
    env.reset(options={"index": 0})
    seen, reward, *_ = env.step("```python\ndef add_601(x):\n    return 602\n```")
    assert reward == 0.0
    assert "another one fails" in seen[0]["content"]


@pytest.mark.parametrize("env_id", ["text/HumanEval-v0", "text/MBPP-v0"])
def test_the_demonstration_is_the_reference_in_a_fence(small_data, env_id):
    env = rl_envs.make(env_id)
    text = env.demonstration(env.tasks[0], "solution", RNG)
    assert text.startswith("```python\n")
    assert text.endswith("\n```")
    assert "\r" not in text


def test_a_row_without_a_column_is_named(tmp_path):
    path = write(tmp_path / "own.jsonl", {"task_id": 601, "text": "?", "test_list": ["assert f()"]})
    with pytest.raises(DataError, match=r"own\.jsonl: row 0: no code; columns found: task_id, "):
        rl_envs.make("text/MBPP-v0", data=path).reset(seed=0)


def test_a_split_without_rows_is_named(tmp_path, small_data):
    row = json.loads((small_data / "mbpp.jsonl").read_text().splitlines()[0])
    path = write(tmp_path / "own.jsonl", row)
    with pytest.raises(DataError, match="no task_id of the split 'test', 11 to 510"):
        rl_envs.make("text/MBPP-v0", data=path, split="test").reset(seed=0)


def test_tests_that_call_nothing_are_named(tmp_path):
    row = {"task_id": 601, "text": "?", "code": "def f(): pass", "test_list": ["assert g() == 1"]}
    path = write(tmp_path / "own.jsonl", row)
    with pytest.raises(DataError, match="MBPP row 601: its tests call no function of its code"):
        rl_envs.make("text/MBPP-v0", data=path).reset(options={"index": 0})


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("assert f(1) == 2", "f"),
        ("assert set(f(1)) == set([1])", "f"),
        ("assert f(g(1)) == 2", "f"),
        ("assert 2 == g(1)", "g"),
        ("assert h(1) == 2", None),
        ("assert (", None),
    ],
)
def test_the_function_that_is_called(test, name):
    assert called([test], "def f(x): pass\ndef g(x): pass") == name


@pytest.mark.skipif(not (DATA / "mbpp.jsonl").exists(), reason="needs shared/data")
@pytest.mark.parametrize(
    ("env_id", "split", "size"),
    [
        ("text/HumanEval-v0", "test", 164),
        ("text/MBPP-v0", "train", 374),
        ("text/MBPP-v0", "test", 500),
    ],
)
def test_real_data_is_whole_and_its_solutions_pass(monkeypatch, env_id, split, size):
    monkeypatch.setenv("AGENT_RL_DATA", str(DATA))
    env = rl_envs.make(env_id, split=split)
    assert env.tasks.size == size
    for index in range(0, size, size // 12):
        env.reset(options={"index": index})
        assert env.step(env.expert(RNG))[1] == 1.0


@pytest.mark.skipif(not (DATA / "mbpp.jsonl").exists(), reason="needs shared/data")
@pytest.mark.parametrize("env_id", ["text/HumanEval-v0", "text/MBPP-v0"])
def test_stubs_fail_on_real_data(monkeypatch, env_id):
    monkeypatch.setenv("AGENT_RL_DATA", str(DATA))
    env = rl_envs.make(env_id, split="test")
    for index in range(0, env.tasks.size, env.tasks.size // 12):
        env.reset(options={"index": index})
        name = env.task.info["entry_point"]
        assert env.step(f"```python\ndef {name}(*args):\n    return None\n```")[1] == 0.0
