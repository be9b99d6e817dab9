"""``agent-rl label`` without a browser: what is written, and what two tabs can do to it."""

from __future__ import annotations

import json
import threading

import pytest

from agent_rl.cli import main
from agent_rl.errors import UserError
from agent_rl.label.items import load_items
from agent_rl.label.store import LabelStore
from agent_rl.preferences import load_pairs, read_pairs
from agent_rl.preferences.statistics import describe
from tests.agent_rl.preferences.labelling import Labelling, read_rows, write_rows

PAIRS = [
    {"prompt": f"q{n}", "chosen": f"good {n}", "rejected": f"bad {n}", "margin": 1.0, "id": n}
    for n in range(40)
]


@pytest.fixture
def files(tmp_path):
    return write_rows(tmp_path / "pairs.jsonl", PAIRS), tmp_path / "labels.jsonl"


@pytest.fixture
def store(files):
    given, output = files
    opened = LabelStore(output, load_items(str(given)))
    yield opened
    opened.close()


def refused(capsys, given, output, words, *options):
    """The command ends with one line that has these words."""
    with pytest.raises(SystemExit) as end:
        main(["label", str(given), "--output", str(output), "--port", "0", *options])
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert words in said
    assert said.count("\n") == 1


def test_what_is_written_reads_back_as_preferences(files, store):
    output = files[1]
    for n, choice in enumerate(["left", "right", "tie"]):
        item = store.next("ann")
        left, right = store.shown(item, "ann")
        store.choose(item, "ann", choice, 2.04)
        row = read_rows(output)[n]
        assert "margin" not in row  # another labelling's
        if choice != "tie":
            wanted = left if choice == "left" else right
            assert (row["chosen"][0]["content"], row["chosen_position"]) == (wanted, choice)
    pairs = read_pairs(str(output)).pairs
    assert [(p.id, p.annotator, p.tie, p.info["seconds"]) for p in pairs] == [
        ("0", "ann", False, 2.0),
        ("1", "ann", False, 2.0),
        ("2", "ann", True, 2.0),
    ]
    assert len(load_pairs(str(output))) == 2
    assert describe(pairs)["position"]["left_chosen"] == 0.5


def test_sides_are_drawn_for_each_item_and_annotator_and_stay(store):
    items = list(store.items.values())
    lefts = [store.shown(item, "ann")[0] for item in items]
    assert lefts == [store.shown(item, "ann")[0] for item in items]
    assert 10 <= sum(left.startswith("good") for left in lefts) <= 30
    assert lefts != [store.shown(item, "bob")[0] for item in items]


def test_a_second_judgement_of_an_item_is_not_written(files):
    with Labelling(*files) as server:
        key = server.next()["item"]["key"]
        assert server.choose(key, "left").json()["done"] == 1
        again = server.choose(key, "right").json()
        assert (again["already"], again["done"]) == (True, 1)
        assert server.choose(key, "right", "bob").json()["done"] == 1
    assert [row["annotator"] for row in read_rows(files[1])] == ["me", "bob"]


def test_two_annotators_and_many_tabs_at_once_lose_and_double_nothing(files):
    with Labelling(*files) as server:

        def work(name):
            while (item := server.next(name)["item"]) is not None:
                server.choose(item["key"], "left", name)

        names = ["ann", "bob", "ann", "bob"]
        tabs = [threading.Thread(target=work, args=(name,)) for name in names]
        for tab in tabs:
            tab.start()
        for tab in tabs:
            tab.join()
    rows = read_rows(files[1])
    assert len(rows) == len({(row["item"], row["annotator"]) for row in rows}) == 80


def test_undo_takes_back_the_own_last_choice_only(files):
    with Labelling(*files) as server:
        first = server.next()["item"]
        server.choose(first["key"], "left")
        server.choose(first["key"], "left", "bob")
        second = server.next()["item"]
        server.choose(second["key"], "tie")
        assert server.undo().json()["item"] == second
        assert server.undo().json()["item"] == first
        assert server.undo().status_code == 409
        assert server.next()["done"] == 0
    assert [row["annotator"] for row in read_rows(files[1])] == ["bob"]


def test_a_restart_goes_on_whatever_killed_the_server_and_other_rows_stay(files):
    given, output = files
    foreign = {"prompt": "other", "chosen": "x", "rejected": "y", "note": "\u2028 stays"}
    write_rows(output, [foreign])
    with Labelling(given, output) as server:
        server.choose(server.next()["item"]["key"], "left")
        server.choose(server.next()["item"]["key"], "left")
    with output.open("a") as file:
        file.write('{"item": "half-writ')
    with Labelling(given, output) as server:
        assert server.next()["done"] == 2
        server.choose(server.next()["item"]["key"], "left")
        assert server.end() == 0  # SIGTERM
    rows = read_rows(output)
    assert rows[0] == foreign
    assert [row["id"] for row in rows[1:]] == ["0", "1", "2"]


def test_one_server_owns_the_output(files, capsys):
    with Labelling(*files):
        refused(capsys, *files, "another agent-rl label writes to this file; end it, or give")


def test_who_is_let_in_and_what_is_refused(files, capsys):
    with Labelling(*files, token="secret") as server:
        assert server.ask("GET", "/api/next", headers={"Authorization": ""}).status_code == 401
        assert server.ask("GET", "/", headers={"Authorization": ""}).status_code == 200
        assert server.choose("nothing", "left").status_code == 404
        key = server.next()["item"]["key"]
        assert server.choose(key, "both").status_code == 422
        assert server.choose(key, "left", "a\nb").status_code == 422
        assert server.ask("POST", "/api/choose", content="{}").status_code == 415
    with Labelling(*files) as server:
        odd = {"Host": "evil.example"}  # a name that was made to point here
        assert server.ask("GET", "/api/next", headers=odd).status_code == 403
        policy = server.ask("GET", "/").headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
    assert read_rows(files[1]) == []
    refused(capsys, *files, "without a token", "--host", "0.0.0.0")


