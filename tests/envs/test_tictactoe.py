"""Noughts and crosses: exact values, hard tasks, and both seats of one caller."""

import numpy as np
import pytest

from rl_envs import DataError, Reply
from rl_envs.self_play import SeatedEnv
from rl_envs.text import tictactoe_rules as rules
from rl_envs.text.brackets import move_in
from rl_envs.text.tictactoe import HARD, TicTacToe


def finish(env, act):
    """Play to the end: the sum of the rewards and the last info."""
    total = 0.0
    while True:
        _, reward, terminated, truncated, info = env.step(act(env))
        total += reward
        if terminated or truncated:
            return total, info


def expert(env, rng=None):
    return env.expert(rng or np.random.default_rng(0))


def moves(text):
    """A policy that plays these cells in turn."""
    cells = iter(text)
    return lambda env: f"[{next(cells)}]"


def empty(env, player="X", seed=0, board=rules.EMPTY * rules.CELLS):
    task = type(env.tasks[0])("t", "", info={"board": board, "player": player, "seed": seed})
    return env.reset(seed=0, options={"task": task})


@pytest.mark.parametrize(
    ("board", "value", "best"),
    [
        (".........", 0, (0, 1, 2, 3, 4, 5, 6, 7, 8)),
        ("X........", 0, (4,)),  # only the middle saves a corner opening
        ("XX.OO....", 1, (2,)),
        ("XX..O....", 0, (2,)),  # O must stop it
        ("X...O...X", 0, (1, 3, 5, 7)),  # a corner would lose
        ("XX.XO.O.O", 1, (2,)),
        ("X.X...OO.", 1, (1,)),  # 9 wins too, but later
    ],
)
def test_values_and_best_moves_are_those_of_the_theory(board, value, best):
    assert (rules.value(board), rules.best_moves(board)) == (value, best)


def test_there_are_as_many_positions_as_the_literature_counts():
    assert len(rules.positions()) == 4520  # 5478 with the finished games
    assert len({rules.canonical(board) for board in rules.positions()}) == 627  # of 765


@pytest.mark.parametrize("split", ["train", "test"])
def test_oracle_gets_one_on_200_tasks_and_random_moves_under_a_fifth(split):
    env, rng = TicTacToe(split=split), np.random.default_rng(0)
    good, chance = [], []
    for index in range(200):
        env.reset(seed=index, options={"index": index})
        good.append(finish(env, lambda e: expert(e, rng))[0])
        env.reset(seed=index, options={"index": index})
        chance.append(finish(env, lambda e: f"[{rng.choice(rules.free(e.board)) + 1}]")[0])
    assert good == [1.0] * 200
    assert np.mean(chance) < HARD


def test_a_demonstration_answers_the_opponent():
    env, rng = TicTacToe(start="empty"), np.random.default_rng(0)
    for index in range(20):
        env.reset(options={"index": index})
        assert finish(env, lambda e: e.demonstrate("move", rng))[0] == 1.0


def test_mirrored_positions_share_a_split():
    def classes(split):
        tasks = TicTacToe(split=split, start="any").tasks
        return {rules.canonical(tasks[index].info["board"]) for index in range(2000)}

    assert not classes("train") & classes("test")


@pytest.mark.parametrize(
    ("text", "move"),
    [
        ("[5]", "5"),
        ("5", "5"),
        ("I take [1], no, [ 2 ].", "2"),
        ("[3] and then [x]", "x"),
        ("[5", "[5"),
        ("]5[", "]5["),
        ("five", "five"),
        ("<think>[5] or [1]?</think>3", "3"),
        ("<think>[5]", ""),
        ("", ""),
    ],
)
def test_the_last_brackets_hold_the_move(text, move):
    assert move_in(text) == move


@pytest.mark.parametrize(
    ("text", "status"),
    [("[0]", "no_answer"), ("[10]", "no_answer"), ("hello", "no_answer"), ("[1]", "wrong")],
)
def test_an_illegal_move_loses_at_once(text, status):
    env = TicTacToe(opponent="self", start="empty")
    empty(env)
    env.step("[1]")
    _, reward, terminated, _, info = env.step(text)
    assert (reward, terminated) == (-1.0, True)
    assert [score.value for score in info["scores"]] == [1.0, -1.0]
    assert info["scores"][1].status == status
    assert [score.parts["illegal"] for score in info["scores"]] == [0.0, 1.0]


