import pytest

from rl_verifiers import make

CITIES = ["Paris", "Rome", "Oslo", "Bern"]
ARC = {"text": ["red", "blue", "green"], "label": ["1", "2", "3"]}
MANY = [f"city {number}" for number in range(14)]


@pytest.mark.parametrize(
    ("row", "completion", "status"),
    [
        ({"answer": 2}, "The answer is C.", "correct"),
        ({"answer": 0}, "B", "wrong"),
        ({"answer": 10}, "A", "bad_reference"),
        ({"answer": "2"}, "C", "bad_reference"),
        ({"answer": True}, "B", "bad_reference"),
        ({"answer": 2, "choices": CITIES}, "(C)", "correct"),
        ({"answer": 4, "choices": CITIES}, "(C)", "bad_reference"),
        ({"answer": "C", "choices": CITIES}, "The answer is Oslo.", "correct"),
        ({"answer": "Oslo", "choices": CITIES}, "\\boxed{\\text{C}}", "correct"),
        ({"answer": "Oslo", "choices": CITIES}, "<answer>rome</answer>", "wrong"),
        ({"answer": "C", "choices": CITIES}, "oslo", "correct"),
        ({"answer": "C", "choices": CITIES}, "Paris, Rome, Oslo or Bern", "no_answer"),
        ({"answer": "C", "choices": CITIES}, "The answer is Rome or Oslo", "no_answer"),
        ({"answer": "C", "options": dict(zip("ABCD", CITIES, strict=True))}, "Oslo", "correct"),
        ({"answer": "3", "choices": ARC}, "The answer is 3", "correct"),
        ({"answer": "3", "choices": ARC}, "The answer is green.", "correct"),
        ({"answer": "3", "choices": ARC}, "The answer is 2", "wrong"),
        ({"answer": "L", "options": MANY}, "The answer is (L).", "correct"),
        ({"answer": "L", "options": MANY}, "The answer is K: city 10", "wrong"),
        ({"answer": 11, "options": MANY}, "\\boxed{L}", "correct"),
        ({"answer": "B", "options": ["1", "2", "3"]}, "It is not 3. The answer is 2", "correct"),
        ({"answer": "B", "options": ["1", "2", "3"]}, "Option B, because 3 is odd", "correct"),
    ],
)
def test_options_of_the_row(row, completion, status):
    score = make("choice")(completion, {"id": 1, **row})
    assert score.status == status


def test_the_label_is_the_answer_of_the_score():
    row = {"answer": "Oslo", "choices": CITIES}
    assert make("choice")("The answer is Rome.", row).answer == "B"
