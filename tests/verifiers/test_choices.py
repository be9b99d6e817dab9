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


LISTS = [
    "B or A or C or D", "B, A, C, D", "The answer is B or A.", "\\boxed{B or C}", "B/A/C",
    "<answer>B, A, C, D</answer>", "B. C. D. A.", "(B) (A) (C)", "The answer is B. A. C. D.",
    "B. Rome\nA. Paris\nC. Oslo", "A. Paris\nB. Rome\nC. Oslo\nD. Bern", "\\boxed{B. C. D.}",
    "A. Paris B. Rome C. Oslo D. Bern", "(B) Rome or (C) Oslo", "The options:\nA. Paris\nB. Rome",
]  # fmt: skip


@pytest.mark.parametrize("completion", LISTS)
def test_a_list_of_options_is_no_answer(completion):
    for label in "ABCD":
        for columns in ({}, {"options": CITIES}):
            assert make("choice")(completion, {"answer": label, **columns}).status == "no_answer"


@pytest.mark.parametrize(
    "completion",
    [
        "A. Paris\nB. Rome\nC. Oslo\nD. Bern\n\nSo B.",
        "A. Paris\nB. Rome\nSo the answer is B",
        "(B) is right as (A) and (C) fail",
        "I pick B: A and C are wrong.",
        "B\nA is wrong",
        "Let me take B. A is wrong",
        "B. Both A and C",
        "The answer is B.\n\nA. Paris lies in France",
    ],
)
def test_what_is_said_of_other_options_decides_nothing(completion):
    for columns in ({}, {"options": CITIES}):
        assert make("choice")(completion, {"answer": "B", **columns}).answer == "B"


@pytest.mark.parametrize(
    ("completion", "row", "status"),
    [
        ("The answer is (K) (A)", {"answer": "K", "options": MANY}, "no_answer"),
        ("The answer is K or A", {"answer": "A", "options": MANY}, "no_answer"),
        ("It is not A, so L", {"answer": "L", "options": MANY}, "correct"),
        ("The answer is 1 or 2", {"answer": "1", "choices": ARC}, "no_answer"),
        ("(1) (2) (3)", {"answer": "1", "choices": ARC}, "no_answer"),
        ("1. red\n2. blue\n3. green", {"answer": "1", "choices": ARC}, "no_answer"),
        ("1. red", {"answer": "1", "choices": ARC}, "correct"),
    ],
)
def test_labels_beyond_ten_and_numbers_are_counted_too(completion, row, status):
    assert make("choice")(completion, row).status == status


def test_space_without_end_is_read_in_linear_time():
    assert make("choice")("B" + " " * 999_000 + "x C", {"answer": "C"}).status == "correct"
