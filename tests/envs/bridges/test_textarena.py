"""Games of TextArena; skipped where the package is absent, but for what needs no game."""

import copy
import pickle
import random
import sys

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import rl_envs
from rl_envs import DataError

ID = "text/TextArena-v0"


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "textarena", None)
    with pytest.raises(DataError, match=r"pip install 'agent-rl\[textarena\]'"):
        rl_envs.make(ID).reset(seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opponent": "minimax"}, "opponent is 'minimax'"),
        ({"opponent": []}, "opponent is an empty list"),
        ({"player": "first"}, "player is 'first'"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(DataError, match=message):
        rl_envs.make(ID, **options)


@pytest.fixture
def real():
    return pytest.importorskip("textarena", reason="textarena is not installed")


def play(env, moves, seed=0):
    record = [env.reset(seed=seed)]
    for move in moves:
        record.append(env.step(move))
        if env.done:
            break
    return record


def test_a_number_is_found(real):
    env = rl_envs.make(ID, game="GuessTheNumber-v0")
    check_env(env)
    env.reset(seed=1)
    low, high, over = 1, 20, False
    while not over:
        guess = (low + high) // 2
        seen, reward, terminated, truncated, info = env.step(f"[{guess}]")
        over = terminated or truncated
        low, high = (
            (guess + 1, high) if not over and "higher" in seen[0]["content"] else (low, guess)
        )
    assert (reward, terminated, info["score"].passed) == (1.0, True, True)


def test_two_players_of_which_one_is_ours(real):
    env = rl_envs.make(ID, game="TicTacToe-v0", player=0, opponent=["[3]", "[4]", "[5]"])
    *_, last = play(env, ["[0]", "[1]", "[2]"])
    assert last[1:4] == (1.0, True, False)
    *_, last = play(env, ["0", "1", "8"])
    assert last[1:4] == (-1.0, True, False)


def test_a_random_opponent_makes_valid_moves(real):
    env = rl_envs.make(ID, game="TicTacToe-v0")
    ends = [play(env, [f"[{n}]" for n in range(9)] * 3, seed=seed)[-1] for seed in range(20)]
    assert {told[1] for told in ends} <= {-1.0, 0.0, 1.0}
    assert not any("Invalid" in told[4]["score"].reason for told in ends if told[1] > 0)


def test_nobody_puts_moves_into_a_random_opponents_mouth(real):
    def answers(words):
        env = rl_envs.make(ID, game="ConnectFour-v0", player=0)
        return [play(env, [words], seed=seed)[-1][0] for seed in range(8)]

    assert answers("[col 0]") == answers("I fear neither [col 6] nor [col 5]. [col 0]")


def test_same_seed_same_game_whatever_happens_outside(real):
    moves = [f"[{n}]" for n in (4, 0, 8, 2, 6, 1, 3, 5, 7)]
    env = rl_envs.make(ID, game="TicTacToe-v0")
    first = play(env, moves, seed=7)
    random.seed(5)
    state = random.getstate()
    other = rl_envs.make(ID, game="TicTacToe-v0")
    other.reset(seed=9)
    assert play(env.clone(), moves, seed=7) == first
    assert random.getstate() == state
    assert other.step("[4]")[4]["turn"] == 1


def test_a_copy_goes_on_alike(real):
    env = rl_envs.make(ID, game="TicTacToe-v0")
    env.reset(seed=5)
    twins = copy.deepcopy(env), pickle.loads(pickle.dumps(env))
    told = env.step("[4]")
    assert all(twin.step("[4]") == told for twin in twins)


@pytest.mark.parametrize("text", ["", "9" * 100_000, "[" * 3000, "[\ud800]", "[١]", "[1e999]"])
@pytest.mark.parametrize("game", ["TicTacToe-v0", "GuessTheNumber-v0", "Bandit-v0"])
def test_hostile_moves_never_raise_and_never_win(real, game, text):
    env = rl_envs.make(ID, game=game, player=0)
    *_, last = play(env, [text] * 4)
    assert last[1] < 1.0
    assert last[4]["score"] is None or not last[4]["score"].passed


def test_what_it_does_not_have_is_said(real):
    with pytest.raises(DataError, match="did you mean TicTacToe-v0"):
        rl_envs.make(ID, game="TicTacTo-v0").reset(seed=0)
    with pytest.raises(DataError, match="has seats 0 to 1"):
        rl_envs.make(ID, player=2).reset(seed=0)
    with pytest.raises(DataError, match="cannot be made with"):
        rl_envs.make(ID, game_options={"size": 3}).reset(seed=0)


def test_the_opponent_sees_the_game(real):
    seen = []

    def last_field(text, rng: np.random.Generator):
        seen.append(text)
        return "[8]"

    env = rl_envs.make(ID, game="TicTacToe-v0", player=0, opponent=last_field)
    play(env, ["[0]"])
    assert "[0]" in seen[0]
