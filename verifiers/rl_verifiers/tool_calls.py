"""Are the tool calls of a completion those that the row wants?

The comparison is by syntax tree, as in the Berkeley Function Calling Leaderboard (Patil et al.,
ICML 2025): names, arguments, allowed alternatives. Nothing is called.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from rl_verifiers import extract
from rl_verifiers.call_matching import Comparison, WantedCall, matched, wanted_calls
from rl_verifiers.call_syntax import Call, CallLimitError, CallSyntaxError, RawText, calls_in
from rl_verifiers.documents import DocumentError
from rl_verifiers.option_checks import check_flags, check_one_of
from rl_verifiers.schema import (
    CPU_SECONDS,
    SchemaProblemError,
    compile_schema,
    is_cheap,
    schema_text,
    violations,
)
from rl_verifiers.score import Row, Score, Status
from rl_verifiers.shown import shown
from rl_verifiers.workers import WorkerError, failure_score, inside_worker, shared_pool

_ANSWER_CHARACTERS = 4_000
_WORD = re.compile(r"[^\W_]")
_OPENED = re.compile(r"(?<![\w.])([A-Za-z_][\w.]{0,200})\(")
_BFCL_TYPES = {"dict": "object", "float": "number", "tuple": "array", "String": "string"}

Order = Literal["any", "exact"]
Strings = Literal["exact", "normalized"]
Reward = Literal["all", "fraction"]
Tools = Mapping[str, Mapping[str, Any]]
"""The JSON Schema of each tool's arguments, by the tool's name."""
Problems = tuple[Status, str] | None


class _Read(NamedTuple):
    """What a completion and its row say, before the arguments are checked against the tools."""

    calls: list[Call]
    wanted: list[WantedCall]
    tools: Tools


@dataclass(frozen=True)
class ToolCalls:
    """See :func:`tool_call`."""

    comparison: Comparison
    order: Order
    extra: bool
    reward: Reward
    check_tools: bool
    bounded = True
    reads = ("answer", "tools")

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks while a worker validates arguments."""
        read = self._read(completion, row)
        if isinstance(read, Score):
            return read
        try:
            submitted = self._problems(read)
            problems = submitted.result() if isinstance(submitted, Future) else submitted
        except WorkerError as error:
            return failure_score(error)
        return self._judged(read, problems)

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion; other tasks run while a worker validates arguments."""
        read = self._read(completion, row)
        if isinstance(read, Score):
            return read
        try:
            submitted = self._problems(read)
            if isinstance(submitted, Future):
                submitted = await asyncio.wrap_future(submitted)
        except WorkerError as error:
            return failure_score(error)
        return self._judged(read, submitted)

    def _read(self, completion: str, row: Row) -> _Read | Score:
        try:
            wanted = wanted_calls(row.get("answer"), alternatives=self.comparison.alternatives)
            tools = _tools(row.get("tools"))
            if self.check_tools and not tools:
                raise ValueError("no tools to check the arguments against")
        except ValueError as error:
            return Score.wrong(str(error), status="bad_reference")
        except RecursionError:
            return Score.wrong("tools: nested too deeply", status="bad_reference")
        try:
            calls = [_completed(call, tools) for call in calls_in(completion)]
        except CallSyntaxError as error:
            return Score.wrong(str(error), status="unparsable")
        except CallLimitError as error:
            return Score.wrong(str(error), status="over_limit")
        if not calls and (refused := _no_call(completion, wanted, tools)):
            return refused
        return _Read(calls, wanted, tools)

    def _problems(self, read: _Read) -> Problems | Future[Problems]:
        if not self.check_tools:
            return None
        pairs = [(call, read.tools.get(call.name)) for call in read.calls]
        for call, schema in pairs:
            if schema is None:
                close = difflib.get_close_matches(call.name, read.tools, 1)
                meant = f" (closest: {close[0]})" if close else ""
                return "wrong", f"there is no tool {call.name!r:.80}{meant}"
        try:
            texts = [(call.name, call.arguments, schema_text(schema)) for call, schema in pairs]
            if inside_worker() or all(is_cheap(compile_schema(t), a) for _, a, t in texts):
                return invalid_argument(texts)
        except SchemaProblemError as error:
            return "bad_reference", f"tools: {error}"
        return shared_pool().submit(invalid_argument, texts, cpu_s=CPU_SECONDS, wall_s=60.0)

    def _judged(self, read: _Read, problems: Problems) -> Score:
        if problems is not None:
            return Score.wrong(problems[1], status=problems[0], answer=_answer(read))
        try:
            return self._matched(read)
        except CallLimitError as error:
            return Score.wrong(str(error), status="over_limit", answer=_answer(read))

    def _matched(self, read: _Read) -> Score:
        kept = _answer(read)
        defaults = {name: _defaults(schema) for name, schema in read.tools.items()}
        count, reason = matched(
            read.calls, read.wanted, self.comparison, defaults, in_order=self.order == "exact"
        )
        few = len(read.wanted) if self.extra else max(len(read.wanted), len(read.calls))
        share = count / few if few else 1.0
        parts = {"calls": share}
        if share == 1.0:
            return Score(1.0, True, "correct", reason, parts, answer=kept)
        value = share if self.reward == "fraction" else 0.0
        return Score(value, False, "wrong", reason, parts, answer=kept)


def _answer(read: _Read) -> str | None:
    answer = json.dumps([[call.name, call.arguments] for call in read.calls], sort_keys=True)
    return answer if len(answer) <= _ANSWER_CHARACTERS else None


def tool_call(
    *,
    order: Order = "any",
    extra: bool = False,
    strings: Strings = "exact",
    alternatives: bool = False,
    check_tools: bool = False,
    reward: Reward = "all",
) -> ToolCalls:
    """The completion's tool calls are those in ``row["answer"]``: names, arguments, how many.

    Read are an OpenAI message's JSON, ``<tool_call>`` tags (Hermes, Qwen), ``<function=...>``,
    ``[TOOL_CALLS]``, ``<|python_tag|>``, bare JSON and Python calls; see
    :func:`rl_verifiers.call_syntax.calls_in`. The answer is a list of ``{"name", "arguments"}`` or
    of the leaderboard's ``{"name": {"argument": [allowed, ...]}}``, in which ``""`` among the
    allowed values makes an argument optional; an empty list wants no call.
    No key may occur twice. Numbers compare by value, ``5`` and ``5.0`` are the same, ``"5"`` and
    ``true`` are others. An argument that has the default of its tool counts as left out.

    Args:
        order: Whether the calls may come in any order.
        extra: Whether calls beyond those wanted are allowed.
        strings: How text compares: ``exact``, or ``normalized`` without case, spaces and
            ``,./-_*^`` as the leaderboard does.
        alternatives: Every argument of ``{"name", "arguments"}`` is a list of allowed values, too.
        check_tools: Names and arguments must also be those of ``row["tools"]`` (OpenAI's form or
            bare ``{"name", "parameters"}``), by JSON Schema; arguments the schema does not name
            are refused.
        reward: ``all`` pays for the whole list, ``fraction`` for the share of matching calls.

    Raises:
        VerifierError: An unknown order, strings or reward, or jsonschema not installed.
    """
    given = {"order": (order, Order), "strings": (strings, Strings), "reward": (reward, Reward)}
    for name, (value, kind) in given.items():
        check_one_of("tool_call", name, value, get_args(kind))
    check_flags("tool_call", extra=extra, alternatives=alternatives, check_tools=check_tools)
    comparison = Comparison(strings == "normalized", alternatives)
    return ToolCalls(comparison, order, extra, reward, check_tools)


def invalid_argument(calls: Sequence[tuple[str, Any, str]]) -> Problems:
    """The first call whose arguments break their schema: a status and a reason, else None.

    Args:
        calls: The name, the arguments and the schema's JSON text of each.
    """
    for name, arguments, schema in calls:
        try:
            found = violations(arguments, compile_schema(schema), most=1)
        except SchemaProblemError as error:
            return "bad_reference", f"tools: {error}"
        except DocumentError as error:
            return error.status, str(error)
        if found:
            return "wrong", f"{name}: {found[0]}"
    return None


def _no_call(completion: str, wanted: Sequence[WantedCall], tools: Tools) -> Score | None:
    """What is wrong with a text without calls: one is wanted, no word is said, or one is tried."""
    text = extract.without_thinking(completion) or ""
    if wanted or not _WORD.search(text):
        return Score.wrong("no tool call" if wanted else "no text", status="no_answer")
    tried = next((match[1] for match in _OPENED.finditer(text) if match[1] in tools), None)
    return Score.wrong(f"a call of {shown(tried)} inside the text") if tried else None


def _tools(stated: Any) -> Tools:
    """The tools of a row; empty where it has none.

    Raises:
        ValueError: They are of no form that we know.
    """
    if isinstance(stated, str):
        stated = json.loads(stated)
    if stated is None:
        return {}
    tools: dict[str, Mapping[str, Any]] = {}
    for item in stated if isinstance(stated, list | tuple) else [stated]:
        tool = item.get("function", item) if isinstance(item, Mapping) else {}
        name = tool.get("name") if isinstance(tool, Mapping) else None
        parameters = tool.get("parameters", tool.get("input_schema")) if name else None
        if not isinstance(name, str) or not isinstance(parameters, Mapping | None):
            raise ValueError(f"tools: not a tool: {shown(item)}")
        schema = _standard(parameters or {})
        tools[name] = {"type": "object", "additionalProperties": False, **schema}
    return tools


def _standard(schema: Any) -> Any:
    """A schema with the leaderboard's names of types replaced by those of JSON Schema."""
    if isinstance(schema, list | tuple):
        return [_standard(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept = {key: _standard(value) for key, value in schema.items()}
    kind = kept.get("type")
    if isinstance(kind, str):
        kept["type"] = _BFCL_TYPES.get(kind, kind)
        if kind == "any":
            del kept["type"]
    return kept


def _properties(schema: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    properties = schema.get("properties") if schema else None
    if not isinstance(properties, Mapping):
        return {}
    return {name: part for name, part in properties.items() if isinstance(part, Mapping)}


def _defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    found = _properties(schema).items()
    return {name: part["default"] for name, part in found if "default" in part}


def _completed(call: Call, tools: Tools) -> Call:
    """The call with positional arguments named and untyped text typed, as its tool says.

    Raises:
        CallSyntaxError: An argument has a place only, and the tools do not tell its name.
    """
    properties = _properties(tools.get(call.name))
    names = [name for name in properties if name not in call.arguments]
    if len(call.positional) > len(names):
        raise CallSyntaxError(f"{call.name!r:.60}: an argument without a name")
    arguments = {**dict(zip(names, call.positional, strict=False)), **call.arguments}
    for name, value in arguments.items():
        if isinstance(value, RawText) and name in properties:
            is_text = properties[name].get("type") == "string"
            arguments[name] = str(value) if is_text else value.read()
    return Call(call.name, arguments)
