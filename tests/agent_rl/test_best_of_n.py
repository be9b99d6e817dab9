"""Best-of-n: the estimator against all subsets, the KL against all draws, the stage end to end."""

from __future__ import annotations

import io
import itertools
import json
import math

import pytest
import torch

from agent_rl.algorithms import AlgorithmError
from agent_rl.algorithms.best_of_n import expected_best, kl_bound, kl_of_levels, plug_in_kl
from agent_rl.config import (
    BestOfNConfig,
    EnvConfig,
    ModelConfig,
    SamplingConfig,
    TinyModel,
)
from agent_rl.errors import UserError
from agent_rl.runs import Console, RunFolder
from agent_rl.sample_pool import Prompt, Sample, read_pool
from agent_rl.stages import best_of_n
from rl_verifiers import Score, register

TINY = TinyModel(
    hidden_size=16,
    layers=1,
    heads=2,
    intermediate_size=16,
    characters="abcdefghijklmnopqrstuvwxyz :",
    tokens=(),
    context=64,
)
PROXY = torch.tensor([1.0, 2.0, 2.0, 3.0, 0.0, 3.0, 3.0])
GOLD = torch.tensor([0.3, -1.0, 2.0, 5.0, 0.5, -2.0, 0.25])


def of_all_subsets(n):
    """What the proxy's choice is worth, tied ones equally likely, over all subsets."""
    worths = []
    for subset in itertools.combinations(range(len(PROXY)), n):
        best = max(float(PROXY[i]) for i in subset)
        tied = [float(GOLD[i]) for i in subset if PROXY[i] == best]
        worths.append(sum(tied) / len(tied))
    return sum(worths) / len(worths)


def test_the_estimate_is_the_mean_over_all_subsets_ties_shared():
    ns = [1, 2, 3, 4, 5, 6, 7]
    wanted = torch.tensor([of_all_subsets(n) for n in ns], dtype=torch.float64)
    torch.testing.assert_close(expected_best(PROXY, GOLD, ns), wanted, atol=1e-12, rtol=0)


