import json

import numpy as np
import pytest

import rl_envs
from rl_envs import DataError
from rl_envs.text.code_contests import contest_task

RNG = np.random.default_rng(0)
PAIRS = [{"stdin": "1\n", "expected_stdout": "2\n"}, {"stdin": "3\n", "expected_stdout": "4\n"}]
SIDE_BY_SIDE = {"input": ["1\n", "3\n"], "output": ["2\n", "4\n"]}
SOLUTION = "print(int(input()) + 1)\n"


def make(path=None, *rows, **options):
    if path is not None:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        options["data"] = str(path)
    return rl_envs.make("text/CodeContests-v0", **options)


def read(**columns):
    return contest_task({"problem": "Add one.", **columns}).info["tests"]


@pytest.mark.parametrize(
    "columns",
    [
        {"tests": PAIRS},
        {"tests": json.dumps(PAIRS)},
        {"tests": [{"input": "1\n", "output": "2\n"}, {"input": "3\n", "output": "4\n"}]},
        {"tests": [{"input": ["1", ""], "output": "2\n"}, {"input": "3\n", "output": ["4", ""]}]},
        {"input_output": {"inputs": ["1\n", "3\n"], "outputs": ["2\n", "4\n"]}},
        {"input_output": json.dumps({"inputs": ["1\n", "3\n"], "outputs": ["2\n", "4\n"]})},
        {"public_tests": SIDE_BY_SIDE},
        {
            "public_tests": {"input": ["1\n"], "output": ["2\n"]},
            "private_tests": {"input": ["3\n"], "output": ["4\n"]},
        },
    ],
)
def test_the_ways_to_write_tests(columns):
    assert read(**columns) == PAIRS


def test_public_tests_are_those_that_may_be_shown():
    row = {"problem": "?", "public_tests": SIDE_BY_SIDE, "private_tests": SIDE_BY_SIDE}
    assert contest_task(row, show=1).info["n_shown"] == 2


def test_without_public_tests_the_option_says_how_many_may_be_shown():
    assert contest_task({"problem": "?", "tests": PAIRS}, show=1).info["n_shown"] == 1


def test_most_tests():
    assert contest_task({"problem": "?", "tests": PAIRS}, most=1).info["tests"] == PAIRS[:1]


@pytest.mark.parametrize(
    "columns",
    [
        {"solution": SOLUTION},
        {"solutions": [SOLUTION, "other"]},
        {"solutions": json.dumps([SOLUTION])},
        {"solutions": {"language": [2, 3], "solution": ["int main() {}", SOLUTION]}},
    ],
)
def test_the_ways_to_write_solutions(columns):
    assert contest_task({"problem": "?", "tests": PAIRS, **columns}).info["solution"] == SOLUTION


@pytest.mark.parametrize(
    ("columns", "limits"),
    [
        ({}, {}),
        ({"time_limit_s": 2}, {"cpu_s": 2.0, "wall_s": 10.0}),
        ({"time_limit_s": 8}, {"cpu_s": 8.0, "wall_s": 24.0}),
        ({"time_limit": {"seconds": 1, "nanos": 500_000_000}}, {"cpu_s": 1.5, "wall_s": 10.0}),
        ({"memory_mb": 64}, {"memory_mb": 64}),
        ({"memory_limit_bytes": 256_000_000}, {"memory_mb": 244}),
    ],
)
def test_the_limits_of_a_row(columns, limits):
    assert contest_task({"problem": "?", "tests": PAIRS, **columns}).info["limits"] == limits


BUSY = """```python
import time
while time.process_time() < 1.5: pass
print(int(input()) + 1)
```"""


@pytest.mark.parametrize(
    ("row_s", "options", "status"),
    [
        (0.3, {}, "over_limit"),
        (None, {"limits": {"cpu_s": 0.3}}, "over_limit"),
        (0.3, {"limits": {"cpu_s": 5}}, "correct"),
    ],
)
def test_the_time_limit_is_the_options_or_else_the_rows(tmp_path, row_s, options, status):
    row = {"problem": "?", "tests": PAIRS[:1], "split": "train"}
    row |= {} if row_s is None else {"time_limit_s": row_s}
    env = make(tmp_path / "own.jsonl", row, **options)
    env.reset(seed=0)
    assert env.step(BUSY)[4]["score"].status == status


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_solutions_of_the_examples_pass(split):
    env = make(split=split)
    for index in range(env.tasks.size):
        env.reset(options={"index": index})
        assert env.step(env.expert(RNG))[1] == 1.0


def test_a_dozen_examples():
    assert sum(make(split=split).tasks.size for split in ("train", "test")) == 12


@pytest.mark.parametrize("code", ["pass", "print(0)", "print(input())", "print('YES')"])
def test_programs_that_do_nothing_fail_the_examples(code):
    env = make()
    for index in range(env.tasks.size):
        env.reset(options={"index": index})
        assert env.step(f"```python\n{code}\n```")[1] == 0.0


def test_feedback_shows_input_expected_and_printed(tmp_path):
    row = {"problem": "?", "tests": PAIRS, "split": "train"}
    env = make(tmp_path / "own.jsonl", row, attempts=2)
    env.reset(seed=0)
    seen, *_ = env.step("```python\nprint(input())\n```")
    assert "input '1\\n' gave '1\\n', not '2\\n'" in seen[0]["content"]
    assert "3" not in seen[0]["content"]


def test_rows_without_a_split_are_split_by_their_problem(tmp_path):
    rows = [{"problem": f"Problem {n}.", "tests": PAIRS, "id": str(n)} for n in range(60)]
    ids = {
        split: {task.id for task in make(tmp_path / "own.jsonl", *rows, split=split).tasks}
        for split in ("train", "test")
    }
    assert len(ids["train"] | ids["test"]) == 60
    assert not ids["train"] & ids["test"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"tests": []}, "no tests in tests, input_output"),
        ({"tests": "[1"}, "tests: text that is not JSON"),
        ({"tests": 5}, "tests: needs a list of {stdin, expected_stdout}"),
        ({"tests": [PAIRS[0], {"stdin": "1"}]}, "tests, test 1: needs the text expected_stdout"),
        ({"tests": [{"expected_stdout": "1"}]}, "tests, test 0: needs the text stdin"),
        ({"tests": ["1"]}, "tests, test 0: needs the text stdin"),
        ({"public_tests": {"input": ["1"], "output": []}}, "public_tests: 1 inputs but 0 outputs"),
        ({"public_tests": {"input": ["1"]}}, "public_tests: needs the lists input and output"),
        ({"input_output": {"fn_name": "f", "inputs": []}}, "input_output: tests of a function"),
        ({"tests": PAIRS, "time_limit_s": "2"}, "time_limit_s: '2' is not a number above 0"),
        ({"tests": PAIRS, "memory_mb": 0}, "memory_mb: 0 is not a number above 0"),
        ({"tests": PAIRS, "problem": ""}, "no text in problem, description"),
    ],
)
def test_errors_name_the_row_and_the_column(tmp_path, columns, message):
    good = {"problem": "?", "tests": PAIRS, "split": "train"}
    bad = {"id": "b7", "problem": "?", "split": "train", **columns}
    with pytest.raises(DataError, match=rf"own\.jsonl: row 1 \('b7'\): {message}"):
        make(tmp_path / "own.jsonl", good, bad).reset(seed=0)


def test_a_split_without_rows_is_named(tmp_path):
    row = {"problem": "?", "tests": PAIRS, "split": "train"}
    with pytest.raises(DataError, match="none of 1 rows belongs to the split 'test'"):
        make(tmp_path / "own.jsonl", row, split="test").reset(seed=0)
