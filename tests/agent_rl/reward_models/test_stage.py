"""The stage: it learns, goes on where it was stopped, and says how good it is."""

from __future__ import annotations

import dataclasses
import io
import json
import random

import pytest
import torch

from agent_rl import checkpoint, models
from agent_rl.config import (
    EnsembleConfig,
    JudgedData,
    LoRA,
    ModelConfig,
    OptimizerConfig,
    RewardModelConfig,
    RunConfig,
    TinyModel,
)
from agent_rl.errors import UserError
from agent_rl.reward_models import load_reward_model
from agent_rl.reward_models.data import load_items
from agent_rl.runs import Console, RunFolder
from agent_rl.stages import reward_model

TINY = TinyModel(hidden_size=32, layers=1, heads=2, intermediate_size=32, context=64)


def word(rng: random.Random) -> str:
    share = rng.random()
    return "".join(rng.choice("aeiou" if rng.random() < share else "bcdfg") for _ in range(10))


def vowels(text: str) -> int:
    return sum(c in "aeiou" for c in text)


def rows_of(kind: str, n: int) -> list[dict]:
    """Judgements without noise: more vowels are better, half of them are right."""
    rng = random.Random(0)
    rows = []
    while len(rows) < n:
        prompt, answers = f"write {rng.randrange(10**6)}", [word(rng) for _ in range(3)]
        scores = [vowels(a) for a in answers]
        if kind == "ranking":
            row = {"prompt": prompt, "completions": answers, "scores": scores}
        elif kind == "outcome":
            row = {"prompt": prompt, "completion": answers[0], "label": scores[0] >= 5}
        elif kind == "process":
            row = {"prompt": prompt, "completions": answers, "labels": [s >= 5 for s in scores]}
        else:
            low, high = sorted(answers[:2], key=vowels)
            row = {"prompt": prompt, "chosen": high, "rejected": low}
        if kind != "bradley_terry" or scores[0] != scores[1]:
            rows.append(row)
    return rows


@pytest.fixture
def settings(tmp_path):
    """``settings(kind, n, **changes)``: a stage on ``n`` rows."""

    def make(kind="bradley_terry", n=60, **changes) -> RewardModelConfig:
        path = tmp_path / f"{kind}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(kind, n)))
        given = {
            "model": ModelConfig(tiny=TINY),
            "data": JudgedData(str(path)),
            "optimizer": OptimizerConfig(lr=3e-3),
            "run": RunConfig(checkpoint_every=0),
            "kind": kind,
            "held_out": n // 5,
            "batch_size": 16,
            **changes,
        }
        return RewardModelConfig(**given)

    return make


def ran(config, path, *, resume=False):
    folder = RunFolder.resume(path) if resume else RunFolder.create(path, {})
    summary = reward_model.run(config, folder, Console(file=io.StringIO()), resume=resume)
    return summary, folder


def weights(folder):
    return load_reward_model(folder.model).network.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bradley_terry", "ranking", "outcome", "process"])
def test_each_kind_learns_what_holds_on_other_prompts(kind, settings, tmp_path):
    summary, folder = ran(settings(kind, 500, epochs=3), tmp_path / "run")
    assert summary["accuracy_low"] > 0.85
    assert summary["accuracy"] > summary["baseline_high"]
    assert summary["loss_after"] < 0.7 * summary["loss_before"]
    model = load_reward_model(folder.model)
    asked = {"role": "user", "content": "write 1"}
    texts = ("aeiouaeiou", "bcdfgbcdfg")
    good, bad = model.score([[asked, {"role": "assistant", "content": t}] for t in texts])
    assert good > bad + 0.5
    assert model.std > 0.1
    assert bool(bad >= 0 and good <= 1) == (kind in ("outcome", "process"))
    assert (model.mean, model.std) == pytest.approx((summary["mean"], summary["std"]))
    logged = folder.read_metrics()
    assert {"rm/accuracy_train", "rm/accuracy_eval", "loss/eval"} <= {k for m in logged for k in m}


@pytest.mark.parametrize("lora", [None, LoRA(rank=2)])
def test_a_stopped_run_goes_on_bit_for_bit(lora, settings, tmp_path, monkeypatch):
    config = settings(
        epochs=2,
        evaluate_every=2,
        keep="best",
        model=ModelConfig(tiny=TINY, lora=lora),
        run=RunConfig(checkpoint_every=2),
        ensemble=EnsembleConfig(members=2),
    )
    _, whole = ran(config, tmp_path / "whole")
    saved = checkpoint.save

    def stop_after(folder, step, state, *, keep):
        saved(folder, step, state, keep=keep)
        if step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", stop_after)
    with pytest.raises(KeyboardInterrupt):
        ran(config, tmp_path / "cut")
    monkeypatch.undo()
    _, cut = ran(config, tmp_path / "cut", resume=True)
    for name, value in weights(whole).items():
        assert torch.equal(weights(cut)[name], value)
    without = [
        [{k: v for k, v in row.items() if "speed" not in k} for row in f.read_metrics()]
        for f in (whole, cut)
    ]
    assert without[0] == without[1]


