"""Both seats by one policy, or one of them by a frozen opponent: whose tokens, whose rewards."""

import asyncio
from dataclasses import replace

import pytest
import torch

from agent_rl import algorithms, models
from agent_rl.chat import Chat
from agent_rl.config import EnvConfig, TinyModel
from agent_rl.engines import Sampling
from agent_rl.errors import UserError
from agent_rl.experience import gather
from agent_rl.loading import load_recipe
from agent_rl.opponent import Opponent
from agent_rl.preflight import check_env
from agent_rl.rollout import Assignment, play_groups, seed_of
from agent_rl.runs import RunFolder
from agent_rl.self_play import by_seat, trained_seats
from agent_rl.stages import rl, rl_state
from agent_rl.stages.evaluate import held_out
from agent_rl.trajectory import Trajectory, Turn
from rl_envs import Reply, Task
from rl_envs.self_play import SeatedEnv
from rl_verifiers import Score

SAMPLING = Sampling(max_tokens=8)


class Pennies(SeatedEnv):
    """Each says one word; the first seat wins where they are equal, and has the better of it."""

    seats = 2
    max_turns = 2
    memory = "full"
    tasks = (Task("a", ""), Task("b", ""))
    system_prompt = "play"

    def opening(self, task):
        self.seat, self.said = 0, []
        return [{"role": "user", "content": f"first {task.id}?"}]

    def respond(self, action):
        self.said.append(action)
        if len(self.said) == 1:
            self.seat = 1
            return Reply([{"role": "user", "content": f"second {self.task.id}?"}])
        win = 1.0 if self.said[0] == self.said[1] else -1.0
        rewards = (win + 0.5, -win - 0.5)
        scores = tuple(Score(r, r > 0, "correct" if r > 0 else "wrong") for r in rewards)
        return Reply(terminated=True, info={"rewards": rewards, "scores": scores})


class Counting(SeatedEnv):
    """Four actions by seats 0, 1, 0, 1, each told only its own number; then a limit."""

    seats = 2
    max_turns = 4
    tasks = (Task("a", ""), Task("b", ""))

    def opening(self, task):
        self.seat = 0
        return [{"role": "user", "content": "0:"}]

    def respond(self, action):
        self.seat = self.turn % 2
        return Reply([{"role": "user", "content": f"{self.turn}:"}], info={"rewards": (1.0, -1.0)})


class Alone(Pennies):
    seats = 1


def play(env, engine, chat, **options):
    options = {"group_size": 4, "sampling": SAMPLING, "seed": 1, **options}
    assignments = [Assignment(env, "env", i, seed_of(i)) for i in range(2)]
    return asyncio.run(play_groups(engine, chat, assignments, **options))


def coin(text, sampling):
    return "ab"[sampling.seed % 2]


def test_every_seat_has_its_own_trajectory_and_the_groups_stay_in_order(chat, scripted):
    played = play(Pennies(), scripted(coin), chat)
    assert [(t.group, t.seat, t.sample) for t in played] == [
        (group, seat, sample) for group in (0, 1) for seat in (0, 1) for sample in range(4)
    ]
    assert [t.opening[-1]["content"] for t in played[2:6:2]] == ["first a?", "second a?"]


def test_a_seat_sees_its_own_view_and_trains_on_what_was_sampled_for_it(chat, scripted):
    engine = scripted(coin)
    played = play(Pennies(), engine, chat)
    for trajectory in played:
        (turn,) = trajectory.turns
        asked = f"play{'first' if trajectory.seat == 0 else 'second'} {trajectory.task_id}?"
        assert chat.decode(turn.prompt_ids) == asked
    requested = sorted(tuple(ids) for ids, _ in engine.requests)
    assert requested == sorted(turn.prompt_ids for t in played for turn in t.turns)
    batch = gather(played)
    for k, segment in enumerate(batch.segments):
        sampled = tuple(segment.ids[place] for place in segment.sampled)
        assert sampled == played[k].turns[0].completion_ids


def test_a_seat_remembers_its_own_turns_only(chat, scripted):
    first, second = play(Counting(), scripted(lambda *_: "x"), chat, group_size=1)[:2]
    assert chat.decode(first.turns[1].prompt_ids) == "0:x2:"
    assert chat.decode(second.turns[1].prompt_ids) == "1:x3:"
    assert second.answers == [({"role": "user", "content": "3:"},)]


def test_what_others_earn_a_seat_stands_on_its_own_last_turn(chat, scripted):
    first, second = play(Counting(), scripted(lambda *_: "x"), chat, group_size=1)[:2]
    assert [turn.reward for turn in first.turns] == [2.0, 2.0]
    assert [turn.reward for turn in second.turns] == [-2.0, -1.0]  # not what came before its first


