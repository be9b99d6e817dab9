"""Wordle: marks with double letters, the solver, what a guess costs and earns."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_envs import DataError
from rl_envs.text.wordle import Wordle
from rl_envs.text.wordle_rules import MARKS, Solver, marks

WORDS = ["crane", "crate", "slate", "spare", "geese", "eerie", "abide", "crepe"]


def start(secret, **options):
    env = Wordle(**{"words": WORDS, **options})
    task = env.tasks[0]
    return env, env.reset(options={"task": type(task)(secret, "", answer=secret)})[0]


def play(env, act):
    total = 0.0
    while True:
        _, reward, terminated, truncated, info = env.step(act(env))
        total += reward
        if terminated or truncated:
            return total, info


@pytest.mark.parametrize(
    ("guess", "secret", "seen"),
    [
        ("crane", "crane", "GGGGG"),
        ("eerie", "crepe", "YXYXG"),  # two e in the secret: the third is X
        ("geese", "crepe", "XXGXG"),  # both in place, none left for the first
        ("speed", "abide", "XXYXY"),  # one e: only the first is Y
        ("allee", "apple", "GYXXG"),
        ("aabbb", "baaaa", "YGYXX"),
    ],
)
def test_marks_with_double_letters(guess, secret, seen):
    assert marks(guess, secret) == seen


@given(st.text("ab", min_size=4, max_size=4), st.text("ab", min_size=4, max_size=4))
def test_marks_agree_with_counting(guess, secret):
    seen = marks(guess, secret)
    assert [m == "G" for m in seen] == [a == b for a, b in zip(guess, secret, strict=True)]
    hits = Counter(letter for letter, mark in zip(guess, seen, strict=True) if mark != "X")
    assert hits == Counter(guess) & Counter(secret)


def test_the_solver_reads_marks_as_the_game_writes_them():
    rng = random.Random(0)
    solver = Solver(Wordle().words)
    for _ in range(300):
        i, j = rng.randrange(len(solver.words)), rng.randrange(len(solver.words))
        seen = marks(solver.words[i], solver.words[j])
        number = sum(MARKS.index(mark) * 3**place for place, mark in enumerate(seen))
        assert solver._patterns(i)[j] == number


def test_oracle_solves_200_of_200_and_random_words_hardly_any():
    env, rng = Wordle(), np.random.default_rng(0)
    good, chance = [], []
    for index in range(200):
        env.reset(options={"index": index})
        good.append(play(env, lambda e: e.expert(rng))[0])
        env.reset(options={"index": index})
        chance.append(play(env, lambda e: f"[{rng.choice(e.words)}]")[0])
    assert good == [1.0] * 200
    assert np.mean(chance) < 0.05


def test_oracle_solves_every_word_in_six():
    env = Wordle()
    for word in env.words:
        env.reset(options={"task": type(env.tasks[0])(word, "", answer=word)})
        assert play(env, lambda e: e.expert(None))[0] == 1.0


def test_a_demonstration_plays_the_marks_and_not_its_first_guess_again():
    env = Wordle()
    env.reset(options={"index": 0})
    assert play(env, lambda e: e.demonstrate("guess", None))[0] == 1.0
    guesses = [guess for guess, _ in env.history]
    assert len(set(guesses)) == len(guesses) > 1


def test_secrets_of_the_splits_are_disjoint_and_make_the_list():
    train, test = ({task.answer for task in Wordle(split=s).tasks} for s in ("train", "test"))
    assert not train & test
    assert train | test == set(Wordle().words)


@pytest.mark.parametrize("text", ["[slate]", "SLATE", "no [crane], yes [Slate] [", " slate\n"])
def test_a_guess_is_the_last_brackets_or_the_bare_word(text):
    env, _ = start("crane", question="short")
    seen, *_ = env.step(text)
    assert seen[0]["content"] == "XXGXG"


@pytest.mark.parametrize("text", ["[xxxxx]", "slate crane", "[slate] or []", "[slat]"])
def test_an_unknown_word_is_answered_counted_and_costs_a_guess(text):
    env, _ = start("crane", question="short", guesses=2)
    seen, reward, terminated, _, info = env.step(text)
    assert (seen[0]["content"], reward, terminated, info["unknown_action"]) == (
        "!",
        0.0,
        False,
        True,
    )
    *_, terminated, truncated, info = env.step(text)
    assert (terminated, truncated, info["score"].status) == (True, False, "no_answer")
    assert info["score"].parts == {"guesses": 2.0, "invalid": 2.0}


def test_words_explain_themselves():
    env, opening = start("crane", guesses=3)
    assert "5 letters; you have 3 guesses" in opening[0]["content"]
    assert env.step("[slate]")[0][0]["content"] == "S L A T E\nX X G X G\n2 guesses left."
    assert "no word of 5 letters" in env.step("[zzzzz]")[0][0]["content"]
    *_, info = env.step("[crepe]")
    assert info["score"].reason == "the word was crane"


def test_shaping_pays_new_letters_in_place_and_one_in_all():
    env, _ = start("crane", shaping=0.5)
    paid = [env.step(f"[{word}]")[1] for word in ("slate", "geese", "crate", "slate", "crane")]
    assert paid == pytest.approx([0.2, 0.0, 0.2, 0.0, 0.6])
    env, _ = start("crane", shaping=0.5, guesses=2)
    assert [env.step(f"[{word}]")[1] for word in ("slate", "crate")] == pytest.approx([0.2, 0.2])


def test_a_word_list_comes_from_a_file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("abc\nABD\nabe\n")
    assert Wordle(words=path).words == ("abc", "abd", "abe")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": ["abc"]}, "at least two"),
        ({"words": ["abc", "abcd"]}, "'abcd' does not fit"),
        ({"words": ["abc", "a c"]}, "'a c' does not fit"),
        ({"words": "nowhere.txt"}, "cannot read"),
        ({"shaping": 1.5}, "within 0..1"),
        ({"question": "long"}, "must be"),
    ],
)
def test_unusable_options_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        Wordle(**options)
