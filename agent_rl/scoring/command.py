"""``agent-rl score``: the command line of offline scoring."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from agent_rl.errors import UserError
from agent_rl.runs.files import to_json
from agent_rl.runs.text import clean
from agent_rl.scoring import engines, summary
from agent_rl.scoring.compare import compare_files
from agent_rl.scoring.compare import render as render_comparison
from agent_rl.scoring.job import Finished, Job
from agent_rl.scoring.outputs import rejects_path
from agent_rl.scoring.paths import beside, summary_path
from agent_rl.scoring.report import build_report
from agent_rl.scoring.settings import Settings
from agent_rl.scoring.spec import option_tree, specify
from agent_rl.scoring.tally import Tally

MOST_SECONDS = 86_400.0
LINES = 20
"""Progress lines where there is no terminal."""


def score(arguments: argparse.Namespace) -> int:
    """Run a job; the arguments are those of the command line.

    Returns:
        0; 1 where no sample could be judged.

    Raises:
        UserError: Anything that cannot work, before the first row is scored where possible.
    """
    settings = _settings(arguments)
    if arguments.resume and arguments.overwrite:
        raise UserError(
            "--resume goes on with an unfinished job and --overwrite replaces; give one"
        )
    before = arguments.compare
    _check_paths(arguments, settings)
    engines.check(arguments.engine)
    started = time.monotonic()
    terminal = Console(stderr=True)
    with Job(settings, overwrite=arguments.overwrite) as job:
        engine = engines.make(arguments.engine, settings.workers, job.workers)
        _say(terminal, job.task.columns.describe())
        try:
            _run(job, engine, terminal)
            finished = job.finish()
            _report(arguments, settings, finished, time.monotonic() - started)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(
                "interrupted; the same command goes on where it stopped"
            ) from interrupt
        job.discard()
    _show(arguments, settings, finished)
    if before is not None:
        columns = finished.columns
        named = {"completion": columns.completion, "answer": columns.answer or "answer"}
        prefixes = (settings.prefix, settings.prefix)
        found = compare_files(before, settings.out, prefixes=prefixes, columns=named)
        render_comparison(found, Console(stderr=arguments.json))
    return _verdict(finished.tally, terminal)


def _verdict(tally: Tally, terminal: Console) -> int:
    """1 where a job gave nothing that could be used, and says why."""
    if tally.judged > tally.statuses["bad_reference"]:
        return 0
    if tally.judged:
        reason = tally.examples["bad_reference"][0].reason
        _say(terminal, f"error: no row has a reference that the verifier can use: {reason}")
        return 1
    first = tally.errors[0].error if tally.errors else ""
    first = first or (tally.first_rejects[0].error if tally.first_rejects else "")
    _say(terminal, f"error: no sample could be judged: {first}")
    return 1


def _check_paths(arguments: argparse.Namespace, settings: Settings) -> None:
    """What would be found only after all the work, or would cost the user a file."""
    before, report, out = arguments.compare, arguments.report, settings.out
    if before is not None and not Path(before).is_file():
        raise UserError(f"--compare {before}: no such file")
    if before is not None and out.exists() and out.samefile(before):
        raise UserError(f"--compare {before} is the output itself; give --output another name")
    if report is None:
        return
    path = Path(report)
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--report {report}: name a file in a folder that is there")
    others = [*settings.inputs, before, out, *beside(out)]
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--report {report}: the name of a page must end with .html")
    for other in others:
        if other is not None and path.absolute() == Path(other).absolute():
            raise UserError(f"--report {report} is needed for something else; choose another name")


def _settings(arguments: argparse.Namespace) -> Settings:
    for name in ("workers", "rows_per_span"):
        value = getattr(arguments, name)
        least = 0 if name == "workers" else 1
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} is {value}; it must be at least {least}")
    if not 0 < arguments.timeout <= MOST_SECONDS:
        raise UserError(
            f"--timeout is {arguments.timeout:g}; it must be above 0, and {MOST_SECONDS:g} at most"
        )
    out = Path(arguments.output)
    if out.is_symlink():  # the file it leads to is replaced, not the link
        out = out.resolve()
    if out.is_dir():
        raise UserError(f"--output {out} is a folder; name a file")
    return Settings(
        inputs=tuple(arguments.inputs),
        out=out,
        spec=specify(arguments.verifier, option_tree(arguments.overrides)),
        mapping=_mapping(arguments.column),
        split=arguments.split,
        name=arguments.config_name,
        group=arguments.group,
        prefix=arguments.prefix,
        json_cells=arguments.json_cells,
        strict=arguments.strict,
        timeout=arguments.timeout,
        workers=arguments.workers,
        cache=Path(arguments.cache).resolve() if arguments.cache else None,
        rows_per_span=arguments.rows_per_span,
    )


def _mapping(words: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        ours, equals, theirs = word.partition("=")
        if not (ours and equals and theirs):
            raise UserError(f"--column {word}: write OURS=THEIRS, such as answer=gold")
        if ours in found:
            raise UserError(f"--column {ours}: given twice")
        found[ours] = theirs
    return found


def _run(job: Job, engine: engines.Engine, terminal: Console) -> None:
    with _Bar(job.plan.rows, terminal) as bar:
        for each in job.done():
            bar.add(each, earlier=True)
        if job.resumed:
            bar.say(f"going on with {job.folder}: {bar.rows:,} of {job.plan.rows:,} rows are done")
        for each in job.run(engine):
            bar.add(each)


class _Bar:
    """Rows as spans end: a bar with the time that is left, or some lines without a terminal."""

    def __init__(self, total: int, terminal: Console) -> None:
        self.rows = self._samples = self._errors = self._rejects = self._new = 0
        self._passed, self._total, self._terminal = 0, total, terminal
        self._started = time.monotonic()
        self._told = 0
        columns = (
            TextColumn("scoring"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        self._bar = Progress(*columns, console=terminal) if terminal.is_terminal else None
        self._task = self._bar.add_task("", total=total, text="") if self._bar else None

    def __enter__(self) -> _Bar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, done: dict[str, Any], *, earlier: bool = False) -> None:
        """A span has ended."""
        self.rows += done["rows"]
        self._new += 0 if earlier else done["rows"]
        self._samples += done["samples"]
        self._passed += done["passed"]
        self._errors += done["errors"]
        self._rejects += done["rejects"]
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.rows, text=self._text())
        elif not earlier and self.rows * LINES >= (self._told + 1) * self._total:
            self._told = self.rows * LINES // max(1, self._total)
            self.say(f"rows {self.rows:,} of {self._total:,}, {self._text()}{self._left()}")

    def say(self, text: str) -> None:
        """A line above the bar."""
        _say(self._bar.console if self._bar is not None else self._terminal, text)

    def _text(self) -> str:
        rate = self._new / max(1e-9, time.monotonic() - self._started)
        judged = self._samples - self._errors
        passed = f"{100 * self._passed / judged:.1f} % passed" if judged else "none judged"
        told = f"{rate:,.0f} rows/s, {passed}"
        told += f", {self._errors:,} errors" if self._errors else ""
        return told + (f", {self._rejects:,} lines left out" if self._rejects else "")

    def _left(self) -> str:
        rate = self._new / max(1e-9, time.monotonic() - self._started)
        seconds = (self._total - self.rows) / rate if rate else 0.0
        return f", {seconds:,.0f} s left" if seconds >= 1 else ""


def _report(
    arguments: argparse.Namespace, settings: Settings, finished: Finished, seconds: float
) -> None:
    if not arguments.report:
        return
    facts = {
        "verifier": settings.spec.word,
        "options": to_json(dict(settings.spec.options)),
        "output": str(settings.out),
        "columns": finished.columns.describe().removeprefix("columns: "),
        "this run took": f"{seconds:,.1f} s",
    }
    title = f"Scores of {', '.join(settings.inputs)}"
    build_report(Path(arguments.report), finished.tally, finished.groups, title=title, facts=facts)


def _show(arguments: argparse.Namespace, settings: Settings, finished: Finished) -> None:
    terminal = Console(stderr=True)
    for warning in finished.warnings:
        _say(terminal, f"warning: {warning}")
    if finished.tally.rejects:
        where = rejects_path(settings.out)
        _say(terminal, f"{finished.tally.rejects:,} lines left out, with the reasons in {where}")
    if arguments.json:
        print(to_json(summary.as_json(finished.tally, finished.groups)))
        return
    summary.render(finished.tally, finished.groups, Console())
    report = f", {arguments.report}" if arguments.report else ""
    _say(terminal, f"wrote {settings.out}, {summary_path(settings.out)}{report}")


def _say(terminal: Console, text: str) -> None:
    shown = clean(text, terminal.encoding or "utf-8")
    terminal.print(shown, markup=False, highlight=False, soft_wrap=True)
    sys.stderr.flush()