def test_result_pays_for_draws_where_value_pays_for_what_was_due():
    board = "XOXXOO.X."  # O to move; a draw at best
    for reward, paid in (("value", 1.0), ("result", 0.3)):
        env = TicTacToe(reward=reward, draw=0.3)
        task = type(env.tasks[0])("t", "", info={"board": board, "player": "O", "seed": 0})
        env.reset(options={"task": task})
        assert finish(env, expert)[0] == paid


def test_who_begins_is_drawn_and_the_opponent_then_moves_first():
    env = TicTacToe(start="empty", question="short")
    seen = {env.reset(options={"index": i})[0][0]["content"][-1] for i in range(20)}
    assert seen == {"X", "O"}
    assert empty(env, "O")[0][0]["content"].count("X") == 1


@pytest.mark.parametrize("opponent", ["random", "mixed", "minimax"])
def test_same_task_same_game(opponent):
    def game():
        env = TicTacToe(opponent=opponent, start="empty")
        env.reset(options={"index": 7})
        finish(env, expert)
        return env.messages

    assert game() == game()


def test_mixed_is_random_by_its_share():
    def middles(share):
        env = TicTacToe(start="empty", opponent="mixed", share=share)
        games = [empty(env, "X", seed=seed, board="X........") for seed in range(40)]
        return sum("4 O 6" in seen[0]["content"] for seen, _ in games)

    assert middles(0.0) == 40  # the only good answer to a corner
    assert 0 < middles(1.0) < 15
    assert 15 < middles(0.5) < 35


def test_both_seats_are_played_in_turn_each_with_its_own_view():
    env = TicTacToe(opponent="self", question="short", start="empty")
    seen, info = empty(env)
    assert (seen[0]["content"], info["seat"]) == (".........X", 0)
    seen, reward, *_, info = env.step("5")
    assert (seen[0]["content"], info["seat"]) == ("....X....O", 1)
    assert (reward, info["rewards"]) == (0.0, (0.0, 0.0))


@pytest.mark.parametrize(
    ("cells", "rewards"),
    [("14253", (1.0, -1.0)), ("132547", (-1.0, 1.0)), ("123546879", (0.0, 0.0))],
)
def test_seats_earn_opposite_rewards_and_nothing_for_a_draw(cells, rewards):
    env = TicTacToe(opponent="self", start="empty")
    empty(env)
    reward, info = finish(env, moves(cells))
    assert info["rewards"] == rewards
    assert reward == rewards[(len(cells) - 1) % 2]
    assert info["score"] == info["scores"][(len(cells) - 1) % 2]


def test_two_perfect_players_draw():
    env = TicTacToe(opponent="self", start="empty")
    for index in range(20):
        env.reset(options={"index": index})
        assert finish(env, expert)[1]["rewards"] == (0.0, 0.0)


@pytest.mark.parametrize(
    "options",
    [
        {"opponent": "me"},
        {"opponent": {"train": "self"}, "split": "test"},
        {"start": "later"},
        {"reward": "much"},
        {"question": "long"},
        {"share": 2.0},
        {"draw": -1.0},
    ],
)
def test_unknown_options_are_refused(options):
    with pytest.raises(DataError, match="must be"):
        TicTacToe(**options)


class Wrong(SeatedEnv):
    seats = 2
    max_turns = 4
    tasks = ("a", "b")
    reply = Reply()

    def __init__(self, **answer):
        super().__init__()
        self.answer = answer

    def opening(self, task):
        return [{"role": "user", "content": "?"}]

    def respond(self, action):
        self.seat = self.answer.pop("seat", 1)
        return Reply(info=self.answer)


@pytest.mark.parametrize("answer", [{"seat": 2}, {"rewards": (1.0,)}, {"scores": ()}])
def test_an_author_who_forgets_a_seat_is_told(answer):
    env = Wrong(**answer)
    env.reset(options={"task": TicTacToe().tasks[0]})
    with pytest.raises(DataError, match="seat"):
        env.step("go")
