"""Pieces of every notation, in any order: no verifier of text raises, and each one says why."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_verifiers import make, score_sync
from rl_verifiers.shown import shown

PIECES = [
    "<tool_call>", "</tool_call>", '{"name": "f", "arguments": {"a": 1}}', "<function=f>",
    "<parameter=a>", "<parameter=", "</parameter>", "[TOOL_CALLS]", "f(a=1)", "[", "]", "{",
    "}", "(", ")", '"', "'", "\\", ":", ",", "\n", "\n\n", "  ", "- ", "a: ", "&a ", "*a", "!!",
    "|", "= ", "3 + 4 = 7", "1/0 = 2", "\\frac{1}{2}", "$", "%", "≈", "^", "9" * 60, "1e999",
    "0x", "NaN", "<think>", "</think>", "```", "`", "Step 1", "<step>", "</step>", "\\boxed{B}",
    "(B)", "Paris",
    "答えは", "苹果", "Äpfel", "\ud800", "\0", "\u200d", "\u202e", "😀", "\\(", "\\[",
    "https://",
]  # fmt: skip
DEEP: list = []
for _ in range(3_000):
    DEEP = [DEEP]
CALLS = [{"name": "f", "arguments": {"a": 1}}]
TOOL = {"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
ROW = {"id": 1, "answer": "Paris", "schema": SCHEMA, "tools": [TOOL], "options": ["Rome", "Paris"]}
VERIFIERS = {
    "choice": {},
    "f1": {},
    "fuzzy": {},
    "rouge": {},
    "json_schema": {},
    "json_schema yaml": {"format": "yaml"},
    "json_schema toml": {"format": "toml"},
    "json_schema csv": {"format": "csv"},
    "language": {"language": "de"},
    "repetition": {},
    "steps": {},
    "tool_call": {"check_tools": True},
}


@pytest.mark.parametrize("name", VERIFIERS)
@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_no_text_makes_a_verifier_raise(name, completion):
    verifier = make(name.split()[0], **VERIFIERS[name])
    row = {**ROW, "answer": CALLS} if name == "tool_call" else ROW
    score = score_sync(verifier, completion, row)
    assert score.status in ("correct", "wrong", "no_answer", "unparsable", "over_limit")
    json.dumps([score.reason, score.answer, dict(score.parts)], allow_nan=False)
    score.reason.encode("utf-8")


UNUSABLE = {
    "deep": DEEP,
    "deep and wide": [[DEEP] * 9],
    "deep object": {"a": DEEP},
    "long": [["x"] * 10**6],
    "a number of 36,001 bits": 16**9_000,
}


@pytest.mark.parametrize(
    "name", ["choice", "contains", "exact", "f1", "fuzzy", "instructions", "regex", "rouge"]
)
@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_answer_that_is_deep_or_huge_is_a_bad_row_with_a_short_reason(name, kind):
    row = {"answer": UNUSABLE[kind], "instruction_id_list": [UNUSABLE[kind]]}
    options = {"pattern": "text", "group": 0} if name == "regex" else {}
    score = score_sync(make(name, **options), "text", row)
    assert (score.status, len(score.reason) < 200) == ("bad_reference", True)


class Rude:
    def __repr__(self):
        raise ValueError("no")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Paris", "'Paris'"),
        ("a" * 100, "'" + "a" * 79),
        ([1, {"b": None}], "[1, {'b': None}]"),
        ([16**9_000], "[<a whole number of 36,001 bits>]"),
        (Rude(), "<Rude>"),
        (b"x" * 200, "b'" + "x" * 78),
        ({"b": 1, "a": 2}, "{'a': 2, 'b': 1}"),
    ],
)
def test_what_is_shown_of_a_value(value, text):
    assert shown(value) == text
