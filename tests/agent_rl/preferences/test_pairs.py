"""Every convention of preference data is read, and what cannot be used is one clear line."""

from __future__ import annotations

import csv
import json
import math
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agent_rl.errors import UserError
from agent_rl.preferences import grouped, load_pairs, read_pairs
from tests.agent_rl.preferences.labelling import write_rows

HH = Path(os.environ.get("AGENT_RL_DATA", "missing")) / "hh_rlhf_harmless_base_test.jsonl.gz"
QUESTION = ({"role": "user", "content": "2+2?"},)


def said(text):
    return [{"role": "assistant", "content": text}]


def parts(path, **options):
    return [(p.prompt, p.chosen, p.rejected) for p in load_pairs(str(path), **options)]


SAME = {
    "explicit texts": {"prompt": "2+2?", "chosen": "4", "rejected": "5"},
    "explicit messages": {"prompt": [*QUESTION], "chosen": said("4"), "rejected": said("5")},
    "a prompt as text, answers as messages": {
        "prompt": "2+2?",
        "chosen": said("4"),
        "rejected": said("5"),
    },
    "whole conversations": {
        "chosen": [*QUESTION, *said("4")],
        "rejected": [*QUESTION, *said("5")],
    },
    "whole conversations beside their prompt": {
        "prompt": "2+2?",
        "chosen": [*QUESTION, *said("4")],
        "rejected": [*QUESTION, *said("5")],
    },
    "texts with a common beginning": {"chosen": "2+2? 4", "rejected": "2+2? 5"},
    "transcripts": {
        "chosen": "\n\nHuman: 2+2?\n\nAssistant: 4",
        "rejected": "\n\nHuman: 2+2?\n\nAssistant: 5",
    },
    "an open transcript and its answers": {
        "prompt": "\n\nHuman: 2+2?\n\nAssistant:",
        "chosen": " 4",
        "rejected": " 5",
    },
    "transcripts beside their prompt": {
        "prompt": "2+2?",
        "chosen": "\n\nHuman: 2+2?\n\nAssistant: 4",
        "rejected": "\n\nHuman: 2+2?\n\nAssistant: 5",
    },
    "scores": {"prompt": "2+2?", "completions": ["5", "4"], "scores": [0, 1.5]},
    "ranks": {"prompt": "2+2?", "completions": ["5", "4"], "ranks": [2, 1]},
}


@pytest.mark.parametrize("row", SAME.values(), ids=SAME)
def test_conventions_read_as_the_same_pair(row, tmp_path):
    assert parts(write_rows(tmp_path / "a.jsonl", [row])) == [(QUESTION, "4", "5")]


def test_formats_read_alike_and_columns_stay(tmp_path):
    row = {"prompt": "2+2?", "chosen": "4", "rejected": "5", "margin": 0.5, "id": "x", "tie": False}
    row |= {"annotator": "ann", "source": "hand"}
    (tmp_path / "a.json").write_text(json.dumps([row]))
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    with (tmp_path / "a.csv").open("w") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)
    read = [load_pairs(str(tmp_path / f"a.{kind}")) for kind in ("json", "parquet", "csv")]
    assert read[0] == read[1] == read[2]
    pair = read[0][0]
    assert (pair.margin, pair.id, pair.annotator, pair.info) == (
        0.5,
        "x",
        "ann",
        {"source": "hand"},
    )


def test_a_pair_reads_back_from_its_row(tmp_path):
    (pair,) = load_pairs(str(write_rows(tmp_path / "a.jsonl", [SAME["scores"]])))
    again = write_rows(tmp_path / "b.jsonl", [pair.row()])
    assert load_pairs(str(again)) == [pair]


def test_a_transcript_with_several_turns_and_one_speaker_twice(tmp_path):
    talk = "\n\nHuman: a\n\nAssistant: b\n\nAssistant: c\n\nHuman: d\n\nAssistant:"
    row = {"chosen": f"{talk} e\n\nf", "rejected": f"{talk} g"}
    ((prompt, chosen, rejected),) = parts(write_rows(tmp_path / "a.jsonl", [row]))
    assert [(m["role"], m["content"]) for m in prompt] == [
        ("user", "a"),
        ("assistant", "b\n\nc"),
        ("user", "d"),
    ]
    assert (chosen, rejected) == ("e\n\nf", "g")


