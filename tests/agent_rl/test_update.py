"""One whole update, from episodes to moved weights, against plain loops over samples and tokens."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from statistics import fmean, pstdev, stdev

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from agent_rl import algorithms
from agent_rl.algorithms import preset
from agent_rl.config import ModelConfig, OptimizerConfig, RLConfig, SamplingConfig
from agent_rl.critic import LinearCritic
from agent_rl.experience import assign_credit, gather
from agent_rl.measure import Learned, credit_metrics
from agent_rl.optim import make_optimizer
from agent_rl.packing import pack
from agent_rl.policy import Policy
from agent_rl.reference import Reference
from agent_rl.trajectory import Trajectory, Turn
from agent_rl.update import Targets, drops_zero_advantage, update_policy

VOCABULARY = 19
GAE_LAMBDA = 0.9


def llama(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5 if parameter.dim() > 1 else 1)
    return model


def moved(model: torch.nn.Module, by: float = 0.05) -> torch.nn.Module:
    """A model near another: a reference that the policy has left, or an older policy."""
    twin = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in twin.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(by * noise)
    return twin


def plain_logprobs(model, ids):
    """[len(ids)] where entry p is the log-probability of ids[p]; entry 0 means nothing."""
    logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return torch.cat([torch.zeros(1), logprobs[:-1].gather(1, torch.tensor(ids)[1:, None])[:, 0]])


def turn(model, context, sampled, reward, finish="stop"):
    """A turn as an engine that shares the model's weights would report it."""
    whole = plain_logprobs(model, (*context, *sampled)).detach()
    logprobs = tuple(whole[len(context) :].tolist())
    return Turn(tuple(context), tuple(sampled), logprobs, "", reward, finish)


def episodes(model) -> list[Trajectory]:
    """Three groups: unequal lengths, two turns with a tool's answer, a truncation, no spread."""
    first, second, third = (1, 2, 3), (4, 5), (6, 7, 8, 9)
    out = [
        Trajectory("e", "a", 0, 0, turns=[turn(model, first, (10, 11, 2), 1.0)]),
        Trajectory("e", "a", 0, 1, turns=[turn(model, first, (10, 2), 0.25)]),
        Trajectory("e", "a", 0, 2, turns=[turn(model, first, (12, 13, 14, 15, 2), 0.0)]),
        Trajectory("e", "b", 1, 0, turns=[turn(model, second, (3, 2), 0.5)], discount=0.5),
        Trajectory("e", "b", 1, 1, turns=[turn(model, second, (16,), 0.0)], discount=0.5),
        Trajectory("e", "c", 2, 0, turns=[turn(model, third, (11, 2), 1.0)]),
        Trajectory("e", "c", 2, 1, turns=[turn(model, third, (12, 5, 2), 1.0)]),
    ]
    seen = (*second, 16, 17, 18)  # 17 18: what the tool answered
    out[4].turns.append(turn(model, seen, (9, 2), 1.0))
    out[2].truncated, out[2].final_prompt_ids = True, (*first, 12, 13, 14, 15, 2, 4)
    for trajectory in out:
        trajectory.terminated = not trajectory.truncated
    return out


def settings(algorithm, **changes) -> RLConfig:
    return RLConfig(
        model=ModelConfig(),
        envs=(),
        algorithm=algorithm,
        sampling=SamplingConfig(max_tokens=6),
        optimizer=OptimizerConfig(lr=0.05, grad_clip=0.0),
        **changes,
    )


@dataclass
class Outcome:
    policy: Policy
    movement: torch.Tensor
    metrics: dict[str, float]


def value_head_of(policy) -> None:
    """Values that differ between states; a new head says 0 everywhere."""
    generator = torch.Generator().manual_seed(3)
    policy.critic.head.weight.data.copy_(torch.randn(1, 8, generator=generator) * 0.3)


