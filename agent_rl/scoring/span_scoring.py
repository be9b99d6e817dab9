"""Score one span: what a worker does, start to end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from agent_rl.errors import UserError
from agent_rl.scoring.cache import ScoreCache
from agent_rl.scoring.columns import Columns, samples
from agent_rl.scoring.inputs import read
from agent_rl.scoring.outputs import write_part, write_rejects
from agent_rl.scoring.spec import VerifierSpec, build
from agent_rl.scoring.tally import Tally
from agent_rl.scoring.types import Record, Reject, Sample, Scored, Span
from agent_rl.scoring.votes import Votes
from agent_rl.scoring.whole import whole
from agent_rl.verifier_queue import waits
from rl_verifiers import Row, Score, Verifier, score_many, score_one, score_sync
from rl_verifiers.runner import FunctionVerifier

JudgeAll = Callable[[Sequence[Sample]], list[tuple[Score, float]]]
"""Gives the score of each sample, and the seconds that it took."""


@dataclass(frozen=True)
class Task:
    """What a worker needs beside the span; plain data.

    Attributes:
        folder: The job's folder of parts.
        kind: Of the output (:data:`agent_rl.scoring.outputs.KINDS`).
        spec: The verifier.
        columns: Of the input.
        order: The input's columns in order.
        prefix: Of the new columns.
        group: The column that makes groups, if any.
        timeout: Processor seconds of one sample (of wall clock, where the verifier waits).
        strict: A line that is no row ends the job.
        cache: A folder of verdicts, if any.
    """

    folder: Path
    kind: str
    spec: VerifierSpec
    columns: Columns
    order: Sequence[str]
    prefix: str = ""
    group: str | None = None
    timeout: float = 60.0
    strict: bool = False
    cache: Path | None = None


@dataclass(frozen=True)
class Files:
    """The files of one span; the tally is written last and says that the others are whole."""

    part: Path
    votes: Path
    rejects: Path
    tally: Path


def files(folder: Path, kind: str, index: int) -> Files:
    """Where the results of a span stand."""
    start = folder / f"{index:09d}"
    names = (f".{kind}", ".votes", ".rejects.jsonl", ".tally.json")
    return Files(*(start.with_name(start.name + name) for name in names))


def score_span(task: Task, span: Span) -> dict[str, Any]:
    """Read, score and write one span; runs in a worker.

    Returns:
        ``rows``, ``samples``, ``passed``, ``errors``, ``rejects``, ``warnings``.

    Raises:
        UserError: The disk is full, an input has changed, or a broken line under ``strict``.
        VerifierError: The verifier broke its contract.
    """
    verifier = _verifier(task.spec)
    return score_with(task, span, lambda chosen: judged(verifier, chosen, task.timeout))


@cache
def _built(word: str, options: str) -> Verifier:
    return build(VerifierSpec(word, json.loads(options)))


def _verifier(spec: VerifierSpec) -> Verifier:
    """Built once in each process."""
    return _built(spec.word, json.dumps(dict(spec.options), sort_keys=True))


def score_with(task: Task, span: Span, judge: JudgeAll) -> dict[str, Any]:
    """:func:`score_span` with another way to judge."""
    rows, rejects = _rows(task, span)
    chosen = [sample for _, of_row, _ in rows for sample in of_row]
    results = iter(_remembered(task, chosen, judge))
    tally, votes = Tally(name=span.name), Votes(span.name, task.group)
    scored = []
    for record, of_row, is_list in rows:
        pairs = [next(results) for _ in of_row]
        row = Scored(record, [s for s, _ in pairs], is_list, [seconds for _, seconds in pairs])
        tally.add(row, of_row)
        votes.add(row, of_row)
        scored.append(row)
    for reject in rejects:
        tally.reject(reject)
    paths = files(task.folder, task.kind, span.index)
    warnings = write_part(
        paths.part, task.kind, span, scored, prefix=task.prefix, columns=task.order
    )
    votes.save(paths.votes)
    write_rejects(paths.rejects, rejects)
    with whole(paths.tally) as temporary:
        sizes = [path.stat().st_size for path in (paths.part, paths.votes, paths.rejects)]
        content = {"tally": tally.to_json(), "warnings": warnings, "sizes": sizes}
        temporary.write_text(json.dumps(content), encoding="utf-8")
    return brief(tally, warnings)


def finished(paths: Files) -> tuple[Tally, list[str]] | None:
    """What an earlier run left of a span; None where it must be scored (again)."""
    try:
        content = json.loads(paths.tally.read_text(encoding="utf-8"))
        sizes = [path.stat().st_size for path in (paths.part, paths.votes, paths.rejects)]
        if sizes != content["sizes"]:
            return None
        return Tally.from_json(content["tally"]), content["warnings"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def brief(tally: Tally, warnings: Sequence[str]) -> dict[str, Any]:
    """What the progress display needs of a finished span."""
    return {
        "rows": tally.rows + tally.rejects,
        "samples": tally.samples,
        "passed": tally.passed,
        "errors": tally.n_errors,
        "rejects": tally.rejects,
        "warnings": list(warnings),
    }


Rows = list[tuple[Record, list[Sample], bool]]


def _rows(task: Task, span: Span) -> tuple[Rows, list[Reject]]:
    rows: Rows = []
    rejects: list[Reject] = []
    for record in read(span):
        found: Any = record
        if isinstance(record, Record):
            found = samples(record, task.columns, name=span.name)
        if isinstance(found, Reject):
            if task.strict:
                raise UserError(f"{found.name}, line {found.line}: {found.error} (--strict)")
            rejects.append(found)
        else:
            rows.append((record, *found))
    return rows, rejects


def _remembered(task: Task, chosen: Sequence[Sample], judge: JudgeAll) -> list[tuple[Score, float]]:
    """Judge what neither the cache nor an equal sample of this span answers."""
    if task.cache is None:
        return judge(chosen)
    reads = reads_of(_verifier(task.spec))
    has_id = task.columns.id is not None
    with ScoreCache(task.cache, task.spec.digest, reads, has_id=has_id) as store:
        keys = [store.key(sample) for sample in chosen]
        known = {key: (score, 0.0) for key, score in store.find(list(dict.fromkeys(keys))).items()}
        new = {key: sample for key, sample in zip(keys, chosen, strict=True) if key not in known}
        results = dict(zip(new, judge(list(new.values())), strict=True))
        store.keep((key, score) for key, (score, _) in results.items())
    return [known.get(key) or results[key] for key in keys]


def reads_of(verifier: Verifier) -> Sequence[str] | None:
    """The columns that a verifier says it reads; None where it does not say."""
    return getattr(verifier, "reads", None)


def judged(
    verifier: Verifier, chosen: Sequence[Sample], timeout: float
) -> list[tuple[Score, float]]:
    """Score samples in this process, each timed. Equal samples are judged once.

    What counts as equal are the completion and the columns that the verifier says it reads.
    """
    if waits(verifier) or _is_cooperative(verifier):
        return _judged_together(verifier, chosen, timeout)
    return list(_judged_in_turn(verifier, chosen, timeout))


def _is_cooperative(verifier: Verifier) -> bool:
    """Whether it is made for an event loop and has no way without one (a combination)."""
    plain = isinstance(verifier, FunctionVerifier) or hasattr(verifier, "begin")
    return hasattr(verifier, "ascore") and not plain


def _judged_in_turn(
    verifier: Verifier, chosen: Sequence[Sample], timeout: float
) -> Iterator[tuple[Score, float]]:
    reads = reads_of(verifier)
    memory: dict[Any, Score] = {}
    for sample in chosen:
        started = time.perf_counter()
        key = None if reads is None else _question(sample, reads)
        known = None if key is None else memory.get(key)
        if known is not None:
            yield known, time.perf_counter() - started
            continue
        score = score_many(verifier, [sample.completion], [sample.row], workers=0, timeout=timeout)
        if key is not None and not score[0].is_error:
            memory[key] = score[0]
        yield score[0], time.perf_counter() - started


def _question(sample: Sample, reads: Sequence[str]) -> Any:
    """Something hashable that is equal for equal questions; None where a column is no text."""
    read = tuple(sample.row.get(name) for name in reads)
    plain = all(value is None or type(value) is str for value in read)
    return (sample.completion, read) if plain else None


@dataclass(frozen=True)
class _Timed:
    """A verifier that remembers how long each row took, by the identity of the row."""

    inner: Verifier
    seconds: dict[int, float]

    @property
    def bounded(self) -> bool:
        return bool(getattr(self.inner, "bounded", False))

    async def ascore(self, completion: str, row: Row) -> Score:
        started = time.perf_counter()
        score = await score_one(self.inner, completion, row)
        self.seconds[id(row)] = time.perf_counter() - started
        return score

    def __call__(self, completion: str, row: Row) -> Score:
        return score_sync(self, completion, row)


def _judged_together(
    verifier: Verifier, chosen: Sequence[Sample], timeout: float
) -> list[tuple[Score, float]]:
    timed = _Timed(verifier, {})
    rows = [dict(sample.row) for sample in chosen]  # one object each, for their identity
    texts = [sample.completion for sample in chosen]
    scores = score_many(timed, texts, rows, workers=0, timeout=timeout)
    return [
        (score, timed.seconds.get(id(row), timeout))
        for score, row in zip(scores, rows, strict=True)
    ]
