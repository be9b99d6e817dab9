"""Which columns are scored, and what becomes of a cell."""

import json
import os
from pathlib import Path

import pytest

from agent_rl.errors import UserError
from agent_rl.scoring.columns import resolve, samples
from agent_rl.scoring.inputs import plan, read
from agent_rl.scoring.types import Record, Reject

DATA = Path(os.environ.get("AGENT_RL_DATA", Path(__file__).parents[4] / "shared" / "data"))


def scored(row, mapping=None, **options):
    """``(text, row of the verifier)`` of each completion, and whether they were a list."""
    found = samples(Record(7, row), resolve(list(row), mapping or {}, **options), name="in.jsonl")
    assert not isinstance(found, Reject), found
    return [(sample.completion, sample.row) for sample in found[0]], found[1]


def texts(cell, **options):
    return [text for text, _ in scored({"completion": cell}, **options)[0]]


def rejected(row, columns=None):
    found = samples(Record(7, row), resolve(columns or list(row), {}), name="in.jsonl")
    assert isinstance(found, Reject), found
    assert (found.name, found.line) == ("in.jsonl", 7)
    return found.error


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        (["id", "question", "response", "gold"], ("response", "question", "gold", "id")),
        (
            ["output", "completion", "solution", "problem"],
            ("completion", "problem", "solution", None),
        ),
        (["messages", "ground_truth"], ("messages", None, "ground_truth", None)),
        (["messages", "generations", "label"], ("generations", "messages", None, None)),
        (["input", "output", "target", "chosen"], ("output", "input", "target", None)),
    ],
)
def test_columns_are_found_by_their_names(columns, chosen):
    found = resolve(columns, {})
    assert (found.completion, found.prompt, found.answer, found.id) == chosen


def test_a_mapping_decides_and_a_mapped_column_is_not_taken_again():
    found = resolve(
        ["prompt", "output", "completion", "answer"], {"completion": "output", "tests": "answer"}
    )
    assert (found.completion, found.answer, found.others) == ("output", None, {"tests": "answer"})


def test_describe_says_what_was_chosen():
    found = resolve(["question", "response", "gold"], {"level": "question"})
    assert (
        found.describe()
        == "columns: completion = response, answer = gold, level = question; no prompt"
    )
    assert resolve(["messages", "answer"], {}).describe() == (
        "columns: completion = messages, prompt = messages, answer"
    )


@pytest.mark.parametrize(
    ("columns", "mapping", "options", "message"),
    [
        (
            ["a", "completions_x"],
            {},
            {},
            "no column of completions; columns found: a, completions_x; did you mean",
        ),
        ([], {}, {}, "no column of completions; columns found: none"),
        (["chosen", "rejected"], {}, {}, "no column of completions"),
        (
            ["respones"],
            {"completion": "response"},
            {},
            "no column 'response' for completion.*mean 'respones'",
        ),
        (
            ["output", "anwser"],
            {},
            {"need": ["answer"]},
            "needs 'answer'.*mean 'anwser'.*--column answer=THEIRS",
        ),
        (["output", "score"], {}, {}, "has a column 'score' already: --prefix rl_"),
        (
            ["output", "rl_error"],
            {},
            {"prefix": "rl_"},
            "has a column 'rl_error' already: --prefix rl_rl_",
        ),
    ],
)
def test_missing_columns_are_refused(columns, mapping, options, message):
    with pytest.raises(UserError, match=message):
        resolve(columns, mapping, **options)


def test_needed_columns_may_come_from_a_conversation_or_a_mapping():
    resolve(["messages", "gold"], {"tests": "gold"}, need=["prompt", "tests"])


def test_the_verifier_sees_the_row_and_our_names():
    row = {"question": "1+1?", "gold": "2", "response": "two", "level": 3}
    [(text, seen)], is_list = scored(row, {"hard": "level"})
    assert (text, is_list) == ("two", False)
    assert seen == {**row, "prompt": "1+1?", "answer": "2", "hard": 3, "id": "in.jsonl:7"}
    [(_, seen)], _ = scored({"id": 0, "output": "x"})
    assert seen["id"] == 0
    assert "answer" not in seen


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"question": "q", "answer": "so 1,000\n#### 1,000 \n"}, "1000"),
        ({"question": "q", "answer": "#### a\nand 5"}, "#### a\nand 5"),
        ({"prompt": "p", "answer": "code\n#### 5"}, "code\n#### 5"),
        ({"prompt": "p", "solution": "so\n#### -5"}, "-5"),
        ({"problem": "p", "solution": "so $\\boxed{\\frac{1}{2}}$."}, "\\frac{1}{2}"),
        ({"problem": "p", "solution": "def f(): pass"}, "def f(): pass"),
        ({"question": "q", "answer": None}, None),
        ({"question": "q", "answer": 5}, 5),
    ],
)
def test_answers_within_worked_solutions(row, answer):
    [(_, seen)], _ = scored({**row, "output": ""})
    assert seen["answer"] == answer
    given = row.get("solution", row.get("answer"))
    assert answer == given or seen["solution"] == given


