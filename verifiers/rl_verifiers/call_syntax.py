"""Find the tool calls in a completion, in the notations that models write them in.

Nothing of the text is run: JSON is read as data, and Python calls are read from their syntax tree,
arguments being literals only.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rl_verifiers import extract
from rl_verifiers.shown import shown

MAX_CHARACTERS = 200_000
"""Longer calls are not read."""
MAX_CALLS = 256
MAX_PYTHON_CHARACTERS = 20_000
MAX_PYTHON_NESTING = 20
MAX_INTEGER_BITS = 14_000
"""Larger whole numbers, which Python reads in hexadecimal, have no decimal digits for us."""

_MARKERS = ("[TOOL_CALLS]", "<|python_tag|>")
_FUNCTION = re.compile(r"<function=([\w.:/-]{1,200})>")
_PARAMETER = re.compile(r"<parameter=([\w.:/-]{1,200})>")
_PYTHON = re.compile(r"\[?\s{0,99}[A-Za-z_][\w.]{0,200}\(")
_SEPARATOR = re.compile(r"[\s;,]*")
_CONSTANTS = {"true": True, "false": False, "null": None}


class CallSyntaxError(ValueError):
    """A call was tried and cannot be read."""


class CallLimitError(ValueError):
    """The calls are too long, too many or nest too deeply."""


class RawText(str):
    """An argument whose type the notation does not tell: text, or the JSON value that it writes."""

    _value: Any

    def read(self) -> Any:
        """The JSON value, read once; the text itself where it is none."""
        if not hasattr(self, "_value"):
            try:
                self._value = _load(self)
            except (ValueError, RecursionError):
                self._value = str(self)
        return self._value


class Call(NamedTuple):
    """A call: its name, its arguments by name, and those that only have a place."""

    name: str
    arguments: dict[str, Any]
    positional: tuple[Any, ...] = ()


def calls_in(completion: str) -> list[Call]:
    """The tool calls of a completion in their order; none where nothing looks like a call.

    Thinking is left out. The first of these notations that occurs is read, and no other:

    1. ``<tool_call>...</tool_call>`` around JSON (Hermes, Qwen) or ``<function=...>``;
    2. ``<function=name>`` around JSON or ``<parameter=name>value</parameter>`` (Llama, Qwen Coder);
    3. what follows ``[TOOL_CALLS]`` (Mistral) or ``<|python_tag|>`` (Llama);
    4. Python calls, ``[f(a=1), g(b="x")]`` or one a line, as the last fence or the whole text;
    5. JSON: an OpenAI message or its ``tool_calls``, or objects with ``name`` and ``arguments`` or
       ``parameters``: values that make up the whole text, else all those in it.

    No key, parameter or argument may occur twice in a call.

    Raises:
        CallSyntaxError: A call was tried and is malformed.
        CallLimitError: There is more than we read.
    """
    text = extract.without_thinking(completion)
    if text is None:
        return []
    found: list[Call] = []
    for call in _notation(text):
        found.append(call)
        if len(found) > MAX_CALLS:
            raise CallLimitError(f"over {MAX_CALLS} calls")
    return found


def _notation(text: str) -> Iterator[Call]:
    if "<tool_call>" in text:
        length = 0
        for inside in _between(text, "<tool_call>", "</tool_call>"):
            length += len(inside)
            if length > MAX_CHARACTERS:
                break
            yield from _inside_tag(inside.strip())
        if length > MAX_CHARACTERS:
            raise CallLimitError(f"calls of over {MAX_CHARACTERS:,} characters")
        return
    if _FUNCTION.search(text):
        yield from _functions(text)
        return
    for marker in _MARKERS:
        if marker in text:
            rest = text.rpartition(marker)[2].strip()
            yield from _inside_tag(_limited(rest.removesuffix("<|eom_id|>")).strip())
            return
    yield from _python_calls(text) or _json_calls(text)


def _limited(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        raise CallLimitError(f"calls of over {MAX_CHARACTERS:,} characters")
    return text


def _between(text: str, opening: str, closing: str) -> Iterator[str]:
    """What stands between the marks; the last one may be left open."""
    start = text.find(opening)
    while start >= 0:
        start += len(opening)
        end = text.find(closing, start)
        yield text[start : end if end >= 0 else len(text)]
        start = text.find(opening, end) if end >= 0 else -1


def _inside_tag(text: str) -> Iterator[Call]:
    if text.startswith("<function="):
        yield from _functions(text)
        return
    if _PYTHON.match(text):
        yield from python_calls(text)
        return
    values = _values(text)
    if values is None:
        raise CallSyntaxError(f"not JSON: {text!r:.60}")
    for value in values:
        yield from _calls_of(value)


def _functions(text: str) -> Iterator[Call]:
    """Notation 2."""
    matches = list(_FUNCTION.finditer(text))
    _limited(text[matches[0].start() :] if matches else "")
    ends = [*(match.start() for match in matches[1:]), len(text)]
    for match, limit in zip(matches, ends, strict=True):
        end = text.find("</function>", match.end(), limit)
        body = text[match.end() : end if end >= 0 else limit]
        if "<parameter=" not in body:
            arguments = _arguments(body.strip(), match[1])
        else:
            given = list(_parameters(body))
            arguments = dict(given)
            if len(arguments) < len(given):
                raise CallSyntaxError(f"{match[1]!r:.60}: a parameter is given twice")
        yield Call(match[1], arguments)


def _parameters(body: str) -> Iterator[tuple[str, RawText]]:
    matches = list(_PARAMETER.finditer(body))
    if not matches:
        raise CallSyntaxError(f"not a parameter: {body!r:.60}")
    ends = [*(match.start() for match in matches[1:]), len(body)]
    for match, limit in zip(matches, ends, strict=True):
        end = body.find("</parameter>", match.end(), limit)
        value = body[match.end() : end if end >= 0 else limit]
        yield match[1], RawText(value.removeprefix("\n").removesuffix("\n"))


def _json_calls(text: str) -> list[Call]:
    """Notation 5; nothing where no JSON looks like calls."""
    values = _values(text) if text.lstrip()[:1] in ("{", "[") else None
    if values is not None and any(map(_looks_like_call, values)):
        return [call for value in values for call in _calls_of(value)]
    if values is None:
        spans = extract.bracketed(text) or extract.bracketed(extract.code_fence(text, "json") or "")
        values = [value for span in spans for value in _value(span)]
    found = [value for value in values if _looks_like_call(value)]
    return [call for value in found for call in _calls_of(value)]


def _value(text: str) -> list[Any]:
    """The JSON value that a text is, if it is one."""
    try:
        return [_load(text)]
    except CallSyntaxError:
        raise
    except (ValueError, RecursionError):
        return []


def _looks_like_call(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_looks_like_call, value[:MAX_CALLS]))
    if not isinstance(value, dict):
        return False
    named = isinstance(value.get("name"), str) and bool({"arguments", "parameters"} & set(value))
    return named or any(key in value for key in ("tool_calls", "function_call", "function"))


def _values(text: str) -> list[Any] | None:
    """JSON values that, with white space, commas and semicolons between, make up a text."""
    if _nesting(text) > extract.MAX_JSON_NESTING:
        raise CallLimitError("JSON nested too deeply")
    decoder = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_unique)
    found: list[Any] = []
    position = _skip(text, 0)
    try:
        while position < len(text):
            if len(found) > MAX_CALLS:
                raise CallLimitError(f"over {MAX_CALLS} calls")
            value, position = decoder.raw_decode(text, position)
            found.append(value)
            position = _skip(text, position)
    except (CallLimitError, CallSyntaxError):
        raise
    except (ValueError, RecursionError):
        return None
    return found or None


def _skip(text: str, position: int) -> int:
    match = _SEPARATOR.match(text, position)
    return match.end() if match else position


def _calls_of(value: Any) -> Iterator[Call]:
    """The calls that a JSON value states."""
    if isinstance(value, list):
        for item in value:
            yield from _calls_of(item)
        return
    if isinstance(value, Mapping):
        for key in ("tool_calls", "function_call", "function"):
            if isinstance(value.get(key), list | Mapping):
                yield from _calls_of(value[key])
                return
        if value.get("tool_calls", "") is None:
            return  # a message without calls
        name = value.get("name")
        if isinstance(name, str) and name:
            if "arguments" in value and "parameters" in value:
                raise CallSyntaxError(f"{name!r:.60}: both arguments and parameters")
            stated = value.get("arguments", value.get("parameters"))
            yield Call(name, _arguments(stated, name))
            return
    raise CallSyntaxError(f"not a call: {shown(value, 60)}")


def _arguments(stated: Any, name: str) -> dict[str, Any]:
    if isinstance(stated, str) and stated.strip():
        try:
            stated = _load(stated)
        except CallSyntaxError:
            raise
        except (ValueError, RecursionError):
            raise CallSyntaxError(f"{name!r:.60}: not JSON: {stated!r:.60}") from None
    if stated is None or stated == "":
        return {}
    if not isinstance(stated, Mapping):
        raise CallSyntaxError(f"{name!r:.60}: arguments are not an object: {shown(stated, 60)}")
    return dict(stated)


def _python_calls(text: str) -> list[Call]:
    """Notation 4; nothing where the text is something else."""
    for candidate in (extract.code_fence(text), text):
        source = (candidate or "").strip()
        if _PYTHON.match(source) and source.endswith((")", "]")):
            try:
                return python_calls(source)
            except CallSyntaxError:
                continue  # prose in parentheses, or a program
    return []


def python_calls(source: str) -> list[Call]:
    """The calls of Python source such as ``[f(a=1), g.h("x")]``, read and not run.

    Raises:
        CallSyntaxError: It is anything else, or an argument is no literal.
        CallLimitError: It is too long or nests too deeply.
    """
    if len(source) > MAX_PYTHON_CHARACTERS or _nesting(source) > MAX_PYTHON_NESTING:
        raise CallLimitError("Python calls too long or nested too deeply")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise CallSyntaxError(f"not Python calls: {source!r:.60}") from None
    found: list[Call] = []
    for statement in statements:
        value = statement.value if isinstance(statement, ast.Expr) else None
        items = value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
        found += [_call(item) for item in items]
    return found


def _call(node: ast.expr | None) -> Call:
    if not isinstance(node, ast.Call):
        raise CallSyntaxError("something that is no call")
    arguments: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in arguments:
            raise CallSyntaxError(f"argument {keyword.arg!r:.60} is not given once by name")
        arguments[keyword.arg] = _literal(keyword.value)
    return Call(_dotted(node.func), arguments, tuple(map(_literal, node.args)))


def _dotted(node: ast.expr) -> str:
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise CallSyntaxError("a call of something without a name")
    return ".".join([node.id, *reversed(names)])


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() as value) if value.bit_length() > MAX_INTEGER_BITS:
            raise CallLimitError("a number too long")
        case ast.UnaryOp(operand=ast.Constant(value=int() as value)) if (
            value.bit_length() > MAX_INTEGER_BITS
        ):
            raise CallLimitError("a number too long")
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item) for item in items]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            names = [_literal(key) for key in keys if key is not None]
            if len(set(map(repr, names))) < len(names):
                raise CallSyntaxError("a key occurs twice in one object")
            if all(isinstance(name, str) for name in names):
                return dict(zip(names, map(_literal, values), strict=True))
    raise CallSyntaxError("an argument that is no literal")


def _nesting(text: str) -> int:
    depth = deepest = 0
    for mark in re.findall(r"[\[{(]|[\]})]", text):
        depth += 1 if mark in "[{(" else -1
        deepest = max(deepest, depth)
    return deepest


def _load(text: str) -> Any:
    if _nesting(text) > extract.MAX_JSON_NESTING:
        raise ValueError("nested too deeply")
    return json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise CallSyntaxError("a key occurs twice in one object")
    return found


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
