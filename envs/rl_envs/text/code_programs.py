"""Random programs made of the operations of ``code_steps``, and tests that tell them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from rl_envs.tasks import DataError, content_id
from rl_envs.text.code_steps import KINDS, STEPS, Kind, Step

ENTRY_POINT = "f"
SIGNATURES: dict[Kind, str] = {
    "number": "f(x), where x is an integer",
    "numbers": "f(x), where x is a list of integers",
    "text": "f(x), where x is a string",
    "pair": "f(x, y), where x and y are integers",
}
STYLES = ("steps", "expression")

_POOL = 40  # inputs of a kind, among which tests are chosen
_DRAWS = 2_000
_LARGEST, _LONGEST = 10_000, 60
_WORDS = ("a", "the", "red", "Tree", "house", "Stone", "river", "over", "tiny", "sea", "Arise")


@dataclass(frozen=True, slots=True)
class Program:
    """Operations in their order, each with its constant.

    Attributes:
        takes: What its argument is.
        steps: The operations.
        constants: One for each; None where it has none.
    """

    takes: Kind
    steps: tuple[Step, ...]
    constants: tuple[Any, ...]

    def run(self, value: Any) -> Any:
        """The value it gives; None where one on the way is too large. No source code is run."""
        for step, constant in zip(self.steps, self.constants, strict=True):
            value = step.run(value, constant)
            if abs(value) > _LARGEST if isinstance(value, int) else len(value) > _LONGEST:
                return None
        return value

    @property
    def compact(self) -> str:
        """Its short name: ``numbers: add_each 3, total``."""
        parts = (
            step.name if constant is None else f"{step.name} {constant}"
            for step, constant in zip(self.steps, self.constants, strict=True)
        )
        return f"{self.takes}: {', '.join(parts)}"

    @property
    def words(self) -> str:
        """Its instructions in English, numbered."""
        parts = zip(self.steps, self.constants, strict=True)
        return "\n".join(f"{n}. {step.words.format(k=k)}" for n, (step, k) in enumerate(parts, 1))

    def source(self, style: str) -> str:
        """It as a Python function.

        Args:
            style: ``steps``: a line for each operation; ``expression``: a single one, nested.

        Raises:
            DataError: No such style.
        """
        if style not in STYLES:
            raise DataError(f"Code has no style {style!r}; it has {', '.join(STYLES)}")
        head = f"def {ENTRY_POINT}({'x, y' if self.takes == 'pair' else 'x'}):"
        return f"{head}\n{self._lines() if style == 'steps' else self._nested()}"

    def _lines(self) -> str:
        lines = [
            step.code.format(x="x", a="x", k=constant)
            for step, constant in zip(self.steps, self.constants, strict=True)
        ]
        return "\n".join([*(f"    x = {line}" for line in lines[:-1]), f"    return {lines[-1]}"])

    def _nested(self) -> str:
        inner, loose = "x", False
        for step, constant in zip(self.steps, self.constants, strict=True):
            tight = f"({inner})" if loose else inner
            if step.binds and inner != "x":
                body = step.code.format(x="x", a="x", k=constant)
                inner, loose = f"(lambda x: {body})({inner})", False
            else:
                inner = step.code.format(x=tight, a=inner, k=constant)
                loose = step.loose
        return f"    return {inner}"


@dataclass(frozen=True)
class Families:
    """Which operations may be drawn, and how many make a program.

    Raises:
        DataError: No such family, or nothing can be composed of them.
    """

    names: tuple[str, ...]
    n_steps: int

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in STEPS and name not in KINDS:
                known = ", ".join((*KINDS, *STEPS))
                raise DataError(f"families: no {name!r}; there are {known}")
        if not any(self.starts.values()):
            raise DataError(
                f"families {', '.join(self.names)} cannot be composed to {self.n_steps} steps; "
                "add some or ask for fewer steps"
            )

    @property
    def starts(self) -> dict[Kind, tuple[Step, ...]]:
        """By what a program takes: the operations it may begin with."""
        return {kind: self.allowed(kind, self.n_steps) for kind in KINDS}

    def allowed(self, kind: Kind, left: int) -> tuple[Step, ...]:
        """The operations on this kind after which the steps left can still be made."""
        return _allowed(self.names, kind, left)


@cache
def _allowed(names: tuple[str, ...], kind: Kind, left: int) -> tuple[Step, ...]:
    return tuple(
        step
        for step in STEPS.values()
        if step.takes == kind
        and (step.name in names or step.takes in names)
        and (left == 1 or _allowed(names, step.gives, left - 1))
    )


def draw(families: Families, rng: np.random.Generator) -> tuple[Program, list[Any]]:
    """A program in which every operation matters, and what it gives for the inputs of its kind.

    Raises:
        DataError: These families give none.
    """
    kinds = [kind for kind, steps in families.starts.items() if steps]
    for _ in range(_DRAWS):
        program = _drawn(families, kinds[int(rng.integers(len(kinds)))], rng)
        outputs = [program.run(value) for value in inputs(program.takes)]
        if None not in outputs and _worth_asking(program, outputs):
            return program, outputs
    raise DataError(
        f"families {', '.join(families.names)}: no program of {families.n_steps} steps in "
        f"{_DRAWS} draws in which every step matters; add some or ask for fewer steps"
    )


def _drawn(families: Families, takes: Kind, rng: np.random.Generator) -> Program:
    kind, steps, constants = takes, [], []
    for left in range(families.n_steps, 0, -1):
        allowed = families.allowed(kind, left)
        step = allowed[int(rng.integers(len(allowed)))]
        values = step.constants
        constants.append(values[int(rng.integers(len(values)))] if values else None)
        steps.append(step)
        kind = step.gives
    return Program(takes, tuple(steps), tuple(constants))


@cache
def inputs(kind: Kind) -> tuple[Any, ...]:
    """The inputs of a kind, the awkward ones first."""
    rng = np.random.default_rng(0)
    if kind == "number":
        return (0, 1, -1, *_some(rng, -30, 100, _POOL - 3))
    if kind == "pair":
        xs, ys = _some(rng, -20, 30, _POOL), _some(rng, -20, 30, _POOL)
        return ((0, 0), (1, 0), *zip(xs[2:], ys[2:], strict=True))
    if kind == "numbers":
        lengths = _some(rng, 3, 8, _POOL - 2)
        return ([], [1], *(_some(rng, -9, 15, length) for length in lengths))
    counts = _some(rng, 1, 4, _POOL - 2)
    texts = [" ".join(_WORDS[i] for i in _some(rng, 0, len(_WORDS) - 1, n)) for n in counts]
    return ("", "a", *texts)


def _some(rng: np.random.Generator, low: int, high: int, count: int) -> list[int]:
    numbers: list[int] = rng.integers(low, high + 1, size=count).tolist()
    return numbers


def _worth_asking(program: Program, outputs: list[Any]) -> bool:
    """Whether no constant does for most inputs, and no operation can be left out."""
    given = inputs(program.takes)
    if Counter(map(repr, outputs)).most_common(1)[0][1] > len(given) // 2:
        return False
    return all(
        any(_differ(rival, value, output) for value, output in zip(given, outputs, strict=True))
        for rival in _shortened(program)
    )


def _shortened(program: Program) -> list[Program]:
    """The identity, and the programs that leave one operation out and still fit together."""
    rivals = [Program(program.takes, (), ())]
    for place in range(len(program.steps)):
        steps = program.steps[:place] + program.steps[place + 1 :]
        constants = program.constants[:place] + program.constants[place + 1 :]
        removed = program.steps[place]
        if steps and removed.takes == removed.gives:
            rivals.append(Program(program.takes, steps, constants))
    return rivals


def _neighbours(program: Program) -> list[Program]:
    """The programs with a constant that is one off."""
    rivals = []
    for place, (step, constant) in enumerate(zip(program.steps, program.constants, strict=True)):
        for other in (constant - 1, constant + 1) if isinstance(constant, int) else ():
            if other in step.constants:
                constants = (*program.constants[:place], other, *program.constants[place + 1 :])
                rivals.append(Program(program.takes, program.steps, constants))
    return rivals


def _differ(rival: Program, value: Any, output: Any) -> bool:
    other: Any = rival.run(value)
    return bool(other != output)


def identity_of(program: Program, outputs: Sequence[Any]) -> str:
    """What names the function itself: programs that do the same have the same."""
    return f"{program.takes}-{content_id(program.takes, outputs)}"


def choose_tests(
    program: Program, outputs: Sequence[Any], count: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Tests that the programs next to this one fail, as far as ``count`` of them can.

    Among the inputs, in random order, each next one is that which most of the programs that still
    pass fail: those with an operation left out or a constant one off, and every constant function.
    """
    given = inputs(program.takes)
    rivals = [*_shortened(program), *_neighbours(program)]
    fails = [
        {n for n, rival in enumerate(rivals) if _differ(rival, value, output)}
        for value, output in zip(given, outputs, strict=True)
    ]
    alive, seen, chosen = set(range(len(rivals))), set[str](), list[int]()
    places: list[int] = rng.permutation(len(given)).tolist()
    for _ in range(min(count, len(given))):
        place = max(places, key=lambda p: (len(fails[p] & alive), repr(outputs[p]) not in seen))
        places.remove(place)
        chosen.append(place)
        alive -= fails[place]
        seen.add(repr(outputs[place]))
    pair = program.takes == "pair"
    return [
        {"args": list(given[place]) if pair else [given[place]], "expected": outputs[place]}
        for place in chosen
    ]
