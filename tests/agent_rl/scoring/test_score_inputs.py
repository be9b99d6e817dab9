"""What the user names becomes spans that can be read one by one, with every row exactly once."""

import csv
import gzip
import io
import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent_rl.errors import UserError
from agent_rl.scoring import inputs_tables, inputs_text
from agent_rl.scoring.inputs import plan, read, read_table
from agent_rl.scoring.types import Record, Reject


def rows_of(*sources, spool, **options):
    """Everything in the spans, read in a random order, put back in order."""
    planned = plan([str(each) for each in sources], Path(spool), **options)
    spans = list(planned.spans)
    assert [span.index for span in spans] == list(range(len(spans)))
    random.Random(1).shuffle(spans)
    found = {span.index: list(read(span)) for span in spans}
    return planned, [each for index in sorted(found) for each in found[index]]


def records(*sources, **options):
    _, found = rows_of(*sources, **options)
    assert all(isinstance(each, Record) for each in found), found
    return [each.row for each in found]


def rejects(path, spool, **options):
    _, found = rows_of(path, spool=spool, **options)
    return {each.line: each.error for each in found if isinstance(each, Reject)}


ROWS = [{"id": str(i), "text": 'Zürich, "q" \U0001f600\n' * (i % 3), "n": ""} for i in range(57)]


def write(path, rows):
    """Rows in the format of the suffix."""
    kind = path.suffixes[0]
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=20)
        return path
    text = io.StringIO(newline="")
    if kind == ".csv":
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    elif kind == ".json":
        json.dump({"version": 1, "data": rows, "more": {"a": []}}, text, indent=2)
    else:
        text.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


SUFFIXES = ["jsonl", "ndjson", "jsonl.gz", "json", "json.gz", "csv", "csv.gz", "parquet"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    path = write(tmp_path / f"rows.{suffix}", ROWS)
    planned, found = rows_of(path, spool=tmp_path / "spool", rows_per_span=7)
    assert [each.row for each in found] == ROWS
    assert (planned.rows, list(planned.columns)) == (57, ["id", "text", "n"])
    assert [span.name for span in planned.spans] == [str(path)] * len(planned.spans)
    assert max(span.rows for span in planned.spans) == 7
    assert (planned.schema is not None) == (suffix == "parquet")


def test_several_inputs_follow_each_other(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "b-test.csv", ROWS[:2])
    write(folder / "a-train.jsonl", ROWS[2:5])
    (folder / "notes.txt").write_text("not data")
    (folder / "c.jsonl").write_text("")
    other = write(tmp_path / "z.parquet", ROWS[5:6])
    spool = tmp_path / "spool"
    assert records(folder, other, spool=spool) == ROWS[2:5] + ROWS[:2] + ROWS[5:6]
    assert records(folder, spool=spool, split="test") == ROWS[:2]
    assert records(folder, spool=spool, skip=[folder / "a-train.jsonl"]) == ROWS[:2]


TEXT = st.text(st.sampled_from('ab",\n\r é\x00'), max_size=8)


@given(
    st.binary(max_size=60).map(lambda b: bytes(b'ab",\n\r;'[x % 7] for x in b)), st.integers(1, 3)
)
@example(b'a"b,c\n"d', 1)
@example(b'"a\r\nb"\r"c",\n\n"', 1)
def test_csv_records_are_those_of_the_csv_module(tmp_path_factory, body, rows_per_span):
    folder = tmp_path_factory.mktemp("csv")
    path = folder / "rows.csv"
    path.write_bytes(b"x,y\n" + body)
    wanted = [
        row for row in csv.reader(io.StringIO((b"x,y\n" + body).decode(), newline="")) if row
    ][1:]
    if not any(wanted):
        return
    _, found = rows_of(path, spool=folder, rows_per_span=rows_per_span)
    assert [list(each.row.values()) if isinstance(each, Record) else None for each in found] == [
        row if len(row) == 2 else None for row in wanted
    ]


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=9), st.integers(1, 4))
def test_csv_keeps_every_field(tmp_path_factory, rows, rows_per_span):
    folder = tmp_path_factory.mktemp("csv")
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("a", "b", "c"), *rows])
    (folder / "rows.csv").write_bytes(b"\xef\xbb\xbf" + text.getvalue().encode())
    found = records(folder / "rows.csv", spool=folder, rows_per_span=rows_per_span)
    assert [tuple(row.values()) for row in found] == rows


