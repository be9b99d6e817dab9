"""Episodes as tensors, and the credit of every token: truncations, tools, faulty episodes."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, replace
from statistics import fmean, pstdev

import pytest
import torch

from agent_rl.algorithms import penalised_rewards, preset
from agent_rl.config import (
    EnvConfig,
    EvaluationConfig,
    LoRA,
    ModelConfig,
    OptimizerConfig,
    RLConfig,
    RunConfig,
    SamplingConfig,
    TinyModel,
)
from agent_rl.errors import UserError
from agent_rl.experience import assign_credit, gather
from agent_rl.opponent import Opponent
from agent_rl.packing import pack
from agent_rl.runs import RunFolder
from agent_rl.stages import rl, rl_state
from agent_rl.trajectory import Trajectory, Turn
from rl_verifiers.score import VerifierError

LAMBDA = 0.8
PPO = preset("ppo", gae_lambda=LAMBDA, whiten_advantages=False, kl={"coef": 0.0})


def turn(context, sampled, reward=0.0, finish="stop") -> Turn:
    return Turn(tuple(context), tuple(sampled), (-1.0,) * len(sampled), "", reward, finish)


def episode(group, sample, *turns, **fields) -> Trajectory:
    return Trajectory("e", str(group), group, sample, turns=list(turns), **fields)


def credit(algorithm, *trajectories, values=None):
    batch = gather(trajectories, bootstrap=values is not None)
    values = None if values is None else torch.tensor(values)
    return assign_credit(algorithm, batch, batch.rewards_t, values)


def test_a_truncated_episode_is_bootstrapped_and_a_terminated_one_is_not():
    """One token of reward 1 and value 0.5 before it: delta = 1 + discount * V(next) - 0.5."""
    ended = episode(0, 0, turn((1,), (5,), 1.0), terminated=True, discount=0.9)
    limit = episode(1, 0, turn((1,), (5,), 1.0), truncated=True, discount=0.9)
    limit.final_prompt_ids = (1, 5, 7)
    got = credit(PPO, ended, limit, values=[0.5, 0.5, 2.0])  # the last: the state after the limit
    assert got.advantages_t.tolist() == pytest.approx([1 - 0.5, 1 + 0.9 * 2.0 - 0.5])
    assert got.returns_t.tolist() == pytest.approx([1.0, 1 + 0.9 * 2.0])


def test_a_completion_cut_at_the_token_limit_is_not_bootstrapped():
    cut = episode(0, 0, turn((1,), (5,), 0.0, "length"), cut=True)
    got = credit(PPO, cut, values=[0.5])
    assert got.advantages_t.tolist() == [-0.5]


def test_gae_over_a_truncated_chain_has_the_closed_form():
    limit = episode(0, 0, turn((1,), (5, 6, 7), 1.0), truncated=True)
    limit.final_prompt_ids = (1, 5, 6, 7, 8)
    v, after = [0.1, 0.2, 0.3], 4.0
    deltas = [v[1] - v[0], v[2] - v[1], 1.0 + after - v[2]]
    wanted = [sum(LAMBDA ** (k - t) * deltas[k] for k in range(t, 3)) for t in range(3)]
    got = credit(PPO, limit, values=[*v, after])
    assert got.advantages_t.tolist() == pytest.approx(wanted)
    assert got.returns_t.tolist() == pytest.approx([a + b for a, b in zip(wanted, v, strict=True)])


def test_the_bootstrap_state_belongs_to_its_own_episode():
    ended = episode(0, 0, turn((1,), (5,), 0.0), terminated=True)
    first = episode(1, 0, turn((1,), (5,), 0.0), truncated=True, final_prompt_ids=(1, 5, 7))
    second = episode(2, 0, turn((1,), (5,), 0.0), truncated=True, final_prompt_ids=(1, 5, 8))
    batch = gather([first, ended, second], bootstrap=True)
    assert batch.bootstrap_of == [0, 2]
    assert [batch.segments[i].ids for i in (3, 4)] == [(1, 5, 7), (1, 5, 8)]
    got = credit(PPO, first, ended, second, values=[0.0, 0.0, 0.0, 3.0, 5.0])
    assert got.advantages_t.tolist() == [3.0, 0.0, 5.0]


def test_values_at_tool_tokens_are_skipped_and_not_decayed_through():
    gap = (8,) * 20
    with_gap = episode(0, 0, turn((1,), (5, 6)), turn((1, 5, 6, *gap), (7,), 1.0), terminated=True)
    without = episode(0, 0, turn((1,), (5, 6)), turn((1, 5, 6, 9), (7,), 1.0), terminated=True)
    values = [0.1, 0.2, 0.3]
    one, other = (credit(PPO, t, values=values) for t in (with_gap, without))
    assert torch.equal(one.advantages_t, other.advantages_t)
    assert torch.equal(one.returns_t, other.returns_t)


def three_turns(*rewards, gap=6, **fields) -> Trajectory:
    """Turns of 2, 1 and 2 tokens in one sequence, with tool text of ``gap`` tokens in between."""
    turns, context = [], (1,)
    for sampled, reward in zip([(5, 6), (7,), (8, 9)], rewards, strict=True):
        turns.append(turn(context, sampled, reward))
        context = (*context, *sampled, *(3,) * gap)
    return episode(fields.pop("group", 0), fields.pop("sample", 0), *turns, **fields)


@pytest.mark.parametrize("limit", [False, True])
def test_gae_over_turns_with_tools_between_them_has_the_closed_form(limit):
    """By loops over plain floats: the next token is the next one sampled, the discount stands
    between turns, and only a truncation has a value after it."""
    v, d, after = [0.1, 0.2, 0.3, 0.4, 0.5], 0.9, 2.0
    rewards, discounts = [0, 0.25, 0.5, 0, 1.0], [1, d, d, 1, d]
    t = three_turns(0.25, 0.5, 1.0, discount=d, truncated=limit, terminated=not limit)
    if limit:
        t.final_prompt_ids = (1, 2)
    wanted, following, running = [0.0] * 5, after if limit else 0.0, 0.0
    for k in reversed(range(5)):
        delta = rewards[k] + discounts[k] * following - v[k]
        running = wanted[k] = delta + discounts[k] * LAMBDA * running
        following = v[k]
    assert len(gather([t]).segments) == 1
    got = credit(PPO, t, values=[*v, after] if limit else v)
    assert got.advantages_t.tolist() == pytest.approx(wanted)
    assert got.returns_t.tolist() == pytest.approx([a + b for a, b in zip(wanted, v, strict=True)])


def test_partial_credit_reaches_the_turn_that_earned_it():
    """Return-to-go: a turn is credited with what it and later turns were paid, discounted."""
    t = three_turns(0.25, 0.5, 1.0, discount=0.5, terminated=True)
    reinforce = preset("reinforce", kl={"place": "none"})
    last, middle = 1.0, 0.5 + 0.5 * 1.0
    first = 0.25 + 0.5 * middle
    got = credit(reinforce, t)
    assert got.advantages_t.tolist() == pytest.approx([first, first, middle, last, last])
    assert got.returns_n.tolist() == pytest.approx([first])


def test_the_group_baseline_of_each_turn_counts_who_has_ended_as_nothing():
    """Two episodes of three turns, one of a single turn; leave it unscaled and do it by hand."""
    turns = preset("grpo", advantage="turn", scale="none")
    members = [
        three_turns(0.0, 0.5, 1.0, sample=0, terminated=True),
        three_turns(0.5, 0.0, 0.0, sample=1, terminated=True),
        episode(0, 2, turn((1,), (4,), 1.0), terminated=True),
    ]
    to_go = [[1.5, 1.5, 1.0], [0.5, 0.0, 0.0], [1.0, 0.0, 0.0]]
    mean = [sum(column) / 3 for column in zip(*to_go, strict=True)]
    a, b, c = ([g - m for g, m in zip(row, mean, strict=True)] for row in to_go)
    wanted = [a[0], a[0], a[1], a[2], a[2], b[0], b[0], b[1], b[2], b[2], c[0]]
    assert credit(turns, *members).advantages_t.tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["grpo", "rloo", "dr_grpo"])
def test_a_group_that_lost_members_compares_those_that_are_left(name):
    """The baseline is of the survivors: as if the lost ones had never been drawn."""
    rewards = [1.0, 0.0, 0.25, 0.5]
    whole = [three_turns(0.0, 0.0, r, sample=n) for n, r in enumerate(rewards)]
    other = [three_turns(0.0, 0.0, r, group=1, sample=n) for n, r in enumerate([2.0, 1.0])]
    whole[1].error = "gone"
    left = [t for t in [*whole, *other] if t.error is None]
    got = credit(preset(name), *left).advantages_t[:15:5].tolist()
    alone = [1.0, 0.25, 0.5]
    mean = sum(alone) / 3
    spread = (sum((r - mean) ** 2 for r in alone) / 2) ** 0.5
    scale = {"grpo": 1 / (spread + 1e-4), "rloo": 3 / 2, "dr_grpo": 1.0}[name]
    assert got == pytest.approx([(r - mean) * scale for r in alone], rel=1e-5)
    lone = credit(preset(name), left[0], *other).advantages_t[:5]
    assert lone.tolist() == [0.0] * 5  # nothing to compare with


def test_targets_of_the_value_head_are_made_before_advantages_are_whitened():
    t = episode(0, 0, turn((1,), (5, 6, 7), 1.0), terminated=True)
    values = [0.1, 0.2, 0.3]
    plain = credit(PPO, t, values=values)
    whitened = credit(replace(PPO, whiten_advantages=True), t, values=values)
    assert torch.equal(plain.returns_t, whitened.returns_t)
    assert not torch.equal(plain.advantages_t, whitened.advantages_t)


def test_rewards_are_whitened_first_then_returns_then_advantages():
    """Trap 20, 21, by loops: rewards with KL in them, over all tokens, once, nothing shifted."""
    both = [
        episode(0, 0, turn((1,), (5, 6, 7), 1.0), terminated=True),
        episode(0, 1, turn((1,), (8, 9), -0.5), terminated=True),
    ]
    batch = gather(both, bootstrap=True)
    gap_t = torch.tensor([0.5, -0.25, 1.0, 0.125, 0.0])
    values = [0.1, 0.2, 0.3, -0.1, 0.4]
    rewards_t = penalised_rewards(batch.rewards_t, gap_t, 0.2)
    algorithm = preset("instructgpt", gae_lambda=0.9)
    got = assign_credit(algorithm, batch, rewards_t, torch.tensor(values))
    paid = [0.0 - 0.1, 0.0 + 0.05, 1.0 - 0.2, 0.0 - 0.025, -0.5]
    paid = [r / pstdev(paid) for r in paid]
    ends, advantages, after = (2, 4), [0.0] * 5, 0.0
    for t in reversed(range(5)):
        following, after = (0.0, 0.0) if t in ends else (values[t + 1], after)
        after = paid[t] + following - values[t] + 0.9 * after
        advantages[t] = after
    targets = [a + v for a, v in zip(advantages, values, strict=True)]
    whitened = [(a - fmean(advantages)) / pstdev(advantages) for a in advantages]
    assert got.returns_t.tolist() == pytest.approx(targets, abs=1e-5)
    assert got.advantages_t.tolist() == pytest.approx(whitened, abs=1e-5)
    assert got.returns_n.tolist() == pytest.approx([0.75, -0.525], abs=1e-6)  # as it was paid


@pytest.mark.parametrize(("name", "scale"), [("grpo", 1.0), ("rloo", 3.0), ("dr_grpo", 3.0)])
def test_group_advantages_of_a_learned_reward_do_not_depend_on_its_zero(name, scale):
    """A reward model's scores are any real numbers, mostly of one sign, known up to a shift."""
    scores = [-4.125, -3.5, -7.75, -4.0625]
    plain = [episode(0, n, turn((1,), (5,), score)) for n, score in enumerate(scores)]
    moved = [episode(0, n, turn((1,), (5,), 3 * s + 20)) for n, s in enumerate(scores)]
    one, other = (credit(preset(name), *group).advantages_t for group in (plain, moved))
    assert other.tolist() == pytest.approx([scale * a for a in one.tolist()], rel=2e-4)
    order = sorted(range(4), key=lambda n: scores[n])
    assert sorted(range(4), key=lambda n: one[n]) == order
    assert one.abs().min() > 0.05


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo", "dapo", "maxrl"])
def test_a_group_without_spread_has_an_advantage_of_exactly_zero(name):
    """0.35 and 0.1 + 0.25 differ in the last bit of float32 sums: that is no difference."""
    same = [episode(0, n, turn((1,), (5, 6), 0.35)) for n in range(7)]
    same.append(episode(0, 7, turn((1,), (5,), 0.1), turn((1, 5, 9), (6,), 0.25)))
    algorithm = preset(name) if name != "dapo" else preset(name, overlong_buffer=0)
    assert credit(algorithm, *same).advantages_t.tolist() == [0.0] * 16