def run_update(config, model, trajectories, *, reference_model=None, sampler_shift=0.0, coef=None):
    """The trainer's own path: gather, score, credit, update; SGD shows the gradient itself."""
    algorithm = config.algorithm
    gae = algorithm.advantage == "gae"
    policy = Policy(copy.deepcopy(model), critic=LinearCritic(8) if gae else None)
    if gae:
        value_head_of(policy)
    reference = None
    if algorithm.kl.place != "none":
        reference = Reference(Policy(model if reference_model is None else reference_model))
    batch = gather(trajectories, bootstrap=gae)
    micros = pack(batch.segments, micro_tokens=64)
    policy_t, values = policy.score_all(micros)
    reference_t = reference.logprobs(micros)[: batch.n_tokens] if reference else None
    policy_t = policy_t[: batch.n_tokens]
    coef = algorithm.kl.coef if coef is None else coef
    rewards_t = batch.rewards_t
    if algorithm.kl.place == "reward":
        rewards_t = algorithms.penalised_rewards(rewards_t, policy_t - reference_t, coef)
    credit = assign_credit(algorithm, batch, rewards_t, values)
    targets = Targets(
        advantages_t=credit.advantages_t,
        sampler_logprobs_t=batch.sampler_logprobs_t - sampler_shift,
        old_logprobs_t=policy_t if config.updates_per_step * config.epochs > 1 else None,
        reference_logprobs_t=reference_t,
        returns_t=credit.returns_t,
        old_values_t=None if values is None else values[: batch.n_tokens],
        kl_coef=coef,
    )
    groups = [{"params": list(policy.parameters()), "peak": config.optimizer.lr}]
    before = flat(policy)
    sgd = torch.optim.SGD(groups, lr=config.optimizer.lr)
    _, metrics = update_policy(
        config, policy, reference, sgd, batch, targets, step=0, first_update=0
    )
    return Outcome(policy, (before - flat(policy)) / config.optimizer.lr, metrics)


def flat(policy) -> torch.Tensor:
    return torch.cat([p.detach().double().flatten().clone() for p in policy.parameters()])


# --- the same, by loops -------------------------------------------------------------------------


@dataclass
class Sample:
    """One episode of one sequence: ids, sampled positions, rewards and discounts at those."""

    ids: tuple[int, ...]
    at: list[int]
    rewards: list[float]
    discounts: list[float]
    group: int
    final: tuple[int, ...]


def samples_of(trajectories) -> list[Sample]:
    out = []
    for t in trajectories:
        last = t.turns[-1]
        sample = Sample(
            last.prompt_ids + last.completion_ids, [], [], [], t.group, t.final_prompt_ids
        )
        for played in t.turns:
            n = len(played.completion_ids)
            sample.at += range(len(played.prompt_ids), len(played.prompt_ids) + n)
            sample.rewards += [0.0] * (n - 1) + [played.reward]
            sample.discounts += [1.0] * (n - 1) + [t.discount]
        out.append(sample)
    return out


def scored(model, sample):
    return plain_logprobs(model, sample.ids)[sample.at]


def returns(sample) -> list[float]:
    out, after = [], 0.0
    for reward, discount in zip(reversed(sample.rewards), reversed(sample.discounts), strict=True):
        after = reward + discount * after
        out.append(after)
    return out[::-1]


def value_at(policy, ids, positions):
    hidden = policy.model.model(torch.tensor([ids])).last_hidden_state[0]
    return policy.critic.head(hidden[positions].float())[:, 0].double()


