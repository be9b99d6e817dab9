"""Pairs made from samples: by reward, reward model or judge; noise; going on after a stop."""

from __future__ import annotations

import io
import json
import math
import re
import threading
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from agent_rl.config import EnvConfig, ModelConfig, PairsConfig, SamplingConfig, TinyModel
from agent_rl.errors import UserError
from agent_rl.loading import check as check_settings
from agent_rl.preferences import load_pairs
from agent_rl.preferences.making import Labelling, Sample, label, paired
from agent_rl.reward_models import from_policy, save_reward_model
from agent_rl.runs import Console, RunFolder
from agent_rl.stages import pairs as stage
from rl_verifiers import Score, register
from rl_verifiers.chat_endpoint import close_connections

TINY = TinyModel(
    hidden_size=16, layers=1, heads=2, intermediate_size=16, context=48,
    characters="abcdefghijklmnopqrstuvwxyz: ", tokens=(),
)  # fmt: skip
SETTINGS = PairsConfig(
    model=ModelConfig(tiny=TINY),
    env=EnvConfig("text/Letters-v0"),
    sampling=SamplingConfig(max_tokens=8),
    tasks=10,
    samples=4,
    on_truncation="score",
    tasks_at_once=4,
)


def sample(text, reward):
    return Sample(({"role": "user", "content": "p"},), text, reward, {}, {"reward": reward})


def made(config, path):
    folder = RunFolder.create(path, {})
    summary = stage.run(config, folder, Console(file=io.StringIO()))
    return summary, [json.loads(line) for line in (path / "data.jsonl").read_text().splitlines()]


def test_pairs_of_a_task():
    samples = [sample(text, reward) for text, reward in zip("abcd", (1, 3, 0, 2), strict=True)]
    names = {
        how: ["".join(s.text for s in pair) for pair in paired(samples, how)]
        for how in ("all", "disjoint", "extremes")
    }
    assert names["all"] == ["ab", "ac", "ad", "bc", "bd", "cd"]
    assert names["disjoint"] == ["ab", "cd"]
    assert names["extremes"] == ["bc"]


@pytest.mark.parametrize(
    ("how", "share"),
    [
        (Labelling(), 0.0),
        (Labelling(noise="flip", flip=0.2), 0.2),
        (Labelling(noise="bradley_terry", temperature=0.5), 1 - 1 / (1 + math.exp(-1 / 0.5))),
    ],
)
def test_noise_swaps_as_often_as_it_says_and_hides_the_margin(how, share):
    rng, counts = np.random.default_rng(0), Counter()
    worse, better = sample("worse", 1.0), sample("better", 2.0)
    made_pairs = [label(worse, better, -1.0, how, rng, counts) for _ in range(4000)]
    swapped = sum(pair.chosen == "worse" for pair in made_pairs)
    assert swapped == counts["flipped"]
    assert swapped / 4000 == pytest.approx(share, abs=3 * math.sqrt(share * (1 - share) / 4000))
    assert {pair.margin for pair in made_pairs} == {1.0 if how.noise == "none" else None}
    assert all(
        pair.info[f"reward_{side}"] == {"worse": 1.0, "better": 2.0}[getattr(pair, side)]
        for pair in made_pairs
        for side in ("chosen", "rejected")
    )


def test_ties_and_equal_texts_are_counted():
    rng, counts = np.random.default_rng(0), Counter()
    how = Labelling(min_gap=0.5, keep_ties=True)
    cases = [("a", "b", 0.4), ("a", "b", 0.0), ("a", "a", 1.0), ("a", " ", 1.0), ("a", "b", 0.5)]
    found = [label(sample(a, g), sample(b, 0.0), g, how, rng, counts) for a, b, g in cases]
    assert [pair and pair.tie for pair in found] == [True, True, None, None, False]
    assert counts == {"ties": 2, "same": 1, "empty": 1, "made": 1}
    assert label(*map(sample, "ab", (0.0, 0.0)), 0.0, Labelling(), rng, counts) is None


