"""Every row that attacks, our own and the sample's, against every back end."""

import pytest

from rl_sandboxes.attacks import PROMISED_BY, grade, limits_of
from rl_verifiers.code import code_verifier
from rl_verifiers.runner import score_sync
from tests.sandboxes.attack_rows import named, rows, sample

EXEC = [*sample("exec"), *rows("exec")]
SHELL = [*sample("shell"), *rows("shell")]
SOLUTIONS = [*sample("solution"), *rows("solution")]


@pytest.fixture
def skip_unless_promised(back_end, guarantees):
    """Leaves out what a back end says that it cannot do."""

    def check(row):
        needed = row.get("needs", PROMISED_BY.get(row["category"]))
        if needed and not getattr(guarantees, needed):
            pytest.skip(f"{needed}: not promised here")
        if back_end in row.get("not_on", ()):
            pytest.skip("named by the guarantees as missing")

    return check


@pytest.mark.parametrize("row", EXEC, ids=named)
def test_script(row, sandbox, skip_unless_promised, bait):
    skip_unless_promised(row)
    assert grade(sandbox, row, bait) == []


@pytest.mark.parametrize("row", SHELL, ids=named)
def test_shell(row, sandbox, skip_unless_promised, bait):
    skip_unless_promised(row)
    assert grade(sandbox, row, bait) == []


def judged(row, sandbox, reward):
    verifier = code_verifier(sandbox=sandbox, reward=reward, extract="whole", limits=limits_of(row))
    score = score_sync(verifier, row["code"], row)
    assert score.error is None
    return score


@pytest.mark.parametrize("row", SOLUTIONS, ids=named)
def test_solution(row, sandbox):
    assert judged(row, sandbox, "all").value == float(row["category"] == "control")


@pytest.mark.parametrize("row", [row for row in SOLUTIONS if row.get("partial")], ids=named)
def test_solution_that_passes_some_tests(row, sandbox):
    assert 0 < judged(row, sandbox, "fraction").value < 1


def test_there_are_rows_of_every_category():
    ours = {row["category"] for row in [*rows("exec"), *rows("shell"), *rows("solution")]}
    theirs = {row["category"] for row in [*EXEC, *SHELL, *SOLUTIONS]}
    assert theirs <= ours


def test_every_row_has_a_name_of_its_own():
    names = [row["id"] for kind in ("exec", "shell", "solution") for row in rows(kind)]
    assert len(names) == len(set(names)) > 250
