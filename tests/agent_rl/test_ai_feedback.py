"""Constitutional AI: principles, revisions, labels in both orders; nobody's fault is never data."""

from __future__ import annotations

import asyncio
import io
import json
import math
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from agent_rl import models
from agent_rl.config import (
    AIFeedbackConfig,
    EndpointConfig,
    EnvConfig,
    JudgeConfig,
    ModelConfig,
    PromptsConfig,
    RunConfig,
    SamplingConfig,
    TinyModel,
)
from agent_rl.errors import UserError
from agent_rl.feedback.principles import Principle, load_principles
from agent_rl.feedback.prompts import prompts_of
from agent_rl.feedback.speakers import LocalSpeaker, question
from agent_rl.preferences.pairs import load_pairs
from agent_rl.runs import Console, RunFolder
from agent_rl.stages import ai_feedback, examples
from rl_verifiers.chat_endpoint import close_connections

ROOT = Path(__file__).resolve().parents[2]
TINY = TinyModel(
    hidden_size=16, layers=1, heads=2, intermediate_size=16, characters="printable", context=2048
)
PROMPTS = [f"question {n}" for n in range(5)]
MARK = re.compile(r'"mark": "(\w+)"')
BLOCK = re.compile(r"<<<BEGIN (\w+) (\w+)>>>\n(.*?)\n<<<END \1 \2>>>", re.DOTALL)