def test_a_reward_that_is_no_number_labels_nothing():
    rng, counts = np.random.default_rng(0), Counter()
    for gap in (math.nan, math.inf):
        pair = label(sample("a", gap), sample("b", 0.0), gap, Labelling(), rng, counts)
        assert pair is None
    assert counts == {"failed": 2}


def test_an_environments_reward_orders_the_pairs_and_the_file_is_preference_data(tmp_path):
    summary, rows = made(SETTINGS, tmp_path / "run")
    assert all(row["margin"] == row["reward_chosen"] - row["reward_rejected"] > 0 for row in rows)
    pairs = load_pairs(str(tmp_path / "run" / "data.jsonl"))
    assert [pair.id for pair in pairs] == [row["id"] for row in rows]
    possible = summary["made"] + summary["ties"] + summary["same"] + summary["empty"]
    assert possible == 10 * 6
    assert summary["pairs"] == summary["made"] == len(rows) > 10
    assert "env_reward_chosen" not in rows[0]
    assert not (tmp_path / "run" / stage.CHUNKS).exists()


def test_a_stopped_stage_goes_on_to_the_same_file(tmp_path, monkeypatch):
    config = replace(SETTINGS, noise="bradley_terry", ties="keep")
    summary, _ = made(config, tmp_path / "whole")
    written = stage.append_line

    def killed(path, line):
        if '"tasks": 8' in line:
            with path.open("a") as file:
                file.write(line[:40])
            raise KeyboardInterrupt
        written(path, line)

    folder = RunFolder.create(tmp_path / "cut", {})
    with monkeypatch.context() as patch:
        patch.setattr(stage, "append_line", killed)
        with pytest.raises(KeyboardInterrupt):
            stage.run(config, folder, Console(file=io.StringIO()))
    again = stage.run(config, folder, Console(file=io.StringIO()), resume=True)
    names = (tmp_path / name / "data.jsonl" for name in ("whole", "cut"))
    assert len({path.read_bytes() for path in names}) == 1
    assert again | {"train_seconds": 0} == summary | {"train_seconds": 0}
    assert [row["step"] for row in folder.read_metrics()] == [4, 8, 10]


def test_chunks_change_nothing(tmp_path):
    config = replace(SETTINGS, noise="flip", flip=0.5)
    _, rows = made(config, tmp_path / "many")
    assert made(replace(config, tasks_at_once=10), tmp_path / "one")[1] == rows


def test_a_reward_model_labels_and_the_environments_reward_stands_beside(tmp_path):
    model = from_policy(ModelConfig(tiny=TINY), 3)
    save_reward_model(model, tmp_path / "rm")
    config = replace(SETTINGS, reward_model_path=str(tmp_path / "rm"), pairing="extremes")
    stage.check(config)
    _, rows = made(config, tmp_path / "run")
    for row in rows:
        said = [[*row["prompt"], *row[side]] for side in ("chosen", "rejected")]
        scores = model.score(said).tolist()
        assert [row["reward_chosen"], row["reward_rejected"]] == pytest.approx(scores, abs=1e-5)
        assert row["reward_chosen"] > row["reward_rejected"]
    assert any(row["env_reward_chosen"] < row["env_reward_rejected"] for row in rows)


def alphabetical(mode, against, fails=False):
    """A judge: the first by the alphabet is better, one that begins with a vowel is not judged."""
    assert (mode, against) == ("pairwise", "reference")

    def verdict(completion, row):
        assert row["id"] in row["prompt"][-1]["content"]  # the task's own columns
        other = row["reference"]
        if fails or completion[:1] in "aeiou":
            return Score.failed("no judge")
        if {completion[:1], other[:1]} & set("xyz"):
            return Score(0.5, False, "wrong", "the orders disagree")
        return Score(float(completion < other), completion < other, "correct", "")

    return verdict


