import json
import math
from pathlib import Path

import numpy as np
import pytest

from agent_rl.errors import UserError
from agent_rl.overopt.command import load, overopt, run
from agent_rl.overopt.fits import fit
from agent_rl.overopt.points import Point, Scale, best_of_n_points, curves

CONFIG = str(Path(__file__).parents[2] / "configs" / "overopt.yaml")
TINY = [
    *("--sft.steps", "40", "--sft.batch_size", "8", "--sft.held_out", "0"),
    *("--labels", "[6, 12]", "--reward_model.max_steps", "2", "--reward_model.batch_size", "4"),
    *("--kl_coefs", "[0, 1.0]", "--rl.steps", "2", "--rl.prompts_per_step", "2"),
    *("--rl.group_size", "2", "--measure_every", "1", "--measure_samples", "4"),
    *("--pool_tasks", "2", "--pool_samples", "8", "--best_of_n", "[1, 2, 8]"),
    *("--sampling.max_tokens", "6", "--env.options", "{peak: 2, length: 4}"),
]


def settings(folder, *more):
    return load(CONFIG, [*TINY, "--run.dir", str(folder), *more])


def quiet(line):
    pass


def test_fits_find_the_curve_and_its_peak():
    d = [0.0, 0.3, 0.8, 1.5, 2.5, 4.0]
    best = fit("best_of_n", d, [x * (2.0 - 0.5 * x) for x in d])
    assert (best.alpha, best.beta, best.peak_d) == pytest.approx((2.0, 0.5, 2.0))
    rl = fit("rl", d, [0.0, *(x * (1.0 - 0.8 * math.log(x)) for x in d[1:])])
    assert (rl.alpha, rl.beta, rl.peak_d) == pytest.approx((1.0, 0.8, math.exp(0.25)))
    assert rl.gain(rl.peak_d) == pytest.approx(max(rl.gain(x) for x in np.linspace(0.1, 4, 4000)))
    assert rl.rmse == pytest.approx(0.0, abs=1e-12)
    assert rl.is_seen
    assert not fit("best_of_n", d, [x * (2.0 - 0.1 * x) for x in d]).is_seen  # its peak: d = 10


def test_a_curve_that_only_rises_has_no_peak():
    d = [0.5, 1.0, 2.0]
    assert fit("best_of_n", d, d).peak_d is None or fit("best_of_n", d, d).peak_d > 1e6
    assert fit("rl", d, [x * (1 + math.log(x)) for x in d]).peak_d is None
    assert fit("rl", [0.0, 1.0, 2.0], [0.0, 1.0, 1.0]) is None  # two points fit everything


def test_best_of_n_by_hand():
    # Two tasks; the proxy ranks 1 < 2 < 3, gold turns at the top.
    proxy, gold = np.array([1.0, 2.0, 3.0, 3.0, 2.0, 1.0]), np.array([0.0, 1.0, 0.5, 0.1, 1.0, 0.0])
    tasks = np.array([0, 0, 0, 1, 1, 1])
    scales = (Scale(0.0, 2.0), Scale(1.0, 0.5))
    points = best_of_n_points(gold, proxy, tasks, [1, 2, 3], scales, labels=9, seed=4)
    two = [(1.0 + 0.5 + 0.5) / 3, (1.0 + 0.1 + 0.1) / 3]  # over the three pairs of each task
    assert points[1].gold == pytest.approx(np.mean(two))
    assert points[1].gold_se == pytest.approx(abs(two[0] - two[1]) / 2)
    assert points[1].gold_std == pytest.approx(np.mean(two) / 2.0)
    assert points[1].kl == pytest.approx(math.log(2) - 0.5)
    assert points[2].gold == pytest.approx(0.3)
    assert points[2].proxy == pytest.approx((3.0 - 1.0) / 0.5)
    assert points[0].ties == 0.0


def test_degenerate_values_make_no_point_and_no_fit():
    one = (Scale(0.0, 1.0), Scale(0.0, 1.0))
    few = best_of_n_points(np.zeros(3), np.arange(3.0), np.zeros(3), [1, 8], one, labels=1, seed=0)
    assert [point.n for point in few] == [1]  # no pool has eight
    assert Scale.of(np.full(7, 0.1)).std == 1.0  # whose numpy standard deviation is 1.4e-17
    assert fit("rl", [0.0, 1.0, 2.0, 3.0], [0.0, math.nan, 1.0, 2.0]) is None
    assert fit("rl", [0.0, 1.0, 1.0, 1.0], [0.0, 1.0, 2.0, 3.0]) is None


