import asyncio

import pytest

from rl_verifiers import (
    Score,
    VerifierError,
    all_of,
    any_of,
    gate,
    make,
    score_group,
    score_sync,
    shortest_correct_bonus,
    weighted,
)


def fixed(score):
    return lambda completion, row: score


YES, NO, HALF = fixed(1.0), fixed(0.0), fixed(0.5)
DOWN = fixed(Score.failed("judge down"))


def score_of(verifier, completion="x"):
    return score_sync(verifier, completion, {"id": 1})


def test_weighted_is_the_weighted_sum_with_its_parts():
    score = score_of(weighted({"right": (YES, 0.8), "format": (HALF, 0.2)}))
    assert score.value == pytest.approx(0.9)
    assert score.parts == {"right": 1.0, "format": 0.5}
    assert (score.passed, score.status) == (False, "wrong")


def test_a_part_with_a_negative_weight_need_not_pass():
    score = score_of(weighted({"right": (YES, 1.0), "rude": (HALF, -1.0)}))
    assert (score.value, score.passed) == (0.5, True)


@pytest.mark.parametrize(
    ("combine", "parts", "value", "passed"),
    [
        (all_of, {"a": YES, "b": YES}, 1.0, True),
        (all_of, {"a": YES, "b": HALF}, 0.5, False),
        (any_of, {"a": NO, "b": YES}, 1.0, True),
        (any_of, {"a": NO, "b": HALF}, 0.5, False),
    ],
)
def test_all_of_and_any_of(combine, parts, value, passed):
    score = score_of(combine(parts))
    assert (score.value, score.passed) == (value, passed)
    assert set(score.parts) == {"a", "b"}


def test_the_status_of_a_failed_part_is_kept():
    parts = {"a": YES, "b": fixed(Score.wrong("nothing", status="no_answer"))}
    score = score_of(all_of(parts))
    assert (score.status, score.reason) == ("no_answer", "b: nothing")


@pytest.mark.parametrize(
    "combined",
    [
        weighted({"a": (YES, 1.0), "b": (DOWN, 0.0)}),
        all_of({"a": NO, "b": DOWN}),
        any_of({"a": YES, "b": DOWN}),
        gate(DOWN, YES),
        gate(YES, DOWN),
        all_of({"a": YES, "b": weighted({"c": (DOWN, 1.0)})}),
    ],
)
def test_an_error_in_any_part_is_an_error_of_the_whole(combined):
    score = score_of(combined)
    assert score.is_error
    assert "judge down" in score.error


def test_a_gate_asks_the_second_only_after_the_first():
    asked = []
    second = lambda completion, row: asked.append(completion) or 1.0  # noqa: E731
    score = score_of(gate(fixed(Score.wrong("no tags", value=0.3)), second))
    assert (score.value, score.reason, asked) == (0.0, "no tags", [])
    assert score_of(gate(YES, second)).parts == {"condition": 1.0, "then": 1.0}


def test_parts_of_parts_are_named_by_their_path():
    inner = weighted({"x": (YES, 1.0)})
    assert score_of(all_of({"a": inner})).parts == {"a": 1.0, "a.x": 1.0}


def test_async_parts_are_awaited():
    async def judge(completion, row):
        await asyncio.sleep(0)
        return 0.25

    assert score_of(weighted({"judge": (judge, 2.0)})).value == 0.5


@pytest.mark.parametrize("parts", [{}, {"": YES}, {"a.b": YES}])
def test_parts_need_plain_names(parts):
    with pytest.raises(VerifierError):
        all_of(parts)


def test_a_weight_is_a_finite_number():
    with pytest.raises(VerifierError, match="weight of 'a' is nan"):
        weighted({"a": (YES, float("nan"))})


ROWS = [{"id": 1, "answer": "7"}] * 4


def test_the_shortest_correct_completion_gets_the_bonus():
    verifier = shortest_correct_bonus(make("math"), bonus=0.1)
    texts = ["\\boxed{7}", "so, \\boxed{7}", "well so, \\boxed{7}", "\\boxed8"]
    scores = asyncio.run(score_group(verifier, texts, ROWS))
    assert [score.value for score in scores] == pytest.approx([1.1, 1.0 + 0.1 * 5 / 9, 1.0, 0.0])
    assert [score.passed for score in scores] == [True, True, True, False]


@pytest.mark.parametrize(("texts", "value"), [(["7"] * 4, 1.0), (["8"] * 4, 0.0)])
def test_without_a_difference_in_length_there_is_no_bonus(texts, value):
    scores = asyncio.run(score_group(shortest_correct_bonus(make("math")), texts, ROWS))
    assert [score.value for score in scores] == [value] * 4


def test_a_group_verifier_must_score_each_completion():
    with pytest.raises(VerifierError, match="returned 1 results for 2 completions"):
        asyncio.run(score_group(lambda c, r: [Score.correct()], ["a", "b"], ROWS[:2]))


def test_a_group_verifier_may_return_plain_numbers():
    verifier = lambda completions, rows: [1.0, True, 0, Score.wrong("no", value=0.5)]  # noqa: E731
    scores = asyncio.run(score_group(verifier, ["a", "b", "c", "d"], ROWS))
    assert [(score.value, score.passed) for score in scores] == [
        (1.0, True),
        (1.0, True),
        (0.0, False),
        (0.5, False),
    ]


@pytest.mark.parametrize("result", [float("nan"), float("inf"), None, "1"])
def test_a_group_verifier_that_returns_no_number_is_named_with_the_row(result):
    async def judge(completions, rows):
        return [1.0, result]

    with pytest.raises(VerifierError, match=r"row 1: verifier .*judge returned .*finite number"):
        asyncio.run(score_group(judge, ["a", "b"], ROWS[:2]))


def test_the_answer_that_the_parts_found_is_that_of_the_whole():
    row = {"answer": "4"}
    tags = make("format", tags=["answer"])
    both = weighted({"tags": (tags, 0.5), "answer": (make("math", extract="answer_tag"), 0.5)})
    assert both("<answer>5</answer>", row).answer == "5"
    two = all_of({"first": make("math"), "second": make("exact", extract="last_number")})
    assert two("\\boxed{4} of 9", row).answer is None


def test_a_row_that_a_part_cannot_use_is_no_fault_of_the_completion():
    parts = {"format": make("format", tags=["answer"]), "answer": make("math")}
    assert all_of(parts)("no tags", {"answer": None}).status == "bad_reference"
    both = weighted({name: (part, 0.5) for name, part in parts.items()})
    assert both("no tags", {"answer": None}).reason.startswith("answer: unusable answer")
    assert both("no tags", {"answer": "4"}).status != "bad_reference"
