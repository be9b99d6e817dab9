"""The ways to judge: what each asks of a judge, and the score that it makes of the verdicts."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rl_verifiers.judge_prompts import Question, VerdictError, question, read_verdict
from rl_verifiers.score import Row, Score

OPPONENTS = ("reference", "rejected", "chosen")
"""The columns in which ``pairwise`` looks for the other response, in this order."""

Values = Mapping[str, float]


class BadRowError(Exception):
    """A row that lacks what the judge needs."""


@dataclass(frozen=True)
class Material:
    """What every question may show besides the judged text.

    Attributes:
        prompt: The task; empty if unknown.
        columns: Further columns of the row.
        template: Jinja2.
        max_chars: Characters of each text.
    """

    prompt: str
    columns: Mapping[str, str]
    template: str
    max_chars: int


class Mode(Protocol):
    """One way to judge."""

    @property
    def name(self) -> str:
        """What the option ``mode`` calls it."""
        ...

    @property
    def pass_mark(self) -> float:
        """The value from which a completion passes."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that it looks at."""
        ...

    def questions(self, completion: str, row: Row, material: Material) -> list[Question]:
        """What to ask.

        Raises:
            BadRowError: The row lacks what it takes.
        """
        ...

    def values(self, reply: str, asked: Question) -> Values:
        """The numbers of one verdict.

        Raises:
            VerdictError: The reply is no such verdict.
        """
        ...

    def joined(self, answers: Sequence[Values]) -> tuple[float, Values]:
        """The value, and its parts, of the verdicts on all questions."""
        ...


