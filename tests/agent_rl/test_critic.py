"""A critic with a network of its own starts as a reward model, and trains apart from the policy."""

from __future__ import annotations

import dataclasses
import io

import pytest
import torch
from safetensors.torch import load_file

from agent_rl import models
from agent_rl.algorithms import preset
from agent_rl.config import (
    DataConfig,
    EnvConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    PTXConfig,
    RLConfig,
    RunConfig,
    SamplingConfig,
    TinyModel,
)
from agent_rl.critic import LinearCritic, RewardModelCritic, load_critic
from agent_rl.errors import UserError
from agent_rl.experience import gather
from agent_rl.packing import pack
from agent_rl.policy import Policy
from agent_rl.reward_models import (
    RewardModel,
    Standing,
    from_policy,
    load_reward_model,
    save_reward_model,
)
from agent_rl.runs import Console, RunFolder
from agent_rl.stages import rl, rl_state
from agent_rl.trajectory import Segment, Trajectory, Turn
from rl_envs import make
from rl_verifiers import score_many

TINY = TinyModel(
    hidden_size=16,
    layers=1,
    heads=2,
    intermediate_size=16,
    context=64,
    characters="abcdefghijklmnopqrstuvwxyz: ",
    tokens=(),
)
TALKS = [
    [{"role": "user", "content": "start ab: "}, {"role": "assistant", "content": "abcdefgh"}],
    [{"role": "user", "content": "start ab: "}, {"role": "assistant", "content": "a"}],
    [{"role": "user", "content": "start z: "}, {"role": "assistant", "content": "zyx"}],
]


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads are far slower where the processor is shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path):
    """``folder(kind=..., **tiny)``: a saved reward model whose scores have mean -2 and std 0.5."""

    def make(kind="bradley_terry", **changes):
        tiny = dataclasses.replace(TINY, **changes)
        standing = Standing(kind=kind, mean=-2.0, std=0.5)
        model = from_policy(ModelConfig(tiny=tiny), 3, standing, head_std=1.0)
        save_reward_model(model, tmp_path / f"{kind}-{len(changes)}")
        return str(tmp_path / f"{kind}-{len(changes)}")

    return make


def policy_of(seed=0):
    return models.load(ModelConfig(tiny=TINY), seed)


def config(tmp_path, **changes) -> RLConfig:
    given = {
        "algorithm": preset("ppo", value_clip=None, kl={"target": 0.05, "coef": 0.1}),
        "steps": 3,
        "prompts_per_step": 3,
        "group_size": 2,
        "sampling": SamplingConfig(max_tokens=6),
        "optimizer": OptimizerConfig(lr=1e-2),
        "evaluation": EvaluationConfig(tasks=0),
        "on_truncation": "score",
        "run": RunConfig(dir=str(tmp_path / "run"), checkpoint_every=3, rollouts_every=0),
        **changes,
    }
    return RLConfig(model=ModelConfig(tiny=TINY), envs=(EnvConfig("text/Letters-v0"),), **given)


def train(settings: RLConfig, *, resume: bool = False):
    make = RunFolder.resume if resume else lambda path: RunFolder.create(path, {})
    folder = make(settings.run.dir)
    rl.run(settings, folder, Console("t", file=io.StringIO()), resume=resume)
    return folder


def critic_of(path, tmp_path):
    return load_critic(config(tmp_path, value_path=path), policy_of()[1])


PAYMENTS = {
    "standard": {"normalize": "standard"},
    "raw": {},
    "weighed": {"normalize": "standard", "weight": 2.5},
    "by another environment": None,
}


