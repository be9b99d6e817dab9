"""Every recipe's wiring runs; a killed one ends bit for bit as one that was not; twins load."""

import shutil
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

import rl_envs
from agent_rl import models
from agent_rl.config import ModelConfig, TinyModel
from agent_rl.errors import UserError
from agent_rl.loading import load_recipe
from agent_rl.recipe import run_recipe
from agent_rl.stages import sft
from agent_rl.yaml_text import from_yaml
from rl_verifiers import VerifierError

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "configs/recipes"
NAMED = ("best_of_n", "cai", "dpo", "instructgpt", "llama2", "r1", "r1_zero", "tulu3")
SIZES = {"hidden_size": 32, "layers": 1, "heads": 2, "intermediate_size": 32}
SMALL = {
    "tasks": 24,
    "samples": 4,
    "batch_size": 8,
    "prompts_per_step": 4,
    "group_size": 4,
    "held_out": 4,
    "max_steps": 2,
    "ns": [1, 2],
    "threshold": None,
    "evaluation": {"every": 0, "tasks": 2},
}
STEPS = {"sft": 60, "rl": 3}
SUMS = {"terms": 2, "low": 1, "high": 5, "format_reward": 0.5}  # rewards that differ


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    """The recipes name files of the repository by paths from its root."""
    monkeypatch.chdir(ROOT)