@dataclass(frozen=True)
class Rubric:
    """Scores by a rubric: one, or one for each criterion."""

    rubric: str | None
    criteria: Mapping[str, str]
    low: float
    high: float
    pass_mark: float
    name = "rubric"
    reads: tuple[str, ...] = ("rubric",)

    def questions(self, completion: str, row: Row, material: Material) -> list[Question]:
        """One question; ``row["rubric"]`` comes before the option."""
        own = row.get("rubric")
        if isinstance(own, list | tuple):
            own = "\n".join(f"- {line}" for line in own)
        given = own if isinstance(own, str) and own.strip() else None
        text = given or self.rubric or ""
        if not text and not self.criteria:
            raise BadRowError("no rubric: give the option rubric, or a column of this name")
        form: dict[str, object] = {"reasoning": "a few sentences"}
        number = f"a number from {self.low:g} to {self.high:g}"
        if self.criteria:
            form["scores"] = dict.fromkeys(self.criteria, number)
        else:
            form["score"] = number
        asked = question(
            material.template,
            form,
            {"prompt": material.prompt, "completion": completion},
            columns=material.columns,
            max_chars=material.max_chars,
            rubric=text,
            row_rubric=given is not None,
            criteria=self.criteria,
            low=f"{self.low:g}",
            high=f"{self.high:g}",
        )
        return [asked]

    def values(self, reply: str, asked: Question) -> Values:
        """The score, or that of each criterion, scaled to 0..1."""
        if not self.criteria:
            verdict = read_verdict(reply, asked.mark, ["score"])
            return {"score": self._scaled(verdict["score"])}
        scores = read_verdict(reply, asked.mark, ["scores"])["scores"]
        _check_keys(scores, self.criteria)
        return {name: self._scaled(scores[name]) for name in self.criteria}

    def joined(self, answers: Sequence[Values]) -> tuple[float, Values]:
        """Means over samples; the value is the mean over criteria."""
        mean = {name: sum(a[name] for a in answers) / len(answers) for name in answers[0]}
        return sum(mean.values()) / len(mean), mean if self.criteria else {}

    def _scaled(self, number: object) -> float:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise VerdictError(f"the score {number!r:.40} is no number")
        if not self.low <= number <= self.high:
            raise VerdictError(
                f"the score {number!r:.40} is not from {self.low:g} to {self.high:g}"
            )
        return (number - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Pairwise:
    """The better of two responses, asked in both orders."""

    rubric: str | None
    against: str | None
    pass_mark: float
    name = "pairwise"

    @property
    def reads(self) -> tuple[str, ...]:
        """The column of the other response, or all in which it may be."""
        return OPPONENTS if self.against is None else (self.against,)

    def questions(self, completion: str, row: Row, material: Material) -> list[Question]:
        """The two questions against the row's other response; none where both are the same."""
        found = (row.get(name) for name in self.reads)
        other = next((text for text in found if isinstance(text, str) and text.strip()), None)
        if other is None:
            raise BadRowError(f"no response to compare with in {', '.join(self.reads)}")
        return self.both_orders(completion, other, material)

    def both_orders(self, one: str, other: str, material: Material) -> list[Question]:
        """Whether ``one`` is better than ``other``: asked as A and as B."""
        if one.strip() == other.strip():
            return []
        form = {"reasoning": "a few sentences", "winner": "A, B or tie"}
        return [
            question(
                material.template,
                form,
                {"prompt": material.prompt, "a": first, "b": second},
                columns=material.columns,
                max_chars=material.max_chars,
                rubric=self.rubric or "",
            )
            for first, second in ((one, other), (other, one))
        ]

    def values(self, reply: str, asked: Question) -> Values:
        """What response A gets: 1, 0, or 0.5 for a tie."""
        winner = read_verdict(reply, asked.mark, ["winner"])["winner"]
        if winner not in ("A", "B", "tie"):
            raise VerdictError(f"the winner {winner!r:.40} is not A, B or tie")
        return {"first": {"A": 1.0, "B": 0.0, "tie": 0.5}[winner]}

    def joined(self, answers: Sequence[Values]) -> tuple[float, Values]:
        """1 or 0 where both orders agree, else 0.5."""
        if not answers:
            return 0.5, {"position_consistent": 1.0}
        as_a, as_b = answers[0]["first"], 1.0 - answers[1]["first"]
        value = as_a if as_a == as_b else 0.5
        parts = {"as_a": as_a, "as_b": as_b, "position_consistent": float(as_a == as_b)}
        return value, parts


@dataclass(frozen=True)
class Principles:
    """Whether a response keeps to each of some principles."""

    principles: Mapping[str, str]
    draw: int | None
    seed: int
    pass_mark: float
    name = "principles"
    reads: tuple[str, ...] = ()

    def questions(self, completion: str, row: Row, material: Material) -> list[Question]:
        """One question about all principles, or about some that chance and the seed choose."""
        chosen = dict(self.principles)
        if self.draw is not None:
            text = f"{self.seed}:{len(material.prompt)}:{material.prompt}{completion}"
            digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
            names = random.Random(digest).sample(list(chosen), self.draw)
            chosen = {name: text for name, text in chosen.items() if name in names}
        form = {"reasoning": "a few sentences", "verdicts": dict.fromkeys(chosen, "yes or no")}
        asked = question(
            material.template,
            form,
            {"prompt": material.prompt, "completion": completion},
            columns=material.columns,
            max_chars=material.max_chars,
            principles=chosen,
        )
        return [replace(asked, names=tuple(chosen))]

    def values(self, reply: str, asked: Question) -> Values:
        """1 for each principle that is kept, 0 for each that is not."""
        verdicts = read_verdict(reply, asked.mark, ["verdicts"])["verdicts"]
        _check_keys(verdicts, asked.names)
        for verdict in verdicts.values():
            if verdict not in ("yes", "no"):
                raise VerdictError(f"the verdict {verdict!r:.40} is not yes or no")
        return {name: float(verdict == "yes") for name, verdict in verdicts.items()}

    def joined(self, answers: Sequence[Values]) -> tuple[float, Values]:
        """The share that is kept; each principle is a part."""
        names = sorted(answers[0])
        mean = {name: sum(a[name] for a in answers) / len(answers) for name in names}
        return sum(mean.values()) / len(mean), mean


@dataclass(frozen=True)
class Reference:
    """Whether the final answer is equivalent to the row's."""

    column: str
    pass_mark: float
    name = "reference"

    @property
    def reads(self) -> tuple[str, ...]:
        """The column of the right answer."""
        return (self.column,)

    def questions(self, completion: str, row: Row, material: Material) -> list[Question]:
        """One question."""
        answer = row.get(self.column)
        usable = isinstance(answer, str | int | float) and not isinstance(answer, bool)
        if not usable or not str(answer).strip():
            raise BadRowError(f"unusable {self.column} {answer!r:.80}")
        asked = question(
            material.template,
            {"reasoning": "a few sentences", "equivalent": "true or false"},
            {"prompt": material.prompt, "reference": str(answer), "completion": completion},
            columns=material.columns,
            max_chars=material.max_chars,
        )
        return [asked]

    def values(self, reply: str, asked: Question) -> Values:
        """1 or 0."""
        verdict = read_verdict(reply, asked.mark, ["equivalent"])["equivalent"]
        if not isinstance(verdict, bool):
            raise VerdictError(f"equivalent is {verdict!r:.40}, not true or false")
        return {"equivalent": float(verdict)}

    def joined(self, answers: Sequence[Values]) -> tuple[float, Values]:
        """The mean over samples."""
        return sum(answer["equivalent"] for answer in answers) / len(answers), {}


def _check_keys(found: Any, wanted: Collection[str]) -> None:
    if not isinstance(found, dict) or set(found) != set(wanted):
        shown = ", ".join(map(repr, found))[:100] if isinstance(found, dict) else repr(found)[:100]
        raise VerdictError(f"it judges {shown}, not {', '.join(wanted)[:200]}")


def score_of(mode: Mode, value: float, parts: Values, tokens: Values) -> Score:
    """The score of a value."""
    passed = value >= mode.pass_mark
    shown = ", ".join(f"{name} {number:g}" for name, number in parts.items())
    reason = f"{mode.name} {value:g}" + (f" ({shown})" if shown else "")
    everything = {**parts, **tokens}
    return Score(value, passed, "correct" if passed else "wrong", reason[:500], everything)
