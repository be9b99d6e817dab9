"""Best-of-n measured: the gold and the proxy score of the best of n samples, against its KL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agent_rl.algorithms.best_of_n import expected_best, kl_bound, plug_in_kl
from agent_rl.config import BestOfNConfig
from agent_rl.errors import UserError
from agent_rl.generating import in_split, split_assignments
from agent_rl.preflight import check_env, check_model, located
from agent_rl.rollout import Deadlines
from agent_rl.runs import Console, RunFolder
from agent_rl.runs.files import to_json, write_atomically
from agent_rl.runs.plots import COLOURS
from agent_rl.sample_pool import Prompt, Sample, Sampler, check_sampled

POINTS, FIGURE = "points.jsonl", "best_of_n.svg"
RESAMPLES = 2000  # of the bootstrap over prompts
SIDES = ("gold", "proxy")


def check(config: BestOfNConfig, unborn: Collection[str] = ()) -> None:
    """What can be known to fail before anything is sampled.

    Raises:
        UserError: One line that names the setting.
    """
    check_model(config.model, unborn)
    with located(f"env ({config.env.id})"):
        check_env(config.env)
        check_sampled(
            in_split(config.env, config.split), {"gold": config.gold, "proxy": config.proxy}
        )


def run(
    config: BestOfNConfig, folder: RunFolder, show: Console, *, resume: bool = False
) -> dict[str, Any]:
    """Sample a pool per prompt, and leave ``points.jsonl`` and a figure in ``folder``.

    Args:
        config: All settings.
        folder: Where everything goes.
        show: What the person at the terminal sees.
        resume: Keep the chunks of prompts that were sampled whole.

    Returns:
        The summary, as in ``summary.json``; ``points`` has a row per n.

    Raises:
        UserError: No prompt has as many judged samples as the largest n.
    """
    verifiers = {"gold": config.gold, "proxy": config.proxy}
    sampler = Sampler(
        stage="best_of_n",
        model=config.model,
        sampling=config.sampling,
        samples=config.samples,
        verifiers={name: spec for name, spec in verifiers.items() if spec is not None},
        on_truncation=config.on_truncation,
        deadlines=Deadlines(config.turn_timeout_s, config.episode_timeout_s),
        tasks_at_once=config.tasks_at_once,
        seed=config.run.seed,
    )
    assignments = split_assignments(config.env, config.split, config.tasks, config.run.seed)
    prompts, seconds = sampler.pool(assignments, folder, show, resume=resume)
    pools = pools_of(prompts, max(config.ns))
    if not pools:
        raise UserError(
            f"none of {len(prompts)} prompts has {max(config.ns)} samples that could be judged, "
            "as the largest of ns needs; see error in samples.jsonl"
        )
    points = points_of(pools, sorted(config.ns), config.run.seed)
    write_atomically(folder.path / POINTS, "".join(f"{to_json(point)}\n" for point in points))
    for point in points:
        folder.log(int(point["n"]), _metrics(point), stage="best_of_n")
    sides = SIDES if config.proxy is not None else SIDES[:1]
    draw(points, folder, sides)
    show.table(
        [_shown(p, sides) for p in points], title=f"best of n on {config.env.id} ({config.split})"
    )
    samples = [s for prompt in prompts for s in prompt.samples]
    summary = {
        "stage": "best_of_n",
        "seed": config.run.seed,
        "prompts": len(pools),
        "prompts_left_out": len(prompts) - len(pools),
        "samples": len(samples),
        "errors": sum(s.error is not None for s in samples),
        "points": points,
        "train_seconds": seconds,
        "finished": True,
    }
    folder.write_summary(summary)
    return summary


def pools_of(prompts: Sequence[Prompt], least: int) -> list[tuple[Tensor, Tensor]]:
    """Proxy and gold scores of the judged samples of each prompt that has at least ``least``.

    Returns:
        For each prompt two tensors [M] of float64; the proxy is the gold where there is none.
    """
    pools = []
    for prompt in prompts:
        fair = [s for s in prompt.samples if s.error is None]
        if len(fair) >= least:
            gold = [_score(s, "gold") for s in fair]
            proxy = [s.scores.get("proxy", g) for s, g in zip(fair, gold, strict=True)]
            pools.append(tuple(torch.tensor(x, dtype=torch.float64) for x in (proxy, gold)))
    return pools  # type: ignore[return-value]


def points_of(
    pools: Sequence[tuple[Tensor, Tensor]], ns: Sequence[int], seed: int
) -> list[dict[str, float]]:
    """A row per n: the KL, and what the best of n is worth.

    Args:
        pools: Proxy and gold scores of the samples of each prompt.
        ns: None above the smallest pool.
        seed: Of the bootstrap.

    Returns:
        ``n``; ``kl``, the exact KL where scores do not tie and else an upper bound; ``kl_ties``,
        the KL with the ties that the pool shows, mean over prompts; and for gold and proxy the
        mean over prompts, its standard error and its 95 % interval, bootstrapped over prompts.
    """
    worth = {
        "gold": torch.stack([expected_best(proxy, gold, ns) for proxy, gold in pools]),
        "proxy": torch.stack([expected_best(proxy, proxy, ns) for proxy, _ in pools]),
    }
    spread = {name: _bootstrap(values_pn, seed) for name, values_pn in worth.items()}
    points = []
    for place, n in enumerate(ns):
        point = {
            "n": n,
            "kl": kl_bound(n),
            "kl_ties": float(torch.stack([plug_in_kl(proxy, n) for proxy, _ in pools]).mean()),
        }
        for name in SIDES:
            error, low, high = (float(x[place]) for x in spread[name])
            point[name] = float(worth[name][:, place].mean())
            point |= {f"{name}_se": error, f"{name}_low": low, f"{name}_high": high}
        points.append(point)
    return points


def draw(
    points: Sequence[Mapping[str, float]], folder: RunFolder, sides: Sequence[str] = SIDES
) -> None:
    """Gold and proxy against the square root of KL (Gao et al. 2023), as ``best_of_n.svg``."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axis = figure.subplots()
    at = [point["kl"] ** 0.5 for point in points]
    for name, colour in zip(sides, COLOURS, strict=False):
        axis.plot(at, [p[name] for p in points], color=colour, label=name, marker="o", ms=3)
        low, high = ([p[f"{name}_{end}"] for p in points] for end in ("low", "high"))
        axis.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    for place, point in zip(at, points, strict=True):
        axis.annotate(f"{point['n']:g}", (place, point["gold"]), fontsize=7)
    axis.set(xlabel="square root of KL(best-of-n || policy), nats", ylabel="score")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(folder.path / FIGURE)


def _score(sample: Sample, name: str) -> float:
    score = sample.scores.get(name, sample.reward)
    assert score is not None
    return score


def _bootstrap(values_pn: Tensor, seed: int) -> tuple[Any, Any, Any]:
    """Standard error, 2.5 % and 97.5 % quantile of the mean over prompts, each [N]."""
    rng = np.random.default_rng(seed)
    size = len(values_pn)
    drawn_rp = rng.multinomial(size, np.full(size, 1 / size), size=RESAMPLES) / size
    means_rn = drawn_rp @ values_pn.numpy()
    low, high = np.quantile(means_rn, [0.025, 0.975], axis=0)
    return means_rn.std(axis=0), low, high


def _metrics(point: Mapping[str, float]) -> dict[str, float]:
    return {f"best_of_n/{name}": point[name] for name in ("kl", "kl_ties", *SIDES)}


def _shown(point: Mapping[str, float], sides: Sequence[str]) -> dict[str, Any]:
    shown = {"n": point["n"], "KL": point["kl"], "KL, ties": point["kl_ties"]}
    for name in sides:
        shown |= {name: point[name], f"{name} se": point[f"{name}_se"]}
    return shown
