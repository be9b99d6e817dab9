"""What a user can get wrong: one clear line, a code other than 0, nothing lost or half-written.

What fails before training is called in this process (a new one spends seconds on imports); what
needs a process of its own (signals, a closed pipe) gets one.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from agent_rl import cli

NAN = """
from rl_envs import Task, TextEnv


class Broken(TextEnv):
    tasks = [Task(f"t{n}", f"{n}=?") for n in range(9)]

    def score(self, completion, row):
        return float("nan")


class Long(TextEnv):
    tasks = [Task("long", "1+" * 60)]

    def score(self, completion, row):
        return 0.0
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AGENT_RL_TRACEBACK", raising=False)
    (tmp_path / "mine.py").write_text(NAN)


@pytest.fixture
def refused(capsys):
    """``refused("train", path)``: the one line on stderr of a command that must fail."""

    def call(*words):
        with pytest.raises(SystemExit) as left:
            cli.main([str(word) for word in words])
        err = capsys.readouterr().err
        assert left.value.code == 1, err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err

    return call


@pytest.fixture
def done(capsys):
    """``done("train", path)``: the standard output of a command that must succeed."""

    def call(*words):
        with pytest.raises(SystemExit) as left:
            cli.main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert left.value.code == 0, err
        return out

    return call


