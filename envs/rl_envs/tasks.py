"""Task sources: lists, seeded generators, enumerations, and views of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, cast

import numpy as np

from rl_envs.types import Task, TaskSource

TEST_FRACTION = 0.15
_REDRAWS = 10_000


class DataError(ValueError):
    """Data or options that cannot be used; the message says what, where, and what to do."""


def content_id(*parts: Any) -> str:
    """A short id made from content: equal content, equal id."""
    text = json.dumps(parts, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


def bucket(task_id: str, test_fraction: float = TEST_FRACTION) -> Literal["train", "test"]:
    """The split a task belongs to, decided by its id alone.

    Since equal tasks have equal ids, no problem is ever in both splits, however it was drawn.
    """
    digest = hashlib.blake2b(task_id.encode("utf-8", "replace"), digest_size=8).digest()
    return "test" if int.from_bytes(digest) < test_fraction * 2**64 else "train"


class _Views:
    """Narrower looks at a source; none of them copies tasks."""

    def take(self: TaskSource, count: int) -> TaskSource:
        """The first ``count`` tasks (all, where there are fewer)."""
        size = count if self.size is None else min(count, self.size)
        return View(self, range(size))

    def shuffle(self: TaskSource, seed: int) -> TaskSource:
        """The same tasks in another order.

        Raises:
            DataError: The source is endless; its order is random already.
        """
        if self.size is None:
            raise DataError(
                "an endless source cannot be shuffled: take(n) first, or change its seed"
            )
        return View(self, np.random.default_rng(seed).permutation(self.size).tolist())

    def filter(self: TaskSource, keep: Callable[[Task], bool]) -> TaskSource:
        """The tasks for which ``keep(task)`` holds.

        Raises:
            DataError: The source is endless, or nothing is left.
        """
        if self.size is None:
            raise DataError("an endless source cannot be filtered: take(n) first")
        kept = [index for index in range(self.size) if keep(self[index])]
        if not kept:
            raise DataError(f"the filter left none of {self.size} tasks")
        return View(self, kept)

    def __iter__(self: TaskSource) -> Iterator[Task]:
        """The tasks in order, without end where the source is endless."""
        index = 0
        while self.size is None or index < self.size:
            yield self[index]
            index += 1

    def __len__(self: TaskSource) -> int:
        if self.size is None:
            raise TypeError("an endless task source has no length; its size is None")
        return self.size

    def __bool__(self) -> bool:
        return True

    def _checked(self: TaskSource, index: int) -> int:
        if index < 0 or (self.size is not None and index >= self.size):
            raise IndexError(
                f"task {index} of {'an endless source' if self.size is None else self.size}"
            )
        return index


class ListTasks(_Views):
    """Tasks held in memory.

    Args:
        tasks: Tasks, or rows (mappings), which ``tasks_from_rows`` reads.

    Raises:
        DataError: There are none.
    """

    def __init__(self, tasks: Sequence[Task | Mapping[str, Any]]) -> None:
        if not tasks:
            raise DataError("the data set is empty: no tasks")
        if all(isinstance(task, Task) for task in tasks):
            self._tasks = cast(list[Task], list(tasks))
        else:
            from rl_envs.adapters import tasks_from_rows  # noqa: PLC0415  # adapters import Task

            self._tasks = tasks_from_rows(cast(Sequence[Mapping[str, Any]], tasks))

    @property
    def size(self) -> int:
        """How many tasks there are."""
        return len(self._tasks)

    def __getitem__(self, index: int, /) -> Task:
        return self._tasks[self._checked(index)]


class View(_Views):
    """Some tasks of a source, in a given order."""

    def __init__(self, source: TaskSource, indices: Sequence[int]) -> None:
        self._source = source
        self._indices = indices

    @property
    def size(self) -> int:
        """How many tasks there are."""
        return len(self._indices)

    def __getitem__(self, index: int, /) -> Task:
        return self._source[self._indices[self._checked(index)]]


class GeneratedTasks(_Views):
    """Tasks made on demand: task ``i`` comes from ``numpy.random.default_rng((seed, i))``.

    Args:
        make: ``make(rng) -> Task``; equal problems must get equal ids.
        seed: Another seed, other tasks.
        size: How many; None for no end.
        split: ``train`` or ``test``: ``make`` is called again until the id's bucket is this one,
            so the splits are disjoint by content. None: every task.
        test_fraction: The share of all problems that is kept for ``test``.
    """

    def __init__(
        self,
        make: Callable[[np.random.Generator], Task],
        *,
        seed: int = 0,
        size: int | None = None,
        split: str | None = None,
        test_fraction: float = TEST_FRACTION,
    ) -> None:
        self._make = make
        self._seed = seed
        self._size = size
        self._split = split
        self._test_fraction = test_fraction

    @property
    def size(self) -> int | None:
        """How many tasks there are, or None."""
        return self._size

    def __getitem__(self, index: int, /) -> Task:
        rng = np.random.default_rng((self._seed, self._checked(index)))
        for _ in range(_REDRAWS):
            task = self._make(rng)
            if self._split is None or bucket(task.id, self._test_fraction) == self._split:
                return task
        raise DataError(
            f"no {self._split} task in {_REDRAWS} draws: there are too few different problems; "
            "make the range wider"
        )


class EnumeratedTasks(_Views):
    """A finite set of problems, split by the hash of their ids.

    Args:
        make: ``make(i) -> Task`` for ``i`` in ``range(count)``.
        count: How many problems there are.
        split: ``train``, ``test`` or None for all.
        test_fraction: The share kept for ``test``.

    Raises:
        DataError: The split is empty.
    """

    def __init__(
        self,
        make: Callable[[int], Task],
        count: int,
        *,
        split: str | None = None,
        test_fraction: float = TEST_FRACTION,
    ) -> None:
        self._make = make
        self._indices = [
            index
            for index in range(count)
            if split is None or bucket(make(index).id, test_fraction) == split
        ]
        if not self._indices:
            raise DataError(f"none of {count} problems falls into {split}: make the range wider")

    @property
    def size(self) -> int:
        """How many tasks the split has."""
        return len(self._indices)

    def __getitem__(self, index: int, /) -> Task:
        return self._make(self._indices[self._checked(index)])


def hash_split(
    tasks: Sequence[Task | Mapping[str, Any]], split: str, test_fraction: float = TEST_FRACTION
) -> TaskSource:
    """The tasks of a list that belong to a split, decided by each task's id."""
    return ListTasks(tasks).filter(lambda task: bucket(task.id, test_fraction) == split)


def as_tasks(given: Any) -> TaskSource:
    """A task source from a source, a list of tasks or rows, or a path.

    Raises:
        DataError: It is none of these.
    """
    if isinstance(given, str | PathLike):
        from rl_envs.files import load_rows  # noqa: PLC0415  # files import DataError from here

        return ListTasks(load_rows(given))
    if isinstance(given, TaskSource):
        return given
    if isinstance(given, Sequence):
        return ListTasks(given)
    raise DataError(
        "tasks must be a task source, a list of tasks or rows, or a path, "
        f"not {type(given).__name__}"
    )