def test_a_nearly_solved_group_is_not_blown_up():
    rewards = [0.4] * 7 + [0.35]
    group = [episode(0, n, turn((1,), (5,), reward)) for n, reward in enumerate(rewards)]
    advantages = credit(preset("grpo"), *group).advantages_t
    assert advantages.abs().max() < 8**0.5
    assert float(advantages.sum()) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("name", ["grpo", "rloo", "dr_grpo"])
def test_advantages_do_not_depend_on_the_order_of_episodes(name):
    rewards = {(0, 0): 1.0, (0, 1): 0.0, (0, 2): 0.5, (1, 0): 3.0, (1, 1): 1.0}
    group = {key: episode(*key, turn((1,), (5,), reward)) for key, reward in rewards.items()}
    wanted = dict(zip(group, credit(preset(name), *group.values()).advantages_t, strict=True))
    for order in itertools.islice(itertools.permutations(group), 0, 120, 11):
        got = credit(preset(name), *[group[key] for key in order]).advantages_t
        for key, advantage in zip(order, got, strict=True):
            assert float(advantage) == pytest.approx(float(wanted[key]), abs=1e-6)


def test_the_overlong_punishment_lies_on_the_last_token_of_a_long_turn():
    t = episode(0, 0, turn((1,), range(2, 10), 1.0))  # 8 of 10 tokens; punished from 6 on
    batch = gather([t], overlong_buffer=4, max_tokens=10)
    assert batch.rewards_t.tolist() == [0.0] * 7 + [pytest.approx(1.0 - 0.5)]


