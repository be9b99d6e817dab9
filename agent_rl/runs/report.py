"""One self-contained page about a run: what was run, what changed, curves, every episode.

The page loads nothing: styles, script and data are inside it. What a model wrote reaches it as JSON
in a data block (with ``<``, ``>`` and ``&`` escaped) and is shown as text nodes only; a content
security policy lets no script run but the page's own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent_rl.runs.charts import Points, count_non_finite, draw, is_number, series_of
from agent_rl.runs.early_warning import flags
from agent_rl.runs.files import RunError, plain, write_atomically
from agent_rl.runs.folder import CONFIG, METRICS, REPORT, RunFolder
from agent_rl.runs.rollouts import Budget, embed
from agent_rl.runs.tables import Table, tables_of
from agent_rl.runs.text import duration, number

TEMPLATES = Path(__file__).with_name("templates")
SCRIPTS = ("page.js", "charts.js", "rollouts.js")

# metric, what it measures, format, whether it is a share shown in per cent
COMPARED = (
    ("eval/greedy", "held-out accuracy, greedy", ".1f", True),
    ("eval/sampled", "held-out accuracy, sampled", ".1f", True),
    ("eval/return", "held-out return, greedy", ".3f", False),
    ("eval/length", "held-out length, tokens", ".1f", False),
    ("loss/eval", "held-out loss", ".4f", False),
)


@dataclass(frozen=True, slots=True)
class StageRun:
    """What the page says of a stage.

    Attributes:
        key: Names it within the page.
        title: For people.
        state: ``finished`` or how far it got.
        facts: (label, value) pairs.
        changes: (measure, before, after) rows.
        tables: What its summary holds as tables.
        notes: What could not be read, and what the run warns of.
        config: Settings as YAML.
        data: Charts and rollouts for the script.
    """

    key: str
    title: str
    state: str
    facts: list[tuple[str, str]]
    changes: list[tuple[str, str, str]]
    tables: list[Table]
    notes: list[str]
    config: str
    data: dict[str, Any]


def build_report(run_dir: Path | str) -> Path:
    """Write ``report.html`` of a run: finished or not, of one stage or of a recipe.

    Files that are damaged are named in the page and left out.

    Args:
        run_dir: A run folder; a recipe's has a run folder per stage in it.

    Returns:
        The path of the page.

    Raises:
        RunError: When there is no run, or the page cannot be written.
    """
    folder = RunFolder.open(run_dir)
    folders = stage_folders(folder.path)
    budget = Budget().share(sum(bool(f.rollout_steps()) for f in folders))
    stages = [_stage(f, folder, budget) for f in folders]
    path = folder.path / REPORT
    write_atomically(path, render(folder, stages))
    return path


def stage_folders(path: Path) -> list[RunFolder]:
    """The stages in a run folder, in order: itself, or the run folders in it."""
    inside = [child for child in path.iterdir() if (child / CONFIG).is_file()]
    if (path / METRICS).exists() or not inside:
        return [RunFolder.open(path)]
    return [RunFolder.open(child) for child in sorted(inside, key=lambda p: _natural(p.name))]


def render(folder: RunFolder, stages: Sequence[StageRun]) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    script = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'"use strict";\n{script}'
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    around, _ = _quietly(folder.read_environment)
    config, _ = _quietly(folder.read_config)
    summary, _ = _quietly(folder.read_summary)
    return environment.get_template("report.html.j2").render(
        name=str(config.get("name") or folder.path.resolve().name),
        facts=_run_facts(around, config, summary, stages),
        command=str(around.get("command", "")),
        environment=_environment_facts(around),
        stages=stages,
        data=safe_json({"stages": [{"key": s.key, **s.data} for s in stages]}),
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def safe_json(value: Any) -> str:
    """JSON that can stand in a ``<script>`` element: no ``<``, ``>``, ``&`` as such in it.

    Every character outside ASCII is escaped too, which leaves no trouble to an encoding.
    """
    text = json.dumps(plain(value), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _stage(folder: RunFolder, whole: RunFolder, budget: Budget) -> StageRun:
    rows, trouble = _quietly_rows(folder)
    config, config_trouble = _quietly(folder.read_config)
    summary, summary_trouble = _quietly(folder.read_summary)
    series = series_of(rows)
    main, others = draw(rows)
    key = folder.path.name if folder.path != whole.path else "run"
    kind = str(config.get("stage", ""))
    name = re.sub(r"^\d+-", "", key)
    title = kind or name if key == "run" or kind == name else f"{name} ({kind})" if kind else name
    return StageRun(
        key=key,
        title=title,
        state=_state(summary, config, rows),
        facts=_stage_facts(config, summary, series),
        changes=_changes(series),
        tables=tables_of(summary),
        notes=[n for n in (trouble, config_trouble, summary_trouble) if n]
        + _alarms(rows)
        + flags(rows),
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else "",
        data={"charts": main, "others": others, "rollouts": embed(folder, budget)},
    )


def _alarms(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{name} was not a finite number at {count} step{'s' if count > 1 else ''}"
        for name, count in count_non_finite(rows).items()
    ]


def _state(
    summary: Mapping[str, Any], config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> str:
    if summary.get("finished"):
        return "finished"
    steps = [row["step"] for row in rows if isinstance(row.get("step"), int)]
    if not steps:
        return "not started"
    return f"unfinished: step {max(steps)} of {config.get('steps', '?')}"


def _stage_facts(
    config: Mapping[str, Any], summary: Mapping[str, Any], series: Mapping[str, Points]
) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    seconds = summary.get("train_seconds")
    if not is_number(seconds) and "time/step" in series:
        seconds = sum(value for _, value in series["time/step"])
    envs = [str(e.get("id")) for e in config.get("envs") or [] if isinstance(e, dict)]
    model = config.get("model")
    if isinstance(model, dict):
        facts.append(("model", str(model.get("path") or "tiny, from its sizes")))
    if envs:
        facts.append(("environments", ", ".join(envs)))
    if is_number(seconds):
        facts.append(("training time", duration(float(seconds or 0.0))))
    tokens = sum(value for _, value in series.get("tokens/sampled", []))
    if tokens:
        facts.append(("tokens sampled", f"{tokens:,.0f}"))
    if series.get("kl/reference"):
        facts.append(("last KL", f"{series['kl/reference'][-1][1]:.4f} nats"))
    return facts


def _changes(series: Mapping[str, Points]) -> list[tuple[str, str, str]]:
    """First and last value of every held-out figure, and of the reward while training."""
    rows = []
    for metric, label, form, is_share in COMPARED:
        points = series.get(metric, [])
        if len(points) > 1:
            shown = [_value(series, metric, point, form, is_share) for point in points]
            rows.append((label, shown[0], shown[-1]))
    rewards = [value for _, value in series.get("reward/mean", [])]
    if len(rewards) > 1:
        n = max(1, len(rewards) // 10)
        first, last = (sum(part) / n for part in (rewards[:n], rewards[-n:]))
        steps = f"first and last {n} steps" if n > 1 else "first and last step"
        rows.append((f"training reward, {steps}", f"{first:.3f}", f"{last:.3f}"))
    return rows


def _value(
    series: Mapping[str, Points], metric: str, point: tuple[int, float], form: str, is_share: bool
) -> str:
    step, value = point
    scale, unit = (100, " %") if is_share else (1, "")
    text = number(scale * value, form) + unit
    ends = [dict(series.get(f"{metric}_{end}", [])).get(step) for end in ("low", "high")]
    if None in ends:
        return text
    low, high = (number(scale * (end or 0.0), form) for end in ends)
    return f"{text} ({low} to {high})"


def _run_facts(
    around: Mapping[str, Any],
    config: Mapping[str, Any],
    summary: Mapping[str, Any],
    stages: Sequence[StageRun],
) -> list[tuple[str, str]]:
    states = {stage.state for stage in stages}
    facts = [("state", "finished" if states == {"finished"} else "unfinished")]
    seconds = summary.get("train_seconds")
    if is_number(seconds):
        facts.append(("training time", duration(float(seconds or 0.0))))
    run = config.get("run")
    seed = summary.get("seed", run.get("seed") if isinstance(run, dict) else None)
    if seed is not None:
        facts.append(("seed", str(seed)))
    if around.get("time"):
        facts.append(("started", str(around["time"])))
    if around.get("resumed"):
        facts.append(("resumed", f"{len(around['resumed'])} times"))
    if around.get("commit"):
        facts.append(("commit", str(around["commit"])))
    return facts


def _environment_facts(around: Mapping[str, Any]) -> list[tuple[str, str]]:
    packages = around.get("packages")
    facts = [(str(k), str(v)) for k, v in (packages if isinstance(packages, dict) else {}).items()]
    named = (("python", "Python"), ("platform", "platform"), ("usable_cores", "processor cores"))
    return [(label, str(around[key])) for key, label in named if around.get(key)] + facts


def _quietly(read: Any) -> tuple[dict[str, Any], str]:
    """What a reader gives, or nothing and why: a damaged file must not cost the whole report."""
    try:
        return read(), ""
    except RunError as error:
        return {}, str(error)


def _quietly_rows(folder: RunFolder) -> tuple[list[dict[str, Any]], str]:
    try:
        return folder.read_metrics(), ""
    except RunError as error:
        return [], str(error)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sorts ``10-rl`` behind ``2-sft``."""
    return [(0, int(p)) if p.isdecimal() else (1, p) for p in re.split(r"(\d+)", name) if p]
