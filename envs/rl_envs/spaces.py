"""Gymnasium spaces for chat: any Unicode text is an action, a tuple of messages an observation.

Gymnasium's own ``Text`` space has an alphanumeric character set by default and so refuses "2+2";
a language model may write anything, so these two accept anything and only fix the shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium

from rl_envs.types import Action, Message, Observation

ROLES = ("system", "user", "assistant", "tool", "developer")
_SURROGATES = range(0xD800, 0xE000)
_CODE_POINTS = 0x110000


def _is_message(value: Any) -> bool:
    """Whether ``value`` is a chat message: a dict with a role and text (None beside tool calls)."""
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        return False
    content = value.get("content")
    return isinstance(content, str) or (content is None and bool(value.get("tool_calls")))


class TextSpace(gymnasium.Space[Action]):
    """Every Unicode string, and every assistant message.

    Args:
        sample_length: Samples have 0 to this many characters; membership has no limit.
        seed: Seeds ``sample``.
    """

    def __init__(self, sample_length: int = 32, seed: int | None = None) -> None:
        super().__init__(None, None, seed)
        self.sample_length = sample_length

    @property
    def is_np_flattenable(self) -> bool:
        """False: text has no fixed-size array form."""
        return False

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a string or an assistant message."""
        return isinstance(x, str) or (_is_message(x) and x["role"] == "assistant")

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """A short random string over all of Unicode except surrogates, which no file can hold.

        Raises:
            ValueError: A mask was given; text has none.
        """
        if mask is not None or probability is not None:
            raise ValueError("a text space samples without a mask or a probability")
        length = int(self.np_random.integers(self.sample_length + 1))
        codes = self.np_random.integers(_CODE_POINTS, size=length).tolist()
        return "".join(chr(code) for code in codes if code not in _SURROGATES)

    def to_jsonable(self, sample_n: Iterable[Action]) -> list[Any]:
        """The samples as a JSON list."""
        return list(sample_n)

    def from_jsonable(self, sample_n: list[Any]) -> list[Action]:
        """The samples that ``to_jsonable`` wrote."""
        return list(sample_n)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, TextSpace) and self.sample_length == other.sample_length

    __hash__ = None  # type: ignore[assignment]  # as Gymnasium's spaces: equal by value, mutable

    def __repr__(self) -> str:
        return f"TextSpace(sample_length={self.sample_length})"


class ChatSpace(gymnasium.Space[Observation]):
    """Every tuple of chat messages: ``({"role": ..., "content": ...}, ...)``."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(None, None, seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: a conversation has no fixed-size array form."""
        return False

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a tuple of messages."""
        return isinstance(x, tuple) and all(_is_message(message) for message in x)

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> Observation:
        """One to three messages of random text.

        Raises:
            ValueError: A mask was given; a conversation has none.
        """
        if mask is not None or probability is not None:
            raise ValueError("a chat space samples without a mask or a probability")
        text = TextSpace()
        text._np_random = self.np_random
        roles = self.np_random.choice(ROLES, size=int(self.np_random.integers(1, 4)))
        return tuple(Message(role=str(role), content=text.sample()) for role in roles)

    def to_jsonable(self, sample_n: Iterable[Observation]) -> list[Any]:
        """The samples as a JSON list of lists of messages."""
        return [list(sample) for sample in sample_n]

    def from_jsonable(self, sample_n: list[Any]) -> list[Observation]:
        """The samples that ``to_jsonable`` wrote."""
        return [tuple(dict(message) for message in sample) for sample in sample_n]  # type: ignore[misc]

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, ChatSpace)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "ChatSpace()"


def action_text(action: Action) -> str:
    """The text of an action.

    Raises:
        TypeError: The caller passed neither a string nor a message (a mistake in code, not in
            what a model wrote).
    """
    if isinstance(action, str):
        return action
    if isinstance(action, Mapping):
        content = action.get("content")
        return content if isinstance(content, str) else ""
    raise TypeError(f"an action is a string or an assistant message, not {type(action).__name__}")
