"""Agreement with labelled data; skipped where the data folder is absent."""

import json
import os
from pathlib import Path

import pytest

from rl_verifiers import make
from rl_verifiers.extract import final_answer

DATA = Path(os.environ.get("AGENT_RL_DATA", Path(__file__).parents[3] / "shared" / "data"))
FINAL, WHOLE = make("math"), make("math", extract="whole")


def rows(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not in the data folder (set AGENT_RL_DATA)")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_math500_references_equal_themselves():
    assert [r["id"] for r in rows("math500.jsonl") if not WHOLE(r["answer"], r).passed] == []


def test_math500_answers_are_found_in_their_solutions():
    assert [r["id"] for r in rows("math500.jsonl") if not FINAL(r["solution"], r).passed] == []


def test_math500_references_are_all_readable():
    statuses = {r["id"]: WHOLE("0.123456", r).status for r in rows("math500.jsonl")}
    assert [key for key, status in statuses.items() if status == "bad_reference"] == []


def test_gsm8k_outputs_agree_with_their_labels():
    labelled = rows("gsm8k_labelled_outputs_60.jsonl")
    right = [FINAL(r["response"], {"answer": r["gold"]}).passed == r["correct"] for r in labelled]
    assert sum(right) / len(right) >= 0.995


def case_verdicts():
    for row in rows("math_equiv_cases.jsonl"):
        if row["contested"]:
            continue
        gold = row["gold"]
        if row["gold_kind"] == "response" or "\\boxed" in gold:
            found = final_answer(gold)
            gold = found.text if found else gold
        verifier = WHOLE if row["pred_kind"] == "bare" else FINAL
        yield verifier(row["pred"], {"id": row["id"], "answer": gold}).passed, row["expected"]


def test_cases_agree_with_their_labels_and_few_pass_wrongly():
    verdicts = list(case_verdicts())
    assert sum(passed == expected for passed, expected in verdicts) / len(verdicts) >= 0.975
    assert sum(passed and not expected for passed, expected in verdicts) <= 2
