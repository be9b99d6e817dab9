"""PPO-ptx: the gradient of other data's likelihood is added to the policy gradient, no more."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch

from agent_rl import models
from agent_rl.algorithms import preset
from agent_rl.config import (
    DataConfig,
    EnvConfig,
    ModelConfig,
    OptimizerConfig,
    PTXConfig,
    RLConfig,
    SamplingConfig,
    TinyModel,
)
from agent_rl.errors import UserError
from agent_rl.experience import assign_credit, gather
from agent_rl.policy import Policy
from agent_rl.ptx import PTX, Documents, check_ptx, ptx_examples
from agent_rl.stages import sft
from agent_rl.trajectory import Trajectory, Turn
from agent_rl.update import Targets, update_policy
from rl_envs import DataError

TINY = TinyModel(hidden_size=16, layers=1, heads=2, intermediate_size=16, context=24)
DOCUMENTS = ["a short one", "1+1=2, and so on for a very long time", "x"]
CONVERSATIONS = [
    {"prompt": "1+1=", "completion": "2"},
    {"prompt": "a", "completion": "bcdefghijk"},
    {"messages": [{"role": "user", "content": "say x"}, {"role": "assistant", "content": "x"}]},
]
KINDS = {"documents": [{"text": t} for t in DOCUMENTS], "conversations": CONVERSATIONS}


@pytest.fixture
def file(tmp_path):
    """``file(rows)``: a data file's name."""

    def write(rows):
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def built():
    model, chat = models.load(ModelConfig(tiny=TINY), seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3 if parameter.dim() > 1 else 1)
    return model.double(), chat


def settings(**changes) -> RLConfig:
    given = {"optimizer": OptimizerConfig(lr=1.0, grad_clip=0.0), **changes}
    sampling = SamplingConfig(max_tokens=6, temperature=0.7)
    model = ModelConfig(tiny=TINY)
    algorithm = preset("grpo", kl={"place": "none", "coef": 0.0})
    return RLConfig(model=model, envs=(), algorithm=algorithm, sampling=sampling, **given)


def movement(config, model, ptx=None) -> tuple[torch.Tensor, dict[str, float]]:
    """How far steepest descent goes in the updates of one batch; with lr 1 the summed gradients."""
    twin = copy.deepcopy(model)
    if ptx is not None:
        ptx = PTX(ptx, twin, built()[1], micro_tokens=config.micro_tokens, seed=config.run.seed)
    sampled = [((8, 9, 2), 1.0), ((8, 2), 0.0), ((10, 11, 12, 2), 0.5)]
    played = [
        Trajectory("e", "t", 0, n, turns=[Turn((1, 5, 6), ids, (-1.0,) * len(ids), "", r, "stop")])
        for n, (ids, r) in enumerate(sampled)
    ]
    batch = gather(played)
    credit = assign_credit(config.algorithm, batch, batch.rewards_t, None)
    targets = Targets(
        credit.advantages_t,
        batch.sampler_logprobs_t,
        batch.sampler_logprobs_t if config.updates_per_step > 1 else None,
        None,
        credit.returns_t,
        None,
        0.0,
    )
    policy = Policy(twin, temperature=config.sampling.temperature)
    sgd = torch.optim.SGD([{"params": list(twin.parameters()), "peak": 1.0}], lr=1.0)
    _, metrics = update_policy(
        config, policy, None, sgd, batch, targets, step=0, first_update=4, ptx=ptx
    )
    return flat(model) - flat(twin), metrics


def flat(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


def likelihood_gradient(model, segments) -> tuple[torch.Tensor, float]:
    """Of the mean negative log-likelihood per trained token, example by example."""
    twin, total, n = copy.deepcopy(model), 0.0, 0
    for segment in segments:
        logits = twin(torch.tensor([segment.ids])).logits[0]
        for place in segment.sampled:
            total = total - logits[place - 1].log_softmax(-1)[segment.ids[place]]
            n += 1
    (total / n).backward()
    return torch.cat([p.grad.flatten() for p in twin.parameters()]), (total / n).item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("micro_tokens", [1, 40, 8192])
def test_the_gradient_is_that_of_the_policy_and_coef_times_that_of_the_likelihood(
    micro_tokens, kind, file
):
    (model, chat), config = built(), settings(micro_tokens=micro_tokens)
    mixed = PTXConfig(DataConfig(path=file(KINDS[kind])), coef=0.7, batch_size=5)
    segments = PTX(mixed, model, chat, seed=config.run.seed).batch(4)
    other, loss = likelihood_gradient(model, segments)
    got, metrics = movement(config, model, mixed)
    want = movement(settings(), model)[0] + 0.7 * other
    assert other.abs().max() > 0.1
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)
    assert metrics["loss/ptx"] == pytest.approx(loss, abs=1e-6)


