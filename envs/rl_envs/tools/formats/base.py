"""What a notation of tool calls must be able to do, and what all of them share."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from rl_envs.tasks import DataError
from rl_verifiers.call_syntax import MAX_CHARACTERS, CallLimitError, CallSyntaxError, calls_in
from rl_verifiers.shown import shown

MAX_CALLS = 64
"""Calls in one completion or message; where there are more, none is read, let alone carried out."""

_THINKING = re.compile(r"<(/?)(?:think(?:ing)?|thought|reasoning)>", re.IGNORECASE)
_END_MARK = re.compile(r"(?:<\|(?:im_end|eot_id|eom_id|endoftext|end)\|>|</s>|\s)+\Z")
_LAST = (">", " ", "\n", "\t", "\r")
_CALL_SIGNS = ("<tool_call>", "<function=", "[TOOL_CALLS]", "<|python_tag|>", "```", '"name"')
_TAGGED = re.compile(r"<tool>[^<]{0,2000}</tool>")


class ParsedCall(NamedTuple):
    """A call: the tool's name, the arguments by name, and its id where the notation has one."""

    name: str
    arguments: dict[str, Any]
    id: str | None = None


class Parsed(NamedTuple):
    """What a completion says.

    Attributes:
        text: What stands outside calls and thinking.
        calls: The calls in their order.
        problems: One line for each call that was tried and cannot be read, written for the model:
            what is wrong, and what is expected.
    """

    text: str
    calls: tuple[ParsedCall, ...] = ()
    problems: tuple[str, ...] = ()