def contents(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# Before training: nothing is made.

SETTINGS = {
    "unknown key": ({"stepz": 3}, "unknown setting stepz; did you mean steps?"),
    "unknown nested key": (
        {"optimizer": {"lrr": 1e-3}},
        "unknown setting optimizer.lrr; did you mean lr?",
    ),
    "unknown key in a list": (
        {"envs": [{"id": "text/Arithmetic-v0", "wieght": 2}]},
        "unknown setting envs.0.wieght; did you mean weight?",
    ),
    "wrong type": ({"steps": "ten"}, "steps is 'ten'; it must be a whole number"),
    "null": ({"steps": None}, "steps is null; it must be a whole number"),
    "fraction": ({"group_size": 2.5}, "group_size is 2.5; it must be a whole number"),
    "text for a mapping": ({"optimizer": "adam"}, "optimizer is 'adam'; it must be a mapping"),
    "mapping for a list": ({"envs": {"id": "x"}}, "envs is {'id': 'x'}; it must be a list"),
    "choice": ({"on_truncation": "drop"}, "it must be one of zero, score, mask"),
    "too small": ({"steps": 0}, "steps is 0; it must be at least 1"),
    "negative": ({"optimizer": {"lr": -1}}, "optimizer.lr is -1.0; it must be at least 0"),
    "group of one": ({"group_size": 1}, "group_size must be at least 2"),
    "preset": ({"algorithm": "grop"}, "algorithm: unknown preset 'grop'; did you mean grpo?"),
    "algorithm field": (
        {"algorithm": {"preset": "grpo", "klip": 1}},
        "unknown setting algorithm.klip; did you mean clip?",
    ),
    "k1 in the loss": (
        {"algorithm": {"kl": {"place": "loss", "estimator": "k1", "coef": 0.1}}},
        "k1 in the loss descends nothing",
    ),
    "no env": ({"envs": []}, "envs is empty; name at least one environment"),
    "no model": ({"model": {}}, "model needs either path (a folder or hub id) or tiny"),
    "model twice": ({"model": {"path": "x", "tiny": {}}}, "model needs either path"),
    "model path": ({"model": {"path": "./nope"}}, "model.path: there is no folder ./nope"),
    "chat template file": (
        {"model": {"tiny": {}, "chat_template": "no.jinja"}},
        "model.chat_template: there is no file no.jinja",
    ),
    "env id": (
        {"envs": [{"id": "text/Arithmetik-v0"}]},
        "no environment 'text/Arithmetik-v0'; did you mean text/Arithmetic-v0",
    ),
    "env option": (
        {"envs": [{"id": "text/Arithmetic-v0", "options": {"term": 2}}]},
        "text/Arithmetic-v0 has no option 'term'; did you mean 'terms'?",
    ),
    "env file": ({"envs": [{"id": "nope.py"}]}, "no file nope.py"),
    "verifier": (
        {"envs": [{"id": "text/Arithmetic-v0", "options": {"verifier": "mth"}}]},
        "no verifier 'mth'",
    ),
    "evaluation split": (
        {"evaluation": {"split": "train"}},
        "evaluation.split: text/Arithmetic-v0 trains on 'train' itself",
    ),
    "top-p": ({"sampling": {"top_p": 0.9}}, "top_p, top_k and min_p must be off to train"),
    "greedy": ({"sampling": {"temperature": 0}}, "temperature must be above 0 to train"),
    "stage": ({"stage": "rll"}, "unknown stage 'rll'; did you mean rl?"),
    "heads": ({"model": {"tiny": {"hidden_size": 33}}}, "must be a multiple of twice the heads"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_bad_setting(name, refused, write, settings, tmp_path):
    change, message = SETTINGS[name]
    config = write(settings(**change))
    assert message in refused("train", config)
    assert not (tmp_path / "run").exists()


def test_the_file_is_named_in_front(refused, write, settings):
    write(settings(stepz=3), "my.yaml")
    assert refused("train", "my.yaml").startswith("error: my.yaml: unknown setting stepz")


def test_missing_config(refused):
    assert "cannot read the configuration nope.yaml: No such file" in refused("train", "nope.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [1, 2\nname: x", "no valid YAML: expected ',' or ']', but got ':' at line 2"),
        ("steps: 1\nsteps: 2", "the key 'steps' stands there twice at line 2"),
        ("- a\n- b", "must hold a mapping of settings"),
        ("", "must hold a mapping of settings"),
        ("a: &x [*x]\nb: !!python/object:os.system {}", "is no valid YAML"),
        ("stages: [a]", "stages is ['a']; it must be a mapping of settings"),
        ("stages: {a: 3}", "stages.a must be a mapping of settings"),
        ("stages: {../up: {}}", "the stage name '../up' must be letters"),
        ("stages: {a: {model: {path: '@b'}}}", "stages.a: path @b: no earlier stage 'b'"),
        ("stagez: {}\nstages: {a: {}}", "unknown setting stagez; did you mean stages?"),
    ],
)
def test_broken_yaml(text, message, refused, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    assert message in refused("train", "c.yaml")


def test_binary_config(refused, tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    assert "c.yaml is no UTF-8 text" in refused("train", "c.yaml")


def test_a_later_stage_is_checked_before_the_first_trains(refused, write, settings, tmp_path):
    first, second = settings(), settings(envs=[{"id": "text/Nope-v0"}])
    del first["run"], second["run"]
    config = write({"run": {"dir": "run"}, "stages": {"one": first, "two": second}})
    assert "stages.two: envs.0 (text/Nope-v0)" in refused("train", config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps.x", "1"], "override --steps.x: steps is 6, which has no x"),
        (["--envs.7.id", "x"], "override --envs.7.id: the list has no element 7; it has 1"),
        (["--optimizer..lr", "1"], "a part of the name is empty"),
        (["--resume", "--overwrite"], "give one"),
    ],
)
def test_bad_override(words, message, write, settings, refused):
    assert message in refused("train", write(settings()), *words)


def test_a_mistyped_flag_is_no_setting(write, settings, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["train", str(write(settings())), "--resum"])
    assert left.value.code == 2
    assert "did you mean --resume?" in capsys.readouterr().err


# Data.

DATA = {
    "missing column": (['{"q": "1?", "a": "1"}'], "columns found: q, a"),
    "broken line": (['{"question": "1?", "answer": "1"}', '{"question": "2'], "rows.jsonl, line 2"),
    "no object": (["[1]"], "rows.jsonl, line 1: a row must be an object"),
    "empty": ([], "the data set is empty"),
    "no answer": (
        ['{"id": "a", "question": "1?", "answer": "1"}', '{"id": "b", "question": "2?"}'],
        "(id 'b'): no answer",
    ),
}


@pytest.mark.parametrize("name", DATA)
def test_bad_data(name, refused, write, settings, tmp_path):
    lines, message = DATA[name]
    (tmp_path / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))
    env = {"id": "text/GSM8K-v0", "options": {"data": "rows.jsonl"}}
    err = refused("train", write(settings(envs=[env])))
    assert message in err
    assert "rows.jsonl" in err
    assert not (tmp_path / "run").exists()


def test_an_environment_file_that_is_no_python(refused, write, settings, tmp_path):
    (tmp_path / "own.py").write_text("import rl_envs\n\nclass Own(rl_envs.TextEnv:\n    pass\n")
    err = refused("train", write(settings(envs=[{"id": "own.py"}])))
    assert re.search(r"envs\.0 \(own\.py\): \S*own\.py, line 3: no valid Python", err)
    assert not (tmp_path / "run").exists()


def test_a_task_without_an_answer_in_an_environment_of_ones_own(refused, write, settings, tmp_path):
    (tmp_path / "own.py").write_text(
        "from rl_envs import Task, TextEnv\n"
        "class Own(TextEnv):\n"
        "    verifier = 'math'\n"
        "    tasks = [Task('a', '1+1', '2'), Task('b', '2+2')]\n"
    )
    err = refused("train", write(settings(envs=[{"id": "own.py"}])))
    assert "envs.0 (own.py): task b has no answer" in err


ROWS = {
    "columns": ({"question": "1?", "answer": "1"}, "row 2: needs prompt and completion"),
    "message text": (
        {"messages": [{"role": "user", "content": None}]},
        "row 2: messages must be a list of {role, content}",
    ),
    "messages": ({"messages": "hello"}, "row 2: messages must be a list"),
    "order": (
        {"messages": [{"role": "user", "content": "hello"}]},
        "row 2: the last message must be the assistant's",
    ),
    "completion": ({"prompt": "1", "completion": 5}, "row 2: completion must be a list"),
    "length": ({"prompt": "1" * 99, "completion": "2"}, "row 2: 102 tokens, but the model's"),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_row_of_supervised_data(name, refused, write, settings, tmp_path):
    row, message = ROWS[name]
    good = {"prompt": "1+1=?", "completion": "2"}
    (tmp_path / "d.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(row)}\n")
    config = write({"model": settings()["model"], "data": {"path": "d.jsonl"}, "steps": 2})
    assert f"d.jsonl, {message}" in refused("sft", config)
    assert not (tmp_path / "runs/config").exists()


# While training.


def test_a_verifier_that_returns_nan(refused, write, settings, tmp_path):
    config = write(
        settings(envs=[{"id": "mine.py:Broken"}], on_truncation="score", evaluation={"tasks": 0})
    )
    err = refused("train", config)
    assert re.search(r"Broken.*nan", err)
    assert re.search(r"\bt\d\b", err), "the task is named"
    assert not (tmp_path / "run").exists(), "what never began is not in the way"


def test_a_prompt_longer_than_the_context(refused, write, settings):
    config = write(settings(envs=[{"id": "mine.py:Long"}], evaluation={"tasks": 0}))
    err = refused("train", config)
    assert "mine.py:Long, task long: " in err
    assert "64" in err


@pytest.fixture
def trained(write, settings, done, tmp_path):
    """A finished run of two steps, and its configuration."""
    config = write(settings(steps=2, evaluation={"tasks": 0}))
    done("train", config)
    return config, tmp_path / "run"


def test_a_second_run_changes_nothing(trained, refused):
    config, run = trained
    before = contents(run)
    err = refused("train", config)
    assert "--resume" in err
    assert "--overwrite" in err
    assert contents(run) == before


def test_overwrite_replaces(trained, done):
    config, run = trained
    (run / "checkpoints/note").write_text("old")
    done("train", config, "--overwrite", "--steps", 1)
    assert not (run / "checkpoints/note").exists()
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1


def test_overwrite_keeps_the_old_run_when_the_new_one_cannot_begin(trained, refused):
    config, run = trained
    before = contents(run)
    bad = ("--envs.0.id", "text/Nope-v0"), ("--model.tiny=null", "--model.path", "./nope")
    for words in bad:
        refused("train", config, "--overwrite", *words)
    assert contents(run) == before


def test_overwrite_never_removes_what_is_no_run(refused, write, settings, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.txt").write_text("mine")
    assert "no run folder" in refused("train", write(settings()), "--overwrite")
    assert (tmp_path / "run/thesis.txt").read_text() == "mine"


def test_resume_of_a_finished_run_changes_nothing(trained, done):
    config, run = trained
    before = contents(run)
    assert "finished already" in done("train", config, "--resume")
    assert contents(run) == before


def test_resume_goes_on(trained, done):
    config, run = trained
    assert "going on after step 2" in done("train", config, "--resume", "--steps", 3)
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]
    assert "steps: 3" in (run / "config.yaml").read_text()


@pytest.mark.parametrize(
    "words",
    [
        ("--optimizer.lr", "0.5"),
        ("--run.seed", "7"),
        ("--run.threads", "2"),
        ("--evaluation.tasks", "3"),
        ("--evaluation.samples", "4"),
        ("--evaluation.split", "'dev'"),
    ],
)
def test_resume_with_changed_settings(words, trained, refused):
    config, run = trained
    before = contents(run)
    err = refused("train", config, "--resume", "--steps", 3, *words)
    assert f"{words[0][2:]} was" in err
    assert f"is {words[1]}" in err
    assert contents(run) == before


def test_how_often_a_resumed_run_evaluates_may_change(trained, done):
    words = ("--evaluation.every", 1, "--run.checkpoint_every", 0, "--name", "other")
    assert "going on" in done("train", trained[0], "--resume", "--steps", 3, *words)


@pytest.fixture
def two_stages(write, settings, done, tmp_path):
    """A finished recipe of stages a and b, each of one step, and its configuration."""
    a = settings(steps=1, evaluation={"tasks": 0})
    b = {**a, "model": {"path": "@a"}}
    del a["run"], b["run"]
    config = write({"run": {"dir": "run"}, "stages": {"a": a, "b": b}})
    done("train", config)
    return config, tmp_path / "run"


def test_a_stage_does_not_train_on_under_one_that_was_made_from_it(two_stages, refused):
    config, run = two_stages
    before = contents(run)
    err = refused("train", config, "--resume", "--stages.a.steps", 2)
    assert "stages.a would train on to 2 steps, but stages.b after it has begun in run/2-b" in err
    assert "another --run.dir, or start over with --overwrite" in err
    assert contents(run) == before


def test_the_last_stage_of_a_recipe_may_train_on(two_stages, done):
    config, run = two_stages
    first = contents(run / "1-a")
    assert "going on after step 1" in done("train", config, "--resume", "--stages.b.steps", 2)
    assert contents(run / "1-a") == first
    assert json.loads((run / "summary.json").read_text())["steps"] == 2


def test_a_damaged_checkpoint(trained, refused):
    config, run = trained
    state = run / "checkpoints/step-000002/state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    metrics = (run / "metrics.jsonl").read_bytes()
    assert "step-000002 cannot be read" in refused("train", config, "--resume", "--steps", 3)
    assert (run / "metrics.jsonl").read_bytes() == metrics


def test_a_model_without_chat_template(trained, refused, write, settings, tmp_path):
    model = trained[1] / "model"
    (model / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer = json.loads((model / "tokenizer_config.json").read_text())
    tokenizer.pop("chat_template", None)
    (model / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    config = write(settings(model={"path": "run/model"}, run={"dir": "second"}))
    assert "has no chat template; give one with model.chat_template" in refused("train", config)
    assert not (tmp_path / "second").exists()


def test_damaged_weights_do_not_cost_the_old_run(trained, refused, write, settings, tmp_path):
    run = trained[1]
    weights = run / "model/model.safetensors"
    (run / "model").rename(tmp_path / "model")
    weights = tmp_path / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    before = contents(run)
    config = write(settings(model={"path": "model"}))
    assert "model.safetensors" in refused("train", config, "--overwrite")
    assert contents(run) == before


# The disk.


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, with 24 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a full disk: needs root, to mount a small file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk, spare):
    """Leave about ``spare`` bytes."""
    free = os.statvfs(disk)
    (disk / "ballast").write_bytes(b"\0" * max(0, free.f_bavail * free.f_frsize - spare))


def test_a_full_disk(small_disk, refused, done, write, settings):
    run = small_disk / "run"
    changes = {"steps": 2, "evaluation": {"tasks": 0}, "run": {"dir": str(run)}}
    config = write(settings(**changes, model={"tiny": {"hidden_size": 128, "context": 64}}))
    done("train", config, "--run.checkpoint_every", 1)
    first = (run / "checkpoints/step-000002/state.pt").read_bytes()
    fill(small_disk, 100_000)
    words = ("train", config, "--run.checkpoint_every", 1, "--steps", 4, "--resume")
    err = refused(*words)
    assert "cannot write the checkpoint" in err
    assert "step-000002" in err
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step-000002"]
    assert (run / "checkpoints/step-000002/state.pt").read_bytes() == first
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows[:2]] == [1, 2]
    (small_disk / "ballast").unlink()
    done(*words)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]


def test_a_disk_without_any_room(small_disk, refused, write, settings):
    fill(small_disk, 0)
    err = refused("train", write(settings(run={"dir": str(small_disk / "run")})))
    assert "No space left" in err
    assert not (small_disk / "run/config.yaml").exists()


# Signals and pipes.


def process(*words, **options):
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, "-m", "agent_rl.cli", *map(str, words)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""},
        stderr=subprocess.PIPE,
        text=True,
        **options,
        # A shell that runs this in the background has SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def wait_for(condition, running):
    deadline = time.monotonic() + 120
    while not condition():
        assert running.poll() is None, running.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_interrupted_training_goes_on_as_it_says(write, settings, done, tmp_path):
    config = write(settings(steps=100_000, evaluation={"tasks": 0}))
    running = process("train", config, "--run.rollouts_every", "0", stdout=subprocess.DEVNULL)
    checkpoints = tmp_path / "run/checkpoints"
    wait_for(lambda: any(checkpoints.glob("step-*")), running)
    running.send_signal(signal.SIGINT)
    err = running.communicate(timeout=60)[1]
    assert running.returncode == 130
    assert err.count("\n") == 1, err
    _, found, command = err.strip().partition("interrupted; go on with: agent-rl ")
    assert found
    reached = max(int(path.name[5:]) for path in checkpoints.glob("step-*"))
    done(*shlex.split(command), "--steps", reached + 1)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, reached + 2))