@given(
    st.lists(st.sampled_from([b'{"a": 1}', b"", b" ", b"5", b"{}", b"\r"]), max_size=12),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
    st.integers(1, 4),
)
def test_every_line_is_read_once(tmp_path_factory, lines, newline, ended, rows_per_span):
    folder = tmp_path_factory.mktemp("jsonl")
    text = newline.join([b'{"a": 0}', *lines]) + (newline if ended else b"")
    (folder / "rows.jsonl").write_bytes(text)
    planned, found = rows_of(folder / "rows.jsonl", spool=folder, rows_per_span=rows_per_span)
    wanted = [n for n, line in enumerate(text.split(b"\n"), start=1) if line.strip()]
    assert [each.line for each in found] == wanted
    assert planned.rows >= len(wanted)


BROKEN = {
    b'{"a": 1': "not JSON: Expecting ',' delimiter at character 8",
    b'{"a": "\xff"}': "not UTF-8 text: invalid start byte at byte 8",
    b'{"a": "\xed\xa0\x80"}': "not UTF-8 text: invalid continuation byte at byte 8",
    b'{"a": 1, "a": 2}': "the name 'a' occurs twice in one object",
    b'{"a": {"b": 1, "b": 1}}': "the name 'b' occurs twice in one object",
    b"[1, 2]": "a row must be an object, not '[1, 2]'",
    b"null": "a row must be an object, not 'null'",
    b'{"a": ' + b"9" * 5000 + b"}": "an integer of more than 4,300 digits",
    b'{"a": ' + b"[" * 100_000: "nested deeper than 200 levels",
    b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}": "nested deeper than 200 levels",
    b'{"a": "\x00"}': "not JSON: Invalid control character at at character 8",
    b"\x00\x00\x00": "not JSON: Expecting value at character 1",
    b'{"a": 1} {"a": 2}': "not JSON: Extra data at character 10",
}


def test_broken_lines_are_rejected_with_their_numbers(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n' + b"\n".join(BROKEN) + b'\r\n{"a": 2}')
    _, found = rows_of(path, spool=tmp_path, rows_per_span=3)
    assert [each.row for each in found if isinstance(each, Record)] == [{"a": 1}, {"a": 2}]
    assert rejects(path, tmp_path) == dict(enumerate(BROKEN.values(), start=3))
    assert next(each.text for each in found if isinstance(each, Reject)) == '{"a": 1'
    assert max(len(each.text) for each in found if isinstance(each, Reject)) == 10_000


def test_values_that_json_has_and_python_too(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"nan": NaN, "inf": -Infinity, "big": 123456789012345678901234567890, "s": "\\ud800"}'
    )
    (row,) = records(path, spool=tmp_path)
    assert row["big"] == 123456789012345678901234567890
    assert row["s"] == "\ud800"
    assert row["nan"] != row["nan"]
    assert row["inf"] == float("-inf")