class Described(Protocol):
    """What a notation looks at of a tool."""

    @property
    def name(self) -> str:
        """As the model calls it."""
        ...

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON schema of its arguments."""
        ...


Tools = Mapping[str, Described]


class Outline(NamedTuple):
    """A tool of which a notation knows a name and a schema."""

    name: str
    schema: Mapping[str, Any]


class NotationError(ValueError):
    """A call was tried and cannot be read; the text says why."""


class CallFormat(Protocol):
    """A notation of tool calls."""

    name: str

    def parse(self, completion: str, tools: Tools) -> Parsed:
        """Reads a completion; never raises, in time linear in its length.

        At most ``MAX_CALLS`` calls are given back, and all of them are carried out.
        """
        ...

    def write(self, calls: Sequence[ParsedCall], text: str = "", tools: Tools | None = None) -> str:
        """What a model that speaks this notation would say.

        Raises:
            ValueError: The notation cannot hold these calls.
        """
        ...

    def describe(self, schemas: Sequence[Mapping[str, Any]]) -> str:
        """The tools and how to call them, for a system prompt."""
        ...

    def check(self, tools: Tools) -> None:
        """Refuses tools that the notation cannot call.

        Raises:
            DataError: Which tool, and why.
        """
        ...


class Notation:
    """The base of the notations: one subclass says how its calls are found and written."""

    name: str
    form: str
    """How a call is written, for a model that got it wrong."""

    def parse(self, completion: str, tools: Tools) -> Parsed:
        """Reads a completion; never raises, in time linear in its length."""
        text = visible(completion)
        if not self._may_hold_calls(text):
            return self._elsewhere(text, tools)
        if len(text) > MAX_CHARACTERS:
            return Parsed("", (), (f"calls of over {MAX_CHARACTERS:,} characters are not read",))
        found = self._read(text, tools)
        if len(found.calls) + len(found.problems) > MAX_CALLS:
            reason = f"over {MAX_CALLS} calls at once; none was carried out"
            return Parsed(found.text, (), (reason, *found.problems))
        if not found.calls and not found.problems:
            return self._elsewhere(text, tools)
        return found

    def write(self, calls: Sequence[ParsedCall], text: str = "", tools: Tools | None = None) -> str:
        """What a model that speaks this notation would say: the text, then the calls.

        An id is left out where the notation has none.

        Args:
            calls: The calls.
            text: What is said before them.
            tools: The tools, where the notation needs their schemas to be read; by default those
                that the calls imply.

        Raises:
            ValueError: The notation cannot hold these calls: ``parse`` would not give them back.
        """
        if not calls:
            return text
        known = implied(calls) if tools is None else tools
        written = self._write(calls, text, known)
        found = self.parse(written, known)
        wanted = [(call.name, call.arguments) for call in calls]
        if found.problems or [(call.name, call.arguments) for call in found.calls] != wanted:
            reason = f": {found.problems[0]}" if found.problems else ""
            raise ValueError(f"{self.name} cannot hold the call {shown(wanted)}{reason}")
        return written

    def check(self, tools: Tools) -> None:
        """Refuses tools that the notation cannot call."""

    def problem(self, reason: str) -> str:
        """A line for the model."""
        return f"{reason}; expected {self.form}"

    def _elsewhere(self, text: str, tools: Tools) -> Parsed:
        """The completion without calls of this notation; a problem where another one is used."""
        name = stray_call(text, tools)
        if name is None:
            return Parsed(text.strip())
        return Parsed(text.strip(), (), (self.problem(f"a call of {name} in another notation"),))

    def _may_hold_calls(self, text: str) -> bool:
        raise NotImplementedError

    def _read(self, text: str, tools: Tools) -> Parsed:
        raise NotImplementedError

    def _write(self, calls: Sequence[ParsedCall], text: str, tools: Tools) -> str:
        raise NotImplementedError


def visible(completion: str) -> str:
    """A completion without its thinking and the marks at its end.

    What stands before a closing tag that nothing opened is thinking: the prompt opened it. So is
    what follows a tag that is never closed.
    """
    text = completion
    if "<" in text:
        kept: list[str] = []
        start: int | None = 0
        for match in _THINKING.finditer(text):
            if not match[1]:
                kept += [text[start : match.start()]] if start is not None else []
                start = None
            else:
                if start is not None:
                    kept.clear()
                start = match.end()
        kept += [text[start:]] if start is not None else []
        text = "".join(kept)
    if text[-1:] not in _LAST:
        return text
    end = _END_MARK.search(text, max(0, len(text) - 64))
    return text if end is None else text[: end.start()]


def stray_call(text: str, tools: Tools) -> str | None:
    """The tool that a text calls in whatever notation, if it does; cheap where nothing looks so."""
    if not tools or not text or len(text) > MAX_CHARACTERS:
        return None
    if _TAGGED.search(text):
        return next(iter(tools))
    if not any(sign in text for sign in _CALL_SIGNS) and not any(f"{t}(" in text for t in tools):
        return None
    try:
        called = calls_in(text)
    except (CallSyntaxError, CallLimitError):
        return None
    return next((call.name for call in called if call.name in tools), None)


def implied(calls: Sequence[ParsedCall]) -> dict[str, Outline]:
    """Tools that have just the parameters that the calls give."""
    kinds: dict[str, dict[str, set[str]]] = {}
    for call in calls:
        known = kinds.setdefault(call.name, {})
        for key, value in call.arguments.items():
            known.setdefault(key, set()).add(json_type(value))
    return {
        name: Outline(name, {"properties": {k: {"type": sorted(v)} for k, v in known.items()}})
        for name, known in kinds.items()
    }


def json_type(value: Any) -> str:
    """The name that JSON Schema has for the type of a value."""
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return names.get(type(value), "object")


def properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a tool by name."""
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else {}


def definition(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Name, description and parameters of a tool that OpenAI's form or a bare object describes.

    Raises:
        DataError: It has no name.
    """
    inner = schema.get("function", schema)
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise DataError(f"not the description of a tool: {shown(schema)}")
    return {
        "name": inner["name"],
        "description": str(inner.get("description") or ""),
        "parameters": inner.get("parameters") or {"type": "object", "properties": {}},
    }


def signature_lines(schemas: Sequence[Mapping[str, Any]]) -> str:
    """One tool a line, as JSON."""
    return "\n".join(json.dumps(definition(each), ensure_ascii=False) for each in schemas)
