"""Every preset on the quickstart's task: accuracy, KL and seconds; one JSON line, one table.

    python benchmarks/presets.py --out runs/presets --table docs/presets.md

The two supervised stages of ``configs/quickstart.yaml`` are trained once per seed; each preset then
starts from the same weights, tasks and settings. Presets keep their own published values but for
what the task dictates: the overlong buffer of DAPO is 8 of the 32 tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from agent_rl.algorithms import PRESETS
from agent_rl.loading import build_stage, load_recipe, read
from agent_rl.recipe import run_recipe
from agent_rl.runs import Console, RunFolder, write_atomically
from agent_rl.stages import rl

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "quickstart.yaml"
# DAPO's published buffer of 4096 is for answers of 20,480 tokens; loading refuses one that is not
# below sampling.max_tokens (here 32), so it is a quarter of that.
CHANGES: dict[str, dict[str, Any]] = {"dapo": {"overlong_buffer": 8}}
COLUMNS = ("accuracy_before", "accuracy_after", "sampled_before", "sampled_after")


def starting_model(out: Path, seed: int) -> Path:
    """The quickstart's model before reinforcement learning; trained once."""
    folder = out / f"start-{seed}"
    words = ["--run.dir", str(folder), "--run.seed", str(seed), "--stages.rl.steps", "1"]
    words += ["--stages.rl.evaluation.tasks", "0"]
    if not (folder / "summary.json").exists():
        run_recipe(load_recipe(str(CONFIG), words), overwrite=True)
    return folder / "2-habit" / "model"


def run_preset(name: str, model: Path, out: Path, seed: int, steps: int) -> dict[str, Any]:
    """Reinforcement learning with a preset; the summary of the run."""
    settings = read(str(CONFIG))["stages"]["rl"]
    folder = out / f"{name}-{seed}"
    settings |= {
        "model": {"path": str(model)},
        "algorithm": {"preset": name, **CHANGES.get(name, {})},
        "steps": steps,
        "drop_zero_advantage": None,
        "run": {"dir": str(folder), "seed": seed, "checkpoint_every": 0, "rollouts_every": 0},
    }
    settings.pop("stage")
    config = build_stage("rl", settings, name)
    assert not isinstance(config, type(None))
    run_folder = RunFolder.create(folder, settings, overwrite=True)
    return rl.run(config, run_folder, Console(name))  # type: ignore[arg-type]


def table(rows: dict[str, list[dict[str, Any]]], steps: int, seeds: list[int]) -> str:
    """The results as Markdown; means over seeds."""
    named = f"seed {seeds[0]}" if len(seeds) == 1 else f"mean over the seeds {seeds}"
    lines = [
        "# Every preset on the quickstart's task",
        "",
        "Made by `python benchmarks/presets.py --table docs/presets.md`:",
        f"{steps} steps of 8 prompts",
        f"x 16 samples, learning rate 2e-4, {named}, one thread. Accuracies",
        "are on held-out problems: greedy, and sampled at temperature 1. KL is to the starting",
        "model, summed over a completion, in nats; empty where the preset has no reference. All",
        "presets share learning rate and batch, which were chosen for GRPO: the table says that",
        "each one learns, not which one is best.",
        "",
        "| preset | greedy before | greedy after | sampled before | sampled after | KL | seconds |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    for name, results in rows.items():
        cells = [f"{_mean(results, column):.1%}" for column in COLUMNS]
        kl = _mean(results, "kl")
        cells += ["" if kl is None else f"{kl:.2f}", f"{_mean(results, 'train_seconds'):.0f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _mean(results: list[dict[str, Any]], key: str) -> Any:
    values = [result[key] for result in results if result.get(key) is not None]
    return statistics.mean(values) if values else None


def main() -> None:
    """Run, print one JSON line, write the table when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/presets"))
    parser.add_argument("--presets", nargs="*", default=sorted(PRESETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--table", type=Path, help="write the Markdown table here")
    arguments = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.presets}
    for seed in arguments.seeds:
        model = starting_model(arguments.out, seed)
        for name, results in rows.items():
            results.append(run_preset(name, model, arguments.out, seed, arguments.steps))
    if arguments.table:
        write_atomically(arguments.table, table(rows, arguments.steps, arguments.seeds))
    print(json.dumps({"benchmark": "presets", "steps": arguments.steps, "results": rows}))


if __name__ == "__main__":
    main()
