"""Agreement with recorded verdicts; skipped where the data folder is absent."""

import json
import os
from pathlib import Path

import pytest

from rl_verifiers import make

DATA = Path(os.environ.get("AGENT_RL_DATA", Path(__file__).parents[3] / "shared" / "data"))


def rows(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not in the data folder (set AGENT_RL_DATA)")
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("mode", ["strict", "loose"])
def test_verdicts_equal_the_recorded_ones(mode):
    verifier = make("instructions", mode=mode)
    found = {
        row["key"]: [bool(part) for part in verifier(row["response"], row).parts.values()]
        for row in rows("ifbench_oracle_60.jsonl")
    }
    recorded = {row["key"]: row[mode] for row in rows("ifbench_oracle_60.jsonl")}
    assert {key: found[key] for key in found if found[key] != recorded[key]} == {}


@pytest.mark.parametrize("name", ["ifeval_input_data.jsonl", "ifbench_test.jsonl"])
def test_every_row_is_readable(name):
    verifier = make("instructions")
    statuses = {row["key"]: verifier("a", row).status for row in rows(name)}
    assert [key for key, status in statuses.items() if status == "bad_reference"] == []