def test_a_limit_leaves_each_seat_where_it_stood(chat, scripted):
    first, second = play(Counting(), scripted(lambda *_: "x"), chat, group_size=1)[:2]
    assert (first.truncated, second.truncated) == (True, True)
    assert chat.decode(first.final_prompt_ids) == "0:x2:x4:"  # its turn is next
    assert second.final_prompt_ids == second.turns[-1].prompt_ids + second.turns[-1].completion_ids


def test_rewards_are_zero_sum_and_each_seat_has_its_score(chat, scripted):
    played = play(Pennies(), scripted(coin), chat)
    pairs = {}
    for trajectory in played:
        assert trajectory.passed == (trajectory.total_reward > 0)
        pairs.setdefault((trajectory.group, trajectory.sample), []).append(trajectory.total_reward)
    assert len(pairs) == 8
    assert all(first + second == 0 for first, second in pairs.values())


def test_the_baseline_is_that_of_the_seat(chat, scripted):
    """Of 1.5 and -0.5 against -1.5 and 0.5, the half point of moving first is nobody's skill."""
    played = play(Pennies(), scripted(coin), chat)
    batch = gather(played)
    returns_n = torch.tensor([t.total_reward for t in played])
    advantages_n = algorithms.group_relative(returns_n, batch.group_n, scale="none")
    for group in range(4):  # two tasks, two seats
        members = played[4 * group : 4 * group + 4]
        mean = sum(t.total_reward for t in members) / 4
        expected = torch.tensor([t.total_reward - mean for t in members])
        assert torch.allclose(advantages_n[4 * group : 4 * group + 4], expected)
    wins = sum(t.turns[0].text == "a" for t in played)
    assert 0 < wins < len(played)


def test_a_group_verifier_over_seats_is_refused(chat, scripted, tmp_path):
    line = r"has 2 seats and a group verifier.*leave the group verifier out"
    with pytest.raises(UserError, match=line):
        play(Pennies(group_verifier=lambda texts, rows: [1.0] * len(texts)), scripted(coin), chat)
    path = tmp_path / "games.py"
    path.write_text(
        "from tests.agent_rl.test_self_play import Pennies\n"
        "class Judged(Pennies):\n"
        "    group_verifier = staticmethod(lambda texts, rows: [1.0] * len(texts))\n"
    )
    with pytest.raises(UserError, match=line):
        check_env(EnvConfig(f"{path}:Judged"))


def test_same_seed_same_games(chat, scripted):
    assert play(Pennies(), scripted(coin), chat) == play(Pennies(), scripted(coin), chat)


def test_one_seat_is_played_as_ever(chat, scripted):
    played = play(Alone(), scripted(lambda *_: "x"), chat, group_size=1)
    assert [(len(t.turns), t.seat) for t in played] == [(2, 0), (2, 0)]


@pytest.mark.parametrize(
    ("on_truncation", "cut", "rewards"),
    [("zero", True, [1.5, -1.5]), ("score", False, [-0.5, 0.5])],  # two empty words are equal
)
def test_a_cut_answer_says_nothing_and_the_rules_decide(
    chat, scripted, on_truncation, cut, rewards
):
    engine = scripted(lambda text, _: "a" if "first" in text else "b", stop=False)
    played = play(Pennies(), engine, chat, on_truncation=on_truncation, group_size=1)[:2]
    assert [(t.seat, t.cut) for t in played] == [(0, cut), (1, cut)]
    assert [t.total_reward for t in played] == rewards


def turn(seat, finish_reason="stop", rewards=(0.0, 0.0)):
    return Turn((1,), (2,), (-0.5,), "x", 0.0, finish_reason, seat=seat, rewards=rewards)


@pytest.mark.parametrize(("mask_cut", "cut"), [(False, [False, True]), (True, [True, True])])
def test_masking_a_cut_answer_leaves_out_the_whole_game(mask_cut, cut):
    episode = Trajectory("env", "a", 0, 0, turns=[turn(0), turn(1, "length")], cut=True)
    episode.answers = [(), ()]
    assert [t.cut for t in by_seat(episode, (0, 1), mask_cut=mask_cut)] == cut