@pytest.mark.parametrize("name", PAYMENTS)
def test_a_fresh_critic_gives_the_paid_reward_of_a_conversation_at_its_last_token(
    name, folder, tmp_path
):
    """As the environment pays it: normalized or not, weighed, or else normalized."""
    path, (_, chat), entry = folder(), policy_of(), PAYMENTS[name]
    entries = [{"path": "other"}, {"path": path, **(entry or {})}]
    options = {"prompts": {"env": "text/Letters-v0"}, "reward_models": entries}
    envs = [EnvConfig("text/Letters-v0"), EnvConfig("text/LearnedReward-v0", options=options)]
    settings = config(tmp_path, value_path=path)
    settings = dataclasses.replace(settings, envs=tuple(envs[: 1 if entry is None else 2]))
    paid = load_reward_model(path).score(TALKS)
    if entry is not None:
        with make("text/LearnedReward-v0", **{**options, "reward_models": entries[1:]}) as env:
            rows = [{"prompt": t[:1]} for t in TALKS]
            said = [t[1]["content"] for t in TALKS]
            scores = score_many(env.judging, said, rows)
            paid = torch.tensor([score.value for score in scores])
    else:
        paid = (paid + 2.0) / 0.5
    critic = load_critic(settings, chat)
    parts = []
    for asked, said in TALKS:
        prompt = chat.prompt_ids([asked])
        ids = (*prompt, *chat.completion_ids(said["content"]))
        parts.append(Segment(ids, tuple(range(len(prompt), len(ids))), len(prompt)))  # as sampled
        parts.append(Segment(ids, (), len(ids)))  # the state after its last token
    policy = Policy(policy_of()[0], critic=critic)
    for micro_tokens in (10, 1000):
        micros = pack(parts, micro_tokens=micro_tokens)
        values = policy.values_all(micros)
        torch.testing.assert_close(values, policy.score_all(micros)[1], atol=1e-6, rtol=0)
        at = [sum(max(1, len(p.sampled)) for p in parts[: n + 1]) - 1 for n in (1, 3, 5)]
        torch.testing.assert_close(values[at], paid, atol=1e-4, rtol=0)
    assert paid.std() > 0.05


@pytest.mark.parametrize("normalize", ["none", "standard"])
def test_the_critic_of_an_ensemble_is_on_its_scale(normalize, folder, tmp_path):
    """Its members' scores are centred before they are combined; here both members are equal."""
    first, second = load_reward_model(folder()), load_reward_model(folder())
    whole = Standing(mean=3.0, std=4.0, members=2, combine="min")
    model = RewardModel(first.network, first.chat, first.standing, members=[second], ensemble=whole)
    path = tmp_path / "ensemble"
    save_reward_model(model, path)
    entries = [{"path": str(path), "normalize": normalize}]
    options = {"prompts": {"env": "text/Letters-v0"}, "reward_models": entries}
    settings = config(tmp_path, value_path=str(path))
    envs = (EnvConfig("text/LearnedReward-v0", options=options),)
    critic = load_critic(dataclasses.replace(settings, envs=envs), policy_of()[1])
    with make("text/LearnedReward-v0", **options) as env:
        paid = [s.value for s in score_many(env.judging, ["abc"], [{"prompt": TALKS[0][:1]}])]
    chat = policy_of()[1]
    ids = (*chat.prompt_ids(TALKS[0][:1]), *chat.completion_ids("abc"))
    values = critic.values(pack([Segment(ids, (), len(ids))], micro_tokens=100)[0])
    assert values.tolist() == pytest.approx(paid, abs=1e-5)


def test_the_value_of_a_token_is_that_of_the_text_before_it(folder, tmp_path):
    critic = critic_of(folder(), tmp_path)
    ids = (1, 5, 6, 7, 8, 2)
    whole = critic.values(pack([Segment(ids, (3, 4, 5), 3)], micro_tokens=100)[0])
    for place, value in zip((3, 4, 5), whole, strict=True):
        (micro,) = pack([Segment(ids[:place], (), place)], micro_tokens=100)
        torch.testing.assert_close(critic.values(micro)[0], value, atol=1e-5, rtol=0)


def test_a_critic_of_its_own_leaves_the_policy_without_gradient(folder, tmp_path):
    model, _ = policy_of()
    (micro,) = pack([Segment((1, 5, 6, 7), (2, 3), 2)], micro_tokens=100)
    own = Policy(model, critic=critic_of(folder(), tmp_path))
    own.score(micro).values_k.sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in own.critic.module.parameters())
    critic = LinearCritic(16)
    torch.nn.init.normal_(critic.head.weight)
    Policy(model, critic=critic).score(micro).values_k.sum().backward()
    assert any(p.grad is not None for p in model.parameters())


def test_each_network_has_an_optimizer_whose_norm_is_clipped_by_itself(folder, tmp_path):
    settings = config(tmp_path, value_path=folder(), value_lr=0.5)
    state = rl_state.set_up(settings)
    assert isinstance(state.policy.critic, RewardModelCritic)
    peaks = [{g["peak"] for g in o.param_groups} for o in (state.optimizer, state.critic_optimizer)]
    assert peaks == [{1e-2}, {0.5}]
    sizes = [
        sum(p.numel() for g in o.param_groups for p in g["params"])
        for o in (state.optimizer, state.critic_optimizer)
    ]
    trained = [state.policy.model, state.policy.critic.module]
    assert sizes == [sum(p.numel() for p in m.parameters()) for m in trained]
    row = train(settings).read_metrics()[0]
    assert row["optim/grad_norm"] != row["optim/value_grad_norm"] > 0