# --- a whole step with a real model ---------------------------------------------------------------

GAME = '''
from rl_envs import Task, TextEnv
from rl_verifiers import Score


class Game(TextEnv):
    tasks = [Task(str(n), f"{n}=?", str(n)) for n in range(6)]

    def score(self, completion, row):
        return Score(min(1.0, completion.count("a") + len(completion) / 9), False, "wrong")


class Faulty(Game):
    """For some completions the judge is not there, however often it is asked."""

    def score(self, completion, row):
        if sum(map(ord, completion)) % 2:
            return Score.failed("the judge is not there")
        return super().score(completion, row)


class Level(Game):
    """Pays everything the same."""

    def score(self, completion, row):
        return 0.5


class NotANumber(Game):
    def score(self, completion, row):
        return float("nan")
'''
TINY = TinyModel(hidden_size=16, layers=1, heads=2, intermediate_size=16, context=32)


@dataclass
class Step:
    """One training step of a real, tiny setting."""

    config: RLConfig
    state: rl_state.State
    folder: RunFolder

    def run(self):
        with asyncio.Runner() as loop:
            return rl.train_step(self.config, self.state, loop, self.folder)


@pytest.fixture
def step(tmp_path):
    """``step(env, **changes of the configuration)``."""
    (tmp_path / "game.py").write_text(GAME)

    def make(env="Game", **changes) -> Step:
        config = RLConfig(
            **{
                "envs": (EnvConfig(f"{tmp_path / 'game.py'}:{env}"),),
                "model": ModelConfig(tiny=TINY),
                "algorithm": preset("grpo"),
                "sampling": SamplingConfig(max_tokens=8),
                "optimizer": OptimizerConfig(lr=1e-3),
                "evaluation": EvaluationConfig(tasks=0),
                "run": RunConfig(dir=str(tmp_path / "run")),
                "prompts_per_step": 2,
                "group_size": 4,
                "on_truncation": "score",
                **changes,
            },
        )
        folder = RunFolder.create(tmp_path / "run", {"stage": "rl"}, overwrite=True)
        return Step(config, rl_state.set_up(config), folder)

    return make


