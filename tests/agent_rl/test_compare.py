"""The comparison stage: rewards, KL and win rates of policies whose behaviour is known."""

import json
from pathlib import Path

import pytest
import torch

from agent_rl import models
from agent_rl.config import CompareConfig, Contestant, ModelConfig, TinyModel
from agent_rl.errors import UserError
from agent_rl.loading import build_stage, load_recipe
from agent_rl.runs import Console, RunFolder
from agent_rl.runs.tables import tables_of, with_interval
from agent_rl.stages import compare

TINY = TinyModel(hidden_size=16, layers=1, heads=2, characters="abc ", tokens=())


def _policy(folder: Path) -> str:
    """A random tiny model's folder."""
    model, chat = models.load(ModelConfig(tiny=TINY), 0)
    models.save(model, chat, folder)
    return str(folder)


def _config(tmp_path, contestants, **more) -> CompareConfig:
    env = tmp_path / "says_a.py"
    env.write_text(
        "from rl_envs import TextEnv\n"
        "class SaysA(TextEnv):\n"
        "    tasks = [{'id': str(i), 'prompt': 'ab' * (1 + i), 'answer': 'a'} for i in range(6)]\n"
        "    splits = ('train', 'test')\n"
        "    def score(self, completion, row):\n"
        "        return completion.count('a') / max(1, len(completion))\n"
    )
    settings = {
        "models": contestants,
        "env": {"id": f"{env}:SaysA"},
        "sampling": {"max_tokens": 4},
        "on_truncation": "score",
        "samples": 8,
        "run": {"dir": str(tmp_path / "run")},
        **more,
    }
    config = build_stage("compare", settings, "test")
    assert isinstance(config, CompareConfig)
    return config


def _run(config, *, resume=False):
    path = config.run.dir
    folder = RunFolder.resume(path) if resume else RunFolder.create(path, {"stage": "compare"})
    return compare.run(config, folder, Console(), resume=resume)


def _moved(source: str, folder: Path, shift: float) -> str:
    """The same policy with a bent last norm, so that it has another distribution."""
    model, chat = models.load(ModelConfig(path=source), 0)
    with torch.no_grad():
        model.model.norm.weight.mul_(1.0 + shift)
    models.save(model, chat, folder)
    return str(folder)


def test_a_policy_ties_with_itself_and_best_of_n_beats_it(tmp_path):
    base = _policy(tmp_path / "base")
    contestants = [
        {"path": base, "name": "base"},
        {"path": base, "name": "again"},
        {"path": base, "name": "best", "best_of": 8},
    ]
    summary = _run(_config(tmp_path, contestants))
    one, again, best = summary["comparison"]
    assert again["win_rate"] == 0.5
    assert again["reward"] == one["reward"]
    assert (one["kl"], again["kl"]) == (0.0, 0.0)
    assert best["kl"] == pytest.approx(torch.log(torch.tensor(8.0)).item() - 7 / 8)
    assert best["reward"] > one["reward"]
    assert best["win_rate"] > 0.6
    assert best["win_rate_interval"][0] > 0.5
    assert best["against"] == "again"
    assert [len(row) for row in (one, best)] == [10, 10]


def test_kl_is_the_mean_log_ratio_of_what_was_said(tmp_path):
    base = _policy(tmp_path / "base")
    bent = _moved(base, tmp_path / "bent", 4.0)
    contestants = [{"path": base}, {"path": bent, "name": "bent"}]
    config = _config(tmp_path, contestants)
    summary = _run(config)
    rows = [
        json.loads(line)
        for line in (Path(config.run.dir) / "samples" / "01.jsonl").read_text().splitlines()
    ]
    (first, chat), (second, _) = (models.load(ModelConfig(path=p), 0) for p in (base, bent))
    compared = 0
    for row in rows:
        prompt = chat.tokenizer.encode(row["prompt"], add_special_tokens=False)
        said = chat.tokenizer.encode(row["completion"], add_special_tokens=False)
        ids = [*prompt, *said]
        if row["finish_reason"] == "stop":
            ids.append(chat.tokenizer.eos_token_id)
        if len(ids) - len(prompt) != row["n_tokens"]:
            continue  # it said a special token, which its text does not show
        with torch.no_grad():
            logs = [
                m(torch.tensor([ids])).logits[0].double().log_softmax(-1) for m in (second, first)
            ]
        places = range(len(prompt), len(ids))
        ratio = sum(float(logs[0][p - 1, ids[p]] - logs[1][p - 1, ids[p]]) for p in places)
        assert row["kl"] == pytest.approx(ratio, abs=1e-4)
        compared += 1
    assert compared >= 10
    mean = sum(row["kl"] for row in rows) / len(rows)
    assert summary["comparison"][1]["kl"] == pytest.approx(mean)
    assert mean > 0.05


def test_a_resumed_comparison_plays_only_what_is_missing(tmp_path):
    base = _policy(tmp_path / "base")
    bent = _moved(base, tmp_path / "bent", 4.0)
    config = _config(tmp_path, [{"path": base}, {"path": bent}])
    whole = _run(config)
    samples = Path(config.run.dir) / "samples"
    before = (samples / "01.jsonl").read_text()
    (samples / "01.jsonl").unlink()
    kept = (samples / "00.jsonl").stat().st_mtime_ns
    again = _run(config, resume=True)
    assert again["comparison"] == whole["comparison"]
    assert (samples / "01.jsonl").read_text() == before
    assert (samples / "00.jsonl").stat().st_mtime_ns == kept


def test_what_cannot_be_compared_is_refused(tmp_path):
    with pytest.raises(UserError, match="models has x twice"):
        _config(tmp_path, [{"path": "x"}, {"path": "x"}])
    config = _config(tmp_path, [{"path": str(tmp_path / "gone")}])
    with pytest.raises(UserError, match=r"models\.0: model\.path: there is no folder"):
        compare.check(config)
    compare.check(config, unborn=[str(tmp_path / "gone")])


def test_a_stage_without_a_result_cannot_be_named(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "stages:\n"
        "  who: {stage: compare, models: [{path: x}], env: {id: text/Countdown-v0}}\n"
        "  sft: {stage: sft, model: {path: '@who'}, data: {path: y}}\n"
    )
    with pytest.raises(UserError, match="the stage who only measures"):
        load_recipe(str(path))


def test_tables_of_a_summary():
    summary = {"tables": {"t": [{"a": 1.23456, "b": None}, {"a": "x", "b": [1]}], "no": 3}}
    (table,) = tables_of(summary)
    assert (table.title, table.columns) == ("t", ["a", "b"])
    assert table.rows == [["1.235", ""], ["x", "[1]"]]
    assert with_interval(0.5, (0.4, 0.6)) == "0.500 (0.400 to 0.600)"
    assert with_interval(None, None) == ""
    assert Contestant("p").label == "p"
