"""What is remembered of scored rows: one constant-size tally per span, merged into the job's."""

from __future__ import annotations

import heapq
import itertools
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from agent_rl.runs.text import clip
from agent_rl.scoring.frequent import Frequent
from agent_rl.scoring.rewards import Rewards
from agent_rl.scoring.types import Reject, Sample, Scored
from rl_verifiers.score import STATUSES, Score

SLOWEST = 10
FIRST_ERRORS = 5
MAX_PARTS = 64
REASON_CHARS = 160
PER_STATUS = 5
"""Examples kept for each status: those with the least hash of where they stand."""

CLIP = {"prompt": 1500, "completion": 3000, "answer": 300, "found": 300, "reason": 500}

_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d,.]*")
_MASK = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Slow:
    """A sample that took long."""

    seconds: float
    name: str
    line: int
    index: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A sample that we failed to judge."""

    name: str
    line: int
    index: int
    error: str


@dataclass(frozen=True, slots=True)
class Example:
    """A sample to show to a person, every text clipped to ``CLIP``.

    Attributes:
        rank: Its pseudo-random place among all of its status; the least are kept.
        name: The input.
        line: Its line there.
        index: Which completion of the row, from 0.
        status: The score's.
        value: The reward.
        passed: The score's.
        reason: The score's; of an error, the error.
        prompt: What was asked, where the row has it.
        completion: What the model wrote.
        answer: The reference, where the row has it.
        found: The answer found in the completion.
    """

    rank: int
    name: str
    line: int
    index: int
    status: str
    value: float
    passed: bool
    reason: str
    prompt: str
    completion: str
    answer: str
    found: str


@dataclass(slots=True)
class Tally:
    """Statistics of scored rows, of constant size, mergeable, made of plain data.

    Everything but the times is the same however often a job was stopped and resumed, as long as
    the tallies of its spans are merged in the order of the spans.

    Attributes:
        name: What a person calls the input; merged: of the first.
        rows: Rows added.
        samples: Completions in them.
        passed: How many passed.
        statuses: How many of each status.
        rewards: Their distribution; errors are no rewards and are not in it.
        parts: The distribution of each named part, of the first ``MAX_PARTS`` names.
        parts_left_out: Values of parts beyond those names.
        reasons: The commonest ``status: reason``, numbers and quoted texts replaced.
        slowest: The ``SLOWEST`` samples that took longest, the slowest first.
        errors: The first ``FIRST_ERRORS`` samples that we failed to judge, in the order of rows.
        rejects: Lines that are no rows.
        first_rejects: The first ``FIRST_ERRORS`` of them.
        seconds: Wall-clock seconds spent in scoring, over all samples.
        examples: For each status, up to ``PER_STATUS`` samples, by rank.
    """

    name: str = ""
    rows: int = 0
    samples: int = 0
    passed: int = 0
    statuses: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    rewards: Rewards = field(default_factory=Rewards)
    parts: dict[str, Rewards] = field(default_factory=dict)
    parts_left_out: int = 0
    reasons: Frequent = field(default_factory=Frequent)
    slowest: list[Slow] = field(default_factory=list)
    errors: list[Failure] = field(default_factory=list)
    rejects: int = 0
    first_rejects: list[Reject] = field(default_factory=list)
    seconds: float = 0.0
    examples: dict[str, list[Example]] = field(default_factory=dict)

    def add(self, scored: Scored, samples: Sequence[Sample] = ()) -> None:
        """Take in a row and its scores.

        Args:
            scored: The row, scored.
            samples: What was scored, one for each score; without them no examples are kept.
        """
        self.rows += 1
        self.samples += len(scored.scores)
        line = scored.record.line
        for index, score in enumerate(scored.scores):
            self.statuses[score.status] += 1
            if score.status == "error":
                if len(self.errors) < FIRST_ERRORS:
                    self.errors.append(
                        Failure(self.name, line, index, _clip(score.error, "reason"))
                    )
            else:
                self.passed += score.passed
                self.rewards.add(score.value)
                for part, value in score.parts.items():
                    self._part(part, value)
            reason = score.error or score.reason
            if reason:
                self.reasons.add(f"{score.status}: {shape(reason)}")
            if samples:
                self._example(score, samples[index], line, index)
        for index, seconds in enumerate(scored.seconds):
            self.seconds += seconds
            if len(self.slowest) < SLOWEST or seconds > self.slowest[-1].seconds:
                self._slow([Slow(seconds, self.name, line, index)])

    def reject(self, reject: Reject) -> None:
        """Take in a line that is no row."""
        self.rejects += 1
        if len(self.first_rejects) < FIRST_ERRORS:
            self.first_rejects.append(reject)

    def merge(self, other: Tally) -> None:
        """Take in the tally of what comes behind."""
        self.name = self.name or other.name
        for counter in ("rows", "samples", "passed", "parts_left_out", "rejects", "seconds"):
            setattr(self, counter, getattr(self, counter) + getattr(other, counter))
        for status, count in other.statuses.items():
            self.statuses[status] += count
        self.rewards.merge(other.rewards)
        for part, values in other.parts.items():
            if part in self.parts or len(self.parts) < MAX_PARTS:
                self.parts.setdefault(part, Rewards()).merge(values)
            else:
                self.parts_left_out += values.n
        self.reasons.merge(other.reasons)
        self._slow(other.slowest)
        self.errors = (self.errors + other.errors)[:FIRST_ERRORS]
        self.first_rejects = (self.first_rejects + other.first_rejects)[:FIRST_ERRORS]
        for status, examples in other.examples.items():
            self.examples[status] = _least([*self.examples.get(status, []), *examples])

    @property
    def n_errors(self) -> int:
        """Samples that we failed to judge."""
        return self.statuses["error"]

    @property
    def judged(self) -> int:
        """Samples that have a verdict."""
        return self.samples - self.n_errors

    def to_json(self) -> dict[str, Any]:
        """As plain data for ``json.dumps``."""
        return {
            **{key: getattr(self, key) for key in _PLAIN},
            "rewards": self.rewards.to_json(),
            "parts": {part: values.to_json() for part, values in self.parts.items()},
            "reasons": self.reasons.to_json(),
            **{key: [asdict(item) for item in getattr(self, key)] for key in _LISTS},
            "examples": {
                status: [asdict(example) for example in examples]
                for status, examples in self.examples.items()
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` gave."""
        known: dict[str, Any] = {key: data[key] for key in _PLAIN}
        for key, kind in _LISTS.items():
            known[key] = [kind(**item) for item in data[key]]
        known["statuses"] = {**dict.fromkeys(STATUSES, 0), **data["statuses"]}
        return cls(
            **known,
            rewards=Rewards.from_json(data["rewards"]),
            parts={part: Rewards.from_json(values) for part, values in data["parts"].items()},
            reasons=Frequent.from_json(data["reasons"]),
            examples={
                status: [Example(**example) for example in examples]
                for status, examples in data["examples"].items()
            },
        )

    def _part(self, part: str, value: float) -> None:
        found = self.parts.get(part)
        if found is None:
            if len(self.parts) >= MAX_PARTS:
                self.parts_left_out += 1
                return
            found = self.parts[part] = Rewards()
        found.add(value)

    def _slow(self, found: Iterable[Slow]) -> None:
        both = itertools.chain(self.slowest, found)
        self.slowest = heapq.nsmallest(SLOWEST, both, key=lambda slow: -slow.seconds)

    def _example(self, score: Score, sample: Sample, line: int, index: int) -> None:
        kept = self.examples.setdefault(score.status, [])
        rank = _rank(self.name, line, index)
        if len(kept) < PER_STATUS or rank < kept[-1].rank:
            kept.append(_shown(rank, self.name, line, index, score, sample))
            self.examples[score.status] = _least(kept)


