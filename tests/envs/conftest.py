"""Small data in place of the real files, so that every environment can be played."""

import json

import pytest


def mbpp_row(number):
    """A function that adds its row's number; numbers are those of all four splits."""
    return {
        "task_id": number,
        "text": f"Write a function to add {number} to a number.",
        "code": f"def add_{number}(x):\r\n\treturn x + {number}",
        "test_list": [f"assert add_{number}({x}) == {x + number}" for x in (1, 2, 5)],
        "test_setup_code": "",
        "challenge_test_list": [],
    }


ROWS = {
    "gsm8k_train.jsonl": [
        {"id": "g0", "question": "One and one?", "solution": "1+1=<<1+1=2>>2\n#### 2"},
        {"id": "g1", "question": "A thousand and one?", "answer": "1000+1=1001\n#### 1,001"},
    ],
    "gsm8k_test.jsonl": [{"id": "g2", "question": "Two and two?", "answer": "2+2=4\n#### 4"}],
    "math_test_rest_60.jsonl": [
        {"id": "m0", "problem": "Half of one?", "solution": "It is $\\boxed{\\frac{1}{2}}$."}
    ],
    "math500.jsonl": [
        {"id": "m1", "problem": "Twice $x$?", "solution": "So $\\boxed{2x}$.", "answer": "2x"}
    ],
    "humaneval.jsonl": [
        {
            "task_id": "HumanEval/0",
            "prompt": 'from math import inf\n\n\ndef top(x):\n    """The largest, else inf."""\n',
            "entry_point": "top",
            "canonical_solution": "    return max(x, default=inf)\n",
            "test": "def check(candidate):\n    assert candidate([1, 3, 2]) == 3\n"
            "    assert candidate([]) > 10\n    for n in range(3):\n"
            "        assert candidate([n]) == n\n",
        },
    ],
    "mbpp.jsonl": [mbpp_row(number) for number in (2, 11, 12, 511, 601, 602)],
}


@pytest.fixture
def small_data(tmp_path, monkeypatch):
    """A folder with tiny data sets, named by AGENT_RL_DATA."""
    for name, rows in ROWS.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("AGENT_RL_DATA", str(tmp_path))
    return tmp_path
