"""Supervised fine-tuning descends transformers' own loss, on completions only."""

from __future__ import annotations

import copy
import dataclasses
import io
import json

import pytest
import torch

from agent_rl import models
from agent_rl.config import (
    DataConfig,
    EnvConfig,
    ModelConfig,
    OptimizerConfig,
    SFTConfig,
    TinyModel,
)
from agent_rl.errors import UserError
from agent_rl.policy import Policy
from agent_rl.runs import Console, RunFolder
from agent_rl.stages import examples, rl_state, sft
from rl_envs import Mixture, TextEnv
from rl_envs.tools import ToolEnv, ToolFailure, tool
from tests.agent_rl.families import make_chat

TINY = TinyModel(hidden_size=16, layers=1, heads=2, intermediate_size=16, context=64)
ROWS = [
    {"prompt": "1+1=", "completion": "2"},
    {"prompt": "add three and four: ", "completion": "that is seven"},
    {"prompt": "12*12=", "completion": "144"},
    {"prompt": "1+1=", "completion": "two"},
    {"prompt": "a", "completion": "bcdefghijklmnop"},
]
ARITHMETIC = EnvConfig("text/Arithmetic-v0", options={"terms": 2})


def tiny():
    return models.load(ModelConfig(tiny=TINY), seed=0)


@pytest.fixture
def file(tmp_path):
    """``file(rows)``: a data file's name."""

    def write(rows=ROWS):
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def settings(**changes) -> SFTConfig:
    given = {"optimizer": OptimizerConfig(lr=0.1, grad_clip=0.0), "steps": 1, **changes}
    return SFTConfig(model=ModelConfig(tiny=TINY), data=DataConfig(), **given)


def all_examples(path, chat, context=64):
    source = examples.FileExamples(path, chat, context)
    return sorted(source.draw(0, len(ROWS)), key=lambda s: s.ids)


def train(model, batch, config):
    """One step of plain gradient descent; the reported loss and how far every weight moved."""
    model = copy.deepcopy(model)
    before = [p.detach().clone() for p in model.parameters()]
    sgd = torch.optim.SGD([{"params": list(model.parameters()), "peak": 0.1}], lr=0.1)
    metrics = sft.train_step(config, Policy(model), sgd, batch, 0)
    pairs = zip(before, model.parameters(), strict=True)
    moved = torch.cat([(old - new.detach()).flatten() / 0.1 for old, new in pairs])
    return metrics, moved


def test_the_loss_and_its_gradient_are_those_of_transformers_with_the_prompt_masked(file):
    model, chat = tiny()
    for example in all_examples(file(), chat):
        labels = torch.tensor([example.ids])
        labels[0, : example.prompt_length] = -100
        wanted = model(torch.tensor([example.ids]), labels=labels).loss
        gradient = torch.autograd.grad(wanted, list(model.parameters()))
        metrics, moved = train(model, [example], settings())
        assert metrics["loss/train"] == pytest.approx(float(wanted.detach()), abs=1e-5)
        assert metrics["tokens/trained"] == int((labels != -100).sum())
        flat = torch.cat([g.flatten() for g in gradient])
        torch.testing.assert_close(moved, flat, atol=1e-5, rtol=0)


def test_the_loss_of_a_batch_is_per_token_whatever_the_lengths(file):
    model, chat = tiny()
    batch = all_examples(file(), chat)
    alone = [train(model, [example], settings())[0] for example in batch]
    tokens = sum(m["tokens/trained"] for m in alone)
    wanted = sum(m["loss/train"] * m["tokens/trained"] for m in alone) / tokens
    assert train(model, batch, settings())[0]["loss/train"] == pytest.approx(wanted, abs=1e-5)


def test_neither_micro_batches_nor_packing_nor_order_change_the_step(file):
    model, chat = tiny()
    batch = all_examples(file(), chat)
    _, wanted = train(model, batch, settings())
    assert wanted.abs().max() > 1e-3
    others = [
        (batch, settings(micro_tokens=1)),
        (batch, settings(micro_tokens=50)),
        (batch, settings(packing=True, pack_tokens=64)),
        (batch, settings(packing=True, pack_tokens=1000)),
        (batch[::-1], settings()),
        (batch[2:] + batch[:2], settings(packing=True, pack_tokens=64)),
    ]
    for rows, config in others:
        torch.testing.assert_close(train(model, rows, config)[1], wanted, atol=1e-6, rtol=0)


