"""Whole jobs: killed, resumed, refused, and with verifiers that hang."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_rl.cli import main
from agent_rl.errors import UserError
from agent_rl.scoring.job import Job
from agent_rl.scoring.settings import Settings
from agent_rl.scoring.spec import specify

AGENT_RL = [sys.executable, "-m", "agent_rl.cli"]


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


def rows_file(folder: Path, count: int = 40, name: str = "rows.jsonl") -> Path:
    path = folder / name
    rows = [
        {"id": n, "completion": f"\\boxed{{{n + n % 2}}}", "answer": str(n)} for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_column_stays_and_the_score_is_added(tmp_path):
    rows = rows_file(tmp_path, 4)
    assert run("score", rows, "--verifier", "math", "-o", tmp_path / "out.jsonl") == 0
    scored = read(tmp_path / "out.jsonl")
    assert [row["score"] for row in scored] == [1.0, 0.0, 1.0, 0.0]
    assert [row["passed"] for row in scored] == [True, False, True, False]
    assert scored[1]["status"] == "wrong"
    assert "'2' is not the answer" in scored[1]["reason"]
    assert [{k: row[k] for k in ("id", "completion", "answer")} for row in scored] == read(rows)
    summary = json.loads((tmp_path / "out.jsonl.summary.json").read_text())
    assert (summary["rows"], summary["passed"], summary["errors"]) == (4, 2, 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "out.jsonl",
        "out.jsonl.summary.json",
        "rows.jsonl",
    ]


def test_lists_of_completions_give_lists_of_scores_and_pass_at_k(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"completions": ["4", "5", "4"], "answer": "4"},
        {"completions": ["1", "1", "2"], "answer": "2"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("score", path, "--verifier", "math", "-o", tmp_path / "out.jsonl") == 0
    assert [row["passed"] for row in read(tmp_path / "out.jsonl")] == [
        [True, False, True],
        [False, False, True],
    ]
    groups = json.loads((tmp_path / "out.jsonl.summary.json").read_text())["groups"]
    assert [round(point["value"], 4) for point in groups["pass_at"]] == [0.5, 0.8333, 1.0]
    assert groups["majority_at"][-1]["value"] == 0.5  # 4 wins in the first row, 1 in the second


def kill_once(words: list[str], parts: Path, at_least: int) -> None:
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(parts.glob("*.tally.json"))) < at_least and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv", "parquet"])
def test_a_job_killed_twice_gives_the_same_output(tmp_path, kind):
    rows = rows_file(tmp_path, 1500)
    whole, killed = tmp_path / f"whole.{kind}", tmp_path / f"killed.{kind}"
    options = ["--verifier", "math", "--rows-per-span", "10", "--workers", "1"]
    assert run("score", rows, *options, "-o", whole) == 0
    words = [*AGENT_RL, "score", str(rows), *options, "-o", str(killed)]
    parts = tmp_path / f"killed.{kind}.work" / "parts"
    for at_least in (20, 70):
        kill_once(words, parts, at_least)
        assert not killed.exists()
        assert parts.exists()
    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "rows are done" in again.stderr
    assert killed.read_bytes() == whole.read_bytes()
    assert not parts.exists()


def test_a_kill_while_the_output_is_made_loses_nothing(tmp_path):
    rows = rows_file(tmp_path)
    settings = Settings((str(rows),), tmp_path / "out.jsonl", specify("math", {}), workers=0)
    with Job(settings) as job:
        list(job.run())
        job.finish()  # and then it is killed: nothing is discarded
    first = (tmp_path / "out.jsonl").read_bytes()
    with Job(settings) as job:
        assert job.resumed
        assert list(job.run()) == []
        job.finish()
        job.discard()
    assert (tmp_path / "out.jsonl").read_bytes() == first


def test_the_output_is_not_replaced_unasked(tmp_path, capsys):
    rows = rows_file(tmp_path)
    out = tmp_path / "out.jsonl"
    out.write_text("mine\n")
    assert run("score", rows, "--verifier", "math", "-o", out) == 1
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert out.read_text() == "mine\n"
    assert not (tmp_path / "out.jsonl.work").exists()
    assert run("score", rows, "--verifier", "math", "-o", out, "--overwrite") == 0
    assert len(read(out)) == 40


def test_an_unfinished_job_of_another_kind_is_not_mixed_in(tmp_path):
    rows = rows_file(tmp_path)
    one = Settings((str(rows),), tmp_path / "out.jsonl", specify("math", {}), workers=0)
    other = Settings((str(rows),), one.out, specify("math", {"strict": False}), workers=0)
    with Job(one) as job:
        next(job.run())
    with pytest.raises(UserError, match=r"unfinished job that differs: options"), Job(other):
        pass
    rows.write_text(rows.read_text() + '{"id": 1, "completion": "1", "answer": "1"}\n')
    with pytest.raises(UserError, match=r"an input has changed"), Job(one):
        pass
    with Job(one, overwrite=True) as job:
        list(job.run())
        assert job.finish().tally.rows == 41


def test_two_processes_do_not_write_the_same_output(tmp_path):
    rows = rows_file(tmp_path)
    settings = Settings((str(rows),), tmp_path / "out.jsonl", specify("math", {}), workers=0)
    with Job(settings), pytest.raises(UserError, match="another process"), Job(settings):
        pass


HANGS = """
import os, time

