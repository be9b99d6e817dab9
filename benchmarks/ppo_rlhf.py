"""PPO against a learned reward, part by part: critic, whitening, KL controller, PPO-ptx.

    python benchmarks/ppo_rlhf.py --out runs/ppo_rlhf --seeds 0 1 2

The first stages of ``configs/recipes/instructgpt.yaml`` (base, SFT, pairs, reward model) are
trained once per seed; each variant of PPO then starts from the same weights. Prints one JSON line:
for each variant and seed the means of the first two and of the last ten steps.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from agent_rl.loading import build_stage, load_recipe, put, read
from agent_rl.recipe import run_recipe
from agent_rl.runs import Console, RunFolder, write_atomically
from agent_rl.stages import rl
from agent_rl.yaml_text import to_yaml

RECIPE = Path(__file__).resolve().parents[1] / "configs" / "recipes" / "instructgpt.yaml"
FIRST = ("base", "sft", "pairs", "rm")
METRICS = {
    "reward": "reward/mean",
    "gold": "reward/part/gold/value",
    "kl": "kl/reference",
    "kl_coef": "kl/coef",
    "explained_variance": "value/explained_variance",
    "ptx": "loss/ptx",
    "truncated": "samples/truncated",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "as configured": {},
    "linear value head": {"value_path": None},
    "whitened rewards": {"algorithm.preset": "instructgpt"},
    "ptx only measured": {"ptx.coef": 0.0},
    "fixed KL coefficient 0.02": {"algorithm.kl.target": None, "algorithm.kl.coef": 0.02},
}


def settings(policy: str, reward_model: str) -> dict[str, Any]:
    """The recipe's stage ``ppo``, from a given policy against a given reward model."""
    tree: dict[str, Any] = read(str(RECIPE))["stages"]["ppo"]
    del tree["stage"]
    put(tree, "model.path", policy)
    put(tree, "value_path", reward_model)
    put(tree, "envs.0.options.reward_models.0.path", reward_model)
    return {**tree, "evaluation": {"tasks": 0}}


def starting_point(out: Path, seed: int) -> tuple[str, str]:
    """The folders of the policy and of the reward model; trained once."""
    folder = out / f"start-{seed}"
    tree = read(str(RECIPE))
    tree["stages"] = {name: tree["stages"][name] for name in FIRST}
    tree["run"] = {"dir": str(folder), "seed": seed, "threads": 1}
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / f"start-{seed}.yaml", to_yaml(tree))
    if not (folder / "summary.json").exists():
        run_recipe(load_recipe(str(out / f"start-{seed}.yaml")), overwrite=True)
    return str(folder / "2-sft" / "model"), str(folder / "4-rm" / "model")


def run_variant(name: str, out: Path, seed: int, steps: int) -> dict[str, Any]:
    """One run of PPO; what its first two and last ten steps measured, on average."""
    tree = settings(*starting_point(out, seed))
    for key, value in VARIANTS[name].items():
        put(tree, key, value)
    folder = out / f"{name.replace(' ', '-')}-{seed}"
    tree["run"] = {"dir": str(folder), "seed": seed, "checkpoint_every": 0, "rollouts_every": 0}
    tree["steps"] = steps
    config: Any = build_stage("rl", tree, name)
    opened = RunFolder.create(folder, tree, overwrite=True)
    summary = rl.run(config, opened, Console(name))
    rows = [row for row in opened.read_metrics() if row["stage"] == "rl"]
    measured: dict[str, Any] = {"seed": seed, "seconds": summary["train_seconds"]}
    for short, metric in METRICS.items():
        for when, chosen in (("start", rows[:2]), ("end", rows[-10:])):
            values = [row[metric] for row in chosen if metric in row]
            measured[f"{short}_{when}"] = round(fmean(values), 3) if values else None
    return measured


def main() -> None:
    """Run the variants and print one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/ppo_rlhf"))
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    results = {
        name: [run_variant(name, given.out, seed, given.steps) for seed in given.seeds]
        for name in given.variants
    }
    print(json.dumps({"benchmark": "ppo_rlhf", "steps": given.steps, "results": results}))


if __name__ == "__main__":
    main()