def test_it_is_the_gradient_of_the_stage_sft(file):
    """The same batch through the supervised stage moves the weights by the same."""
    model, chat = built()
    mixed = PTXConfig(DataConfig(path=file(CONVERSATIONS)), coef=1.0, batch_size=3)
    ptx = PTX(mixed, model, chat)
    ptx.accumulate(0)
    got = torch.cat([p.grad.flatten() for p in model.parameters()])
    twin = built()[0]
    before = flat(twin)
    sgd = torch.optim.SGD([{"params": list(twin.parameters()), "peak": 1.0}], lr=1.0)
    plain = OptimizerConfig(lr=1.0, grad_clip=0.0)
    supervised = sft.SFTConfig(ModelConfig(tiny=TINY), mixed.data, optimizer=plain)
    sft.train_step(supervised, Policy(twin), sgd, ptx.batch(0), 0)
    torch.testing.assert_close(before - flat(twin), got, atol=1e-6, rtol=0)


def test_a_coefficient_of_0_only_measures(file):
    (model, _), config = built(), settings(updates_per_step=2)
    mixed = PTXConfig(DataConfig(path=file(CONVERSATIONS)), coef=0.0, batch_size=2)
    plain, without = movement(config, model)
    got, metrics = movement(config, model, mixed)
    assert torch.equal(got, plain)
    assert metrics["loss/ptx"] > 0
    assert "loss/ptx" not in without


def test_every_update_has_a_batch_of_its_own_whatever_came_before(file):
    model, chat = built()
    mixed = PTXConfig(DataConfig(path=file(KINDS["documents"])), batch_size=2)
    once, again = (PTX(mixed, model, chat, seed=3) for _ in range(2))
    batches = [once.batch(update) for update in range(8)]
    assert [again.batch(update) for update in (5, 2)] == [batches[5], batches[2]]
    assert len(set(map(tuple, batches))) > 3
    assert batches != [PTX(mixed, model, chat, seed=4).batch(update) for update in range(8)]


def test_every_token_of_a_document_is_trained_on_and_a_long_one_is_a_window(file):
    _, chat = built()
    documents = ptx_examples(DataConfig(path=file(KINDS["documents"])), chat, 24)
    drawn = {d for seed in range(40) for d in documents.draw(seed, 3)}
    texts = {chat.tokenizer.decode(list(d.ids)) for d in drawn}
    assert {"<bos>a short one<eos>", "<bos>x<eos>"} <= texts
    long = [t for t in texts if "short" not in t and "x" not in t]
    whole = "<bos>" + DOCUMENTS[1] + "<eos>"
    assert len(long) > 5
    assert all(t in whole for t in long)
    assert all(d.sampled == tuple(range(1, len(d.ids))) for d in drawn)
    assert max(len(d.ids) for d in drawn) == 24


def test_demonstrations_of_an_environment_are_mixed_in():
    data = DataConfig(env=EnvConfig("text/Arithmetic-v0", options={"terms": 2}))
    check_ptx(data)
    (one,) = ptx_examples(data, built()[1], 64).draw(0, 1)
    assert one.sampled == tuple(range(one.prompt_length, len(one.ids)))


BAD = {
    "both kinds": ([{"text": "a"}, CONVERSATIONS[0]], UserError, "row 2: is no document"),
    "an empty document": ([{"text": "a"}, {"text": ""}], UserError, "row 2: is no document"),
    "neither": ([{"question": "a"}], UserError, "row 1: needs prompt and completion"),
    "nothing": ([], DataError, "empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_rows_that_are_no_examples_are_refused(name, file):
    rows, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        check_ptx(DataConfig(path=file(rows)))
    check_ptx(DataConfig(path="later.jsonl"), unborn=["later.jsonl"])


def test_conversations_may_have_a_column_text_too(file):
    data = DataConfig(path=file([{**CONVERSATIONS[0], "text": "1+1=2"}]))
    assert not isinstance(ptx_examples(data, built()[1], 24), Documents)


def test_documents_in_other_characters_are_refused(file):
    with pytest.raises(UserError, match=r"data\.jsonl: the model's alphabet lacks"):
        ptx_examples(DataConfig(path=file([{"text": "é!"}])), built()[1], 24)


def test_data_must_be_a_file_or_an_environment():
    config = replace(settings(), ptx=PTXConfig(DataConfig()))
    assert "ptx.data" in dict(config.problems())
