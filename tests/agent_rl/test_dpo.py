"""Direct alignment: where it starts, what its gradient depends on, what it caches and refuses."""

from __future__ import annotations

import copy
import io
import json
import math
from dataclasses import replace

import pytest
import torch

from agent_rl import models, preflight
from agent_rl.config import (
    DPOConfig,
    EnvConfig,
    EvaluationConfig,
    LoRA,
    ModelConfig,
    OnlineDPOConfig,
    OptimizerConfig,
    PreferenceData,
    PreferenceLoss,
    RunConfig,
    SamplingConfig,
    TinyModel,
)
from agent_rl.direct import references
from agent_rl.direct.examples import encode, load_judged, with_mismatches
from agent_rl.direct.objective import likelihoods, read
from agent_rl.errors import UserError
from agent_rl.policy import Policy
from agent_rl.runs import Console, RunFolder
from agent_rl.stages import dpo, online_dpo
from agent_rl.trajectory import Trajectory, Turn

TINY = TinyModel(hidden_size=16, layers=1, heads=2, intermediate_size=16, context=64)
PAIRS = [  # of very different lengths; two of them share a prompt
    {"prompt": "say a", "chosen": "aaa", "rejected": "b"},
    {"prompt": "say a", "chosen": "a", "rejected": "bbbbbb"},
    {"prompt": "a longer prompt that says c", "chosen": "cc", "rejected": "dddddddddd"},
    {"prompt": "x", "chosen": "yes of course", "rejected": "no"},
    {"prompt": "yy", "chosen": "ok", "rejected": "never"},
]
SINGLES = [
    {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
    for row in PAIRS
    for name in ("chosen", "rejected")
]
KINDS = ("dpo", "robust", "normalized", "ipo", "kto", "orpo", "simpo")


@pytest.fixture
def file(tmp_path):
    """``file(rows)``: a data file's name."""

    def write(rows=PAIRS, name="data.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def settings(path, kind="dpo", **changes) -> DPOConfig:
    given = {
        "model": ModelConfig(tiny=TINY),
        "loss": PreferenceLoss(kind, label_smoothing=0.1 if kind == "robust" else 0.0),
        "optimizer": OptimizerConfig(lr=1e-2),
        "batch_size": 4,
        "held_out": 0,
        **changes,
    }
    return DPOConfig(data=PreferenceData(path), **given)


def made(config, chat):
    """The examples of a file."""
    examples, left_out = encode(load_judged(config, "train"), chat, 64, where="f")
    assert not left_out
    return with_mismatches(examples, 64, "f") if config.loss.kind == "kto" else examples


@torch.no_grad()
def with_some_reference(policy, examples):
    """Reference likelihoods a little off the policy's own."""
    out = []
    for number, example in enumerate(examples):
        segments = [*example.segments, *example.others]
        sums = likelihoods(policy, segments, 4096)
        out.append(replace(example, reference=tuple((sums + 0.3 * number - 0.5).tolist())))
    return out


def gradient(model, config, examples, micro_tokens):
    model = copy.deepcopy(model)
    said = read(Policy(model), config.loss, examples, micro_tokens, backward=True)
    return said, torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("kind", KINDS)
def test_neither_micro_batches_nor_the_order_change_the_gradient(kind, file):
    config = settings(file(), kind)
    model, chat = models.load(config.model, seed=0)
    examples = with_some_reference(Policy(model), made(config, chat))
    said, wanted = gradient(model, config, examples, 4096)
    assert wanted.abs().max() > 1e-4
    for batch, micro_tokens in ((examples, 1), (examples, 70), (examples[::-1], 4096)):
        other, got = gradient(model, config, batch, micro_tokens)
        assert other.loss == pytest.approx(said.loss, abs=1e-5)
        torch.testing.assert_close(got, wanted, atol=2e-6, rtol=0)
    assert other.rewards[::-1] == [pytest.approx(row, abs=1e-5) for row in said.rewards]


def test_the_gradient_is_that_of_each_pair_alone_through_the_plain_model(file):
    """No packing, no sharing, no micro-batches: transformers' own logits, and equation 7."""
    config = settings(file())
    model, chat = models.load(config.model, seed=0)
    examples = with_some_reference(Policy(model), made(config, chat))
    losses = []
    for example in examples:
        ratios = []
        for segment, reference in zip(example.segments, example.reference, strict=True):
            ids = torch.tensor([segment.ids])
            logprobs = model(ids).logits[0, :-1].log_softmax(-1)
            own = logprobs.gather(1, ids[0, 1:, None])[segment.prompt_length - 1 :]
            ratios.append(own.sum() - reference)
        losses.append(-torch.log(torch.sigmoid(0.1 * (ratios[0] - ratios[1]))))
    wanted = torch.stack(losses).mean()
    grads = torch.autograd.grad(wanted, list(model.parameters()))
    said, got = gradient(model, config, examples, 100)
    assert said.loss == pytest.approx(wanted.item(), abs=1e-5)
    torch.testing.assert_close(got, torch.cat([g.flatten() for g in grads]), atol=1e-5, rtol=0)


def train(config, path, *, resume=False):
    plain = {"stage": "dpo"}
    folder = RunFolder.resume(path) if resume else RunFolder.create(path, plain, overwrite=True)
    show = Console(file=io.StringIO())
    stage = dpo if isinstance(config, DPOConfig) else online_dpo
    return stage.run(config, folder, show, resume=resume), folder


def weights(folder):
    model, _ = models.load(ModelConfig(path=str(folder.model)), 0)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def toy(n=60):
    """The answer with the vowel is the better one."""
    rows = []
    for number in range(n):
        word = "".join("bcdfgh"[(number // 6**k) % 6] for k in range(3))
        rows.append({"prompt": word, "chosen": f"{word[0]}a{word[1]}", "rejected": word[::-1] * 2})
    return rows


STARTS = {"dpo": math.log(2), "normalized": math.log(2), "ipo": 25.0, "kto": 0.5}


@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_learns_to_tell_held_out_pairs_apart(kind, file, tmp_path):
    config = settings(file(toy()), kind, held_out=15, epochs=3, batch_size=8)
    summary, folder = train(config, tmp_path / "run")
    if kind in STARTS:
        assert summary["first_loss"] == pytest.approx(STARTS[kind], abs=1e-4)
        assert summary["loss_before"] == pytest.approx(STARTS[kind], abs=1e-4)
    if config.loss.needs_reference:  # the policy is the reference, to the last bit: all ties
        assert (summary["accuracy_before"], summary["margin_before"]) == (0.5, 0.0)
    assert summary["accuracy_after"] > max(0.9, summary["accuracy_before"] - 0.05)
    assert summary["margin_after"] > summary["margin_before"]
    assert summary["accuracy_low"] <= summary["accuracy_after"] <= summary["accuracy_high"]
    assert summary["steps"] == 3 * math.ceil(summary["train_examples"] / 8)
    assert summary["accuracy_by_length"] == 1.0  # the chosen one is always shorter
    assert (folder.path / references.FILE).exists() == config.loss.needs_reference


def test_single_answers_are_learned_by_kto_and_refused_by_the_others(file, tmp_path):
    singles = [
        {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
        for number, row in enumerate(toy())
        for name in [("chosen", "rejected")[number % 2]]  # never both answers of a prompt
    ]
    path = file(singles)
    summary, _ = train(settings(path, "kto", held_out=15, epochs=4), tmp_path / "run")
    assert summary["accuracy_after"] > 0.9
    assert "accuracy_low" not in summary  # no pairs, so no share of pairs
    with pytest.raises(UserError, match="single answers with a label"):
        dpo.check(settings(path))
    for change, why in (
        ({"label": "maybe"}, "label is 'maybe'"),
        ({"completion": " "}, "empty"),
        ({"completion": [{"role": "user", "content": "x"}]}, "not the assistant's"),
    ):
        with pytest.raises(UserError, match=rf"row 1: .*{why}"):
            dpo.check(settings(file([{**SINGLES[0], **change}], "bad.jsonl"), "kto"))
    with pytest.raises(UserError, match="answers to other prompts"):
        train(settings(file(SINGLES[:4], "one.jsonl"), "kto"), tmp_path / "other")


@pytest.mark.parametrize("lora", [None, LoRA(rank=2)])
def test_a_resumed_run_ends_bit_for_bit_where_a_whole_one_does(lora, file, tmp_path, monkeypatch):
    config = settings(
        file(toy()),
        model=ModelConfig(tiny=TINY, lora=lora),
        held_out=15,
        evaluate_every=3,
        run=RunConfig(checkpoint_every=2),
    )
    whole, folder = train(config, tmp_path / "whole")
    saved = dpo.checkpoint.save

    def stop_after_4(path, step, state, *, keep):
        saved(path, step, state, keep=keep)
        if step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dpo.checkpoint, "save", stop_after_4)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "cut")
        patch.setattr(dpo.checkpoint, "save", saved)
        patch.setattr(references, "_computed", None)  # they are read, not made again
        resumed, other = train(config, tmp_path / "cut", resume=True)
    assert torch.equal(weights(folder), weights(other))
    rows = [[strip(r) for r in f.read_metrics()] for f in (folder, other)]
    assert rows[0] == rows[1]
    assert whole | {"train_seconds": 0} == resumed | {"train_seconds": 0}


def strip(row):
    return {name: value for name, value in row.items() if not name.startswith("speed/")}


def test_lora_trains_adapters_and_the_base_is_the_reference(file, tmp_path):
    config = settings(file(toy()), model=ModelConfig(tiny=TINY, lora=LoRA(rank=2)), held_out=15)
    summary, folder = train(config, tmp_path / "run")
    assert summary["first_loss"] == pytest.approx(math.log(2), abs=1e-5)
    base, _ = models.load(ModelConfig(tiny=TINY), config.run.seed)
    kept = json.loads((folder.path / references.FILE).read_text())["logprobs"]
    examples, _ = encode(load_judged(config, "train"), models.load_chat(config.model), 64, where="")
    with torch.no_grad():
        own = likelihoods(Policy(base), [s for e in examples for s in e.segments], 4096)
    assert [x for row in kept for x in row] == pytest.approx(own.tolist(), abs=1e-4)


def test_a_cache_that_is_damaged_or_of_another_model_is_made_anew(file, tmp_path):
    config = settings(file())
    model, chat = models.load(config.model, seed=0)
    examples, path, show = made(config, chat), tmp_path / "cache.json", Console(file=io.StringIO())

    def given(a_model, of=examples):
        return [
            e.reference for e in references.with_references(Policy(a_model), of, path, 4096, show)
        ]

    wanted = given(model)
    good = path.read_text()
    assert given(model) == wanted  # read
    assert path.read_text() == good
    nan = good.replace(str(json.loads(good)["logprobs"][0][0]), "NaN")
    huge = '{"key": 1, "logprobs": [[1' + "0" * 400 + "]]}"
    for bad in ("", good[:-20], "[]", "{}", '{"key": 1, "logprobs": [1]}', huge, nan):
        path.write_text(bad)
        assert given(model) == wanted
        assert path.read_text() == good
    other, _ = models.load(config.model, seed=1)
    assert given(other) != wanted
    key = json.loads(path.read_text())["key"]
    other.config.rms_norm_eps = 1.0  # the same weights, another model
    given(other)
    assert json.loads(path.read_text())["key"] != key
    assert len(given(model, examples[:2])) == 2
    assert given(model) == wanted


def test_no_held_out_answer_is_read_in_training_by_kto(file, tmp_path):
    path = file([{"prompt": f"p {n}", "chosen": f"c {n}", "rejected": f"r {n}"} for n in range(60)])
    config = settings(path, "kto", held_out=12)
    model, chat = models.load(config.model, seed=0)
    folder = RunFolder.create(tmp_path / "run", {"stage": "dpo"})
    data = dpo._data(config, Policy(model), chat, folder, Console(file=io.StringIO()))

    def answers(examples, name):
        segments = [s for example in examples for s in getattr(example, name)]
        return {s.ids[s.prompt_length :] for s in segments}

    assert data.held_out
    assert answers(data.train, "others") == answers(data.train, "segments")
    assert all(len(e.others) == len(e.segments) for e in data.held_out)


def test_mismatched_answers_are_those_of_the_next_other_prompt(file):
    chat = models.load_chat(ModelConfig(tiny=TINY))
    rows = [{"prompt": p, "completion": f"{n}", "label": True} for n, p in enumerate("abbbac")]
    examples = encode(load_judged(settings(file(rows), "kto"), "train"), chat, 64, where="f")[0]
    others = [e.others[0] for e in with_mismatches(examples, 64, "f")]
    assert [chat.decode(s.ids[s.prompt_length :]) for s in others] == list("144450")


def test_what_cannot_be_learned_is_left_out_and_counted_or_refused(file):
    chat = models.load_chat(ModelConfig(tiny=TINY))
    long = {"prompt": "p", "chosen": "a" * 70, "rejected": "b"}
    unseen = {"prompt": "p", "chosen": "\u00e9", "rejected": "\u00fc"}  # both are <unk>

    def encoded(rows):
        return encode(load_judged(settings(file(rows)), "train"), chat, 64, where="the file")

    examples, left_out = encoded([*toy(40), long, unseen])
    assert (len(examples), left_out) == (40, {"too long": 1, "the same tokens": 1})
    whole = examples[0].segments
    assert [chat.decode(s.ids[s.prompt_length :]) for s in whole] == ["bab", "bbbbbb"]
    assert all(s.ids[-1] == chat.end_id for s in whole)
    with pytest.raises(UserError, match="2 of 3 examples are longer than 64 tokens"):
        encoded([long, {**long, "rejected": "c"}, *toy(1)])
    with pytest.raises(UserError, match="chosen and rejected are the same tokens"):
        encoded([unseen, *toy(10)])
    for bad in ({**PAIRS[0], "rejected": "aaa"}, {**PAIRS[0], "chosen": " "}):
        with pytest.raises(UserError, match=r"row 1: .*(equals|empty)"):
            dpo.check(settings(file([bad, *PAIRS])))


def test_settings_that_cannot_work_are_told(file, tmp_path):
    losses = [
        (PreferenceLoss("ipo", label_smoothing=0.1), "does nothing in ipo"),
        (PreferenceLoss(label_smoothing=0.5), "below 0.5"),
        (PreferenceLoss(beta=0.0), "above 0"),
    ]
    for loss, why in losses:
        told = [text for _, text in settings("f", loss=loss).problems()]
        assert len(told) == 1
        assert why in told[0]
    with pytest.raises(UserError, match="max_tokens is 65, but the model's context is 64"):
        train(settings(file(), max_tokens=65), tmp_path / "run")


# Online.

LETTERS = EnvConfig("text/Letters-v0")


def online(**changes) -> OnlineDPOConfig:
    given = {
        "model": ModelConfig(tiny=replace(TINY, characters="abeo ts:")),
        "envs": (LETTERS,),
        "sampling": SamplingConfig(max_tokens=6),
        "optimizer": OptimizerConfig(lr=3e-3),
        "evaluation": EvaluationConfig(tasks=0),
        "steps": 4,
        "on_truncation": "score",
        "prompts_per_step": 4,
        **changes,
    }
    return OnlineDPOConfig(**given)


def answer(group, sample, reward, ids=(5, 6)):
    turn = Turn((1, 2, 3), ids, (0.0,) * len(ids), "", reward, "stop")
    return Trajectory("e", "t", group, sample, turns=[turn], terminated=True)


def test_the_best_and_the_worst_of_a_group_are_a_pair_and_ties_are_none():
    played = [
        answer(0, 0, 0.5),
        answer(0, 1, 1.0, (7,)),
        answer(0, 2, 1.0, (8,)),
        answer(0, 3, 0.2),
    ]
    equal = [answer(1, 0, 1.0), answer(1, 1, 1.0, (9,))]
    same_text = [answer(2, 0, 1.0), answer(2, 1, 0.0)]
    (pair,) = online_dpo.best_and_worst([*played, *equal, *same_text])
    assert pair == (played[1], played[3])


@pytest.mark.parametrize("loss", [PreferenceLoss(), PreferenceLoss("simpo")])
def test_online_dpo_starts_at_its_loss_and_resumes_bit_for_bit(loss, tmp_path, monkeypatch):
    characters = "abcdefghijklmnopqrstuvwxyz :"
    config = online(
        loss=loss,
        model=ModelConfig(tiny=replace(TINY, characters=characters)),
        run=RunConfig(checkpoint_every=1, rollouts_every=0),
        reference_refresh=2 * (loss.kind == "dpo"),
    )
    online_dpo.check(config)
    whole, folder = train(config, tmp_path / "whole")
    rows = folder.read_metrics()
    assert all(row["pref/pairs"] + row["pref/ties"] == 4 for row in rows)
    assert whole["pairs"] == sum(row["pref/pairs"] for row in rows) > 0
    learned = [row for row in rows if row["pref/pairs"]]
    if loss.kind == "dpo":
        assert rows[0]["kl/reference"] == pytest.approx(0, abs=1e-5)
        assert learned[0]["loss/train"] == pytest.approx(math.log(2), abs=1e-4)
        assert rows[2]["kl/reference"] == pytest.approx(0, abs=1e-5)  # refreshed after two
        assert abs(rows[3]["kl/reference"]) > 1e-4
    saved = online_dpo.checkpoint.save

    def stop_after_2(path, step, state, *, keep):
        saved(path, step, state, keep=keep)
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(online_dpo.checkpoint, "save", stop_after_2)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "cut")
    _, other = train(config, tmp_path / "cut", resume=True)
    assert torch.equal(weights(folder), weights(other))
    assert [strip(r) for r in rows] == [strip(r) for r in other.read_metrics()]


def test_what_online_dpo_cannot_do_is_told():
    told = online(
        loss=PreferenceLoss("kto"), group_size=1, sampling=SamplingConfig(temperature=0.0)
    )
    names = [name for name, _ in told.problems()]
    assert names == ["group_size", "loss.kind", "sampling.temperature"]
    seats = EnvConfig("text/TicTacToe-v0", options={"opponent": "self"})
    with pytest.raises(UserError, match="several seats"):
        preflight.check_stage(online(envs=(seats,)))
    apart = answer(0, 0, 1.0)
    apart.turns.append(Turn((9, 9), (5,), (0.0,), "", 0.0, "stop"))
    with pytest.raises(UserError, match="2 separate contexts"):
        online_dpo.best_and_worst([apart])
