"""Every input column as it was, the new ones behind it, and a file that is whole or not there."""

import csv
import datetime
import gzip
import io
import json
import math
import random
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_rl.errors import UserError
from agent_rl.scoring import outputs
from agent_rl.scoring.inputs import plan, read
from agent_rl.scoring.outputs import merge, new_columns, output_kind, rejects_path, write_part
from agent_rl.scoring.outputs_text import csv_line
from agent_rl.scoring.types import Record, Reject, Scored
from rl_verifiers import Score

RIGHT = Score(1.0, True, "correct", "as it should be", {"exact": 1.0, "form": 0.5}, answer="4")
FAILED = Score.failed("judge unreachable")
NEW = {
    "score": 1.0,
    "passed": True,
    "status": "correct",
    "reason": "as it should be",
    "parts": {"exact": 1.0, "form": 0.5},
    "extracted_answer": "4",
    "error": None,
}


def score_all(sources, out, *, rows_per_span=2, score=RIGHT, lists=None, prefix=""):
    """Plan, read, write parts, merge; rows that ``lists(row)`` picks have three scores."""
    folder = out.parent / "work"
    folder.mkdir(exist_ok=True)
    planned = plan([str(each) for each in sources], folder, rows_per_span=rows_per_span)
    parts, warnings = [], []
    kind = output_kind(out)
    for span in planned.spans:
        part = folder / f"part-{span.index}.{kind}"
        scored = [
            Scored(each, [score] * 3, True)
            if lists and lists(each.row)
            else Scored(each, [score], False)
            for each in read(span)
            if isinstance(each, Record)
        ]
        warnings += write_part(part, kind, span, scored, prefix=prefix, columns=planned.columns)
        parts.append(part)
    return warnings + merge(parts, out, kind, columns=planned.columns)


def lines(path):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        return file.read().split("\n")[:-1]


def csv_rows(path):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


ODD_LINES = [
    '{"b": 1.10, "a": 1e400, "n": 123456789012345678901234567890}',
    '{ "é":"\\u00e9\\ud800", "a" :NaN,"deep":{"x":[{}]} } ',
    "{}",
    '{"a": null}\r',
]


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_json_lines_keep_their_text(tmp_path, suffix):
    source, out = tmp_path / "in.jsonl", tmp_path / f"out.{suffix}"
    source.write_bytes("\ufeff{}\n\nbroken\n".encode() + "\n".join(ODD_LINES).encode())
    assert score_all([source], out) == []
    found = lines(out)
    assert [json.loads(line).items() >= NEW.items() for line in found] == [True] * 5
    new = json.dumps(NEW)[1:]
    assert found == ["{" + new] + [
        line.strip().removesuffix("}").strip() + (", " if len(line) > 3 else "") + new
        for line in ODD_LINES
    ]


def test_equal_input_gives_equal_bytes(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(ODD_LINES))
    for kind in outputs.KINDS:
        first, second = tmp_path / f"1.{kind}", tmp_path / f"2.{kind}"
        score_all([source], first)
        score_all([source], second)
        assert first.read_bytes() == second.read_bytes()


def test_lists_and_errors(tmp_path):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"a": 1}\n{"a": 2}\n')
    score_all([source], out, score=FAILED, lists=lambda row: row["a"] == 2, prefix="rl_")
    one, three = map(json.loads, lines(out))
    assert [one[name] for name in new_columns("rl_")] == [
        *(None, None, "error", "judge unreachable", {}, None, "judge unreachable"),
    ]
    assert three["rl_status"] == ["error"] * 3
    assert three["rl_parts"] == [{}, {}, {}]


