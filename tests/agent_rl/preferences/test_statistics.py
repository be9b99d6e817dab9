"""Figures about preferences, against closed forms and published examples."""

from __future__ import annotations

import json

import pytest

from agent_rl.cli import main
from agent_rl.preferences import Pair
from agent_rl.preferences.statistics import (
    agreement,
    cohen_kappa,
    describe,
    krippendorff_alpha,
    length_bias,
    position_bias,
    repeats,
)
from rl_envs.types import Message
from tests.agent_rl.preferences.labelling import write_rows


def pair(chosen, rejected, prompt="p", **more):
    return Pair((Message(role="user", content=prompt),), chosen, rejected, **more)


def test_kappa_is_that_of_the_textbook():
    """Two readers and 50 proposals, 20 both yes, 15 both no, 5 and 10 mixed: 0.4."""
    given = [("y", "y")] * 20 + [("n", "n")] * 15 + [("y", "n")] * 5 + [("n", "y")] * 10
    assert cohen_kappa(given) == pytest.approx(0.4)
    assert cohen_kappa([("y", "y")] * 3) is None


def test_alpha_is_krippendorffs_own_example():
    """Four observers and twelve units with missing labels (Krippendorff 2011, C): 0.743."""
    observers = [
        (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
        (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
        (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
        (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
    ]
    units = [
        [label for label in unit if label is not None] for unit in zip(*observers, strict=True)
    ]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha([["a", "a"], ["a", "a"]]) is None
    assert krippendorff_alpha([["a", "b"], ["b", "a"]]) == pytest.approx(-0.5)


def test_agreement_sees_through_the_order_of_the_answers():
    ann = [pair("a", "b", str(n), annotator="ann") for n in range(4)]
    bob = [pair("a", "b", str(n), annotator="bob") for n in range(2)]
    bob += [pair("b", "a", "2", annotator="bob"), pair("b", "a", "3", tie=True, annotator="bob")]
    found = agreement([*ann, *bob, pair("a", "b", "9", annotator="ann")])
    assert (found["items"], found["percent"]) == (4, 50.0)
    assert found["between"] == [
        {"annotators": ["ann", "bob"], "items": 4, "percent": 50.0, "kappa": 0.0}
    ]
    assert agreement(ann) is None


def test_length_alone_is_measured_on_prompts_it_did_not_learn_from():
    longer = [pair("aaa", "a", str(n)) for n in range(40)]
    found = length_bias([*longer, pair("a", "b", "equal"), pair("b", "aaaa", tie=True)])
    assert (found["n"], found["longer_chosen"]) == (40, 1.0)
    assert found["accuracy"] == pytest.approx(40.5 / 41)
    assert found["interval"] == pytest.approx((1 / (1 + 1.959964**2 / 40), 1.0), abs=1e-4)
    shorter = length_bias([pair("a", "aaa", str(n)) for n in range(40)])
    assert (shorter["longer_chosen"], shorter["accuracy"]) == (0.0, 1.0)
    assert length_bias([])["accuracy"] is None


def test_position_and_repeats():
    left, right = {"chosen_position": "left"}, {"chosen_position": "right"}
    pairs = [pair("a", "b", info=left), pair("a", "b", info=left), pair("b", "a", info=right)]
    found = position_bias([*pairs, pair("a", "b", tie=True, info=left)])
    assert (found["n"], found["left_chosen"]) == (3, pytest.approx(2 / 3))
    assert position_bias([pair("a", "b")]) is None
    assert repeats(pairs) == {"duplicates": 1, "contradictions": 1}
    assert repeats([pair("a", "b", annotator="x"), pair("b", "a", annotator="y")]) == {
        "duplicates": 0,
        "contradictions": 0,
    }
    assert describe([])["pairs"] == 0


def test_files_of_one_name_in_two_folders_are_two_annotators(tmp_path, capsys):
    row = {"prompt": "p", "chosen": "yes", "rejected": "no"}
    paths = []
    for name in ("ann", "bob"):
        (tmp_path / name).mkdir()
        paths.append(str(write_rows(tmp_path / name / "labels.jsonl", [row])))
    with pytest.raises(SystemExit):
        main(["preferences", *paths, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["annotators"] == dict.fromkeys(paths, 1)
    assert (found["agreement"]["items"], found["repeats"]["duplicates"]) == (1, 0)


def test_the_command_joins_files_and_names_annotators_by_them(tmp_path, capsys):
    rows = [{"prompt": str(n), "chosen": "yes", "rejected": "no"} for n in range(3)]
    ann = write_rows(tmp_path / "ann.jsonl", [*rows, {**rows[0], "chosen": ""}])
    bob = write_rows(tmp_path / "bob.jsonl", [{**rows[0], "chosen": "no", "rejected": "yes"}])
    with pytest.raises(SystemExit) as end:
        main(["preferences", str(ann), str(bob), "--json"])
    assert end.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["pairs"]) == (5, 4)
    assert found["annotators"] == {"ann": 3, "bob": 1}
    assert found["agreement"]["percent"] == 0
    assert found["files"][0]["left_out"] == {"the chosen answer is empty": 1}
    with pytest.raises(SystemExit):
        main(["preferences", str(ann), str(bob)])
    shown = capsys.readouterr().out
    assert "Krippendorff's alpha" in shown
    assert "longer answer chosen" in shown
