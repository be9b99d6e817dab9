"""The notations in which models write tool calls: reading, writing and describing them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from rl_envs.tasks import DataError
from rl_envs.tools.formats.base import MAX_CALLS, CallFormat, Parsed, ParsedCall, Tools, visible
from rl_envs.tools.formats.json_calls import (
    Hermes,
    Llama3,
    Mistral,
    OpenAIJson,
    from_message,
    openai_calls,
)
from rl_envs.tools.formats.python_fence import Python
from rl_envs.tools.formats.tag_calls import Tag, Xml

FORMATS: Mapping[str, CallFormat] = {
    each.name: each
    for each in (Hermes(), Llama3(), Mistral(), OpenAIJson(), Python(), Tag(), Xml())
}
"""The notations by name."""


def call_format(name: str) -> CallFormat:
    """The notation of a name.

    Raises:
        DataError: There is none; the message says which are known.
    """
    found = FORMATS.get(name) if isinstance(name, str) else None
    if found is None:
        close = difflib.get_close_matches(str(name), FORMATS, 1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise DataError(f"no call format {name!r}{meant}; there are {', '.join(FORMATS)}")
    return found


__all__ = [
    "FORMATS",
    "MAX_CALLS",
    "CallFormat",
    "Parsed",
    "ParsedCall",
    "Tools",
    "call_format",
    "from_message",
    "openai_calls",
    "visible",
]