def test_the_held_out_loss_is_the_training_loss_of_the_same_examples(file):
    model, chat = tiny()
    batch = all_examples(file(), chat)
    wanted = train(model, batch, settings())[0]["loss/train"]
    for config in (settings(), settings(packing=True, pack_tokens=64)):
        assert sft.mean_loss(config, Policy(model), batch) == pytest.approx(wanted, abs=1e-5)


def test_only_the_last_answer_and_its_end_token_are_trained_on():
    _, chat = tiny()
    messages = [
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "cd"},  # an earlier answer: context, not a target
        {"role": "user", "content": "ef"},
        {"role": "assistant", "content": "gh"},
    ]
    example = examples.example(messages, chat, 64, where="here")
    trained = [example.ids[p] for p in example.sampled]
    assert trained == [*chat.tokenizer.encode("gh", add_special_tokens=False), 2]
    assert example.sampled == tuple(range(example.prompt_length, len(example.ids)))


def test_the_prompt_that_training_sees_is_the_one_generation_sees():
    _, chat = tiny()
    asked = [{"role": "user", "content": "1+1="}]
    example = examples.example(
        [*asked, {"role": "assistant", "content": "2"}], chat, 64, where="here"
    )
    assert list(example.ids[: example.prompt_length]) == chat.prompt_ids(asked)


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"prompt": "1"}, "row 1: needs prompt and completion, or messages; it has prompt"),
        (
            {"messages": [{"role": "user", "content": "1"}]},
            "row 1: the last message must be the assistant's",
        ),
        ({"prompt": "1" * 60, "completion": "2" * 9}, "row 1: 71 tokens, but the model's context"),
    ],
)
def test_a_row_that_cannot_be_trained_on_is_named(file, row, line):
    _, chat = tiny()
    with pytest.raises(UserError) as caught:
        examples.FileExamples(file([row]), chat, 64)
    assert line in str(caught.value)
    assert "data.jsonl" in str(caught.value)


def test_conversations_and_pairs_make_the_same_example(file):
    _, chat = tiny()
    said = [{"role": "user", "content": "1+1="}, {"role": "assistant", "content": "2"}]
    rows = [
        {"prompt": "1+1=", "completion": "2"},
        {"prompt": said[:1], "completion": said[1:]},
        {"messages": said},
    ]
    one, two, three = examples.FileExamples(file(rows), chat, 64).draw(0, 3)
    assert one == two == three


def test_a_batch_repeats_no_row_while_there_are_enough_and_depends_on_its_seed_only(file):
    _, chat = tiny()
    source = examples.FileExamples(file(), chat, 64)
    assert len({e.ids for e in source.draw(3, 5)}) == 5
    assert len(source.draw(3, 12)) == 12
    assert source.draw(3, 4) == source.draw(3, 4)
    assert source.draw(3, 5) != source.draw(4, 5)


def test_demonstrations_of_training_and_test_share_no_prompt():
    _, chat = tiny()
    data = DataConfig(env=ARITHMETIC)
    train_set = examples.examples_of(data, "train", chat, 64).draw(0, 300)
    config = SFTConfig(model=ModelConfig(tiny=TINY), data=data, held_out=100)
    held_out = examples.held_out_examples(config, chat, 64)
    prompts = {e.ids[: e.prompt_length] for e in train_set}
    assert len(held_out) == 100
    assert prompts.isdisjoint(e.ids[: e.prompt_length] for e in held_out)


def test_a_split_among_the_options_is_the_one_that_trains_and_not_the_held_out_one():
    _, chat = tiny()
    env = EnvConfig("text/Arithmetic-v0", options={"terms": 2, "split": "train"})
    data = DataConfig(env=env)
    train_set = examples.examples_of(data, "train", chat, 64).draw(0, 300)
    config = SFTConfig(model=ModelConfig(tiny=TINY), data=data, held_out=100)
    prompts = {e.ids[: e.prompt_length] for e in train_set}
    held_out = examples.held_out_examples(config, chat, 64)
    assert prompts.isdisjoint(e.ids[: e.prompt_length] for e in held_out)


