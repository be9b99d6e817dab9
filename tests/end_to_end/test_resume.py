"""A run killed with SIGKILL and resumed ends with the weights of one that was never stopped."""

import json
import random
import re
import time

import pytest
from safetensors.torch import load_file

LETTERS = """
from rl_envs import Task, TextEnv


class Letters(TextEnv):
    \"\"\"Two turns, paid by their letters: any model earns something, never the same.\"\"\"

    max_turns = 2
    tasks = [Task(str(n), f"{n}=?") for n in range(9)]

    def respond(self, action):
        from rl_envs import Reply

        reward = sum(letter in "abcdefg" for letter in action) / 6
        return Reply([{"role": "user", "content": "more"}], reward, terminated=self.turn == 2)
"""

# Between them these use everything a checkpoint holds: value head, adaptive KL, several updates
# drawn at random, a refreshed reference, two environments, adapters, supervised stages.
VARIANTS = {
    "grpo": {
        "algorithm": {"preset": "grpo", "kl": {"target": 0.01, "coef": 0.1, "horizon": 50}},
        "updates_per_step": 2,
        "reference_refresh": 2,
        "envs": [
            {"id": "letters.py:Letters"},
            {"id": "letters.py:Letters", "weight": 0.5, "options": {"discount": 0.5}},
        ],
    },
    "ppo": {"algorithm": "ppo", "updates_per_step": 2, "epochs": 2},
    "lora": {"model": {"path": "base", "lora": {"rank": 2}}, "optimizer": {"lr": 1e-2}},
}


def newest(checkpoints):
    """Number of the newest checkpoint that is there or is being written."""
    names = [path.name for path in checkpoints.glob("*step-*")]
    return max((int(re.search(r"step-(\d+)", name)[1]) for name in names), default=0)


@pytest.fixture(autouse=True)
def letters(tmp_path):
    (tmp_path / "letters.py").write_text(LETTERS)


def rl(settings, **changes):
    common = {"envs": [{"id": "letters.py:Letters"}], "evaluation": {"tasks": 0}}
    return {**settings(), **common, "on_truncation": "score", **changes}


def weights_that_moved(run):
    """The final weights, after making sure that every step had a gradient."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(row["optim/grad_norm"] > 0 for row in rows if "optim/grad_norm" in row)
    return load_file(run / "model/model.safetensors")


def different(one, other):
    assert one.keys() == other.keys()
    return [name for name in one if not one[name].equal(other[name])]


def kill_at_a_random_step(process, checkpoints, last, rng):
    """SIGKILL once a randomly chosen checkpoint is there (or is just being written)."""
    wanted = rng.randrange(1, last)
    deadline = time.monotonic() + 120
    while newest(checkpoints) < wanted:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_resumed_rl_equals_uninterrupted(variant, agent_rl, start, write, settings, tmp_path):
    if variant == "lora":
        base = rl(settings, steps=1, run={"dir": "b"})
        agent_rl("train", write(base, "base.yaml"), check=True)
        (tmp_path / "b" / "model").rename(tmp_path / "base")
    config = write(rl(settings, **{**VARIANTS[variant], "steps": 8}))
    agent_rl("train", config, "--run.dir", "whole", check=True)
    process = start("train", config, "--run.dir", "cut")
    kill_at_a_random_step(process, tmp_path / "cut/checkpoints", 8, random.Random(variant))
    agent_rl("train", config, "--run.dir", "cut", "--resume", check=True)
    whole, cut = weights_that_moved(tmp_path / "whole"), weights_that_moved(tmp_path / "cut")
    assert different(whole, cut) == []


@pytest.mark.slow
def test_resumed_recipe_equals_uninterrupted(agent_rl, start, write, settings, tmp_path):
    sft = {
        "stage": "sft",
        "model": settings()["model"],
        "data": {"env": {"id": "text/Arithmetic-v0", "options": {"terms": 2}}},
        "steps": 6,
        "batch_size": 4,
    }
    second = rl(settings, steps=4, model={"path": "@first"})
    del second["run"]
    shared = {"dir": "whole", "checkpoint_every": 1}
    config = write({"run": shared, "stages": {"first": sft, "second": second}})
    agent_rl("train", config, check=True)
    process = start("train", config, "--run.dir", "cut")
    kill_at_a_random_step(process, tmp_path / "cut/1-first/checkpoints", 6, random.Random(1))
    process = start("train", config, "--run.dir", "cut", "--resume")
    kill_at_a_random_step(process, tmp_path / "cut/2-second/checkpoints", 4, random.Random(2))
    agent_rl("train", config, "--run.dir", "cut", "--resume", check=True)
    for stage in ("1-first", "2-second"):
        whole = weights_that_moved(tmp_path / "whole" / stage)
        assert different(whole, weights_that_moved(tmp_path / "cut" / stage)) == []


@pytest.mark.slow
def test_metrics_of_a_resumed_run_have_every_step_once(agent_rl, start, write, settings, tmp_path):
    config = write(rl(settings, steps=8, run={"dir": "cut", "checkpoint_every": 3}))
    process = start("train", config)
    kill_at_a_random_step(process, tmp_path / "cut/checkpoints", 4, random.Random(0))
    agent_rl("train", config, "--resume", check=True)
    lines = (tmp_path / "cut/metrics.jsonl").read_text().splitlines()
    steps = [row["step"] for row in map(json.loads, lines) if "reward/mean" in row]
    assert steps == list(range(1, 9))


@pytest.mark.slow
def test_resume_with_other_settings_is_refused(agent_rl, write, settings):
    config = write(rl(settings, steps=2))
    agent_rl("train", config, check=True)
    done = agent_rl("train", config, "--resume", "--steps", 3, "--optimizer.lr", 0.5)
    assert done.returncode == 1
    assert "--resume: optimizer is not what run was started with" in done.stderr