def test_a_ranking_gives_all_its_pairs_and_ties_are_kept_apart(tmp_path):
    row = {"prompt": "p", "completions": ["a", "b", "c", "d"], "ranks": [2, 1, 2, 4], "source": 1}
    other = {"prompt": "q", "completions": ["a", "b"], "ranks": [1, 2]}
    path = str(write_rows(tmp_path / "a.jsonl", [row, other, {**other, "prompt": "p"}]))
    pairs = load_pairs(path, ties=True)
    of_first = [p for p in pairs if p.info.get("source") == 1]
    assert [(p.chosen, p.rejected, p.tie) for p in of_first] == [
        ("b", "a", False),
        ("a", "c", True),
        ("a", "d", False),
        ("b", "c", False),
        ("b", "d", False),
        ("c", "d", False),
    ]
    assert len({p.info["ranking"] for p in of_first}) == 1
    assert {p.margin for p in pairs} == {None}  # ranks have no distances
    assert [len(group) for group in grouped(load_pairs(path))] == [6, 1]


GOOD = {"prompt": "p", "chosen": "a", "rejected": "b"}
REFUSED = [
    ({**GOOD, "rejected": "a"}, "row 2: chosen equals rejected; remove or correct it"),
    ({**GOOD, "chosen": " \n"}, "row 2: the chosen answer is empty; remove"),
    ({**GOOD, "chosen": said("a"), "rejected": []}, "row 2: the rejected answer is empty; remove"),
    ({**GOOD, "prompt": []}, "row 2: the prompt is empty; remove"),
    ({**GOOD, "chosen": [*QUESTION]}, "row 2: chosen is a list and rejected is a text; give both"),
    (
        {**GOOD, "chosen": [*QUESTION], "rejected": said("b")},
        "row 2: the last turn is not the assistant's",
    ),
    (
        {**GOOD, "prompt": [*QUESTION], "chosen": said("x") * 2, "rejected": said("b")},
        "row 2: chosen has 2 messages beside a prompt; give the answer alone",
    ),
    ({**GOOD, "margin": math.nan}, "row 2: margin is nan; it must be a finite number"),
    ({**GOOD, "margin": "big"}, "row 2: margin is 'big'; it must be a finite number"),
    ({**GOOD, "tie": "maybe"}, "row 2: tie is 'maybe'; it must be true or false"),
    ({**GOOD, "chosen": 3, "rejected": 4}, "row 2: chosen is 3; give a text or a list"),
    ({**GOOD, "prompt": {"a": 1}}, "row 2: prompt is a mapping; give a text or a list"),
    ({"prompt": "p", "completion": "a"}, "row 2: needs chosen and rejected (and prompt), or"),
    ({"chosen": "p a", "rejected": "p b"}, "row 2: is chosen and rejected as texts without a prom"),
    (
        SAME["transcripts"],
        "row 2: is chosen and rejected as Human/Assistant transcripts, but row 1",
    ),
    (SAME["ranks"], "row 2: is prompt and ranked completions, but row 1 is prompt, chosen and"),
]


@pytest.mark.parametrize(("row", "words"), REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(row, words, tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [GOOD, row])
    with pytest.raises(UserError) as error:
        load_pairs(str(path))
    assert str(error.value).startswith(f"{path}, {words}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ranks": [1]}, "ranks must be a list of 2, one per completion"),
        ({"ranks": None, "scores": [1, math.nan]}, "scores 2 is nan"),
        ({"completions": "ab"}, "completions is a text; it must be a list"),
        ({"completions": ["a", "a"]}, "a ranking of fewer than two different completions"),
        ({"prompt": None}, "a ranking needs the column prompt"),
    ],
)
def test_a_broken_ranking_is_refused(changes, words, tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [{**SAME["ranks"], **changes}])
    with pytest.raises(UserError, match=words):
        load_pairs(str(path))


def test_a_few_unusable_rows_are_left_out_and_told(tmp_path):
    rows = [{"prompt": str(n), "chosen": "a", "rejected": "b"} for n in range(38)]
    rows[7]["rejected"] = "a"
    rows[9]["chosen"] = ""
    path = str(write_rows(tmp_path / "a.jsonl", rows))
    with pytest.raises(UserError, match=r"row 8: chosen equals rejected; 2 of 38 rows are unusabl"):
        load_pairs(path)
    write_rows(tmp_path / "a.jsonl", rows + rows[:2])
    told = []
    assert len(load_pairs(path, tell=told.append)) == 38
    assert told == [
        f"{path}: 2 of 40 rows left out: 1 chosen equals rejected (first: row 8); "
        "1 the chosen answer is empty (first: row 10)"
    ]
    with pytest.raises(UserError, match=r"\(at most 0% are left out\)"):
        load_pairs(path, most_unusable=0)


def test_the_split_is_by_prompt_and_whole(tmp_path):
    rows = [
        {"prompt": str(n % 150), "chosen": f"a{n}", "rejected": "b", "tie": n == 3}
        for n in range(300)
    ]
    path = str(write_rows(tmp_path / "a.jsonl", rows))
    train, test = (load_pairs(path, n_held_out=60, split=s) for s in ("train", "test"))
    assert {p.prompt[0]["content"] for p in train}.isdisjoint(p.prompt[0]["content"] for p in test)
    assert len(train) + len(test) == 299
    assert 40 < len(test) < 80
    write_rows(tmp_path / "a.jsonl", rows[::-1])
    assert {p.id for p in load_pairs(path, n_held_out=60, split="test")} == {p.id for p in test}


