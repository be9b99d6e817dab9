import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_verifiers import Score, VerifierError, length_penalty, make, score_sync, soft_overlong


@pytest.mark.parametrize(
    ("n", "punishment"),
    [(0, 0), (16384, 0), (16385, -1 / 4096), (18432, -0.5), (20480, -1), (20481, -1), (10**9, -1)],
)
def test_soft_overlong_is_equation_13_with_the_papers_lengths(n, punishment):
    assert soft_overlong(n, 20480, 4096) == punishment


@given(st.integers(0, 300), st.integers(0, 100), st.integers(0, 100))
def test_soft_overlong_falls_from_0_to_minus_1(n, ramp, flat):
    value = soft_overlong(n, flat + ramp, ramp)
    assert -1 <= soft_overlong(n + 1, flat + ramp, ramp) <= value <= 0


@pytest.mark.parametrize(("max_length", "buffer"), [(10, 11), (10, -1)])
def test_lengths_that_contradict_each_other_are_refused(max_length, buffer):
    with pytest.raises(ValueError, match="0 <= buffer <= max_length"):
        soft_overlong(1, max_length, buffer)
    with pytest.raises(VerifierError, match="0 <= buffer <= max_length"):
        length_penalty(make("exact"), max_length=max_length, buffer=buffer)


def always(completion, row):
    return 1.0


@pytest.mark.parametrize(
    ("unit", "completion", "row", "value"),
    [
        ("characters", "a" * 8, {}, 0.5),
        ("words", "one two three four five six seven eight", {}, 0.5),
        ("tokens", "long long text", {"n_tokens": 8}, 0.5),
        ("characters", "a" * 6, {}, 1.0),
        ("characters", "a" * 11, {}, 0.0),
    ],
)
def test_length_penalty_is_added_and_visible(unit, completion, row, value):
    verifier = length_penalty(always, max_length=10, buffer=4, unit=unit)
    score = score_sync(verifier, completion, row)
    assert score == Score(
        value, True, "correct", parts={"score": 1.0, "length_penalty": value - 1.0}
    )


def test_tokens_must_be_counted_by_the_caller():
    verifier = length_penalty(always, max_length=10, buffer=4, unit="tokens")
    with pytest.raises(VerifierError, match=r"row 'r7': length in tokens needs .* n_tokens"):
        score_sync(verifier, "text", {"id": "r7"})


def test_an_unknown_unit_is_refused():
    with pytest.raises(VerifierError, match="length: unit is 'bytes'; it must be one of"):
        length_penalty(always, max_length=10, buffer=4, unit="bytes")


@pytest.mark.parametrize(
    "bad", [{"max_length": "9"}, {"max_length": float("nan")}, {"buffer": None}]
)
def test_lengths_must_be_numbers(bad):
    with pytest.raises(VerifierError, match=rf"length: {next(iter(bad))} is"):
        make("length", **{"max_length": 9, **bad})


def test_an_error_passes_through_a_length_penalty():
    verifier = length_penalty(lambda c, r: Score.failed("judge down"), max_length=1, buffer=0)
    assert score_sync(verifier, "long text", {}).error == "judge down"


@pytest.mark.parametrize(
    ("n", "value", "passed"), [(6, 1.0, True), (8, 0.5, False), (11, 0, False)]
)
def test_length_as_a_reward(n, value, passed):
    score = make("length", max_length=10, buffer=4)("a" * n, {})
    assert (score.value, score.passed) == (value, passed)