TABLE = pa.table(
    {
        "ns": pa.array([1, 10**18 + 1, None, 3, 4], pa.timestamp("ns", "Europe/Zurich")),
        "raw": [b"\xff", b"", None, b"a", b"b"],
        "price": pa.array(
            [Decimal("1.10"), None, Decimal(2), Decimal(3), Decimal(4)], pa.decimal128(9, 2)
        ),
        "nested": [[{"x": 1, "y": None}], [], None, [{"x": 2, "y": "z"}], []],
        "small": pa.array(range(5), pa.int8()),
        "kind": pa.array(list("ababa")).dictionary_encode(),
        "map": pa.array([[("k", 1.5)], [], None, [], []], pa.map_(pa.string(), pa.float64())),
        "nan": [math.nan, 1.0, None, -0.0, math.inf],
    }
)


def test_parquet_keeps_its_types(tmp_path):
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(TABLE.replace_schema_metadata({"mine": "1"}), source, row_group_size=3)
    assert score_all([source], out) == []
    found = pq.read_table(out)
    assert found.select(TABLE.column_names).equals(TABLE) or found.select(
        [n for n in TABLE.column_names if n != "nan"]
    ).equals(TABLE.drop_columns("nan"))
    assert found.schema.metadata == {b"mine": b"1"}
    assert found.column_names == [*TABLE.column_names, *new_columns()]
    assert found.column("score").to_pylist() == [1.0] * 5
    assert json.loads(found.column("parts")[0].as_py()) == NEW["parts"]
    assert all(not field.metadata for field in found.schema if field.name in NEW)


def test_rows_of_a_table_that_are_rejected_are_left_out(tmp_path):
    source = tmp_path / "in.parquet"
    pq.write_table(TABLE, source)
    (span,) = plan([str(source)], tmp_path).spans
    rows = list(read(span))
    write_part(
        tmp_path / "p.parquet", "parquet", span, [Scored(rows[i], [RIGHT], False) for i in (1, 4)]
    )
    found = pq.read_table(tmp_path / "p.parquet")
    assert found.select(["small", "raw"]).to_pylist() == [
        {"small": 1, "raw": b""},
        {"small": 4, "raw": b"b"},
    ]
    source.write_bytes(b"PAR1" + b"\xff" * 200 + source.read_bytes()[204:])
    assert {type(each) for each in read(span)} == {Reject}
    write_part(tmp_path / "p.parquet", "parquet", span, [])
    assert pq.read_table(tmp_path / "p.parquet").num_rows == 0


def test_tables_become_text(tmp_path):
    source = tmp_path / "in.parquet"
    pq.write_table(TABLE.append_column("day", pa.array([datetime.date(2020, 1, 2)] * 5)), source)
    score_all([source], tmp_path / "out.jsonl")
    first = json.loads(lines(tmp_path / "out.jsonl")[0])
    assert first["raw"] == "/w=="
    assert first["price"] == "1.10"
    assert first["day"] == "2020-01-02"
    assert first["nested"] == [{"x": 1, "y": None}]
    score_all([source], tmp_path / "out.csv")
    first = csv_rows(tmp_path / "out.csv")[0]
    assert first["nested"] == '[{"x": 1, "y": null}]'
    assert first["price"] == "1.10"
    assert first["passed"] == "true"


def test_csv_keeps_every_value(tmp_path):
    rows = [{"a": "x\r\n", "b,": "1.10"}, {"a": ' "q" ', "b,": ""}, {"a": "\r", "b,": "\x00é"}]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["a", "b,"], quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    source = tmp_path / "in.csv"
    source.write_bytes(text.getvalue().encode())
    for suffix in ("csv", "csv.gz"):
        out = tmp_path / f"out.{suffix}"
        assert score_all([source], out) == []
        found = csv_rows(out)
        assert [{name: row[name] for name in rows[0]} for row in found] == rows
        assert found[0]["parts"] == '{"exact": 1.0, "form": 0.5}'
        assert found[0]["error"] == ""