def test_only_ties_are_nothing_to_train_on(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [{**GOOD, "tie": True}])
    with pytest.raises(UserError, match="all 1 pairs are ties"):
        load_pairs(str(path))
    assert load_pairs(str(path), ties=True)[0].tie


def test_transcripts_may_begin_with_a_system_turn_or_the_assistant(tmp_path):
    def row(start):
        turns = f"{start}\n\nHuman: 2+2?\n\nAssistant: "
        return {"chosen": f"{turns}It is 4", "rejected": f"{turns}It is 5"}

    path = write_rows(tmp_path / "a.jsonl", [row("Be brief."), row("\n\nAssistant: Hello")])
    first, second = load_pairs(str(path))
    assert first.prompt == ({"role": "system", "content": "Be brief."}, *QUESTION)
    assert second.prompt == (*said("Hello"), *QUESTION)
    assert {(p.chosen, p.rejected) for p in (first, second)} == {("It is 4", "It is 5")}
    write_rows(path, [{**row(""), "prompt": "3+3?"}])
    with pytest.raises(UserError, match="row 1: prompt is no part of chosen"):
        load_pairs(str(path))


def test_prompts_that_differ_in_blanks_alone_are_in_one_split(tmp_path):
    ends = ("", "\n", "  ", "\r\n")
    rows = [
        {"prompt": f"caf\u00e9\n{n}{end}", "chosen": f"a{end}", "rejected": "b"}
        for n in range(100)
        for end in ends
    ]
    rows += [{**row, "prompt": f"cafe\u0301\r\n{n}"} for n, row in enumerate(rows[:100])]
    path = str(write_rows(tmp_path / "a.jsonl", rows))
    train, test = (
        {p.prompt[0]["content"].split()[1] for p in load_pairs(path, n_held_out=100, split=s)}
        for s in ("train", "test")
    )
    assert train.isdisjoint(test)
    assert len(train) + len(test) == 100
    assert test
    with pytest.raises(ValueError, match="'tset'; it must be train or test"):
        load_pairs(path, split="tset")


def test_a_null_answer_is_left_out_like_an_empty_one(tmp_path):
    good = [{"prompt": f"{n}", "chosen": "a", "rejected": "b"} for n in range(30)]
    path = str(write_rows(tmp_path / "a.jsonl", [{**good[0], "chosen": None}, *good]))
    file = read_pairs(path)
    assert (len(file.pairs), file.left_out) == (30, {"the chosen answer is empty": 1})
    write_rows(tmp_path / "a.jsonl", [{**good[0], "rejected": None}])
    with pytest.raises(UserError, match="row 1: the rejected answer is empty"):
        read_pairs(path, most_unusable=1.0)


def test_a_ranking_counts_a_repeated_completion_once(tmp_path):
    row = {"prompt": "p", "completions": ["a", "b", "a"], "scores": [2, 1, 2]}
    path = str(write_rows(tmp_path / "a.jsonl", [row]))
    assert [(p.chosen, p.rejected) for p in load_pairs(path)] == [("a", "b")]
    write_rows(tmp_path / "a.jsonl", [{**row, "scores": [2, 1, 0]}])
    with pytest.raises(UserError, match="a completion has two different scores"):
        load_pairs(path)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ([*QUESTION, *said("4")], "the assistant answers itself"),
        ([{"role": "user", "content": " "}], "the prompt is empty"),
    ],
)
def test_a_prompt_that_asks_nothing_is_unusable(prompt, reason, tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": prompt, "chosen": "a", "rejected": "b"}])
    with pytest.raises(UserError, match=reason):
        load_pairs(str(path))


@pytest.mark.skipif(not HH.exists(), reason="HH harmless pairs: AGENT_RL_DATA is not set")
def test_every_row_of_the_real_file_is_read_or_counted():
    file = read_pairs(str(HH))
    assert file.rows == 2312
    assert len(file.pairs) == 2303
    assert file.left_out == Counter(
        {
            "the two conversations differ before the last answer": 5,
            "the chosen answer is empty": 4,
        }
    )
    assert all(p.prompt[0]["role"] == p.prompt[-1]["role"] == "user" for p in file.pairs)
    assert not any("\n\nHuman:" in text for p in file.pairs for text in (p.chosen, p.rejected))
    train, test = (load_pairs(str(HH), n_held_out=500, split=s) for s in ("train", "test"))
    assert (len(train), len(test)) == (1798, 505)