def test_training_on_the_held_out_split_is_refused():
    _, chat = tiny()
    env = EnvConfig("text/Arithmetic-v0", options={"terms": 2, "split": "test"})
    config = SFTConfig(model=ModelConfig(tiny=TINY), data=DataConfig(env=env), held_out=10)
    with pytest.raises(UserError, match="text/Arithmetic-v0 trains on 'test' itself"):
        examples.held_out_examples(config, chat, 64)


@pytest.mark.parametrize("data", [DataConfig(), DataConfig(path="x", env=ARITHMETIC)])
def test_data_is_given_once(data):
    _, chat = tiny()
    with pytest.raises(UserError, match=r"either path .* or env"):
        examples.examples_of(data, "train", chat, 64)


def test_an_unknown_style_lists_those_there_are():
    _, chat = tiny()
    data = DataConfig(env=ARITHMETIC, styles={"baroque": 1.0})
    with pytest.raises(UserError, match=r"data.styles: text/Arithmetic-v0 demonstrates \['"):
        examples.examples_of(data, "train", chat, 64)


def test_styles_come_in_their_shares():
    _, chat = tiny()
    data = DataConfig(env=ARITHMETIC, styles={"worked": 1.0, "terse": 3.0})
    drawn = examples.examples_of(data, "train", chat, 64).draw(0, 400)
    said = [chat.decode([e.ids[p] for p in e.sampled]) for e in drawn]
    terse = sum(text.startswith("\\boxed{") for text in said)
    assert 250 < terse < 350  # 300 +- 6 standard deviations


# What is held out.


def many(n=400, prompts=400):
    return [{"prompt": f"{i % prompts}+1=?", "completion": f"{i}"} for i in range(n)]


def places(path, split, n_held_out):
    return [
        int(where.rsplit(" ", 1)[1]) for where, _ in examples.split_rows(path, split, n_held_out)
    ]


@pytest.mark.parametrize(("wanted", "least", "most"), [(0, 0, 0), (20, 8, 32), (399, 40, 80)])
def test_about_as_many_rows_of_a_file_are_held_out_as_asked_and_few_of_all(
    file, wanted, least, most
):
    assert least <= len(places(file(many()), "test", wanted)) <= most  # within 3 deviations


def test_every_row_of_a_file_is_trained_on_or_held_out(file):
    path = file(many())
    train_rows, test_rows = places(path, "train", 40), places(path, "test", 40)
    assert sorted([*train_rows, *test_rows]) == list(range(1, 401))


def test_no_prompt_of_a_file_is_trained_on_and_held_out(file):
    path = file(many(prompts=100))
    asked = [
        {messages[0]["content"] for _, messages in examples.split_rows(path, split, 60)}
        for split in ("train", "test")
    ]
    assert asked[1]
    assert asked[0].isdisjoint(asked[1])


def test_the_order_of_a_file_does_not_change_what_is_held_out(file):
    asked = []
    for rows in (many(), many()[::-1]):
        path = file(rows)
        asked.append({m[0]["content"] for _, m in examples.split_rows(path, "test", 40)})
    assert asked[0] == asked[1]


def test_a_file_of_which_nothing_is_left_to_train_on_is_refused(file):
    alone = next(row for row in many() if "train" not in splits_of(file([row])))
    config = SFTConfig(model=ModelConfig(tiny=TINY), data=DataConfig(path=file([alone] * 3)))
    with pytest.raises(UserError, match=r"all 3 rows are held out.*set held_out to 0"):
        examples.check_data(config)
    examples.check_data(dataclasses.replace(config, held_out=0))


def splits_of(path):
    try:
        examples.split_rows(path, "train", 64)
    except UserError:
        return {"test"}
    return {"train"}