def test_curves_are_means_over_seeds_at_places_that_all_have():
    def point(seed, step, gold, kl):
        return Point("rl", 10, seed, kl, gold, gold, 0.0, coef=0.0, step=step)

    made = [point(0, 0, 1.0, 0.0), point(0, 5, 3.0, 4.0), point(1, 0, 2.0, 0.0)]
    made += [point(1, 5, 0.0, 6.0), point(0, 10, 9.0, 9.0)]
    (curve,) = curves(made)
    assert (curve.place, curve.gold, curve.seeds) == ([0, 5], [1.5, 1.5], 2)
    assert curve.d == pytest.approx([0.0, math.sqrt(5.0)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rl.model.path", "m"], "rl.model is set by the laboratory"),
        (["--rl.stepz", "3"], "unknown setting rl.stepz"),
        (["--reward_model.batch_size", "0"], "batch_size is 0"),
        (["--kl_coefs", "[-1]"], "kl_coefs holds -1"),
        (["--labels", "[5, 5]"], "labels names 5 twice"),
        (["--pool_samples", "512"], "pool_samples is 512, but the best of 1024"),
        (["--sampling.temperature", "0.7"], "sampling.temperature must be 1"),
        (["--run.seed", "3"], "set seeds"),
        (["--kl_coefs", "[.inf]"], "kl_coefs holds what is not finite"),
        (["--kl_coefs", "[0.1, 0.1000000001]"], "kl_coefs names 0.1 twice"),  # one folder
        (["--best_of_n", "[4, 16]"], "best_of_n lacks 1"),
        (["--env.options.split", "test"], "env.options.split is set by the laboratory"),
        (["--env.weight", "3"], "env.weight does nothing"),
        (["--rl.algorithm", "[1]"], r"rl.algorithm is \[1\]; it must be a mapping"),
        (["--rl.algorithm", "{preset: grpo, kl: 3}"], "rl.algorithm.kl is 3"),
        (["--rl.algorithm", "{preset: grpo, kl: {coef: 1}}"], "set kl_coefs"),
        (["--sft.data", "{env: {id: text/Letters-v0}}"], "sft.data.env is the laboratory's"),
        (["--reward_model.kind", "process"], "a proxy learns from pairs"),
        (["--label_temperature", "0"], "label_temperature is 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        load(CONFIG, words)


def test_a_stopped_laboratory_goes_on_to_the_same_points(tmp_path):
    whole = run(settings(tmp_path / "whole"), say=quiet)

    def stop(line):
        if "coefficient 0 " in line:
            raise KeyboardInterrupt

    part = settings(tmp_path / "part")
    with pytest.raises(KeyboardInterrupt):
        run(part, say=stop)
    with pytest.raises(UserError, match="--resume"):
        run(part, say=quiet)
    again = run(part, resume=True, say=quiet)

    def lines(name):
        return (tmp_path / name / "points.jsonl").read_text()

    assert lines("part") == lines("whole")
    assert again["curves"] == whole["curves"]
    rows = [json.loads(line) for line in lines("whole").splitlines()]
    assert [row["step"] for row in rows if row.get("coef") == 1.0] == [0, 1, 2] * 2
    assert [row["n"] for row in rows if row["policy"] == "best_of_n"] == [1, 2, 8] * 2
    start = [row for row in rows if row.get("step") == 0]
    assert {row["kl"] for row in start} == {0.0}
    assert len({row["gold"] for row in start}) == 1
    page = (tmp_path / "whole" / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "http" not in page.split("base64,")[0].replace("http-equiv", "")


def test_more_seeds_may_be_added_and_nothing_else_changed(tmp_path, capsys):
    base = ["--run.dir", str(tmp_path), *TINY, "--kl_coefs", "[0]", "--labels", "[6]"]
    assert overopt(CONFIG, base) == 0
    assert overopt(CONFIG, [*base, "--seeds", "[0, 1]"], resume=True) == 0
    assert "best-of-N: gold" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "points.jsonl").read_text().splitlines()]
    assert {row["seed"] for row in rows} == {0, 1}
    with pytest.raises(UserError, match="label_temperature is not what"):
        overopt(CONFIG, [*base, "--label_temperature", "2"], resume=True)
    with pytest.raises(UserError, match=r"60 are wanted, but .* was made for fewer"):
        overopt(CONFIG, [*base, "--labels", "[6, 60]"], resume=True)


def test_a_pool_in_which_nothing_can_be_compared_is_measured_all_the_same(tmp_path):
    alone = ["--pool_samples", "1", "--best_of_n", "[1]", "--kl_coefs", "[0]", "--labels", "[6]"]
    summary = run(settings(tmp_path / "new", *alone), say=quiet)
    assert summary["proxies"][0]["accuracy"] is None
    assert "none" in (tmp_path / "new" / "report.html").read_text()


SMALL = [
    *("--env.options", "{peak: 5, length: 12}", "--sampling.max_tokens", "16"),
    *("--labels", "[400]", "--reward_model.max_steps", "60", "--kl_coefs", "[0, 1.0]"),
    *("--rl.optimizer.lr", "6e-4", "--rl.steps", "30"),
    *("--measure_every", "5", "--measure_samples", "128"),
    *("--pool_tasks", "4", "--pool_samples", "256", "--best_of_n", "[1, 4, 16, 64]"),
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_without_kl_the_proxy_rises_while_gold_peaks_and_falls_below_its_start(tmp_path, seed):
    config = load(CONFIG, ["--run.dir", str(tmp_path), "--seeds", f"[{seed}]", *SMALL])
    best, free, held = run(config, say=quiet)["curves"]
    assert free["gold_peak"] > free["gold_start"] + 0.1
    assert free["gold_end"] < free["gold_start"] - 0.1
    assert free["proxy_end"] > 1.0
    assert free["kl_at_peak"] < 5 < free["kl_end"]
    assert held["gold_end"] > held["gold_start"] + 0.05
    assert held["kl_end"] < 2
    points = [json.loads(line) for line in (tmp_path / "points.jsonl").read_text().splitlines()]
    proxies = {
        name: [p["proxy"] for p in points if (p["policy"], p.get("coef")) == name]
        for name in (("best_of_n", None), ("rl", 0.0))
    }
    assert proxies["best_of_n", None] == sorted(proxies["best_of_n", None])
    assert proxies["rl", 0.0][-1] > proxies["rl", 0.0][1] > proxies["rl", 0.0][0]
    assert best["gold_peak"] > best["gold_start"] + 0.2
    assert best["kl_end"] == pytest.approx(math.log(64) - 63 / 64)


def test_a_later_stage_that_cannot_work_stops_before_the_first_trains(tmp_path):
    config = settings(tmp_path / "new", "--reward_model.model", "{path: ./no/such/model}")
    with pytest.raises(UserError, match=r"proxy of 6 labels: .*no folder ./no/such/model"):
        run(config, say=quiet)
    assert not (tmp_path / "new").exists()
