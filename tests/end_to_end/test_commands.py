"""Commands on a saved tiny model: evaluation, supervised training on files, printing, reports."""

import json
import re

import pytest

from agent_rl import cli
from agent_rl.runs import statistics

ARITHMETIC = ("--env", "text/Arithmetic-v0", "--envs.0.options.terms", "2")
SAMPLED = ("--tasks", "4", "--samples", "4", "--sampling.max_tokens", "4")
ALWAYS = """
from rl_envs import Task, TextEnv


class Letters(TextEnv):
    \"\"\"Passed by every text with an even number of characters.\"\"\"

    tasks = [Task(str(n), f"{n}=?") for n in range(8)]

    def score(self, completion, row):
        return float(len(completion) % 2 == 0)


class Hostile(TextEnv):
    tasks = [Task("[red]t[/red]", "[bold]1[/bold]")]

    def score(self, completion, row):
        return 0.0
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letters.py").write_text(ALWAYS)


@pytest.fixture
def done(capsys):
    """``done("eval", ...)``: standard output and error of a command that must succeed."""

    def call(*words):
        with pytest.raises(SystemExit) as left:
            cli.main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert left.value.code == 0, err
        return out, err

    return call


@pytest.fixture
def model(write, settings, done):
    """A tiny model on disk."""
    done("train", write(settings(steps=1, evaluation={"tasks": 0}), "m.yaml"))
    return "--model.path", "run/model"


# Evaluation.


def test_eval_prints_figures_with_their_intervals(model, done):
    out, err = done("eval", *model, *ARITHMETIC, *SAMPLED)
    assert "text/Arithmetic-v0 (test, 4 tasks)" in out
    for name in ("greedy", "pass@1", "pass@2", "pass@4", "majority@1", "majority@4"):
        assert re.search(rf"{name} +│ +\d\.\d{{3}} │ +\d\.\d{{3}} to \d\.\d{{3}}", out), name
    assert err.splitlines()[-1] == "episodes 20/20"


def test_eval_as_json(model, done):
    (result,) = json.loads(
        done("eval", *model, "--env", "letters.py:Letters", *SAMPLED, "--json")[0]
    )
    assert (result["env"], result["split"], result["tasks"]) == ("letters.py:Letters", "test", 4)
    assert (result["errors"], result["samples"]) == (0, 4)
    passed = round(result["greedy"] * 4)
    assert result["greedy_interval"] == pytest.approx(statistics.wilson_interval(passed, 4))
    assert result["pass@1"] == pytest.approx(result["sampled"])
    assert result["pass@1"] <= result["pass@2"] <= result["pass@4"]


def test_eval_leaves_results_and_completions(model, done, tmp_path):
    out, _ = done("eval", *model, "--env", "letters.py:Letters", *SAMPLED, "--json", "--out", "a/b")
    rows = [
        json.loads(line) for line in (tmp_path / "a/b/completions.jsonl").read_text().splitlines()
    ]
    assert json.loads((tmp_path / "a/b/results.json").read_text()) == json.loads(out)
    assert len(rows) == 4 + 4 * 4
    assert {row["task_id"] for row in rows} == {"0", "1", "2", "3"}
    for row in rows:
        assert row["passed"] == (not row["truncated"] and len(row["completion"]) % 2 == 0)
    assert sorted(path.name for path in (tmp_path / "a/b").iterdir()) == [
        "completions.jsonl",
        "results.json",
    ]


def test_eval_of_several_environments_from_a_file(model, done, write):
    envs = [
        {"id": "letters.py:Letters"},
        {"id": "text/Arithmetic-v0", "options": {"terms": 2}},
    ]
    config = write({"model": {"path": "run/model"}, "envs": envs, "sampling": {"max_tokens": 4}})
    out, err = done("eval", config, "--tasks", 3, "--json")
    assert [(r["env"], r["tasks"]) for r in json.loads(out)] == [
        ("letters.py:Letters", 3),
        ("text/Arithmetic-v0", 3),
    ]
    assert err.splitlines()[-1] == "episodes 6/6"


def test_eval_plays_no_more_tasks_than_there_are(model, done):
    out, err = done("eval", *model, "--env", "letters.py:Letters", "--tasks", 500, "--json")
    assert json.loads(out)[0]["tasks"] == 8
    assert err.splitlines()[-1] == "episodes 8/8"


def test_eval_is_repeatable(model, done):
    words = ("eval", *model, "--env", "letters.py:Letters", *SAMPLED, "--json", "--seed", 3)
    assert done(*words)[0] == done(*words)[0]


def test_eval_takes_the_threads_it_is_given(model, done, monkeypatch):
    given = []
    monkeypatch.setattr("torch.set_num_threads", given.append)
    words = ("eval", *model, "--env", "letters.py:Letters", "--tasks", 1)
    done(*words, "--threads", 3)
    done(*words, "--threads", 0)
    assert given == [3]


def test_eval_and_console_show_markup_as_it_is(model, done):
    out, _ = done("eval", *model, "--env", "letters.py:Hostile", "--out", "[red]x[/red]")
    assert "letters.py:Hostile (test, 1 tasks)" in out


# Supervised training on files.


def sft(settings, **changes):
    return {"model": settings()["model"], "steps": 20, "batch_size": 4, **changes}


SHAPES = {
    "prompt and completion": lambda n: {"prompt": f"{n}+1=?", "completion": str(n + 1)},
    "messages": lambda n: {
        "messages": [
            {"role": "user", "content": f"{n}+1=?"},
            {"role": "assistant", "content": str(n + 1)},
        ]
    },
    "lists of messages": lambda n: {
        "prompt": [{"role": "user", "content": f"{n}+1=?"}],
        "completion": [{"role": "assistant", "content": str(n + 1)}],
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_sft_on_a_file(shape, done, write, settings, tmp_path):
    rows = [SHAPES[shape](n) for n in range(8)]
    (tmp_path / "d.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    config = write(sft(settings, data={"path": "d.jsonl"}, optimizer={"lr": 1e-2}))
    done("sft", config, "--run.dir", "s")
    lines = (tmp_path / "s/metrics.jsonl").read_text().splitlines()
    losses = [row["loss/train"] for row in map(json.loads, lines) if "loss/train" in row]
    assert losses[-1] < 0.6 * losses[0]
    assert json.loads((tmp_path / "s/summary.json").read_text())["finished"]


def test_every_shape_of_a_file_trains_alike(done, write, settings, tmp_path):
    weights = []
    for number, shape in enumerate(SHAPES):
        rows = [SHAPES[shape](n) for n in range(8)]
        (tmp_path / "d.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        done(
            "sft",
            write(sft(settings, data={"path": "d.jsonl"}, steps=2)),
            "--run.dir",
            f"s{number}",
        )
        weights.append((tmp_path / f"s{number}/model/model.safetensors").read_bytes())
    assert weights[0] == weights[1] == weights[2]


# The rest.


def test_print_config_is_a_configuration_and_starts_nothing(done, write, settings, tmp_path):
    config = write(settings())
    printed = done("train", config, "--print_config", "--envs.0.options.rate", "1e-4")[0]
    (tmp_path / "printed.yaml").write_text(printed)
    assert "rate: 0.0001" in printed
    assert done("train", "printed.yaml", "--print_config")[0] == printed
    assert not (tmp_path / "run").exists()


def test_report_is_written_again(model, done, tmp_path):
    report = tmp_path / "run/report.html"
    report.unlink()
    assert done("report", "run")[0] == "run/report.html\n"
    assert report.stat().st_size > 1000


@pytest.mark.slow
def test_the_installed_command_answers(agent_rl):
    listed = agent_rl("envs", "--json", check=True)
    assert "text/Arithmetic-v0" in {row["id"] for row in json.loads(listed.stdout)}
    assert listed.stderr == ""