def verify(completion, row):
    if completion == "spin":
        while True:
            pass
    if completion == "sleep":
        time.sleep(3600)
    if completion == "die":
        os._exit(9)
    if completion == "exit":
        raise SystemExit(0)
    return completion == row["answer"]
"""


def test_a_verifier_that_hangs_or_dies_costs_its_own_row_only(tmp_path):
    (tmp_path / "mine.py").write_text(HANGS)
    rows = tmp_path / "rows.jsonl"
    said = ["4", "spin", "5", "die", "4", "sleep", "exit"]
    rows.write_text("".join(json.dumps({"completion": c, "answer": "4"}) + "\n" for c in said))
    out = tmp_path / "out.jsonl"
    words = ["score", rows, "--verifier", tmp_path / "mine.py", "-o", out, "--timeout", "1"]
    assert run(*words) == 0
    scored = read(out)
    assert [row["status"] for row in scored] == [
        "correct",
        "over_limit",
        "wrong",
        "error",
        "correct",
        "over_limit",
        "error",
    ]
    assert scored[3]["score"] is None  # our failure is never a zero
    assert "exit status 9" in scored[3]["error"]


def test_broken_lines_go_to_the_rejects_and_strict_stops(tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"completion": "4", "answer": "4"}\n{"comp\n{"completion": null, "answer": 1}\n'
    )
    out = tmp_path / "out.jsonl"
    assert run("score", rows, "--verifier", "math", "-o", out) == 0
    rejects = read(tmp_path / "out.jsonl.rejects.jsonl")
    assert [(each["line"], each["source"]) for each in rejects] == [(2, str(rows)), (3, str(rows))]
    assert len(read(out)) == 1
    assert run("score", rows, "--verifier", "math", "-o", tmp_path / "no.jsonl", "--strict") == 1
    assert "rows.jsonl, line 2: " in capsys.readouterr().err
    assert not (tmp_path / "no.jsonl").exists()


def test_a_missing_column_is_named_with_the_closest(tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"respons": "4", "gold": "4"}\n')
    out = tmp_path / "out.jsonl"
    assert run("score", rows, "--verifier", "math", "-o", out) == 1
    error = capsys.readouterr().err
    assert "columns found: respons, gold" in error
    assert "--column completion=" in error
    assert not out.with_name("out.jsonl.work").exists()
    words = ("score", rows, "--verifier", "math", "-o", out, "--column", "completion=responce")
    assert run(*words) == 1
    assert "did you mean 'respons'?" in capsys.readouterr().err


def test_an_unknown_verifier_is_named_with_the_closest(tmp_path, capsys):
    rows = rows_file(tmp_path)
    assert run("score", rows, "--verifier", "meth", "-o", tmp_path / "out.jsonl") == 1
    assert "math" in capsys.readouterr().err


COUNTS = """
from pathlib import Path

