"""What came of a call, and how it is told to a policy."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from rl_envs.tools.tool import ToolFault


class ToolResult(NamedTuple):
    """What came of a call: its name, its arguments, the whole text, whether it is an error."""

    name: str
    arguments: Mapping[str, Any]
    content: str
    is_error: bool = False
    call_id: str | None = None


def cut(text: str, limit: int) -> str:
    """A text of about ``limit`` characters: its head, a note of what is left out, its tail."""
    if len(text) <= limit:
        return text
    head = (limit + 1) // 2
    tail = limit - head
    left_out = len(text) - limit
    return f"{text[:head]}\n[... {left_out} characters left out ...]\n{text[len(text) - tail :]}"


def as_text(value: Any) -> str:
    """What a tool returned as text: itself, or as JSON; sets are sorted, records are objects.

    Raises:
        ToolFault: It cannot be written.
    """
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=_jsonable)
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolFault(f"the result cannot be written as JSON: {error}") from error


def _jsonable(value: Any) -> Any:
    """What JSON has in the place of an object that it has not.

    Raises:
        TypeError: The object has no text of its own; an address in memory is no result.
    """
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if callable(dump := getattr(value, "model_dump", None)):  # pydantic's
        return dump()
    from pydantic_core import PydanticSerializationError, to_jsonable_python  # noqa: PLC0415

    try:
        return to_jsonable_python(value)
    except PydanticSerializationError:
        kind = type(value)
        if all(getattr(kind, name) is getattr(object, name) for name in ("__str__", "__repr__")):
            raise TypeError(f"a {kind.__name__} has no form there") from None
        return str(value)
