"""The verifier ``reward_model``: rewards of a network, gathered into batches, never NaN."""

import asyncio
import json
import math
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from agent_rl.cli import main
from agent_rl.config import ModelConfig, TinyModel
from agent_rl.errors import UserError
from agent_rl.reward_models import from_policy, load_reward_model, save_reward_model
from agent_rl.reward_models import verifier as module
from rl_verifiers import VerifierError, make, score_many, score_one

TINY = TinyModel(hidden_size=32, layers=1, heads=2, intermediate_size=32, context=64)
TEXTS = [f"answer {'abcdefgh'[: n % 8]}{n % 3}" for n in range(40)]
ROWS = [{"id": n, "prompt": f"question {n % 5}"} for n in range(40)]


def made(folder, *, seed=0, **standing):
    model = from_policy(ModelConfig(tiny=TINY), seed)
    model.standing = replace(model.standing, **standing)
    save_reward_model(model, folder)
    return str(folder)


@pytest.fixture
def path(tmp_path):
    return made(tmp_path / "rm", mean=0.2, std=0.1)


def alone(path, text, row):
    asked = row["prompt"]
    asked = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    return float(load_reward_model(path).score([[*asked, {"role": "assistant", "content": text}]]))


def test_a_batch_pays_what_each_conversation_is_paid_alone(path):
    scores = score_many(make("reward_model", path=path), TEXTS, ROWS)
    expected = [alone(path, text, row) for text, row in zip(TEXTS, ROWS, strict=True)]
    assert [s.value for s in scores] == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.01  # they differ by far more than the bound
    assert [s.parts["raw"] for s in scores] == [s.value for s in scores]
    assert [s.passed for s in scores] == [s.value >= 0 for s in scores]


def test_what_is_asked_at_the_same_time_is_read_at_once_and_repeats_bit_for_bit(path, monkeypatch):
    verifier = make("reward_model", path=path)
    batches = []
    score = verifier.scorer.model.score
    monkeypatch.setattr(
        verifier.scorer.model, "score", lambda given: (batches.append(len(given)), score(given))[1]
    )

    async def later(n):
        for _ in range(5 * n):  # as episodes that end one token after another
            await asyncio.sleep(0)
        return (await verifier.ascore(TEXTS[n], ROWS[n])).value

    async def ask():
        return await asyncio.gather(*(later(n) for n in range(40)))

    first, second = asyncio.run(ask()), asyncio.run(ask())
    assert batches == [40, 40]
    assert first == second


def test_batches_have_a_largest_size_and_equal_requests_are_read_once(path, monkeypatch):
    verifier = make("reward_model", path=path)
    batches = []
    score = verifier.scorer.model.score
    monkeypatch.setattr(
        verifier.scorer.model, "score", lambda given: (batches.append(len(given)), score(given))[1]
    )
    monkeypatch.setattr(module, "BATCH", 8)

    async def ask():
        return await asyncio.gather(*(verifier.ascore("same", ROWS[n % 2]) for n in range(20)))

    assert len({score.value for score in asyncio.run(ask())}) == 2
    assert batches == [2, 2, 2]


def test_a_request_that_is_cancelled_leaves_the_others_alone(path):
    verifier = make("reward_model", path=path)

    async def ask():
        asked = [asyncio.ensure_future(verifier.ascore("a", ROWS[n])) for n in range(3)]
        await asyncio.sleep(0)
        asked[1].cancel()
        return [await asked[0], await asked[2]]

    assert [score.status for score in asyncio.run(ask())] != ["error", "error"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"normalize": "standard"}, lambda r: (r - 0.2) / 0.1),
        ({"normalize": "sigmoid"}, lambda r: 1 / (1 + math.exp(-r))),
        ({"normalize": "standard", "clip": 0.5}, lambda r: max(-0.5, min(0.5, (r - 0.2) / 0.1))),
    ],
)
def test_normalization_in_closed_form(path, options, expected):
    verifier = make("reward_model", path=path, **options)
    for text, row in zip(TEXTS[:6], ROWS, strict=False):
        score = verifier(text, row)
        assert score.value == pytest.approx(expected(score.parts["raw"]), abs=1e-12)