def run_of(config, folder, monkeypatch, *, stop_at=None):
    """The summary of a run; stopped in a step (no checkpoint yet) where that is asked for."""
    run = RunFolder.resume(folder) if (folder / "config.yaml").exists() else None
    resume = run is not None
    run = run or RunFolder.create(folder, {"stage": "sft"})
    with monkeypatch.context() as patched:
        if stop_at is not None:
            taken = sft.train_step

            def step(*arguments):
                if arguments[-1] == stop_at:
                    raise KeyboardInterrupt
                return taken(*arguments)

            patched.setattr(sft, "train_step", step)
            with pytest.raises(KeyboardInterrupt):
                sft.run(config, run, Console(file=io.StringIO()), resume=resume)
            return None
        return sft.run(config, run, Console(file=io.StringIO()), resume=resume)


@pytest.mark.parametrize("source", ["file", "env"])
def test_a_run_stopped_before_its_first_checkpoint_still_has_the_loss_before(
    source, file, tmp_path, monkeypatch
):
    data = DataConfig(path=file(many(100))) if source == "file" else DataConfig(env=ARITHMETIC)
    config = dataclasses.replace(settings(steps=3, batch_size=4, held_out=8), data=data)
    whole = run_of(config, tmp_path / "whole", monkeypatch)
    run_of(config, tmp_path / "cut", monkeypatch, stop_at=1)
    resumed = run_of(config, tmp_path / "cut", monkeypatch)
    assert whole["loss_before"] > 1
    assert resumed["loss_before"] == whole["loss_before"]
    assert resumed["loss_after"] == whole["loss_after"] != whole["loss_before"]
    rows = [json.loads(line) for line in (tmp_path / "cut/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss/eval" in row] == [0, 3]


def told_by_the_template(family):
    env = EnvConfig("text/Calculator-v0", options={"call_format": "template"})
    chat = make_chat(family)
    return chat, examples.Demonstrations(DataConfig(env=env), "train", chat, 10_000)


def test_demonstrations_are_told_the_tools_by_the_template_and_go_on_after_calls():
    chat, source = told_by_the_template("qwen25")
    (segment,) = source.draw(0, 1)
    text = chat.tokenizer.decode(segment.ids)
    said = chat.tokenizer.decode([segment.ids[p] for p in segment.sampled])
    assert '"name": "calculate"' in text[: text.index("What is")]
    assert "<tool_response>" in text
    assert "<tool_response>" not in said
    assert [part in said for part in ("<tool_call>", r"\boxed{")] == [True, True]


def test_demonstrations_of_calls_that_the_template_writes_otherwise_are_refused():
    with pytest.raises(
        UserError, match=r"the chat template's is `llama3`; set the .* `call_format: llama3`"
    ):
        told_by_the_template("llama3")[1].draw(0, 1)


class Dies(ToolEnv):
    """Its tool fails us at some calls."""

    tasks = ({"prompt": "the", "answer": "1"},)
    styles = ("tool",)
    dead: frozenset[int] = frozenset()
    calls = 0

    @tool(inline=True)
    def look(self) -> str:
        """Look."""
        Dies.calls += 1
        if Dies.calls in self.dead:
            raise ToolFailure("the box died")
        return "1"

    def demonstrate(self, style, rng):
        return self.call_text("look") if self.turn == 0 else str(rng.integers(10**9))

    def score(self, completion, row):
        return True


def test_a_demonstration_in_which_a_sandbox_dies_is_played_again(monkeypatch):
    monkeypatch.setattr(examples, "make", lambda *_, **__: Dies())
    source = examples.Demonstrations(
        DataConfig(env=EnvConfig("dies")), "train", make_chat("qwen25"), 999
    )
    want = source.draw(0, 3)
    for dead in ({2}, {1, 2}):
        monkeypatch.setattr(Dies, "calls", 0)
        monkeypatch.setattr(Dies, "dead", dead)
        if dead == {2}:
            assert source.draw(0, 3) == want
        else:
            with pytest.raises(UserError, match=r"dies failed 2 times: ToolFailure: .*box died"):
                source.draw(0, 3)


class Closing(TextEnv):
    """Counts how often it was closed."""

    tasks = ({"prompt": "1", "answer": "2"},)
    styles = ("plain",)
    closed = 0

    def demonstration(self, task, style, rng):
        return "2"

    def close(self):
        Closing.closed += 1
        super().close()


@pytest.mark.parametrize("held_out", [0, 2])
def test_the_environment_of_demonstrations_is_closed(monkeypatch, tmp_path, held_out):
    monkeypatch.setattr(examples, "make", lambda *_, **__: Closing())
    monkeypatch.setattr(Closing, "closed", 0)
    config = dataclasses.replace(
        settings(steps=2, held_out=held_out), data=DataConfig(env=EnvConfig("closing"))
    )
    examples.check_data(config)
    assert Closing.closed == 1
    folder = RunFolder.create(tmp_path / "run", {})
    sft.run(config, folder, Console(file=io.StringIO()))
    assert Closing.closed == 2 + (held_out > 0)


CALLER = """
from rl_envs.tools import ToolEnv, tool


class Caller(ToolEnv):
    tasks = [{"prompt": "eggs?", "answer": "3"}]
    verifier = "exact"
    describe_tools = False
    styles = ("calls",)

    @tool
    def look(self, place: str) -> int:
        \"\"\"Count.\"\"\"
        return 3

    def demonstrate(self, style, rng):
        return self.call_text("look", place="box") if self.turn == 0 else "3"
"""


@pytest.fixture
def caller(tmp_path):
    path = tmp_path / "caller.py"
    path.write_text(CALLER)
    return EnvConfig(str(path), options={"describe_tools": False})


@pytest.mark.parametrize("from_a_folder", [False, True])
def test_demonstrations_in_unknown_characters_are_refused_before_training(
    caller, tmp_path, from_a_folder
):
    model = ModelConfig(tiny=dataclasses.replace(TINY, context=512))
    if from_a_folder:
        models.save(*models.load(model, 0), tmp_path / "made")
        model = ModelConfig(path=str(tmp_path / "made"))
    config = SFTConfig(model, DataConfig(env=caller), steps=1, held_out=0)
    with pytest.raises(UserError, match=r"alphabet lacks '.*<.*', which its demons") as refused:
        sft.run(config, RunFolder.create(tmp_path / "run", {}), Console(file=io.StringIO()))
    assert len(str(refused.value).splitlines()) == 1
    mixture = Mixture([(caller.id, 1.0, caller.options)], seed=0)
    with pytest.raises(UserError, match=r"alphabet lacks .*<.* its demonstrations are written in"):
        rl_state.refuse_unknown_characters(mixture, models.load_chat(model))


def test_printable_characters_write_every_call(caller):
    tiny = dataclasses.replace(TINY, characters="printable", context=512)
    chat = models.load_chat(ModelConfig(tiny=tiny))
    source = examples.Demonstrations(DataConfig(env=caller), "train", chat, 512)
    source.refuse_unknown()
    assert chat.tokenizer.unk_token_id not in source.draw(0, 1)[0].ids
    rl_state.refuse_unknown_characters(Mixture([(caller.id, 1.0, caller.options)], seed=0), chat)


def test_characters_within_a_whole_token_need_not_be_known(caller):
    tokens = ("<tool_call>", "</tool_call>", "<result>", "</result>")
    tiny = dataclasses.replace(
        TINY, tokens=tokens, characters='{}": look,placebox3\neggs?namrut', context=512
    )
    chat = models.load_chat(ModelConfig(tiny=tiny))
    examples.Demonstrations(DataConfig(env=caller), "train", chat, 512).refuse_unknown()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "has no demonstrations: define `styles` and override `demonstrate(style, rng)`"),
        (
            "    def demonstrate(self, style, rng):\n        return '2'\n",
            'overrides demonstrate but has no `styles`; add styles = ("...",)',
        ),
    ],
)
def test_an_environment_without_demonstrations_is_told_what_to_add(tmp_path, line, message):
    path = tmp_path / "nodemo.py"
    path.write_text(
        "from rl_envs import TextEnv\nclass No(TextEnv):\n    verifier = 'exact'\n"
        "    tasks = [{'prompt': '1', 'answer': '2'}]\n" + line
    )
    _, chat = tiny()
    with pytest.raises(UserError) as refused:
        examples.Demonstrations(DataConfig(env=EnvConfig(str(path))), "train", chat, 64)
    assert message in str(refused.value)