def merge(tallies: Iterable[Tally]) -> Tally:
    """The tally of a job, from those of its spans in order."""
    whole = Tally()
    for tally in tallies:
        whole.merge(tally)
    return whole


def shape(reason: str) -> str:
    """A reason without what differs from row to row: numbers are ``N``, quoted texts ``'...'``."""
    start = " ".join(reason[: 2 * REASON_CHARS].split())
    return _VARYING.sub(_placeholder, start)[:REASON_CHARS]


def _placeholder(found: re.Match[str]) -> str:
    return "'...'" if found[0][0] in "'\"" else "N"


def _rank(name: str, line: int, index: int) -> int:
    """A number that looks random but is the same whenever and wherever it is made (splitmix64)."""
    mixed = (zlib.crc32(name.encode("utf-8", "replace")) << 32) + line * 0x9E3779B97F4A7C15 + index
    mixed = ((mixed & _MASK) ^ ((mixed & _MASK) >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & _MASK
    return mixed ^ (mixed >> 31)


def _least(examples: Sequence[Example]) -> list[Example]:
    return heapq.nsmallest(PER_STATUS, examples, key=lambda example: example.rank)


def _shown(rank: int, name: str, line: int, index: int, score: Score, sample: Sample) -> Example:
    return Example(
        rank=rank,
        name=name,
        line=line,
        index=index,
        status=score.status,
        value=score.value,
        passed=score.passed,
        reason=_clip(score.error or score.reason, "reason"),
        prompt=_clip(sample.row.get("prompt"), "prompt"),
        completion=_clip(sample.completion, "completion"),
        answer=_clip(sample.row.get("answer"), "answer"),
        found=_clip(score.answer, "found"),
    )


def _clip(value: Any, kind: str) -> str:
    """Text of at most ``CLIP[kind]`` characters; messages as ``role: content`` paragraphs."""
    if value is None:
        return ""
    if isinstance(value, list | tuple) and all(isinstance(each, Mapping) for each in value):
        value = "\n\n".join(f"{m.get('role', '')}: {m.get('content') or ''}" for m in value)
    return clip(value if isinstance(value, str) else repr(value), CLIP[kind])


_PLAIN = ("name", "rows", "samples", "passed", "statuses", "parts_left_out", "rejects", "seconds")
_LISTS: dict[str, Any] = {"slowest": Slow, "errors": Failure, "first_rejects": Reject}
