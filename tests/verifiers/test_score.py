import pytest

from rl_verifiers import STATUSES, Score, VerifierError


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_is_finite(value):
    with pytest.raises(VerifierError, match="score value is"):
        Score(value, False, "wrong")
    with pytest.raises(VerifierError, match="score style is"):
        Score(0.0, False, "wrong", parts={"style": value})


@pytest.mark.parametrize("status", STATUSES)
def test_only_an_error_carries_an_error(status):
    error = "down" if status != "error" else None
    with pytest.raises(VerifierError, match="if and only if"):
        Score(0.0, False, status, error=error)


def test_a_failure_is_an_error_and_a_wrong_answer_is_not():
    assert Score.failed("down").is_error
    assert not Score.wrong("no").is_error