def test_a_seat_without_a_turn_is_left_out_unless_we_failed():
    episode = Trajectory("env", "a", 0, 0, turns=[turn(0, rewards=(-1.0, 1.0))], answers=[()])
    assert [(t.seat, t.total_reward) for t in by_seat(episode, (0, 1))] == [(0, -1.0)]
    failed = replace(episode, turns=[], answers=[], error="the engine died")
    assert [(t.seat, t.error) for t in by_seat(failed, (0, 1))] == [
        (0, "the engine died"),
        (1, "the engine died"),
    ]


def test_beside_a_frozen_opponent_the_members_take_the_seats_in_turn(chat, scripted):
    policy, frozen = scripted(lambda *_: "a"), scripted(lambda *_: "b")
    played = play(Pennies(), policy, chat, opponent=frozen)
    assert [(t.group, t.seat, t.sample) for t in played] == [
        (group, seat, sample) for group in (0, 1) for seat in (0, 1) for sample in (seat, seat + 2)
    ]
    assert {turn.text for t in played for turn in t.turns} == {"a"}
    assert len(policy.requests) == len(frozen.requests) == 8
    assert {t.total_reward for t in played} == {-0.5, 0.5}


@pytest.mark.parametrize(
    ("seats", "frozen", "mine"),
    [(2, False, [(0, 1), (0, 1)]), (2, True, [(0,), (1,)]), (1, True, [(0,), (0,)])],
)
def test_which_seats_are_trained(seats, frozen, mine):
    assert [trained_seats(seats, sample, frozen=frozen) for sample in (0, 1)] == mine


def test_an_opponent_stays_where_it_was_until_it_is_renewed():
    tiny = TinyModel(hidden_size=16, layers=1, heads=2, intermediate_size=16, context=32)
    chat = Chat(models.tiny_tokenizer(tiny))
    model = models.tiny_model(tiny, len(chat.tokenizer), chat.tokenizer).eval()
    opponent = Opponent(model, chat)

    def says(engine):
        return asyncio.run(engine.generate([5, 6, 7], Sampling(max_tokens=4, seed=3))).logprobs

    before = says(opponent.engine)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    assert says(opponent.engine) == before
    version = opponent.engine.policy_version
    opponent.refresh(model)
    assert says(opponent.engine) != before
    assert opponent.engine.policy_version == version + 1
    assert not any(parameter.requires_grad for parameter in opponent.model.parameters())


RUN = """
model: {tiny: {hidden_size: 16, layers: 1, heads: 2, intermediate_size: 16, context: 16,
               characters: "XO.123456789"}}
envs: [{id: text/TicTacToe-v0, options: {opponent: self, start: any, question: short}}]
algorithm: {preset: grpo, kl: {place: none, coef: 0.0}}
steps: 4
prompts_per_step: 4
group_size: 4
opponent_refresh: 2
on_truncation: score
sampling: {max_tokens: 1}
optimizer: {lr: 1e-2}
evaluation: {tasks: 0}
"""


def configured(tmp_path, text):
    (tmp_path / "c.yaml").write_text(f"run: {{dir: {tmp_path / 'run'}}}\n{text}")
    return load_recipe(str(tmp_path / "c.yaml")).stages[0][1]


def test_a_restored_run_goes_on_against_the_same_opponent(tmp_path):
    config, folder = configured(tmp_path, RUN), RunFolder.create(tmp_path / "run", {})
    state = rl_state.set_up(config)
    start = {name: value.clone() for name, value in state.opponent.state_dict().items()}
    with asyncio.Runner() as loop:

        def train(state):
            metrics = rl.train_step(config, state, loop, folder)
            state.step += 1
            return metrics["reward/mean"], state.policy.model.state_dict()

        train(state)
        assert equal(state.opponent.state_dict(), start)
        train(state)
        renewed = state.policy.model.state_dict()
        assert equal(state.opponent.state_dict(), renewed)
        assert not equal(start, renewed)
        train(state)
        rl_state.save(config, state, folder)
        again = rl_state.set_up(config)
        rl_state.restore(again, folder)
        assert equal(again.opponent.state_dict(), state.opponent.state_dict())
        (earned, weights), (earned_again, weights_again) = train(state), train(again)
    assert earned == earned_again
    assert equal(weights, weights_again)


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_an_opponent_without_a_seat_for_it_stops_the_run(tmp_path):
    config = configured(tmp_path, RUN.replace("opponent: self", "opponent: random"))
    with pytest.raises(UserError, match="no environment of this run has several seats"):
        rl_state.set_up(config)


def test_held_out_games_need_an_opponent(tmp_path):
    config = configured(tmp_path, RUN.replace("{tasks: 0}", "{tasks: 2}"))
    with pytest.raises(UserError, match="plays against itself in the split 'test'"):
        held_out(config)
