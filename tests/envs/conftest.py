"""Small math data in place of the real files, so that every environment can be played."""

import json

import pytest

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
}


@pytest.fixture
def small_data(tmp_path, monkeypatch):
    """A folder with two tiny data sets, named by AGENT_RL_DATA."""
    for name, rows in ROWS.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("AGENT_RL_DATA", str(tmp_path))
    return tmp_path
