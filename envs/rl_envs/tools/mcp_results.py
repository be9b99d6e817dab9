"""The text of what an MCP server's tool answers."""

from __future__ import annotations

import json
from typing import Any

from rl_envs.tools.tool import ToolError


def answer_of(result: Any) -> str:
    """The text of a tool's result.

    Raises:
        ToolError: The result is an error.
    """
    text = "\n".join(_block(each) for each in result.content)
    if not result.content and result.structured_content is not None:
        text = json.dumps(result.structured_content, ensure_ascii=False)
    if result.is_error:
        raise ToolError(text or "the tool failed and says nothing")
    return text


def _block(block: Any) -> str:
    """A part of a result as text; what is no text is named with its size."""
    if block.type == "text":
        return str(block.text)
    if block.type in ("image", "audio"):
        return f"[{block.type}, {_size(block.data)}]"
    if block.type == "resource":
        inner = block.resource
        text = getattr(inner, "text", None)
        return str(text) if text is not None else f"[file {inner.uri}, {_size(inner.blob)}]"
    return f"[{block.type} {getattr(block, 'uri', '')}]"


def _size(data: str) -> str:
    """The size of what base64 text holds."""
    count = len(data) * 3 // 4
    return f"{count} bytes" if count < 1000 else f"{count // 1000} kB"