def test_from_which_value_it_passes(path):
    raw = make("reward_model", path=path)(TEXTS[0], ROWS[0]).value
    passes = {
        mark: make("reward_model", path=path, threshold=mark)(TEXTS[0], ROWS[0]).passed
        for mark in (raw - 0.01, raw + 0.01)
    }
    assert list(passes.values()) == [True, False]


def test_conversations_and_rows_without_a_prompt(path):
    verifier = make("reward_model", path=path)
    prompt = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": "count"},
    ]
    assert verifier("1, 2", {"prompt": prompt}).value == pytest.approx(
        alone(path, "1, 2", {"prompt": prompt}), abs=1e-5
    )
    for prompt in (None, "", [], [{"role": "user"}], [{"role": "user", "content": None}], 7):
        assert verifier("1, 2", {"prompt": prompt}).status == "bad_reference"
    assert make("reward_model", path=path)("", {"prompt": "hi"}).status != "error"  # empty answers


def test_max_tokens_leaves_out_the_oldest(path):
    long = [
        {"role": "user", "content": "x" * 20},
        {"role": "assistant", "content": "y" * 10},
        {"role": "user", "content": "count"},
    ]
    short = make("reward_model", path=path, max_tokens=12)("1, 2", {"prompt": long})
    assert short.value == pytest.approx(alone(path, "1, 2", {"prompt": "count"}), abs=1e-5)
    whole = make("reward_model", path=path)("1, 2", {"prompt": long})
    assert abs(whole.value - short.value) > 1e-4


def test_a_reward_that_is_no_number_is_our_failure_and_spares_the_others(path, monkeypatch):
    verifier = make("reward_model", path=path)
    score = verifier.scorer.model.score

    def refuses(given):
        if any(c[-1]["content"] == TEXTS[1] for c in given):
            raise UserError("the score nan is no number")
        return score(given)

    monkeypatch.setattr(verifier.scorer.model, "score", refuses)
    found = score_many(verifier, TEXTS[:3], ROWS[:3])
    assert [s.status == "error" for s in found] == [False, True, False]
    assert "nan" in found[1].error
    monkeypatch.setattr(verifier.scorer.model, "score", lambda given: [math.inf] * len(given))
    assert all(s.is_error for s in score_many(verifier, TEXTS[:3], ROWS[:3]))


def test_a_damaged_network_is_our_failure(tmp_path):
    model = from_policy(ModelConfig(tiny=TINY), 0)
    torch.nn.init.constant_(model.network.score.weight, math.nan)
    save_reward_model(model, tmp_path / "rm")
    score = make("reward_model", path=str(tmp_path / "rm"))("a", ROWS[0])
    assert score.is_error
    assert "nan" in score.error


def test_the_network_is_loaded_once_frozen_and_again_when_its_files_change(tmp_path):
    path = made(tmp_path / "rm")
    one, other = make("reward_model", path=path), make("reward_model", path=path, clip=1.0)
    shorter = make("reward_model", path=path, max_tokens=9)
    assert one.scorer is other.scorer
    assert shorter.scorer.model.network is one.scorer.model.network
    assert pickle.loads(pickle.dumps(one)) == one
    assert not one.scorer.model.network.training
    assert not any(p.requires_grad for p in one.scorer.model.network.parameters())
    made(tmp_path / "rm", seed=1)
    again = make("reward_model", path=path)
    assert again.scorer.model is not one.scorer.model
    assert again("a", ROWS[0]).value != one("a", ROWS[0]).value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either path"),
        ({"path": "a", "url": "http://localhost:1"}, "either path"),
        ({"path": 3}, "must be a folder or hub id"),
        ({"path": "a", "normalize": "std"}, "one of none, standard, sigmoid"),
        ({"path": "a", "clip": 0}, "clip is 0; it must be a number above 0"),
        ({"path": "a", "threshold": "high"}, "threshold is 'high'"),
        ({"url": "http://localhost:1", "normalize": "standard"}, "are the server's to set"),
    ],
)
def test_options_that_cannot_work(options, message):
    with pytest.raises(VerifierError, match=message):
        make("reward_model", **options)


