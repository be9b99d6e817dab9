import json
from pathlib import Path

import pytest

from rl_verifiers import Score, VerifierError, check_verifier, make, names

FOREIGN = Path(__file__).with_name("foreign_rewards.py")
# Those that need a server or a model (test_remote.py, test_judge.py, test_reward_verifier.py), and
# what tests register.
ELSEWHERE = ("judge", "remote", "reward_model", "test-")
ANSWERS = {
    "choice": ["A", "B", "C"],
    "code": [
        [{"stdin": "7\n", "expected_stdout": "14\n"}],
        [{"stdin": "7\n", "expected_stdout": "49\n"}],
    ],
    "contains": ["Paris", ["Rome", "Milan"], "Oslo"],
    "exact": ["Paris", "Rome", "Oslo"],
    "f1": ["Paris, on the Seine", "Rome", "Oslo"],
    "fuzzy": ["Paris, on the Seine", "Rome", "Oslo"],
    "instructions": [
        {"instruction_id": ["keywords:existence"], "kwargs": [{"keywords": [word]}]}
        for word in ("Paris", "Rome")
    ],
    "json": ['{"a": 1}', "[1, 2]", '{"a": [true]}'],
    "json_schema": ['{"a": 1}', "[1, 2]", '{"a": [true]}'],
    "math": ["42", "\\frac{\\sqrt{2}}{2}", "(1, 2)", "x^2-1", "[0, \\infty)"],
    "quotes": ["Cubs are born in the spring.", "Foxes are known to eat mice and berries."],
    "regex": ["1", "2", "3"],
    "rouge": ["Paris lies on the Seine", "Rome is in Italy", "Oslo"],
    "sql": ["SELECT n FROM t WHERE n > 1", "SELECT count(*) FROM t", "SELECT s FROM t ORDER BY n"],
    "tool_call": [[{"name": name, "arguments": {"x": name}}] for name in ("f", "g")],
    "trl": ["Paris", "Rome"],
    "verl": ["Paris", "Rome"],
}
# These pass on the answer with others around it, by what they measure.
LOOK_FOR_THE_ANSWER = ("contains", "instructions", "rouge")
OPTIONS = {
    "regex": {"pattern": r"^(?:value=)(\d+)+$", "group": 1},
    "language": {"language": "ja"},
    "length": {"max_length": 100, "buffer": 20},
    "trl": {"target": f"{FOREIGN}:exact"},
    "verl": {"target": f"{FOREIGN}:compute_score"},
}
COLUMNS = {
    "json_schema": lambda answer: {"schema": {"const": json.loads(answer)}},
    "quotes": lambda answer: {"sources": [{"id": "a", "text": f"It is known. {answer} So it is."}]},
    "sql": lambda answer: {
        "schema": "CREATE TABLE t (n INT, s TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, '')"
    },
}
GOLD = {
    "choice": lambda row: f"The answer is ({row['answer']}).",
    "code": lambda row: f"```python\nprint({row['answer'][0]['expected_stdout'].strip()})\n```",
    "contains": lambda row: json.dumps(row["answer"]),
    "format": lambda row: "<think>hm</think><answer>1</answer>",
    "instructions": lambda row: f"It is {row['answer']['kwargs'][0]['keywords'][0]}.",
    "language": lambda row: "答えは四です。",
    "length": lambda row: "short",
    "math": lambda row: f"So it is \\boxed{{{row['answer']}}}.",
    "quotes": lambda row: f'<quote source="a">{row["answer"]}</quote>',
    "regex": lambda row: f"value={row['answer']}",
    "repetition": lambda row: "short",
    "steps": lambda row: "First 2 + 2 = 4.\n\nThen 4 * 3 = 12.",
    "tool_call": lambda row: json.dumps(row["answer"]),
}


def rows_of(name):
    answers = ANSWERS.get(name, ["-", "-"])
    columns = COLUMNS.get(name, lambda answer: {})
    return [
        {"id": f"{name}-{i}", "prompt": f"Question {name}?", "answer": answer, **columns(answer)}
        for i, answer in enumerate(answers)
    ]


@pytest.mark.parametrize("name", [n for n in names() if not n.startswith(ELSEWHERE)])
def test_every_registered_verifier_keeps_the_contract(name):
    check_verifier(
        make(name, **OPTIONS.get(name, {})),
        rows_of(name),
        gold=GOLD.get(name, lambda row: row["answer"]),
        others_fail=name in ANSWERS,
        rejects_garbage=name not in ("length", "repetition"),
        joined_fails=name not in LOOK_FOR_THE_ANSWER,
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


def test_a_verifier_that_the_answers_of_all_rows_satisfy_is_found_out():
    with pytest.raises(VerifierError, match="the answers to all rows: should have failed"):
        check(lambda completion, row: float(completion.startswith(row["answer"])))


def test_a_failure_that_pays_as_much_as_a_pass_is_found_out():
    def check_paying(value):
        check(
            lambda completion, row: (
                Score.correct() if completion == row["answer"] else Score(value, False, "wrong")
            )
        )

    check_paying(0.9)
    with pytest.raises(VerifierError, match="empty: failed with value 1, which is not below the 1"):
        check_paying(1.0)


def test_an_unusable_answer_is_found_out():
    with pytest.raises(VerifierError, match="the row's answer is unusable"):
        check(lambda completion, row: Score.wrong(status="bad_reference"))
