"""The records that environments speak in. Nothing here imports anything of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, Protocol, TypedDict, runtime_checkable


class Message(TypedDict):
    """One chat message, in the OpenAI format."""

    role: str
    content: str
    tool_calls: NotRequired[list[dict[str, Any]]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]


Observation = tuple[Message, ...]
"""The messages that are new since the last action."""

Action = str | Message
"""The assistant's text exactly as sampled, or the message an endpoint made of it."""


@dataclass(frozen=True, slots=True)
class Task:
    """A playable row.

    Attributes:
        id: Names the task within its source; equal ids mean equal tasks.
        prompt: What the policy is asked, as text or as messages.
        answer: What a verifier compares with; None where the environment judges by itself.
        info: Any other columns.
    """

    id: str
    prompt: str | Sequence[Message]
    answer: Any = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The row a verifier sees: ``info`` with ``id``, ``prompt`` and ``answer`` on top."""
        return {**self.info, "id": self.id, "prompt": self.prompt, "answer": self.answer}


@runtime_checkable
class TaskSource(Protocol):
    """A sequence of tasks. ``source[i]`` is a pure function of ``i``: index and seed fix the task.

    ``len(source)`` is the number of tasks, or None from ``size`` for an endless generator.
    """

    @property
    def size(self) -> int | None:
        """How many tasks there are; None when any non-negative index gives one."""
        ...

    def __getitem__(self, index: int, /) -> Task:
        """The task at ``index``; IndexError past the end."""
        ...