def test_folders_that_cannot_work(tmp_path):
    with pytest.raises(VerifierError, match="there is no folder"):
        make("reward_model", path=str(tmp_path / "none")).prepare()
    with pytest.raises(VerifierError, match="does not say the mean and deviation"):
        make("reward_model", path=made(tmp_path / "rm"), normalize="standard").prepare()
    outcome = made(tmp_path / "outcome", kind="outcome")
    with pytest.raises(VerifierError, match="gives probabilities already"):
        make("reward_model", path=outcome, normalize="sigmoid").prepare()


def test_a_served_reward_is_normalized_here(monkeypatch):
    async def served(completion, row):
        return -2.0

    monkeypatch.setattr(module, "make", lambda name, url: served)
    verifier = make("reward_model", url="http://localhost:1", normalize="sigmoid", clip=0.1)
    score = asyncio.run(score_one(verifier, "a", {"prompt": "p"}))
    assert (score.value, score.parts) == (0.1, {"raw": -2.0})


def test_the_score_command_takes_it_by_name(path, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps({**row, "completion": text}) + "\n"
            for text, row in zip(TEXTS, ROWS, strict=True)
        )
    )
    out = tmp_path / "scored.jsonl"
    words = ["score", str(rows), "--verifier", "reward_model", "--verifier.path", path]
    with pytest.raises(SystemExit) as done:
        main([*words, "--workers", "0", "-o", str(out)])
    assert done.value.code == 0
    scored = [json.loads(line)["score"] for line in out.read_text().splitlines()]
    expected = [s.value for s in score_many(make("reward_model", path=path), TEXTS, ROWS)]
    assert scored == pytest.approx(expected, abs=1e-5)


def test_a_panic_in_a_batch_fails_its_own_sample_and_nobody_waits_for_ever(path, monkeypatch):
    verifier = make("reward_model", path=path)
    score = verifier.scorer.model.score

    class Panic(BaseException):
        """As tokenizers raises."""

    def panics(conversations):
        if any("bad" in c[-1]["content"] for c in conversations):
            raise Panic("index out of range")
        return score(conversations)

    monkeypatch.setattr(verifier.scorer.model, "score", panics)

    async def ask():
        asked = (verifier.ascore(text, ROWS[0]) for text in ("a", "bad", "b"))
        return await asyncio.wait_for(asyncio.gather(*asked), 20)

    assert [s.is_error for s in asyncio.run(ask())] == [False, True, False]


def test_a_thousand_at_once_and_two_loops_and_cancelled_ones(path):
    verifier = make("reward_model", path=path)

    async def ask(n, cancelled):
        asked = [asyncio.ensure_future(verifier.ascore(f"{i}", ROWS[i % 40])) for i in range(n)]
        await asyncio.sleep(0)
        for i in cancelled:
            asked[i].cancel()
        return await asyncio.gather(*asked, return_exceptions=True)

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(asyncio.run, ask(1000, (3, 700)))
        other = pool.submit(asyncio.run, ask(200, range(100, 200)))
        first, second = one.result(60), other.result(60)
    assert [i for i, s in enumerate(first) if isinstance(s, BaseException)] == [3, 700]
    assert sum(isinstance(s, BaseException) for s in second) == 100
    for i in (0, 50, 99):
        assert first[i].value == pytest.approx(second[i].value, abs=1e-5)
        assert first[i].value == pytest.approx(alone(path, f"{i}", ROWS[i % 40]), abs=1e-5)


def test_a_raw_reward_that_is_no_number_is_an_error_clipped_or_not(path, monkeypatch):
    verifier = make("reward_model", path=path, clip=1.0)
    for raw in (math.nan, math.inf, -math.inf):
        monkeypatch.setattr(verifier.scorer.model, "score", lambda given, raw=raw: [raw])
        assert verifier("a", ROWS[0]).status == "error"


def test_verifiers_are_listed_without_loading_torch():
    code = (
        "import sys\nfrom agent_rl.cli import main\n"
        "try: main(['verifiers'])\n"
        "finally: print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "reward_model" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
