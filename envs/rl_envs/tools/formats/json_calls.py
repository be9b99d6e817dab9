"""Calls as JSON: Hermes tags, Llama 3 objects, Mistral lists, OpenAI messages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rl_envs.tools.formats.base import (
    MAX_CALLS,
    Notation,
    NotationError,
    Parsed,
    ParsedCall,
    Tools,
    signature_lines,
    visible,
)
from rl_envs.tools.formats.json_values import (
    arguments_of,
    call_of,
    check_value,
    dumped,
    listed,
    read_value,
    skip,
    values_of,
)
from rl_verifiers.call_syntax import MAX_CHARACTERS

_NAMED = re.compile(r'\{\s{0,99}"(?:name|function|type|parameters|arguments)"\s{0,99}:')


class Hermes(Notation):
    """``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``: Hermes, Qwen 2.5 and 3."""

    name: str = "hermes"
    form: str = '<tool_call>{"name": ..., "arguments": {...}}</tool_call>'
    _open, _close = "<tool_call>", "</tool_call>"

    def _may_hold_calls(self, text: str) -> bool:
        return "tool_call>" in text

    def _read(self, text: str, tools: Tools) -> Parsed:
        outside: list[str] = []
        calls: list[ParsedCall] = []
        problems: list[str] = []
        position = 0
        while len(calls) + len(problems) <= MAX_CALLS:
            start = text.find(self._open, position)
            stray = text.find(self._close, position, start if start >= 0 else len(text))
            if stray >= 0:
                problems.append(self.problem(f"{self._close} without {self._open} before it"))
            if start < 0:
                outside.append(text[position:])
                break
            outside.append(text[position:start])
            body = start + len(self._open)
            try:
                call, position = self._call(text, body)
                calls.append(call)
                continue
            except NotationError as error:
                reason = str(error)
            end = text.find(self._close, body)
            if end >= 0:
                problems.append(self.problem(reason))
                position = end + len(self._close)
                continue
            rest = text[body:].lstrip()
            if rest and rest[0] not in "{[<":  # a word about the tag
                outside.append(text[start:])
            else:
                problems.append(self.problem(f"{self._open} is never closed"))
            break
        return Parsed("".join(outside).strip(), tuple(calls), tuple(problems))

    def _call(self, text: str, start: int) -> tuple[ParsedCall, int]:
        first = skip(text, start)
        if text.startswith("<function=", first):
            raise NotationError("<function=...> where JSON belongs")
        if text.startswith(self._close, first):
            raise NotationError("a call without content")
        value, end = read_value(text, first)
        end = skip(text, end)
        if not text.startswith(self._close, end):
            raise NotationError("one JSON object and nothing else belongs into a call")
        call = call_of(value)
        return ParsedCall(call.name, call.arguments), end + len(self._close)

    def _write(self, calls: Sequence[ParsedCall], text: str, tools: Tools) -> str:
        marks = ("tool_call>",)
        objects = [_object(call._replace(id=None), "arguments", marks) for call in calls]
        written = [f"{self._open}\n{each}\n{self._close}" for each in objects]
        return "\n".join([text, *written] if text else written)

    def describe(self, schemas: Sequence[Mapping[str, Any]]) -> str:
        """The tools and how to call them, for a system prompt."""
        return (
            f"You have these tools:\n<tools>\n{signature_lines(schemas)}\n</tools>\n"
            "To call one, write its name and its arguments as JSON between tags:\n"
            f'{self._open}\n{{"name": "tool", "arguments": {{"argument": "value"}}}}\n'
            f"{self._close}\nThe results come in the next message."
        )


class Llama3(Notation):
    """``{"name": ..., "parameters": {...}}`` as the whole message or after ``<|python_tag|>``."""

    name: str = "llama3"
    form: str = '{"name": ..., "parameters": {...}} and nothing else'
    _mark = "<|python_tag|>"

    def _may_hold_calls(self, text: str) -> bool:
        return self._mark in text or text.lstrip()[:1] in ("{", "[")

    def _read(self, text: str, tools: Tools) -> Parsed:
        before, mark, body = text.partition(self._mark)
        if not mark:
            before, body = "", text
        calls: list[ParsedCall] = []
        try:
            for value in listed(values_of(body, 0)):
                if not mark and not calls and not _is_call(value, tools):
                    return Parsed(text.strip())  # an answer in JSON
                call = call_of(value)
                calls.append(ParsedCall(call.name, call.arguments))
                if len(calls) > MAX_CALLS:
                    break
        except NotationError as error:
            if not mark and not calls and not _NAMED.match(body.lstrip().lstrip("[ \n")):
                return Parsed(text.strip())
            return Parsed(before.strip(), (), (self.problem(str(error)),))
        if not calls and mark:
            return Parsed(before.strip(), (), (self.problem("a call without content"),))
        return Parsed(before.strip(), tuple(calls))

    def _write(self, calls: Sequence[ParsedCall], text: str, tools: Tools) -> str:
        written = "; ".join(_object(call, "parameters") for call in calls)
        return f"{text}{self._mark}{written}" if text else written

    def describe(self, schemas: Sequence[Mapping[str, Any]]) -> str:
        """The tools and how to call them, for a system prompt."""
        return (
            f"You have these tools:\n{signature_lines(schemas)}\n"
            "To call one, answer with a JSON object of its name and its parameters, nothing "
            'else:\n{"name": "tool", "parameters": {"argument": "value"}}\n'
            "Several calls are separated by semicolons. The results come in the next message."
        )


class Mistral(Notation):
    """``[TOOL_CALLS]`` and a list of calls, or a name, ``[ARGS]`` and the arguments."""

    name: str = "mistral"
    form: str = '[TOOL_CALLS][{"name": ..., "arguments": {...}}]'
    _mark = "[TOOL_CALLS]"

    def _may_hold_calls(self, text: str) -> bool:
        return self._mark in text

    def _read(self, text: str, tools: Tools) -> Parsed:
        start = text.find(self._mark)
        rest = skip(text, start + len(self._mark))
        if rest < len(text) and text[rest] not in "[{" and "[ARGS]" not in text[rest:]:
            return Parsed(text.strip())  # a word about the mark
        calls: list[ParsedCall] = []
        try:
            if text[rest : rest + 1] in ("[", "{", ""):
                calls += (call_of(value) for value in self._values(text, rest))
            else:
                calls += self._named(text, start)
        except NotationError as error:
            return Parsed(text[:start].strip(), (), (self.problem(str(error)),))
        if not calls:
            return Parsed(text[:start].strip(), (), (self.problem("a call without content"),))
        return Parsed(text[:start].strip(), tuple(calls))

    def _values(self, text: str, start: int) -> list[Any]:
        found: list[Any] = []
        for value in listed(values_of(text, start)):
            found.append(value)
            if len(found) > MAX_CALLS:
                break
        return found

    def _named(self, text: str, position: int) -> list[ParsedCall]:
        """``[TOOL_CALLS]name[CALL_ID]id[ARGS]{...}``, one after another (Mistral since v11)."""
        calls: list[ParsedCall] = []
        while text.startswith(self._mark, position) and len(calls) <= MAX_CALLS:
            start = position + len(self._mark)
            mark = text.find("[ARGS]", start)
            if mark < 0:
                raise NotationError("a call without [ARGS]")
            name, _, identity = text[start:mark].partition("[CALL_ID]")
            value, position = read_value(text, mark + len("[ARGS]"))
            position = skip(text, position)
            if not name.strip():
                raise NotationError("the call has no name")
            calls.append(ParsedCall(name.strip(), arguments_of(value), identity.strip() or None))
        if position < len(text):
            raise NotationError("text after the calls")
        return calls

    def _write(self, calls: Sequence[ParsedCall], text: str, tools: Tools) -> str:
        return text + self._mark + "[" + ", ".join(_object(c, "arguments") for c in calls) + "]"

    def describe(self, schemas: Sequence[Mapping[str, Any]]) -> str:
        """The tools and how to call them, for a system prompt."""
        return (
            f"You have these tools:\n[AVAILABLE_TOOLS]\n{signature_lines(schemas)}\n"
            "[/AVAILABLE_TOOLS]\nTo call some, write a mark and a list of calls:\n"
            '[TOOL_CALLS][{"name": "tool", "arguments": {"argument": "value"}}]\n'
            "The results come in the next message."
        )


class OpenAIJson(Notation):
    """An OpenAI assistant message, or its ``tool_calls``, as JSON: the whole completion."""

    name: str = "openai-json"
    form: str = (
        '{"tool_calls": [{"type": "function", "function": {"name": ..., "arguments": "{...}"}}]}'
    )

    def _may_hold_calls(self, text: str) -> bool:
        return '"tool_calls"' in text and text.lstrip().startswith("{")

    def _read(self, text: str, tools: Tools) -> Parsed:
        try:
            value, end = read_value(text)
            if skip(text, end) < len(text):
                raise NotationError("text after the JSON object")
        except NotationError as error:
            return Parsed("", (), (self.problem(str(error)),))
        found = from_message(value)
        return found._replace(problems=tuple(map(self.problem, found.problems)))

    def _write(self, calls: Sequence[ParsedCall], text: str, tools: Tools) -> str:
        return dumped({"role": "assistant", "content": text, "tool_calls": openai_calls(calls)})

    def describe(self, schemas: Sequence[Mapping[str, Any]]) -> str:
        """The tools and how to call them, for a system prompt."""
        return (
            f"You have these tools:\n{signature_lines(schemas)}\n"
            "To call some, answer with JSON and with nothing else; the arguments are JSON text:\n"
            '{"tool_calls": [{"type": "function", "function": {"name": "tool", "arguments": '
            '"{\\"argument\\": \\"value\\"}"}}]}\nThe results come in the next message.'
        )


def openai_calls(calls: Sequence[ParsedCall]) -> list[dict[str, Any]]:
    """The ``tool_calls`` of an assistant message; arguments as JSON text.

    Raises:
        ValueError: An argument is no JSON value.
    """
    made: list[dict[str, Any]] = []
    for call in calls:
        function = {"name": call.name, "arguments": dumped(call.arguments)}
        identity = {} if call.id is None else {"id": call.id}
        made.append({**identity, "type": "function", "function": function})
    return made


def from_message(message: Mapping[str, Any]) -> Parsed:
    """The calls of an assistant message that an endpoint, or the model's own parser, made.

    Args:
        message: ``content``, and ``tool_calls`` whose arguments are JSON text or objects.

    Returns:
        What it says; a call that cannot be read is a problem. Never raises.
    """
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        content = "\n".join(text for text in texts if isinstance(text, str))
    text = visible(content).strip() if isinstance(content, str) else ""
    stated = message.get("tool_calls") if isinstance(message, Mapping) else None
    if not isinstance(stated, list | tuple):
        problem = () if stated is None else ("tool_calls is to be a list",)
        return Parsed(text, (), problem)
    if len(stated) > MAX_CALLS:
        return Parsed(text, (), (f"over {MAX_CALLS} calls at once; none was carried out",))
    calls: list[ParsedCall] = []
    problems: list[str] = []
    for each in stated:
        try:
            calls.append(_stated_call(each))
        except NotationError as error:
            problems.append(str(error))
    return Parsed(text, tuple(calls), tuple(problems))


def _stated_call(each: Any) -> ParsedCall:
    function = each.get("function", each) if isinstance(each, Mapping) else each
    if not isinstance(function, Mapping):
        raise NotationError("a call is to be an object with a function")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        if len(arguments) > MAX_CHARACTERS:
            raise NotationError(f"arguments of over {MAX_CHARACTERS:,} characters are not read")
        arguments = _whole(arguments) if arguments.strip() else None
    else:
        check_value(arguments)
    call = call_of({"name": function.get("name"), "arguments": arguments})
    identity = each.get("id")
    return call._replace(id=identity if isinstance(identity, str) else None)


def _whole(text: str) -> Any:
    value, end = read_value(text)
    if skip(text, end) < len(text):
        raise NotationError("text after the arguments")
    return value


def _object(call: ParsedCall, key: str, marks: Sequence[str] = ()) -> str:
    identity = {} if call.id is None or key == "parameters" else {"id": call.id}
    return dumped({"name": call.name, key: call.arguments, **identity}, marks)


def _is_call(value: Any, tools: Tools) -> bool:
    """Whether a JSON value that makes up a message is a call and no answer."""
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        return False
    return "parameters" in value or "arguments" in value or value["name"] in tools
