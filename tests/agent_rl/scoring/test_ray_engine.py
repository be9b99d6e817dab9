"""``agent-rl score --engine ray``; skipped where Ray is not installed."""

import json
import sys

import pytest

from agent_rl.cli import main
from agent_rl.errors import UserError
from agent_rl.scoring.engines import make

pytestmark = pytest.mark.filterwarnings("default")  # Ray's own


def run(*words):
    with pytest.raises(SystemExit) as left:
        main(["score", *map(str, words)])
    return int(left.value.code or 0)


def rows_file(folder, extra=()):
    rows = [{"id": n, "completion": str(n + n % 2), "answer": str(n)} for n in range(50)]
    lines = [json.dumps(row) for row in rows]
    path = folder / "rows.jsonl"
    path.write_text("\n".join([*lines, *extra]) + "\n")
    return path


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(UserError, match=r"needs ray.*pip install 'agent-rl\[ray\]'"):
        make("ray", None, 1)


@pytest.fixture(scope="module")
def engine():
    found = pytest.importorskip("ray", reason="ray is not installed")
    yield "ray"
    found.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(), ("no json",)])
def test_the_output_is_that_of_local_workers(tmp_path, engine, extra):
    rows = rows_file(tmp_path, extra)
    for name, chosen in (("here", "local"), ("there", engine)):
        words = ("--verifier", "exact", "--rows-per-span", 7, "--workers", 2, "--engine", chosen)
        assert run(rows, "-o", tmp_path / f"{name}.jsonl", *words) == 0
    for ending in ("jsonl", "jsonl.rejects.jsonl") if extra else ("jsonl",):
        here, there = (tmp_path / f"{name}.{ending}" for name in ("here", "there"))
        assert there.read_bytes() == here.read_bytes()
        assert there.read_bytes()


HANGS = """
def verify(completion, row):
    while completion == "8":
        pass
    if completion == "20" and row["answer"] == "die":
        import os
        os._exit(3)
    return float(completion == row["answer"])
"""


@pytest.mark.slow
def test_a_row_that_hangs_costs_its_own_verdict_only(tmp_path, engine):
    (tmp_path / "hangs.py").write_text(HANGS)
    rows, out = rows_file(tmp_path), tmp_path / "out.jsonl"
    words = ("--verifier", f"{tmp_path / 'hangs.py'}:verify", "--rows-per-span", 10)
    assert run(rows, "-o", out, *words, "--timeout", 1, "--engine", engine) == 0
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    hung = [row["id"] for row in scored if row["status"] == "over_limit"]
    assert hung == [7, 8]
    assert [row["id"] for row in scored if row["passed"]] == [n for n in range(0, 50, 2) if n != 8]


@pytest.mark.slow
def test_a_broken_line_under_strict_is_one_line_here(tmp_path, capsys, engine):
    rows, out = rows_file(tmp_path, ("no json",)), tmp_path / "out.jsonl"
    assert run(rows, "-o", out, "--verifier", "exact", "--strict", "--engine", engine) == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("error: ")
    assert "line 51" in told
