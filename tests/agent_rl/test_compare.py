"""The comparison stage: rewards, KL and win rates of policies whose behaviour is known."""

import asyncio
import json
from pathlib import Path

import pytest
import torch

from agent_rl import models
from agent_rl.config import CompareConfig, Contestant, ModelConfig, TinyModel
from agent_rl.errors import UserError
from agent_rl.generating import load_engine, sample_tasks, split_assignments, to_sampling
from agent_rl.loading import build_stage, load_recipe
from agent_rl.runs import Console, RunFolder
from agent_rl.runs.tables import tables_of, with_interval
from agent_rl.stages import compare
from rl_verifiers import Score, registry

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
    assert [len(row) for row in (one, best)] == [11, 11]


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
    (samples / ".01.jsonl.7.tmp").write_text(before[: len(before) // 2])  # killed while writing
    again = _run(config, resume=True)
    assert again["comparison"] == whole["comparison"]
    logged = (Path(config.run.dir) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in logged] == [1, 2]
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


def _rows(config, number: int = 0) -> list[dict]:
    path = Path(config.run.dir) / "samples" / f"{number:02d}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_tasks_of_one_id_stay_apart(tmp_path):
    base = _policy(tmp_path / "base")
    config = _config(tmp_path, [{"path": base}, {"path": base, "name": "b", "best_of": 4}])
    env = tmp_path / "says_a.py"
    env.write_text(env.read_text().replace("str(i)", "'same'"))
    one, best = _run(config)["comparison"]
    rows = _rows(config)
    assert (one["n"], one["errors"]) == (48, 0)
    assert one["reward"] == pytest.approx(sum(r["reward"] for r in rows) / 48)
    pairs = list(zip(_rows(config, 1), rows, strict=True))
    wins = [(1 + (b["reward"] > a["reward"]) - (b["reward"] < a["reward"])) / 2 for b, a in pairs]
    assert best["win_rate"] == pytest.approx(sum(wins) / 48)


@pytest.fixture
def verifier(monkeypatch):
    """``verifier(function)``: let the verifier ``odd`` behave so."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered), raising=True)

    def make(function):
        registry._registered["odd"] = lambda: function

    return make


def test_a_verifier_decides_reward_and_pass_and_cut_completions_earn_nothing(tmp_path, verifier):
    verifier(lambda completion, row: Score.correct(value=-2.0))
    base = _policy(tmp_path / "base")
    config = _config(tmp_path, [{"path": base}], verifier="odd", on_truncation="zero")
    _run(config)
    rows = _rows(config)
    cut = [row for row in rows if row["finish_reason"] == "length"]
    assert 0 < len(cut) < len(rows)
    assert {(r["reward"], r["passed"], r["status"]) for r in cut} == {(0.0, False, "over_limit")}
    judged = {(r["reward"], r["passed"]) for r in rows if r["finish_reason"] == "stop"}
    assert judged == {(-2.0, True)}


def test_what_a_verifier_could_not_judge_is_no_reward_and_counted(tmp_path, verifier):
    verifier(lambda completion, row: Score.failed("down") if row["id"] == "3" else len(completion))
    base = _policy(tmp_path / "base")
    contestants = [{"path": base}, {"path": base, "name": "b", "best_of": 2}]
    one, best = _run(_config(tmp_path, contestants, verifier="odd"))["comparison"]
    assert [(row["n"], row["errors"]) for row in (one, best)] == [(40, 8), (40, 8)]
    assert best["reward"] > one["reward"] > 0


def test_a_verifier_that_is_down_stops_it_and_nothing_is_kept(tmp_path, verifier):
    verifier(lambda completion, row: Score.failed("down"))
    base = _policy(tmp_path / "base")
    config = _config(tmp_path, [{"path": base}], verifier="odd")
    with pytest.raises(UserError, match=r"failed on all 48 .* down; mend it"):
        _run(config)
    verifier(lambda completion, row: 1.0)
    assert _run(config, resume=True)["comparison"][0]["reward"] == 1.0


def test_kl_is_told_only_where_there_is_one(tmp_path):
    base = _policy(tmp_path / "base")
    bent = _moved(base, tmp_path / "bent", 4.0)
    other = Path(_moved(base, tmp_path / "other", 4.0))
    template = next(other.glob("chat_template*"))
    template.write_text(template.read_text() + " ")
    contestants = [{"path": base}, {"path": bent}, {"path": str(other)}]
    config = _config(tmp_path, contestants)
    assert [row["kl"] is None for row in _run(config)["comparison"]] == [False, False, True]
    greedy = {"max_tokens": 4, "temperature": 0.0}
    settings = {"sampling": greedy, "run": {"dir": str(tmp_path / "greedy")}}
    rows = _run(_config(tmp_path, contestants, **settings))["comparison"]
    assert [row["kl"] for row in rows] == [0.0, None, None]
    with pytest.raises(UserError, match=r"models\.0\.best_of is 2, but sampling\.temperature is 0"):
        _config(tmp_path, [{"path": base, "best_of": 2}], sampling=greedy)


def test_self_play_is_refused_unless_the_split_has_an_opponent(tmp_path):
    base = _policy(tmp_path / "base")
    env = {"id": "text/TicTacToe-v0", "options": {"opponent": "self"}}
    with pytest.raises(UserError, match="plays against itself"):
        compare.check(_config(tmp_path, [{"path": base}], env=env))
    env["options"] = {"opponent": {"train": "self", "test": "minimax"}}
    compare.check(_config(tmp_path, [{"path": base}], env=env))


def test_sampling_that_is_left_half_way_leaves_no_loop_behind(tmp_path):
    """A generator that kept its event loop would close it while another one runs."""
    engine, chat = load_engine(ModelConfig(path=_policy(tmp_path / "base")), 0)
    config = _config(tmp_path, [{"path": "x"}])
    chunks = sample_tasks(
        engine,
        chat,
        split_assignments(config.env, "train", 0, 0),
        samples=1,
        sampling=to_sampling(config.sampling),
        seed=0,
        on_truncation="score",
        tasks_at_once=2,
    )
    assert len(next(chunks)) == 2

    async def elsewhere():
        chunks.close()

    asyncio.run(elsewhere())