def test_the_best_weights_are_kept_and_training_stops_when_it_over_fits(settings, tmp_path):
    config = settings(
        n=40,
        epochs=30,
        evaluate_every=1,
        optimizer=OptimizerConfig(lr=3e-2),
        keep="best",
        patience=4,
    )
    summary, folder = ran(config, tmp_path / "run")
    curve = {r["step"]: r["loss/eval"] for r in folder.read_metrics() if "loss/eval" in r}
    best = min(curve, key=curve.get)
    assert summary["steps"] == best + 4 < 90
    assert summary["loss_after"] == pytest.approx(curve[best], abs=1e-6)


def test_an_ensembles_members_differ_and_its_report_is_of_their_agreement(settings, tmp_path):
    config = settings(n=200, ensemble=EnsembleConfig(members=3, combine="min"))
    summary, folder = ran(config, tmp_path / "run")
    model = load_reward_model(folder.model)
    fresh = [reward_model._Member.fresh(config, n).model.network.score.weight for n in (0, 1)]
    assert not torch.equal(*fresh)
    assert len(model.members) == 2
    assert summary["member_accuracy"] == [m.standing.accuracy for m in (model, *model.members)]
    assert model.mean == pytest.approx(summary["mean"])
    assert model.mean < 0  # the worst of three


def test_bad_rows_are_refused_before_anything_is_trained(settings, tmp_path):
    path = tmp_path / "rows.jsonl"
    refused = [
        (
            "outcome",
            {"prompt": "a", "completion": "b"},
            "row 1: needs prompt, completion and label",
        ),
        (
            "outcome",
            {"prompt": "a", "completion": "b", "label": 3},
            "row 1: label is 3; it must be",
        ),
        ("outcome", {"prompt": "a", "completion": " ", "label": 1}, "row 1: completion: is empty"),
        (
            "process",
            {"prompt": "a", "completions": ["b"], "labels": []},
            "1 completions .steps. but",
        ),
        ("process", {"prompt": "a", "completions": ["b\n"], "labels": [1]}, "holds the separator"),
        (
            "bradley_terry",
            {"prompt": "a", "chosen": "b", "rejected": "b"},
            "chosen equals rejected",
        ),
    ]
    for kind, row, message in refused:
        path.write_text(json.dumps(row) + "\n")
        config = dataclasses.replace(settings(kind), data=JudgedData(str(path)))
        with pytest.raises(UserError, match=rf"^data: .*{message}"):
            reward_model.check(config)


def test_weights_that_are_no_numbers_are_refused_and_leave_no_model(settings, tmp_path):
    model, chat = models.load(ModelConfig(tiny=TINY), 0)
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    models.save(model, chat, tmp_path / "policy")
    config = settings(model=ModelConfig(path=str(tmp_path / "policy")), held_out=0)
    with pytest.raises(UserError, match="gave the score nan, which is no number to learn from"):
        ran(config, tmp_path / "run")
    assert not (tmp_path / "run/model").exists()


def test_settings_that_contradict_are_named(settings):
    contradictions = {
        "margin": settings("outcome", margin=True),
        "centering": settings("process", centering=0.1),
        "keep": settings(keep="best", held_out=0),
        "head_std": settings(head_std=0.0, ensemble=EnsembleConfig(members=2)),
        "step_separator": settings("process", step_separator=""),
    }
    for name, config in contradictions.items():
        assert [key for key, _ in config.problems()] == [name]


@pytest.mark.parametrize("kind", ["bradley_terry", "ranking", "outcome"])
def test_several_files_are_split_as_one(kind, settings, tmp_path):
    """A prompt of both files is held out in both or in none, however long the files are."""
    rows = rows_of(kind, 90)
    for name, some in (("one", rows[:80]), ("two", rows[60:])):
        lines = "".join(json.dumps(row) + "\n" for row in some)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    paths = tuple(str(tmp_path / f"{name}.jsonl") for name in ("one", "two"))
    config = settings(kind, 90, data=JudgedData(paths=paths), held_out=80)
    train, test = (load_items(config, split, tell=print) for split in ("train", "test"))
    asked = [{item.prompt[0]["content"] for item in items} for items in (train, test)]
    assert not asked[0] & asked[1]
    assert len(asked[0] | asked[1]) == 90
    n_rows = 90 if kind == "ranking" else 110  # a ranking has one item for each prompt
    assert len(train) + len(test) == n_rows
    assert len(test) > 10


def test_either_one_file_or_several(settings):
    for data in (JudgedData(), JudgedData("a", ("b",))):
        problems = list(dataclasses.replace(settings(), data=data).problems())
        assert problems == [("data", "needs either path or paths")]
