"""The tasks of reasoning-gym: more than a hundred generators of puzzles with their own scorers."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from rl_envs.bridges import reasoning_gym_scores as scores
from rl_envs.core import TextEnv
from rl_envs.packages import needed
from rl_envs.tasks import TEST_FRACTION, DataError, GeneratedTasks, bucket, content_id
from rl_envs.types import Task
from rl_verifiers.extract import answer_tag, boxed
from rl_verifiers.score import Row, Score

INSTALL = "pip install 'agent-rl[reasoning-gym]'"
EXTRACTS = ("either", "answer_tag", "boxed", "whole")
SYSTEM_PROMPT = "Put the final answer, and nothing else, between <answer> and </answer>."

_KEPT = 4096  # tasks: a group plays the same one many times, and some take a second to make
_INDICES = 2**31
_BLOCK = 500  # items of a data set that has no others
_REDRAWS = 2000

TaskSpec = str | Sequence[str | Mapping[str, Any]]


class Part(NamedTuple):
    """One kind of task in the mixture: its name, its weight, its configuration as JSON."""

    name: str
    weight: float
    config: str


class ReasoningGym(TextEnv):
    r"""A task of reasoning-gym: answer in <answer> tags or \boxed{}.

    Task ``i`` is an item of reasoning-gym's data set, fixed by ``seed`` and ``i``. A hash of
    question and answer decides whether it belongs to ``train`` or ``test``, since two seeds of
    reasoning-gym share items (the item is made from ``seed + index``).

    Args:
        task: A task's name (``leg_counting``); ``all``; or a list of names and of
            ``{"name": ..., "weight": 1.0, "config": {...}}``.
        config: Options of the task's own configuration, for a single name.
        size: How many tasks; None for no end.
        seed: Another seed, other tasks.
        strict: Pay 1 for a score of 1 that junk does not get as well, else 0. False: pay the
            scorer's own number, floors and length ratios included.
        extract: Where the answer is: ``either`` (the last ``<answer>``, else the last box),
            ``answer_tag``, ``boxed``, or the ``whole`` reply.
        options: Those of ``TextEnv``.

    Raises:
        DataError: reasoning-gym is missing, or there is no such task or option.
    """

    styles = ("answer",)
    source = "reasoning-gym's generators (extra reasoning-gym)"
    reads_data = True

    def __init__(
        self,
        *,
        task: TaskSpec = "leg_counting",
        config: Mapping[str, Any] | None = None,
        size: int | None = None,
        seed: int = 0,
        strict: bool = True,
        extract: str = "either",
        **options: Any,
    ) -> None:
        if extract not in EXTRACTS:
            raise DataError(f"extract is {extract!r}; it must be one of {', '.join(EXTRACTS)}")
        if size is not None and size < 1:
            raise DataError(f"size is {size}; it must be at least 1, or None for no end")
        if config and not isinstance(task, str):
            raise DataError("config is for a single task; in a list, each entry has its own")
        self.spec_of_tasks, self.config = task, dict(config or {})
        self.size, self.seed_of_tasks = size, seed
        self.strict, self.extract = strict, extract
        prompt = None if extract == "whole" else SYSTEM_PROMPT
        if extract == "boxed":
            prompt = "Put the final answer, and nothing else, in \\boxed{}."
        super().__init__(**{"system_prompt": prompt, **options})

    def load_tasks(self, split: str) -> Items:
        """The items that belong to a split."""
        parts = parts_of(self.spec_of_tasks, self.config)
        return Items(parts, seed=self.seed_of_tasks, size=self.size, split=split)

    def score(self, completion: str, row: Row) -> Score:
        """What reasoning-gym's scorer says of the extracted answer, as far as it can be trusted."""
        answer = found_answer(completion, self.extract)
        if answer is None:
            return Score.wrong("no <answer> and no \\boxed{}", status="no_answer")
        data_set = data_set_of(row["task"], row["seed"], row["config"])
        with own_randomness():
            return scores.judged(data_set, row["task"], answer, row["entry"], strict=self.strict)

    def demonstration(self, task: Task, style: str, rng: np.random.Generator) -> str:
        """The reference answer in tags (in a box, or alone, where ``extract`` says so)."""
        if task.answer is None:
            raise DataError(f"{task.info['task']} of reasoning-gym has no reference answers")
        if self.extract == "whole":
            return str(task.answer)
        if self.extract == "boxed":
            return f"\\boxed{{{task.answer}}}"
        return f"<answer>{task.answer}</answer>"


