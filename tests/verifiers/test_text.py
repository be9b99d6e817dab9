import datetime
import decimal

import pytest

from rl_verifiers import Score, VerifierError, make, score_sync


def status(verifier, completion, answer="B"):
    return score_sync(verifier, completion, {"id": 1, "answer": answer}).status


@pytest.mark.parametrize(
    ("options", "completion", "expected"),
    [
        ({}, "  New \n York ", "correct"),
        ({}, "new york", "wrong"),
        ({"case": False}, "new york", "correct"),
        ({"whitespace": True}, "New  York", "wrong"),
        ({"whitespace": True}, "New York", "correct"),
        ({"extract": "answer_tag"}, "I say <answer>New York</answer>", "correct"),
        ({"extract": "answer_tag"}, "New York", "no_answer"),
        ({"extract": "boxed"}, "\\boxed{New York}", "correct"),
        ({}, "", "no_answer"),
    ],
)
def test_exact(options, completion, expected):
    assert status(make("exact", **options), completion, "New York") == expected


def test_exact_compares_composed_characters():
    assert status(make("exact"), "cafe\u0301", "caf\u00e9") == "correct"


@pytest.mark.parametrize("name", ["exact", "choice", "math", "contains", "json"])
def test_a_missing_reference_is_never_the_models_fault(name):
    assert make(name)("B", {"id": 1, "answer": None}).status == "bad_reference"


def test_an_unknown_extraction_lists_the_known_ones():
    with pytest.raises(
        VerifierError, match=r"exact: extract is 'box'.* \(did you mean 'boxed'\?\)"
    ):
        make("exact", extract="box")


@pytest.mark.parametrize(
    "completion",
    ["B", "(B)", "B.", "B. because", "**B**", "Answer: B", "the answer is (B)", "\\boxed{B}",
     "\\boxed{\\text{(B)}}", "<answer>b</answer>", "A fails, so I take B",
     "The answer is for sure B",
     "The answer is B because A and C fail.", "It's not A, therefore I think it's B"],
)  # fmt: skip
def test_choice_finds_the_letter(completion):
    assert status(make("choice"), completion) == "correct"


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("The answer is A", "wrong"),
        ("\\boxed{A and B}", "no_answer"),
        ("The answer is A or B", "no_answer"),
        ("\\boxed{A} or \\boxed{B}", "no_answer"),
        ("I cannot tell.", "no_answer"),
        ("\\boxed{B", "no_answer"),
        ("", "no_answer"),
    ],
)
def test_choice_refuses_other_and_several_letters(completion, expected):
    assert status(make("choice"), completion) == expected


def test_choice_knows_its_options():
    assert status(make("choice", options="ABCD"), "E") == "no_answer"
    assert status(make("choice", options="ABCD"), "A", answer="E") == "bad_reference"
    with pytest.raises(VerifierError, match="options"):
        make("choice", options="AAB")


def test_contains_wants_every_string():
    verifier = make("contains")
    assert status(verifier, "Paris and ROME", ["paris", "Rome"]) == "correct"
    assert status(verifier, "Paris", ["Paris", "Rome"]) == "wrong"
    assert status(verifier, "Paris", []) == "bad_reference"
    assert status(make("contains", case=True), "paris", "Paris") == "wrong"


@pytest.mark.parametrize(
    ("completion", "answer", "expected"),
    [
        ('{"b": 2, "a": 1}', '{"a": 1, "b": 2}', "correct"),
        ('so ```json\n{"a": [1]}\n```', {"a": [1]}, "correct"),
        ('{"a": true}', {"a": 1}, "wrong"),
        ("[1, 2]", [2, 1], "wrong"),
        ("{a: 1}", {"a": 1}, "no_answer"),
        ("[" * 100_000, {"a": 1}, "no_answer"),
        ("{}", "{", "bad_reference"),
    ],
)
def test_json(completion, answer, expected):
    assert status(make("json"), completion, answer) == expected


@pytest.mark.parametrize(
    ("options", "completion", "expected"),
    [
        ({"pattern": r"\d+"}, "a 12 b", "correct"),
        ({"pattern": r"\d+", "full": True}, "a 12 b", "no_answer"),
        ({"pattern": r"x = (\d+)", "group": 1}, "x = 7", "correct"),
        ({"pattern": r"x = (?P<x>\d+)", "group": "x"}, "x = 8", "wrong"),
        ({"pattern": "yes", "ignore_case": True}, "YES", "correct"),
        ({"pattern": r"(a|b)+c*"}, "abc", "correct"),
    ],
)
def test_regex(options, completion, expected):
    assert status(make("regex", **options), completion, "7") == expected


def test_a_pattern_that_backtracks_without_end_is_stopped():
    verifier = make("regex", pattern=r"(a+)+$")
    score = score_sync(verifier, "a" * 40 + "b", {"id": 1})
    assert (score.status, score.passed) == ("over_limit", False)


@pytest.mark.parametrize(
    "options",
    [
        {"pattern": "("},
        {"pattern": "a", "group": 1},
        {"pattern": "(a)", "group": True},
        {"pattern": "a", "group": []},
        {"pattern": 3},
    ],
)
def test_a_bad_pattern_is_refused_at_once(options):
    with pytest.raises(VerifierError, match="regex: pattern"):
        make("regex", **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("exact", {"case": "no"}),
        ("contains", {"case": 0}),
        ("regex", {"pattern": "a", "full": "no"}),
        ("format", {"text_outside": "no"}),
    ],
)
def test_a_flag_is_no_text(name, options):
    with pytest.raises(VerifierError, match=rf"{name}: \w+ is .*; it must be true or false"):
        make(name, **options)


GOOD = "<think>hm</think>\n<answer>1</answer>"


@pytest.mark.parametrize(
    ("completion", "passes"),
    [
        (GOOD, True),
        (f"  {GOOD}\n", True),
        ("<answer>1</answer><think>hm</think>", False),
        ("<think>hm</think>", False),
        (GOOD + GOOD, False),
        ("<think>a<think>b</think></think><answer>1</answer>", False),
        ("<think> </think><answer>1</answer>", False),
        (f"well {GOOD}", False),
        (f"{GOOD} done", False),
        ("", False),
        ("<think>" * 100_000, False),
    ],
)
def test_format(completion, passes):
    assert make("format")(completion, {}).passed is passes


def test_format_may_allow_text_outside():
    assert make("format", text_outside=True)(f"well {GOOD}", {}) == Score.correct()


@pytest.mark.parametrize("tags", [[], "think", ["<think>"], [""], 5, [1]])
def test_format_wants_plain_tag_names(tags):
    with pytest.raises(VerifierError, match="tags must be"):
        make("format", tags=tags)


@pytest.mark.parametrize(
    "answer", [decimal.Decimal(1), datetime.date(2024, 1, 1), b"x", {1}, {"a": {2}}]
)
def test_an_answer_that_json_cannot_write_is_the_rows_fault(answer):
    assert make("json")("[1]", {"id": 1, "answer": answer}).status == "bad_reference"


def test_an_answer_nested_without_end_is_the_rows_fault():
    deep = []
    for _ in range(3_000):
        deep = [deep]
    for name in ("json", "choice", "exact"):
        assert make(name)("[1]", {"id": 1, "answer": deep}).status == "bad_reference"
