"""Flips between two scorings of the same rows."""

import csv
import io
import json

import pytest
from rich.console import Console

from agent_rl.errors import UserError
from agent_rl.scoring.compare import EXAMPLES, Comparison, compare, compare_files, render


def row(line, score, status, *, prefix="", **columns):
    passed = None if status == "error" else status == "correct"
    new = {"score": score, "passed": passed, "status": status, "reason": f"r{line}"}
    return {"id": line, **columns, **{prefix + name: value for name, value in new.items()}}


BEFORE = [
    row(1, 1.0, "correct"),
    row(2, 1.0, "correct"),
    row(3, 0.0, "wrong", completion="\x1b[31mx", answer=4),
    row(4, 0.0, "wrong"),
    row(5, None, "error"),
    row(6, 0.0, "no_answer"),
]
AFTER = [
    row(1, 1.0, "correct"),
    row(2, 0.0, "unparsable"),
    row(3, 1.0, "correct", completion="\x1b[31mx", answer=4),
    row(4, 0.25, "wrong"),
    row(5, 1.0, "correct"),
    row(6, 0.0, "wrong"),
]


def test_flips_are_counted_both_ways():
    found = compare(BEFORE, AFTER)
    assert (found.rows, found.samples, found.unjudged) == (6, 6, 1)
    assert (found.gained, found.lost, found.moved, found.passed) == (1, 1, 1, [2, 2])
    assert [(f.row, f.before, f.after) for f in found.first_lost] == [
        (2, "correct: r2", "unparsable: r2")
    ]
    assert found.first_gained[0].answer == "4"
    assert found.statuses[("no_answer", "wrong")] == 1
    assert json.loads(json.dumps(found.as_json()))["gained"] == 1


def test_nothing_changes_against_itself():
    found = compare(BEFORE, BEFORE)
    assert (found.gained, found.lost, found.moved, sum(found.statuses.values())) == (0, 0, 0, 0)


def test_lists_are_compared_by_completion_and_prefixes_are_read():
    before = {"id": 1, "response": ["a", "b"]}
    lists = {"score": [1.0, 0.0], "passed": [True, False], "status": ["correct", "wrong"]}
    after = {"n_score": [1.0, 1.0], "n_passed": [True, True], "n_status": ["correct", "correct"]}
    renamed = {"completion": "response"}
    found = compare([before | lists], [before | after], prefixes=("", "n_"), columns=renamed)
    (flip,) = found.first_gained
    assert (flip.row, flip.index, flip.completion) == (1, 1, "b")


def test_examples_are_capped():
    n = EXAMPLES + 5
    found = compare(
        [row(i, 0.0, "wrong") for i in range(n)], [row(i, 1.0, "correct") for i in range(n)]
    )
    assert (found.gained, len(found.first_gained)) == (n, EXAMPLES)


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (AFTER[:5], "first output has more than 5 rows"),
        ([row(9, 1.0, "correct"), *AFTER[1:]], "row 1: column 'id' differs"),
        ([{"id": 1}], "no column 'score'; columns found: id"),
    ],
)
def test_other_rows_are_refused(after, message):
    with pytest.raises(UserError, match=message):
        compare(BEFORE, after)


def test_files_of_either_kind_are_compared(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in BEFORE))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(BEFORE[2]), restval="")
    writer.writeheader()
    writer.writerows(AFTER)
    (tmp_path / "b.csv").write_text(text.getvalue())
    (tmp_path / "a.csv").write_text(text.getvalue())
    found = compare_files(tmp_path / "a.csv", tmp_path / "b.csv")
    assert (found.samples, found.unjudged, found.passed) == (6, 0, [3, 3])
    assert compare_files(tmp_path / "a.jsonl", tmp_path / "a.jsonl").passed == [2, 2]


def test_terminal_shows_flips_as_plain_characters():
    file = io.StringIO()
    render(compare(BEFORE, AFTER), Console(file=file, width=120))
    text = " ".join(file.getvalue().split())
    assert "failed before, pass now 1" in text
    assert "passed before 2 of 5 (40.00 %)" in text
    assert "\x1b" not in text
    render(Comparison(), Console(file=file))