LAYOUTS = {
    "one update": {},
    "two updates": {"updates_per_step": 2, "optimizer": OptimizerConfig(lr=1e-9)},
    "two updates, adapters": {
        "updates_per_step": 2,
        "optimizer": OptimizerConfig(lr=1e-9),
        "model": ModelConfig(tiny=TINY, lora=LoRA(rank=2)),
    },
    "two updates, bfloat16 engine": {
        "updates_per_step": 2,
        "optimizer": OptimizerConfig(lr=1e-9),
        "model": ModelConfig(tiny=TINY, generation="bfloat16"),
    },
    "two updates, bfloat16 autocast": {
        "updates_per_step": 2,
        "optimizer": OptimizerConfig(lr=1e-9),
        "model": ModelConfig(tiny=TINY, compute="bfloat16"),
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_first_step_has_ratio_one_and_no_kl(step, layout):
    metrics = step(algorithm=preset("ppo"), **LAYOUTS[layout]).run()
    rounding = 2e-4 if "autocast" in layout else 1e-5  # bfloat16 rounds by the micro-batch's shape
    assert metrics["policy/ratio_max"] == pytest.approx(1.0, abs=rounding)
    assert metrics["policy/clip_fraction"] == 0
    assert metrics["kl/reference"] == pytest.approx(0.0, abs=1e-5)
    assert metrics["policy/sampler_gap_max"] < (0.05 if "bfloat16" in layout else 1e-5)


def test_episodes_that_we_failed_to_judge_are_out_of_the_statistics(step):
    faulty = step("Faulty")
    metrics = faulty.run()
    rows = faulty.folder.read_rollouts(1)
    kept = [row for row in rows if row["status"] != "error"]
    failed = [row for row in rows if row["status"] == "error"]
    assert len(kept) > 1
    assert failed
    assert metrics["samples/error"] == len(failed) / len(rows)
    assert metrics["reward/mean"] == pytest.approx(sum(r["reward"] for r in kept) / len(kept))
    assert [r["advantage"] for r in failed] == [None] * len(failed)
    for group in {r["group"] for r in kept}:
        assert sum(r["advantage"] for r in kept if r["group"] == group) == pytest.approx(
            0, abs=1e-4
        )


def test_a_reward_that_is_no_number_stops_the_run_and_says_where(step):
    line = r"row '\d': verifier NotANumber.score returned nan; it must return a finite number"
    with pytest.raises(VerifierError, match=line):
        step("NotANumber").run()


def test_cut_completions_are_left_out_when_they_are_to_be_masked(step):
    run = step(on_truncation="mask")
    with asyncio.Runner() as loop:
        played, _ = loop.run(rl.collect(run.config, run.state))
    kept = [t for t in played if rl.usable(run.config, t)]
    assert any(t.cut for t in played)
    assert not any(t.cut for t in kept)
    assert {id(t) for t in played if not t.cut} == {id(t) for t in kept}


def test_every_token_carries_the_version_that_sampled_it(step):
    run = step()
    versions = []
    for _ in range(3):
        with asyncio.Runner() as loop:
            played, _ = loop.run(rl.collect(run.config, run.state))
        versions.append({turn.policy_version for t in played for turn in t.turns})
        run.run()
    assert versions == [{0}, {1}, {2}]


def test_the_next_rollouts_come_from_the_new_weights(step):
    run = step(optimizer=OptimizerConfig(lr=0.05))
    run.run()
    with asyncio.Runner() as loop:
        played, _ = loop.run(rl.collect(run.config, run.state))
    batch = gather(played)
    micros = pack(batch.segments, micro_tokens=1000)
    now, _ = run.state.policy.score_all(micros)
    torch.testing.assert_close(now, batch.sampler_logprobs_t, atol=1e-5, rtol=0)


def test_a_step_repeats_bit_for_bit(step):
    ends = []
    for _ in range(2):
        run = step()
        run.run()
        ends.append([p.detach().clone() for p in run.state.policy.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_dynamic_sampling_plays_on_and_counts_what_it_threw_away(step):
    run = step(algorithm=preset("dapo", overlong_buffer=2), prompts_per_step=3)
    with asyncio.Runner() as loop:
        played, kept = loop.run(rl.collect(run.config, run.state))
    rewards = {}
    for trajectory in kept:
        rewards.setdefault(trajectory.group, set()).add(trajectory.total_reward)
    assert all(len(values) > 1 for values in rewards.values())
    assert {id(t) for t in kept} <= {id(t) for t in played}
    assert len(rewards) <= 3
    assert len({(t.group, t.sample) for t in played}) == len(played), "no number is used twice"


def test_a_step_without_anything_to_learn_still_does_what_is_due(step):
    run = step("Level", algorithm=preset("grpo", dynamic_sampling=True), reference_refresh=1)
    run.config = replace(run.config, opponent_refresh=1)
    state = run.state
    state.opponent = Opponent(state.policy.model, state.chat)
    with torch.no_grad():
        for parameter in state.policy.model.parameters():
            parameter.mul_(1.5)
    present = state.policy.model.state_dict()
    version = state.engine.policy_version
    metrics = run.run()
    assert (metrics["groups/kept"], metrics["groups/zero_spread"]) == (0.0, 1.0)
    for renewed in (state.opponent.state_dict(), state.reference.state_dict()):
        assert all(torch.equal(present[name], renewed[name]) for name in present)
    assert state.engine.policy_version == version
    rows = run.folder.read_rollouts(1)
    assert len(rows) == 2 * 4 * rl.MAX_ROUNDS
    assert {(row["advantage"], row["reward"]) for row in rows} == {(None, 0.5)}


def test_a_step_in_which_everything_failed_stops_the_run(step, tmp_path):
    (tmp_path / "down.py").write_text(
        "from rl_envs import ListTasks, Task, TextEnv\n"
        "class Down(TextEnv):\n"
        "    tasks = ListTasks([Task('a', '1', '1'), Task('b', '2', '2')])\n"
        "    def score(self, completion, row):\n"
        "        raise ConnectionError('judge unreachable')\n"
    )
    run = step(envs=(EnvConfig(str(tmp_path / "down.py")),))
    with pytest.raises(UserError, match=r"all 8 episodes failed .* judge unreachable; mend it"):
        run.run()


def test_a_tiny_model_that_cannot_read_its_tasks_is_refused(step, tmp_path):
    (tmp_path / "greek.py").write_text(
        "from rl_envs import ListTasks, Task, TextEnv\n"
        "class Greek(TextEnv):\n"
        "    verifier = 'exact'\n"
        "    tasks = ListTasks([Task('a', 'αβ1', '1')])\n"
    )
    with pytest.raises(UserError, match=r"alphabet lacks 'αβ'.*model\.tiny\.characters"):
        step(envs=(EnvConfig(str(tmp_path / "greek.py")),))
