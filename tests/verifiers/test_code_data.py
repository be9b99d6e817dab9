"""HumanEval and MBPP: their own solutions pass the tests that are made of their asserts."""

import json
import os
from pathlib import Path

import pytest

from rl_verifiers import from_asserts, score_many
from rl_verifiers.code import code_verifier
from rl_verifiers.code_tests import guessed_entry

DATA = Path(os.environ.get("AGENT_RL_DATA", ""))
VERIFIER = code_verifier(extract="whole")


def rows_of(name):
    path = DATA / f"{name}.jsonl"
    if "AGENT_RL_DATA" not in os.environ or not path.is_file():
        pytest.skip(f"no {name}.jsonl in $AGENT_RL_DATA")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def humaneval():
    """Each row's solution and its row as the verifier takes it."""
    examples = []
    for row in rows_of("humaneval"):
        solution, entry = row["prompt"] + row["canonical_solution"], row["entry_point"]
        tests = from_asserts(row["test"], entry, reference=solution)
        stored = json.loads(json.dumps(tests))
        examples.append((solution, {"id": row["task_id"], "entry_point": entry, "tests": stored}))
    return examples


@pytest.fixture(scope="module")
def mbpp():
    """The same for MBPP."""
    examples = []
    for row in rows_of("mbpp"):
        source, setup = "\n".join(row["test_list"]), row["test_setup_code"]
        entry = guessed_entry(source, setup=setup, reference=row["code"])
        tests = from_asserts(source, entry, setup=setup, reference=row["code"])
        stored = json.loads(json.dumps(tests))
        examples.append(
            (row["code"], {"id": row["task_id"], "entry_point": entry, "tests": stored})
        )
    return examples


def ids_where(holds, examples, code=lambda solution, row: solution):
    texts = [code(solution, row) for solution, row in examples]
    scores = score_many(VERIFIER, texts, [row for _, row in examples])
    return [row["id"] for (_, row), score in zip(examples, scores, strict=True) if holds(score)]


def fails(score):
    return score.value != 1.0


def gets_something(score):
    return score.value != 0.0 or score.is_error


def stub(solution, row):
    return f"def {row['entry_point']}(*args, **kwargs): return None"


def kinds(examples):
    named = {"check": "check", "replay": "replay", "assert": "weak"}
    tests = [test for _, row in examples for test in row["tests"]]
    found = [next((n for key, n in named.items() if key in test), "call") for test in tests]
    return {name: found.count(name) for name in ("call", "check", "replay", "weak")}


def test_every_humaneval_solution_passes(humaneval):
    assert len(humaneval) == 164
    assert ids_where(fails, humaneval) == []


@pytest.mark.slow
def test_no_humaneval_stub_gets_anything(humaneval):
    assert ids_where(gets_something, humaneval, stub) == []


def test_no_humaneval_test_is_weak(humaneval):
    assert kinds(humaneval) == {"call": 1117, "check": 11, "replay": 5, "weak": 0}


def test_the_mbpp_solutions_pass(mbpp):
    assert ids_where(fails, mbpp[::8]) == []


@pytest.mark.slow
def test_every_mbpp_solution_passes(mbpp):
    assert len(mbpp) == 974
    assert ids_where(fails, mbpp) == []


@pytest.mark.slow
def test_no_mbpp_stub_gets_anything(mbpp):
    assert ids_where(gets_something, mbpp, stub) == []


def test_no_mbpp_test_is_weak(mbpp):
    assert kinds(mbpp) == {"call": 2919, "check": 3, "replay": 0, "weak": 0}
