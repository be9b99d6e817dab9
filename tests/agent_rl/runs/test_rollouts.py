import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_rl.runs import RunFolder
from agent_rl.runs.rollouts import Budget, choose_steps, compact, embed


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run", {})


def rows(groups, size, completion="x"):
    return [
        {"group": g, "sample": s, "prompt": f"p{g}", "completion": completion, "reward": 1.0}
        for g in range(groups)
        for s in range(size)
    ]


@given(st.lists(st.integers(0, 10**4), max_size=60, unique=True).map(sorted), st.integers(2, 30))
def test_chosen_steps_are_few_and_hold_the_newest_and_the_oldest(saved, limit):
    chosen = choose_steps(saved, limit)
    assert len(chosen) == len(set(chosen)) <= limit
    assert set(chosen) <= set(saved)
    assert not saved or {saved[0], saved[-1]} <= set(chosen)


def test_when_all_steps_fit_all_are_chosen():
    assert sorted(choose_steps([1, 2, 3, 4, 5], 24)) == [1, 2, 3, 4, 5]


def test_everything_is_embedded_when_it_fits(folder):
    folder.save_rollouts(1, rows(2, 3))
    data = embed(folder, Budget())
    assert data["prompts"] == ["p0", "p1"]
    assert [row["prompt"] for row in data["steps"][0]["rows"]] == [0, 0, 0, 1, 1, 1]
    assert data["left_out"] == ""


def test_whole_groups_are_left_out_and_counted(folder):
    folder.save_rollouts(1, rows(4, 3))
    data = embed(folder, Budget(rows=8))
    assert [row["group"] for row in data["steps"][0]["rows"]] == [0, 0, 0, 1, 1, 1]
    assert data["left_out"].startswith("6 episodes of the chosen steps are left out.")


def test_steps_that_are_left_out_are_counted(folder):
    for step in range(1, 31):
        folder.save_rollouts(step, rows(1, 1))
    data = embed(folder, Budget(steps=6))
    steps = [entry["step"] for entry in data["steps"]]
    assert steps == sorted(steps)
    assert {1, 30} <= set(steps)
    assert data["left_out"].startswith(f"{len(steps)} of the 30 saved steps are here.")


def test_the_newest_step_is_served_first_when_characters_are_short(folder):
    for step in (1, 2, 3):
        folder.save_rollouts(step, rows(1, 1, "x" * 100))
    data = embed(folder, Budget(characters=150))
    assert [entry["step"] for entry in data["steps"]] == [3]


def test_a_long_text_is_cut_and_says_so(folder):
    folder.save_rollouts(1, rows(1, 1, "x" * 100))
    [row] = embed(folder, Budget(text=10))["steps"][0]["rows"]
    assert row["completion"] == "x" * 10 + " ... (90 more characters)"


def test_a_damaged_file_is_named_and_the_rest_is_there(folder):
    folder.save_rollouts(1, rows(1, 1))
    (folder.path / "rollouts" / "step-000002.jsonl").write_text("{broken\n")
    data = embed(folder, Budget())
    assert [entry["step"] for entry in data["steps"]] == [1]
    assert "step-000002.jsonl, line 1 is damaged" in data["left_out"]


def test_a_row_of_any_types_becomes_a_row_of_known_ones():
    row = compact(
        {"reward": "many", "kl": float("nan"), "completion": ["a"], "status": None,
         "parts": {"a": "b"},
         "messages": ["hi", {"role": 1, "content": None, "tool_calls": [{"name": "f"}]}],
         "tokens": ["x", {"text": "y", "mask": 1, "logprob": -0.5, "advantage": None}]},
        100,
    )  # fmt: skip
    assert row["reward"] is None
    assert row["kl"] is None
    assert row["completion"] == "['a']"
    assert row["status"] == ""
    assert row["parts"] == {"a": None}
    assert row["messages"][1] == {"role": "1", "content": "[{'name': 'f'}]"}
    assert row["tokens"] == [["x", 0, None, None], ["y", 1, -0.5, None]]