REFUSED = {
    "another tokenizer": ({"characters": "zyxwvutsrqponmlkjihgfedcba: "}, "26 of 32 entries"),
    "more tokens": ({"characters": TINY.characters + "!"}, "1 of 33 entries"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_reward_model_that_reads_other_ids_is_refused_before_training(name, folder, tmp_path):
    changes, message = REFUSED[name]
    settings = config(tmp_path, value_path=folder(**changes))
    for refuses in (rl.check, rl_state.set_up):
        with pytest.raises(UserError, match=f"value_path: .*another tokenizer.*{message}"):
            refuses(settings)


def test_another_chat_template_is_refused(folder, tmp_path):
    other = tmp_path / "other.jinja"
    other.write_text("{{ bos_token }}{% for m in messages %}: {{ m['content'] }}{% endfor %}")
    settings = config(tmp_path, value_path=folder())
    model = dataclasses.replace(settings.model, chat_template=str(other))
    with pytest.raises(UserError, match=r"value_path: .*another chat template"):
        rl.check(dataclasses.replace(settings, model=model))


def test_reward_models_that_give_no_rewards_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match=r"value_path: .*kind outcome.*probabilities"):
        rl.check(config(tmp_path, value_path=folder("outcome")))
    train(config(tmp_path, steps=1))  # a policy is no reward model
    with pytest.raises(UserError, match=r"value_path: .*has no reward head"):
        rl.check(config(tmp_path, value_path=str(tmp_path / "run/model")))
    rl.check(config(tmp_path, value_path="later"), unborn=["later"])


def test_an_episode_longer_than_the_critic_reads_is_told(folder, tmp_path):
    critic = critic_of(folder(context=8), tmp_path)
    (micro,) = pack([Segment(tuple(range(4, 14)), (), 10)], micro_tokens=100)
    with pytest.raises(UserError, match="reads 8 tokens at most, and an episode has 10"):
        critic.values(micro)


def test_values_need_an_algorithm_with_values(tmp_path):
    settings = config(tmp_path, algorithm=preset("grpo"), value_path="rm")
    assert "value_path" in dict(settings.problems())


def test_a_resumed_run_with_a_critic_and_ptx_equals_an_uninterrupted_one(folder, tmp_path):
    """Six steps, and three and then three more: weights of both networks, optimizers, KL."""
    given = {
        "value_path": folder(),
        "algorithm": preset("instructgpt", kl={"target": 0.02, "coef": 0.1, "horizon": 30}),
        "ptx": PTXConfig(
            DataConfig(env=EnvConfig("text/Letters-v0"), styles={"random": 1.0}), 0.5, 4
        ),
        "updates_per_step": 2,
    }
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for path, steps in ((whole, (6,)), (cut, (3, 6))):
        for number, n in enumerate(steps):
            run = RunConfig(dir=str(path), checkpoint_every=3, rollouts_every=0)
            train(config(tmp_path, steps=n, run=run, **given), resume=number > 0)
    one, other = (torch.load(p / "checkpoints/step-000006/state.pt") for p in (whole, cut))
    assert one["kl"]["coef"] != 0.1
    for part in ("model", "critic", "optimizer", "critic_optimizer", "kl"):
        assert same(one[part], other[part]), part
    weights = [load_file(p / "model/model.safetensors") for p in (whole, cut)]
    assert same(*weights)


def same(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_a_completion_without_an_end_pays_for_it():
    turns = [Turn((1,), (5,), (0.0,), "a", 0.25, "stop")]
    turns.append(Turn((1, 5), (6, 7), (0.0,) * 2, "", 0.5, "length"))
    cut, ended = (Trajectory("e", "a", 0, n, turns=turns, cut=n == 0) for n in range(2))
    rewards_t = gather([cut, ended], missing_eos_penalty=1.5).rewards_t
    assert rewards_t.tolist() == [0.25, 0.0, -1.0, 0.25, 0.0, 0.5]


def test_a_penalty_on_masked_completions_is_refused(tmp_path):
    settings = config(tmp_path, on_truncation="mask", missing_eos_penalty=1.0)
    assert "missing_eos_penalty" in dict(settings.problems())
