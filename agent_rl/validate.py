"""``agent-rl validate``: prove that a reward can be trusted, before a model finds out."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console as Terminal
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from agent_rl.errors import UserError
from agent_rl.overrides import override_tree
from agent_rl.runs.files import to_json
from agent_rl.runs.text import clean, clip, duration
from agent_rl.scoring import spec
from agent_rl.validation.findings import KINDS, Finding, Findings
from agent_rl.validation.judging import Checker, Latency
from agent_rl.validation.plays import (
    REPEATED,
    Played,
    Plays,
    cases_to_play,
    check_plays,
    policies_of,
)
from agent_rl.validation.rows import check_rows
from agent_rl.validation.subjects import Subject, is_env, open_data, open_env, parse_columns

SHOWN = 10
"""Findings of a kind on the terminal; all of them are in ``--json``, up to a thousand."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What validation of one subject gave.

    Attributes:
        subject: What was validated.
        findings: What is wrong.
        right: How long verdicts on right completions took.
        wrong: And on wrong ones, where they were timed.
        gold: Rows with a right completion that passed.
        tried: Completions judged, right and wrong ones.
        plays: What was played, in an environment of many turns or without a verifier.
    """

    subject: Subject
    findings: Findings
    right: Latency
    wrong: Latency
    gold: int
    tried: Mapping[str, int]
    plays: Plays | None = None

    @property
    def ok(self) -> bool:
        """Whether there are warnings at most."""
        return not self.findings.failed

    @property
    def _policies(self) -> Mapping[str, Played]:
        return self.plays.policies if self.plays is not None else {}

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "subject": self.subject.name,
            "verifier": self.subject.verifier_name,
            "rows": len(self.subject.cases),
            "gold_passed": self.gold,
            "tried": dict(self.tried),
            "plays": {name: p.as_dict() for name, p in self._policies.items()},
            "ok": self.ok,
            "counts": dict(self.findings.counts),
            "latency_s": {"right": self.right.as_dict(), "wrong": self.wrong.as_dict()},
            "findings": [asdict(finding) for kind in KINDS for finding in self.findings.of(kind)],
        }


def validate(
    name: str,
    overrides: Sequence[str] = (),
    *,
    verifier: str | None = None,
    columns: Sequence[str] = (),
    against: str | None = None,
    tasks: int = 0,
    seed: int = 0,
    as_json: bool = False,
) -> int:
    """``agent-rl validate``.

    Args:
        name: An environment, or data.
        overrides: Options of the environment, ``--difficulty 2``; or of the verifier, where the
            rows are data: ``--verifier.strict false``.
        verifier: As ``agent-rl score`` takes it; for an environment a name, in the place of its
            own judge.
        columns: ``OURS=THEIRS`` words, for data.
        against: Other data that must not overlap, for data.
        tasks: How many rows, from the first on; 0 for all.
        seed: Of whatever is drawn.
        as_json: Print one JSON object in the place of tables.

    Returns:
        0, or 1 where a right completion fails, a wrong one passes, or a row cannot be answered.

    Raises:
        UserError: Arguments that do not fit.
        DataError: No such environment or data.
        VerifierError: No such verifier or option.
    """
    if tasks < 0:
        raise UserError(f"--tasks is {tasks}; it must be 1 or more, or 0 for all")
    findings = Findings()
    if is_env(name):
        if columns or against:
            raise UserError("--column and --against are for data; an environment has options")
        options = override_tree(overrides)
        if verifier is not None:
            options["verifier"] = verifier
        with _Bar("reading tasks") as bar:
            subject = open_env(name, options, findings, tasks=tasks, seed=seed, on_read=bar.show)
    else:
        if verifier is None:
            raise UserError(f"{name} is data: say what judges it with --verifier NAME")
        judge = spec.build(spec.specify(verifier, spec.option_tree(overrides)))
        renames = parse_columns(columns)
        subject = open_data(name, judge, findings, columns=renames, against=against, tasks=tasks)
        subject.verifier_name = verifier
    outcome = check(subject, findings, seed=seed)
    if as_json:
        print(to_json(outcome.as_json(), indent=2))
    else:
        render(outcome, Terminal())
    return 0 if outcome.ok else 1


def check(subject: Subject, findings: Findings, *, seed: int = 0) -> Outcome:
    """Run every check on a subject; progress goes to standard error.

    Args:
        subject: What to check.
        findings: What opening it found already; more is added.
        seed: Of whatever is drawn.
    """
    check_rows(subject, findings)
    total = 2 * len(subject.cases) if subject.verifier is not None else 0
    total += _episodes(subject)
    plays = None
    with _Bar("checking") as bar:
        checker = Checker(subject, findings, lambda n: bar.add(n, total), seed)
        if subject.verifier is not None:
            checker.run()
        if cases_to_play(subject):
            plays = check_plays(subject, findings, lambda n: bar.add(n, total), seed)
    if subject.verifier is None and plays is not None:
        steps = len(plays.right.seconds) + len(plays.wrong.seconds)
        return Outcome(
            subject, findings, plays.right, plays.wrong, plays.gold, {"steps": steps}, plays
        )
    gold = len(checker.golds)
    return Outcome(subject, findings, checker.right, checker.wrong, gold, checker.tried, plays)


def _episodes(subject: Subject) -> int:
    """How many will be played."""
    cases = len(cases_to_play(subject))
    if subject.env is None or not cases:
        return 0
    return cases * (1 + len(policies_of(subject.env))) + min(cases, REPEATED)


def render(outcome: Outcome, console: Terminal) -> None:
    """Print what was found; what rows and verifiers say is printed as plain characters."""
    encoding = console.encoding or "utf-8"
    console.print(_table(encoding, ("", ""), _facts(outcome)))
    for kind, (level, meaning) in KINDS.items():
        count = outcome.findings.counts[kind]
        if count:
            found = outcome.findings.of(kind)
            more = f", the first {SHOWN}" if count > SHOWN else ""
            title = f"{level.upper()}  {kind}: {count:,} ({meaning}){more}"
            heads = ("row", "which", "what happened")
            console.print(Text(title, style="bold"))
            console.print(_table(encoding, heads, [_cells(f) for f in found[:SHOWN]]))
    verdict = "ok" if outcome.ok else "FAILED"
    warned = sum(n for kind, n in outcome.findings.counts.items() if KINDS[kind][0] == "warn")
    failed = sum(outcome.findings.counts.values()) - warned
    console.print(Text(f"{verdict}: {failed:,} failures, {warned:,} warnings"))


def _facts(outcome: Outcome) -> list[tuple[str, str]]:
    subject, rows = outcome.subject, len(outcome.subject.cases)
    facts = [
        ("validated", subject.name),
        ("verifier", subject.verifier_name),
        ("rows", f"{rows:,}"),
        ("right completions that pass", f"{outcome.gold:,} of {rows:,} rows"),
    ]
    names = {"gold": "right completions tried", "bad": "wrong completions tried", "steps": "steps"}
    facts += [(names[what], f"{n:,}") for what, n in outcome.tried.items()]
    facts += [(f"played: {name}", _earned(p)) for name, p in outcome._policies.items()]
    for what, latency in (("right", outcome.right), ("wrong", outcome.wrong)):
        took = latency.as_dict()
        if took["n"]:
            p50, p99, most = (1000 * took[key] for key in ("p50", "p99", "max"))
            figures = f"p50 {p50:.2f}, p99 {p99:.2f}, max {most:.1f} ms ({took['n']:,} timed)"
            facts.append((f"time of a verdict, {what}", figures))
            slow = took["slowest"][0]
            facts.append(("", f"the slowest: row {slow['row']}, {slow['completion']}"))
    return facts


def _earned(played: Played) -> str:
    """What a policy earned, and how its tool calls went."""
    told = played.as_dict()
    text = f"{told['episodes']:,} episodes, mean return {told['mean_return']:.3g}"
    counts = ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in told["tools"].items() if n)
    return f"{text}; {counts}" if counts else text


def _cells(finding: Finding) -> tuple[str, str, str]:
    return finding.row, finding.what, finding.problem


def _table(encoding: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    made = Table(box=None, show_header=any(heads))
    for head in heads:
        made.add_column(head, overflow="fold")
    for row in rows:
        made.add_row(*(Text(clean(clip(" ".join(c.split()), 200), encoding)) for c in row))
    return made


class _Bar:
    """How far it is and how long it will take: a bar on a terminal, a few lines elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = what
        terminal = Terminal(stderr=True)
        columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=terminal) if terminal.is_terminal else None
        self._task = self._bar.add_task(what, total=None) if self._bar else None
        self._done, self._started, self._said = 0, time.monotonic(), time.monotonic()

    def __enter__(self) -> _Bar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, more: int, total: int) -> None:
        """So many more of ``total`` are done."""
        self.show(self._done + more, total)

    def show(self, done: int, total: int) -> None:
        """So many of ``total`` are done."""
        self._done = done
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
            return
        now = time.monotonic()
        if now - self._said > 10 and done:
            left = (now - self._started) / done * (total - done)
            line = f"{self._what} {done:,}/{total:,}, about {duration(left)} left"
            print(line, file=sys.stderr, flush=True)
            self._said = now