def verify(completion, row):
    with Path(__file__).with_name("calls").open("a") as file:
        file.write(".")
    return completion == row["answer"]
"""


def test_what_was_judged_once_is_not_judged_again_with_a_cache(tmp_path):
    (tmp_path / "mine.py").write_text(COUNTS)
    rows = rows_file(tmp_path, 20)
    words = ["score", rows, "--verifier", tmp_path / "mine.py", "--cache", tmp_path / "cache"]
    assert run(*words, "-o", tmp_path / "one.jsonl") == 0
    assert run(*words, "-o", tmp_path / "two.jsonl") == 0
    assert (tmp_path / "calls").read_text() == 20 * "."
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    (tmp_path / "mine.py").write_text(COUNTS + "# another version\n")
    assert run(*words, "-o", tmp_path / "three.jsonl") == 0
    assert (tmp_path / "calls").read_text() == 40 * "."


def test_a_full_disk_loses_nothing(tmp_path):
    """A file-size limit of the process stands for the disk: writing beyond it is refused."""
    rows = rows_file(tmp_path, 3000)
    out = tmp_path / "out.jsonl"
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY));"
        "from agent_rl.cli import main; main(sys.argv[2:])"
    )
    words = ["score", str(rows), "--verifier", "math", "-o", str(out)]

    def limited(size: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, str(size), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    full = limited(200_000)  # parts fit, the whole output does not
    assert full.returncode == 1
    assert full.stderr.splitlines()[-1].startswith("error: cannot write ")
    assert not out.exists()
    done = limited(100_000_000)
    assert done.returncode == 0, done.stderr
    assert len(read(out)) == 3000


def unfinished(folder: Path, spans: int = 2) -> tuple[Settings, Path]:
    """A job that stopped after some spans of ten rows."""
    rows = rows_file(folder)
    spec = specify("math", {})
    settings = Settings((str(rows),), folder / "out.jsonl", spec, workers=0, rows_per_span=10)
    with Job(settings) as job:
        running = job.run()
        for _ in range(spans):
            next(running)
    return settings, folder / "out.jsonl.work"


def test_a_part_that_was_damaged_is_made_again(tmp_path):
    settings, folder = unfinished(tmp_path)
    part, other = (
        sorted((folder / "parts").glob("*.jsonl"))[0],
        folder / "parts/000000001.tally.json",
    )
    part.write_bytes(part.read_bytes()[:-30])
    other.write_text("{")
    with Job(settings) as job:
        assert job.done() == []
        list(job.run())
        assert job.finish().tally.rows == 40
    assert [row["id"] for row in read(settings.out)] == list(range(40))


def test_parts_without_their_job_belong_to_no_job(tmp_path):
    settings, folder = unfinished(tmp_path)
    (folder / "job.json").unlink()
    with Job(settings) as job:
        assert not job.resumed
        assert len(list(job.run())) == 4


def test_a_broken_job_file_is_one_line(tmp_path):
    settings, folder = unfinished(tmp_path)
    (folder / "job.json").write_text("{")
    with pytest.raises(UserError, match=r"job.json is broken; --overwrite"), Job(settings):
        pass


def test_no_input_is_replaced(tmp_path, capsys):
    rows = rows_file(tmp_path, name="a.jsonl")
    words = ("score", "--verifier", "math", "--overwrite")
    before = rows.read_bytes()
    link = tmp_path / "link.jsonl"
    link.symlink_to(rows)
    for out in (rows, link):
        assert run(*words, rows, "-o", out) == 1
        assert "would replace the input" in capsys.readouterr().err
    beside = rows_file(tmp_path, name="b.jsonl.rejects.jsonl")
    assert run(*words, beside, "-o", tmp_path / "b.jsonl") == 1
    report = ("--report", tmp_path / "a.jsonl")
    assert run(*words, rows, "-o", tmp_path / "c.jsonl", *report) == 1
    assert rows.read_bytes() == beside.read_bytes() == before


def test_nothing_judged_is_no_success(tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"completion": null, "answer": "4"}\n')
    assert run("score", rows, "--verifier", "math", "-o", tmp_path / "out.jsonl") == 1
    assert "no sample could be judged" in capsys.readouterr().err


def test_columns_are_found_behind_broken_lines(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("broken\n" * 5 + '{"completion": "4", "answer": "4"}\n')
    words = ("score", rows, "--verifier", "math", "-o", tmp_path / "out.jsonl")
    assert run(*words, "--rows-per-span", "2", "--workers", "0") == 0


def test_a_folder_that_is_no_jobs_is_left_alone(tmp_path, capsys):
    rows = rows_file(tmp_path)
    (tmp_path / "out.jsonl.work").mkdir()
    (tmp_path / "out.jsonl.work" / "mine").write_text("precious")
    for more in ((), ("--overwrite",)):
        assert run("score", rows, "--verifier", "math", "-o", tmp_path / "out.jsonl", *more) == 1
        assert "holds 'mine', which is no job's" in capsys.readouterr().err
    assert (tmp_path / "out.jsonl.work" / "mine").read_text() == "precious"


def test_an_input_that_changes_while_it_is_read_is_noticed(tmp_path):
    settings, _ = unfinished(tmp_path)
    with Job(settings) as job:
        rows = Path(settings.inputs[0])
        rows.write_text(rows.read_text().replace("boxed", "fboxx"))
        list(job.run())
        with pytest.raises(UserError, match="changed while it was read"):
            job.finish()
    assert not settings.out.exists()


def test_former_outputs_in_a_folder_are_no_input(tmp_path):
    rows_file(tmp_path, 3, "a.jsonl")
    words = ("score", tmp_path, "--verifier", "math", "-o", tmp_path / "out.jsonl")
    assert run(*words) == 0
    assert run(*words, "--overwrite") == 0
    assert len(read(tmp_path / "out.jsonl")) == 3


def test_rows_without_a_usable_reference_are_no_success(tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"completion": "4", "answer": null}\n')
    assert run("score", rows, "--verifier", "math", "-o", tmp_path / "out.jsonl") == 1
    assert "no row has a reference" in capsys.readouterr().err


def test_the_cache_knows_rows_by_content_and_not_by_place(tmp_path):
    (tmp_path / "mine.py").write_text(COUNTS)
    text = "".join(json.dumps({"completion": str(n), "answer": "1"}) + "\n" for n in range(5))
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text(text)
        words = ["score", tmp_path / f"{name}.jsonl", "--verifier", tmp_path / "mine.py"]
        out = tmp_path / f"{name}.out.jsonl"
        assert run(*words, "-o", out, "--cache", tmp_path / "cache") == 0
    assert (tmp_path / "calls").read_text() == 5 * "."


def test_columns_may_be_inside_cells(tmp_path):
    rows = tmp_path / "rows.jsonl"
    said = {"choices": [{"message": {"content": "It is 4"}}], "reward_model": {"ground_truth": "4"}}
    rows.write_text(json.dumps(said) + "\n" + json.dumps({**said, "choices": []}) + "\n")
    out = tmp_path / "out.jsonl"
    words = ("score", rows, "--verifier", "math", "-o", out)
    inside = ("completion=choices.0.message.content", "answer=reward_model.ground_truth")
    assert run(*words, *(x for each in inside for x in ("--column", each))) == 0
    (scored,) = read(out)
    assert scored["passed"]
    assert {name: scored[name] for name in said} == said
    (reject,) = read(tmp_path / "out.jsonl.rejects.jsonl")
    assert reject["line"] == 2