def shortened(name: str, folder: Path, instruct: str = "", checkpoint_every: int = 0) -> Path:
    """The recipe with tiny sizes and few steps; its wiring is untouched."""
    tree = from_yaml((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    tree["run"] |= {"dir": str(folder / "run"), "checkpoint_every": checkpoint_every}
    for stage in tree["stages"].values():
        _shorten(stage)
    text = yaml.safe_dump(tree, sort_keys=False)
    text = text.replace("models/smollm2-135m-instruct", instruct)
    text = text.replace("step-000050", "step-000020")  # the checkpoints of 60 steps
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _shorten(stage: dict) -> None:
    stage |= {key: value for key, value in SMALL.items() if key in stage or key == "held_out"}
    kind = stage["stage"]
    if kind not in ("sft", "reward_model", "dpo"):
        stage.pop("held_out")
    if kind in ("reward_model", "dpo"):
        stage["max_steps"] = 2
    if kind in STEPS:
        stage["steps"] = STEPS[kind]
    if "run" in stage:
        stage["run"]["checkpoint_every"] = 20
    if kind == "compare":
        stage["samples"] = 1
    _shrink(stage)


def _shrink(tree) -> None:
    """Small networks and small sums, at any depth."""
    if isinstance(tree, list):
        for value in tree:
            _shrink(value)
    elif isinstance(tree, dict):
        if "hidden_size" in tree:
            tree |= SIZES
        if "terms" in tree:
            tree |= SUMS
        for value in tree.values():
            _shrink(value)


@pytest.fixture(scope="module")
def instruct(tmp_path_factory) -> str:
    """A tiny model in place of an instruction-tuned one."""
    folder = tmp_path_factory.mktemp("instruct") / "model"
    tiny = TinyModel(**SIZES, context=4096, characters="printable", tokens=())
    models.save(*models.load(ModelConfig(tiny=tiny), seed=0), folder)
    return str(folder)


@pytest.mark.parametrize("name", NAMED)
def test_the_stages_of_a_recipe_fit_together(name, tmp_path, instruct):
    recipe = load_recipe(str(shortened(name, tmp_path, instruct)))
    summary = run_recipe(recipe)
    assert list(summary["stages"]) == [name for name, _ in recipe.stages]
    for _, config in recipe.stages:
        assert not config.result or (Path(config.run.dir) / config.result).exists()
    assert (tmp_path / "run/report.html").is_file()


def kill_once(process, is_reached) -> None:
    """SIGKILL as soon as the run has got there."""
    deadline = time.monotonic() + 120
    while not is_reached():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()


def weights(run: Path) -> dict:
    return load_file(run / "model/model.safetensors")


@pytest.mark.slow
def test_a_recipe_killed_twice_ends_as_one_that_was_not(tmp_path, agent_rl, start):
    config = shortened("tulu3", tmp_path, checkpoint_every=10)
    words = (config, "--stages.rlvr.run.checkpoint_every", 1, "--run.dir")
    agent_rl("train", *words, "whole", check=True)
    cut = tmp_path / "cut"
    process = start("train", *words, "cut")
    kill_once(process, lambda: list(cut.glob("2-sft/checkpoints/*step-00003*")))
    process = start("train", *words, "cut", "--resume")
    kill_once(process, lambda: list(cut.glob("5-rlvr/checkpoints/*step-000001*")))
    agent_rl("train", *words, "cut", "--resume", check=True)
    for stage in ("2-sft", "4-dpo", "5-rlvr"):
        whole, resumed = weights(tmp_path / "whole" / stage), weights(cut / stage)
        assert whole.keys() == resumed.keys()
        assert [name for name in whole if not whole[name].equal(resumed[name])] == [], stage
    before, after = weights(cut / "4-dpo"), weights(cut / "5-rlvr")
    assert not all(before[name].equal(after[name]) for name in before)


def test_a_stage_that_fails_leaves_the_finished_ones(tmp_path):
    recipe = load_recipe(str(shortened("best_of_n", tmp_path)))
    run_recipe(recipe)
    run = tmp_path / "run"
    shutil.rmtree(run / "4-best_of_n")
    (run / "summary.json").unlink()
    finished = weights(run / "3-rm")
    (run / "3-rm/model").rename(tmp_path / "away")
    with pytest.raises((UserError, VerifierError), match=r"no folder .*3-rm/model") as error:
        run_recipe(recipe, resume=True)
    assert "\n" not in str(error.value)
    assert (run / "2-pairs/data.jsonl").stat().st_size > 0
    (tmp_path / "away").rename(run / "3-rm/model")
    assert "best_of_n" in run_recipe(recipe, resume=True)["stages"]
    assert all(finished[name].equal(value) for name, value in weights(run / "3-rm").items())


def test_every_recipe_of_the_project_has_a_twin():
    assert sorted(path.stem for path in (RECIPES / "gpu").glob("*.yaml")) == sorted(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_a_twin_is_a_recipe_whose_references_and_environments_are_there(name):
    path = RECIPES / f"gpu/{name}.yaml"
    text = path.read_text(encoding="utf-8")
    assert "one GPU of 80 GB; the settings were validated, not run." in text
    recipe = load_recipe(str(path))
    stages = [config for _, config in recipe.stages]
    assert len(stages) > 1
    for config in stages:
        assert "@" not in repr(config)  # every reference led to an earlier stage
        data = getattr(config, "data", None)
        wanted = (*getattr(config, "envs", ()), getattr(config, "env", None))
        for env in (*wanted, getattr(data, "env", None)):
            if env is not None:
                assert rl_envs.make(env.id, **env.options).max_turns == 1
        model = getattr(config, "model", None)
        if model is not None:
            trains = config.result == "model"
            assert (model.compute if trains else model.generation) == "bfloat16"


def test_an_interrupted_recipe_goes_on(tmp_path, monkeypatch):
    """Ctrl-C in the second stage, before it saved anything."""
    path = tmp_path / "two.yaml"
    tiny = "{hidden_size: 16, layers: 1, heads: 2, intermediate_size: 16, context: 64}"
    data = "{env: {id: text/Arithmetic-v0}}"
    path.write_text(
        f"run: {{dir: {tmp_path / 'run'}}}\n"
        f"stages:\n  a: {{stage: sft, model: {{tiny: {tiny}}}, data: {data}, steps: 2}}\n"
        f"  b: {{stage: sft, model: {{path: '@a'}}, data: {data}, steps: 2}}\n"
    )
    load = sft.models.load

    def interrupted(config, seed):
        if config.path is not None:
            raise KeyboardInterrupt
        return load(config, seed)

    with monkeypatch.context() as patch:
        patch.setattr(sft.models, "load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(load_recipe(str(path)))
    assert run_recipe(load_recipe(str(path)), resume=True)["steps"] == 2
    assert (tmp_path / "run/report.html").exists()