def test_a_conversation_gives_prompt_and_completion():
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
        {"role": "user", "content": [{"type": "text", "text": "and"}]},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "so"}, {"type": "image"}, " on"],
        },
        {"role": "tool", "content": "x"},
    ]
    [(text, seen)], is_list = scored({"messages": messages})
    assert (text, seen["prompt"], is_list) == ("so on", messages[:3], False)
    [(_, seen)], _ = scored({"completion": messages, "prompt": "p"})
    assert seen["prompt"] == "p"
    [(text, seen)], _ = scored({"response": "r", "messages": messages[:2]})
    assert (text, seen["prompt"]) == ("r", messages[:1])


def test_several_completions():
    said = [{"role": "assistant", "content": "c"}]
    assert texts(["a", "", 3]) == ["a", "", "3"]
    assert texts([said, said[0], "d"]) == ["c", "c", "d"]
    assert texts(said) == texts(said[0]) == ["c"]
    assert scored({"completions": ["one"]})[1] is True
    assert scored({"completions": said})[1] is False
    assert scored({"completions": [said]})[1] is True


def test_tool_calls_are_text():
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    text = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    assert texts({"role": "assistant", "content": None, "tool_calls": [call]}) == [text]
    bare = {"name": "add", "arguments": {"a": 1}}
    both = {"role": "assistant", "content": "so", "tool_calls": [bare, call]}
    assert texts(both) == [f"so\n{text}\n{text}"]
    odd = {
        "role": "assistant",
        "content": "",
        "tool_calls": [None, {"function": {"arguments": "{"}}],
    }
    assert texts(odd) == [
        '<tool_call>null</tool_call>\n<tool_call>{"name": null, "arguments": "{"}</tool_call>'
    ]


def test_json_text_only_when_asked():
    cell = json.dumps(["a", "b"])
    assert texts(cell) == [cell]
    assert texts(cell, json_text=True) == ["a", "b"]
    assert texts("[not json", json_text=True) == ["[not json"]
    assert texts("[" * 100_000, json_text=True) == ["[" * 100_000]
    assert texts("plain", json_text=True) == ["plain"]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (None, "no completion: it is null"),
        (float("nan"), "no completion: it is null"),
        ([], "no completion: an empty list"),
        (["a", None], "no completion: it is null (completion 2 of 2)"),
        (True, "a completion must be text or chat messages, not a boolean"),
        ({"text": "x"}, "a completion must be text or chat messages, not an object without a role"),
        (b"x", "a completion must be text or chat messages, not bytes"),
        ([["a"]], "a completion must be text or chat messages, not a list of something else"),
        ([{"role": "user", "content": "x"}], "no completion: no message of the assistant"),
        (
            {"role": "assistant", "content": None},
            "no completion: the assistant's message has no content",
        ),
        (
            {"role": "assistant", "content": 5},
            "a message's content must be text or a list of parts",
        ),
    ],
)
def test_cells_without_a_completion_are_rejected(cell, message):
    error = rejected({"completion": cell})
    assert error.removesuffix(" (completion 1 of 1)") == message


def test_rows_that_do_not_fit_are_rejected():
    assert rejected({"a": 1}, ["completion"]) == "no completion: no column 'completion'"
    clash = rejected({"completion": "x", "score": 1}, ["completion"])
    assert clash == "the input has a column 'score' already: --prefix rl_"


def test_real_rows(tmp_path):
    path = DATA / "gsm8k_labelled_outputs_60.jsonl"
    if not path.exists():
        pytest.skip(f"{path.name} is not in the data folder (set AGENT_RL_DATA)")
    planned = plan([str(path)], tmp_path)
    columns = resolve(planned.columns, {}, need=["answer"])
    assert columns.describe() == "columns: completion = response, answer = gold, id; no prompt"
    found = [samples(each, columns) for span in planned.spans for each in read(span)]
    assert len(found) == planned.rows == 3140
    assert not any(isinstance(each, Reject) for each in found)
