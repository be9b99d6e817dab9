import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_envs.words import chosen

WORDS = ("left", "right", "up", "get up")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("left", "left"),
        (" Left.\n", "left"),
        ("Not left but RIGHT!", "right"),
        ("\\boxed{left}", "left"),
        ("**up**", "up"),
        ("I get up", "get up"),
    ],
)
def test_the_word_at_the_end_is_chosen(text, word):
    assert WORDS[chosen(text, WORDS)] == word


@pytest.mark.parametrize("text", ["", "cleft", "left or", "leftwards", "...", "x" * 10_000, "\x00"])
def test_no_word_at_the_end_is_no_choice(text):
    assert chosen(text, WORDS) is None


@given(st.text(st.characters()), st.sampled_from(WORDS[:2]))
def test_what_stands_before_does_not_matter(text, word):
    assert WORDS[chosen(f"{text} {word}", WORDS)] == word
