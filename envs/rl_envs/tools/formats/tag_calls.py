"""Calls as tags: the functions and parameters of Qwen3-Coder, and one bare tag for small models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rl_envs.tasks import DataError
from rl_envs.tools.formats.base import (
    MAX_CALLS,
    Notation,
    NotationError,
    Parsed,
    ParsedCall,
    Tools,
    definition,
    json_type,
    properties,
    signature_lines,
)
from rl_envs.tools.formats.json_values import dumped, read_value, skip

_FUNCTION = re.compile(r"<function=([^<>\n]{1,200})>")
_PARAMETER = re.compile(r"<parameter=([^<>\n]{1,200})>")
_NAME = re.compile(r"[^\s<>][^<>\n]{0,198}[^\s<>]|[^\s<>]")


class Xml(Notation):
    """``<function=name><parameter=x>value</parameter></function>``, as Qwen3-Coder writes them.

    ``<tool_call>`` around it is read and not asked for. A value is what its schema says: text as it
    stands, anything else as JSON; one line break on either side belongs to the notation.
    """

    name: str = "xml"
    form: str = "<function=...><parameter=...>value</parameter></function>"

    def _may_hold_calls(self, text: str) -> bool:
        return "<function=" in text

    def _read(self, text: str, tools: Tools) -> Parsed:
        outside: list[str] = []
        calls: list[ParsedCall] = []
        problems: list[str] = []
        position = 0
        while len(calls) + len(problems) <= MAX_CALLS:
            match = _FUNCTION.search(text, position)
            if match is None:
                outside.append(text[position:])
                break
            outside.append(text[position : match.start()])
            try:
                arguments, position = self._arguments(text, match.end(), tools.get(match[1]))
                calls.append(ParsedCall(match[1], arguments))
                continue
            except NotationError as error:
                reason = str(error)
            end = text.find("</function>", match.end())
            if end >= 0:
                problems.append(self.problem(reason))
                position = end + len("</function>")
                continue
            if match[1] in tools or "<parameter=" in text[match.end() :]:
                problems.append(self.problem(reason))
            else:
                outside.append(text[match.start() :])  # a word about the tag
            break
        words = "".join(outside).replace("<tool_call>", "").replace("</tool_call>", "")
        return Parsed(words.strip(), tuple(calls), tuple(problems))

    def _arguments(self, text: str, position: int, tool: Any) -> tuple[dict[str, Any], int]:
        schema = tool.schema if tool is not None else {}
        known = properties(schema)
        arguments: dict[str, Any] = {}
        position = skip(text, position)
        while match := _PARAMETER.match(text, position):
            end = text.find("</parameter>", match.end())
            if end < 0:
                raise NotationError(f"parameter {match[1][:40]!r} is never closed")
            if match[1] in arguments:
                raise NotationError(f"parameter {match[1][:40]!r} is given twice")
            value = text[match.end() : end].removeprefix("\n").removesuffix("\n")
            arguments[match[1]] = typed(value, known.get(match[1]), match[1], schema)
            position = skip(text, end + len("</parameter>"))
        if not text.startswith("</function>", position):
            raise NotationError("<function=...> is not followed by parameters and </function>")
        return arguments, position + len("</function>")

    def _write(self, calls: Sequence[ParsedCall], text: str, tools: Tools) -> str:
        written: list[str] = [text] if text else []
        for call in calls:
            given = [
                f"<parameter={key}>\n{_plain(value)}\n</parameter>"
                for key, value in call.arguments.items()
            ]
            written.append("\n".join([f"<function={call.name}>", *given, "</function>"]))
        return "\n".join(written)

    def describe(self, schemas: Sequence[Mapping[str, Any]]) -> str:
        """The tools and how to call them, for a system prompt."""
        return (
            f"You have these tools:\n<tools>\n{signature_lines(schemas)}\n</tools>\n"
            "To call one, write its name and each parameter between tags, the values without "
            "quotes:\n<function=tool>\n<parameter=argument>\nvalue\n</parameter>\n</function>\n"
            "The results come in the next message."
        )

    def check(self, tools: Tools) -> None:
        """Refuses names that a tag cannot hold.

        Raises:
            DataError: Which tool.
        """
        for name, tool in tools.items():
            for each in (name, *properties(tool.schema)):
                if not _NAME.fullmatch(each):
                    raise DataError(f"tool {name!r}: the name {each!r} does not fit into a tag")


class Tag(Notation):
    """``<tool>argument</tool>``: the only tool, which has one parameter; for small models."""

    name: str = "tag"
    form: str = "<tool>argument</tool>"
    _open, _close = "<tool>", "</tool>"

    def _may_hold_calls(self, text: str) -> bool:
        return self._open in text

    def _read(self, text: str, tools: Tools) -> Parsed:
        outside: list[str] = []
        calls: list[ParsedCall] = []
        problems: list[str] = []
        position = 0
        while len(calls) + len(problems) <= MAX_CALLS:
            start = text.find(self._open, position)
            if start < 0:
                outside.append(text[position:])
                break
            outside.append(text[position:start])
            body = start + len(self._open)
            end = text.find(self._close, body)
            if end < 0:
                problems.append(self.problem(f"{self._open} is never closed"))
                break
            try:
                calls.append(_sole_call(text[body:end], tools))
            except NotationError as error:
                problems.append(self.problem(str(error)))
            position = end + len(self._close)
        return Parsed("".join(outside).strip(), tuple(calls), tuple(problems))

    def _write(self, calls: Sequence[ParsedCall], text: str, tools: Tools) -> str:
        if any(len(call.arguments) != 1 for call in calls):
            raise ValueError("tag holds calls with one argument only")
        values = [next(iter(call.arguments.values())) for call in calls]
        return text + "".join(f"{self._open}{_plain(value)}{self._close}" for value in values)

    def describe(self, schemas: Sequence[Mapping[str, Any]]) -> str:
        """The tool and how to call it, for a system prompt.

        Raises:
            DataError: The first tool has no parameter, or several.
        """
        first = definition(schemas[0])
        name = _sole_parameter(first["name"], first["parameters"])
        return (
            f"You have a tool: {first['description']}\n"
            f"To call it, write its {name} between tags: {self._open}{name}{self._close}\n"
            "The result comes in the next message."
        )

    def check(self, tools: Tools) -> None:
        """Refuses several tools, and one without just one parameter.

        Raises:
            DataError: There are several, or it has none, or several.
        """
        if len(tools) > 1:
            raise DataError(
                f"the format 'tag' can call one tool, and there are {', '.join(tools)}; use "
                "call_format hermes"
            )
        for name, tool in tools.items():
            _sole_parameter(name, tool.schema)


def typed(text: str, schema: Any, name: str, root: Mapping[str, Any]) -> Any:
    """The value that a text stands for: itself where the schema wants text, else JSON.

    Without a type in the schema it is JSON where it can be, and text otherwise.

    Raises:
        NotationError: The schema wants no text and this is no JSON.
    """
    kinds = _kinds(schema, root.get("$defs"))
    if kinds == {"string"}:
        return _broken_or(text)
    bare = text.strip()
    bare = {"True": "true", "False": "false", "None": "null"}.get(bare, bare)
    try:
        value, end = read_value(bare)
        if end < len(bare):
            raise NotationError("text after the value")
        kind = json_type(value)
        if not kinds or kind in kinds or (kind == "integer" and "number" in kinds):
            return value
    except NotationError as error:
        if kinds and "string" not in kinds:
            raise NotationError(
                f"parameter {name[:40]!r} is to be {' or '.join(sorted(kinds))}: {error}"
            ) from None
        return _broken_or(text)
    return text if "string" in kinds else value


def _kinds(schema: Any, named: Any, depth: int = 0) -> set[str]:
    """The JSON types that a schema allows; empty where it does not tell."""
    if not isinstance(schema, Mapping) or depth > 4:
        return set()
    reference = schema.get("$ref")
    if isinstance(reference, str) and isinstance(named, Mapping):  # an Enum, say
        return _kinds(named.get(reference.removeprefix("#/$defs/")), named, depth + 1)
    stated = schema.get("type")
    if isinstance(stated, str | list):
        stated = [stated] if isinstance(stated, str) else stated
        return {kind for kind in stated if isinstance(kind, str)}
    if isinstance(schema.get("enum"), list):
        return {json_type(value) for value in schema["enum"]}
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            parts = [_kinds(part, named, depth + 1) for part in schema[key]]
            return set().union(*parts) if all(parts) else set()
    return set()


def _broken_or(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotationError("half of a surrogate pair is no character") from None
    return text


def _plain(value: Any) -> str:
    """A value between tags: text as it stands, anything else as JSON."""
    if isinstance(value, str):
        return value
    return dumped(value, ("</parameter>", "</tool>"))


def _sole_call(text: str, tools: Tools) -> ParsedCall:
    if not tools:
        raise NotationError("there is no tool")
    name, tool = next(iter(tools.items()))
    known = properties(tool.schema)
    if len(known) != 1:
        raise NotationError(f"{name} does not take one argument")
    parameter, schema = next(iter(known.items()))
    return ParsedCall(name, {parameter: typed(text, schema, parameter, tool.schema)})


def _sole_parameter(name: str, schema: Mapping[str, Any]) -> str:
    known = list(properties(schema))
    if len(known) != 1:
        raise DataError(
            f"tool {name}: the format 'tag' calls a tool with its one parameter, and this "
            f"one has {len(known)}; use another call_format"
        )
    return known[0]