def test_a_judge_labels_and_what_it_does_not_decide_is_a_tie(tmp_path):
    register("alphabetical")(alphabetical)
    config = replace(SETTINGS, judge={"name": "alphabetical"}, ties="keep")
    stage.check(config)
    summary, rows = made(config, tmp_path / "run")
    said = [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows]
    for row, (chosen, rejected) in zip(rows, said, strict=True):
        assert row.get("tie", False) == bool({chosen[0], rejected[0]} & set("xyz"))
        assert row.get("tie") or chosen < rejected
        assert not {"margin", "reward_chosen"} & row.keys()
    assert summary["failed"] > 0 < summary["ties"]
    failing = replace(config, judge={"name": "alphabetical", "fails": True})
    with pytest.raises(UserError, match=r"judge: all .* pairs failed, the first with: no judge"):
        made(failing, tmp_path / "no")


@pytest.fixture
def endpoint():
    """``endpoint(decide)``: the address of a judge that answers ``decide(text a, text b)``."""
    servers = []

    def start(decide):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                system, user = (message["content"] for message in asked["messages"])
                texts = re.findall(r"<<<BEGIN \w+ \w+>>>\n(.*?)\n<<<END", user, re.DOTALL)
                verdict = {"mark": re.search(r'"mark": "(\w+)"', system)[1]}
                verdict |= {"reasoning": "", "winner": decide(*texts[-2:])}
                body = {"choices": [{"message": {"content": json.dumps(verdict)}}]}
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/v1"

    yield start
    close_connections()
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_real_judge_is_asked_in_both_orders(tmp_path, endpoint):
    config = replace(SETTINGS, tasks=3, pairing="disjoint", ties="keep")
    fair = endpoint(lambda a, b: "A" if a < b else "B")
    judge = {"base_url": fair, "model": "m", "rubric": "the earlier in the alphabet"}
    _, rows = made(replace(config, judge=judge), tmp_path / "fair")
    said = [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows]
    assert said
    assert all(a.strip() < b.strip() for a, b in said)
    biased = {**judge, "base_url": endpoint(lambda a, b: "A")}
    summary, rows = made(replace(config, judge=biased), tmp_path / "biased")
    assert (summary["made"], summary["ties"]) == (0, len(said))
    assert all(row["tie"] for row in rows)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"samples": 1}, "samples is 1; a pair needs at least 2"),
        ({"judge": {}, "reward_model_path": "x"}, "judge and reward_model_path are both given"),
        ({"judge": {}, "pairing": "extremes"}, "pairing extremes needs rewards"),
        ({"judge": {}, "noise": "bradley_terry"}, "noise bradley_terry needs rewards"),
        ({"min_gap": math.nan}, "min_gap is nan"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"flip": 1.5}, "flip is 1.5"),
    ],
)
def test_settings_that_cannot_work(changes, words):
    with pytest.raises(UserError, match=words):
        check_settings(replace(SETTINGS, **changes), "a.yaml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"env": EnvConfig("text/TicTacToe-v0")}, "env: text/TicTacToe-v0 has up to"),
        ({"judge": {"mode": "rubric"}}, "judge: mode must be pairwise"),
        ({"reward_model_path": "/no/such/folder"}, "reward_model_path: "),
    ],
)
def test_what_is_known_to_fail_is_told_first(changes, words):
    with pytest.raises(UserError, match=words):
        stage.check(replace(SETTINGS, **changes))
    assert stage.check(replace(SETTINGS, reward_model_path="later"), unborn=["later"]) is None


def test_nothing_to_compare_is_no_empty_file(tmp_path):
    config = replace(SETTINGS, min_gap=1e6)
    with pytest.raises(UserError, match=r"no pair was made \(.* ties"):
        made(config, tmp_path / "run")
    assert not (tmp_path / "run" / "data.jsonl").exists()
