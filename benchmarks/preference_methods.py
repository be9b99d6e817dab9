"""Five ways to use the same comparisons: what each reaches, how far it moves, what it takes.

Runs configs/recipes/methods.yaml once per seed and prints one JSON line: per method the true
("gold") reward with its interval, KL to the SFT model, completions sampled, seconds.

    python benchmarks/preference_methods.py --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from agent_rl.loading import load_recipe
from agent_rl.recipe import run_recipe

CONFIG = Path(__file__).parents[1] / "configs/recipes/methods.yaml"
STAGES = {  # the stages that make each policy; the SFT model and the reward model are given
    "rejection sampling": ("samples", "rejection"),
    "dpo": ("dpo",),
    "grpo": ("grpo",),
    "ppo": ("ppo",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        runs = [_run(f"{folder}/{seed}", seed) for seed in seeds]
    methods = {name: _joined([run[name] for run in runs]) for name in runs[0]}
    print(json.dumps({"seeds": seeds, "methods": methods}))


def _run(folder: str, seed: int) -> dict[str, dict[str, Any]]:
    recipe = load_recipe(str(CONFIG), ["--run.dir", folder, "--run.seed", str(seed)])
    stages = run_recipe(recipe)["stages"]
    configs: dict[str, Any] = dict(recipe.stages)
    found = {}
    for row in stages["who"]["comparison"]:
        made_by = STAGES.get(row["model"], ())
        found[row["model"]] = {
            "gold": row["reward"],
            "gold_interval": row["reward_interval"],
            "kl": row["kl"],
            "sampled": sum(_sampled(configs[name]) for name in made_by),
            "seconds": sum(stages[name]["train_seconds"] for name in made_by),
        }
    return found


def _sampled(config: Any) -> int:
    """Completions that a stage samples to train on."""
    if hasattr(config, "prompts_per_step"):
        return int(config.steps * config.prompts_per_step * config.group_size)
    if hasattr(config, "select"):
        from agent_rl.generating import assignments_of  # noqa: PLC0415

        tasks = assignments_of(config.env, config.tasks, config.run.seed)
        return len(tasks) * int(config.samples)
    return 0


def _joined(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "gold": [round(row["gold"], 3) for row in rows],
        "gold_interval": [[round(end, 3) for end in row["gold_interval"]] for row in rows],
        "kl": [round(row["kl"], 2) for row in rows],
        "sampled": rows[0]["sampled"],
        "seconds": round(fmean(row["seconds"] for row in rows), 1),
    }


if __name__ == "__main__":
    main()