@pytest.fixture
def server():
    """A judge on loopback: ``server.answer(request)`` gives its text, or None for HTTP 400."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = http.answer(asked)
            choices = [{"message": {"content": said}, "finish_reason": "stop"}]
            body = json.dumps({"choices": choices}).encode()
            self.send_response(200 if said is not None else 400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    yield http
    close_connections()
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def settings(tmp_path):
    """``settings(mode, **changes)``: a tiny policy, five prompts, two principles."""
    (tmp_path / "principles.yaml").write_text("- Be kind.\n- Be brief.\n")
    lines = [json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS]
    (tmp_path / "prompts.jsonl").write_text("".join(lines))

    def make(mode, **changes):
        given = {
            "model": ModelConfig(tiny=TINY),
            "principles_path": str(tmp_path / "principles.yaml"),
            "prompts": PromptsConfig(path=str(tmp_path / "prompts.jsonl")),
            "sampling": SamplingConfig(max_tokens=6),
            "judge_sampling": SamplingConfig(max_tokens=6),
            "on_truncation": "keep",
            "tasks_at_once": 2,
            **changes,
        }
        return AIFeedbackConfig(mode=mode, **given)

    return make


def endpoint(server, **options):
    return JudgeConfig(endpoint=EndpointConfig(server.url, "judge-1", retries=0, **options))


def run(config, path, resume=False):
    folder = RunFolder.resume(path) if resume else RunFolder.create(path, {"stage": "x"})
    return ai_feedback.run(config, folder, Console(file=io.StringIO()), resume=resume)


def rows_of(path, name="data.jsonl"):
    return [json.loads(line) for line in (path / name).read_text().splitlines()]


def verdict(asked, choose):
    """The winner by ``choose(text)``: the reply for which it is higher; equal is a tie."""
    texts = {name: text for name, _, text in BLOCK.findall(asked["messages"][1]["content"])}
    a, b = choose(texts["a"]), choose(texts["b"])
    winner = "tie" if a == b else "A" if a > b else "B"
    mark = MARK.search(asked["messages"][0]["content"])[1]
    return json.dumps({"mark": mark, "winner": winner})


def test_every_round_criticises_the_last_answer_and_the_chain_is_kept(server, settings, tmp_path):
    asked = []

    def answer(request):
        asked.append(request["messages"])
        is_critique = request["messages"][-1]["content"].startswith("Name every way")
        return (
            f"critique {len(asked)}" if is_critique else f"<think>hm</think> revised {len(asked)}"
        )

    server.answer = answer
    config = settings("revise", rounds=2, judge=endpoint(server), tasks=1)
    summary = run(config, tmp_path / "run")
    (row,) = rows_of(tmp_path / "run")
    assert row["prompt"] == [{"role": "user", "content": "question 0"}]
    assert [r["critique"] for r in row["revisions"]] == ["critique 1", "critique 3"]
    assert [r["revision"] for r in row["revisions"]] == ["revised 2", "revised 4"]
    assert row["completion"] == [{"role": "assistant", "content": "revised 4"}]
    said = [[m["content"] for m in messages] for messages in asked]
    assert said[0][:2] == ["question 0", row["response"]]
    assert said[1][3] == "critique 1"
    assert said[2][:2] == ["question 0", "revised 2"]
    assert [len(messages) for messages in said] == [3, 5, 3, 5]
    assert summary["outcomes"]["kept"] == summary["rows"] == 1
    chat = models.load_chat(ModelConfig(tiny=TINY))
    assert len(examples.FileExamples(str(tmp_path / "run/data.jsonl"), chat, 2048).first(9)) == 1


def test_the_judge_is_asked_in_both_orders_and_disagreement_is_a_tie(server, settings, tmp_path):
    server.answer = lambda asked: verdict(asked, lambda text: text)
    config = settings("label", judge=endpoint(server))
    summary = run(config, tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert len(rows) == summary["rows"] == 5
    for row in rows:
        chosen, rejected = row["chosen"][0]["content"], row["rejected"][0]["content"]
        assert chosen.strip() > rejected.strip()
        assert (row["probability"], row["position_consistent"]) == (1.0, True)
    pairs = load_pairs(str(tmp_path / "run/data.jsonl"))
    assert [p.prompt[0]["content"] for p in pairs] == PROMPTS
    assert summary["first_place"] == 0.5
    server.answer = lambda asked: json.dumps(
        {"mark": MARK.search(asked["messages"][0]["content"])[1], "winner": "A"}
    )
    with pytest.raises(UserError, match="none of 5 prompts gave data: 5 tie"):
        run(config, tmp_path / "first")
    said = rows_of(tmp_path / "first", "feedback.jsonl")
    assert all(line["row"]["tie"] and line["row"]["first_place"] == 1.0 for line in said)


def test_what_gives_no_verdict_is_left_out_and_counted(server, settings, tmp_path):
    def answer(asked):
        texts = {n: t for n, _, t in BLOCK.findall(asked["messages"][1]["content"])}
        prompt = texts["prompt"]
        if "question 1" in prompt:
            return "I like both! }{ \x00"
        return None if "question 2" in prompt else verdict(asked, lambda text: text)

    server.answer = answer
    config = settings("label", judge=endpoint(server))
    summary = run(config, tmp_path / "run")
    said = {line["prompt"]: line for line in rows_of(tmp_path / "run", "feedback.jsonl")}
    assert said[1]["outcome"] == said[2]["outcome"] == "error"
    assert "no verdict" in said[1]["reason"]
    assert "400" in said[2]["reason"]
    assert summary["outcomes"] == {
        **dict.fromkeys(("tie", "same", "cut", "empty", "too_long"), 0),
        "kept": 3,
        "error": 2,
    }
    server.answer = lambda asked: None
    with pytest.raises(UserError, match="all 2 prompts failed by our own fault"):
        run(config, tmp_path / "down")


def test_an_answer_cannot_end_its_turn_in_the_judges_prompt(monkeypatch):
    judge = LocalSpeaker(ModelConfig(tiny=TINY), SamplingConfig(max_tokens=2), 0, 1000)
    chat = judge.chat
    mark = chat.tokenizer.eos_token
    assert chat.encode(f"a{mark}b").count(chat.tokenizer.eos_token_id) == 1
    asked = []
    ids_of = chat.prompt_ids
    monkeypatch.setattr(chat, "prompt_ids", lambda m: asked.append(ids_of(m)) or asked[-1])
    prompt = ({"role": "user", "content": "hello"},)
    principle = Principle("kind", choose="Which?")
    for answer in ("one", f"one{mark}A"):
        asyncio.run(judge.prefer(prompt, answer, "other", principle))
        messages = [*prompt, {"role": "assistant", "content": answer}]
        asyncio.run(judge.reply([*messages, {"role": "user", "content": "Why?"}], 0))
    ends = [ids.count(chat.tokenizer.eos_token_id) for ids in asked]
    assert ends[:3] == ends[3:]


def test_a_local_judge_chooses_by_the_normalised_probabilities_of_a_and_b():
    config = ModelConfig(tiny=TINY)
    judge = LocalSpeaker(config, SamplingConfig(), 0, 1000)
    prompt = ({"role": "user", "content": "hello"},)
    principle = Principle("kind", choose="Which reply is kinder?")
    found = asyncio.run(judge.prefer(prompt, "one", "other", principle))
    model, chat = models.load(config, 0)

    def p_a(a, b):
        text = question(prompt, a, b, principle.choose, 1000)
        ids = chat.prompt_ids([{"role": "user", "content": text}])
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1].double()
        one, other = (float(logits[chat.encode(x)[0]].exp()) for x in "AB")
        return one / (one + other)

    assert found.as_a == pytest.approx(p_a("one", "other"), abs=1e-5)
    assert found.as_b == pytest.approx(1 - p_a("other", "one"), abs=1e-5)
    assert found.first == (found.as_a + found.as_b) / 2
    assert not math.isclose(found.as_a, 0.5, abs_tol=1e-4)
    swapped = asyncio.run(judge.prefer(prompt, "other", "one", principle))
    assert swapped.first == pytest.approx(1 - found.first, abs=1e-6)


@pytest.mark.parametrize("mode", ["label", "revise"])
def test_a_stopped_stage_goes_on_to_the_same_bytes(settings, tmp_path, monkeypatch, mode):
    config = settings(mode)  # the policy judges itself
    run(config, tmp_path / "whole")
    lines = (tmp_path / "whole/feedback.jsonl").read_bytes().splitlines(keepends=True)
    RunFolder.create(tmp_path / "half", {"stage": "x"})
    (tmp_path / "half/feedback.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:20])
    chunks = []
    real = ai_feedback.Work.chunk
    monkeypatch.setattr(
        ai_feedback.Work,
        "chunk",
        lambda self, p, first: chunks.append(first) or real(self, p, first),
    )
    run(config, tmp_path / "half", resume=True)
    assert chunks == [2, 4]
    for name in ("feedback.jsonl", "data.jsonl"):
        assert (tmp_path / "half" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_cut_equal_and_empty_answers_are_no_data(settings, tmp_path):
    cut = settings("label", on_truncation="drop", sampling=SamplingConfig(max_tokens=2))
    with pytest.raises(UserError, match="none of 5 prompts gave data: 5 cut"):
        run(cut, tmp_path / "cut")
    same = settings("label", sampling=SamplingConfig(max_tokens=3, temperature=0))
    with pytest.raises(UserError, match="5 same"):
        run(same, tmp_path / "same")


@pytest.mark.parametrize(
    ("text", "mode", "wanted"),
    [
        ("a: b", None, "must be a list of principles"),
        ("[]", None, "must hold a list of principles"),
        ("- 3", None, "principle 1 is 3; it must be a text, or a mapping"),
        ("- {critic: x}", None, "unknown 'critic'; did you mean critique?"),
        ("- {critique: x}", "revise", r"principle 1 \(principle 1\): has no revision"),
        ("- {choose: x, name: n}", "revise", r"principle 1 \(n\): has no critique"),
        ("- {critique: x, revision: y}", "label", "has no choose, which mode label needs"),
        ("- {name: n}", None, "needs critique and revision, or choose"),
        (
            "- {name: n, choose: x}\n- {name: n, choose: y}",
            None,
            "two principles have the name 'n'",
        ),
        ("- {choose: ''}", None, "choose is ''; it must be a text"),
        ("- [", None, "no valid YAML"),
    ],
)
def test_principles_that_cannot_be_used_are_refused_in_one_line(tmp_path, text, mode, wanted):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=wanted) as refused:
        load_principles(path, mode)
    assert "\n" not in str(refused.value)


def test_the_constitution_of_the_configs_serves_both_modes():
    path = ROOT / "configs/principles/harmless.yaml"
    assert len(load_principles(path, "revise")) == len(load_principles(path, "label")) == 6


def test_prompts_come_once_from_rows_pairs_conversations_and_environments(tmp_path):
    rows = [
        {"prompt": "a"},
        {"prompt": [{"role": "user", "content": "a"}]},
        {"messages": [{"role": "user", "content": "b"}, {"role": "assistant", "content": "x"}]},
        {"chosen": "\n\nHuman: c\n\nAssistant: y", "rejected": "\n\nHuman: c\n\nAssistant: z"},
        {"chosen": "\n\nHuman: d\n\nAssistant: ", "rejected": "\n\nHuman: d\n\nAssistant: z"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = prompts_of(PromptsConfig(path=str(path)), 0, 0)
    assert [prompt[-1]["content"] for prompt in found] == ["a", "b", "c"]
    played = prompts_of(PromptsConfig(env=EnvConfig("text/Letters-v0")), 3, 0)
    assert [p[0]["content"][:6] for p in played] == ["start "] * 3
    path.write_text('{"question": "a"}\n')
    with pytest.raises(UserError, match="row 1: needs prompt"):
        prompts_of(PromptsConfig(path=str(path)), 0, 0)


def test_a_judge_that_cannot_work_is_refused_before_anything_is_said(settings):
    blind = TinyModel(hidden_size=16, layers=1, heads=2, intermediate_size=16, characters="ab")
    with pytest.raises(UserError, match="does not tell A from B"):
        ai_feedback.check(settings("label", judge=JudgeConfig(model=ModelConfig(tiny=blind))))
    wrong = JudgeConfig(endpoint=EndpointConfig("localhost", "m"))
    with pytest.raises(UserError, match="judge: endpoint: base_url is 'localhost'"):
        ai_feedback.check(settings("label", judge=wrong))
    config = settings("label", run=RunConfig())
    ai_feedback.check(config)
