"""Calls in a fence of Python: the code itself, or calls with literal arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rl_envs.tasks import DataError
from rl_envs.tools.formats.base import (
    MAX_CALLS,
    Notation,
    NotationError,
    Parsed,
    ParsedCall,
    Tools,
    definition,
    properties,
)
from rl_envs.tools.formats.json_values import check_value
from rl_verifiers.call_syntax import Call, CallLimitError, CallSyntaxError, python_calls

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]{0,9}([^\s`]{0,40})[^\n`]{0,200}$", re.MULTILINE)
_LANGUAGES = ("python", "py", "python3", "tool_code")
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


class Fence(NamedTuple):
    """A fence of Python in a text: what is in it, where it begins and ends."""

    body: str
    start: int
    end: int


class Python(Notation):
    """A fence of Python; what is in it is never run here.

    Where just one tool takes a single text called ``code``, the fence is that argument, unless it
    holds nothing but calls of other tools. Otherwise it holds calls such as ``f(a=1)``, read from
    their syntax tree.
    """

    name: str = "python"
    form: str = "a closed fence that begins with ```python"

    def _may_hold_calls(self, text: str) -> bool:
        return "```" in text or "~~~" in text

    def _read(self, text: str, tools: Tools) -> Parsed:
        outside: list[str] = []
        calls: list[ParsedCall] = []
        problems: list[str] = []
        position = 0
        for fence in fences(text):
            outside.append(text[position : fence.start])
            position = fence.end
            if fence.end < 0:
                problems.append(self.problem("the fence is never closed"))
                position = len(text)
                break
            try:
                calls += self._calls(fence.body, tools)
            except NotationError as error:
                problems.append(f"{error}; expected calls such as f(a=1) in a fence of Python")
            if len(calls) + len(problems) > MAX_CALLS:
                break
        outside.append(text[position:])
        return Parsed("".join(outside).strip(), tuple(calls), tuple(problems))

    def _calls(self, body: str, tools: Tools) -> list[ParsedCall]:
        coder = code_tool(tools)
        try:
            called = python_calls(body.strip())
            if coder and (
                not called or any(c.name == coder or c.name not in tools for c in called)
            ):
                return [_code_call(coder, body)]
            return [_named(call, tools) for call in called]
        except (CallSyntaxError, CallLimitError) as error:
            if coder:
                return [_code_call(coder, body)]
            raise NotationError(str(error)) from None

    def _write(self, calls: Sequence[ParsedCall], text: str, tools: Tools) -> str:
        coder = code_tool(tools)
        written: list[str] = [text] if text else []
        for call in calls:
            is_code = call.name == coder and list(call.arguments) == ["code"]
            body = call.arguments["code"] if is_code else _expression(call)
            longest = max((len(run) for run in re.findall(r"`{3,}", body)), default=2)
            fence = "`" * (longest + 1)
            written.append(f"{fence}python\n{body}\n{fence}")
        return "\n".join(written)

    def describe(self, schemas: Sequence[Mapping[str, Any]]) -> str:
        """The tools and how to call them, for a system prompt."""
        known = [definition(each) for each in schemas]
        coders = [each for each in known if _takes_code(each["parameters"])]
        if len(coders) == 1:
            start = f"{coders[0]['description']}\nTo do so, write the code in a fence of Python:"
            example = "print(1 + 1)"
            others = [each for each in known if each is not coders[0]]
        else:
            start, others = "To call a tool, write the call in a fence of Python:", known
            example = 'tool(argument="value")'
        listed = "\n".join(
            f"{each['name']}({', '.join(properties(each['parameters']))}): {each['description']}"
            for each in others
        )
        also = f"You have these tools:\n{listed}\n" if others else ""
        return f"{also}{start}\n```python\n{example}\n```\nThe result comes in the next message."

    def check(self, tools: Tools) -> None:
        """Refuses names that Python cannot say.

        Raises:
            DataError: Which tool.
        """
        for name, tool in tools.items():
            words = [name] if name == code_tool(tools) else [name, *properties(tool.schema)]
            for each in words:
                if not _DOTTED.fullmatch(each):
                    raise DataError(f"tool {name!r}: {each!r} is no name in Python")


def fences(text: str) -> list[Fence]:
    """The fences of Python in a text; one that is never closed ends at -1.

    A fence is closed by a line of as many of the same marks, or more, as opened it.
    """
    found: list[Fence] = []
    opened: re.Match[str] | None = None
    for match in _FENCE.finditer(text):
        if opened is None:
            opened = match
        elif match[1].startswith(opened[1]) and not match[2]:
            if opened[2].lower() in _LANGUAGES:
                body = text[opened.end() + 1 : max(opened.end() + 1, match.start() - 1)]
                found.append(Fence(body, opened.start(), match.end()))
            opened = None
    if opened is not None and opened[2].lower() in _LANGUAGES:
        found.append(Fence("", opened.start(), -1))
    return found


def code_tool(tools: Tools) -> str | None:
    """The name of the one tool that takes a single text called ``code``, if just one does."""
    named = [name for name, tool in tools.items() if _takes_code(tool.schema)]
    return named[0] if len(named) == 1 else None


def _takes_code(schema: Mapping[str, Any]) -> bool:
    known = properties(schema)
    part = known.get("code")
    if len(known) != 1 or not isinstance(part, Mapping):
        return False
    return part.get("type") in ("string", ["string"])


def _code_call(name: str, body: str) -> ParsedCall:
    arguments = {"code": body}
    check_value(arguments)
    return ParsedCall(name, arguments)


def _named(call: Call, tools: Tools) -> ParsedCall:
    """A call with its positional arguments named as its tool says."""
    tool = tools.get(call.name)
    known = [] if tool is None else list(properties(tool.schema))
    if len(call.positional) > len(known):
        raise NotationError(f"{call.name[:40]}: arguments are given by name, as in f(a=1)")
    arguments = dict(zip(known, call.positional, strict=False))
    twice = next((key for key in arguments if key in call.arguments), None)
    if twice is not None:
        raise NotationError(f"{call.name[:40]}: argument {twice[:40]!r} is given twice")
    arguments |= call.arguments
    check_value(arguments)
    return ParsedCall(call.name, arguments)


def _expression(call: ParsedCall) -> str:
    names = (call.name, *call.arguments)
    if not all(isinstance(name, str) and _DOTTED.fullmatch(name) for name in names):
        raise ValueError(f"python cannot hold these names: {', '.join(map(repr, names))[:200]}")
    given = ", ".join(f"{key}={value!r}" for key, value in call.arguments.items())
    return f"{call.name}({given})"