@given(st.lists(st.text(st.sampled_from('a",\r\n ')), min_size=2, max_size=4))
def test_csv_lines_are_read_by_the_csv_module(cells):
    assert list(csv.reader(io.StringIO(csv_line(cells), newline=""))) == [cells]


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_columns_that_come_late_get_their_place(tmp_path, suffix):
    source, second, out = tmp_path / "in.jsonl", tmp_path / "in2.csv", tmp_path / f"out.{suffix}"
    source.write_text('{"a": 1}\n' * 1001 + '{"c": "x\\ny", "a": null}\n')
    second.write_text("b,a\n5,6\n")
    score_all([source, second], out, rows_per_span=1001)
    found = csv_rows(out)
    assert list(found[0]) == ["a", "b", "c", *new_columns()]
    assert [(row["a"], row["b"], row["c"]) for row in found[1000:]] == [
        ("1", "", ""),
        ("", "", "x\ny"),
        ("6", "5", ""),
    ]
    assert found[-1]["score"] == "1.0"


def parquet_of(tmp_path, rows, **options):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    warnings = score_all([source], out, **options)
    return pq.read_table(out), sorted(set(warnings))


def test_types_are_those_of_all_parts(tmp_path):
    rows = [{"a": None, "b": 1, "c": [], "d": {"x": 1}, "late": None}] * 2 + [
        {"a": "t", "b": 2.5, "c": [1], "d": {"y": "z"}, "new": True}
    ]
    found, warnings = parquet_of(tmp_path, rows)
    assert warnings == []
    assert found.slice(1, 2).select(["a", "b", "c", "d", "new"]).to_pylist() == [
        {"a": None, "b": 1.0, "c": [], "d": {"x": 1, "y": None}, "new": None},
        {"a": "t", "b": 2.5, "c": [1], "d": {"x": None, "y": "z"}, "new": True},
    ]
    assert found.column_names[-len(NEW) :] == list(NEW)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (1, "one"),
        (["a"], "a"),
        (2**53 + 1, 0.5),
        (2**70, 1),
        (True, 1),
        ({}, {}),
        ({"a": 1}, [1]),
        ({str(i): i for i in range(300)}, None),
        ([[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]], None),
    ],
)
@pytest.mark.parametrize("far", [False, True])
def test_mixed_types_become_json_text(tmp_path, first, then, far):
    rows = [{"a": first}, *([{"a": first}] * 3 * far), {"a": then}]
    found, warnings = parquet_of(tmp_path, rows)
    assert warnings == ["column 'a': values without a common type became JSON text"]
    texts = found.column("a").to_pylist()
    assert [None if text is None else json.loads(text) for text in texts] == [
        row["a"] for row in rows
    ]
    assert not found.schema.field("a").metadata


def test_text_beside_json_text_is_json_text_too(tmp_path):
    found, _ = parquet_of(tmp_path, [{"a": 1}, {"a": "one"}, {"a": "two"}, {"a": None}])
    assert found.column("a").to_pylist() == ["1", '"one"', '"two"', None]


def test_scores_and_lists_of_scores_in_one_parquet_file(tmp_path):
    rows = [{"n": n} for n in (1, 3, 1, 1, 3, 3)]
    found, _ = parquet_of(tmp_path, rows, lists=lambda row: row["n"] == 3)
    assert [len(value) for value in found.column("score").to_pylist()] == [1, 3, 1, 1, 3, 3]
    assert found.column("passed").to_pylist()[:2] == [[True], [True] * 3]
    assert json.loads(found.column("parts")[2].as_py()[0]) == NEW["parts"]


def test_half_surrogate_pairs(tmp_path):
    score = Score.wrong("half \ud800", answer="\ud83d\ude00")
    found, warnings = parquet_of(tmp_path, [{"a": ["x\ud800"], "k": "y"}], score=score)
    assert found.column("a").to_pylist() == [["x\ufffd"]]
    assert found.column("reason").to_pylist() == ["half \ufffd"]
    assert found.column("extracted_answer").to_pylist() == ["\U0001f600"]
    assert warnings[0].startswith("column 'a': half a surrogate pair cannot be written in Parquet")
    warnings = score_all([tmp_path / "in.jsonl"], tmp_path / "out.csv", score=score)
    assert csv_rows(tmp_path / "out.csv")[0]["a"] == '["x\ufffd"]'
    assert warnings == ["half a surrogate pair cannot be written in CSV: it became U+FFFD"]
    score_all([tmp_path / "in.jsonl"], tmp_path / "out.jsonl", score=score)
    assert json.loads(lines(tmp_path / "out.jsonl")[0])["reason"] == "half \ud800"


