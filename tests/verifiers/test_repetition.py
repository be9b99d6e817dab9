import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_verifiers import VerifierError, make
from rl_verifiers.repetition import LOOP_TAIL, loop_at_end, ngram_repetition


@pytest.mark.parametrize(
    ("text", "n", "share"),
    [
        ("a b c d", 3, 0.0),
        ("a b", 3, 0.0),
        ("", 3, 0.0),
        ("a b a b a b", 2, 1 - 2 / 5),
        ("The cat the CAT the cat", 2, 1 - 2 / 5),
        ("x " * 10, 1, 0.9),
    ],
)
def test_the_share_of_repeated_ngrams(text, n, share):
    assert ngram_repetition(text, n) == pytest.approx(share)


def test_text_without_spaces_is_counted_by_characters():
    assert ngram_repetition("苹果苹果 苹果", 2) == 0.0
    assert ngram_repetition("苹果苹果 苹果", 2, unit="characters") == pytest.approx(1 - 2 / 5)


def naive_loop(text):
    for length in range(len(text), 199, -1):
        end = text[-length:]
        for period in range(1, length // 4 + 1):
            if all(a == b for a, b in zip(end, end[period:], strict=False)):
                return length, period
    return 0, 0


@given(st.text("abc", max_size=30), st.text("ab", min_size=1, max_size=20), st.integers(0, 40))
def test_the_loop_at_the_end_is_the_longest_one(before, piece, times):
    text = before + piece * times + piece[: len(piece) // 2]
    assert loop_at_end(text) == naive_loop(text)


def test_a_loop_may_be_longer_than_the_tail_that_is_searched():
    assert loop_at_end("start " + "abc " * LOOP_TAIL) == (4 * LOOP_TAIL + 1, 4)


def test_the_value_is_minus_the_larger_share_and_the_parts_say_which():
    score = make("repetition", max_penalty=2.0)("ab ab ab ab", {})
    assert (score.value, score.passed) == (-1.0, True)
    assert (score.parts["ngrams"], score.parts["loop"]) == (0.5, 0.0)
    looping = make("repetition")("Fine. " + "I will stop. " * 30, {})
    assert looping.status == "wrong"
    assert looping.reason.endswith("ends in a loop: 13 characters over and over for 392")
    assert looping.value == pytest.approx(-392 / 396)


def test_no_repetition_costs_nothing():
    score = make("repetition")("every word here is different", {})
    assert (str(score.value), score.status) == ("0.0", "correct")


@given(st.lists(st.sampled_from("ab 苹\ud800"), max_size=60).map("".join), st.integers(1, 5))
def test_ngrams_are_counted_as_tuples_are(text, n):
    for unit, units in (("words", text.split()), ("characters", "".join(text.split()))):
        ngrams = [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
        share = 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0
        assert ngram_repetition(text, n, unit=unit) == pytest.approx(share)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("n", 0), ("n", True), ("n", 101), ("n", "3"), ("max_penalty", -1.0), ("max_penalty", "1"),
        ("max_penalty", float("nan")), ("max_share", 2), ("max_share", None), ("unit", "tokens"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(option, value):
    with pytest.raises(VerifierError, match=f"repetition: {option} is "):
        make("repetition", **{option: value})
    with pytest.raises(VerifierError, match="did you mean 'words'"):
        make("repetition", unit="word")
