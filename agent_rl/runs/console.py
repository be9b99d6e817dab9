"""What the person at the terminal sees: live progress on a terminal, plain lines elsewhere."""

from __future__ import annotations

import atexit
import math
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from agent_rl.runs.text import ascii_spark, clean, clip, duration, number, spark

if TYPE_CHECKING:
    from rich.console import RenderableType

# metric, label, format: what a step shows, where it has it
SHOWN = (
    ("reward/mean", "reward", ".3f"),
    ("loss/train", "loss", ".4f"),
    ("rm/accuracy_train", "accuracy", ".3f"),
    ("pref/accuracy", "accuracy", ".3f"),
    ("kl/reference", "KL", ".4f"),
    ("segments/labels", "labels", ".0f"),
    ("segments/accuracy", "right order", ".2f"),
    ("length/mean", "length", ".1f"),
    ("policy/entropy", "entropy", ".3f"),
    ("speed/tokens_per_s", "tokens/s", ",.0f"),
)
PLAIN_LINES = 25  # about as many lines as a whole run prints where there is no terminal
SPARK_WIDTH = 24
COMPLETION_CHARS = 1500
FIRST_TOKEN = re.compile(r"^(<bos>|<s>|<\|begin_of_text\|>)")  # no part of what was asked


class Console:
    """Shows a run as it goes.

    On a terminal one small panel is redrawn in place; in a pipe or a log every few steps print one
    line. Everything that a model wrote is printed as plain characters: no markup, no escape
    sequences. Colours follow NO_COLOR.

    Args:
        name: What is being learned.
        file: Where to print; standard output by default.
        clock: Seconds; for tests.
    """

    def __init__(
        self,
        name: str = "",
        *,
        file: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from rich.console import Console as Terminal  # noqa: PLC0415

        self.name = name
        self.terminal = Terminal(file=file, highlight=False, markup=False, emoji=False)
        self.is_live = self.terminal.is_terminal and not self.terminal.is_dumb_terminal
        self._clock = clock
        self._live: Any = None
        self._title = ""
        self._started, self._first, self._done, self._total = 0.0, 0, 0, 0
        self._curve: deque[float] = deque(maxlen=2000)
        self._latest: Mapping[str, Any] = {}
        self._held_out = ""

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stage(self, name: str, kind: str, path: Path | str) -> None:
        """Announce a stage.

        Args:
            name: Its name in the recipe.
            kind: ``sft``, ``rl``, ...
            path: Its run folder.
        """
        self.stop()
        self._title = name if name == kind else f"{name} ({kind})"
        start = f"{self.name}: " if self.name else ""
        self._print(f"{start}{self._title} in {path}", style="bold")

    def start(self, total: int, *, done: int = 0) -> None:
        """Begin to count steps.

        Args:
            total: How many there will be.
            done: How many an earlier run has done.
        """
        self.stop()
        self._started, self._first, self._done, self._total = self._clock(), done, done, total
        self._curve.clear()
        self._latest, self._held_out = {}, ""
        if done:
            self._print(f"going on after step {done}")
        if self.is_live:
            from rich.live import Live  # noqa: PLC0415

            self._live = Live(
                get_renderable=self._panel,
                console=self.terminal,
                refresh_per_second=4,
                transient=True,
            )
            self._live.start()
            atexit.register(self.stop)  # an exception must not leave the cursor hidden

    def step(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Show a finished step.

        Args:
            step: Its number, from 1.
            metrics: What ``RunFolder.log`` gets.
        """
        self._done, self._latest = step, metrics
        self._curve.append(_curve_value(metrics))
        every = max(1, self._total // PLAIN_LINES)
        if self._live is None and (step % every == 0 or step in (self._first + 1, self._total)):
            self._print(self._line())

    def evaluation(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Show a held-out measurement.

        Args:
            step: After which step.
            metrics: ``eval/...``.
        """
        self._held_out = f"{held_out_text(metrics)} at step {step}"
        if self._live is None:
            self._print(f"held-out: {self._held_out}")

    def note(self, line: str) -> None:
        """Print one line, such as what the steps that follow are."""
        self.stop()
        self._print(line)

    def stop(self) -> None:
        """End the live display, leaving its last state as a line."""
        if self._live is None:
            return
        live, self._live = self._live, None
        live.stop()
        atexit.unregister(self.stop)
        if self._latest:
            self._print(self._line())
        if self._held_out:
            self._print(f"held-out: {self._held_out}")

    def completions(
        self, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
    ) -> None:
        """Print what the model answered before and after, side by side.

        Args:
            before: Rows of ``measure.episode_row``.
            after: Rows of the same tasks, in the same order.
        """
        from rich.table import Table  # noqa: PLC0415

        for one, other in zip(before, after, strict=False):
            table = Table(expand=True, title_justify="left", show_lines=False)
            prompt = FIRST_TOKEN.sub("", str(one.get("prompt", "")))
            table.title = self._text(clip(prompt, COMPLETION_CHARS // 3))
            for label, row in (("before", one), ("after", other)):
                table.add_column(self._text(f"{label}: {_verdict(row)}"), ratio=1, overflow="fold")
            texts = [clip(_said(row), COMPLETION_CHARS) for row in (one, other)]
            table.add_row(*map(self._text, texts))
            self.terminal.print(table)

    def table(self, rows: Sequence[Mapping[str, Any]], title: str = "") -> None:
        """Print rows; the columns are the keys of the first one."""
        from rich.table import Table  # noqa: PLC0415

        table = Table(title=self._text(title) if title else None, title_justify="left")
        for name in rows[0] if rows else ():
            numeric = all(isinstance(row.get(name), int | float | None) for row in rows)
            table.add_column(
                self._text(str(name)), justify="right" if numeric else "left", overflow="fold"
            )
        for row in rows:
            table.add_row(*(self._text(_cell(row.get(name))) for name in rows[0]))
        self.terminal.print(table)

    def notes(self, lines: Sequence[str]) -> None:
        """Print what a person should know, one line each."""
        for line in lines:
            self._print(f"note: {line}", style="yellow")

    def finish(self, summary: Mapping[str, Any], report: Path | str) -> None:
        """Print the figures before and after, the time it took, and where the report is.

        Args:
            summary: As in ``summary.json``.
            report: The path of ``report.html``.
        """
        self.stop()
        names = [key.removesuffix("_before") for key in summary if key.endswith("_before")]
        rows = [
            {"measure": n, "before": summary[f"{n}_before"], "after": summary[f"{n}_after"]}
            for n in names
            if f"{n}_after" in summary
        ]
        if rows:
            self.table(rows)
        if summary.get("train_seconds") is not None:
            self._print(f"trained for {duration(summary['train_seconds'])}")
        self._print(f"report: {report}", style="bold")

    def _line(self) -> str:
        shown = [f"step {self._done}/{self._total}", *self._figures(), f"left {self._left()}"]
        return "  ".join(shown)

    def _figures(self) -> list[str]:
        known = [(n, label, form) for n, label, form in SHOWN if n in self._latest]
        return [f"{label} {number(self._latest[n], form)}" for n, label, form in known]

    def _left(self) -> str:
        steps = self._done - self._first
        if steps <= 0:
            return "-"
        return duration((self._clock() - self._started) / steps * (self._total - self._done))

    def _panel(self) -> RenderableType:
        from rich.console import Group  # noqa: PLC0415
        from rich.progress_bar import ProgressBar  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415

        spent = duration(self._clock() - self._started)
        top = Table.grid(padding=(0, 1), expand=True)
        top.add_column(no_wrap=True)
        top.add_column(ratio=1)
        top.add_column(no_wrap=True)
        top.add_row(
            self._text(f"{self._title} {self._done}/{self._total}"),
            ProgressBar(total=max(1, self._total), completed=self._done),
            self._text(f"{spent} spent, {self._left()} left"),
        )
        draw = spark if self._is_utf else ascii_spark
        lines = ["  ".join([draw(self._curve, SPARK_WIDTH), *self._figures()])]
        if self._held_out:
            lines.append(f"held-out: {self._held_out}")
        return Group(top, *(self._text(line) for line in lines))

    @property
    def _is_utf(self) -> bool:
        return self.terminal.encoding.lower().startswith("utf")

    def _text(self, text: str) -> Any:
        from rich.text import Text  # noqa: PLC0415

        return Text(clean(text, self.terminal.encoding))

    def _print(self, line: str, style: str | None = None) -> None:
        self.terminal.print(self._text(line), style=style, soft_wrap=not self.is_live)


def held_out_text(metrics: Mapping[str, Any]) -> str:
    """``greedy 41.0 % (34.5 to 47.8 %), sampled 39.2 %, length 31.0``, as far as measured."""
    parts = []
    if "eval/greedy" in metrics:
        low, high = metrics.get("eval/greedy_low"), metrics.get("eval/greedy_high")
        interval = f" ({_percent(low)} to {_percent(high)} %)" if low is not None else ""
        parts.append(f"greedy {_percent(metrics['eval/greedy'])} %{interval}")
    if "eval/sampled" in metrics:
        parts.append(f"sampled {_percent(metrics['eval/sampled'])} %")
    if not parts and "eval/return" in metrics:  # a game has a return and no accuracy
        parts.append(f"return {number(metrics['eval/return'], '.2f')}")
    if "rm/accuracy_eval" in metrics:
        parts.append(f"accuracy {_percent(metrics['rm/accuracy_eval'])} %")
        parts.append(f"loss {number(metrics['loss/eval'], '.4f')}")
    if "eval/length" in metrics:
        parts.append(f"length {number(metrics['eval/length'], '.1f')}")
    return ", ".join(parts)


def _percent(share: float | None) -> str:
    return number(None if share is None else 100 * share, ".1f")


def _curve_value(metrics: Mapping[str, Any]) -> float:
    value = metrics.get("reward/mean", metrics.get("loss/train"))
    return float("nan") if value is None else float(value)


def _verdict(row: Mapping[str, Any]) -> str:
    return f"reward {number(row.get('reward'), 'g')}, {row.get('status') or 'no status'}"


def _said(row: Mapping[str, Any]) -> str:
    """What a model wrote; of several turns, the conversation from its first answer on."""
    messages = list(row.get("messages") or ())
    own = next((n for n, m in enumerate(messages) if "reward" in m), len(messages))
    lines = [
        str(m.get("content", "")) if "reward" in m else f"{m.get('role')}: {m.get('content', '')}"
        for m in messages[own:]
    ]
    return "\n".join(lines) if lines else str(row.get("completion", ""))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return "" if value is None else str(value)