def test_interrupted_evaluation_keeps_what_was_played(trained, tmp_path):
    words = ["--model.path", "run/model", "--env", "text/Arithmetic-v0", "--sampling.max_tokens=4"]
    running = process("eval", *words, "--tasks=20", "--samples=500", "--out", "results")
    partial = tmp_path / "results/completions.partial.jsonl"
    wait_for(lambda: partial.exists() and partial.stat().st_size > 1000, running)
    running.send_signal(signal.SIGINT)
    err = running.communicate(timeout=60)[1]
    assert running.returncode == 130
    assert "what was played is in results/completions.partial.jsonl" in err.splitlines()[-1]
    rows = [json.loads(line) for line in partial.read_text().splitlines()]
    assert {row["env"] for row in rows} == {"text/Arithmetic-v0"}
    assert not (tmp_path / "results/results.json").exists()


@pytest.mark.parametrize("words", [("envs",), ("envs", "--json")])
def test_a_reader_that_is_gone_makes_no_noise(words):
    read, write_end = os.pipe()
    os.close(read)
    listing = process(*words, stdout=write_end)
    os.close(write_end)
    assert listing.communicate(timeout=60)[1] == ""
    assert listing.returncode == 1


# Other commands.

MODEL = ("--model.path", "run/model")
OTHERS = {
    "eval without env": (("eval", *MODEL), "eval needs an environment: --env"),
    "eval without model": (("eval", "--env", "text/Arithmetic-v0"), "eval needs a model"),
    "eval of no model": (
        ("eval", "--model.path", "./nope", "--env", "text/Arithmetic-v0"),
        "model.path: there is no folder ./nope",
    ),
    "eval of all of an endless source": (
        ("eval", *MODEL, "--env", "text/Countdown-v0", "--tasks", "0"),
        "text/Countdown-v0 has endless tasks; say how many",
    ),
    "eval of nothing": (
        ("eval", *MODEL, "--env", "text/Arithmetic-v0", "--greedy", "false"),
        "samples is 0 and greedy is off; there is nothing to measure",
    ),
    "eval of another split": (
        ("eval", *MODEL, "--env", "text/Arithmetic-v0", "--split", "dev"),
        "no split 'dev'; it has ['train', 'test']",
    ),
    "eval with a wrong setting": (
        ("eval", *MODEL, "--env", "text/Arithmetic-v0", "--task", "3"),
        "unknown setting task; did you mean tasks?",
    ),
    "play of no env": (("play", "text/Countdwn-v0"), "did you mean text/Countdown-v0"),
    "play with an option": (("play", "text/Countdown-v0", "--hi", "3"), "has no option 'hi'"),
    "play of no task": (
        ("play", "text/Arithmetic-v0", "--index", "999999"),
        "--index 999999: text/Arithmetic-v0 has 1108 tasks",
    ),
    "report of nothing": (("report", "nope"), "nope is no run folder"),
    "gguf of nothing": (("import-gguf", "nope.gguf", "out"), "no file nope.gguf"),
    "sft without data": (("sft", "sft.yaml"), "data needs either path (a file) or env"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_commands(name, refused, write, settings):
    write({"model": settings()["model"], "data": {}}, "sft.yaml")
    words, message = OTHERS[name]
    assert message in refused(*words)


@pytest.mark.parametrize("name", ["results.json", "completions.jsonl", "completions.partial.jsonl"])
def test_no_results_are_replaced(name, refused, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("[]")
    err = refused("eval", "--model.path", "m", "--env", "text/Arithmetic-v0", "--out", "out")
    assert f"out holds {name} already" in err
    assert (tmp_path / "out" / name).read_text() == "[]"


def test_messages_hold_no_escape_sequences(refused, write, settings):
    err = refused("train", write(settings(**{"\x1b[31mred": 1})))
    assert "\x1b" not in err