@pytest.mark.parametrize("kind", outputs.KINDS)
def test_nothing_but_rejects(tmp_path, kind):
    source, out = tmp_path / "in.jsonl", tmp_path / f"out.{kind}"
    source.write_text("broken\nbroken\nbroken\n")
    score_all([source], out)
    if kind == "parquet":
        assert pq.read_table(out).num_rows == 0
    else:
        assert not kind.endswith(".gz") or out.read_bytes()
        assert lines(out) == ([",".join(NEW)] if kind.startswith("csv") else [])


def test_rejects_file(tmp_path):
    part, out = tmp_path / "part.jsonl", rejects_path(tmp_path / "scored.v2.jsonl.gz")
    outputs.write_rejects(part, [Reject("in.jsonl", 5, "not JSON", "\ud800x")])
    merge([part, part], out, "jsonl")
    assert out.name == "scored.v2.jsonl.gz.rejects.jsonl"
    wanted = {"source": "in.jsonl", "line": 5, "error": "not JSON", "text": "\ud800x"}
    assert [json.loads(line) for line in lines(out)] == [wanted] * 2


@pytest.mark.parametrize("kind", outputs.KINDS)
def test_the_deepest_row_that_is_read_is_written(tmp_path, kind):
    source = tmp_path / "in.jsonl"
    source.write_text('{"a": ' + "[" * 199 + "]" * 199 + "}")
    score_all([source], tmp_path / f"out.{kind}")


def test_data_sets_with_features_are_loaded_again(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"a": datasets.Sequence(datasets.Value("int32"))})
    datasets.Dataset.from_list([{"a": [1]}] * 5, features).save_to_disk(str(tmp_path / "in"))
    out = tmp_path / "out.parquet"
    score_all([tmp_path / "in"], out, lists=lambda row: True)
    found = datasets.load_dataset("parquet", data_files=str(out), cache_dir=str(tmp_path / "cache"))
    assert found["train"].features["a"] == features["a"]
    assert found["train"][4]["score"] == [1.0] * 3


def test_unknown_suffix():
    with pytest.raises(UserError, match=r"out\.xlsx: the output must end with one of \.jsonl, "):
        output_kind(Path("out.xlsx"))


def test_a_missing_part_is_said(tmp_path):
    with pytest.raises(UserError, match="this part of the output is missing"):
        merge([tmp_path / "part-0.jsonl"], tmp_path / "out.jsonl", "jsonl")


FULL = """
import resource, sys
from pathlib import Path
from agent_rl.errors import UserError
from agent_rl.scoring.outputs import merge
out = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    merge([Path(part) for part in sys.argv[3:]], out, sys.argv[2])
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", outputs.KINDS)
def test_a_full_disk_leaves_what_was_there(tmp_path, kind):
    source, out = tmp_path / "in.jsonl", tmp_path / f"out.{kind}"
    noise = random.Random(1)
    source.write_text("".join(json.dumps({"a": noise.random()}) + "\n" for _ in range(4000)))
    score_all([source], tmp_path / f"whole.{kind}", rows_per_span=1000)
    out.write_text("from before")
    parts = sorted((tmp_path / "work").glob(f"part-*.{kind}"))
    command = [sys.executable, "-c", FULL, str(out), kind, *map(str, parts)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"cannot write {out}: ")
    assert done.stdout.count("\n") == 1
    assert out.read_text() == "from before"
    assert sorted(tmp_path.glob(".out*")) == []
