"""A scoring job: spans to workers, parts into a folder, and the folder into one output.

The folder ``OUT.work`` holds all there is to know: ``job.json``, copies of inputs that cannot be
split (``spool/``), and for each finished span its part, votes, rejects and tally (``parts/``). A
tally is written last, whole or not at all; so a job that was killed at any moment goes on with the
spans that have none, and its output is the same as if nothing had happened.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_rl.errors import UserError
from agent_rl.runs.files import to_json, write_atomically
from agent_rl.scoring import groups as grouping
from agent_rl.scoring import inputs, outputs, summary
from agent_rl.scoring.columns import Columns, resolve
from agent_rl.scoring.engines import Engine, LocalEngine
from agent_rl.scoring.groups import Groups
from agent_rl.scoring.paths import beside, refuse_foreign, refuse_input, state_of, summary_path
from agent_rl.scoring.settings import Settings
from agent_rl.scoring.span_scoring import Files, Task, brief, files, finished
from agent_rl.scoring.spec import build
from agent_rl.scoring.tally import Tally, merge
from agent_rl.scoring.types import Plan, Span
from agent_rl.verifier_queue import waits
from rl_verifiers import Verifier
from rl_verifiers.runner import is_bounded

ROWS_PER_SPAN = 1000
ROWS_PER_SPAN_SLOW = 64
"""Where the verifier waits, or may take any time, so that a kill loses little."""


@dataclass(frozen=True)
class Finished:
    """What a job gave.

    Attributes:
        tally: Statistics.
        groups: pass@k and maj@k.
        warnings: Of the outputs, each once.
        columns: What was chosen.
    """

    tally: Tally
    groups: Groups
    warnings: Sequence[str]
    columns: Columns


class Job:
    """One scoring job and its folder; a context manager that holds the folder's lock.

    Args:
        settings: What to do.
        overwrite: Replace the output, and give up an unfinished job.

    Raises:
        UserError: The output is there, an unfinished job is another one, or it runs right now.
    """

    def __init__(self, settings: Settings, *, overwrite: bool = False) -> None:
        self.settings = settings
        self.kind = outputs.output_kind(settings.out)
        self.folder = settings.out.with_name(settings.out.name + ".work")
        self.parts = self.folder / "parts"
        self._overwrite = overwrite
        self._lock: Any = None
        self.verifier: Verifier = build(settings.spec)
        self.waits = waits(self.verifier)
        self.plan: Plan
        self.task: Task
        self.resumed = False
        self._done: dict[int, dict[str, Any]] = {}
        self._inputs: dict[Path, tuple[int, int]] = {}

    def __enter__(self) -> Job:
        prepare = getattr(self.verifier, "prepare", None)
        if prepare is not None:
            prepare()
        self._open()
        try:
            self._make_plan()
        except BaseException:
            self._close(discard=not self.resumed)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close(discard=not any(self.parts.glob("*.tally.json")))

    @property
    def workers(self) -> int:
        """Processes: what was asked for, or what the verifier is best off with."""
        if self.settings.workers is not None:
            return self.settings.workers
        return 1 if self.waits else len(os.sched_getaffinity(0))

    def run(self, engine: Engine | None = None) -> Iterator[dict[str, Any]]:
        """Score every span that is not finished; gives what ``score_span`` says of each.

        Raises:
            UserError: The disk is full, an input changed, a broken line under ``strict``.
            VerifierError: The verifier broke its contract.
        """
        engine = engine or LocalEngine(self.workers)
        pending = [span for span in self.plan.spans if span.index not in self._done]
        yield from engine.run(self.task, pending)

    def done(self) -> Sequence[dict[str, Any]]:
        """The same of the spans that an earlier run finished."""
        return list(self._done.values())

    def finish(self) -> Finished:
        """Bring the parts together: the output, its rejects and its summary; remove the folder.

        Raises:
            UserError: The disk is full; nothing is lost, and the same command goes on.
        """
        paths = [self._paths(span) for span in self.plan.spans]
        loaded = (self._finished(path) for path in paths)
        warnings: dict[str, None] = {}
        tally = merge(_noting(loaded, warnings))
        self._refuse_changed()
        votes = grouping.evaluate([path.votes for path in paths], scratch=self.folder)
        (self.folder / "merging").touch()
        out = self.settings.out
        order = self.plan.columns
        merged = outputs.merge([path.part for path in paths], out, self.kind, columns=order)
        warnings.update(dict.fromkeys(merged))
        rejects = outputs.rejects_path(out)
        if tally.rejects:
            outputs.merge([path.rejects for path in paths], rejects, "jsonl")
        else:
            rejects.unlink(missing_ok=True)
        content = {
            "output": out.name,
            **{key: value for key, value in self._identity().items() if key != "verifier_digest"},
            **summary.as_json(tally, votes),
            "warnings": list(warnings),
            "job": self._identity()["fingerprint"],
        }
        write_atomically(summary_path(out), to_json(content, indent=2) + "\n")
        return Finished(tally, votes, list(warnings), self.task.columns)

    def discard(self) -> None:
        """Remove the folder, at once as far as a later job can see; the last step."""
        shutil.rmtree(self._trash, ignore_errors=True)
        with suppress(FileNotFoundError):
            self.folder.rename(self._trash)
        shutil.rmtree(self._trash, ignore_errors=True)

    @property
    def _trash(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.trash")

    def _refuse_changed(self) -> None:
        """Spans of a file that was written to meanwhile are spans of two files."""
        try:
            same = state_of(self.plan.spans) == self._inputs
        except OSError:
            same = False
        if not same:
            raise UserError("an input changed while it was read; --overwrite starts the job anew")

    def _finished(self, paths: Files) -> tuple[Tally, list[str]]:
        found = finished(paths)
        if found is None:
            raise UserError(
                f"{paths.part}: this part of the output was changed by something else; "
                "the same command scores it again"
            )
        return found

    def _paths(self, span: Span) -> Files:
        return files(self.parts, self.kind, span.index)

    def _identity(self) -> dict[str, Any]:
        return {**self.settings.identity(), "fingerprint": self.plan.fingerprint}

    def _open(self) -> None:
        """Take the folder, new or left by a job that was stopped."""
        out = self.settings.out
        shutil.rmtree(self._trash, ignore_errors=True)
        refuse_foreign(self.folder)
        if self._overwrite and self.folder.exists():
            with self._locked():
                self.discard()
        found = self.folder.exists()
        for path in (out, *beside(out)):
            refuse_input(path, self.settings.inputs)
            if path.exists() and not found and not self._overwrite:
                raise UserError(f"{path} is there already; --overwrite replaces it")
        try:
            self.parts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror}") from error
        self._take_lock()
        self.resumed = (self.folder / "job.json").exists()
        if not self.resumed:  # whatever stands there belongs to no job
            shutil.rmtree(self.parts)
            self.parts.mkdir()
        self._sweep()
        if out.exists() and found and not self._may_replace():
            self._close(discard=False)
            raise UserError(f"{out} is there already; --overwrite replaces it")

    def _may_replace(self) -> bool:
        """Whether the output is this job's own, or was to be replaced from the start."""
        told = (self.folder / "replaces").exists()
        return self._overwrite or told or (self.folder / "merging").exists()

    def _sweep(self) -> None:
        """What a killed process left half-written."""
        for folder in (self.folder, self.parts, self.folder / "spool"):
            for path in folder.glob(".*.tmp"):
                path.unlink(missing_ok=True)

    def _make_plan(self) -> None:
        settings = self.settings
        if self._overwrite and settings.out.exists():
            (self.folder / "replaces").touch()
        rows = settings.rows_per_span
        is_slow = self.waits or not is_bounded(self.verifier)
        rows = rows or (ROWS_PER_SPAN_SLOW if is_slow else ROWS_PER_SPAN)
        self._check_settings()
        self.plan = inputs.plan(
            settings.inputs,
            self.folder / "spool",
            rows_per_span=rows,
            split=settings.split,
            name=settings.name,
            skip=(settings.out, *beside(settings.out)),
        )
        columns = resolve(
            self.plan.columns,
            settings.mapping,
            need=self._needed(),
            prefix=settings.prefix,
            json_text=settings.json_cells,
        )
        self._check_group()
        self.task = Task(
            folder=self.parts.resolve(),
            kind=self.kind,
            spec=settings.spec,
            columns=columns,
            order=tuple(self.plan.columns),
            prefix=settings.prefix,
            group=settings.group,
            timeout=settings.timeout,
            strict=settings.strict,
            cache=settings.cache,
        )
        self._check_same()
        self._inputs = state_of(self.plan.spans)
        for span in self.plan.spans if self.resumed else ():
            found = finished(self._paths(span))
            if found is not None:
                self._done[span.index] = brief(*found)

    def _needed(self) -> Sequence[str]:
        """The columns without which the verifier can say nothing, where it names some."""
        return getattr(self.verifier, "needs", ())

    def _check_group(self) -> None:
        group = self.settings.group
        known = {*self.plan.columns, *self.settings.mapping, "id", "prompt", "answer"}
        if group is not None and group not in known:
            listed = ", ".join(map(str, self.plan.columns))
            raise UserError(f"--group {group}: no such column; columns found: {listed:.1000}")

    def _check_settings(self) -> None:
        """An unfinished job must be this one, as far as can be told before its inputs are read."""
        if self.resumed:
            self._refuse_other(self._begun(), json.loads(to_json(self.settings.identity())))

    def _check_same(self) -> None:
        path = self.folder / "job.json"
        identity = json.loads(to_json(self._identity()))
        if not self.resumed:
            write_atomically(path, to_json(identity, indent=2) + "\n")
            return
        self._refuse_other(self._begun(), identity)

    def _begun(self) -> dict[str, Any]:
        """What the unfinished job says of itself."""
        path = self.folder / "job.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        if not isinstance(found, dict):
            raise UserError(f"{path} is broken; --overwrite starts the job anew")
        return found

    def _refuse_other(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        differing = [key for key, value in wanted.items() if found.get(key) != value]
        if "verifier_digest" in differing and len(differing) > 1:
            differing.remove("verifier_digest")
        if differing:
            names = {
                "fingerprint": "an input has changed",
                "verifier_digest": "the verifier's code",
            }
            listed = ", ".join(
                names.get(k, f"{k} (was {found.get(k)!r:.80})") for k in differing[:3]
            )
            raise UserError(
                f"{self.folder} holds an unfinished job that differs: {listed}; "
                "--overwrite gives it up, or choose another --output"
            )

    def _take_lock(self) -> None:
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise UserError(f"{self.settings.out} is being written by another process") from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._take_lock()
        try:
            yield
        finally:
            self._lock.close()

    def _close(self, *, discard: bool) -> None:
        if discard:
            self.discard()
        with suppress(AttributeError):
            self._lock.close()


def _noting(
    loaded: Iterator[tuple[Tally, list[str]]], warnings: dict[str, None]
) -> Iterator[Tally]:
    for tally, told in loaded:
        warnings.update(dict.fromkeys(told))
        yield tally