def found_answer(completion: str, extract: str) -> str | None:
    """The answer in a reply, or None."""
    if extract == "whole":
        return completion.strip()
    tagged = answer_tag(completion) if extract != "boxed" else None
    return boxed(completion) if tagged is None and extract != "answer_tag" else tagged


class Items(GeneratedTasks):
    """Items of one or several of reasoning-gym's data sets, split by a hash of their content."""

    def __init__(
        self, parts: Sequence[Part], *, seed: int, size: int | None, split: str | None
    ) -> None:
        super().__init__(self._never, seed=seed, size=size, split=split)
        self._parts = tuple(parts)
        self._shares = np.cumsum([part.weight for part in parts]) / sum(p.weight for p in parts)
        self._items = lru_cache(_KEPT)(self._item)

    @staticmethod
    def _never(rng: np.random.Generator) -> Task:
        raise NotImplementedError

    def __getitem__(self, index: int, /) -> Task:
        return self._items(self._checked(index))

    def _item(self, index: int) -> Task:
        rng = np.random.default_rng((self._seed, index))
        part = self._parts[int(np.searchsorted(self._shares, rng.random(), side="right"))]
        for _ in range(_REDRAWS):
            task = made(part, self._seed, int(rng.integers(_INDICES)))
            if scores.is_unsolved(part.name, task.answer):
                continue
            if self._split is None or bucket(task.id, TEST_FRACTION) == self._split:
                return task
        raise DataError(
            f"reasoning-gym's {part.name} gave no {self._split} task in {_REDRAWS} draws: there "
            "are too few different ones; make it harder by `config`"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_items"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._items = lru_cache(_KEPT)(self._item)


def made(part: Part, seed: int, number: int) -> Task:
    """Item ``number`` of a data set as a task."""
    with own_randomness():
        try:
            entry = data_set_of(part.name, seed, part.config)[number]
        except IndexError:  # it makes its items beforehand: as many data sets as it takes
            seed = number // _BLOCK
            entry = data_set_of(part.name, seed, part.config)[number % _BLOCK]
    question, answer = entry["question"], entry["answer"]
    return Task(
        id=content_id(part.name, question, answer),
        prompt=question,
        answer=answer,
        info={"task": part.name, "seed": seed, "config": part.config, "entry": entry},
    )


@contextmanager
def own_randomness() -> Iterator[None]:
    """Around what draws from the global generators: they are as before afterwards."""
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with redirect_stdout(io.StringIO()):  # some generators print
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)


@lru_cache(256)
def data_set_of(name: str, seed: int, config: str) -> Any:
    """A data set of reasoning-gym; ``config`` is JSON."""
    package = needed("reasoning_gym", "text/ReasoningGym-v0", INSTALL)
    options = json.loads(config)
    try:
        return package.create_dataset(name, **{"seed": seed, "size": _BLOCK, **options})
    except (TypeError, ValueError, AssertionError) as error:
        raise DataError(f"reasoning-gym's {name} cannot be made with {options}: {error}") from error


def parts_of(task: TaskSpec, config: Mapping[str, Any]) -> list[Part]:
    """The kinds of tasks that a specification names.

    Raises:
        DataError: There is no such task, or a weight is not above 0.
    """
    names = task_names()
    entries: Sequence[Any] = [task] if isinstance(task, str) else task
    if task == "all":
        entries = names
    if not entries:
        raise DataError("task is an empty list; name at least one task of reasoning-gym")
    parts = []
    for entry in entries:
        given: dict[str, Any] = (
            {"name": entry, "config": config} if isinstance(entry, str) else dict(entry)
        )
        unknown = set(given) - {"name", "weight", "config"}
        if unknown or given.get("name") not in names:
            raise DataError(
                f"reasoning-gym has no task {given.get('name')!r}{scores.closest(given, names)}"
                if not unknown
                else f"task: {sorted(unknown)} in {given}; an entry has name, weight and config"
            )
        weight = float(given.get("weight", 1.0))
        if not 0 < weight < float("inf"):
            raise DataError(f"task: the weight of {given['name']} is {weight}; it must be above 0")
        parts.append(Part(given["name"], weight, json.dumps(given.get("config") or {})))
    return parts


def task_names() -> list[str]:
    """The names of reasoning-gym's tasks, without its own mixture.

    Raises:
        DataError: reasoning-gym is not installed.
    """
    needed("reasoning_gym", "text/ReasoningGym-v0", INSTALL)
    factory = needed("reasoning_gym.factory", "text/ReasoningGym-v0", INSTALL)
    return sorted(name for name in factory.DATASETS if name != "composite")
