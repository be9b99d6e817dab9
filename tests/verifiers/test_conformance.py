import json

import pytest

from rl_verifiers import Score, VerifierError, check_verifier, make, names

ANSWERS = {
    "choice": ["A", "B", "C"],
    "code": [
        [{"stdin": "7\n", "expected_stdout": "14\n"}],
        [{"stdin": "7\n", "expected_stdout": "49\n"}],
    ],
    "contains": ["Paris", ["Rome", "Milan"], "Oslo"],
    "exact": ["Paris", "Rome", "Oslo"],
    "json": ['{"a": 1}', "[1, 2]", '{"a": [true]}'],
    "math": ["42", "\\frac{\\sqrt{2}}{2}", "(1, 2)", "x^2-1", "[0, \\infty)"],
    "regex": ["1", "2", "3"],
}
OPTIONS = {
    "regex": {"pattern": r"^(?:value=)(\d+)+$", "group": 1},
    "length": {"max_length": 100, "buffer": 20},
}
GOLD = {
    "choice": lambda row: f"The answer is ({row['answer']}).",
    "code": lambda row: f"```python\nprint({row['answer'][0]['expected_stdout'].strip()})\n```",
    "contains": lambda row: json.dumps(row["answer"]),
    "format": lambda row: "<think>hm</think><answer>1</answer>",
    "length": lambda row: "short",
    "math": lambda row: f"So it is \\boxed{{{row['answer']}}}.",
    "regex": lambda row: f"value={row['answer']}",
}


def rows_of(name):
    answers = ANSWERS.get(name, ["-", "-"])
    return [
        {"id": f"{name}-{i}", "prompt": f"Question {name}?", "answer": answer}
        for i, answer in enumerate(answers)
    ]


@pytest.mark.parametrize("name", [name for name in names() if not name.startswith("test-")])
def test_every_registered_verifier_keeps_the_contract(name):
    check_verifier(
        make(name, **OPTIONS.get(name, {})),
        rows_of(name),
        gold=GOLD.get(name, lambda row: row["answer"]),
        others_fail=name in ANSWERS,
        rejects_garbage=name != "length",
    )


def check(verifier):
    check_verifier(verifier, rows_of("exact"), gold=lambda row: row["answer"])


def test_a_verifier_that_passes_everything_is_found_out():
    with pytest.raises(VerifierError, match=r"empty: should have failed(.|\n)*answer to row"):
        check(lambda completion, row: 1.0)


def test_a_verifier_that_passes_nothing_is_found_out():
    with pytest.raises(VerifierError, match="gold: should have passed, got wrong"):
        check(lambda completion, row: 0.0)


def test_a_verifier_that_raises_is_found_out():
    with pytest.raises(VerifierError, match=r"raised or failed: .*IndexError"):
        check(lambda completion, row: float(completion[0] == row["answer"][0]))


def test_a_verifier_that_returns_nan_is_found_out():
    with pytest.raises(VerifierError, match=r"contract broken: .*nan"):
        check(lambda completion, row: float("nan"))


def test_an_unusable_answer_is_found_out():
    with pytest.raises(VerifierError, match="the row's answer is unusable"):
        check(lambda completion, row: Score.wrong(status="bad_reference"))