def test_the_estimate_is_unbiased():
    """The mean over many pools is the expectation of the policy, by its cumulative masses."""
    values, masses = torch.arange(4.0), torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    drawn = torch.multinomial(
        masses, 20_000 * 5, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    pools = values[drawn].reshape(20_000, 5)
    found = torch.stack([expected_best(pool, pool, [3]) for pool in pools[:4000]]).mean()
    above = masses.cumsum(0) ** 3
    wanted = (above.diff(prepend=torch.zeros(1, dtype=torch.float64)) * values).sum()
    assert float(found) == pytest.approx(float(wanted), abs=0.03)


def kl_of_all_draws(masses, scores, n):
    """KL(best-of-n || policy) by every sequence of n outcomes; ties broken equally."""
    kept = [0.0] * len(masses)
    for draw in itertools.product(range(len(masses)), repeat=n):
        best = max(scores[i] for i in draw)
        tied = [i for i in draw if scores[i] == best]
        for i in tied:
            kept[i] += math.prod(masses[j] for j in draw) / len(tied)
    return sum(q * math.log(q / p) for q, p in zip(kept, masses, strict=True) if q > 0)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("scores", [[0, 1, 1, 2, 3], [0, 1, 2, 3, 4], [7, 7, 7, 7, 7]])
def test_the_kl_is_that_of_all_draws_and_below_the_bound(scores, n):
    masses = [0.1, 0.3, 0.25, 0.05, 0.3]
    levels = [sum(m for m, s in zip(masses, scores, strict=True) if s == v) for v in range(8)]
    exact = kl_of_all_draws(masses, scores, n)
    found = float(kl_of_levels(torch.tensor(levels, dtype=torch.float64), n))
    assert found == pytest.approx(exact, abs=1e-12)
    assert exact <= kl_bound(n) + 1e-12  # an upper bound, and with ties a strict one
    if n > 1:
        assert exact < kl_bound(n) - 1e-3


def test_without_ties_the_bound_is_the_kl():
    fine = torch.full((20_000,), 1 / 20_000, dtype=torch.float64)
    for n in (2, 8, 64):
        assert float(kl_of_levels(fine, n)) == pytest.approx(kl_bound(n), abs=1e-4)
        assert kl_bound(n) == math.log(n) - (n - 1) / n
    assert float(plug_in_kl(torch.tensor([1.0, 1.0, 2.0, 2.0]), 2)) == pytest.approx(
        0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    )


def test_what_cannot_be_estimated_is_refused():
    for ns in ([0], [8]):
        with pytest.raises(AlgorithmError, match="1 <= n <= M"):
            expected_best(PROXY, GOLD, ns)
    with pytest.raises(AlgorithmError, match="NaN"):
        expected_best(PROXY, GOLD * float("nan"), [1])
    for refuse in (lambda: kl_bound(0), lambda: kl_of_levels(PROXY, 0)):
        with pytest.raises(AlgorithmError, match="at least 1, not 0"):
            refuse()


def settings(**changes):
    given = {
        "sampling": SamplingConfig(max_tokens=8),
        "tasks": 6,
        "samples": 8,
        "ns": (1, 2, 8),
        "tasks_at_once": 2,
        "on_truncation": "score",
        **changes,
    }
    env = EnvConfig("text/Letters-v0", options={"peak": 2, "length": 6})
    return BestOfNConfig(model=ModelConfig(tiny=TINY), env=env, **given)


def run(config, path, resume=False):
    folder = RunFolder.resume(path) if resume else RunFolder.create(path, {"stage": "x"})
    return best_of_n.run(config, folder, Console(file=io.StringIO()), resume=resume)


def test_the_stage_measures_gold_and_proxy_and_goes_on_to_the_same_bytes(tmp_path):
    register("samples_length")(lambda: lambda completion, row: float(len(completion)))
    config = settings(proxy="samples_length")
    best_of_n.check(config)
    summary = run(config, tmp_path / "run")
    points = [json.loads(s) for s in (tmp_path / "run/points.jsonl").read_text().splitlines()]
    assert points == json.loads(json.dumps(summary["points"]))
    assert [p["n"] for p in points] == [1, 2, 8]
    pool = read_pool(RunFolder.open(tmp_path / "run"))
    rewards = [s.reward for prompt in pool for s in prompt.samples]
    assert points[0]["gold"] == pytest.approx(sum(rewards) / len(rewards))
    longest = [max(s.scores["proxy"] for s in prompt.samples) for prompt in pool]
    assert points[2]["proxy"] == pytest.approx(sum(longest) / len(longest))
    best = [
        [s.reward for s in prompt.samples if s.scores["proxy"] == most]
        for prompt, most in zip(pool, longest, strict=True)
    ]
    wanted = sum(sum(tied) / len(tied) for tied in best) / len(best)
    assert points[2]["gold"] == pytest.approx(wanted)
    assert points[0]["gold_se"] > 0
    assert points[0]["gold_low"] < points[0]["gold"] < points[0]["gold_high"]
    assert all(p["kl_ties"] <= p["kl"] + 1e-12 for p in points)
    assert (tmp_path / "run/best_of_n.svg").stat().st_size > 1000

    lines = (tmp_path / "run/samples.jsonl").read_bytes().splitlines(keepends=True)
    RunFolder.create(tmp_path / "half", {"stage": "x"})
    (tmp_path / "half/samples.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:30])
    run(config, tmp_path / "half", resume=True)
    for name in ("samples.jsonl", "points.jsonl"):
        assert (tmp_path / "half" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


def test_a_cut_completion_earns_no_gold_of_a_verifier_but_the_proxy_reads_it(tmp_path):
    register("samples_one")(lambda: lambda completion, row: 1.0)
    config = settings(gold="samples_one", proxy="samples_one", on_truncation="zero")
    run(config, tmp_path / "run")
    samples = [s for p in read_pool(RunFolder.open(tmp_path / "run")) for s in p.samples]
    assert {s.cut for s in samples} == {False, True}
    assert all(s.scores == {"gold": float(not s.cut), "proxy": 1.0} for s in samples)


def test_a_verifier_that_is_down_stops_it_and_leaves_nothing_to_resume_from(tmp_path):
    register("samples_down")(lambda: lambda completion, row: Score.failed("down"))
    with pytest.raises(UserError, match="proxy: the verifier failed on all 16 completions"):
        run(settings(proxy="samples_down"), tmp_path / "run")
    assert (tmp_path / "run/samples.jsonl").read_text() == ""


def test_prompts_with_too_few_judged_samples_are_left_out():
    whole = [Sample(n, "a", float(n), True, False, 1) for n in range(4)]
    failed = [Sample(n, "", None, False, False, 0, error="died") for n in range(2)]
    prompts = [
        Prompt(0, "0", "e", [], None, whole),
        Prompt(1, "1", "e", [], None, [*whole[:2], *failed]),
    ]
    assert [len(gold) for _, gold in best_of_n.pools_of(prompts, 3)] == [4]
    assert [len(gold) for _, gold in best_of_n.pools_of(prompts, 2)] == [4, 2]


def test_numbers_above_the_pool_are_refused():
    assert list(settings().problems()) == []
    for ns in ((), (0,), (16,), (2, 2)):
        assert [name for name, _ in settings(ns=ns).problems()] == ["ns"]
    with pytest.raises(UserError, match="plays against itself"):
        best_of_n.check(
            BestOfNConfig(
                model=ModelConfig(tiny=TINY),
                env=EnvConfig("text/TicTacToe-v0", options={"opponent": "self"}),
            )
        )