def test_an_output_that_cannot_be_is_refused(files, tmp_path, capsys):
    given = files[0]
    refused(capsys, given, tmp_path / "labels.csv", "give a name ending in .jsonl")
    refused(capsys, given, tmp_path / "no" / "labels.jsonl", "there is no folder")
    refused(capsys, given, given, "is the input")


def test_items_come_from_groups_of_completions(tmp_path):
    group = {"prompt": "p", "completions": ["a", "b", "c", "a"], "id": "g", "source": "s"}
    path = str(write_rows(tmp_path / "a.jsonl", [group]))
    (one,) = load_items(path)
    assert [one] == load_items(path)
    assert one.info == {"source": "s"}
    assert {item.answers for item in load_items(path, per_prompt=0)} == {
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    }
    singles = [{"prompt": "p", "completion": text} for text in ("a", "b")]
    (item,) = load_items(str(write_rows(tmp_path / "b.jsonl", singles)))
    assert item.answers == ("a", "b")
    pairs = [PAIRS[0], {**PAIRS[1], "chosen": ""}]
    told = []
    assert len(load_items(str(write_rows(tmp_path / "p.jsonl", pairs)), tell=told.append)) == 1
    assert "1 of 2 rows left out: 1 the chosen answer is empty (first: row 2)" in told[0]
    with pytest.raises(UserError, match="no two different answers"):
        load_items(str(write_rows(tmp_path / "c.jsonl", singles[:1])))
    with pytest.raises(UserError, match=r"row 1: needs chosen and rejected, or prompt and"):
        load_items(str(write_rows(tmp_path / "d.jsonl", [{"question": 1}])))


def test_a_label_survives_a_lone_surrogate(tmp_path):
    rows = [{"prompt": "p", "completions": ["a\ud800", "b"]}]
    (tmp_path / "a.jsonl").write_text(json.dumps(rows[0]) + "\n")
    store = LabelStore(tmp_path / "o.jsonl", load_items(str(tmp_path / "a.jsonl")))
    item = store.next("me")
    store.choose(item, "me", "left", None)
    store.close()
    again = LabelStore(tmp_path / "o.jsonl", [item])
    assert again.next("me") is None
    again.close()


def test_a_lone_surrogate_reaches_the_page(tmp_path):
    given = tmp_path / "a.jsonl"
    given.write_text(json.dumps({"prompt": "p", "completions": ["a\ud800", "b"]}) + "\n")
    with Labelling(given, tmp_path / "o.jsonl") as server:
        item = server.next()["item"]
        assert {item["left"], item["right"]} == {"a\ud800", "b"}
        assert server.choose(item["key"], "left").json()["done"] == 1


def test_another_web_page_may_not_label(files):
    with Labelling(*files) as server:
        key = server.next()["item"]["key"]
        for origin, status in (
            ("http://evil.example", 403),
            ("null", 403),
            (f"http://127.0.0.1:{server.port + 1}", 403),
            (server.url, 200),
        ):
            answer = server.ask(
                "POST",
                "/api/choose",
                json={"item": key, "choice": "tie"},
                headers={"Origin": origin},
            )
            assert answer.status_code == status, origin
        assert server.ask("OPTIONS", "/api/choose", headers={"Origin": "null"}).status_code == 405
    assert len(read_rows(files[1])) == 1


def test_a_name_is_one_however_it_is_typed(files, capsys):
    with Labelling(*files, "--annotator", " ann ") as server:
        server.choose(server.next()["item"]["key"], "left")
        for name in ("ann", "ann ", "  ", "Ze\u0301", "Z\u00e9"):
            server.choose(server.next(name)["item"]["key"], "left", name)
    assert [row["annotator"] for row in read_rows(files[1])] == [*["ann"] * 4, *["Z\u00e9"] * 2]
    refused(capsys, *files, "--annotator: annotator must be a name", "--annotator", "a\nb")
    refused(capsys, *files, "--annotator is empty", "--annotator", " ")


def test_lines_of_others_stay_to_the_byte(files):
    given, output = files
    before = b'{"a": NaN, "a": 1.0}\r\n\n{"last": "without its end"}'
    output.write_bytes(before)
    store = LabelStore(output, load_items(str(given)))
    store.choose(store.next("ann"), "ann", "left", None)
    store.undo("ann")
    store.close()
    assert output.read_bytes() == before + b"\n"


@pytest.mark.parametrize(
    "content", [b"no json", b"[1, 2]\n", b'{"a": "\xff"}\n', b'{\n "a": 1\n}\n']
)
def test_an_output_that_is_not_ours_stays_and_is_not_locked(files, content):
    given, output = files
    output.write_bytes(content)
    for _ in range(2):
        with pytest.raises(UserError, match=r"labels.jsonl.*(another --output|damaged|no JSON)"):
            LabelStore(output, load_items(str(given)))
    assert output.read_bytes() == content


def test_a_linked_output_stays_a_link_and_has_one_server(files, tmp_path):
    given, output = files
    link = tmp_path / "link.jsonl"
    link.symlink_to(output)
    items = load_items(str(given))
    store = LabelStore(link, items)
    store.choose(items[0], "ann", "left", None)
    store.choose(items[1], "ann", "left", None)
    store.undo("ann")
    assert link.is_symlink()
    assert len(read_rows(output)) == 1
    with pytest.raises(UserError, match="another agent-rl label"):
        LabelStore(output, items)
    output.unlink()
    with pytest.raises(UserError, match="no longer there"):
        store.undo("ann")
    store.close()