def test_many_braces_are_not_deep(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"a": "{" * 999, "b": [[]] * 999}))
    assert len(records(tmp_path / "rows.jsonl", spool=tmp_path)) == 1


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_a_line_too_long_is_rejected_and_the_next_one_read(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(inputs_text, "MAX_LINE", 2**21)
    path = tmp_path / f"rows.{suffix}"
    text = b'{"a": 1}\n{"a": "' + b"x" * 2**22 + b'"}\n{"a": 2}\n' + b"y" * 2**22
    path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    _, found = rows_of(path, spool=tmp_path / "spool")
    assert [each.row for each in found if isinstance(each, Record)] == [{"a": 1}, {"a": 2}]
    copies = [each.stat().st_size for each in (tmp_path / "spool").glob("*")]
    assert max(copies, default=0) < 2 * 2**21 + 100
    assert rejects(path, tmp_path / "spool") == dict.fromkeys(
        (2, 4), "the line is longer than 2 MB"
    )


def test_broken_csv_records_are_rejected_with_their_lines(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    path.write_bytes(b'a,b\r\n1,"x\r\ny"\r\n2\r\n\r\n3,4,5\r\n6,\xff\r\n7,8')
    assert rejects(path, tmp_path, rows_per_span=2) == {
        4: "1 fields, but there are 2 columns",
        6: "3 fields, but there are 2 columns",
        7: "not UTF-8 text: invalid start byte in line 7",
    }
    monkeypatch.setattr(inputs_text, "MAX_LINE", 1000)
    path.write_bytes(b'a,b\n1,"' + b"z\n" * 2000 + b"2,3\n" + b"w" * 5000 + b"\n4,5\n")
    found = rejects(path, tmp_path)
    assert "a line or field longer than" in found[2]
    assert "a line or field longer than" in found[2003]


def test_a_span_ends_after_its_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs_text, "SPAN_BYTES", 100)
    rows = [{"a": "x" * 60}] * 5
    for suffix in ("jsonl", "csv"):
        path = write(tmp_path / f"rows.{suffix}", rows)
        planned, found = rows_of(path, spool=tmp_path)
        assert [span.rows for span in planned.spans] == [2, 2, 1]
        assert [each.row for each in found] == rows


REFUSED = {
    "no_such.jsonl": (None, "no such file or folder"),
    "empty.jsonl": (b"", "the data set is empty"),
    "blank.jsonl": (b"\n\r\n\n", "the data set is empty"),
    "empty.csv": (b"", "the data set is empty"),
    "header.csv": (b"a,b\n", "the data set is empty"),
    "twice.csv": (b"a,b,a\n1,2,3\n", "the column 'a' is there twice"),
    "utf16.jsonl": ('{"a": 1}'.encode("utf-16"), "UTF-16 text; write it as UTF-8"),
    "empty.json": (b"", "expected a list of objects"),
    "number.json": (b"5", "expected a list of objects"),
    "none.json": (b'{"a": 1}', "or an object that has one"),
    "two.json": (b'{"a": [], "b": []}', 'not "a" and "b"'),
    "cut.json": (b'[{"a": 1}, {"a":', "not JSON: Expecting value, at value 2"),
    "more.json": (b"[]\n[]", "something behind the list"),
    "comma.json": (b"[{},]", "a comma before the end of the list"),
    "cut.jsonl.gz": (gzip.compress(b'{"a": 1}\n' * 9)[:-9], "cut off after line 0"),
    "fake.jsonl.gz": (b"text", "damaged or cut off"),
    "fake.parquet": (b"PAR1....PAR1", "not a whole Parquet file"),
    "rows.xlsx": (b"x", "cannot read .xlsx; known: .jsonl"),
    "rows": (b"x", "cannot read a file without a suffix"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_inputs_that_cannot_be_used(tmp_path, name):
    data, message = REFUSED[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=f"{name}.*{message}") as caught:
        plan([str(tmp_path / name)], tmp_path / "spool")
    assert "\n" not in str(caught.value)
    spool = tmp_path / "spool"
    assert not spool.exists() or not list(spool.iterdir())


def test_json_that_is_json_lines(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('{"a": 1}\n{"a": 2}\nbroken\n')
    _, found = rows_of(path, spool=tmp_path)
    assert [type(each) for each in found] == [Record, Record, Reject]


def test_json_rows_keep_their_text(tmp_path, monkeypatch):
    monkeypatch.setattr("agent_rl.scoring.inputs_spool._CHUNK", 3)
    path = tmp_path / "rows.json"
    path.write_text('{"m": 12, "rows": [{"a":\n 1.10e5, "é": "\\u00e9"},\n\n {}, 7]}')
    planned, found = rows_of(path, spool=tmp_path / "spool")
    assert [each.row for each in found[:2]] == [{"a": 110000.0, "é": "é"}, {}]
    assert found[2].error == "a row must be an object, not '7'"
    assert b'"a":  1.10e5' in planned.spans[0].path.read_bytes()


@pytest.mark.parametrize("size", range(1, 6))
def test_json_values_that_end_where_a_piece_ends(tmp_path, monkeypatch, size):
    monkeypatch.setattr("agent_rl.scoring.inputs_spool._CHUNK", size)
    path = tmp_path / "rows.json"
    path.write_text("[1234, 5, {}, -1.5e10]")
    planned = plan([str(path)], tmp_path / "spool")
    assert planned.spans[0].path.read_text() == "1234\n5\n{}\n-1.5e10\n"


def test_the_same_file_twice_is_refused(tmp_path):
    path = write(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / "link.jsonl").symlink_to(path)
    for again in (path, tmp_path / "link.jsonl"):
        with pytest.raises(UserError, match="given twice"):
            plan([str(path), str(again)], tmp_path / "spool")


@pytest.mark.parametrize("suffix", ["jsonl", "csv.gz", "parquet"])
def test_the_fingerprint_is_of_the_content(tmp_path, suffix):
    path = write(tmp_path / f"rows.{suffix}", ROWS)
    os.utime(path, ns=(5, 5))

    def fingerprint(**options):
        return plan([str(path)], tmp_path / "spool", **options).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    assert fingerprint(rows_per_span=9) != first
    os.utime(path, ns=(5, 6))
    assert fingerprint() != first
    write(path, [{**ROWS[0], "id": "x"}, *ROWS[1:]])
    os.utime(path, ns=(5, 5))
    assert fingerprint() != first


def test_copies_are_made_once(tmp_path):
    path = write(tmp_path / "rows.jsonl.gz", ROWS)
    first = plan([str(path)], tmp_path / "spool")
    made = first.spans[0].path.stat()
    again = plan([str(path)], tmp_path / "spool")
    assert again == first
    assert first.spans[0].path.stat().st_ino == made.st_ino
    write(path, ROWS[:3])
    assert plan([str(path)], tmp_path / "spool").rows == 3


def test_unpacking_stops_before_the_disk_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr("agent_rl.scoring.inputs_spool._CHUNK", 16)
    monkeypatch.setattr("shutil.disk_usage", lambda _: (10**12, 0, 10**6))
    path = write(tmp_path / "rows.jsonl.gz", ROWS)
    with pytest.raises(UserError, match="unpacking it fills the disk"):
        plan([str(path)], tmp_path / "spool")
    assert not list((tmp_path / "spool").iterdir())


class Piped(io.BytesIO):
    """Standard input that holds these bytes."""

    buffer = property(lambda self: self)


def test_standard_input_is_copied_and_must_be_the_same_again(tmp_path, monkeypatch):
    def planned(text):
        monkeypatch.setattr("sys.stdin", Piped(text))
        return plan(["-"], tmp_path / "spool")

    first = planned(b'{"a": 1}\n')
    assert [each.row for each in read(first.spans[0])] == [{"a": 1}]
    assert planned(b'{"a": 1}\n') == first
    assert planned(b"") == first
    with pytest.raises(UserError, match="not what this job began with"):
        planned(b'{"a": 2}\n')
    assert planned(b"") == first


ODD = pa.table(
    {
        "ns": pa.array([1, 10**18 + 1], pa.timestamp("ns")),
        "us": pa.array([0, 10**15], pa.timestamp("us", "UTC")),
        "far": pa.array([10**17, 0], pa.timestamp("ms")),
        "raw": pa.array([b"\xff", None]),
        "dict": pa.array(["a", "b"]).dictionary_encode(),
        "nested": pa.array([[{"x": 1}], []]),
        "map": pa.array([[("k", 1.5)], []], pa.map_(pa.string(), pa.float64())),
    }
)


def test_arrow_types_are_kept(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(ODD, path)
    planned = plan([str(path)], tmp_path, rows_per_span=1)
    assert pa.concat_tables([read_table(span) for span in planned.spans]).equals(ODD)
    assert planned.schema.equals(ODD.schema)
    row = next(read(planned.spans[1])).row
    assert str(row["ns"]) == "2001-09-09 01:46:40.000000001"
    assert (row["raw"], row["dict"], row["nested"]) == (None, "b", [])


def test_large_row_groups_are_cut_up(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs_tables, "MAX_ROWS", 4)
    table = pa.table({"a": range(10), "b": pa.array(list("xyxyxyxyxy")).dictionary_encode()})
    pq.write_table(table, tmp_path / "rows.parquet")
    planned, found = rows_of(tmp_path / "rows.parquet", spool=tmp_path / "s", rows_per_span=3)
    assert [each.row for each in found] == table.to_pylist()
    assert [each.line for each in found] == list(range(1, 11))
    assert {span.kind for span in planned.spans} == {"arrow"}
    assert [span.rows for span in planned.spans] == [3, 3, 3, 1]


def test_a_damaged_row_group_gives_a_reject_for_each_row(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": ["x" * 50] * 8}), path, row_group_size=4, compression="zstd")
    data = bytearray(path.read_bytes())
    data[4:30] = b"\xff" * 26
    path.write_bytes(data)
    _, found = rows_of(path, spool=tmp_path, rows_per_span=3)
    assert [type(each) for each in found] == [Reject] * 4 + [Record] * 4
    assert [each.line for each in found] == list(range(1, 9))
    assert "damaged" in found[0].error


def test_a_file_that_shrank_is_not_read(tmp_path):
    for suffix in ("jsonl", "csv", "parquet"):
        path = write(tmp_path / f"rows.{suffix}", ROWS)
        span = plan([str(path)], tmp_path).spans[-1]
        write(path, ROWS[:1])
        with pytest.raises(UserError, match="the file has changed"):
            list(read(span))


@pytest.fixture
def datasets():
    return pytest.importorskip("datasets")


def test_large_batches_are_cut_up(tmp_path, datasets, monkeypatch):
    datasets.Dataset.from_dict({"a": list(range(10))}).save_to_disk(str(tmp_path / "data"))
    monkeypatch.setattr(inputs_tables, "MAX_ROWS", 4)
    planned, found = rows_of(tmp_path / "data", spool=tmp_path / "spool", rows_per_span=3)
    assert [each.row["a"] for each in found] == list(range(10))
    assert planned.spans[0].path.parent == tmp_path / "spool"


def test_folders_of_save_to_disk(tmp_path, datasets):
    rows = [{"a": i, "b": ["x"] * i} for i in range(25)]
    made = datasets.Dataset.from_list(rows)
    made.save_to_disk(str(tmp_path / "one"), num_shards=2)
    both = datasets.DatasetDict({"train": made, "test": made.select(range(3))})
    both.save_to_disk(str(tmp_path / "both"))
    spool = tmp_path / "spool"
    assert records(tmp_path / "one", spool=spool, rows_per_span=4) == rows
    assert records(tmp_path / "both", spool=spool) == rows
    assert records(tmp_path / "both", spool=spool, split="test") == rows[:3]
    with pytest.raises(UserError, match=r"no split 'dev'; it has train, test"):
        plan([str(tmp_path / "both")], spool, split="dev")


def test_data_set_ids(tmp_path, datasets, monkeypatch):
    rows = [{"a": i} for i in range(9)]

    def load(data_id, name, split):
        if data_id == "owner/none":
            raise ConnectionError("no network\nat all")
        return datasets.Dataset.from_list(rows if (name, split) == ("main", "train") else rows[:2])

    monkeypatch.setattr(datasets, "load_dataset", load)
    planned, found = rows_of("owner/data", spool=tmp_path, name="main", rows_per_span=4)
    assert [each.row for each in found] == rows
    monkeypatch.setattr(datasets, "load_dataset", None)  # the copy is enough
    assert plan(["owner/data"], tmp_path, name="main", rows_per_span=4) == planned
    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(UserError, match=r"owner/none: .* could not be loaded \(no network\)"):
        plan(["owner/none"], tmp_path)
