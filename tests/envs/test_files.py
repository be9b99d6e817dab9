import csv
import gzip
import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rl_envs import DataError, as_tasks, load_rows, tasks_from_rows

ROWS = [{"prompt": "2+2=?\u2028", "answer": "4"}, {"prompt": 'a "b",\nc', "answer": "ü"}]


def write(path, rows=ROWS):
    """Rows in the format of the path's suffix."""
    lines = "".join(json.dumps(row) + "\r\n" for row in rows)
    if path.name.endswith(".jsonl"):
        path.write_text("\ufeff" + lines + "\n", encoding="utf-8", newline="")
    elif path.name.endswith(".jsonl.gz"):
        path.write_bytes(gzip.compress(lines.encode()))
    elif path.name.endswith(".json"):
        path.write_text(json.dumps(rows))
    elif path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.parquet", "a.csv"])
def test_every_format_gives_the_same_rows(tmp_path, name):
    assert load_rows(write(tmp_path / name)) == ROWS


def test_json_with_one_list_inside_an_object(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"version": 1, "data": ROWS}))
    assert load_rows(path) == ROWS


def test_a_python_list_is_copied():
    assert load_rows(ROWS) == ROWS
    assert load_rows(ROWS)[0] is not ROWS[0]


def test_a_folder_is_read_in_order(tmp_path):
    write(tmp_path / "b.csv")
    write(tmp_path / "a.jsonl")
    (tmp_path / "notes.txt").write_text("no data")
    assert load_rows(tmp_path) == ROWS + ROWS


def test_a_folder_gives_the_files_of_the_split(tmp_path):
    write(tmp_path / "train-0.jsonl")
    write(tmp_path / "test-0.jsonl", ROWS[:1])
    assert load_rows(tmp_path, split="test") == ROWS[:1]


def test_a_folder_saved_by_datasets_is_read_without_that_package(tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(str(folder / "data.arrow"), table.schema) as stream:
        stream.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    assert load_rows(tmp_path, split="train") == ROWS
    with pytest.raises(DataError, match="no split 'test'; it has train"):
        load_rows(tmp_path, split="test")


def test_broken_line_names_file_and_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "x"}\n{"prompt": "y"\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: not JSON"):
        load_rows(path)


def test_a_line_that_is_no_object_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("[1]\n")
    with pytest.raises(DataError, match="line 1: a row must be an object"):
        load_rows(path)


def test_deeply_nested_line_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("[" * 200_000)
    with pytest.raises(DataError, match="line 1"):
        load_rows(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "the data set is empty"),
        ("a.jsonl", b"\xff\xfe", "not UTF-8"),
        ("a.jsonl.gz", b"plain", "cannot be read"),
        ("a.json", b"{", "not JSON"),
        ("a.json", b"3", "expected a list of objects"),
        ("a.csv", b"prompt,answer\n1,2,3\n", "line 2: not as many fields"),
        ("a.parquet", b"PAR0", "not a Parquet file"),
        ("a.txt", b"x", r"cannot read \.txt; known: \.jsonl"),
    ],
)
def test_broken_file_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_rows(path)
    assert name in str(caught.value)


def test_missing_file_is_named():
    with pytest.raises(DataError, match="no such file or folder"):
        load_rows("nowhere/rows.jsonl")


def test_empty_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="no data file"):
        load_rows(tmp_path)


def test_columns_are_renamed(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"q": "x", "gold": "y", "n": 1}])
    rows = load_rows(path, columns={"prompt": "q", "answer": "gold"})
    assert rows == [{"prompt": "x", "answer": "y", "n": 1}]


def test_missing_column_lists_those_found():
    with pytest.raises(DataError, match="no column 'gold'; columns found: prompt, answer"):
        load_rows(ROWS, columns={"answer": "gold"})


def test_hub_id_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"owner/name: .*pip install agent-rl\[hub\]"):
        load_rows("owner/name")


def test_hub_data_set_that_cannot_be_reached_says_what_to_do(monkeypatch):
    class Offline:
        @staticmethod
        def load_dataset(data_id, name, split):
            raise ConnectionError(f"cannot reach {data_id} {name} {split}\nlong trace")

    monkeypatch.setitem(sys.modules, "datasets", Offline)
    with pytest.raises(DataError, match=r"reach owner/name main test\); offline, give a local"):
        load_rows("owner/name", split="test", name="main")


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        ({"prompt": "p", "answer": "a"}, "p", "a"),
        ({"prompt": "p", "ground_truth": "a"}, "p", "a"),
        ({"question": "q", "answer": "so\n#### 1,234"}, "q", "1234"),
        ({"question": "q", "solution": "so\n#### -7"}, "q", "-7"),
        ({"question": "q", "answer": "Paris"}, "q", "Paris"),
        ({"problem": "p", "solution": r"\boxed{1} or \boxed{\frac{1}{2}}"}, "p", r"\frac{1}{2}"),
        ({"problem": "p", "solution": r"\boxed{1}", "answer": "2"}, "p", "2"),
        ({"problem": "p", "solution": "none"}, "p", None),
    ],
)
def test_adapters(row, prompt, answer):
    task = tasks_from_rows([row])[0]
    assert (task.prompt, task.answer) == (prompt, answer)


def test_messages_end_with_the_user():
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert tasks_from_rows([{"messages": messages}])[0].prompt == messages[:1]


def test_gsm8k_solution_is_kept():
    task = tasks_from_rows([{"question": "q", "answer": "1+1=2\n#### 2"}])[0]
    assert task.info["solution"] == "1+1=2\n#### 2"


def test_id_column_or_content_makes_the_id():
    rows = [{"prompt": "p", "answer": "a"}, {"prompt": "p", "answer": "b"}]
    assert len({task.id for task in tasks_from_rows(rows)}) == 2
    assert tasks_from_rows([{"id": 7, "prompt": "p"}])[0].id == "7"


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "empty"),
        ([{"text": "x", "gold": 1}], {}, "columns found: text, gold"),
        ([{"prompt": "x"}], {"adapter": "question"}, "no column 'question'"),
        ([{"prompt": "x"}], {"adapter": "poem"}, "no adapter 'poem'"),
        ([{"prompt": "x", "answer": 1}, {"answer": 2}], {}, "row 1: no prompt"),
        ([{"prompt": "x", "id": "r9"}], {"need_answer": True}, r"row 0 \(id 'r9'\): no answer"),
        ([{"messages": [{"role": "system", "content": "x"}]}], {}, "without a user message"),
    ],
)
def test_bad_rows_are_named(rows, options, message):
    with pytest.raises(DataError, match=message):
        tasks_from_rows(rows, **options)


def test_a_path_is_a_task_source(tmp_path):
    assert as_tasks(str(write(tmp_path / "a.jsonl"))).size == 2