def plain_descent(config, model, trajectories, loss_of, epochs):
    """``epochs`` steps of gradient descent on ``loss_of(policy)``; how far the weights moved."""
    gae = config.algorithm.advantage == "gae"
    policy = Policy(copy.deepcopy(model), critic=LinearCritic(8) if gae else None)
    if gae:
        value_head_of(policy)
    before = flat(policy)
    for _ in range(epochs):
        parameters = list(policy.parameters())
        gradients = torch.autograd.grad(loss_of(policy), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(config.optimizer.lr * gradient)
    return (before - flat(policy)) / config.optimizer.lr


def clipped(ratio, advantage, low, high):
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


@pytest.mark.parametrize("epochs", [1, 3])
def test_grpo_with_k3_descends_what_a_loop_over_tokens_descends(epochs):
    model, reference = llama(), moved(llama())
    algorithm = preset("grpo", kl={"coef": 0.3})
    data = episodes(model)
    config = settings(algorithm, epochs=epochs, micro_tokens=20)
    old = [scored(model, s).detach() for s in samples_of(data)]

    def loss_of(policy):
        total = 0.0
        samples = samples_of(data)
        for sample, old_t in zip(samples, old, strict=True):
            rewards = [returns(s)[0] for s in samples if s.group == sample.group]
            advantage = (returns(sample)[0] - fmean(rewards)) / (stdev(rewards) + 1e-4)
            logprobs, ref = scored(policy.model, sample), scored(reference, sample).detach()
            for lp, before, base in zip(logprobs, old_t, ref, strict=True):
                ratio = (lp - before).exp()
                k3 = (base - lp).exp() - 1 - (base - lp)
                term = clipped(ratio, advantage, 0.2, 0.2) + 0.3 * ratio.detach() * k3
                total = total + term / len(sample.at) / len(samples)
        return total

    got = run_update(config, model, data, reference_model=reference)
    want = plain_descent(config, model, data, loss_of, epochs)
    assert want.abs().max() > 0.1
    torch.testing.assert_close(got.movement, want, atol=1e-6 * epochs, rtol=0)


def test_exact_kl_in_the_loss_is_the_sum_over_the_vocabulary():
    model, reference = llama(), moved(llama())
    config = settings(preset("grpo", kl={"coef": 0.3, "estimator": "exact"}))
    data = episodes(model)[5:]  # no spread: nothing but the KL moves the policy

    def loss_of(policy):
        total = 0.0
        for sample in samples_of(data):
            logprobs = policy.model(torch.tensor([sample.ids])).logits[0].log_softmax(-1)
            base = reference(torch.tensor([sample.ids])).logits[0].log_softmax(-1).detach()
            for p in sample.at:
                kl = sum(logprobs[p - 1].exp() * (logprobs[p - 1] - base[p - 1]))
                total = total + 0.3 * kl / len(sample.at) / len(data)
        return total

    got = run_update(config, model, data, reference_model=reference)
    want = plain_descent(config, model, data, loss_of, 1)
    assert want.abs().max() > 1e-3
    torch.testing.assert_close(got.movement, want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("epochs", [1, 3])
def test_gspo_descends_what_a_loop_over_sequences_descends(epochs):
    model = llama()
    data = episodes(model)
    config = settings(preset("gspo", clip_low=0.1, clip_high=0.1), epochs=epochs, micro_tokens=20)
    old = [scored(model, s).detach() for s in samples_of(data)]

    def loss_of(policy):
        total = 0.0
        samples = samples_of(data)
        for sample, old_t in zip(samples, old, strict=True):
            rewards = [returns(s)[0] for s in samples if s.group == sample.group]
            advantage = (returns(sample)[0] - fmean(rewards)) / (stdev(rewards) + 1e-4)
            ratio = (scored(policy.model, sample) - old_t).mean().exp()
            total = total + clipped(ratio, advantage, 0.1, 0.1) / len(samples)
        return total

    got = run_update(config, model, data)
    want = plain_descent(config, model, data, loss_of, epochs)
    assert want.abs().max() > 0.05
    torch.testing.assert_close(got.movement, want, atol=1e-6 * epochs, rtol=0)


def test_rloo_pays_kl_in_the_reward_and_leaves_itself_out_of_the_baseline():
    model, reference = llama(), moved(llama())
    data = episodes(model)
    config = settings(preset("rloo", kl={"coef": 0.2}))
    samples = samples_of(data)
    for sample in samples:
        gap = (scored(model, sample) - scored(reference, sample)).detach()
        sample.rewards = [r - 0.2 * float(d) for r, d in zip(sample.rewards, gap, strict=True)]

    def loss_of(policy):
        total = 0.0
        for sample in samples:
            others = [s for s in samples if s.group == sample.group and s is not sample]
            advantage = returns(sample)[0] - fmean(returns(s)[0] for s in others)
            total = total - advantage * scored(policy.model, sample).sum() / len(samples)
        return total

    got = run_update(config, model, data, reference_model=reference)
    want = plain_descent(config, model, data, loss_of, 1)
    assert want.abs().max() > 0.1
    torch.testing.assert_close(got.movement, want, atol=1e-6, rtol=0)


def plain_gae(sample, values, bootstrap):
    advantages, after, next_value = [], 0.0, bootstrap
    steps = zip(sample.rewards, sample.discounts, values, strict=True)
    for reward, discount, value in reversed(list(steps)):
        after = reward + discount * next_value - value + discount * GAE_LAMBDA * after
        next_value = value
        advantages.append(after)
    return advantages[::-1]


@pytest.mark.parametrize("epochs", [1, 3])
def test_ppo_with_a_value_head_descends_what_a_loop_over_tokens_descends(epochs):
    model, reference = llama(), moved(llama())
    data = episodes(model)
    algorithm = preset("ppo", kl={"coef": 0.1}, gae_lambda=GAE_LAMBDA, value_clip=0.02)
    config = settings(algorithm, epochs=epochs, micro_tokens=30)
    start = Policy(copy.deepcopy(model), critic=LinearCritic(8))
    value_head_of(start)
    samples = samples_of(data)
    old, old_values, advantages, targets = [], [], [], []
    for sample in samples:
        lp = scored(model, sample).detach()
        gap = lp - scored(reference, sample).detach()
        sample.rewards = [r - 0.1 * float(d) for r, d in zip(sample.rewards, gap, strict=True)]
        values = value_at(start, sample.ids, [p - 1 for p in sample.at]).tolist()
        bootstrap = value_at(start, sample.final, [-1]).item() if sample.final else 0.0
        gae = plain_gae(sample, values, bootstrap)
        old, old_values = [*old, lp], [*old_values, values]
        advantages.append(gae)
        targets.append([a + v for a, v in zip(gae, values, strict=True)])
    everything = [a for row in advantages for a in row]
    mean, deviation, n_tokens = fmean(everything), pstdev(everything), len(everything)

    def loss_of(policy):
        total = 0.0
        for i, sample in enumerate(samples):
            logprobs = scored(policy.model, sample)
            values = value_at(policy, sample.ids, [p - 1 for p in sample.at])
            for t in range(len(sample.at)):
                ratio = (logprobs[t] - old[i][t]).exp()
                whitened = (advantages[i][t] - mean) / deviation
                v, v0, target = values[t], old_values[i][t], targets[i][t]
                near = v.clamp(v0 - 0.02, v0 + 0.02)
                value = torch.maximum((v - target) ** 2, (near - target) ** 2) / 2
                total = total + (clipped(ratio, whitened, 0.2, 0.2) + 0.1 * value) / n_tokens
        return total

    got = run_update(config, model, data, reference_model=reference)
    want = plain_descent(config, model, data, loss_of, epochs)
    assert want[-9:].abs().max() > 1e-3  # the value head
    torch.testing.assert_close(got.movement, want, atol=2e-6 * epochs, rtol=0)


# --- what must not change a gradient ------------------------------------------------------------

CHOICES = {
    "grpo": preset("grpo", kl={"coef": 0.3}),
    "dr_grpo": preset("dr_grpo"),
    "dapo": preset("dapo", overlong_buffer=0, dynamic_sampling=False),
    "gspo": preset("gspo"),
    "ppo": preset("ppo"),
    "prompt mean, entropy": preset("grpo", aggregation="prompt", entropy_coef=0.1),
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("epochs", [1, 2])
def test_no_cut_and_no_sharing_changes_the_update(name, epochs):
    model = llama()
    data = episodes(model)
    whole = run_update(settings(CHOICES[name], epochs=epochs), model, data)
    assert whole.movement.abs().max() > 1e-3
    for micro_tokens, share in ((1, True), (25, False), (10_000, False)):
        config = settings(
            CHOICES[name], epochs=epochs, micro_tokens=micro_tokens, share_prompts=share
        )
        got = run_update(config, model, data)
        torch.testing.assert_close(got.movement, whole.movement, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", CHOICES)
def test_no_order_of_trajectories_changes_the_update(name):
    model = llama()
    data = episodes(model)
    whole = run_update(settings(CHOICES[name]), model, data).movement
    for order in ([6, 5, 4, 3, 2, 1, 0], [0, 3, 5, 1, 4, 6, 2]):  # backwards; groups interleaved
        got = run_update(settings(CHOICES[name]), model, [data[i] for i in order]).movement
        torch.testing.assert_close(got, whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["dr_grpo", "dapo", "gspo"])
def test_samples_without_advantage_are_left_out_and_nothing_changes(name):
    model = llama()
    data = episodes(model)
    config = settings(CHOICES[name])
    assert drops_zero_advantage(config)
    kept = run_update(replace(config, drop_zero_advantage=False), model, data).movement
    torch.testing.assert_close(run_update(config, model, data).movement, kept, atol=1e-7, rtol=0)


def test_a_dropped_sample_still_counts_in_the_denominator():
    model = llama()
    data = episodes(model)
    config = settings(preset("dapo", overlong_buffer=0, dynamic_sampling=False))
    alone = run_update(config, model, data[:5]).movement  # without the group that has no spread
    tokens = [t.n_sampled for t in data]
    share = sum(tokens[:5]) / sum(tokens)
    torch.testing.assert_close(
        run_update(config, model, data).movement, share * alone, atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(
    ("algorithm", "drops"),
    [
        (preset("grpo"), False),
        (preset("dr_grpo"), True),
        (preset("dr_grpo", entropy_coef=0.01), False),
        (preset("rloo"), True),
        (preset("ppo"), False),
    ],
)
def test_samples_are_dropped_only_where_nothing_else_acts_on_them(algorithm, drops):
    assert drops_zero_advantage(settings(algorithm)) == drops


def test_a_group_without_spread_still_pays_for_kl_in_the_loss():
    model, reference = llama(), moved(llama())
    data = episodes(model)[5:]
    config = settings(preset("grpo", kl={"coef": 0.3}))
    with_kl = run_update(config, model, data, reference_model=reference)
    without = run_update(config, model, data, reference_model=reference, coef=0.0)
    assert with_kl.movement.abs().max() > 1e-3
    assert without.movement.abs().max() < 1e-8
    dropped = replace(config, drop_zero_advantage=True)  # asked for: the KL goes with the samples
    assert run_update(dropped, model, data, reference_model=reference).movement.abs().max() == 0


def test_a_batch_without_any_advantage_moves_adam_as_zero_gradients_would():
    """Dropping every sample must not stop momentum and weight decay that go on without dropping."""
    model = llama()
    data, flat_data = episodes(model), episodes(model)[5:]
    ends = []
    for drop in (True, False):
        config = replace(settings(preset("dr_grpo")), drop_zero_advantage=drop)
        policy = Policy(copy.deepcopy(model))
        adam = make_optimizer(config.optimizer, [(policy.model, 0.01)])
        for trajectories in (data, flat_data):
            batch = gather(trajectories)
            credit = assign_credit(config.algorithm, batch, batch.rewards_t, None)
            targets = Targets(
                credit.advantages_t,
                batch.sampler_logprobs_t,
                None,
                None,
                credit.returns_t,
                None,
                0.0,
            )
            update_policy(config, policy, None, adam, batch, targets, step=0, first_update=0)
        ends.append(flat(policy))
    torch.testing.assert_close(ends[0], ends[1], atol=1e-9, rtol=0)


# --- importance, the first step, failures -------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_gap_to_the_sampler_is_corrected_once(epochs):
    """The weight is exp(gap), whether the ratio starts at 1 by construction or by old logprobs."""
    model = llama()
    data = episodes(model)
    algorithm = preset("dr_grpo", importance_cap=10.0, clip="none", clip_low=None, clip_high=None)
    config = replace(
        settings(algorithm, epochs=epochs), optimizer=OptimizerConfig(lr=1e-6, grad_clip=0)
    )
    plain = run_update(config, model, data)
    weighed = run_update(config, model, data, sampler_shift=0.5)
    torch.testing.assert_close(
        weighed.movement, math.exp(0.5) * plain.movement, atol=3e-5, rtol=1e-3
    )
    assert weighed.metrics["policy/importance_weight"] == pytest.approx(math.exp(0.5), rel=1e-5)


def test_an_importance_weight_is_capped():
    model = llama()
    data = episodes(model)
    config = settings(preset("dr_grpo", importance_cap=2.0))
    plain = run_update(config, model, data).movement
    weighed = run_update(config, model, data, sampler_shift=5.0).movement
    torch.testing.assert_close(weighed, 2.0 * plain, atol=1e-5, rtol=0)


def test_the_first_update_starts_at_ratio_one():
    model = llama()
    config = replace(
        settings(preset("grpo"), epochs=2), optimizer=OptimizerConfig(lr=1e-9, grad_clip=0)
    )
    metrics = run_update(config, model, episodes(model)).metrics
    assert metrics["policy/ratio_max"] == pytest.approx(1.0, abs=1e-5)
    assert metrics["policy/ratio_mean"] == pytest.approx(1.0, abs=1e-5)
    assert metrics["policy/sampler_gap_max"] < 1e-5
    assert metrics["policy/clip_fraction"] == 0


def test_each_of_several_updates_sees_its_share_of_the_trajectories():
    model = llama()
    data = episodes(model)
    config = replace(
        settings(preset("dr_grpo", aggregation="sequence_sum"), updates_per_step=2),
        optimizer=OptimizerConfig(lr=1e-7, grad_clip=0),
    )
    whole = run_update(replace(config, updates_per_step=1), model, data).movement
    halves = run_update(config, model, data).movement
    # 7 episodes make parts of 4 and 3, each by its own mean: not the whole's mean, but its scale.
    assert 0.5 < float(halves.norm() / (2 * whole.norm())) < 2
    assert not torch.allclose(halves, 2 * whole, atol=1e-3)


def test_a_gradient_that_is_not_finite_throws_the_whole_update_away():
    model = llama()
    data = episodes(model)
    config = settings(preset("dr_grpo"), micro_tokens=1)  # one bad micro-batch among good ones
    data[0].turns[0] = replace(data[0].turns[0], logprobs=(float("nan"), -1.0, -1.0))
    algorithm = replace(config.algorithm, importance_cap=2.0)
    outcome = run_update(replace(config, algorithm=algorithm), model, data)
    assert outcome.movement.abs().max() == 0
    assert outcome.metrics["optim/skipped"] == 1
    assert all(p.grad is None for p in outcome.policy.parameters())


def test_the_next_update_after_a_skipped_one_starts_clean():
    model = llama()
    config = settings(preset("dr_grpo"))
    batch = gather(episodes(model))
    credit = assign_credit(config.algorithm, batch, batch.rewards_t, None)
    good = Targets(
        credit.advantages_t, batch.sampler_logprobs_t, None, None, credit.returns_t, None, 0.0
    )
    bad = replace(good, advantages_t=good.advantages_t * float("inf"))
    ends = []
    for sequence in ([good], [bad, good]):
        policy = Policy(copy.deepcopy(model))
        adam = make_optimizer(config.optimizer, [(policy.model, 0.01)])
        for targets in sequence:
            update_policy(config, policy, None, adam, batch, targets, step=0, first_update=0)
        ends.append(flat(policy))
    assert torch.equal(ends[0], ends[1])


def test_the_value_head_learns_the_returns_of_a_fixed_batch():
    model = llama().float()
    data = [t for t in episodes(llama()) if t.turns[0].completion_ids != (16,)]
    for trajectory in data:  # one return per prompt, so that a state's value is one number
        trajectory.truncated, trajectory.final_prompt_ids = False, ()
        (only,) = trajectory.turns
        trajectory.turns = [replace(only, reward=(1.0, -0.5, 0.25)[trajectory.group])]
    algorithm = preset("ppo", kl={"coef": 0.0}, value_clip=None, value_coef=1.0)
    config = settings(algorithm)
    policy = Policy(model, critic=LinearCritic(8))
    adam = make_optimizer(config.optimizer, [(model, 0.003), (policy.critic.module, 0.03)])
    batch = gather(data, bootstrap=True)
    explained = []
    for _ in range(30):
        _, values = policy.score_all(pack(batch.segments, micro_tokens=64))
        credit = assign_credit(algorithm, batch, batch.rewards_t, values)
        metrics = credit_metrics(Learned(batch, credit, None), values)
        explained.append(metrics["value/explained_variance"])
        targets = Targets(
            torch.zeros_like(credit.advantages_t),
            batch.sampler_logprobs_t,
            None,
            batch.sampler_logprobs_t,
            credit.returns_t,
            values,
            0.0,
        )
        update_policy(config, policy, None, adam, batch, targets, step=0, first_update=0)
    assert explained[0] == pytest.approx(0.0, abs=1e-6)
    assert explained[-1] > 0.9
