"""What a cell of completions holds: texts, chat messages, or several of them."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class CompletionError(ValueError):
    """A cell holds no completion that could be scored; the message is the reason of a reject."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One completion.

    Attributes:
        text: What is scored.
        before: Of a conversation: the messages before the last one of the assistant.
    """

    text: str
    before: Sequence[Mapping[str, Any]] = ()


def completions(cell: Any, *, json_text: bool = False) -> tuple[list[Completion], bool]:
    """The completions of a cell, and whether it is a list of them.

    Args:
        cell: Text, a number, a message, a list of messages, or a list of any of these (a list of
            messages is one completion).
        json_text: Whether text that is a JSON list stands for that list.

    Raises:
        CompletionError: Null, not a number, an empty list, or something else.
    """
    if json_text and isinstance(cell, str) and cell.lstrip().startswith("["):
        cell = _from_json(cell)
    if not isinstance(cell, list) or _is_conversation(cell):
        return [_completion(cell)], False
    if not cell:
        raise CompletionError("no completion: an empty list")
    found = []
    for number, each in enumerate(cell, start=1):
        try:
            found.append(_completion(each))
        except CompletionError as error:
            raise CompletionError(f"{error} (completion {number} of {len(cell)})") from None
    return found, True


def _from_json(cell: str) -> Any:
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    return value if isinstance(value, list) else cell


def _is_conversation(value: Sequence[Any]) -> bool:
    return bool(value) and all(isinstance(each, Mapping) and "role" in each for each in value)


def _completion(value: Any) -> Completion:
    if isinstance(value, str):
        return Completion(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise CompletionError("no completion: it is null")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Completion(str(value))
    if isinstance(value, Mapping) and "role" in value:
        return Completion(_message_text(value))
    if isinstance(value, list) and _is_conversation(value):
        return _conversation(value)
    kind = _KINDS.get(type(value), type(value).__name__)
    raise CompletionError(f"a completion must be text or chat messages, not {kind}")


_KINDS: dict[type, str] = {
    bool: "a boolean",
    list: "a list of something else",
    dict: "an object without a role",
    bytes: "bytes",
}


def _conversation(messages: Sequence[Mapping[str, Any]]) -> Completion:
    """The last assistant message; what comes after it (a tool's result, say) is left out."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index]["role"] == "assistant":
            return Completion(_message_text(messages[index]), messages[:index])
    raise CompletionError("no completion: no message of the assistant")


def _message_text(message: Mapping[str, Any]) -> str:
    """The text of a message, its tool calls behind it: each JSON in ``<tool_call>`` tags."""
    content, calls = message.get("content"), message.get("tool_calls")
    if content is None and not calls:
        raise CompletionError("no completion: the assistant's message has no content")
    texts = [_content_text(content)] if content is not None else []
    texts += [_call_text(call) for call in calls] if isinstance(calls, list) else []
    return "\n".join(text for text in texts if text)


def _content_text(content: Any) -> str:
    """Text, or the texts of a list of parts; parts that are no text (images) have none."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        return "".join(part for part in parts if isinstance(part, str))
    raise CompletionError("a message's content must be text or a list of parts")


def _call_text(call: Any) -> str:
    """``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``, as many models write it."""
    function = call.get("function", call) if isinstance(call, Mapping) else call
    if not isinstance(function, Mapping):
        return f"<tool_call>{_json(function)}</tool_call>"
    arguments = function.get("arguments")
    if isinstance(arguments, str):  # the chat format has JSON text there
        with contextlib.suppress(ValueError, RecursionError):
            arguments = json.loads(arguments)
    return f"<tool_call>{_json({'name': function.get('name'), 'arguments': arguments})}</tool_call>"


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return str(value)
