"""Models learn to use a calculator: seeds, two calls, the run without the mask, SmolLM2.

    python benchmarks/tool_use.py --out runs/tool_use --figure docs/images/tool_use.png
    python benchmarks/tool_use.py --only smollm --seeds 0 --figure docs/images/tool_use_smollm.png

Runs ``configs/calculator.yaml`` once per seed with inserted tokens masked, as always, and once per
seed with ``train_on_tool_tokens`` (the ablation), and ``configs/calculator_two_calls.yaml`` once,
one after another, supervised stages included. ``smollm`` (not run by default; ``make smollm``
prepares the model) is ``configs/smollm_calculator.yaml``. Prints one JSON line with held-out
accuracies and seconds of wall clock, and draws the curves of the first seed.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from agent_rl.loading import load_recipe
from agent_rl.recipe import run_recipe
from agent_rl.runs.plots import plot_runs
from agent_rl.runs.report import stage_folders

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RUNS = {
    "one call": ("calculator.yaml", ()),
    "one call, no mask": ("calculator.yaml", ("--stages.rl.train_on_tool_tokens", "true")),
    "two calls": ("calculator_two_calls.yaml", ()),
    "smollm": ("smollm_calculator.yaml", ()),
}
DEFAULT = [name for name in RUNS if name != "smollm"]
METRICS = ("eval/greedy", "eval/sampled", "kl/reference")


def run(name: str, out: Path, seed: int) -> dict[str, Any]:
    """One whole recipe; what it gave."""
    config, changes = RUNS[name]
    folder = out / f"{name.replace(', ', ' ').replace(' ', '_')}-{seed}"
    words = ["--run.dir", str(folder), "--run.seed", str(seed), *changes]
    started = time.perf_counter()
    run_recipe(load_recipe(str(CONFIGS / config), words), overwrite=True)
    seconds = time.perf_counter() - started
    stage = stage_folders(folder)[-1]
    logged = [row for row in stage.read_metrics() if "eval/greedy" in row]
    return {
        "run": name,
        "seed": seed,
        "greedy": [row["eval/greedy"] for row in logged],
        "sampled": [row["eval/sampled"] for row in logged],
        "seconds": round(seconds, 1),
        "folder": str(folder),
    }


def main() -> None:
    """Run all, print one JSON line, draw the figure when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/tool_use"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=RUNS, default=DEFAULT)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    results = [run(name, given.out, seed) for seed in given.seeds for name in given.only]
    if given.figure:
        first = [r["folder"] for r in results if r["seed"] == given.seeds[0]]
        plot_runs(first, given.figure, METRICS)
    print(json.dumps({"benchmark": "tool_use", "runs": results}))


if __name__ == "__main__":
    main()
